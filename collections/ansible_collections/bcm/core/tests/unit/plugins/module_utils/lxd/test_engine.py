# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine over a server in memory, which keeps its own rules: nothing is made of, or taken from under, something."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._base import change_count
from ansible_collections.bcm.core.plugins.module_utils._lxd import handler_base, instance_handler
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import ApplyError, Work, order, reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import (
    Conflict,
    LxdError,
    NotFound,
    PreconditionFailed,
    Unsupported,
)
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import KINDS, parse

FINGERPRINT = "f" * 64


class Memory:
    """As much of a server as the engine needs. ``log`` holds the writes, ``reads`` the reads, ``broken`` what fails.

    Threads change ``objects``, so what goes through them goes through a copy.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/1.0/images/aliases/base": {"name": "base", "target": FINGERPRINT}}
        self.log: list[tuple[str, str]] = []
        self.reads: list[str] = []
        self.broken: set[str] = set()
        self.extensions = {"projects", "network_acl"}
        self.before_write: Callable[[str], object] = lambda path: None
        #: what liblxc is given for a container that is started now, and what running ones were given
        self.liblxc: Callable[[str, dict[str, Any]], str] | None = None
        self.given: dict[str, str] = {}
        self.states: dict[str, Any] = {}
        #: the states in which instances are found after attempts to shut them down that fail
        self.after_failures: list[str] = []
        self.ids = range(100000, 100000 + 10 * 65536)
        self.endpoint = SimpleNamespace(name="memory")
        self.server: dict[str, Any] = {"environment": {}}

    def require(self, extension: str, what: str) -> None:
        if extension not in self.extensions:
            raise Unsupported(f"{what} needs {extension}")

    def settle(self, paths: list[str], project: str) -> None:
        self.settled = paths

    def read(self, path: str, **_query: Any) -> tuple[dict[str, Any], str]:
        self.reads.append(path)
        if path not in self.objects:
            raise NotFound("Not found")
        return dict(self.objects[path]), "etag"

    def get(self, path: str, **query: Any) -> Any:
        if path == "/1.0/operations":
            return {}
        if "recursion" not in query:
            return self.states[path] if path in self.states else self.read(path)[0]
        self.reads.append(path)
        return [dict(body) for key, body in [*self.objects.items()] if key.rpartition("/")[0] == path]

    def find(self, path: str, **query: Any) -> Any:
        if path.endswith("/state"):
            return self.states.get(path)
        return self.get(path, **query) if "recursion" in query else self.objects.get(path)

    def not_found(self, message: str, _project: str) -> NotFound:
        return NotFound(message)

    def download(self, path: str, **_query: Any) -> bytes:
        name = path.removesuffix("/logs/lxc.conf")
        if name not in self.given:
            raise NotFound("Not found")
        return self.given[name].encode()

    def seen_from(self, _project: str) -> Memory:
        return self

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, what: str, **_query: Any) -> None:
        self.before_write(path)
        self.log.append((method, what))
        if what in self.broken:
            raise LxdError(f"Failed to {what}: it broke")
        change_count.note()
        if method == "DELETE":
            self._unused(path)
            del self.objects[path]
        elif path.endswith("/state") and body is not None:
            self._act(path.removesuffix("/state"), body["action"])
        elif method == "PUT" and body is not None:
            self.objects[path].update(body)
        elif method == "PATCH" and body is not None:
            config = {**self.objects[path]["config"], **body["config"], "volatile.idmap.next": self._all_ids()}
            # as LXD 5.0, which forgets a description that is not given
            self.objects[path].update({"config": config, "description": body.get("description", "")})
        elif path in self.objects and body is not None:
            new = f"{path.rpartition('/')[0]}/{body['name']}"
            self.objects[new] = {**self.objects.pop(path), "name": body["name"]}
        elif body is not None:
            new = f"{path}/{body['name']}"
            missing = self._references(new, body) - {self._reference(key) for key in [*self.objects]}
            if missing or new in self.objects:
                raise Conflict(f"{what}: exists, or lacks {missing}")
            made = {"config": {}, "devices": {}, "description": "", **body}
            source = made.pop("source", None) or {}
            if source.get("type") == "copy":
                origin = f"/1.0/storage-pools/{source['pool']}/volumes/custom/{source['name']}"
                made["config"] = dict(self.objects[origin]["config"])
            if path == "/1.0/instances":
                volatile = {"volatile.base_image": source["fingerprint"], "volatile.idmap.next": self._all_ids()}
                made["config"] = {**made["config"], **volatile}
                made["status"] = "Stopped"
            self.objects[new] = made

    def _all_ids(self) -> str:
        """The map of an instance that shares it."""
        return json.dumps([{"Isuid": True, "Hostid": self.ids.start, "Nsid": 0, "Maprange": len(self.ids)}])

    def _act(self, path: str, action: str) -> None:
        body = self.objects[path]
        if self.after_failures and action in ("stop", "restart"):
            body["status"] = self.after_failures.pop(0)
            raise LxdError("Failed shutting down instance: shutting down the container failed")
        if action == "restart" and body["status"] == "Frozen":
            raise LxdError("Instance is not running")
        if action in ("start", "restart") and self.liblxc:
            self.given[path] = self.liblxc(path, body)
        body["status"] = "Stopped" if action == "stop" else "Running"

    def _unused(self, path: str) -> None:
        every = [*self.objects.items()]
        users = [key for key, body in every if self._reference(path) in self._references(key, body)]
        if users:
            raise Conflict(f"{path} is used by {users}")

    @staticmethod
    def _reference(path: str) -> tuple[str, str]:
        parts = path.split("/")
        kind = next(kind.name for kind in KINDS.values() if path.startswith(kind.collection.split("{")[0]))
        return ("storage_volume", f"{parts[3]}/{parts[-1]}") if "volumes" in parts else (kind, parts[-1])

    def _references(self, path: str, body: Mapping[str, Any]) -> set[tuple[str, str]]:
        kind, name = self._reference(path)
        parents = {"pool": name.split("/")[0]} if kind == "storage_volume" else {}
        return set(KINDS[kind].refers({**parents, **body})) - {("profile", "default")}


def apply(server: Memory, *items: dict[str, Any], check: bool = False) -> list[str]:
    """What was done, as words."""
    outcome = reconcile(server, [parse(item) for item in items], check=check)  # type: ignore[arg-type]
    return [f"{change['action']} {change['kind']} {change['name']}" for change in outcome.changes]


ACL = {"kind": "network_acl", "name": "acl"}
NETWORK = {"kind": "network", "name": "net", "config": {"security.acls": "acl"}}
POOL = {"kind": "storage_pool", "name": "pool", "driver": "dir"}
VOLUME = {"kind": "storage_volume", "pool": "pool", "name": "vol"}
PROFILE = {"kind": "profile", "name": "prof", "devices": {"root": {"type": "disk", "path": "/", "pool": "pool"}}}
INSTANCE = {
    "kind": "instance",
    "name": "i",
    "image": "base",
    "profiles": ["prof"],
    "devices": {
        "eth0": {"type": "nic", "network": "net"},
        "data": {"type": "disk", "path": "/data", "pool": "pool", "source": "vol"},
    },
}
ALL: list[dict[str, Any]] = [ACL, NETWORK, POOL, VOLUME, PROFILE, INSTANCE]


def absent(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in ("kind", "name", "pool") if key in item} | {"state": "absent"}


# -- order ------------------------------------------------------------------------------------------------------------


@given(items=st.permutations(ALL), gone=st.permutations(ALL))
def test_any_order_of_the_list_is_carried_out_in_an_order_that_works(
    items: list[dict[str, Any]], gone: list[dict[str, Any]]
) -> None:
    server = Memory()
    assert len(apply(server, *items)) == len(ALL)
    assert apply(server, *items) == []
    assert len(apply(server, *(absent(item) for item in gone))) == len(ALL)
    assert apply(server, *(absent(item) for item in gone)) == []
    assert list(server.objects) == ["/1.0/images/aliases/base"]


def test_unwanted_resource_is_deleted_after_its_users_change() -> None:
    """An instance that loses its network and gets another one is changed before the network goes."""
    server = Memory()
    apply(server, *ALL)
    moved = {**INSTANCE, "devices": {"eth0": {"type": "nic", "network": "new"}}}
    new = {"kind": "network", "name": "new"}
    done = apply(server, absent(VOLUME), absent(NETWORK), absent(ACL), moved, new)
    assert sorted(done) == sorted(
        ["delete storage_volume pool/vol", "delete network net", "delete network_acl acl",
         "update instance i", "create network new"]
    )  # fmt: skip


@pytest.mark.parametrize("item", [ACL, {**NETWORK, "config": {}}, POOL, {"kind": "project", "name": "p"}, INSTANCE])
@pytest.mark.parametrize("other", ["the same", "another"])
def test_concurrently_created_resource_is_updated(item: dict[str, Any], other: str) -> None:
    server = Memory()
    apply(server, *(thing for thing in ALL if item is INSTANCE and thing is not INSTANCE))
    wanted = {**item, "description": "ours"}
    theirs = wanted if other == "the same" else {**wanted, "description": "theirs"}

    def meanwhile(_path: str) -> None:
        server.before_write = lambda path: None
        apply(server, theirs)

    server.before_write = meanwhile
    assert apply(server, wanted) == ([] if other == "the same" else [f"update {item['kind']} {item['name']}"])
    assert server.objects[parse(wanted).path]["description"] == "ours"
    assert apply(server, wanted) == []


def test_concurrently_created_foreign_resources_are_not_changed() -> None:
    server = Memory()
    wanted = {**ACL, "config": {"user.mark": "ours"}, "owner": {"user.mark": "ours"}}

    def meanwhile(_path: str) -> None:
        server.before_write = lambda path: None
        apply(server, {**ACL, "description": "theirs"})

    server.before_write = meanwhile
    with pytest.raises(ApplyError, match="there already, without the marks user.mark=ours, and left alone"):
        apply(server, wanted)
    assert server.objects["/1.0/network-acls/acl"]["description"] == "theirs"


def works(*items: dict[str, Any]) -> list[Work]:
    return [Work(parse(item), None, []) for item in items]


def test_resource_is_created_after_those_it_refers_to() -> None:
    assert order(works(NETWORK, ACL)) == {0: {1}, 1: set()}


def test_resource_is_deleted_after_those_that_refer_to_it() -> None:
    body = {"config": {"security.acls": "acl"}}
    network = Work(parse(absent(NETWORK)), body, [])
    acl = Work(parse(absent(ACL)), {}, [])
    assert order([acl, network]) == {0: {1}, 1: set()}


def test_an_acl_goes_when_no_network_is_on_its_way_out() -> None:
    """To see whether an ACL is in use, the server looks at each network, and fails when one vanishes meanwhile."""
    other = {"kind": "network", "name": "without"}
    assert order([Work(parse(absent(ACL)), {}, []), Work(parse(absent(other)), {}, [])]) == {0: {1}, 1: set()}


def test_access_lists_go_one_after_another_and_a_network_when_none_is_written() -> None:
    second = {"kind": "network_acl", "name": "second"}
    assert order([Work(parse(absent(ACL)), {}, []), Work(parse(absent(second)), {}, [])]) == {0: set(), 1: {0}}
    gone = Work(parse(absent({"kind": "network", "name": "without"})), {}, [])
    assert order([gone, *works(ACL)]) == {0: {1}, 1: set()}


def test_project_keeps_how_new_its_certificates_are() -> None:
    server, project = Memory(), {"kind": "project", "name": "p", "config": {"user.x": "1"}}
    apply(server, project)
    config = server.objects["/1.0/projects/p"]["config"]
    config |= {"user.bcm.authority": "2.7", "user.other": "1"}
    assert apply(server, project) == ["update project p"]
    assert apply(server, {**project, "config": {"user.x": "2"}}) == ["update project p"]
    marks = {key: value for key, value in server.objects["/1.0/projects/p"]["config"].items() if key[:5] == "user."}
    assert marks == {"user.x": "2", "user.bcm.authority": "2.7"}


def test_a_project_comes_before_what_lies_in_it_and_goes_after_it() -> None:
    project = {"kind": "project", "name": "p"}
    inside = {"kind": "profile", "name": "x", "project": "p"}
    assert order(works(inside, project)) == {0: {1}, 1: set()}
    gone = [Work(parse({**absent(item), "project": "p"}), {}, []) for item in (project, inside)]
    assert order(gone) == {0: {1}, 1: set()}


def test_a_circle_is_named_before_anything_is_done() -> None:
    server = Memory()
    image = {"kind": "image", "name": "own", "source": {"instance": "i"}}
    instance = {"kind": "instance", "name": "i", "image": "own"}
    with pytest.raises(LxdError) as caught:
        apply(server, {"kind": "profile", "name": "x"}, image, instance)
    words = str(caught.value).removeprefix("These resources wait for each other: ").split(", ")
    assert sorted(words) == ["image own", "instance i"]
    assert server.log == []


def test_a_resource_listed_twice_is_refused() -> None:
    with pytest.raises(LxdError, match="network acl acl is listed twice"):
        apply(Memory(), ACL, ACL)
    apply(Memory(), {"kind": "profile", "name": "a"}, {"kind": "profile", "name": "a", "project": "p"}, check=True)


# -- reading and planning ---------------------------------------------------------------------------------------------


def test_check_mode_plans_the_same_and_writes_nothing() -> None:
    server = Memory()
    planned = apply(server, *ALL, check=True)
    assert server.log == []
    assert apply(server, *ALL) == planned


def test_one_request_reads_all_resources_of_a_collection() -> None:
    server = Memory()
    items = [{"kind": "profile", "name": f"p{number}"} for number in range(9)]
    apply(server, *items)
    server.reads.clear()
    assert apply(server, *items) == []
    assert server.reads == ["/1.0/profiles"]
    assert server.settled == [f"/1.0/profiles/p{number}" for number in range(9)]


def test_a_server_without_the_extension_is_not_changed() -> None:
    server = Memory()
    server.extensions.remove("network_acl")
    with pytest.raises(Unsupported, match="network acl acl needs network_acl"):
        apply(server, POOL, ACL)
    assert server.log == []


def test_resources_are_reported_as_they_are_afterwards() -> None:
    outcome = reconcile(Memory(), [parse(PROFILE), parse(POOL)])  # type: ignore[arg-type]
    assert set(outcome.resources) == {"profile/prof", "storage_pool/pool"}
    assert (outcome.resources["profile/prof"] or {})["devices"] == PROFILE["devices"]
    assert [d["before_header"] for d in outcome.diff] == ["profile prof (create)", "storage pool pool (create)"]


# -- applying ---------------------------------------------------------------------------------------------------------


def test_independent_resources_are_changed_side_by_side() -> None:
    server, together = Memory(), threading.Barrier(3)
    server.before_write = lambda path: together.wait(timeout=10)
    apply(server, *({"kind": "profile", "name": name} for name in "abc"))


def test_failure_stops_dependent_resources_only() -> None:
    server = Memory()
    server.broken = {"create storage pool pool"}
    with pytest.raises(ApplyError) as caught:
        apply(server, *ALL)
    words = str(caught.value).split("; ")
    assert words[0] == "Failed to create storage pool pool: it broke"
    assert "storage volume pool/vol was left unchanged, since storage pool pool failed" in words
    assert any(word.startswith("instance i was left unchanged, since ") for word in words)
    assert len(words) == 4
    assert {change["name"] for change in caught.value.outcome.changes} == {"acl", "net"}
    server.broken.clear()
    assert len(apply(server, *ALL)) == 4


def test_failed_resource_reports_what_was_done() -> None:
    server = Memory()
    server.broken = {"start instance i"}
    with pytest.raises(ApplyError, match="^Failed to start instance i: it broke$") as caught:
        apply(server, {"kind": "instance", "name": "i", "image": "base", "state": "started"})
    assert [change["action"] for change in caught.value.outcome.changes] == ["create"]


@pytest.mark.parametrize(
    "said",
    [
        'Instance is busy running a "stop" operation',
        # Recorded of LXD 5.0.2 on a machine that had more to do than it could.
        "The DNS and DHCP service exited prematurely: Process exited with non-zero value 2 "
        '("dnsmasq: failed to create listening socket for 10.211.1.1: Address already in use")',
    ],
)
def test_a_fault_that_passes_is_waited_for(said: str) -> None:
    server, answers = Memory(), [said] * 2
    apply(server, {"kind": "instance", "name": "i", "image": "base"})

    def busy(_path: str) -> None:
        if answers:
            raise LxdError(answers.pop())

    server.before_write = busy
    assert apply(server, {"kind": "instance", "name": "i", "state": "absent"}) == ["delete instance i"]
    assert answers == []


def test_a_fault_that_does_not_pass_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    server, clock = Memory(), itertools.count()
    monkeypatch.setattr(handler_base.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(handler_base.time, "sleep", lambda _seconds: None)
    apply(server, {"kind": "profile", "name": "p"})

    def taken(_path: str) -> None:
        raise LxdError("dnsmasq: failed to create listening socket for 10.211.1.1: Address already in use")

    server.before_write = taken
    with pytest.raises(ApplyError, match="failed to create listening socket"):
        apply(server, {"kind": "profile", "name": "p", "state": "absent"})


def test_a_step_that_fails_half_way_counts_as_a_change() -> None:
    server = Memory()
    apply(server, {"kind": "instance", "name": "i", "image": "base", "state": "started"})
    server.broken = {"delete instance i"}
    with pytest.raises(ApplyError) as caught:
        apply(server, {"kind": "instance", "name": "i", "state": "absent"})
    assert server.objects["/1.0/instances/i"]["status"] == "Stopped"
    assert caught.value.outcome.changes == [{"kind": "instance", "name": "i", "action": "delete"}]
    with pytest.raises(ApplyError) as caught:
        apply(server, {"kind": "instance", "name": "i", "state": "absent"})
    assert caught.value.outcome.changes == []


def test_change_after_the_plan_is_not_overwritten() -> None:
    server = Memory()
    apply(server, {"kind": "profile", "name": "p", "config": {"user.x": "1"}})

    def meddle(*_unused: object) -> None:
        server.objects["/1.0/profiles/p"]["config"] = {"user.x": "1", "user.theirs": "1"}

    wanted = parse({"kind": "profile", "name": "p", "config": {"user.x": "2"}})
    with pytest.raises(ApplyError) as caught:
        reconcile(server, [wanted], progress=meddle)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "Failed to update profile p: it was changed after it was read; nothing was overwritten, run again"
    )
    assert isinstance(caught.value.outcome.work[0].error, PreconditionFailed)
    assert server.objects["/1.0/profiles/p"]["config"] == {"user.x": "1", "user.theirs": "1"}


def test_resource_that_was_deleted_after_the_plan() -> None:
    server = Memory()
    apply(server, {"kind": "profile", "name": "p"})
    changed = parse({"kind": "profile", "name": "p", "description": "new"})
    with pytest.raises(ApplyError, match="^Failed to update profile p: it was deleted meanwhile; run again$"):
        reconcile(server, [changed], progress=lambda *_: server.objects.pop("/1.0/profiles/p"))  # type: ignore[arg-type]
    gone = parse(absent({"kind": "profile", "name": "q"}))
    apply(server, {"kind": "profile", "name": "q"})
    reconcile(server, [gone], progress=lambda *_: server.objects.pop("/1.0/profiles/q"))  # type: ignore[arg-type]


# -- what is somebody else's -------------------------------------------------------------------------------------------

OURS = {"user.bcm.datacenter": "local"}
OWNED: list[dict[str, Any]] = [
    {"kind": "project", "name": "p"},
    {"kind": "storage_pool", "name": "x", "driver": "dir"},
    {"kind": "storage_volume", "pool": "pool", "name": "v", "project": "p"},
    {"kind": "network_acl", "name": "a"},
    {"kind": "network", "name": "n"},
    {"kind": "profile", "name": "f", "project": "p"},
    {"kind": "instance", "name": "j", "image": "base"},
]


@pytest.mark.parametrize("item", OWNED, ids=lambda item: item["kind"])
@pytest.mark.parametrize("marks", [{}, {"user.bcm.datacenter": "other"}], ids=["none", "another's"])
def test_foreign_resources_are_not_changed(item: dict[str, Any], marks: dict[str, str]) -> None:
    server = Memory()
    apply(server, POOL)
    apply(server, {**item, "config": marks})
    log = list(server.log)
    owned = {**item, "owner": OURS, "description": "new"}
    with pytest.raises(LxdError) as caught:
        apply(server, {"kind": "profile", "name": "first"}, owned)
    assert f"{item['kind'].replace('_', ' ')} " in str(caught.value)
    project = " --project p" if item.get("project") else ""
    assert f"set {item['pool'] + ' ' if 'pool' in item else ''}{item['name']} user.bcm.datacenter=local{project}`" in (
        str(caught.value)
    )
    outcome = reconcile(server, [parse({**absent(item), "owner": OURS, "project": item.get("project")})])  # type: ignore[arg-type]
    assert (outcome.changes, len(outcome.left)) == ([], 1)
    assert server.log == log


@pytest.mark.parametrize("item", OWNED, ids=lambda item: item["kind"])
def test_marked_resources_are_changed_and_deleted(item: dict[str, Any]) -> None:
    server = Memory()
    apply(server, POOL)
    marked = {**item, "owner": OURS, "config": OURS}
    assert len(apply(server, marked)) == 1
    assert len(apply(server, {**marked, "description": "new"})) == 1
    assert len(apply(server, {**absent(item), "owner": OURS, "project": item.get("project")})) == 1


# -- replacing --------------------------------------------------------------------------------------------------------

ROOT = {"root": {"type": "disk", "path": "/", "pool": "pool"}}
NIC = {"eth0": {"type": "nic", "network": "net", "ipv4.address": "10.0.0.5"}}
OLD, NEW = "a" * 64, "b" * 64
REPLACED: dict[str, Any] = {
    "kind": "instance", "name": "i", "image": "bcm/new", "state": "started", "replace": True, "profiles": [],
    "config": {"user.x": "new", "boot.autostart": "true"}, "devices": {**ROOT, **NIC},
}  # fmt: skip


def deployed() -> Memory:
    """A server with an instance that runs, of an image that is not the newest."""
    server = Memory()
    server.objects["/1.0/images/aliases/bcm/new"] = {"name": "bcm/new", "target": NEW}
    server.objects["/1.0/images/aliases/bcm%2Fnew"] = {"name": "bcm/new", "target": NEW}
    apply(server, POOL, {"kind": "network", "name": "net"})
    server.objects["/1.0/instances/i"] = {
        "name": "i", "status": "Running", "description": "", "profiles": [],
        "config": {"volatile.base_image": OLD, "user.x": "old", "boot.autostart": "true"},
        "devices": {**ROOT, **NIC},
    }  # fmt: skip
    server.log.clear()
    return server


def instances(server: Memory) -> dict[str, tuple[str, str, str]]:
    """Image, status and a setting of each instance."""
    return {
        path.rpartition("/")[2]: (
            body["config"].get("volatile.base_image", "")[:1], body["status"], body["config"].get("user.x", "")
        )
        for path, body in server.objects.items()
        if path.startswith("/1.0/instances/")
    }  # fmt: skip


class Killed(BaseException):
    """The run was killed."""


def killed_at(server: Memory, write: int) -> bool:
    """Run up to the write of that number; whether there was one."""
    count = 0

    def count_down(_path: str) -> None:
        nonlocal count
        count += 1
        if count == write:
            raise Killed

    server.before_write = count_down
    try:
        apply(server, REPLACED)
    except Killed:
        return True
    finally:
        server.before_write = lambda path: None
    return False


def test_an_instance_is_put_aside_until_the_new_one_runs() -> None:
    server = deployed()
    assert apply(server, REPLACED, check=True) == ["replace instance i"]
    assert server.log == []
    assert apply(server, REPLACED) == ["replace instance i"]
    assert instances(server) == {"i": ("b", "Running", "new")}
    what = [what for _method, what in server.log]
    assert what.index("start instance i") < what.index("delete what was replaced by instance i")
    assert apply(server, REPLACED) == []


@pytest.mark.parametrize("fault", ["create instance i", "start instance i", "put aside instance i"])
def test_an_instance_is_back_if_the_new_one_cannot_be_made(fault: str) -> None:
    server = deployed()
    before = dict(server.objects["/1.0/instances/i"])
    server.broken = {fault}
    if fault.startswith("start"):  # the former one can be started
        server.before_write = lambda path: server.broken.clear() if path.endswith("-replaced") else None
    with pytest.raises(ApplyError, match=f"^Failed to {fault}: it broke; the former instance is back$") as caught:
        apply(server, REPLACED)
    assert caught.value.outcome.changes != []
    after = server.objects["/1.0/instances/i"]
    after["config"] = {key: value for key, value in after["config"].items() if key != "user.bcm.started"}
    assert {key: after[key] for key in before} == before
    assert list(instances(server)) == ["i"]


@pytest.mark.parametrize(("status", "asked"), [("Running", True), ("Stopped", False)])
def test_what_an_instance_wants_is_run_before_it_is_replaced(
    status: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = deployed()
    server.objects["/1.0/instances/i"]["status"] = status
    server.given[f"/1.0/instances/i/files?path={instance_handler.BEFORE_REPLACEMENT}"] = "#!/bin/sh"
    results = [ExecResult(1, b"", b"the volume is full"), ExecResult(0, b"", b"")]
    monkeypatch.setattr(instance_handler.lxd_exec, "run", lambda *_words, **_more: results.pop(0))
    if asked:
        with pytest.raises(
            ApplyError, match=r"before-replacement in it failed: the volume is full: nothing was changed"
        ):
            apply(server, REPLACED)
        assert server.log == []
        assert instances(server) == {"i": ("a", "Running", "old")}
    assert apply(server, REPLACED) == ["replace instance i"]
    assert len(results) == (0 if asked else 2)


def test_a_replacement_that_was_killed_anywhere_is_completed() -> None:
    write = 1
    while killed_at(server := deployed(), write):
        planned = apply(server, REPLACED, check=True)
        assert apply(server, REPLACED) == planned
        assert instances(server) == {"i": ("b", "Running", "new")}
        assert server.objects["/1.0/instances/i"]["devices"] == {**ROOT, **NIC}
        assert apply(server, REPLACED) == []
        write += 1
    assert write > 6


def test_a_replacement_that_was_killed_anywhere_is_undone_if_the_old_image_is_wanted_again() -> None:
    write = 1
    while killed_at(server := deployed(), write):
        server.objects["/1.0/images/aliases/bcm/new"]["target"] = OLD
        server.objects["/1.0/images/aliases/bcm%2Fnew"]["target"] = OLD
        apply(server, REPLACED)
        assert instances(server) == {"i": ("a", "Running", "new")}
        assert server.objects["/1.0/instances/i"]["devices"] == {**ROOT, **NIC}
        assert "user.bcm.replaced" not in server.objects["/1.0/instances/i"]["config"]
        assert apply(server, REPLACED) == []
        write += 1
    assert write > 6


ISOLATED = {**REPLACED, "config": {**REPLACED["config"], "security.idmap.isolated": "true"}}


def isolated() -> Memory:
    """The same, in an id map of its own."""
    server = deployed()
    config = server.objects["/1.0/instances/i"]["config"]
    config |= {"security.idmap.isolated": "true", "volatile.idmap.base": "165536"}
    return server


def test_new_instance_takes_over_the_id_map_of_the_former_one() -> None:
    server = isolated()
    assert apply(server, ISOLATED) == ["replace instance i"]
    assert server.objects["/1.0/instances/i"]["config"]["security.idmap.base"] == "165536"
    assert apply(server, ISOLATED) == []


def test_new_instance_does_not_take_over_a_shared_id_map() -> None:
    server = isolated()
    server.objects["/1.0/instances/i"]["config"]["security.idmap.isolated"] = "false"
    server.objects["/1.0/instances/i"]["config"]["volatile.idmap.base"] = "100000"
    assert apply(server, ISOLATED) == ["replace instance i"]
    assert server.objects["/1.0/instances/i"]["config"]["security.idmap.base"] != "100000"
    server = isolated()
    assert apply(server, REPLACED) == ["replace instance i"]
    assert "security.idmap.base" not in server.objects["/1.0/instances/i"]["config"]


SEPARATE = {**INSTANCE, "state": "started", "config": {"security.idmap.isolated": "true"}, "devices": {}}


def _id_maps(server: Memory) -> list[range]:
    bases = [
        int(body["config"]["security.idmap.base"])
        for path, body in server.objects.items()
        if path.startswith("/1.0/instances/") and body["config"].get("security.idmap.isolated") == "true"
    ]
    return [range(base, base + 65536) for base in sorted(bases)]


def test_instances_created_side_by_side_have_id_maps_that_do_not_overlap() -> None:
    server = Memory()
    many = [{**SEPARATE, "name": f"i{number}"} for number in range(9)]
    apply(server, POOL, PROFILE, *many)
    maps = _id_maps(server)
    assert len(maps) == 9
    assert all(former.stop <= latter.start for former, latter in itertools.pairwise(maps))
    assert maps[0].start >= server.ids.start + 65536  # the first map is that of instances that share one
    assert maps[-1].stop <= server.ids.stop
    assert apply(server, POOL, PROFILE, *many) == []


def test_instance_keeps_its_description_when_it_gets_an_id_map() -> None:
    server = Memory()
    wanted = {**SEPARATE, "description": "a node"}
    apply(server, POOL, PROFILE, wanted)
    assert server.objects["/1.0/instances/i"]["description"] == "a node"
    assert apply(server, POOL, PROFILE, wanted) == []


def test_id_map_chosen_by_the_server_is_replaced_when_it_is_that_of_another_instance() -> None:
    server = isolated()
    other = {"name": "i", "project": "other", "status": "Running"}
    ids = {"security.idmap.isolated": "true", "volatile.idmap.base": "165536"}
    server.objects["/1.0/instances/other"] = {**other, "config": ids}
    body = server.objects["/1.0/instances/i"]
    body["status"] = "Stopped"
    wanted = {**ISOLATED, "replace": False}
    apply(server, wanted)
    assert body["config"]["security.idmap.base"] != "165536"
    assert apply(server, wanted) == []


def test_server_without_enough_ids_gives_the_shared_id_map() -> None:
    server = Memory()
    server.ids = range(100000, 100000 + 65536)
    apply(server, POOL, PROFILE, SEPARATE)
    assert server.objects["/1.0/instances/i"]["config"]["security.idmap.base"] == "100000"
    assert apply(server, POOL, PROFILE, SEPARATE) == []


def test_new_instance_takes_over_the_mac_address_of_the_former_one() -> None:
    """The server's DHCP keeps an address for whom it leased it to, until it expires."""
    server = deployed()
    former = server.objects["/1.0/instances/i"]
    former["config"]["volatile.eth0.hwaddr"] = "00:16:3e:00:00:01"
    apply(server, REPLACED)
    assert server.objects["/1.0/instances/i"]["config"]["volatile.eth0.hwaddr"] == "00:16:3e:00:00:01"
    assert apply(server, REPLACED) == []
    server = deployed()
    former = server.objects["/1.0/instances/i"]
    former["config"]["volatile.eth0.hwaddr"] = "00:16:3e:00:00:01"
    former["devices"] = {**ROOT, "eth0": {**NIC["eth0"], "network": "other"}}
    apply(server, REPLACED)
    assert "volatile.eth0.hwaddr" not in server.objects["/1.0/instances/i"]["config"]


def test_server_without_free_ids_is_reported() -> None:
    server = deployed()

    def refuse(_path: str) -> None:
        raise LxdError("Not enough uid/gid available for the container")

    server.before_write = refuse
    with pytest.raises(ApplyError, match="give root 65536 more for each instance in /etc/subuid and /etc/subgid"):
        apply(server, {**ISOLATED, "name": "j", "image": "bcm/new"})


def test_an_instance_that_has_run_since_is_the_one_that_is_replaced() -> None:
    """It is shut down, not killed, and is what comes back if the next one cannot be made."""
    write = 1
    while killed_at(server := deployed(), write) and instances(server).get("i") != ("b", "Running", "new"):
        write += 1
    assert "i-replaced" in instances(server)
    server.objects["/1.0/images/aliases/bcm/new"]["target"] = "c" * 64
    server.objects["/1.0/images/aliases/bcm%2Fnew"]["target"] = "c" * 64
    server.broken = {"create instance i"}
    with pytest.raises(ApplyError, match="the former instance is back$"):
        apply(server, REPLACED)
    assert instances(server) == {"i": ("b", "Running", "new")}
    server.broken.clear()
    assert apply(server, REPLACED) == ["replace instance i"]


def test_remains_of_a_killed_replacement_are_deleted_with_the_instance() -> None:
    write = 1
    while killed_at(server := deployed(), write):
        assert apply(server, {"kind": "instance", "name": "i", "state": "absent"}) == ["delete instance i"]
        assert instances(server) == {}
        write += 1


def test_foreign_instance_with_a_similar_name_is_left_alone() -> None:
    server = deployed()
    server.objects["/1.0/instances/i-replaced"] = {"name": "i-replaced", "config": {}, "status": "Stopped"}
    with pytest.raises(ApplyError, match="^Failed to replace instance i: .* i-replaced, .*another .* name: rename it$"):
        apply(server, REPLACED)
    assert server.log == []
    assert instances(server) == {"i": ("a", "Running", "old"), "i-replaced": ("", "Stopped", "")}
    apply(server, {"kind": "instance", "name": "i", "state": "absent"})
    assert list(instances(server)) == ["i-replaced"]


# -- shutting down -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [["Stopped"], ["Running", "Stopping", "Stopped"], ["Running"], ["Ready", "Stopping"]])
@pytest.mark.parametrize("state", ["stopped", "restarted", "absent"])
def test_shutdown_that_is_reported_as_failed_is_followed_to_its_end(after: list[str], state: str) -> None:
    server = deployed()
    server.after_failures = list(after)
    apply(server, {"kind": "instance", "name": "i", "state": state})
    assert server.after_failures == []
    status = server.objects["/1.0/instances/i"]["status"] if state != "absent" else None
    assert status == {"stopped": "Stopped", "restarted": "Running", "absent": None}[state]


@pytest.mark.parametrize("after", ["Error", "Aborting"])
def test_a_shutdown_that_failed_is_an_error(after: str) -> None:
    server = deployed()
    server.after_failures = [after]
    with pytest.raises(ApplyError, match="^Failed .*shutting down the container failed; see what keeps it"):
        apply(server, {"kind": "instance", "name": "i", "state": "stopped"})


def test_a_shutdown_has_a_deadline() -> None:
    server = deployed()
    server.after_failures = ["Running"] * 100
    with pytest.raises(ApplyError, match="see what keeps it from shutting down, or set force_stop$"):
        apply(server, {"kind": "instance", "name": "i", "state": "stopped", "deadline": 1})


# -- what takes effect at start ----------------------------------------------------------------------------------------

STARTED: dict[str, Any] = {
    "kind": "instance", "name": "i", "image": "base", "state": "started", "config": {"user.x": "1"},
}  # fmt: skip


def started() -> Memory:
    server = Memory()
    server.liblxc = lambda path, body: (
        f"lxc.log.file = {len(server.log)}\n"
        f"lxc.hook.pre-start = /proc/{len(server.log)}/exe callhook /var/lib/lxd default i start\n"
        f"lxc.net.0.link = veth{len(server.log):08x}\n"
        f"lxc.idmap = {body['config'].get('security.privileged', 'false')}\n"
    )
    apply(server, STARTED)
    return server


def test_an_instance_that_runs_as_it_was_started_is_left_alone() -> None:
    server = started()
    assert apply(server, STARTED) == []
    body = server.objects["/1.0/instances/i"]
    server._act("/1.0/instances/i", "restart")  # by hand, or with the machine
    assert apply(server, STARTED) == []
    assert apply(server, {**STARTED, "config": {"user.x": "2"}}) == ["update instance i"]
    assert body["config"]["user.bcm.started"]


def test_instance_started_by_hand_with_other_settings_is_restarted() -> None:
    """Even if he put them back, so that what the server says does not differ."""
    server = started()
    config = server.objects["/1.0/instances/i"]["config"]
    config["security.privileged"] = "true"
    server._act("/1.0/instances/i", "restart")
    del config["security.privileged"]
    assert apply(server, STARTED) == ["restart instance i"]
    assert server.given["/1.0/instances/i"].endswith("lxc.idmap = false\n")
    assert apply(server, STARTED) == []


def test_settings_changed_by_hand_but_not_in_use_are_restored_without_a_restart() -> None:
    server = started()
    server.objects["/1.0/instances/i"]["config"]["security.privileged"] = "true"
    assert apply(server, STARTED) == ["update instance i"]
    assert apply(server, STARTED) == []


@pytest.mark.parametrize("key", ["security.nesting", "raw.lxc", "linux.sysctl.net.x", "limits.kernel.nofile"])
def test_setting_that_takes_effect_at_start_restarts_the_instance(key: str) -> None:
    server = started()
    changed = {**STARTED, "config": {"user.x": "1", key: "1"}}
    assert apply(server, changed) == ["update instance i", "restart instance i"]
    assert apply(server, changed) == []


def test_instance_started_by_hand_is_restarted_if_its_settings_are_given() -> None:
    server = started()
    del server.objects["/1.0/instances/i"]["config"]["user.bcm.started"]
    assert apply(server, {"kind": "instance", "name": "i", "state": "started"}) == []
    assert apply(server, STARTED) == ["restart instance i"]


def test_a_paused_instance_is_restarted() -> None:
    server = started()
    server.objects["/1.0/instances/i"]["status"] = "Frozen"
    starts: list[str] = []
    server.liblxc = lambda path, body: starts.append(path) or "lxc.idmap = false"  # type: ignore[func-returns-value]
    assert apply(server, {**STARTED, "state": "restarted"}) == ["restart instance i"]
    assert starts == ["/1.0/instances/i"]
    assert server.objects["/1.0/instances/i"]["status"] == "Running"


# -- volumes and projects ---------------------------------------------------------------------------------------------

MOVED: dict[str, Any] = {
    "kind": "storage_volume", "pool": "new", "name": "v", "source": {"pool": "pool"}, "config": {"size": "2GiB"},
}  # fmt: skip


def with_volume() -> Memory:
    server = Memory()
    apply(server, POOL, {**POOL, "name": "new"}, {**VOLUME, "name": "v", "config": {"size": "1GiB", "user.data": "1"}})
    server.log.clear()
    return server


def test_a_volume_is_moved_from_another_pool_whatever_is_killed() -> None:
    write = 1
    while True:
        server, count = with_volume(), 0

        def count_down(_path: str) -> None:
            nonlocal count
            count += 1
            if count == write:  # noqa: B023
                raise Killed

        server.before_write = count_down
        try:
            apply(server, MOVED)
            break
        except Killed:
            server.before_write = lambda path: None
        assert "/1.0/storage-pools/new/volumes/custom/v" not in server.objects or write == 4
        apply(server, MOVED)
        assert [path for path in server.objects if "/volumes/" in path] == [
            "/1.0/storage-pools/pool/volumes/custom/v", "/1.0/storage-pools/new/volumes/custom/v",
        ]  # fmt: skip
        assert server.objects["/1.0/storage-pools/pool/volumes/custom/v"]["config"]["user.bcm.moved_to"] == "new"
        assert server.objects["/1.0/storage-pools/new/volumes/custom/v"]["config"]["size"] == "2GiB"
        write += 1
    assert write == 5


def test_a_project_with_volumes_is_not_deleted() -> None:
    server = Memory()
    apply(server, POOL, {"kind": "project", "name": "p", "config": {"features.storage.volumes": True}}, VOLUME)
    server.objects["/1.0/projects/p"]["used_by"] = ["/1.0/profiles/default?project=p", "/1.0/instances/i?project=p"]
    message = "Failed to delete project p: it holds instance i, storage volume pool/vol: delete these first"
    with pytest.raises(ApplyError, match=f"^{message}$"):
        apply(server, {"kind": "project", "name": "p", "state": "absent"})
    server.objects["/1.0/projects/p"]["used_by"].pop()
    apply(server, absent(VOLUME), {"kind": "project", "name": "p", "state": "absent"})
    assert "/1.0/projects/p" not in server.objects


@pytest.mark.parametrize("refusal", ["Not found", 'Log file name "lxc.conf" not valid'])
def test_server_that_does_not_give_out_the_configuration_of_liblxc(refusal: str) -> None:
    """LXD has none before the first start, and Incus refuses it."""

    def download(_path: str, **_query: Any) -> bytes:
        raise NotFound(refusal) if refusal == "Not found" else LxdError(refusal)

    client: Any = SimpleNamespace(download=download)
    assert instance_handler.InstanceHandler()._liblxc(client, parse({"kind": "instance", "name": "one"})) == ""


def test_a_change_is_not_lost_if_a_run_ends_before_the_restart() -> None:
    """As on Incus, which does not give out what liblxc was told."""
    server = Memory()
    apply(server, {**STARTED, "config": {"limits.kernel.nofile": "1"}})
    assert apply(server, {**STARTED, "config": {"limits.kernel.nofile": "1"}}) == []

    def kill(path: str) -> None:
        if path.endswith("/state"):
            raise Killed

    server.before_write = kill
    with pytest.raises(Killed):
        apply(server, {**STARTED, "config": {"limits.kernel.nofile": "2"}})
    server.before_write = lambda path: None
    assert apply(server, {**STARTED, "config": {"limits.kernel.nofile": "2"}}) == ["restart instance i"]
    assert apply(server, {**STARTED, "config": {"limits.kernel.nofile": "2"}}) == []


def test_instance_that_stops_while_it_is_asked_is_said_to_have_stopped() -> None:
    answers: list[Any] = [LxdError("Invalid PID '\ufffd'"), {"status": "Stopped", "network": None}]

    def get(_path: str, **_query: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, LxdError):
            raise answer
        return answer

    client: Any = SimpleNamespace(get=get, tool="incus")
    resource = parse({"kind": "instance", "name": "i", "state": "started", "wait_for": "address"})
    step = handler_base.Step("start", {}, {})
    with pytest.raises(LxdError, match="it stopped again by itself; `incus console i "):
        instance_handler.InstanceHandler().do_wait(client, resource, step)
