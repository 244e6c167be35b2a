# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a tor says of itself, and whether its onion services answer from outside; runs where tor runs.

A connection to an onion service goes through the network also if the tor that asks is the one that serves, so that
what is seen here is what others see. Needs nothing but Python's standard library.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import tor_control

CONNECT = 60.0  # seconds for a connection to an onion service, its descriptor fetched
# answers of tor's SOCKS port (RFC 1928, section 6; those from 0xF0 on with ExtendedErrors, socks-extensions.txt)
_CONNECTED, _NO_KEY = 0x00, 0xF4
_ANSWERS = {
    0x01: "what is behind it does not answer, or tor cannot connect",
    0x04: "it cannot be reached",
    0x05: "what is behind it does not answer",
    0x06: "it did not answer in time",
    0xF0: "no directory has its descriptor",
    0xF1: "its descriptor is damaged",
    0xF2: "its introduction points do not answer",
    0xF3: "it does not answer at the rendezvous",
    0xF5: "it does not know the key",
    0xF6: "it is not an address of an onion service",
    0xF7: "it did not answer in time",
}


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request of `observe_tor`, which is on the controller."""
    try:
        with tor_control.connected(request["control"]) as session:
            found = _facts(session)
            # those of the included lines are not among them, but what ADD_ONION made and its maker has left behind
            added = session.getinfo("onions/detached")["onions/detached"].split()
            found["services"] = list(_each(session, request, network=found["network"]))
    except (tor_control.ControlError, TimeoutError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"tor broke off: {error.strerror or error}"}
    faults = [f"it has the onion service {name}.onion, which a program added: restart tor to end it" for name in added]
    if found["network"] and "PROGRESS=100" not in found["phase"]:
        faults.append(f"it has not reached its network, it is at {found['bootstrap']}")
    return {**found, "faults": faults, "socks": request["socks"][1]}


def _facts(session: tor_control.Control) -> dict[str, Any]:
    keys = ("version", "status/bootstrap-phase", "traffic/read", "traffic/written", "circuit-status", "entry-guards")
    values = session.getinfo(*keys)
    phase = values["status/bootstrap-phase"]
    fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', phase))
    guards = [line.split()[0].lstrip("$").partition("~")[0] for line in values["entry-guards"].splitlines()
              if " up" in line]  # fmt: skip
    return {
        "version": values["version"],
        "network": session.getconf("DisableNetwork") == ["0"],
        "phase": phase,
        "bootstrap": f"{fields.get('PROGRESS', 0)} % ({tor_control.unquoted(fields.get('SUMMARY', 'unknown'))})",
        "read": tor_control.number(values["traffic/read"]),
        "written": tor_control.number(values["traffic/written"]),
        "circuits": sum(" BUILT " in line for line in values["circuit-status"].splitlines()),
        "guards": [place for guard in guards if (place := _place(session, guard))],
    }


def _place(session: tor_control.Control, fingerprint: str) -> str | None:
    """Address and port of a relay (dir-spec, section 3.4.1: the line that begins with r)."""
    try:
        status = session.getinfo(f"ns/id/{fingerprint}")[f"ns/id/{fingerprint}"]
    except tor_control.ControlError:  # a bridge is not in the consensus
        return None
    fields = status.partition("\n")[0].split()
    return f"{fields[6]}:{fields[7]}" if len(fields) > 7 else None


# -- onion services ---------------------------------------------------------------------------------------------------


def _each(session: tor_control.Control, request: Mapping[str, Any], *, network: bool) -> Iterator[dict[str, Any]]:
    """Yield the state of each service, for people, and its fault, if any."""
    services = request["services"]
    without = _tried(request, services) if network else {}
    keyed = [item for item in services if item["key"] and without.get(item["service"]) == _NO_KEY]
    with _keys(session, keyed):
        given = _tried(request, keyed)
    for item in services:
        name = item["service"]
        state, fault = _state(item, without.get(name), given.get(name))
        yield {**{key: item[key] for key in ("service", "address", "authorization")}, "state": state, "fault": fault}


def _state(item: Mapping[str, Any], without: int | None, given: int | None) -> tuple[str, str | None]:
    if without is None:
        return "not published: tor does not use the network", None
    if not item["authorization"]:
        if without == _CONNECTED:
            return "answers all clients", None
        return "does not answer", f"does not answer: {_described(without)}"
    if without == _CONNECTED:
        return "OPEN to all clients", "answers without a key"
    if without != _NO_KEY:
        return "does not answer", f"does not refuse those without a key, as it should: {_described(without)}"
    if item["key"] is None:
        return "refuses without a key; no client has one", None
    if given == _CONNECTED:
        return "refuses without a key, answers with one", None
    return "refuses without a key", f"does not answer to a client with a key: {_described(given)}"


def _described(code: int | None) -> str:
    return _ANSWERS.get(code or 0, f"tor says {code}")


@contextlib.contextmanager
def _keys(session: tor_control.Control, items: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Have tor know keys of clients, and forget them (control-spec, sections 3.30 and 3.31)."""
    known = []
    try:
        for item in items:
            bare = item["address"].removesuffix(".onion")
            session.command(f"ONION_CLIENT_AUTH_ADD {bare} {item['key']}")
            known.append(bare)
        yield
    finally:
        for bare in known:
            session.command(f"ONION_CLIENT_AUTH_REMOVE {bare}")


def _tried(request: Mapping[str, Any], services: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    """Return the answers of the SOCKS port for all services, tried at once."""
    found: dict[str, int | None] = {}

    def work(item: Mapping[str, Any]) -> None:
        found[item["service"]] = _connect(tuple(request["socks"]), item["address"], item["port"])

    threads = [threading.Thread(target=work, args=(item,)) for item in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _connect(socks: tuple[str, int], address: str, port: int) -> int:
    """The answer to a request to connect (RFC 1928, sections 3 to 6)."""
    try:
        with socket.create_connection(socks, CONNECT) as connection:
            connection.sendall(b"\x05\x01\x00")
            if connection.recv(2) != b"\x05\x00":
                return 0x01
            name = address.encode()
            connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack("!H", port))
            return (connection.recv(10) + b"\0\1")[1]
    except TimeoutError:
        return 0x06
    except OSError:
        return 0x01


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
