# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Onion services as they are wanted: what is checked of them, and the files and lines of torrc that tor is given."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._base.errors import BcmError
from .._base.read import read_number
from .onion_keys import ClientKey, OnionKey, new_client, parse_client, parse_key

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAMING = "use at most 63 lower-case letters, digits, hyphens and underscores, a letter or digit first"
_PATH = re.compile(r"/[A-Za-z0-9._/@+-]+")
#: a client without a person; without it, a service that has no other client would be open to everybody
_NOBODY = "nobody"


@dataclass(frozen=True)
class Layout:
    """Where tor's files are. ``include`` has the lines of torrc, ``published`` what was seen to be published."""

    root: str = "/var/lib/tor/onions"
    include: str = "/etc/tor/onions.d/services.conf"
    published: str = "/etc/tor/onions.d/published.json"
    torrc: str = "/etc/tor/torrc"
    control: str = "/run/tor/control"
    owner: str = "debian-tor"

    def directory(self, name: str) -> str:
        return f"{self.root}/{name}"

    def clients(self, name: str) -> str:
        return f"{self.root}/{name}/authorized_clients"


LAYOUT = Layout()


@dataclass(frozen=True)
class Service:
    """An onion service. ``ports``: for each port where its connections go, at random if to several targets.

    One that is ``parked`` has its key kept, and tor does not have it.
    """

    name: str
    key: OnionKey
    ports: Mapping[int, tuple[str, ...]]
    authorization: bool = True
    pow: bool = False
    intro_defense: bool = False
    max_streams: int = 0
    parked: bool = False
    clients: Mapping[str, ClientKey] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of what is in the descriptor: the key, whom it is encrypted to, and whether it asks for proof of work."""
        parts = [self.key.public, bytes([self.pow]), *sorted(key.public for key in self._admitted().values())]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def _admitted(self) -> dict[str, ClientKey]:
        if not self.authorization:
            return {}
        nobody = new_client(hashlib.sha3_256(b"nobody" + self.key.secret).digest())
        return {**self.clients, _NOBODY: nobody}

    def lines(self, layout: Layout = LAYOUT) -> list[str]:
        """Lines of torrc."""
        result = [f"HiddenServiceDir {layout.directory(self.name)}"]
        for port, targets in sorted(self.ports.items()):
            result += [f"HiddenServicePort {port} {target}" for target in targets]
        if self.pow:
            result.append("HiddenServicePoWDefensesEnabled 1")
        if self.intro_defense:
            result.append("HiddenServiceEnableIntroDoSDefense 1")
        if self.max_streams:
            result += [f"HiddenServiceMaxStreams {self.max_streams}", "HiddenServiceMaxStreamsCloseCircuit 1"]
        return result

    def files(self, layout: Layout = LAYOUT) -> list[dict[str, Any]]:
        """Its HiddenServiceDir, as items of ``apply_files``."""
        owner = {"owner": layout.owner, "group": layout.owner}
        directory: dict[str, Any] = {"state": "directory", "mode": 0o700, **owner}
        private: dict[str, Any] = {"state": "file", "mode": 0o600, "sensitive": True, **owner}
        path = layout.directory(self.name)
        return [
            {"path": path, **directory},
            {"path": f"{path}/hs_ed25519_secret_key", "content": self.key.secret_file, **private},
            {"path": f"{path}/hs_ed25519_public_key", "content": self.key.public_file, **private},
            {"path": layout.clients(self.name), **directory},
            *(
                {"path": f"{layout.clients(self.name)}/{name}.auth", "content": key.service_line.encode(), **private}
                for name, key in sorted(self._admitted().items())
            ),
        ]

    def summary(self) -> str:
        """One line for people, without a secret."""
        ports = ", ".join(f"{port} to {' or '.join(targets)}" for port, targets in sorted(self.ports.items()))
        who = f"for {', '.join(sorted(self.clients)) or 'no client yet'}" if self.authorization else "public"
        extra = ["proof of work"] if self.pow else []
        extra += ["introduction defense"] if self.intro_defense else []
        extra += [f"{self.max_streams} streams"] if self.max_streams else []
        extra += ["parked"] if self.parked else []
        return "; ".join([f"{self.name}: port {ports}", who, *extra])

    def record(self) -> dict[str, Any]:
        """As `recalled` reads it; has the secrets."""
        return {
            "key": self.key.text,
            "ports": {str(port): list(targets) for port, targets in self.ports.items()},
            "authorization": self.authorization,
            "pow": self.pow,
            "intro_defense": self.intro_defense,
            "max_streams": self.max_streams,
            "parked": self.parked,
            "clients": {name: key.text for name, key in self.clients.items()},
        }


#: by name
Services = dict[str, Service]


def parse_record(name: str, record: Mapping[str, Any]) -> Service:
    """A service as it was recorded. Raises BcmError."""
    try:
        return Service(
            name=name,
            key=parse_key(record["key"], f"onion service {name}"),
            ports=parse_ports(
                name,
                [{"port": read_number(port), "targets": targets} for port, targets in record["ports"].items()],
            ),
            authorization=_flag(record["authorization"]),
            pow=_flag(record["pow"]),
            intro_defense=_flag(record["intro_defense"]),
            max_streams=read_number(str(record["max_streams"]), 0, 65535),
            parked=_flag(record["parked"]),
            clients={
                client: parse_client(text, f"client {client} of onion service {name}")
                for client, text in record["clients"].items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BcmError(
            f"What is kept of onion service {name}",
            "is damaged",
            "put a copy of the file back",
            code="damaged",
            about=f"onion service {name}",
        ) from error


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def check_name(kind: str, name: str) -> None:
    """Raises BcmError for what no service or client can be called."""
    if not _NAME.fullmatch(name):
        raise BcmError(f'{kind} "{name}"', "cannot be called that", _NAMING, code="invalid_value")
    if kind == "Client" and name == _NOBODY:
        raise BcmError(f'Client "{name}"', "has a reserved name", "give it another name", code="invalid_value")


def check_once(kind: str, names: Iterable[str]) -> None:
    """Raises BcmError for a name that is there twice."""
    seen = set()
    for name in names:
        if name in seen:
            raise BcmError(f"{kind} {name}", "is there twice", "name each once", code="invalid_value")
        seen.add(name)


def parse_ports(name: str, ports: Iterable[Mapping[str, Any]]) -> dict[int, tuple[str, ...]]:
    """Items with ``port`` and ``targets``, checked. Raises BcmError."""
    result: dict[int, tuple[str, ...]] = {}
    for item in ports:
        port = item["port"]
        if not 1 <= port <= 65535:
            raise BcmError(f"Onion service {name}:", f"there is no port {port}, only 1 to 65535", code="invalid_value")
        if port in result:
            raise BcmError(
                f"Onion service {name}:",
                f"port {port} is there twice",
                "list all its targets once",
                code="invalid_value",
            )
        targets = tuple(item["targets"])
        if not targets:
            raise BcmError(
                f"Onion service {name}:", f"port {port} leads nowhere", "give it a target", code="invalid_value"
            )
        for target in targets:
            _check_target(name, target)
        check_once(f"Onion service {name}: target", targets)
        result[port] = targets
    if not result:
        raise BcmError(f"Onion service {name}", "has no port", "give it one", code="invalid_value")
    return result


def check_keys(services: Iterable[Service]) -> None:
    """Raises BcmError if two services have one key: tor would publish only one of them, and which is undefined."""
    owners: dict[bytes, str] = {}
    for service in services:
        other = owners.setdefault(service.key.public, service.name)
        if other != service.name:
            raise BcmError(
                f"Onion services {other} and {service.name}",
                f"have the same key, that of {service.key.address}",
                "give each its own, or none, and one is made",
                code="conflict",
            )


def client_instructions(service: Service) -> dict[str, str]:
    """What a person does with a client key, by program."""
    address, bare = service.key.address, service.key.address.removesuffix(".onion")
    port = min(service.ports)
    return {
        "electrum": (
            f"Have a tor of your own with ClientOnionAuthDir in its torrc, put the line of the key into {bare}."
            "auth_private there, readable by tor alone, and reload it. Then: electrum --oneserver --server "
            f"{address}:{port}:t --proxy socks5:127.0.0.1:9050, with :s in place of :t if the port speaks TLS."
        ),
        "tor_browser": f"Open http://{address}:{port}/ and type the key when it asks for it.",
        "orbot": f"More, Onion services, client authentication: add {bare} and the key.",
    }


def include(services: Iterable[Service], layout: Layout = LAYOUT) -> str:
    """The file that torrc includes."""
    return "".join("".join(f"{line}\n" for line in service.lines(layout)) + "\n" for service in services)


def _check_target(name: str, target: str) -> None:
    path = target.removeprefix("unix:")
    if path != target:
        if _PATH.fullmatch(path):
            return
        raise BcmError(
            f"Onion service {name}:",
            f'"{target}" is no unix socket',
            "write unix:/path, without odd characters",
            code="invalid_value",
        )
    host, _colon, port = target.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        address = None
    if address is None or (address.version == 6) == (bare == host) or not _is_port(port):
        raise BcmError(
            f"Onion service {name}:",
            f'"{target}" is no target',
            "write address:port with an IP address, IPv6 in brackets, or unix:/path",
            code="invalid_value",
        )


def _is_port(text: str) -> bool:
    try:
        return read_number(text, 1, 65535) > 0
    except ValueError:
        return False
