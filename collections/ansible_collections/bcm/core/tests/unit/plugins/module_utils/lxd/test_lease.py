# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd import lease
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client

from .conftest import _serving, _UnixServer

NAME, TITLE = "bcm-local-regtest-lock", "Data center local (regtest)"


class Profiles:
    """A server that keeps profiles as LXD does: names are unique, and a write needs the ETag of what is replaced."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.writes = 0
        self.lock = threading.Lock()

    def holder(self) -> dict[str, Any] | None:
        found = self.kept.get(NAME)
        return json.loads(found["config"]["user.bcm.lock"]) if found else None

    def set(self, **fields: Any) -> None:
        """Change fields of the holder, as if it had written them."""
        self.kept[NAME]["config"]["user.bcm.lock"] = json.dumps({**(self.holder() or {}), **fields})

    def answer(self, method: str, path: str, body: Any, etag: str | None) -> tuple[int, Any, str]:
        with self.lock:
            name = path.rpartition("/")[2]
            if path == "/1.0":
                return 200, {"auth": "trusted"}, ""
            if path == "/1.0/profiles" and method == "GET":
                return 200, list(self.kept.values()), ""
            if method == "POST":
                name = body["name"]
                if name in self.kept:
                    return 409, "The profile already exists", ""
            elif name not in self.kept:
                return 404, "Not found", ""
            now = hashlib.sha256(json.dumps(self.kept.get(name)).encode()).hexdigest()
            if etag and etag != now:
                return 412, "ETag doesn't match", ""
            if method == "DELETE":
                del self.kept[name]
            elif method in ("POST", "PUT"):
                self.kept[name] = body
                self.writes += 1
            return 200, self.kept.get(name), now

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                status, found, etag = server.answer(
                    self.command, path, json.loads(body or b"null"), self.headers.get("If-Match")
                )
                answer = {"type": "sync", "metadata": found} if status == 200 else {"type": "error", "error": found}
                text = json.dumps({**answer, "error_code": status}).encode()
                self.send_response(status)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_DELETE = reply

        return Handler


@pytest.fixture
def profiles(tmp_path: Path) -> Iterator[tuple[Profiles, str]]:
    server, path = Profiles(), str(tmp_path / "unix.socket")
    with _serving(_UnixServer(path, server.handler())):
        yield server, path


@pytest.fixture
def runs() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes that stand for runs."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def hold(path: str, run: int) -> None:
    with Client(path) as client:
        lease.hold(client, {"endpoint": path}, NAME, TITLE, run)


def refused(path: str, run: int) -> str:
    with Client(path) as client, pytest.raises(BcmError) as caught:
        lease.Lease(client, NAME, TITLE, run).acquire()
    return str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_keeper_holds_it_as_long_as_the_run_lives(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]], number: int
) -> None:
    server, path = profiles
    run = runs()
    hold(path, run.pid)
    said = refused(path, os.getpid())
    assert re.match(
        rf"{re.escape(TITLE)} is being changed by \S+ on \S+ \(process {run.pid}\) since [\d-]{{10}} [\d:]{{8}} "
        "UTC, and this run has changed nothing: wait until that one has ended, or end it there, and run again",
        said,
    )
    # the same run may ask again
    hold(path, run.pid)
    assert server.writes == 1
    run.send_signal(number)
    run.wait()
    until(lambda: server.holder() is None)


def test_of_two_at_once_one_has_it(profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]) -> None:
    server, path = profiles
    faults: list[str] = []

    def start(run: int) -> None:
        try:
            hold(path, run)
        except BcmError as error:
            faults.append(str(error))

    processes = [runs() for _number in range(3)]
    threads = [threading.Thread(target=start, args=(process.pid,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(faults) == 2
    holder = server.holder()
    assert holder is not None
    assert all(f"(process {holder['run']})" in fault for fault in faults)


def test_the_next_run_waits_for_the_keeper_of_one_that_ended(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]
) -> None:
    server, path = profiles
    for _number in range(3):
        run = runs()
        hold(path, run.pid)
        run.kill()
        run.wait()
    until(lambda: server.holder() is None)


def test_a_run_that_died_with_its_keeper_holds_nothing(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]
) -> None:
    server, path = profiles
    run, other = runs(), runs()
    hold(path, run.pid)
    holder = server.holder()
    assert holder is not None
    os.kill(holder["keeper"], signal.SIGKILL)
    assert "is being changed" in refused(path, other.pid), "the run itself goes on"
    run.kill()
    run.wait()
    hold(path, other.pid)
    assert (server.holder() or {})["run"] == other.pid


def test_a_number_that_another_process_has_now_is_not_the_run(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]
) -> None:
    server, path = profiles
    run = runs()
    hold(path, run.pid)
    os.kill((server.holder() or {})["keeper"], signal.SIGKILL)
    server.set(run_started="1", keeper_started="1")
    other = runs()
    hold(path, other.pid)
    assert (server.holder() or {})["run"] == other.pid


def test_another_controller_holds_it_until_it_was_not_renewed(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """By the clock of the server: what the clocks of the controllers show does not matter."""
    server, path = profiles
    run, other = runs(), runs()
    hold(path, run.pid)
    os.kill((server.holder() or {})["keeper"], signal.SIGKILL)
    server.set(place="elsewhere", host="far\x1b[2Jaway", until=time.time() + 5)
    said = refused(path, other.pid)
    assert "on far?[2Jaway (process" in said
    assert "(if that machine is gone, its lock ends at " in said
    server.set(until=time.time() - 1)
    hold(path, other.pid)
    assert (server.holder() or {})["run"] == other.pid


def test_it_is_renewed_and_a_run_that_lost_it_is_ended(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, path = profiles
    monkeypatch.setattr(lease, "_BEAT", 0.05)
    run = runs()
    with Client(path) as client:
        held = lease.Lease(client, NAME, TITLE, run.pid)
        assert held.acquire()
        keeper = threading.Thread(target=lease._keep, args=(held, held.holder))
        keeper.start()
        until(lambda: server.writes > 3)
        assert run.poll() is None
        server.set(nonce="another")
        assert run.wait(120) == -signal.SIGINT
        keeper.join()
    assert (server.holder() or {})["nonce"] == "another", "what is another one's is not deleted"


def test_another_run_is_refused_without_taking_the_lock(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]
) -> None:
    server, path = profiles
    server.kept["default"] = {"name": "default", "description": "Default LXD profile", "config": {}}
    run = runs()
    with Client(path) as client:
        lease.refuse_other_runs(client, os.getpid())
        hold(path, run.pid)
        lease.refuse_other_runs(client, run.pid)
        lease.refuse_other_runs(client, os.getpid(), "bcm-other-regtest-lock")
        for name in (NAME, None):
            with pytest.raises(BcmError, match=rf"^{re.escape(TITLE)} is being changed by .*\(process {run.pid}\)"):
                lease.refuse_other_runs(client, os.getpid(), name)
        assert server.writes == 1
        server.set(place="elsewhere", until=time.time() - 1)
        lease.refuse_other_runs(client, os.getpid())


HOLDER = lease.Holder("n", "u", "h", "p", 1, "1", 2, "2", 1.5, 2.5)


def test_foreign_resource_in_place_of_a_lock_is_left_alone(profiles: tuple[Profiles, str]) -> None:
    server, path = profiles
    times = [{**asdict(HOLDER), "until": until} for until in ("soon", True, 1e300, -1)]
    for text in ("[]", "{}", "x", *map(json.dumps, times), json.dumps(asdict(HOLDER)).replace("2.5", "1e999")):
        config = {"user.bcm.lock": text}
        server.kept[NAME] = {"name": NAME, "config": config}
        assert f"Profile {NAME} of project default at {path} has the name of a lock but is not one" in refused(path, 1)
    server.kept[NAME] = {"name": NAME, "config": {}}
    assert "is not one" in refused(path, 1)


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(BcmError, match="No answer at .*: check that LXD is running there?"):
        hold(str(tmp_path / "nowhere"), os.getpid())


def test_keeper_that_cannot_start_leaves_no_lock(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, path = profiles
    run = runs()
    acquire = lease.Lease.acquire

    def late(held: lease.Lease) -> bool:
        os.waitid(os.P_PID, held.holder.keeper, os.WEXITED | os.WNOWAIT)
        return acquire(held)

    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(lease.Lease, "acquire", late)
    with pytest.raises(BcmError, match=rf"^{re.escape(TITLE)} was not locked, its keeper ended at once: Broken pipe"):
        hold(path, run.pid)
    assert server.holder() is None


def test_run_that_ends_before_its_keeper_has_started_holds_nothing(
    profiles: tuple[Profiles, str], runs: Callable[[], subprocess.Popen[bytes]]
) -> None:
    server, path = profiles
    run = runs()
    hold(path, run.pid)
    run.kill()
    run.wait()
    until(lambda: server.holder() is None)
