# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm host add`, `drain`, `restore` and `remove` refuse, and what they plan; servers answer as LXD 5.0 does."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from bcm_cli import cluster

_CERTIFICATE = ssl.DER_cert_to_PEM_cert(b"certificate")
_GB = 1_000_000_000


class _Server:
    """A server at 192.0.2.N; ``answers`` replace those of one that was only prepared."""

    def __init__(self, name: str, number: int, members: tuple[str, ...] = (), **answers: Any) -> None:
        environment = {"server": "lxd", "server_version": "5.0.2", "server_name": name, "certificate": _CERTIFICATE}
        address = f"192.0.2.{number}:8443"
        self.server = {
            "config": {"core.https_address": answers.pop("listens", address)},
            "environment": {**environment, "server_clustered": bool(members), **answers.pop("environment", {})},
        }
        self.tool = "lxc"
        self.endpoint = SimpleNamespace(name=f"unix:///{name}")
        self.project = "bcm-office-regtest"
        self._answers = {
            "storage-pools": [{"name": "default", "driver": "btrfs", "used_by": ["/1.0/profiles/default"]}],
            "images": [],
            "projects": ["/1.0/projects/default"],
            "networks": [{"name": "eth0", "managed": False}],
            "instances": [],
            "cluster/members": [
                {"server_name": member, "status": "Online", "roles": [], "url": f"https://{member}:8443"}
                for member in members
            ],
            "resources": {"cpu": {"total": 4}, "memory": {"total": 8 * _GB, "used": 2 * _GB}},
            "storage-pools/default/resources": {"space": {"total": 50 * _GB, "used": 0}},
            **answers,
        }

    def get(self, path: str, **_params: Any) -> Any:
        return self._answers[path.removeprefix("/1.0/")]


def _join(first: _Server, machine: _Server, name: str | None = None) -> cluster.Join | None:
    return cluster.plan_join(first, machine, name)  # type: ignore[arg-type]


def test_server_without_a_cluster_becomes_one_first() -> None:
    plan = cluster.Join("two", "192.0.2.11:8443", ("one", "192.0.2.10:8443"))
    assert _join(_Server("one", 10), _Server("two", 11)) == plan
    clustered = _Server("one", 10, ("one",))
    assert _join(clustered, _Server("two", 11), "three") == cluster.Join("three", "192.0.2.11:8443", None)
    assert _join(clustered, _Server("one", 11, ("one",))) is None


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (_Server("one", 11), "one is the name of a member already: choose another one with --name"),
        (_Server("two", 11, ("two",), environment={"certificate": "x"}), "is a member of another cluster"),
        (_Server("two", 11, environment={"server_version": "5.21"}), "runs lxd 5.21, and the endpoint lxd 5.0.2"),
        (_Server("two", 11, images=["/1.0/images/a"]), "has what would be lost: images/a"),
        (_Server("two", 11, networks=[{"name": "br", "managed": True}]), "has what would be lost: networks/br"),
        (_Server("two", 11, **{"storage-pools": []}), "has the storage pools none, and the endpoint has default ("),
        (_Server("two", 11, listens="127.0.0.1:8443"), "no address that other machines can reach"),
        (_Server("two", 11, listens=":8443"), "no address that other machines can reach"),
    ],
)
def test_machine_that_cannot_join_is_refused(machine: _Server, message: str) -> None:
    with pytest.raises(BcmError) as raised:
        _join(_Server("one", 10), machine)
    assert message in str(raised.value)


def test_join_is_authorized_by_the_token_of_that_very_cluster() -> None:
    plan = cluster.Join("two", "192.0.2.11:8443", None)
    told = {"addresses": ["192.0.2.10:8443"], "secret": "s", "expiresAt": "later", "fingerprint": "00"}
    with pytest.raises(BcmError, match="has another certificate than its token says"):
        cluster.join_request(plan, told, _CERTIFICATE)


def test_token_has_the_form_that_servers_decode() -> None:
    plan = cluster.Join("two", "192.0.2.11:8443", None)
    fingerprint = hashlib.sha256(b"certificate").hexdigest()
    told = {"addresses": ["192.0.2.10:8443"], "secret": "s", "expiresAt": "later", "fingerprint": fingerprint}
    body = cluster.join_request(plan, told, _CERTIFICATE)
    assert body["cluster_password"] == body["cluster_token"]
    assert json.loads(base64.b64decode(body["cluster_token"])) == {
        "server_name": "two", "fingerprint": fingerprint, "addresses": ["192.0.2.10:8443"], "secret": "s",
        "expires_at": "later",
    }  # fmt: skip


def _instance(name: str, usage: int = _GB, *, rule: str = "auto", **devices: Any) -> dict[str, Any]:
    root = {"type": "disk", "pool": "default", "path": "/"}
    return {
        "name": name,
        "project": "default",
        "location": "two",
        "expanded_config": {"cluster.evacuate": rule},
        "expanded_devices": {"root": root, "eth0": {"type": "nic", "network": "bridge"}, **devices},
        "state": {"memory": {"usage": usage}, "disk": {"root": {"usage": -1}}},
    }


def _drain(*instances: dict[str, Any], members: tuple[str, ...] = ("one", "two")) -> cluster.Drain | None:
    server = _Server("one", 10, members, instances=list(instances))
    return cluster.plan_drain(server, "two", "default")  # type: ignore[arg-type]


def test_instances_move_unless_they_are_bound_to_their_machine() -> None:
    disk = {"type": "unix-block", "source": "/dev/sdb"}
    plan = _drain(_instance("a"), _instance("b", rule="stop"), _instance("c", disk=disk))
    assert plan == cluster.Drain(
        ("default/a",),
        ("default/b, as its cluster.evacuate says,", "default/c, whose device disk is one of the machine,"),
    )


@pytest.mark.parametrize(
    ("instance", "members", "message"),
    [
        (_instance("a", 7 * _GB), ("one", "two"), "one has not enough memory for what would move: 6.0 GB of 7.0 GB"),
        (_instance("a"), ("two",), "two is the only one that is online"),
        (
            _instance("a", coins={"type": "disk", "pool": "default", "source": "coins", "path": "/coins"}),
            ("one", "two"),
            "two cannot be drained: default/a has volume coins in a storage pool of that machine alone",
        ),
    ],
)
def test_member_that_cannot_be_drained_is_refused(
    instance: dict[str, Any], members: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BcmError) as raised:
        _drain(instance, members=members)
    assert message in str(raised.value)


def test_unknown_member_and_server_without_a_cluster_are_named() -> None:
    with pytest.raises(BcmError, match='Unknown member "tow": did you mean "two"'):
        cluster.plan_removal(_Server("one", 10, ("one", "two")), "tow")  # type: ignore[arg-type]
    with pytest.raises(BcmError, match="is in no cluster: `bcm host add` adds a machine to it"):
        cluster.plan_removal(_Server("one", 10), "two")  # type: ignore[arg-type]
    with pytest.raises(BcmError, match="one is the machine of the endpoint"):
        cluster.plan_removal(_Server("one", 10, ("one", "two")), "one")  # type: ignore[arg-type]


def test_member_brings_back_what_it_had() -> None:
    origin = {"volatile.evacuate.origin": "two"}
    instances = [
        {**_instance("a"), "location": "one", "config": origin},
        {**_instance("b"), "location": "one", "config": {"volatile.evacuate.origin": "three"}},
        {**_instance("c"), "location": "one", "config": {}},
    ]
    server = _Server("one", 10, ("one", "two"), instances=instances)
    assert cluster.plan_restore(server, "two") is None  # type: ignore[arg-type]
    _state(server, "Evacuated")
    assert cluster.plan_restore(server, "two") == ("default/a",)  # type: ignore[arg-type]
    _state(server, "Offline")
    with pytest.raises(BcmError, match="Member two does not answer: start it"):
        cluster.plan_restore(server, "two")  # type: ignore[arg-type]


def _state(server: _Server, status: str) -> None:
    """Give the second member a state."""
    server.get("/1.0/cluster/members")[1]["status"] = status


def test_only_a_member_that_is_silent_is_given_up() -> None:
    server = _Server("one", 10, ("one", "two"), instances=[_instance("a")], projects=[])
    with pytest.raises(BcmError, match="two answers, so it is not lost: remove it without --lost"):
        cluster.plan_removal(server, "two", lost=True)  # type: ignore[arg-type]
    with pytest.raises(BcmError, match="two has instance default/a: `bcm host drain two` moves instances"):
        cluster.plan_removal(server, "two")  # type: ignore[arg-type]
    _state(server, "Offline")
    with pytest.raises(BcmError, match="two does not answer: start it; if it is gone for good .* add --lost"):
        cluster.plan_removal(server, "two")  # type: ignore[arg-type]
    assert cluster.plan_removal(server, "two", lost=True) == ("instance default/a",)  # type: ignore[arg-type]


def test_drain_that_goes_on_without_the_command_is_awaited() -> None:
    states = [
        {"id": "1", "description": "Evacuating cluster member", "status_code": 103},
        {"id": "2", "description": "Evacuating cluster member", "status_code": 200},
        {"id": "3", "description": "Starting instance", "status_code": 103},
    ]
    server = _Server("one", 10, ("one", "two"), operations={"running": states})
    awaited: list[str] = []
    server.wait = lambda operation, **_more: awaited.append(operation.id)  # type: ignore[attr-defined]
    cluster.await_moves(server, "Evacuating cluster member", "drain two")  # type: ignore[arg-type]
    assert awaited == ["1"]
