# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that BTCPay Server is synced, accepts its password and no other, and shows an invoice on regtest."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from bcm_guest.prove import Fault, Lasting, Report, Stack, Waiting, http_request, prove
from bcm_guest.volume_files import read_file

_STORE = "verification by the data center"
#: of a wallet that nobody has: invoices to it are made on regtest alone
_WALLET = (
    "tpubDCxX2sYFS5bDkSe5GKKYHjBW7tgyN1R3UchpLJvdbf54ohxeGRtd8MbDUe1cguVHe4vnK68DsuD5MXjxi9EXx16rb9EnNsaF5KT99CinaJz"
)
_AMOUNT = "0.00012345"
#: a host that no inventory can mean (RFC 6761), and what a proxy says that asks it for nobody (RFC 1928)
_NOBODY, _NOT_ALLOWED = b"host.invalid", b"\x05\x00\x05\x02"


class Server:
    """BTCPay Server, as browsers and programs reach it."""

    def __init__(self, stack: Stack) -> None:
        self.place = stack.service("http")
        self._login = f"{stack.expected['email']}:{stack.secrets['btcpayserver/password']}"
        try:
            self._key = read_file(Path("/var/lib/btcpayserver/verify")).decode()
        except FileNotFoundError:
            self._key = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What it answers to somebody with the key. Raises Fault."""
        headers = {"Authorization": f"token {self._key}", "Content-Type": "application/json"}
        text = "" if body is None else json.dumps(body)
        status, answer = http_request(self.place, method, f"/api/v1/{path}", text, headers=headers)
        if status != 200:
            raise Fault(f"it answers {method} {path} with status {status}: {answer[:300]}")
        return json.loads(answer) if answer.strip() else None

    def page(self, path: str) -> tuple[int, str]:
        return http_request(self.place, path=path)

    def check_login(self) -> None:
        """Log in with the password, and see that strangers cannot. Raises Fault."""
        status, text = http_request(self.place, path="/api/v1/users/me", credentials=self._login)
        if status == 401 and "Rate limited" in text:
            raise Fault("there were too many logins; it lets nobody in for a minute")
        if status != 200:
            raise Lasting(
                "it does not let in its administrator with the password of `bcm secret show btcpayserver/password`, "
                f"which somebody has changed in its pages: change it back there (status {status})"
            )
        if "ServerAdmin" not in json.loads(text)["roles"]:
            raise Lasting("its administrator is none any more: make it one again in its pages")
        status, text = self.page("/api/v1/users")
        if status != 401:
            raise Lasting(f"it answers a request without a login with status {status}: {text[:200]}")
        status, _text = self.page("/register")
        if status == 200:
            raise Lasting("anybody can register: disable that in its settings, below Policies")

    def prove_invoice(self, has_node: bool) -> str:
        """Make a store and an invoice, and look at the page for the customer. Raises Fault."""
        stores = [item["id"] for item in self.ask("GET", "stores") if item["name"] == _STORE]
        if not stores:
            stores = [self.ask("POST", "stores", {"name": _STORE, "defaultCurrency": "BTC"})["id"]]
        store = f"stores/{stores[0]}"
        methods = {"BTC-CHAIN": {"derivationScheme": _WALLET}}
        if has_node:
            methods["BTC-LN"] = {"connectionString": "Internal Node"}
        for method, config in methods.items():
            self.ask("PUT", f"{store}/payment-methods/{method}", {"enabled": True, "config": config})
        invoice = self.ask("POST", f"{store}/invoices", {"amount": _AMOUNT, "currency": "BTC"})
        ways = {
            item["paymentMethodId"]: item["destination"]
            for item in self.ask("GET", f"{store}/invoices/{invoice['id']}/payment-methods")
        }
        if missing := sorted(set(methods) - set(ways)):
            raise Fault(f"an invoice cannot be paid by {', '.join(missing)}")
        status, page = self.page(f"/i/{invoice['id']}")
        if status != 200 or _AMOUNT not in page or ways["BTC-CHAIN"] not in page:
            raise Fault(f"the page of an invoice has not what it should: status {status}")
        self.ask("DELETE", f"{store}/invoices/{invoice['id']}")
        return " and ".join(sorted(ways))


def check_proxy(place: str) -> None:
    """See that the proxy for the hosts of the inventory is there, and asks no others. Raises Fault."""
    address, port = place.split(":")
    answer = b""
    try:
        with socket.create_connection((address, int(port)), 30) as connection:
            connection.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(_NOBODY)]) + _NOBODY + b"\x01\xbb")
            while len(answer) < len(_NOT_ALLOWED) and (more := connection.recv(len(_NOT_ALLOWED) - len(answer))):
                answer += more
    except OSError as error:
        raise Fault(f"its proxy for the hosts of the inventory does not answer: {error}") from error
    if answer != _NOT_ALLOWED:
        raise Fault(f"its proxy does not refuse a host that the inventory does not name: {answer.hex()}")


def node_is_ready(stack: Stack, node: str) -> bool:
    """Whether the Lightning node makes invoices that can be paid, for which it needs all blocks. Raises Fault."""
    place, credential = stack.need(node, "rest"), stack.secret(node, "rest")
    if node == "lnd":
        status, text = http_request(place, path="/v1/state", headers={"Grpc-Metadata-macaroon": credential})
        return status == 200 and json.loads(text).get("state") == "SERVER_ACTIVE"
    headers = {"Rune": credential, "Content-Type": "application/json"}
    status, text = http_request(place, "POST", "/v1/getinfo", "{}", headers=headers)
    # One that lacks blocks warns of it.
    return status in (200, 201) and not any(name.startswith("warning_") for name in json.loads(text))


def look(stack: Stack) -> Report:
    server = Server(stack)
    status, text = server.page("/api/v1/health")
    if status != 200:
        raise Fault(f"it answers with status {status}: {text[:200]}")
    is_synced = json.loads(text)["synchronized"]
    server.check_login()
    if stack.bcm["through_tor"]:
        check_proxy(stack.expected["proxy"])
    info = server.ask("GET", "server/info")
    facts = {"version": info["version"]}
    notes = [f"log in as {stack.expected['email']}"]
    if not is_synced or not info["fullySynched"]:
        raise Waiting("nbxplorer or a node behind it has not all blocks yet: invoices are shown when they have")
    warnings = []
    node = stack.expected["node"]
    has_node = bool(node) and node_is_ready(stack, node)
    if node and not has_node:
        warnings = [f"{node} waits for blocks: until it has them, invoices are paid on chain alone"]
    if stack.bcm["chain"] == "regtest":
        notes.insert(0, f"an invoice can be paid by {server.prove_invoice(has_node)}")
    return Report(facts, notes, warnings)


prove(look)
