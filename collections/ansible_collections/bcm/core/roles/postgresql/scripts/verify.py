# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that PostgreSQL keeps what is committed, and lets each stack into its own database only, by TLS only."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bcm_guest.postgresql import CONSUMERS, PROBE, ask, ask_as, literal
from bcm_guest.prove import TRUST, Fault, Lasting, Report, Stack, prove
from bcm_guest.volume_files import list_files

#: options, and what they have to be so that what is committed is kept, and nobody copies it
SETTINGS = {
    "data_checksums": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "ssl": "on",
    "password_encryption": "scram-sha-256",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_replication_slots": "0",
}
#: the share of a volume below which a run warns
_ROOM = 0.1


def check_settings() -> None:
    """Check the options. Raises Lasting."""
    found = {row[0]: row[1] for row in ask("SELECT name, setting FROM pg_settings")}
    for name, value in SETTINGS.items():
        if found[name] != value:
            raise Lasting(f"its option {name} is {found[name]}, not {value}")


def check_roles() -> None:
    """Check that no role but that of the instance itself is more than a user. Raises Lasting."""
    rows = ask(
        "SELECT rolname FROM pg_roles WHERE oid >= 16384"
        " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"
    )
    if rows:
        raise Lasting(f"role {rows[0][0]} may do more than a user: `DROP ROLE`, or take that from it")


def check_access(stack: Stack) -> None:
    """Check who is let in: each role to its own database, from its own address. Raises Fault."""
    rows = ask(
        "SELECT type, array_to_string(database, ','), array_to_string(user_name, ','), coalesce(address, ''),"
        " auth_method, coalesce(error, '') FROM pg_hba_file_rules()"
    )
    allowed = {PROBE: stack.bcm["address"]}
    allowed |= {name: user["address"] for name, user in stack.bcm["consumers"].items() if "sql" in user["services"]}
    wanted = [["local", "all", "postgres", "", "peer", ""]]
    wanted += [["hostssl", name, name, address, "scram-sha-256", ""] for name, address in allowed.items()]
    if sorted(rows) != sorted(wanted):
        raise Fault(f"it lets in others than the plan says, or not all of these: {rows}")


def listening() -> set[str]:
    """The IPv4 addresses and ports at which this instance accepts connections, and all of IPv6."""
    found = set()
    for family, path in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        for line in Path(path).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state != "0A":
                continue
            digits, port = local.split(":")
            words = [bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8)]
            found.add(f"{socket.inet_ntop(family, b''.join(words))}:{int(port, 16)}")
    return found


def check_refused(what: str, attempt: Callable[[], object], reason: str) -> None:
    """Check that the server refuses a login, for that reason. Raises Lasting if it lets it in, Fault otherwise."""
    try:
        attempt()
    except Fault as fault:
        if reason not in str(fault):
            raise Fault(f"{what} is not refused as it should be, but so: {fault}") from fault
        return
    raise Lasting(f"it lets in {what}")


def check_login(stack: Stack) -> None:
    """Log in as a consumer does, write and read, and see that nothing else is let in. Raises Fault."""
    place = stack.service("sql")
    own = {"host": place.address, "port": str(place.port), "user": PROBE, "dbname": PROBE}
    tls = {"sslmode": "verify-full", "sslrootcert": TRUST}
    password = stack.secrets["postgresql/probe"]
    mark = os.urandom(8).hex()
    ask_as(
        {**own, **tls},
        "BEGIN; CREATE TABLE IF NOT EXISTS proof (mark text); DELETE FROM proof;"
        f"INSERT INTO proof VALUES ({literal(mark)}); COMMIT;",
        password,
    )
    rows = ask_as(
        {**own, **tls}, "SELECT mark FROM proof; SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();", password
    )
    if rows != [[mark], ["t"]]:
        raise Lasting(f"a row that was committed is not what is read: {rows}")
    no_entry = "no pg_hba.conf entry"
    check_refused("a client without TLS", lambda: ask_as({**own, "sslmode": "disable"}, "", password), no_entry)
    other = {**own, **tls, "dbname": "postgres"}
    check_refused("a role to another database than its own", lambda: ask_as(other, "", password), no_entry)
    superuser = {**own, **tls, "user": "postgres", "dbname": "postgres"}
    check_refused("the superuser from the network", lambda: ask_as(superuser, "", password), no_entry)
    wrong = "password authentication failed"
    check_refused("a wrong password", lambda: ask_as({**own, **tls}, "", f"{password}x"), wrong)


def warnings(stack: Stack, unused: list[str]) -> list[str]:
    """What somebody should do something about."""
    found = [
        f'no stack uses the database {name} any more: its role is locked; drop it with -e \'{{"postgresql_drop": '
        f'["{name}"]}}\', or keep it'
        for name in unused
    ]
    for name, volume in stack.bcm["volumes"].items():
        state = os.statvfs(volume["path"])
        if state.f_bavail < state.f_blocks * _ROOM:
            found.append(
                f"{volume['path']} is nearly full: a database that cannot write stops; raise postgresql_{name}_size"
            )
    return found


def dumped(folder: Path) -> list[dict[str, str]]:
    """The newest dump, as the portal shows it; none if there is none. Raises OSError."""
    dumps = list_files(folder, "Z")
    if not dumps:
        return []
    made = datetime.strptime(dumps[-1].name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return [{"of": "All databases", "at": "on the second volume of postgresql", "made": made.isoformat()}]


def look(stack: Stack) -> Report:
    check_settings()
    check_roles()
    check_access(stack)
    there, wanted = listening(), f"{stack.bcm['address']}:{stack.bcm['services']['sql']['port']}"
    if wrong := sorted(place for place in there if place.endswith(wanted.rpartition(":")[2]) and place != wanted):
        raise Lasting(f"it listens at {', '.join(wrong)}, not only at {wanted}")
    check_login(stack)
    (row,) = ask("SELECT current_setting('server_version')")
    databases = {
        name: (int(size), locked == "t")
        for name, size, locked in ask(
            "SELECT d.datname, pg_database_size(d.oid), NOT r.rolcanlogin FROM pg_database d JOIN pg_roles r ON"
            f" r.oid = d.datdba WHERE pg_has_role(r.oid, {literal(CONSUMERS)}, 'MEMBER') AND NOT r.rolsuper"
        )
    }
    notes = [f"{name}: {size // 1024**2} MiB" for name, (size, _locked) in sorted(databases.items())]
    facts = {
        "version": row[0].split()[0],
        "databases": {name: size for name, (size, _locked) in sorted(databases.items())},
        "backups": dumped(Path(stack.bcm["volumes"]["dumps"]["path"])),
    }
    unused = [name for name, (_size, locked) in sorted(databases.items()) if locked]
    return Report(facts, notes or ["no stack has a database"], warnings(stack, unused))


prove(look)
