# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administrator of BTCPay Server, made by its API, and NBXplorer's double. tests/e2e has a whole shop."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import COLLECTION, ROOT

PROGRAM = COLLECTION / "roles/btcpayserver/scripts/btcpayserver_administrator.py"
EMAIL = "administrator@x-regtest.bcm"


class Api(ThreadingHTTPServer):
    """Users and keys of a BTCPay Server, as its API has them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.passwords: dict[str, str] = {}
        self.keys: list[str] = []
        self.asked: list[str] = []
        self.health = 200


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def respond(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"] or 0))
        status, value = self.answer(json.loads(text) if text else {})
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = respond

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        api, header = self.server, self.headers["Authorization"] or ""
        what = f"{self.command} {self.path.removeprefix('/api/v1/')}"
        api.asked.append(what)
        if what == "GET health":
            return api.health, {"synchronized": False}
        if what == "POST users":
            if api.passwords:
                return 401, {"message": "New user creation isn't authorized to users who are not admin"}
            api.passwords[body["email"]] = body["password"]
            return 201, {}
        if header.startswith("token "):
            return (200 if header.removeprefix("token ") in api.keys else 401), {}
        login = base64.b64decode(header.removeprefix("Basic ")).decode() if header else ":"
        email, _unused, password = login.partition(":")
        if api.passwords.get(email) != password:
            return 401, {"message": "Basic authentication failed"}
        if what == "POST api-keys":
            api.keys.append(f"key{len(api.keys)}")
            return 200, {"apiKey": api.keys[-1]}
        if what == "PUT users/me" and body["currentPassword"] == password:
            api.passwords[email] = body["newPassword"]
        return 200, {"email": email}

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def start(api: Api, tmp_path: Path) -> Any:
    """What the unit does after each start, with a password in the secrets."""
    importlib.import_module("bcm_guest.prove")
    names = runpy.run_path(str(PROGRAM))
    main = names["main"]
    wanted = tmp_path / "password"
    main.__globals__.update(_WANTED=wanted, _KEPT=tmp_path / "kept", _KEY=tmp_path / "key")

    def run(password: str, patience: float = 5.0) -> None:
        main.__globals__["_PATIENCE"] = patience
        wanted.write_text(password)
        main(f"127.0.0.1:{api.server_port}", EMAIL)

    return run


def test_administrator_is_made_once(api: Api, start: Any) -> None:
    start("first")
    assert api.passwords == {EMAIL: "first"}
    assert api.keys == ["key0"]
    start("first")
    assert api.asked.count("POST users") == 1
    assert api.keys == ["key0"]


def test_rotated_password_takes_the_place_of_the_former(api: Api, start: Any) -> None:
    start("first")
    start("second")
    assert api.passwords == {EMAIL: "second"}
    start("third")
    assert api.passwords == {EMAIL: "third"}


def test_server_that_is_not_at_work_is_given_up_with_what_it_says(api: Api, start: Any) -> None:
    api.health = 500
    with pytest.raises(SystemExit, match=r"not at work: it answers with status 500: .*synchronized"):
        start("first", patience=0.2)
    api.server_close()
    with pytest.raises(SystemExit, match="not at work: nothing answers at 127.0.0.1"):
        start("first", patience=0.2)
    assert api.passwords == {}


def test_server_that_has_ended_is_not_waited_for(api: Api, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd starts it again only once the program that waits for it has ended, too."""
    api.health = 500
    with subprocess.Popen(["true"]) as ended:
        monkeypatch.setenv("MAINPID", str(ended.pid))
    with pytest.raises(SystemExit, match="not at work"):
        start("first", patience=3600)


def test_lost_key_is_made_again(api: Api, start: Any, tmp_path: Path) -> None:
    start("first")
    api.keys = ["other"]
    start("first")
    assert (tmp_path / "key").read_text() == api.keys[-1] != "other"


def test_password_that_somebody_has_changed_is_left(api: Api, start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    start("first")
    api.passwords[EMAIL] = "of a person"
    start("first")
    start("second")
    assert api.passwords == {EMAIL: "of a person"}
    assert "cannot be given the password of the secrets" in capsys.readouterr().err


def test_server_that_somebody_else_has_taken_is_not_opened(api: Api, start: Any) -> None:
    api.passwords["mallory@example.org"] = "x"
    with pytest.raises(SystemExit):
        start("first")


def test_files_are_the_services_alone(start: Any, tmp_path: Path) -> None:
    start("first")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("kept", "key")} == {0o600}


def test_double_derives_the_addresses_of_bip_84(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests/programs"), *sys.path])
    double = importlib.import_module("nbxplorer_double")
    account = (
        "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs"
    )
    _chain, key = double.derived(*double.derived(*double.read_key(account), 0), 1)
    program = hashlib.new("ripemd160", hashlib.sha256(key).digest()).digest()
    assert double.address_of(program, "bc") == "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"
