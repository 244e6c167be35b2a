# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a role with a password and a database for each consumer, and lock the roles of those that use it no more.

The server keeps only what proves a password, so each password is in a file of the volume that nobody else can read.
Databases are never dropped here unless the inventory names them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bcm_guest.postgresql import CONSUMERS, PASSWORDS, PROBE, ask, literal, password_proof, proves, quoted
from bcm_guest.prove import Consumer, Credentials, Fault, Lasting, Stack, make_credentials
from bcm_guest.volume_files import make_directory, read_file, remove_file, write_file

SERVICE = "sql"
#: connections of a consumer that does not say how many it needs
CONNECTIONS = 30
#: those of the server itself, for the superuser and for verify
_OWN_CONNECTIONS = 5
#: names with a meaning of their own
_RESERVED = ("none", "postgres", "public", "template0", "template1")
_ACCESS = PASSWORDS.parent / "pg_hba.conf"


@dataclass(frozen=True)
class Role:
    """A role that can log in, with a database of its own."""

    name: str
    password: str
    connections: int
    is_consumer: bool = True


@dataclass(frozen=True)
class Found:
    """What the server has of a role: whether it can log in, its connections, and what proves its password."""

    can_log_in: bool
    connections: int
    proof: str
    is_consumer: bool


def connections_of(consumer: str, needed: Mapping[str, object]) -> int:
    """How many connections a consumer asks for. Raises Lasting."""
    if consumer in _RESERVED:
        raise Lasting(f"stack {consumer} uses it, but a role of that name would be another one: rename the stack")
    if unknown := sorted(set(needed) - {"connections"}):
        raise Lasting(f"stack {consumer} asks for {', '.join(unknown)}: it may say how many connections it needs")
    count = needed.get("connections", CONNECTIONS)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Lasting(f"stack {consumer} asks for {count!r} connections: it has to be a number, and at least 1")
    return count


def access(address: str, roles: Mapping[str, str]) -> str:
    """pg_hba.conf: each role from its own address to its own database, by TLS; ``roles`` has the addresses."""
    lines = ["local all postgres peer map=superuser"]
    for name, own in {PROBE: address, **roles}.items():
        lines.append(f"hostssl {quoted(name)} {quoted(name)} {own}/32 scram-sha-256")
    return "".join(f"{line}\n" for line in lines)


def read_password(name: str) -> str:
    """The password of a consumer; empty if it has none. Raises OSError."""
    try:
        return read_file(PASSWORDS / name).decode()
    except FileNotFoundError:
        return ""


def read_roles() -> dict[str, Found]:
    """What the server has of each role but its own ones. Raises Fault."""
    rows = ask(
        "SELECT r.rolname, r.rolcanlogin, r.rolconnlimit, coalesce(r.rolpassword, ''), EXISTS (SELECT FROM"
        " pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = "
        f"{literal(CONSUMERS)}) FROM pg_authid r WHERE r.oid >= 16384"
    )
    return {row[0]: Found(row[1] == "t", int(row[2]), row[3], row[4] == "t") for row in rows}


def missing(role: Role, found: Found | None) -> str:
    """SQL that makes a role what it has to be; empty if it is."""
    fits = found is not None and found.can_log_in and found.connections == role.connections
    if fits and found is not None and proves(found.proof, role.password):
        return ""
    verb = "CREATE" if found is None else "ALTER"
    made = (
        f"{verb} ROLE {quoted(role.name)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        f" CONNECTION LIMIT {role.connections} PASSWORD {literal(password_proof(role.password))};"
    )
    if found is None and role.is_consumer:
        made += f"\nGRANT {CONSUMERS} TO {quoted(role.name)} WITH INHERIT FALSE, SET FALSE;"
    return made


def lock(name: str) -> Iterator[str]:
    """SQL that locks a role at once."""
    yield f"ALTER ROLE {quoted(name)} NOLOGIN PASSWORD NULL;"
    yield f"SELECT FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {literal(name)});"


class Server:
    """What the server has, and what was changed, or would be."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.changed = False
        self.roles = read_roles()
        self.databases = {row[0] for row in ask("SELECT datname FROM pg_database")}

    def run(self, *statements: str) -> None:
        """Run SQL that changes something, unless that is only looked at; databases cannot be made in a transaction."""
        self.changed = True
        if not self.check:
            for statement in statements:
                ask(statement)

    def allow(self, content: str) -> None:
        """Have the server let in whom the file says. Raises Fault if it does not understand the file."""
        try:
            there = read_file(_ACCESS).decode(errors="replace")
        except FileNotFoundError:
            there = ""
        if there != content:
            self.changed = True
            if not self.check:
                # The server reads it as its own user.
                write_file(_ACCESS, content.encode(), 0o644)
        if self.check:
            return
        if there != content or ask("SELECT FROM pg_hba_file_rules() WHERE error IS NOT NULL LIMIT 1"):
            ask("SELECT pg_reload_conf()")
            if wrong := ask("SELECT error FROM pg_hba_file_rules() WHERE error IS NOT NULL"):
                raise Fault(f"PostgreSQL does not understand {_ACCESS}: {wrong[0][0]}")

    def provide(self, role: Role) -> None:
        """Make a role, and its database, what they have to be."""
        if statement := missing(role, self.roles.get(role.name)):
            self.run(f"BEGIN;\n{statement}\nCOMMIT;")
        name = quoted(role.name)
        if role.name not in self.databases:
            # Until the second statement has run, pg_hba.conf lets nobody else in.
            self.run(f"CREATE DATABASE {name} OWNER {name};", f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;")

    def take_back(self, used: Mapping[str, str], dropped: list[str]) -> None:
        """Lock the roles of consumers that use it no more, and drop what the inventory says. Raises Lasting."""
        if wrong := sorted(set(dropped) & set(used)):
            raise Lasting(f"postgresql_drop names {', '.join(wrong)}, which use their databases: leave them out")
        for name, found in sorted(self.roles.items()):
            if not found.is_consumer or name in used:
                continue
            if found.can_log_in or found.proof:
                self.run(*lock(name))
            if not self.check:
                remove_file(PASSWORDS / name)
            if name in dropped:
                self.run(*(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE);", f"DROP ROLE {quoted(name)};"))


def make(stack: Stack, consumers: Mapping[str, Consumer], check: bool) -> Credentials:
    using = {name: consumer for name, consumer in consumers.items() if SERVICE in consumer.services}
    wanted = {name: connections_of(name, consumer.permissions) for name, consumer in using.items()}
    most = int(stack.expected["connections"]) - _OWN_CONNECTIONS
    if sum(wanted.values()) > most:
        raise Lasting(
            f"its consumers ask for {sum(wanted.values())} connections ({', '.join(wanted)}), and it has {most} for "
            "them: raise postgresql_max_connections"
        )
    addresses = {name: str(stack.bcm["consumers"][name]["address"]) for name in wanted}
    server = Server(check)
    if CONSUMERS not in server.roles:
        server.run(f"CREATE ROLE {CONSUMERS} NOLOGIN;")
    server.provide(Role(PROBE, stack.secrets["postgresql/probe"], 2, is_consumer=False))
    credentials: dict[str, dict[str, str | None]] = {}
    for name, count in wanted.items():
        password = read_password(name)
        if not password:
            server.changed = True
            if check:
                continue
            password = secrets.token_urlsafe(32)
            make_directory(PASSWORDS)
            # First the file: a password that only the server knew would be lost.
            write_file(PASSWORDS / name, password.encode())
        server.provide(Role(name, password, count))
        credentials[name] = {SERVICE: password}
    server.allow(access(str(stack.bcm["address"]), addresses))
    server.take_back(addresses, list(stack.expected["drop"]))
    return Credentials(credentials, server.changed)


make_credentials(make)
