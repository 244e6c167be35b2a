# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that lightningd is as high as bitcoind, announces its onion address alone, and keeps its replica current."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bcm_guest.clightning import Lightningd, addresses
from bcm_guest.grpc import call, is_refused
from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting, http_request, json_rpc, prove
from bcm_guest.volume_files import write_file

#: what is reported -> its name in lightningd's answer
FACTS = {"height": "blockheight", "public_key": "id", "peers": "num_peers"}
#: Seconds by which the replica may have been written before the database; it is written right after it.
LAG = 2.0


def check_replica(database: Path, replica: Path) -> None:
    """Check that the replica gets what the database gets. Opening it could keep lightningd from writing to it."""
    try:
        # This order: what is written in between makes the replica younger.
        written, copied = database.stat().st_mtime, replica.stat().st_mtime
    except OSError as error:
        raise Fault(f"{error.filename} cannot be read: {error.strerror}") from error
    if copied < written - LAG:
        raise Fault(f"its replica {replica} is {written - copied:.0f} s behind its database")


def note_version(database: Path, note: Path) -> None:
    """Note how many changes the database has had: a restore with fewer would lose channels. Raises Fault."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            (version,) = connection.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone()
    except sqlite3.Error as error:
        raise Fault(f"its database {database} cannot be read: {error}") from error
    note.parent.mkdir(parents=True, exist_ok=True)
    write_file(note, str(version).encode())


def check_proxy(lightningd: Lightningd, proxy: str) -> None:
    """Check that all its connections go through Tor. Raises Lasting."""
    names = ("proxy", "always-use-proxy")
    used = {name: lightningd.call("listconfigs", config=name)["configs"][name] for name in names}
    if not used["always-use-proxy"]["value_bool"] or used["proxy"]["value_str"] != proxy:
        raise Lasting(f"its connections do not all go through Tor: {json.dumps(used)}")


def check_rest(stack: Stack) -> None:
    """Check that REST answers with the data center's certificate, and lets nobody in without a rune. Raises Fault."""
    status, text = http_request(stack.service("rest"), "POST", "/v1/getinfo", "{}")
    if status not in (401, 403):
        raise Lasting(f"its REST service answers a client without a rune with status {status}: {text[:200]}")


def check_grpc(stack: Stack, key: str) -> None:
    """Check that gRPC is this node's, and lets nobody in without a certificate. Raises Fault."""
    place = Endpoint(stack.bcm["address"], int(stack.bcm["services"]["grpc"]["port"]), tls=True, mutual=True)
    answer = call(place, "/cln.Node/Getinfo")
    # Field 1 of GetinfoResponse is the key of the node, in 33 bytes.
    if not answer.startswith(b"\x0a\x21" + bytes.fromhex(key)):
        raise Lasting(f"its gRPC service does not answer as the node {key}: {answer[:40].hex()}")
    if not is_refused(replace(place, mutual=False), "/cln.Node/Getinfo"):
        raise Lasting("its gRPC service answers a client without a certificate")


def check_websocket(stack: Stack) -> None:
    """Check that a handshake of WebSocket (RFC 6455, 1.3) is answered. Raises Fault."""
    key, accepted = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    lines = ["GET / HTTP/1.1", f"Host: {stack.name}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
    with stack.service("websocket").connect() as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while b"\r\n\r\n" not in answer and (more := connection.recv(4096)):
            answer += more
    if not answer.startswith(b"HTTP/1.1 101 ") or accepted not in answer:
        raise Fault(f"it does not speak WebSocket: {answer[:200]!r}")


def look(stack: Stack) -> Report:
    expected = stack.expected
    lightningd = Lightningd(expected["directory"])
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    chain = json_rpc(stack.need("bitcoind", "rpc"), "getblockchaininfo", credentials=credentials)
    info = lightningd.info()
    if info["network"] != expected["network"]:
        raise Lasting(f"it is on {info['network']}, not on {expected['network']}")
    if addresses(info) != ([expected["onion"]] if expected["onion"] else []):
        announced = ", ".join(addresses(info)) or "nothing"
        raise Lasting(f"it announces {announced} to other nodes, not {expected['onion'] or 'nothing'}")
    check_proxy(lightningd, expected["proxy"])
    if Path(expected["restoring"]).exists():
        raise Lasting("its channels have not been restored: type `bcm lightning restore clightning` again")
    check_rest(stack)
    if "grpc" in stack.bcm["services"]:
        check_grpc(stack, info["id"])
    if "websocket" in stack.bcm["services"]:
        check_websocket(stack)
    check_replica(Path(expected["database"]), Path(expected["replica"]))
    if "warning_bitcoind_sync" in info:
        raise Waiting("bitcoind has not downloaded all blocks yet")
    if info["blockheight"] != chain["blocks"]:
        fault = f"its height is {info['blockheight']}, bitcoind's is {chain['blocks']}"
        raise Waiting(fault) if "warning_lightningd_sync" in info else Fault(fault)
    note_version(Path(expected["database"]), Path(expected["shown"]))
    channels = {state: info[f"num_{state}_channels"] for state in ("active", "inactive", "pending")}
    facts = {name: info[key] for name, key in FACTS.items()} | {f"{state}_channels": n for state, n in channels.items()}
    told = ", ".join(f"{number} {state}" for state, number in channels.items() if number) or "none"
    return Report(facts, [f"height {info['blockheight']}", f"channels: {told}; the replica is current"])


prove(look)
