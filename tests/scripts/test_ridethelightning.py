# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of Ride The Lightning's role: what it is given, and what is said of its nodes."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from bcm_guest.prove import Fault, Lasting, Report, Stack, Waiting

from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/ridethelightning/scripts"
RUNE, MACAROON = "a-rune", "abcdef01"
LND = {"block_height": 7, "identity_pubkey": "02lnd"}
CLIGHTNING = {"blockheight": 7, "id": "02clightning"}


def test_credentials_are_in_the_forms_that_it_reads(tmp_path: Path) -> None:
    source, folder = tmp_path / "etc", tmp_path / "run"
    source.mkdir()
    folder.mkdir()
    (source / "RTL-Config.json").write_text("{}")
    (source / "credentials.json").write_text(json.dumps({"lnd": MACAROON, "clightning": RUNE}))
    runpy.run_path(str(SCRIPTS / "ridethelightning_prepare.py"))["prepare"](source, folder)
    assert (folder / "lnd/admin.macaroon").read_bytes() == bytes.fromhex(MACAROON)
    # As its getRuneValue looks for it.
    assert re.findall('LIGHTNING_RUNE="([^"]+)"', (folder / "clightning/rune").read_text()) == [RUNE]
    assert (folder / "RTL-Config.json").read_text() == "{}"


class Server:
    """What Ride The Lightning and its nodes answer."""

    def __init__(self, nodes: list[str]) -> None:
        self.nodes = nodes
        #: what a node says, and what is shown of it: status and body
        self.said: dict[str, tuple[int, Any]] = {"lnd": (200, LND), "clightning": (201, CLIGHTNING)}
        self.shown: dict[str, tuple[int, Any]] = {"lnd": (200, LND), "cln": (200, CLIGHTNING)}
        self.chosen: list[str] = []
        self.is_open = False

    def browse(self, browser: Any, method: str, path: str, body: Any = None, *, with_login: bool = True) -> Any:
        if path == "/rtl/login":
            return 200, "<title>RTL</title>"
        if path == "/rtl/api/authenticate":
            return 200, json.dumps({"token": "a-token"})
        if number := re.fullmatch(r"/rtl/api/conf/updateSelNode/(\d)/-1", path):
            assert not with_login
            self.chosen.append({"1": "lnd", "2": "cln"}[number[1]])
            return 200, "{}"
        name = path.split("/")[3]
        if not (browser._token or self.is_open):
            return 401, "Please Login First!"
        assert name == self.chosen[-1]
        status, found = self.shown[name]
        return status, json.dumps(found)

    def ask(self, place: str, method: str = "GET", path: str = "/", *_body: str, headers: dict[str, str]) -> Any:
        assert headers in ({"Grpc-Metadata-macaroon": MACAROON}, {"Rune": RUNE})
        status, found = self.said[place]
        return status, json.dumps(found)

    def look(self, monkeypatch: pytest.MonkeyPatch) -> Report:
        """What its verify program finds."""
        monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)
        monkeypatch.setattr("bcm_guest.prove.http_request", self.ask)
        monkeypatch.setattr(Stack, "need", lambda _stack, name, _service: name)
        monkeypatch.setattr(Stack, "service", lambda _stack, name: name)
        program = runpy.run_path(str(SCRIPTS / "verify.py"))
        monkeypatch.setattr(
            program["Browser"], "request", lambda browser, *args, **more: self.browse(browser, *args, **more)
        )
        secrets = {
            "ridethelightning/password": "a-password",
            "lnd/rest/ridethelightning": MACAROON,
            "clightning/rest/ridethelightning": RUNE,
        }
        bcm = {"stack": "ridethelightning", "web": [{"path": "/rtl/login"}]}
        found: Report = program["look"](Stack(bcm, secrets, {"nodes": self.nodes}))
        return found


def test_each_node_is_looked_at_and_the_first_one_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that comes next sees the one that was chosen last."""
    server = Server(["clightning", "lnd"])
    report = server.look(monkeypatch)
    assert report.facts == {"nodes": ["clightning", "lnd"], "height": 7}
    assert report.notes == ["clightning at height 7", "lnd at height 7"]
    assert server.chosen == ["cln", "lnd"]


def test_height_is_that_of_the_node_that_is_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(["clightning", "lnd"])
    behind = {**CLIGHTNING, "blockheight": 3}
    server.said["clightning"], server.shown["cln"] = (201, behind), (200, behind)
    report = server.look(monkeypatch)
    assert (report.facts["height"], report.notes[0]) == (3, "clightning at height 3")


@pytest.mark.parametrize(
    ("said", "shown", "error", "message"),
    [
        # It is starting, or has revoked the credential: said of the node, once.
        ({"lnd": (500, "starting")}, {}, Waiting, "lnd answers with status 500"),
        ({"clightning": (401, "Not authorized")}, {}, Waiting, 'clightning answers with status 401: "Not authorized"'),
        # The node is there, and Ride The Lightning does not show it.
        ({}, {"cln": (500, "Get Info Error")}, Fault, "it does not reach clightning: status 500"),
        ({}, {"lnd": (200, {**LND, "block_height": 6})}, Fault, "it shows height 6, lnd is at 7"),
        ({}, {"lnd": (200, {**LND, "identity_pubkey": "03"})}, Lasting, "it shows the node 03, not lnd"),
    ],
)  # fmt: skip
def test_fault_names_the_node(
    monkeypatch: pytest.MonkeyPatch, said: Any, shown: Any, error: type[Exception], message: str
) -> None:
    server = Server(["clightning", "lnd"])
    server.said |= said
    server.shown |= shown
    with pytest.raises(error, match=re.escape(message)):
        server.look(monkeypatch)


def test_page_that_shows_a_node_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(["lnd"])
    server.is_open, server.chosen = True, ["lnd"]
    with pytest.raises(Lasting, match="it answers a request without a login with status 200"):
        server.look(monkeypatch)
