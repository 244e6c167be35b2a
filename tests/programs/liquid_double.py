#!/usr/bin/python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of Elements: elementsd and elements-cli, in the place of its release.

It answers with recordings of the real programs, byte for byte, except for the address of the proxy. It has the first
block of its chain, no wallets and no peers, and asks bitcoind what the real one asks when it starts. Its journal says
that it is a double.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# What was recorded stands here in the release.
RECORDED = json.loads("RECORDED")
_WARMUP = -28
_NO_METHOD = -32601


class Ended(Exception):
    """What ends the program with a message."""


class Config:
    """The options of a file: those of no section, and those of the section of the chain."""

    def __init__(self, path: Path) -> None:
        self._values: dict[str, list[str]] = {}
        section = ""
        for number, text in enumerate(path.read_text().splitlines(), 1):
            line = text.partition("#")[0].strip()
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
            elif line and "=" not in line:
                raise Ended(f"Error: Error reading configuration file: parse error on line {number}: {line}")
            elif line and section in ("", self.get("chain")):
                name, _equal, value = line.partition("=")
                self._values.setdefault(name.strip(), []).append(value.strip())

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def get(self, name: str) -> str:
        return (self.all(name) or [""])[0]

    @property
    def folder(self) -> Path:
        return Path(self.get("datadir"), self.get("chain"))

    @property
    def cookie(self) -> Path:
        return self.folder / ".cookie"

    @property
    def places(self) -> list[tuple[str, int]]:
        found = [place.rpartition(":") for place in self.all("rpcbind")]
        return [(host, int(port)) for host, _colon, port in found]

    @property
    def whitelists(self) -> dict[str, set[str]]:
        """The calls that a user may make; all if there is no list of the user."""
        found = [line.partition(":") for line in self.all("rpcwhitelist")]
        return {user: set(calls.split(",")) for user, _colon, calls in found}

    def has_user(self, user: str, password: str) -> bool:
        """Whether the user's line of rpcauth fits the password (share/rpcauth of its sources)."""
        for line in self.all("rpcauth"):
            name, _colon, rest = line.partition(":")
            salt, _dollar, digest = rest.partition("$")
            if name == user:
                return hmac.compare_digest(
                    hmac.new(salt.encode(), password.encode(), hashlib.sha256).hexdigest(), digest
                )
        return False


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def call(place: tuple[str, int], login: str, method: str, params: list[Any]) -> tuple[int, Any]:
    """Status and body of an answer of JSON-RPC. Raises OSError if nothing answers."""
    connection = http.client.HTTPConnection(*place, timeout=30)
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    connection.request("POST", "/", json.dumps({"method": method, "params": params, "id": 1}), headers)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None


# -- elementsd --------------------------------------------------------------------------------------------------------


def has_parent(config: Config) -> bool:
    """Whether bitcoind answers, and has the chain from which coins come."""
    place = config.get("mainchainrpchost"), int(config.get("mainchainrpcport"))
    login = f"{config.get('mainchainrpcuser')}:{config.get('mainchainrpcpassword')}"
    while True:
        try:
            status, answer = call(place, login, "getnetworkinfo", [])
            if status == http.client.OK:
                break
            if not answer or answer["error"]["code"] != _WARMUP:
                return False
        except OSError:
            return False
        time.sleep(1)
    status, answer = call(place, login, "getblockhash", [0])
    first = json.loads(RECORDED["rpc"]["getsidechaininfo"]["body"])["result"]["parent_blockhash"]
    return bool(status == http.client.OK and answer["result"] == first)


class Rpc(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    config: Config
    login = ""

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        given = (self.headers["Authorization"] or "").removeprefix("Basic ")
        user, _colon, password = base64.b64decode(given).decode().partition(":")
        if f"{user}:{password}" != self.login and not self.config.has_user(user, password):
            return self.respond(http.client.UNAUTHORIZED, "")
        asked = json.loads(text)
        if user in self.config.whitelists and asked["method"] not in self.config.whitelists[user]:
            return self.respond(http.client.FORBIDDEN, "")
        found = RECORDED["rpc"].get(asked["method"], RECORDED["unknown"])
        body = found["body"].replace(RECORDED["proxy"], self.config.get("proxy"))
        # It gives back the number of a question.
        return self.respond(found["status"], json.dumps({**json.loads(body), "id": asked["id"]}))

    def respond(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


def elementsd(config: Config) -> None:
    say("double of Elements: it has no peers, and answers with recordings")
    if config.get("chain") != RECORDED["chain"]:
        raise Ended(f"double of Elements: chain {config.get('chain')} was not recorded")
    if config.get("validatepegin") == "1" and not has_parent(config):
        raise Ended(RECORDED["without_bitcoind"])
    config.folder.mkdir(parents=True, exist_ok=True)
    Rpc.config, Rpc.login = config, f"__cookie__:{secrets.token_hex(32)}"
    first, *others = [ThreadingHTTPServer(place, Rpc) for place in config.places]
    for server in others:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    config.cookie.touch(0o600)
    config.cookie.write_text(Rpc.login)
    if command := config.get("startupnotify"):
        subprocess.run(command, shell=True, check=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        first.serve_forever()
    finally:
        config.cookie.unlink()


# -- elements-cli -----------------------------------------------------------------------------------------------------


def elements_cli(config: Config, words: list[str]) -> int:
    method, *params = words
    try:
        _status, answer = call(config.places[0], config.cookie.read_text(), method, params)
    except OSError as error:
        raise Ended(f"error: Could not connect to the server {':'.join(map(str, config.places[0]))}") from error
    if answer["error"]:
        say(f"error code: {answer['error']['code']}\nerror message:\n{answer['error']['message']}")
        return abs(int(answer["error"]["code"])) % 256
    result = answer["result"]
    print(result if isinstance(result, str) else json.dumps(result, indent=2))
    return 0


def main(words: list[str]) -> int:
    name = Path(sys.argv[0]).name
    if words == ["--version"]:
        print(RECORDED["version"][name], end="")
        return 0
    given = [word for word in words if word.startswith("-conf=")]
    path = Path(given[0].removeprefix("-conf=") if given else "/root/.elements/elements.conf")
    try:
        config = Config(path)
        if name == "elements-cli":
            return elements_cli(config, [word for word in words if word not in given])
        elementsd(config)
    except Ended as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
