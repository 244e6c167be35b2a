# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Others work on the same server, and some things take too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import ApplyError, reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import DeadlineExceeded, PreconditionFailed
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import parse
from tests.support import PATIENCE

pytestmark = pytest.mark.containers

NAME = "bcm-test-changes"
# Not pools, of which LXD 5.0 tells no ETag.
RESOURCES: list[dict[str, Any]] = [
    {"kind": "profile", "name": NAME},
    {"kind": "project", "name": NAME},
    {"kind": "network_acl", "name": NAME},
    {"kind": "network", "name": "bcmtestchanges", "config": {"ipv4.address": "none", "ipv6.address": "none"}},
    {"kind": "storage_volume", "name": NAME, "pool": "default"},
]
KINDS = [item["kind"] for item in RESOURCES]


@pytest.fixture(params=RESOURCES, ids=KINDS)
def resource(request: pytest.FixtureRequest, client: Client) -> Iterator[dict[str, Any]]:
    reconcile(client, [parse(request.param)])
    yield request.param
    known = {key: request.param[key] for key in ("kind", "name", "pool") if key in request.param}
    reconcile(client, [parse({**known, "state": "absent"})])


class Raced(Client):
    """A client that is always a little late: just before it writes, somebody else does."""

    def call(self, method: str, path: str, body: Any = None, **rest: Any) -> Any:
        if method == "PUT":
            theirs = {**body, "config": {**body["config"], "user.theirs": "1"}}
            project = rest.get("project", True)
            # in another thread, or it would count as a change of ours
            somebody = threading.Thread(
                target=super().call, args=(method, path, theirs), kwargs={"what": "be first", "project": project}
            )
            somebody.start()
            somebody.join()
        return super().call(method, path, body, **rest)


def test_foreign_change_before_the_write_is_not_overwritten(
    client: Client, resource: dict[str, Any], variables: dict[str, str]
) -> None:
    wanted = parse({**resource, "description": "ours"})
    with Raced(variables["bcm_test_endpoint"]) as raced, pytest.raises(ApplyError) as caught:
        reconcile(raced, [wanted])
    message = "it was changed after it was read; nothing was overwritten, run again"
    assert str(caught.value) == f"Failed to update {wanted.label}: {message}"
    assert isinstance(caught.value.outcome.work[0].error, PreconditionFailed)
    assert caught.value.outcome.changes == []
    assert client.get(wanted.path)["config"]["user.theirs"] == "1"
    reconcile(client, [wanted])
    assert client.get(wanted.path)["description"] == "ours"


def test_foreign_change_after_the_plan_is_not_overwritten(client: Client, resource: dict[str, Any]) -> None:
    wanted = parse({**resource, "description": "ours"})

    def meddle(*_unused: object) -> None:
        reconcile(client, [parse({**resource, "description": "theirs"})])

    with pytest.raises(ApplyError, match="it was changed after it was read; nothing was overwritten, run again$"):
        reconcile(client, [wanted], progress=meddle)
    assert client.get(wanted.path)["description"] == "theirs"


class Later(Client):
    """A client that is always a little late: just before it makes something, somebody else does."""

    def call(self, method: str, path: str, body: Any = None, **rest: Any) -> Any:
        if method == "POST":
            super().call(method, path, {**body, "description": "theirs"}, **rest)
        return super().call(method, path, body, **rest)


@pytest.mark.parametrize("item", RESOURCES, ids=KINDS)
def test_concurrently_created_resource_is_read_and_updated(
    client: Client, item: dict[str, Any], variables: dict[str, str]
) -> None:
    wanted = parse({**item, "description": "ours"})
    try:
        with Later(variables["bcm_test_endpoint"]) as later:
            assert [change["action"] for change in reconcile(later, [wanted]).changes] == ["update"]
        assert client.get(wanted.path)["description"] == "ours"
    finally:
        known = {key: item[key] for key in ("kind", "name", "pool") if key in item}
        reconcile(client, [parse({**known, "state": "absent"})])


def test_the_deadline_of_an_operation(client: Client, instance: str) -> None:
    body = {"command": ["sleep", "600"], "environment": {}, "wait-for-websocket": False, "interactive": False}
    operation = client.send("POST", f"/1.0/instances/{instance}/exec", body)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"^Failed to sleep well: not done after 1.5 s \(running\)$"):
        client.wait(operation, what="sleep well", deadline=1.5)
    assert 1.5 <= time.monotonic() - begun < PATIENCE


def test_operation_of_a_killed_run_is_awaited(client: Client, variables: dict[str, str]) -> None:
    path = f"/1.0/instances/{NAME}"
    image = client.get(f"/1.0/images/aliases/{variables['bcm_test_image'].replace('/', '%2F')}")["target"]
    devices = {"root": {"type": "disk", "pool": variables["bcm_test_pool"], "path": "/"}}
    one = {"kind": "instance", "name": NAME}
    running = {**one, "image": image, "devices": devices, "state": "started"}
    source = {"type": "image", "fingerprint": image}
    try:
        client.send("POST", "/1.0/instances", {"name": NAME, "devices": devices, "source": source})
        reconcile(client, [parse(running)])
        assert client.get(path)["status"] == "Running"
        client.send("PUT", f"{path}/state", {"action": "stop", "force": True})
        reconcile(client, [parse(running)])
        client.send("PUT", f"{path}/state", {"action": "restart", "force": True})
    finally:
        began = time.monotonic()
        # Its systemd does not listen yet.
        reconcile(client, [parse({**one, "state": "absent"})])
    assert client.find(path) is None
    assert time.monotonic() - began < PATIENCE


def test_contents_of_a_volume_move_with_it_to_another_pool(client: Client, variables: dict[str, str]) -> None:
    def devices(pool: str) -> dict[str, dict[str, str]]:
        return {
            "root": {"type": "disk", "pool": pool, "path": "/"},
            "data": {"type": "disk", "pool": pool, "source": NAME, "path": "/data"},
        }

    first, second = variables["bcm_test_pool"], NAME
    one = {"kind": "instance", "name": NAME, "image": variables["bcm_test_image"], "replace": True, "profiles": []}
    volume = {"kind": "storage_volume", "name": NAME}
    pool = {"kind": "storage_pool", "name": second, "driver": "dir"}
    try:
        before = {**one, "state": "started", "devices": devices(first)}
        reconcile(client, [parse(item) for item in (pool, {**volume, "pool": first}, before)])
        written = "echo coins >/data/wallet; chown 801:801 /data/wallet; chmod 600 /data/wallet; sync"
        lxd_exec.run(client, NAME, lxd_exec.Command(["sh", "-c", written]), deadline=PATIENCE)
        reconcile(client, [parse({**one, "state": "stopped"})])
        reconcile(client, [parse({**volume, "pool": second, "source": {"pool": first}})])
        path = f"/1.0/storage-pools/{first}/volumes/custom/{NAME}"
        assert client.get(path)["config"]["user.bcm.moved_to"] == second
        moved = reconcile(client, [parse({**one, "state": "started", "devices": devices(second)})])
        assert [change["action"] for change in moved.changes] == ["replace"]
        reconcile(client, [parse({**volume, "pool": first, "state": "absent"})])
        command = lxd_exec.Command(["stat", "--format=%u:%g %a %s", "/data/wallet"])
        found = lxd_exec.run(client, NAME, command, deadline=PATIENCE)
        assert found.stdout == b"801:801 600 6\n"
    finally:
        gone = [{"kind": "instance", "name": NAME, "force_stop": True}, {**volume, "pool": first}]
        gone += [{**volume, "pool": second}, pool]
        reconcile(client, [parse({**item, "state": "absent"}) for item in gone])
