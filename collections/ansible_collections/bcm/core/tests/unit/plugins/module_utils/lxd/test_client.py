# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against servers with fixed answers: requests, operations, and every error in words."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base import change_count
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client, quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    LxdError,
    NotFound,
    PreconditionFailed,
    Unreachable,
    Unsupported,
)

from .conftest import Issue

SERVER = {
    "auth": "trusted",
    "api_extensions": ["projects", "network_acl"],
    "environment": {"server_version": "5.0.2"},
}


def operation(status: str, code: int, **more: Any) -> dict[str, Any]:
    return {"id": "42", "status": status, "status_code": code, "err": "", "metadata": None, **more}


# -- requests ---------------------------------------------------------------------------------------------------------


def test_the_project_is_added_by_itself(unix_server: Any) -> None:
    server, path = unix_server
    server.answers_with("GET", "/1.0/profiles", [])
    with Client(path, project="own") as client:
        client.get("/1.0/profiles", recursion=1)
        client.get("/1.0/profiles", project="other", target=None)
        client.get("/1.0/profiles", project=None)
    assert [query for _method, _path, query, _body in server.requests] == [
        {"recursion": "1", "project": "own"},
        {"project": "other"},
        {},
    ]


def test_the_etag_that_was_read_can_be_sent_back(unix_server: Any) -> None:
    server, path = unix_server
    server.answers_with("GET", "/1.0/profiles/p", {"name": "p"}, ETag="abc")
    with Client(path) as client:
        assert client.read("/1.0/profiles/p") == ({"name": "p"}, "abc")


@pytest.mark.parametrize(
    ("status", "kind"), [(400, LxdError), (403, Forbidden), (404, NotFound), (409, Conflict), (412, PreconditionFailed)]
)
def test_a_refusal_is_an_error_of_its_kind(unix_server: Any, status: int, kind: type[LxdError]) -> None:
    server, path = unix_server
    server.answers_with("GET", "/1.0", SERVER)
    server.refuses("POST", "/1.0/profiles", status, "its own words")
    with Client(path) as client, pytest.raises(kind, match="its own words") as caught:
        client.send("POST", "/1.0/profiles", {})
    assert caught.type is kind


def test_a_missing_object_is_none(unix_server: Any) -> None:
    with Client(unix_server[1]) as client:
        assert client.find("/1.0/profiles/none") is None


def test_a_write_against_an_old_etag_says_to_run_again(unix_server: Any) -> None:
    server, path = unix_server
    server.refuses("PUT", "/1.0/profiles/p", 412, "ETag doesn't match: a vs b")
    with Client(path) as client, pytest.raises(PreconditionFailed) as caught:
        client.call("PUT", "/1.0/profiles/p", {}, what="update profile p", etag="a")
    assert str(caught.value) == (
        "Failed to update profile p: it was changed after it was read; nothing was overwritten, run again"
    )


def test_the_error_of_a_call_says_what_was_done(unix_server: Any) -> None:
    server, path = unix_server
    server.refuses("POST", "/1.0/profiles", 409, "The profile already exists")
    with Client(path) as client, pytest.raises(Conflict) as caught:
        client.call("POST", "/1.0/profiles", {}, what="create profile p")
    assert str(caught.value) == "Failed to create profile p: The profile already exists"


@pytest.mark.parametrize("text", [b"<html>", b""])
def test_foreign_answers_are_reported(unix_server: Any, text: bytes) -> None:
    server, path = unix_server
    server.answers["GET", "/1.0/profiles"] = (200, text, {})
    with Client(path) as client, pytest.raises(LxdError, match="not an answer of LXD's API"):
        client.get("/1.0/profiles")
    server.answers["GET", "/1.0/profiles"] = (502, text, {})
    with Client(path) as client, pytest.raises(LxdError, match="HTTP 502"):
        client.get("/1.0/profiles")


# -- operations -------------------------------------------------------------------------------------------------------


def test_an_operation_is_waited_for(unix_server: Any) -> None:
    server, path = unix_server
    server.starts("POST", "/1.0/instances", operation("Running", 103))
    server.answers_with("GET", "/1.0/operations/42/wait", operation("Success", 200, metadata={"x": 1}))
    with Client(path) as client:
        assert client.call("POST", "/1.0/instances", {"name": "i"}, what="create instance i") == {"x": 1}
    assert json.loads(server.requests[0][3]) == {"name": "i"}
    assert server.requests[1][2]["timeout"] == "30"


@pytest.mark.parametrize(
    ("ended", "status", "changes"),
    [
        (operation("Success", 200), 202, 1),
        (operation("Failure", 400, err="no room"), 202, 0),
        (operation("Success", 200, **{"class": "websocket"}), 202, 0),  # a command
        ({}, 200, 1),
        ({}, 409, 0),
    ],
)
def test_completed_operations_count_as_changes(unix_server: Any, ended: Any, status: int, changes: int) -> None:
    server, path = unix_server
    server.answers_with("GET", "/1.0", SERVER)
    server.starts("POST", "/1.0/x", {**ended, "id": "42"})
    if status == 200:
        server.answers_with("POST", "/1.0/x", {})
    elif status != 202:
        server.refuses("POST", "/1.0/x", status, "exists")
    server.answers_with("GET", "/1.0/operations/42/wait", ended)
    before = change_count.made()
    with Client(path) as client, contextlib.suppress(LxdError):
        client.get("/1.0")
        client.call("POST", "/1.0/x", {}, what="do it")
    assert change_count.made() - before == changes


def test_unanswered_writes_count_as_changes(unix_server: Any, tmp_path: Path) -> None:
    server, path = unix_server
    server.answers["POST", "/1.0/x"] = (200, {}, {"Transfer-Encoding": "chunked"})  # ends without an end
    for endpoint, changes in ((path, 1), (str(tmp_path / "nobody"), 0)):
        before = change_count.made()
        with contextlib.suppress(LxdError), Client(endpoint, timeout=0.5) as client:
            client.call("POST", "/1.0/x", {}, what="do it")
        assert change_count.made() - before == changes


def test_an_operation_that_fails_says_why(unix_server: Any) -> None:
    server, path = unix_server
    server.starts("POST", "/1.0/instances", operation("Running", 103))
    server.answers_with("GET", "/1.0/operations/42/wait", operation("Failure", 400, err="no room"))
    with Client(path) as client, pytest.raises(LxdError, match="^Failed to create instance i: no room$"):
        client.call("POST", "/1.0/instances", {}, what="create instance i")


def test_the_deadline_says_what_was_waited_for_and_how_far_it_was(unix_server: Any) -> None:
    server, path = unix_server
    running = operation("Running", 103, metadata={"download_progress": "rootfs: 12%", "other": "x"}, may_cancel=True)
    server.starts("POST", "/1.0/images", running)
    server.answers_with("GET", "/1.0/operations/42/wait", running)
    begun = time.monotonic()
    with Client(path) as client, pytest.raises(DeadlineExceeded) as caught:
        client.call("POST", "/1.0/images", {}, what="create image base", deadline=0.2)
    assert str(caught.value) == "Failed to create image base: not done after 0.2 s (download_progress: rootfs: 12%)"
    assert time.monotonic() - begun < 30
    assert server.requests[-1][:2] == ("DELETE", "/1.0/operations/42")


def test_a_busy_object_is_waited_for(unix_server: Any) -> None:
    server, path = unix_server
    one, other = {"instances": ["/1.0/instances/tor?project=x"]}, {"instances": ["/1.0/instances/lnd"]}
    task = {"class": "task", "status_code": 103, "status": "Running"}
    known = {
        "running": [
            {**task, "id": "ours", "resources": one},
            {**task, "id": "others", "resources": other},
            {**task, "id": "exec", "class": "websocket", "resources": one},
            {**task, "id": "nobody", "resources": None},
            {**task, "id": "cluster", "resources": {"instances": None}},
        ],
        "success": [{**task, "id": "done", "status_code": 200, "resources": one}],
    }
    server.answers_with("GET", "/1.0/operations", known)
    server.answers_with("GET", "/1.0/operations/ours/wait", {"id": "ours", "status_code": 400, "err": "it broke"})
    with Client(path) as client:
        client.settle(["/1.0/instances/tor"], "x")
    assert [request[1] for request in server.requests] == ["/1.0/operations", "/1.0/operations/ours/wait"]


# -- what the server is -----------------------------------------------------------------------------------------------


def test_api_extensions_are_read_once(unix_server: Any) -> None:
    server, path = unix_server
    server.answers_with("GET", "/1.0", SERVER)
    with Client(path) as client:
        assert client.has("projects") and not client.has("instances_nic_limits_priority")
        client.require("network_acl", "network acl web")
        with pytest.raises(Unsupported) as caught:
            client.require("clustering", "target two")
    assert str(caught.value) == (
        f"target two needs the API extension clustering, which {path} (5.0.2) lacks: upgrade it"
    )
    assert len(server.requests) == 1


def test_message_to_an_untrusted_client_has_a_remedy(unix_server: Any) -> None:
    server, path = unix_server
    server.answers_with("GET", "/1.0", {**SERVER, "auth": "untrusted"})
    server.refuses("GET", "/1.0/profiles", 403, "not authorized")
    for ask in (lambda client: client.server, lambda client: client.get("/1.0/profiles")):
        with Client(path) as client, pytest.raises(Forbidden) as caught:
            ask(client)
        message = f"{path} does not trust our client certificate: add it there with a trust token"
        assert str(caught.value) == message


# -- no answer --------------------------------------------------------------------------------------------------------


def test_a_missing_socket(tmp_path: Path) -> None:
    with Client(f"{tmp_path}/none") as client, pytest.raises(Unreachable) as caught:
        client.get("/1.0")
    assert str(caught.value) == f"No answer at {tmp_path}/none: check that LXD is running there"
    with Client(f"{tmp_path}/none") as client, pytest.raises(Unreachable, match="No answer"):
        client.connect()


def test_a_socket_without_a_listener(tmp_path: Path) -> None:
    path = f"{tmp_path}/dead"
    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind(path)
    with Client(path) as client, pytest.raises(Unreachable, match=f"No answer at {path}: check that LXD is running"):
        client.get("/1.0")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """For root no permission is ever missing: be somebody else."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_socket_without_permission(unix_server: Any) -> None:
    path = unix_server[1]
    os.chmod(path, 0)
    for ask in (lambda client: client.get("/1.0"), lambda client: client.connect()):
        with Client(path) as client, nobody(), pytest.raises(Forbidden) as caught:
            ask(client)
        assert str(caught.value) == (
            f"Permission denied on {path}: join the group that owns it "
            "(`sudo usermod -aG lxd $USER`, then log in again), or run as root"
        )


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    path = f"{tmp_path}/mute"
    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind(path)
        raw.listen()
        with Client(path, timeout=0.2) as client, pytest.raises(Unreachable) as caught:
            client.get("/1.0")
    assert str(caught.value) == f"{path} did not answer within 0.2 s"


def test_a_server_that_hangs_up(tmp_path: Path) -> None:
    path = f"{tmp_path}/rude"

    def hang_up(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        connection.recv(16)
        connection.close()

    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind(path)
        raw.listen()
        threading.Thread(target=hang_up, args=[raw], daemon=True).start()
        with Client(path) as client, pytest.raises(Unreachable) as caught:
            client.get("/1.0")
    assert str(caught.value) == f"{path} closed the connection: check that LXD is running there"


def test_a_port_without_a_listener(certificates: dict[str, tuple[Path, Path]]) -> None:
    with socket.socket() as raw:
        raw.bind(("127.0.0.1", 0))
        port = raw.getsockname()[1]
    certificate, key = certificates["client"]
    with Client(f"https://127.0.0.1:{port}", client_cert=str(certificate), client_key=str(key)) as client:
        for ask in (lambda: client.get("/1.0"), client.connect):
            with pytest.raises(Unreachable, match=f"No answer at https://127.0.0.1:{port}: check that LXD is running"):
                ask()


# -- TLS --------------------------------------------------------------------------------------------------------------


def test_only_the_pinned_certificate_is_accepted(tls_server: Any, certificates: Any) -> None:
    certificate, key = certificates["client"]
    pin = str(certificates["server"][0])
    with tls_server(*certificates["server"]) as (server, url):
        server.answers_with("GET", "/1.0", SERVER)
        with Client(url, client_cert=str(certificate), client_key=str(key), server_cert=pin) as client:
            assert client.server["environment"]["server_version"] == "5.0.2"
            client.connect().close()


@pytest.mark.parametrize("pin", ["other", None])
def test_any_other_server_is_refused(tls_server: Any, certificates: Any, pin: str | None) -> None:
    certificate, key = certificates["client"]
    server_cert = str(certificates[pin][0]) if pin else None
    with tls_server(*certificates["server"]) as (server, url):
        with Client(url, client_cert=str(certificate), client_key=str(key), server_cert=server_cert) as client:
            for ask in (lambda: client.get("/1.0"), client.connect):
                with pytest.raises(Unreachable) as caught:
                    ask()
                assert str(caught.value) == f"{url} is not what it should be: " + (
                    f"it does not show the certificate pinned in {server_cert}"
                    if pin
                    else "this machine does not trust its certificate: name it in server_cert"
                )
        assert server.requests == []


@pytest.mark.parametrize("through_intermediate", [False, True])
def test_a_server_that_an_authority_vouches_for(tls_server: Any, issue: Issue, through_intermediate: bool) -> None:
    """One that was renewed, too: only the root is known here."""
    certificate, key = issue("client")
    for name in ("server", "renewed"):
        with tls_server(*issue(name, address="127.0.0.1", through_intermediate=through_intermediate)) as (server, url):
            server.answers_with("GET", "/1.0", SERVER)
            with Client(url, client_cert=str(certificate), client_key=str(key), server_cert=str(issue.root)) as client:
                assert client.server["environment"]["server_version"] == "5.0.2"
                client.connect().close()


@pytest.mark.parametrize(
    ("address", "days", "root", "why"),
    [
        ("127.0.0.2", 1, "root.crt", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ("127.0.0.1", -1, "root.crt", "certificate has expired"),
        ("127.0.0.1", 1, "other.crt", "unable to get local issuer certificate"),
    ],
)
def test_a_server_that_no_authority_vouches_for(
    tls_server: Any, issue: Issue, address: str, days: int, root: str, why: str
) -> None:
    certificate, key = issue("client")
    server_cert = str(issue.root.with_name(root))
    with tls_server(*issue("server", address=address, days=days)) as (server, url):
        with Client(url, client_cert=str(certificate), client_key=str(key), server_cert=server_cert) as client:
            for ask in (lambda: client.get("/1.0"), client.connect):
                with pytest.raises(Unreachable) as caught:
                    ask()
                assert str(caught.value) == (
                    f"{url} is not what it should be: {server_cert} does not vouch for its certificate ({why}): give "
                    "the server another one, or call it by a name that its certificate has"
                )
        assert server.requests == []


def test_names_are_quoted_as_one_segment() -> None:
    assert quoted("a/b c?d") == "a%2Fb%20c%3Fd"
