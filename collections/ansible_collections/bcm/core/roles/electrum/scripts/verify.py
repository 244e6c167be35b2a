# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that electrum is connected to its own server, to nothing else, and is as high as that."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

_ESTABLISHED = "01"
# the roots of the data center
_TRUST = "/etc/bcm/trust/ca-certificates.crt"


class Fault(Exception):
    """What keeps the wallet from being up to date, for people."""


class Waiting(Exception):
    """The server itself is not ready yet."""


class Connection(http.client.HTTPConnection):
    """HTTP over the program's unix socket."""

    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def info(directory: Path) -> dict[str, Any]:
    try:
        settings = json.loads((directory / "config").read_text(encoding="utf-8"))
        credentials = base64.b64encode(f"{settings['rpcuser']}:{settings['rpcpassword']}".encode()).decode()
        connection = Connection("localhost", timeout=30)
        connection.path = str(directory / "daemon_rpc_socket")
        request = json.dumps({"id": 0, "method": "getinfo", "params": []})
        connection.request("POST", "/", request, {"Authorization": f"Basic {credentials}"})
        answer = json.loads(connection.getresponse().read())
    except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
        raise Fault(f"it does not answer on its socket: {error!r}") from error
    if "result" not in answer:
        raise Fault(f"it answers getinfo with {answer.get('error')}")
    result: dict[str, Any] = answer["result"]
    return result


def height_of(server: tuple[str, int]) -> int:
    try:
        trusting = ssl.create_default_context(cafile=_TRUST)
        with (
            socket.create_connection(server, 10) as plain,
            trusting.wrap_socket(plain, server_hostname=server[0]) as connection,
        ):
            stream = connection.makefile("rw")
            for method, params in (("server.version", ["verify", "1.4"]), ("blockchain.headers.subscribe", [])):
                stream.write(json.dumps({"id": 0, "method": method, "params": params}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline() or '{"error": "it hung up"}')
            return int(answer["result"]["height"])
    except (OSError, KeyError, ValueError) as error:
        raise Waiting(f"its server {server[0]}:{server[1]} serves no blocks yet") from error


def peers() -> set[tuple[str, int]]:
    """Who this instance is connected to over TCP, this script's own loopback aside."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net") / name
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else ():
            _slot, _local, remote, state = line.split()[:4]
            if state == _ESTABLISHED:
                address, port = remote.split(":")
                found.add((_address(address, family), int(port, 16)))
    return {(address, port) for address, port in found if not address.startswith("127.")}


def _address(digits: str, family: int) -> str:
    """An address as the kernel shows it: words of 32 bits in the machine's own order of bytes."""
    words = [bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:")


def look(server: tuple[str, int], directory: Path) -> dict[str, Any]:
    strangers = peers() - {server}
    if strangers:
        sys.exit("electrum is connected to " + ", ".join(f"{address}:{port}" for address, port in sorted(strangers)))
    height = height_of(server)
    said = info(directory)
    if said["server"] != server[0] or said["auto_connect"]:
        sys.exit(f"electrum follows {said['server']}, not {server[0]} alone")
    if not said["connected"]:
        raise Fault(f"it is not connected to its server {server[0]}:{server[1]}")
    # It says -1 as long as there is but the first block, which every wallet knows.
    own_height = max(said["blockchain_height"], 0)
    if own_height != height:
        raise Fault(f"its height is {own_height}, its server's is {height}")
    return {"notes": [f"height {height}"], "warnings": []}


def main() -> None:
    expected = json.load(sys.stdin)
    address, port = expected["server"]
    deadline = time.monotonic() + expected["deadline"]
    while True:
        try:
            state = look((address, int(port)), Path(expected["directory"]))
            break
        except (Fault, Waiting) as error:
            if time.monotonic() > deadline:
                if isinstance(error, Fault) or expected["required"]:
                    sys.exit(f"electrum: {error}")
                # Where bitcoind has yet to download its blocks, this lasts days.
                state = {"notes": [], "warnings": [str(error)]}
                break
        time.sleep(0.2)
    print(json.dumps(state))


main()
