# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine over a server in memory, which keeps its own rules: nothing is made of, or taken from under, something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils import _changes
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import ApplyError, Work, order, reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import (
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
        self.endpoint = SimpleNamespace(name="memory")

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
        if "recursion" not in query:
            return self.read(path)[0]
        self.reads.append(path)
        return [dict(body) for key, body in [*self.objects.items()] if key.rpartition("/")[0] == path]

    def find(self, path: str, **_query: Any) -> Any:
        return self.objects.get(path)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, what: str, **_query: Any) -> None:
        self.before_write(path)
        self.log.append((method, what))
        if what in self.broken:
            raise LxdError(f"Failed to {what}: it broke")
        _changes.note()
        if method == "DELETE":
            self._unused(path)
            del self.objects[path]
        elif path.endswith("/state") and body is not None:
            name = path.removesuffix("/state")
            self.objects[name]["status"] = "Running" if body["action"] == "start" else "Stopped"
        elif method == "PUT" and body is not None:
            self.objects[path].update(body)
        elif body is not None:
            new = f"{path}/{body['name']}"
            missing = self._references(new, body) - {self._reference(key) for key in [*self.objects]}
            if missing or new in self.objects:
                raise Conflict(f"{what}: exists, or lacks {missing}")
            made = {"config": {}, "devices": {}, "description": "", **body}
            self.objects[new] = {**made, "status": "Stopped"} if path == "/1.0/instances" else made

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


def test_what_is_unwanted_goes_after_what_no_longer_needs_it() -> None:
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


def works(*items: dict[str, Any]) -> list[Work]:
    return [Work(parse(item), None, []) for item in items]


def test_what_is_wanted_waits_for_what_it_refers_to() -> None:
    assert order(works(NETWORK, ACL)) == {0: {1}, 1: set()}


def test_what_is_to_go_waits_for_what_refers_to_it() -> None:
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


def test_what_is_listed_twice_is_refused() -> None:
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


def test_a_server_that_cannot_do_it_is_left_as_it_is() -> None:
    server = Memory()
    server.extensions.remove("network_acl")
    with pytest.raises(Unsupported, match="network acl acl needs network_acl"):
        apply(server, POOL, ACL)
    assert server.log == []


def test_resources_are_told_as_they_are_afterwards() -> None:
    outcome = reconcile(Memory(), [parse(PROFILE), parse(POOL)])  # type: ignore[arg-type]
    assert set(outcome.resources) == {"profile/prof", "storage_pool/pool"}
    assert (outcome.resources["profile/prof"] or {})["devices"] == PROFILE["devices"]
    assert [d["before_header"] for d in outcome.diff] == ["profile prof (create)", "storage pool pool (create)"]


# -- applying ---------------------------------------------------------------------------------------------------------


def test_what_does_not_depend_on_each_other_is_done_side_by_side() -> None:
    server, together = Memory(), threading.Barrier(3)
    server.before_write = lambda path: together.wait(timeout=10)
    apply(server, *({"kind": "profile", "name": name} for name in "abc"))


def test_a_failure_stops_what_depends_on_it_and_nothing_else() -> None:
    server = Memory()
    server.broken = {"create storage pool pool"}
    with pytest.raises(ApplyError) as caught:
        apply(server, *ALL)
    words = str(caught.value).split("; ")
    assert words[0] == "Failed to create storage pool pool: it broke"
    assert "storage volume pool/vol was left as it is, since storage pool pool failed" in words
    assert any(word.startswith("instance i was left as it is, since ") for word in words)
    assert len(words) == 4
    assert {change["name"] for change in caught.value.outcome.changes} == {"acl", "net"}
    server.broken.clear()
    assert len(apply(server, *ALL)) == 4


def test_a_resource_that_fails_half_way_tells_what_was_done() -> None:
    server = Memory()
    server.broken = {"start instance i"}
    with pytest.raises(ApplyError, match="^Failed to start instance i: it broke$") as caught:
        apply(server, {"kind": "instance", "name": "i", "image": "base", "state": "started"})
    assert [change["action"] for change in caught.value.outcome.changes] == ["create"]


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


def test_what_was_changed_after_the_plan_is_not_written_over() -> None:
    server = Memory()
    apply(server, {"kind": "profile", "name": "p", "config": {"user.x": "1"}})

    def meddle(*_unused: object) -> None:
        server.objects["/1.0/profiles/p"]["config"] = {"user.x": "1", "user.theirs": "1"}

    wanted = parse({"kind": "profile", "name": "p", "config": {"user.x": "2"}})
    with pytest.raises(ApplyError) as caught:
        reconcile(server, [wanted], progress=meddle)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "Failed to update profile p: somebody changed it after it was read; nothing was overwritten, run again"
    )
    assert isinstance(caught.value.outcome.work[0].error, PreconditionFailed)
    assert server.objects["/1.0/profiles/p"]["config"] == {"user.x": "1", "user.theirs": "1"}


def test_what_was_deleted_after_the_plan() -> None:
    server = Memory()
    apply(server, {"kind": "profile", "name": "p"})
    changed = parse({"kind": "profile", "name": "p", "description": "new"})
    with pytest.raises(ApplyError, match="^Failed to update profile p: somebody deleted it meanwhile; run again$"):
        reconcile(server, [changed], progress=lambda *_: server.objects.pop("/1.0/profiles/p"))  # type: ignore[arg-type]
    gone = parse(absent({"kind": "profile", "name": "q"}))
    apply(server, {"kind": "profile", "name": "q"})
    reconcile(server, [gone], progress=lambda *_: server.objects.pop("/1.0/profiles/q"))  # type: ignore[arg-type]


def test_nothing_is_deleted_that_cannot_be_made_anew() -> None:
    server = Memory()
    item = {"kind": "instance", "name": "i", "image": "base"}
    apply(server, item)
    server.objects["/1.0/instances/i"]["config"] = {"volatile.base_image": FINGERPRINT}
    assert apply(server, {**item, "replace": True}) == []
    with pytest.raises(ApplyError, match='^Image "other" does not exist at memory$'):
        apply(server, {**item, "image": "other", "replace": True})
    assert "/1.0/instances/i" in server.objects
    assert all("wanted_image" not in key for key in server.objects["/1.0/instances/i"])
