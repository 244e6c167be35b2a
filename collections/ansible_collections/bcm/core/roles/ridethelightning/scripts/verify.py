# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that Ride The Lightning accepts its password and no other, and shows the height of each node."""

from __future__ import annotations

import hashlib
import http.client
import json
from http.cookies import SimpleCookie
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting, http_request, prove

#: how Ride The Lightning numbers and names a node, and how the node names what is compared
NODES = {"lnd": (1, "lnd", "block_height", "identity_pubkey"), "clightning": (2, "cln", "blockheight", "id")}


class Browser:
    """A browser with its cookies."""

    def __init__(self, place: Endpoint) -> None:
        self._place = place
        self._cookies: dict[str, str] = {}
        self._token = ""

    def request(self, method: str, path: str, body: Any = None, *, with_login: bool = True) -> tuple[int, str]:
        """Status and body of an answer. Raises Fault if nothing answers."""
        connection = http.client.HTTPConnection(self._place.address, timeout=30)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        headers["X-XSRF-TOKEN"] = self._cookies.get("XSRF-TOKEN", "")
        if self._token and with_login:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.sock = self._place.connect()
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            for line in answer.headers.get_all("Set-Cookie", []):
                self._cookies |= {name: found.value for name, found in SimpleCookie(line).items()}
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Fault(f"nothing answers at {self._place}: {error!r}") from error
        finally:
            connection.close()

    def log_in(self, password: str) -> None:
        """Log in as its page does. Raises Fault."""
        proof = hashlib.sha256(password.encode()).hexdigest()
        body = {"authenticateWith": "PASSWORD", "authenticationValue": proof, "twoFAToken": ""}
        status, text = self.request("POST", "/rtl/api/authenticate", body)
        if status != 200:
            raise Fault(f"it refuses its own password: status {status}, {text[:200]}")
        self._token = json.loads(text)["token"]

    def choose(self, number: int) -> None:
        """Look at the node of this number from now on. Raises Fault."""
        # Asked with a login, it would keep a connection to the node for a page that follows it.
        status, text = self.request("GET", f"/rtl/api/conf/updateSelNode/{number}/-1", with_login=False)
        if status != 200:
            raise Fault(f"it does not change to node {number}: status {status}, {text[:200]}")


def ask_node(stack: Stack, node: str) -> dict[str, Any]:
    """What the node itself says, asked with the credential of this stack. Raises Fault."""
    credential = stack.secret(node, "rest")
    if node == "lnd":
        status, text = http_request(
            stack.need("lnd", "rest"), path="/v1/getinfo", headers={"Grpc-Metadata-macaroon": credential}
        )
    else:
        status, text = http_request(
            stack.need("clightning", "rest"), "POST", "/v1/getinfo", "{}", headers={"Rune": credential}
        )
    if status not in (200, 201):
        raise Waiting(f"{node} answers with status {status}: {text[:200]}")
    return dict(json.loads(text))


def look_at(stack: Stack, browser: Browser, node: str) -> int:
    """The height that it shows of a node. Raises Fault."""
    number, folder, height, key = NODES[node]
    browser.choose(number)
    said = ask_node(stack, node)
    status, text = browser.request("GET", f"/rtl/api/{folder}/getinfo")
    if status != 200:
        raise Fault(f"it does not reach {node}: status {status}, {text[:200]}")
    shown = json.loads(text)
    if shown[key] != said[key]:
        raise Lasting(f"it shows the node {shown[key]}, not {node}, which is {said[key]}")
    if shown[height] < said[height]:
        raise Fault(f"it shows height {shown[height]}, {node} is at {said[height]}")
    return int(shown[height])


def look(stack: Stack) -> Report:
    nodes = [str(name) for name in stack.expected["nodes"]]
    browser = Browser(stack.service("http"))
    # It gives the cookies with which a form is sent.
    status, page = browser.request("GET", stack.bcm["web"][0]["path"])
    if status != 200 or "<title>RTL</title>" not in page:
        raise Fault(f"its page is not there: status {status}")
    for node in nodes:
        status, text = browser.request("GET", f"/rtl/api/{NODES[node][1]}/getinfo")
        if status != 401:
            raise Lasting(f"it answers a request without a login with status {status}: {text[:200]}")
    browser.log_in(stack.secrets["ridethelightning/password"])
    heights = {node: look_at(stack, browser, node) for node in nodes}
    notes = [f"{node} at height {height}" for node, height in heights.items()]
    return Report({"nodes": sorted(heights), "height": min(heights.values())}, notes)


prove(look)
