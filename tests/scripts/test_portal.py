# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the portal: what it shows of a run and of now, and that what comes from elsewhere is text in it."""

from __future__ import annotations

import http.server
import json
import runpy
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base import qr
from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/portal/scripts"
REPORT = runpy.run_path(str(SCRIPTS / "report.py"))
LOOK = runpy.run_path(str(SCRIPTS / "portal_now.py"))
with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(str(SCRIPTS))
    PAGE = runpy.run_path(str(SCRIPTS / "portal_page.py"))
NOW = datetime(2026, 11, 29, 16, 0, tzinfo=UTC)
ONION = f"{'a' * 56}.onion"
ORDERS = {"of": "Orders", "at": "at attic", "made": "2026-11-26T15:00:00+00:00"}
ROOT_URL = "https://192.0.2.1:444/root.crt"
EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture
def sent() -> dict[str, Any]:
    """What the run of a data center with a shop and a node sends; the node was not looked at."""
    web = {"title": "Shop", "path": "/", "url": "https://10.0.0.2:8443/", "lan": "https://192.0.2.1:443/",
           "onion": "shop-http", "onion_port": 80}  # fmt: skip
    page = {"path": "/root.crt", "title": "Root", "url": "https://10.0.0.3:8443/root.crt", "onion": None}
    root = [{**page, "lan": ROOT_URL, "onion_port": None}]
    onion = {"name": "shop-http", "service": "http", "port": 80, "public": None}
    return {
        "stack": "portal",
        "time": "2026-11-29 16:00 UTC",
        "report": {
            "data_center": "home",
            "chain": "regtest",
            "stacks": [{"stack": "shop", "status": "running", "version": "2.0", "verified": ["height 101"],
                        "facts": {"backups": [ORDERS]}}],
            "exceptions": [{"stack": "shop", "to": "192.0.2.0/24", "protocol": "tcp", "port": 443, "why": EVIL}],
            "through_tor": [{"stack": "shop", "to": "api.example.org", "why": f"rates {EVIL}"}],
            "warnings": [EVIL],
        },
        "stacks": [
            {"stack": "node", "description": "A node", "floor": ["1.0"], "web": [], "onions": []},
            {"stack": "shop", "description": EVIL, "floor": [], "web": [web], "onions": [onion]},
            {"stack": "portal", "description": "A page", "floor": [], "web": root, "onions": []},
        ],
        "addresses": {"shop-http": ONION},
        "codes": {text: qr.svg_path(qr.code(text)) for text in (f"{ONION}:80", ROOT_URL)},
        "certificates": [{"name": "shop", "not_after": "2026-12-29T15:00:00+00:00"}],
        "lists_end": "2026-12-30T15:00:00+00:00",
        "roots": [{"subject": "Root g1", "not_after": "2036", "fingerprint": "AB:CD", "trusted": True},
                  {"subject": "Root g0", "not_after": "2026", "fingerprint": "00:00", "trusted": False}],
    }  # fmt: skip


class Elements(HTMLParser):
    """The elements of a page, in balance, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []
        self.codes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.codes += [value or "" for key, value in attrs if key == "aria-label"]
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]
        assert not [key for key, _value in attrs if key.startswith("on") or key == "style"]
        if tag not in ("meta", "link", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(sent: dict[str, Any], now: datetime = NOW, **answers: str) -> Elements:
    """The page of a first run, and of what stacks answer now."""
    return Elements(PAGE["page"](REPORT["merged"]({}, sent), answers, now))


def test_page_shows_the_run_and_how_stacks_are_reached(sent: dict[str, Any]) -> None:
    found = shown(sent)
    assert found.open == []
    for text in ("home on regtest", "As of 2026-11-29 16:00 UTC", "height 101", "2.0", "AB:CD",
                 "until 2026-12-29, 29 days left", "has to be by 2026-12-29, 29 days left: bcm stack start shop",
                 "not seen by a run yet", "bcm open shop", f"{ONION}:80", "Root g1", "At least1.0",
                 "at attic, made 2026-11-26 15:00 UTC, 3 days old; seen 2026-11-29 16:00 UTC, 0 minutes ago", ROOT_URL,
                 "192.0.2.0/24 tcp 443 without Tor"):  # fmt: skip
        assert text in found.text
    assert "Root g0" not in found.text
    links = ["/style.css", "https://10.0.0.2:8443/", "https://192.0.2.1:443/", f"http://{ONION}/", "/root.crt",
             "/root.mobileconfig"]  # fmt: skip
    assert found.links == links
    assert found.codes == ["QR code: Onion address of shop http", "QR code: Root in the local network"]


def test_missing_backups_are_said(sent: dict[str, Any]) -> None:
    sent["report"]["stacks"][0]["facts"] = {}
    text = shown(sent).text
    assert "No run has seen a copy of channels or databases." in text


@pytest.mark.parametrize(
    ("made", "age"),
    [("2026-11-29T15:59:30+00:00", "0 minutes"), ("2026-11-29T15:00:00+00:00", "1 hour"),
     ("2026-11-27T17:00:00+01:00", "2 days"), ("2026-11-30T00:00:00+00:00", "0 minutes")],
)  # fmt: skip
def test_age_is_in_the_largest_unit(made: str, age: str) -> None:
    assert PAGE["_age"](made, NOW) == age


def test_page_says_what_is_old(sent: dict[str, Any]) -> None:
    """It is made again each minute, and what a run has found is not new because of that."""
    known = REPORT["merged"]({}, sent)
    fresh = PAGE["page"](known, {}, NOW + timedelta(hours=23))
    assert '"old"' not in fresh and "16:00 UTC, 23 hours ago" in fresh
    old = PAGE["page"](known, {}, NOW + timedelta(days=20))
    for text in (
        '<span class="old">running, when it was last seen</span>',
        '<span class="old">2026-11-29 16:00 UTC, 20 days ago: old</span>',
        '<span class="old">until 2026-12-29, 9 days left</span>',
        'has to be <span class="old">by 2026-12-29, 9 days left</span>',
        "made 2026-11-26 15:00 UTC, 23 days old",
    ):
        assert text in old
    assert "until 2026-12-29, ended 1 day ago" in PAGE["page"](known, {}, NOW + timedelta(days=31))


def test_revocation_list_needs_a_run_as_well(sent: dict[str, Any]) -> None:
    sent["lists_end"] = "2026-12-20T15:00:00+00:00"
    assert "has to be by 2026-12-20, 20 days left: bcm stack start portal" in shown(sent).text
    sent |= {"lists_end": "", "certificates": []}
    assert "renewed by runs" not in shown(sent).text


def test_what_comes_from_elsewhere_is_text(sent: dict[str, Any]) -> None:
    sent["codes"][f"{ONION}:80"]["path"] += '"/><script>'
    sent["report"]["stacks"][0] |= {"version": EVIL, "verified": [EVIL], "status": EVIL}
    found = shown(sent, node=EVIL)
    assert found.open == [] and "script" not in found.names
    assert found.text.count(EVIL) >= 8
    assert "shop reaches api.example.org through Tor: rates" in found.text


def test_former_runs_are_remembered_for_stacks_that_are_there(sent: dict[str, Any]) -> None:
    node = {"status": "running", "version": "1.1", "notes": ["height 7"], "as_of": "2026-11-01 10:00 UTC"}
    former = {"node": node, "gone": node, "shop": {"certificate": "2020"}}
    state = REPORT["merged"]({"stacks": former}, sent)["stacks"]
    assert state["node"] == node and set(state) == {"node", "shop", "portal"}
    assert (state["shop"]["as_of"], state["shop"]["certificate"]) == (sent["time"], "2026-12-29T15:00:00+00:00")


def test_run_that_only_stops_stacks_leaves_root_and_addresses(sent: dict[str, Any]) -> None:
    former = REPORT["merged"]({}, sent)
    nothing = {"addresses": {}, "codes": {}, "certificates": [], "roots": [], "lists_end": ""}
    known = REPORT["merged"](former, {**sent, **nothing})
    assert known["run"] == {**sent, "certificates": []}
    assert known["stacks"]["shop"]["certificate"] == "2026-12-29T15:00:00+00:00"


# -- now --------------------------------------------------------------------------------------------------------------


def test_page_says_what_answers_now(sent: dict[str, Any]) -> None:
    sent["report"]["stacks"].append({**sent["report"]["stacks"][0], "stack": "portal", "status": "stopped"})
    found = shown(sent, NOW + timedelta(minutes=5), shop="height 107", node="", portal="").text
    assert "Nowheight 107 at 16:05 UTC" in found and "height 101" in found, "and what the run has found"
    assert found.count("does not answer at 16:05 UTC") == 1, "nobody expects that of one that was stopped"
    assert "does not answer at 16:05 UTC: see bcm logs node" in found
    assert "Now" not in shown(sent).text


class Node(http.server.BaseHTTPRequestHandler):
    """bitcoind, and programs with pages, one of which is gone behind its proxy."""

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # As Python encodes portal:word
        allowed = self.headers["Authorization"] == "Basic cG9ydGFsOndvcmQ=" and call["method"] == "getblockcount"
        self.answer(200 if allowed else 403, json.dumps({"result": 107, "error": None}) if allowed else "")

    def do_GET(self) -> None:
        self.answer({"/login": 200, "/": 401}.get(self.path, 502), "")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


class Index(socketserver.StreamRequestHandler):
    """electrs."""

    def handle(self) -> None:
        for line in self.rfile:
            known = {"server.version": ["electrs", "1.4"], "blockchain.headers.subscribe": {"height": 106, "hex": ""}}
            self.wfile.write(json.dumps({"result": known[json.loads(line)["method"]]}).encode() + b"\n")


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def look(folder: Path, monkeypatch: pytest.MonkeyPatch, ports: dict[str, tuple[str, int]], **more: float) -> Any:
    """What stacks answer, each of which has a service at a port."""
    needs = {
        name: {service: {"address": "127.0.0.1", "port": port, "tls": None}} for name, (service, port) in ports.items()
    }
    file = folder / "asked.json"
    file.write_text(json.dumps({"needs": {**needs, "tor": {}}, "password": "word"}))
    monkeypatch.setitem(LOOK["look_now"].__globals__, "ASKED", file)
    pages = {"shop": "/login", "gone": "/rtl"}
    stacks = [{"stack": name, "web": [{"path": pages[name]}] if name in pages else []} for name in (*ports, "tor")]
    return LOOK["look_now"](stacks[1:] if "removed" in ports else stacks, **more)


def test_stacks_are_asked_how_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Node) as node, serving(Index) as index, socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
        taken.close()
        pages = dict.fromkeys(("shop", "wallet", "gone"), ("http", node))
        ports = {"removed": ("rpc", node), "bitcoind": ("rpc", node), "electrs": ("electrum", index), **pages}
        found = look(tmp_path, monkeypatch, {**ports, "closed": ("http", closed)}, patience=60)
    heights = {"bitcoind": "height 107", "electrs": "height 106"}
    assert found == {**heights, "shop": "answers", "wallet": "answers", "gone": "", "closed": ""}


def test_page_does_not_wait_for_one_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert look(tmp_path, monkeypatch, {"shop": ("http", port)}, patience=0.1) == {"shop": ""}
