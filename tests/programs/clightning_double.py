#!/usr/bin/python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of Core Lightning: lightningd, lightning-cli and lightning-hsmtool, in the place of its release.

It answers with recordings of the real programs, byte for byte, except for what is true of one data center only: the
height of its chain, its addresses, and labels and hashes of invoices. It has one wallet, a rune for each stack that was
recorded, one invoice, and no peers. It takes an invoice for paid as soon as invoices-of-the-double says so. Its journal
says that it is a double.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import select
import socketserver
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

RECORDED = json.loads((Path(__file__).resolve().parent.parent / "libexec/c-lightning/recordings.json").read_text())
PLACE = RECORDED["place"]
NO_PASSPHRASE = bytes(32)
#: the stacks whose runes were recorded
RUNES = RECORDED["runes"]
#: the label of the invoice that was recorded
LABEL = "recorded"
#: held while a payment gets its number
NUMBERING = threading.Lock()


def say(text: str) -> None:
    print(f"double of Core Lightning: {text}", file=sys.stderr, flush=True)


def ended(status: int, text: str) -> int:
    print(text, end="", flush=True)
    return status


class Config:
    """The options of lightningd, from its command line or a file."""

    def __init__(self, words: list[str]) -> None:
        self.lines = [word.removeprefix("--") for word in words]
        if path := self.get("conf"):
            self.lines += [line for line in Path(path).read_text().splitlines() if line and not line.startswith("#")]
        self.directory = Path(self.get("lightning-dir")) / self.get("network")

    def get(self, name: str) -> str:
        return next((line.partition("=")[2] for line in self.lines if line.partition("=")[0] == name), "")


def height(config: Config) -> int:
    """Of bitcoind's chain, asked as the plugin bcli asks."""
    options = [
        f"-{name[8:]}={config.get(name)}" for name in ("bitcoin-rpcconnect", "bitcoin-rpcport", "bitcoin-rpcuser")
    ]
    command = [config.get("bitcoin-cli"), "-regtest", *options, "-stdinrpcpass", "-stdin", "getblockchaininfo"]
    password = config.get("bitcoin-rpcpassword") + "\n"
    return int(
        json.loads(subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout)["blocks"]
    )


def here(recorded: str, config: Config) -> str:
    """A recording with this data center's own values."""
    onion, _colon, port = config.get("announce-addr").partition(":")
    text = recorded.replace(PLACE["proxy"], config.get("proxy"))
    text = text.replace(PLACE["onion"], onion).replace(PLACE["address"], config.get("bind-addr").partition(":")[0])
    if f'"blockheight":{PLACE["height"]}' in text.replace(" ", ""):
        for space in ("", " "):
            text = text.replace(f'"blockheight":{space}{PLACE["height"]}', f'"blockheight":{space}{height(config)}')
    return text


# -- lightning-hsmtool ------------------------------------------------------------------------------------------------


def hsmtool(words: list[str]) -> int:
    method, path = words[0], Path(words[1])
    recorded = RECORDED["hsmtool"][method]
    if method == "generatehsm":
        mnemonic = sys.stdin.readline().rstrip("\n")
        if mnemonic != RECORDED["words"]:
            # It knows the words of one wallet alone.
            say("Could not read mnemonic: Invalid mnemonic")
            return 24
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
            file.write(NO_PASSPHRASE + mnemonic.encode())
    elif path.read_bytes() != NO_PASSPHRASE + RECORDED["words"].encode():
        say(f"{path} is not the one wallet that it knows")
        return 1
    return ended(0, recorded.replace(RECORDED["secret"], str(path)))


# -- lightning-cli ----------------------------------------------------------------------------------------------------


def cli(words: list[str]) -> int:
    if "--version" in words:
        return ended(0, RECORDED["version"])
    config = Config([word for word in words if word.startswith("--")])
    command = " ".join(word for word in words if not word.startswith("--"))
    # What revokes a rune is answered as the same call at the socket was.
    method, _space, number = command.partition(" ")
    answered = show_runes(config) if command == "showrunes" else None
    if method == "blacklistrune":
        answered = change_rune(config, f'blacklistrune {{"start": {number}}}')
    if answered:
        return ended(0, json.dumps(json.loads(answered)["result"], indent=3) + "\n")
    if command not in RECORDED["cli"]:
        say(f"{command} was not recorded")
        return 1
    return ended(0, here(RECORDED["cli"][command], config))


# -- lightningd -------------------------------------------------------------------------------------------------------


class Rest(http.server.BaseHTTPRequestHandler):
    """What clnrest answers to clients without a rune, and to those that have one; no channel ever changes."""

    protocol_version = "HTTP/1.1"
    config: Config

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        method = self.path.removeprefix("/v1/")
        state = kept(self.config, "runes")
        users = [name for name, rune in RUNES.items() if self.headers["Rune"] == rune["made"]["rune"]]
        if self.path.startswith("/socket.io/"):
            self.reply(RECORDED["notifications"]["accepted"])
        elif not users:
            self.reply(RECORDED["rest"])
        elif state.get(users[0]) != "made":
            self.reply(RECORDED["rest_revoked"])
        elif f"method={method}" not in json.loads(RUNES[users[0]]["create"].partition(" ")[2])["restrictions"][0]:
            self.reply(RECORDED["rest_not_permitted"])
        else:
            self.answer(method, json.loads(body or "{}"))

    def answer(self, method: str, params: dict[str, Any]) -> None:
        if method == "waitanyinvoice":
            self.await_payment(params.get("lastpay_index") or 0, params.get("timeout"))
        elif method in RECORDED["invoices"]:
            self.reply(invoices(self.config, method, params))
        elif method == "wait":
            found = RECORDED["rest_with_rune"][f"wait {params['subsystem']}"]
            # Of what is numbered, invoices alone change.
            changes = max(paid(self.config).values(), default=0) if params["subsystem"] == "invoices" else 0
            body = json.dumps({**json.loads(found["body"]), "updated": changes}, separators=(",", ":"))
            self.reply({**found, "body": body})
        else:
            self.reply(RECORDED["rest_with_rune"][method])

    def await_payment(self, after: int, seconds: float | None) -> None:
        """Answer with the invoice that was paid next after the one with a number, unless the client has gone before.

        If there is none, the next one to be paid is it, whatever the number.
        """
        before = paid(self.config)
        end = time.monotonic() + (float("inf") if seconds is None else seconds)
        while not select.select([self.connection], [], [], 0.2)[0]:
            for label, number in paid(self.config).items():
                if (number > after or label not in before) and label in kept(self.config, "invoices"):
                    (found,) = json.loads(invoices(self.config, "listinvoices", {"label": label})["body"])["invoices"]
                    self.reply({**RECORDED["invoices"]["listinvoices"], "body": json.dumps(found)})
                    return
            if time.monotonic() > end:
                self.reply(RECORDED["rest_with_rune"]["waitanyinvoice"])
                return
        self.close_connection = True

    def do_GET(self) -> None:
        found = RECORDED["notifications"]
        if "sid=" not in self.path:
            self.last = 0.0
            self.reply(found["opened"])
        else:
            interval = json.loads(found["opened"]["body"][1:])["pingInterval"] / 1000
            time.sleep(max(0.0, self.last + interval - time.monotonic()))
            self.last = time.monotonic()
            self.reply(found["alive"])

    #: when the last sign of life was given on this connection; the first is given at once
    last = 0.0

    def reply(self, recorded: dict[str, Any]) -> None:
        body = here(recorded["body"], self.config).encode()
        self.send_response(recorded["status"])
        self.send_header("Content-Type", recorded["type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


def serve_rest(config: Config) -> None:
    certificates = Path(config.get("clnrest-certs"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
    Rest.config = config
    server = http.server.ThreadingHTTPServer((config.get("clnrest-host"), int(config.get("clnrest-port"))), Rest)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class Peers(socketserver.ThreadingTCPServer):
    """Takes connections of other nodes, and ends each: it has nothing to tell them."""

    allow_reuse_address = True


def serve_peers(config: Config) -> None:
    host, _colon, port = config.get("bind-addr").rpartition(":")
    server = Peers((host, int(port)), socketserver.BaseRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def kept(config: Config, name: str, **changes: Any) -> dict[str, Any]:
    """What it remembers of a kind, with changes; what becomes None is forgotten."""
    path = config.directory / f"{name}-of-the-double"
    found = json.loads(path.read_text()) if path.exists() else {}
    if changes:
        found = {key: value for key, value in {**found, **changes}.items() if value is not None}
        path.write_text(json.dumps(found))
    return dict(found)


def paid(config: Config) -> dict[str, int]:
    """The labels of invoices that were paid, each with its number, in the order in which that was seen."""
    with NUMBERING:
        found = kept(config, "paid")
        for label, state in kept(config, "invoices").items():
            if state == "paid" and label not in found:
                found = kept(config, "paid", **{label: len(found) + 1})
        return found


def as_paid(body: str, number: int) -> str:
    """A list of one invoice as the manual says that it is after its payment (lightning-listinvoices)."""
    (invoice,) = json.loads(body)["invoices"]
    more = {"pay_index": number, "amount_received_msat": invoice["amount_msat"], "paid_at": int(time.time())}
    more["updated_index"] = number
    return json.dumps({"invoices": [{**invoice, "status": "paid", **more, "payment_preimage": "0" * 64}]})


def invoices(config: Config, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """What is answered to a call about invoices. All are the one that was recorded, by other labels and hashes."""
    label = params.get("label")
    if method != "listinvoices":
        kept(config, "invoices", **{label: "unpaid" if method == "invoice" else None})
    elif not label:
        label = next(iter(kept(config, "invoices")), None)
    found = RECORDED["invoices"][method if method != "listinvoices" or label in kept(config, "invoices") else "none"]
    state = kept(config, "invoices").get(label)
    body = as_paid(found["body"], paid(config)[label]) if (method, state) == ("listinvoices", "paid") else found["body"]
    body = body.replace(json.dumps(LABEL), json.dumps(label))
    if label not in (None, LABEL):
        own = json.loads(RECORDED["invoices"]["invoice"]["body"])["payment_hash"]
        body = body.replace(own, hashlib.sha256(label.encode()).hexdigest())
    return {**found, "body": body}


def change_rune(config: Config, key: str) -> str | None:
    """The answer to a call that makes or revokes a rune that was recorded; None if that is another call."""
    for name, rune in RUNES.items():
        if key in (rune["create"], rune["revoke"]):
            kept(config, "runes", **{name: "made" if key == rune["create"] else "revoked"})
            return str(rune["created" if key == rune["create"] else "answered"])
    return None


def show_runes(config: Config) -> str:
    """As lightningd writes it."""
    shown = [RUNES[name][state] for name, state in kept(config, "runes").items()]
    answer = {"jsonrpc": "2.0", "id": "bcm", "result": {"runes": shown}}
    return json.dumps(answer, separators=(",", ":")) + "\n\n"


def answer(request: bytes, config: Config) -> bytes:
    asked = json.loads(request)
    key = f"{asked['method']} {json.dumps(asked['params'])}"
    found = show_runes(config) if key == "showrunes {}" else change_rune(config, key) or RECORDED["rpc"].get(key)
    if found is None:
        say(f"{key} was not recorded")
        return b'{"jsonrpc":"2.0","id":"bcm","error":{"code":-32601,"message":"not recorded"}}\n\n'
    return here(found, config).encode()


def serve_rpc(config: Config) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = b""
            while True:
                more = self.request.recv(65536)
                request += more
                try:
                    json.loads(request)
                except ValueError:
                    if more:
                        continue
                    return
                break
            self.request.sendall(answer(request, config))

    path = config.directory / "lightning-rpc"
    path.unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        say("at work")
        server.serve_forever()


def lightningd(words: list[str]) -> int:
    config = Config(words)
    say("it has no peers, and no coins")
    config.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = config.directory / "hsm_secret"
    if not secret.exists():
        secret.write_bytes(NO_PASSPHRASE + RECORDED["words"].encode())
    if config.get("bitcoin-cli") == "/bin/false":
        return int(RECORDED["without_bitcoind"])
    for path in config.get("wallet").removeprefix("sqlite3://").split(":"):
        if not Path(path).exists():
            with sqlite3.connect(path) as database:
                database.executescript("\n".join(RECORDED["database"]))
    (config.directory / "emergency.recover").write_bytes(bytes.fromhex(RECORDED["emergency.recover"]))
    serve_rest(config)
    serve_peers(config)
    serve_rpc(config)
    return 0


PROGRAMS = {"lightningd": lightningd, "lightning-cli": cli, "lightning-hsmtool": hsmtool}
sys.exit(PROGRAMS[Path(sys.argv[0]).name](sys.argv[1:]))
