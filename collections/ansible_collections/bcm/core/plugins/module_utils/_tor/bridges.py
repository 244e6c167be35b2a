# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validation of bridge lines (tor(1), option Bridge)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from itertools import islice
from urllib.parse import urlsplit

TRANSPORTS = ("obfs4", "snowflake")

_LINE = re.compile(r"[!-~]+( [!-~]+)*")
_ADDRESS = re.compile(r"(?P<host>\[[^]]*\]|[^:]*):(?P<port>[0-9]{1,5})")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
#: node id and public key, 52 bytes
_CERT = re.compile(r"[A-Za-z0-9+/]{70}")


def faults(lines: Sequence[str], hosts: Mapping[str, str]) -> list[str]:
    """Return the faults of bridge lines, and of ``hosts`` (name -> IPv4 address), which replace DNS, as sentences.

    A line is named by its number: an address that is read in a log could be used to block the bridge.
    """
    found = [f"tor_hosts: {fault}" for name, address in hosts.items() for fault in _host(name, address)]
    for number, line in enumerate(lines, 1):
        found += [f"line {number} of tor_bridges: {fault}" for fault in islice(_line(line, hosts), 1)]
    return found


def _host(name: str, address: str) -> Iterator[str]:
    if not _NAME.fullmatch(str(name)):
        yield f'"{name}" is not a name of a host, in lower-case letters'
    if not _is_address(str(address)):
        yield f'"{address}" is no IPv4 address'


def _line(line: str, hosts: Mapping[str, str]) -> Iterator[str]:
    """Return the first fault of a line."""
    if not _LINE.fullmatch(line) or "#" in line or '"' in line:
        yield "words with one space between them are needed, without quotes and comments"
    transport, *words = line.split(" ")
    if ":" in transport:
        transport, words = "", [transport, *words]
    elif transport not in TRANSPORTS:
        yield f'the transport "{transport}" is none of {", ".join(TRANSPORTS)}'
    where = _ADDRESS.fullmatch(words[0]) if words else None
    if where is None or not 0 < int(where["port"]) < 65536:
        yield "ADDRESS:PORT is missing"
    elif where["host"].startswith("["):
        yield "its address is of IPv6, which does not leave a data center"
    elif not _is_address(where["host"]):
        yield "its address is no IPv4 address"
    rest = words[1:]
    if rest and "=" not in rest[0] and not _FINGERPRINT.fullmatch(rest.pop(0)):
        yield "its fingerprint has not 40 hex digits"
    if not all("=" in word for word in rest):
        yield "only KEY=VALUE may follow address and fingerprint"
    given = {key: value for key, _equals, value in (word.partition("=") for word in rest)}
    if not transport and given:
        yield "a bridge without a transport takes no KEY=VALUE"
    sound = _CERT.fullmatch(given.get("cert", "")) and given.get("iat-mode") in ("0", "1", "2")
    if transport == "obfs4" and not sound:
        yield "obfs4 needs cert= with 70 characters, and iat-mode= with 0, 1 or 2"
    if transport == "snowflake":
        yield from _snowflake(given, hosts)


def _snowflake(given: Mapping[str, str], hosts: Mapping[str, str]) -> Iterator[str]:
    if "url" not in given or "ice" not in given:
        yield "snowflake needs url= of a broker and ice= with STUN servers"
        return
    if "fronts" in given:
        # Debian's version ignores it, and would contact the broker openly
        yield "Debian's snowflake knows no fronts=; write front= with one of them"
    asked = [given.get("front") or urlsplit(given.get("ampcache") or given["url"]).hostname or ""]
    for server in given["ice"].split(","):
        match = re.fullmatch(r"stun:([^:]+)(:[0-9]{1,5})?", server)
        if match is None:
            yield f'"{server}" of ice= is not stun:HOST:PORT'
        else:
            asked.append(match[1])
    missing = [name for name in dict.fromkeys(asked) if name not in hosts and not _is_address(name)]
    if missing:
        yield f"tor_hosts has no address of {', '.join(missing)}, and names are not looked up"


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True
