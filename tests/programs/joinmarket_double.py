# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of JoinMarket's wallet daemon: its calls of wallets, without coins and peers.

It reads the configuration of the real one, and makes the wallet at bitcoind that the real one makes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tomllib
import urllib.request
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jmcore.version import VERSION  # type: ignore[import-not-found]

_WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
_SETTINGS = tomllib.loads(Path(os.environ["JOINMARKET_CONFIG_FILE"]).read_text(encoding="utf-8"))
_NETWORK = _SETTINGS["network_config"]["network"]
_WALLETS = Path(os.environ["JOINMARKET_DATA_DIR"]) / "wallets"
#: the open wallet: its name, password, words, and name at bitcoind
_OPEN: dict[str, str] = {}
_STATE = {"maker": False}


class AnswerError(Exception):
    """An answer that is an error: its status."""


def bitcoind(method: str, *params: Any) -> Any:
    settings = _SETTINGS["bitcoin"]
    body = json.dumps({"id": 0, "method": method, "params": params}).encode()
    basic = b64encode(f"{settings['rpc_user']}:{settings['rpc_password']}".encode()).decode()
    request = urllib.request.Request(settings["rpc_url"], body, {"Authorization": f"Basic {basic}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["result"]


def opened(name: str, password: str, words: str) -> dict[str, str]:
    wallet = f"jm_{hashlib.sha256(words.encode()).hexdigest()[:8]}_{_NETWORK}"
    if wallet not in bitcoind("listwallets"):
        if (_WALLETS / f"{name}.at-bitcoind").exists():
            bitcoind("loadwallet", wallet)
        else:
            bitcoind("createwallet", wallet, True, True, "", False, True)
            (_WALLETS / f"{name}.at-bitcoind").write_text(wallet, encoding="utf-8")
    _OPEN.update(name=name, password=password, words=words, wallet=wallet)
    return {"walletname": name, "token": "token", "seedphrase": words}


def made(body: dict[str, str], words: str) -> dict[str, str]:
    path = _WALLETS / body["walletname"]
    if len(words.split()) != 12:
        raise AnswerError(400)
    answer = opened(path.name, body["password"], words)
    path.write_text(json.dumps({"password": body["password"], "words": words}), encoding="utf-8")
    return answer


def unlocked(name: str, body: dict[str, str]) -> dict[str, str]:
    kept = json.loads((_WALLETS / name).read_text(encoding="utf-8"))
    if kept["password"] != body["password"]:
        raise AnswerError(401)
    return opened(name, kept["password"], kept["words"])


def session() -> dict[str, Any]:
    return {
        "session": bool(_OPEN),
        "wallet_name": _OPEN.get("name", ""),
        "maker_running": _STATE["maker"],
        "coinjoin_in_process": False,
        "descriptor_wallet_name": _OPEN.get("wallet"),
    }


def maker(offer: dict[str, str]) -> dict[str, str]:
    if set(offer) != {"ordertype", "txfee", "cjfee_a", "cjfee_r", "minsize"}:
        raise AnswerError(400)
    _STATE["maker"] = True
    return {}


def answered(method: str, path: str, body: dict[str, str], is_known: bool) -> dict[str, Any]:
    match method, path.removeprefix("/api/v1/").split("/"):
        case "GET", ["getinfo"]:
            return {"version": VERSION}
        case "GET", ["session"]:
            return session()
        case "GET", ["wallet", "all"]:
            return {"wallets": [path.name for path in _WALLETS.glob("*.jmdat")]}
        case "POST", ["wallet", "create"]:
            return made(body, _WORDS)
        case "POST", ["wallet", "recover"]:
            return made(body, body["seedphrase"])
        case "POST", ["wallet", name, "unlock"]:
            return unlocked(name, body)
    if not is_known:
        raise AnswerError(401)
    match method, path.removeprefix("/api/v1/").split("/")[2:]:
        case "GET", ["getseed"]:
            return {"seedphrase": _OPEN["words"]}
        case "GET", ["display"]:
            return {}
        case "GET", ["address", "timelock", "new", month]:
            return {"address": f"bcrt1bond{month}"}
        case "POST", ["maker", "start"]:
            return maker(body)
    raise AnswerError(404)


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            is_known = self.headers["Authorization"] == "Bearer token"
            status, content = 200, answered(self.command, self.path, body, is_known)
        except AnswerError as error:
            status, content = error.args[0], {}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-tls", action="store_true", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    _WALLETS.mkdir(mode=0o700, exist_ok=True)
    ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
