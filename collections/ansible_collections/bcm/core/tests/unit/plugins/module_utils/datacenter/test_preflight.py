# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter import preflight
from ansible_collections.bcm.core.plugins.module_utils._datacenter.preflight import Wanted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError, NotFound, Unsupported
from ansible_collections.bcm.core.plugins.module_utils._plan.model import Plan, Subnet
from ansible_collections.bcm.core.plugins.module_utils._plan.outline import outline

GIB = 2**30
MARKED = {"user.bcm.datacenter": "local"}


class FakeClient:
    """An endpoint as a mapping of paths to answers."""

    def __init__(self, answers: dict[str, Any], extensions: list[str] | None = None) -> None:
        self.answers = {**ENDPOINT, **answers}
        self.extensions = list(preflight._NEEDED) if extensions is None else extensions
        self.asked: list[str] = []
        self.endpoint = SimpleNamespace(name="/run/x", is_here=True)
        self.server: dict[str, Any] = {"environment": {"server": "lxd", "server_version": "5.0.2"}}

    def require(self, extension: str, what: str) -> None:
        if extension not in self.extensions:
            raise Unsupported(f"{what} needs {extension}")

    def get(self, path: str, **_params: Any) -> Any:
        self.asked.append(path)
        if path not in self.answers:
            raise NotFound("Not found")
        return self.answers[path]

    def read(self, path: str, **params: Any) -> tuple[Any, None]:
        return self.get(path, **params), None

    def find(self, path: str, **params: Any) -> Any:
        return self.get(path, **params) if path in self.answers else None


ENDPOINT: dict[str, Any] = {
    "/1.0/storage-pools": [{"name": "default"}, {"name": "fast"}],
    "/1.0/storage-pools/default/resources": {"space": {"total": 10 * GIB, "used": 4 * GIB}},
    "/1.0/networks": [],
}


def _wanted(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "state": "present", "project": "p", "owner": MARKED, **more}


PLAN: dict[str, Any] = {
    "datacenter": "local",
    "state": "present",
    "project": "bcm-local-regtest",
    "storage_pool": "default",
    "host": None,
    "network": {"name": "local-r-net", "subnet": "10.80.16.0/21", "gateway": "10.80.16.1"},
    "uplink": {"name": "local-r-up", "subnet": "10.80.24.0/24", "gateway": "10.80.24.1"},
    "builders": {"name": "local-r-bld", "subnet": "10.80.25.0/24", "gateway": "10.80.25.1"},
    "instances": {"tor": {"services": {}}, "bitcoind": {"services": {}}},
    "builder_resources": [_wanted("network", "local-r-bld", project="default")],
    "resources": [
        _wanted("storage_volume", "tor-data", pool="default", config={"size": "1GiB"}),
        _wanted("storage_volume", "bitcoind-data", pool="default", config={"size": "4GiB"}),
        _wanted("instance", "tor"),
        _wanted("network_acl", "local-r-net", project="default"),
        _wanted("network", "local-r-net", project="default"),
        _wanted("network", "local-r-up", project="default"),
        {**_wanted("network", "local-r-bld", project="default"), "state": "absent"},
    ],
}


def check(client: Any, plan: dict[str, Any]) -> dict[str, Any]:
    """Check what the outline says of a plan, as site.yml does."""
    return preflight.check(client, outline(plan))


class ReadFields(dict[str, Any]):
    """A plan that remembers which of its fields were read."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan)
        self.read: set[str] = set()

    def __getitem__(self, field: str) -> Any:
        self.read.add(field)
        return super().__getitem__(field)


def test_fields_that_are_read_are_those_of_the_plan() -> None:
    """Ansible hands the plan back as a mapping, in which mypy does not see a field that has another name now."""
    plan = ReadFields(PLAN)
    wanted = Wanted.of(plan)
    types = get_type_hints(Plan)
    assert plan.read - set(types) == set()
    assert {field.name for field in fields(Wanted)} - plan.read == set()
    same = {name: (hint, types[name]) for name, hint in get_type_hints(Wanted).items() if hint in (str, Subnet)}
    assert len(same) == 6
    assert {name for name, (own, planned) in same.items() if own is not planned} == set()
    assert wanted.resources == [*PLAN["builder_resources"], *PLAN["resources"]]


def test_facts() -> None:
    assert check(FakeClient({}), PLAN) == {
        "server": {"name": "lxd", "version": "5.0.2"},
        "pool": {"name": "default", "free": 6 * GIB, "needed": 5.5 * GIB},
        "lost": [],
    }


def test_a_pool_without_quotas_is_warned_of() -> None:
    pools = {"/1.0/storage-pools": [{"name": "default", "driver": "dir"}]}
    (warning,) = check(FakeClient(pools), PLAN)["warnings"]
    assert warning.startswith('Storage pool "default" is a directory, where LXD may not be able to hold anybody')
    assert "warnings" not in check(FakeClient({"/1.0/storage-pools": [{"name": "default", "driver": "zfs"}]}), PLAN)


def test_each_pool_of_a_volume_has_to_be_there_and_to_have_room() -> None:
    volume = _wanted("storage_volume", "lnd-backup", pool="usb", config={"size": "64MiB"})
    plan = {**PLAN, "resources": [*PLAN["resources"], volume]}
    with pytest.raises(BcmError, match='Unknown storage pool "usb".*<stack>_<volume>_pool says which to use'):
        check(FakeClient({}), plan)
    there = {"/1.0/storage-pools": [{"name": "default", "driver": "zfs"}, {"name": "usb", "driver": "dir"}]}
    full = {"/1.0/storage-pools/usb/resources": {"space": {"total": GIB, "used": GIB}}}
    with pytest.raises(BcmError, match=r'Storage pool "usb" has 0.* free, .* needed \(mostly lnd-backup'):
        check(FakeClient({**there, **full}), plan)
    room = {"/1.0/storage-pools/usb/resources": {"space": {"total": 2 * GIB, "used": GIB}}}
    found = check(FakeClient({**there, **room}), plan)
    assert (found["pool"]["name"], found["pool"]["needed"]) == ("default", 5.5 * GIB)
    assert [warning.split()[2] for warning in found["warnings"]] == ['"usb"']


def test_an_extension_is_missing() -> None:
    with pytest.raises(Unsupported, match="An access list on a bridge needs network_bridge_acl"):
        check(FakeClient({}, [name for name in preflight._NEEDED if name != "network_bridge_acl"]), PLAN)


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_removing_needs_no_room(state: str) -> None:
    client = FakeClient({"/1.0/storage-pools": []})
    assert set(check(client, {**PLAN, "state": state})) == {"server", "lost"}
    assert client.asked == []


@pytest.mark.parametrize("pool", ["node2", "node2/usb", "usb@node2"])
def test_pool_of_another_member_of_a_cluster_is_refused(pool: str) -> None:
    volume = _wanted("storage_volume", "lnd-backup", pool=pool, config={"size": "64MiB"})
    plan = {**PLAN, "resources": [*PLAN["resources"], volume]}
    client = FakeClient({"/1.0/cluster/members": [{"server_name": "node1"}, {"server_name": "node2"}]})
    with pytest.raises(BcmError, match="Unknown storage pool"):
        check(client, plan)
    client.server["environment"]["server_clustered"] = True
    with pytest.raises(BcmError, match="names a member of the cluster.* make that an SSH target of the stack backups"):
        check(client, plan)


def test_unknown_pool() -> None:
    with pytest.raises(BcmError) as caught:
        check(FakeClient({}), {**PLAN, "storage_pool": "defalt"})
    assert str(caught.value) == (
        'Unknown storage pool "defalt": did you mean "default"? Known storage pools: default, fast; '
        "bcm_storage_pool says which to use"
    )


def test_a_pool_that_is_too_small() -> None:
    full = {"/1.0/storage-pools/default/resources": {"space": {"total": 10 * GIB, "used": 8.8 * GIB}}}
    with pytest.raises(BcmError) as caught:
        check(FakeClient(full), PLAN)
    assert str(caught.value) == (
        'Storage pool "default" has 1.2 GiB free, 5.5 GiB needed (mostly bitcoind-data 4.0 GiB, tor-data 1.0 GiB): '
        "make room, choose another pool with bcm_storage_pool, or ask for less with <stack>_<volume>_size"
    )


def test_existing_volumes_need_no_room() -> None:
    there = {
        "/1.0/storage-pools/default/resources": {"space": {"total": 10 * GIB, "used": 9.9 * GIB}},
        "/1.0/storage-pools/default/volumes/custom": [
            {"name": "tor-data", "config": MARKED}, {"name": "bitcoind-data", "config": MARKED},
        ],
        "/1.0/instances": [_instance("tor", status="Stopped"), _instance("bitcoind", status="Stopped")],
    }
    assert check(FakeClient(there), PLAN)["pool"]["needed"] == 0


def _instance(
    name: str, status: str = "Running", location: str = "none", network: str = "local-r-net"
) -> dict[str, Any]:
    devices = {"eth0": {"network": network}}
    return {"name": name, "status": status, "location": location, "devices": devices, "config": MARKED}


@pytest.mark.parametrize("lost", [["two"], ["one", "two"], []])
def test_rules_that_a_host_has_lost(lost: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of one instance on each member. What an instance is answered is tried on real ones elsewhere."""
    asked: list[tuple[str, str]] = []

    def tried(_client: FakeClient, instance: str, host: str) -> bool:
        asked.append((instance, host))
        return instance in lost

    monkeypatch.setattr(preflight.host_rules, "lost", tried)
    instances = [
        _instance("one", location="a"),
        _instance("off", status="Stopped", location="c"),
        _instance("two", location="b"),
        _instance("elsewhere", location="d", network="other"),
    ]
    networks = [_bridge(name, "10.80.16.1/21", **MARKED) for name in ("local-r-net", "local-r-up", "other")]
    states = {f"/1.0/networks/{item['name']}/state": {} for item in networks}
    there = {"/1.0/instances": instances, "/1.0/networks": networks, **states}
    facts = check(FakeClient(there), {**PLAN, "state": "absent"})
    assert facts["lost"] == (["local-r-up", "local-r-net"] if lost else [])
    assert ("warnings" in facts) == bool(lost)
    assert set(asked) <= {("one", "10.80.16.1"), ("two", "10.80.16.1")}


def test_a_bridge_that_the_host_has_lost() -> None:
    """All networks are set up again: what an instance without its bridge is answered says nothing of the rules."""
    there = {
        "/1.0/instances": [_instance("one")],
        "/1.0/networks": [_bridge(name, "10.80.16.1/21", **MARKED) for name in ("local-r-net", "local-r-up")],
        "/1.0/networks/local-r-up/state": {},
    }
    facts = check(FakeClient(there), {**PLAN, "state": "absent"})
    assert facts["lost"] == ["local-r-up", "local-r-net"]
    assert facts["warnings"][0].startswith("The host lost the bridge local-r-net, which a run sets up again, and ")


@pytest.mark.parametrize(
    ("path", "body", "label"),
    [
        ("/1.0/network-acls/local-r-net", {}, "network acl local-r-net"),
        ("/1.0/storage-pools/default/volumes/custom", {"name": "tor-data"}, "storage volume default/tor-data"),
        ("/1.0/instances/tor", {"name": "tor", "status": "Running"}, "instance tor"),
    ],
)
def test_foreign_resources_are_refused_before_any_change(path: str, body: Any, label: str) -> None:
    for config in ({}, {"user.bcm.datacenter": "other"}):
        theirs = {**body, "config": config}
        answers = {path: [theirs] if path.endswith("custom") else theirs}
        with pytest.raises(LxdError, match=f"^{label}: there already, without the marks user.bcm.datacenter=local"):
            check(FakeClient(answers), PLAN)


def test_a_pool_that_cannot_tell_its_size() -> None:
    silent = {"/1.0/storage-pools/default/resources": {"space": {"total": 0, "used": 0}}}
    assert check(FakeClient(silent), PLAN)["pool"]["free"] == 0


def _bridge(name: str, address: str, **config: str) -> dict[str, Any]:
    return {"name": name, "managed": True, "type": "bridge", "config": {"ipv4.address": address, **config}}


@pytest.mark.parametrize(
    ("networks", "complaint"),
    [
        (
            [_bridge("lxdbr0", "10.80.20.1/24")],
            'Subnet 10.80.16.0/21 .* is taken on /run/x: "lxdbr0" has 10.80.20.0/24',
        ),
        ([_bridge("wide", "10.80.0.1/16")], '"wide" has 10.80.0.0/16; set bcm_subnet to a free private /20'),
        ([_bridge("up", "10.80.24.9/30")], "Subnet 10.80.24.0/24 of data center local is taken"),
        ([_bridge("bld", "10.80.25.9/30")], "Subnet 10.80.25.0/24 of data center local is taken"),
        ([_bridge("local-r-bld", "10.80.25.1/24")], "network local-r-bld: there already, without the marks"),
        ([{"name": "tun0", "managed": False, "type": "unknown", "config": {}}], '"tun0" has 10.80.16.8/29'),
        ([_bridge("local-r-net", "10.80.16.1/21")], "network local-r-net: there already, without the marks"),
        (
            [_bridge("local-r-up", "10.1.0.1/24", **MARKED), _bridge("x", "10.80.24.1/24")],
            'Subnet 10.80.24.0/24 .* "x" has',
        ),
    ],
)
def test_a_subnet_that_is_taken(networks: list[dict[str, Any]], complaint: str) -> None:
    addresses = [
        {"family": "inet6", "address": "fe80::1", "netmask": "64"},
        {"family": "inet", "address": "10.80.16.9", "netmask": "29"},
    ]
    answers = {"/1.0/networks": networks, "/1.0/networks/tun0/state": {"addresses": addresses}}
    with pytest.raises(BcmError, match=complaint):
        check(FakeClient(answers), PLAN)


def test_other_subnets_do_not_matter() -> None:
    networks = [
        {"name": "lo", "managed": False, "type": "loopback", "config": {}},
        {"name": "eth0", "managed": False, "type": "physical", "config": {}},
        _bridge("lxdbr0", "10.80.32.1/20"),
        _bridge("quiet", "none"),
        _bridge("new", "auto"),
    ]
    addresses = [{"family": "inet", "address": "192.168.1.9", "netmask": "24"}]
    answers = {"/1.0/networks": networks, "/1.0/networks/eth0/state": {"addresses": addresses}}
    check(FakeClient(answers), PLAN)


def test_bridges_that_are_there_are_not_looked_at_again() -> None:
    networks = [
        _bridge("local-r-net", "10.80.16.1/21", **MARKED),
        _bridge("local-r-up", "10.80.24.1/24", **MARKED),
        {"name": "eth0", "managed": False, "type": "physical", "config": {}},
    ]
    client = FakeClient({"/1.0/networks": networks})
    check(client, PLAN)
    assert "/1.0/networks/eth0/state" not in client.asked


def _lan_plan(place: str) -> dict[str, Any]:
    devices = {"lan-http": {"type": "proxy", "listen": f"tcp:{place}"}, "eth0": {"type": "nic"}}
    return {**PLAN, "resources": [*PLAN["resources"], _wanted("instance", "shop", devices=devices)]}


LAN: dict[str, Any] = {
    "/1.0/instances": [],
    "/1.0/networks": [{"name": "lo", "type": "loopback", "managed": False},
                      {"name": "e0", "type": "physical", "managed": False}],
    "/1.0/networks/e0/state": {"addresses": [{"family": "inet", "address": "127.0.0.7", "netmask": "8"},
                                             {"family": "inet6", "address": "fe80::1", "netmask": "64"}]},
    "/1.0/networks/lo/state": {"addresses": [{"family": "inet", "address": "127.0.0.1", "netmask": "8"}]},
}  # fmt: skip


def _with_instance(name: str, project: str, listen: str) -> dict[str, Any]:
    device = {"type": "proxy", "listen": listen}
    item = {"name": name, "project": project, "status": "Stopped", "location": "none", "devices": {"web": device},
            "config": MARKED}  # fmt: skip
    return {**LAN, "/1.0/instances": [item]}


@pytest.mark.parametrize(
    ("place", "answers", "message"),
    [
        ("127.0.0.1:80", LAN, "127.0.0.1:80 of shop in bcm_access is not one of /run/x: write one of 127.0.0.7"),
        ("127.0.0.7:9", _with_instance("web", "q", "tcp:127.0.0.7:9"), "is taken by instance web of project q"),
        ("127.0.0.7:9", _with_instance("web", "q", "tcp:0.0.0.0:9"), "is taken by instance web of project q"),
    ],
)
def test_address_for_local_networks_has_to_be_free(place: str, answers: dict[str, Any], message: str) -> None:
    with pytest.raises(BcmError, match=message):
        check(FakeClient(answers), _lan_plan(place))


@pytest.mark.parametrize(
    ("name", "project", "listen"), [("shop", "p", "tcp:127.0.0.7:9"), ("web", "q", "tcp:127.0.0.8:9")]
)
def test_own_address_for_local_networks_is_free(name: str, project: str, listen: str) -> None:
    check(FakeClient(_with_instance(name, project, listen)), _lan_plan("127.0.0.7:9"))


def test_port_with_a_listener_is_not_free_for_local_networks() -> None:
    with socket.create_server(("127.0.0.7", 0)) as listener:
        place = f"127.0.0.7:{listener.getsockname()[1]}"
        with pytest.raises(BcmError, match=f"^Address {place} of shop in bcm_access is taken by a program of this"):
            check(FakeClient(LAN), _lan_plan(place))
    check(FakeClient(LAN), _lan_plan(place))
