# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm privacy`: test what leaves a data center, instead of reading its configuration, and show what Tor carries."""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ansible_collections.bcm.core.plugins.module_utils._base import network
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_shaped
from ansible_collections.bcm.core.plugins.module_utils._guest import probe
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._plan.exceptions import BY_EXCEPTION
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Site
from ansible_collections.bcm.core.plugins.module_utils._tor.deploy import Instance
from ansible_collections.bcm.core.plugins.module_utils._tor.observe import observe_tor
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Services

from . import lxd_setup, onion
from .connect import connect
from .datacenter import DataCenter
from .output import answer, say
from .stacks import catalogue
from .status import deployed, exceptions, foreign

#: documentation addresses (RFC 5737, RFC 3849): nobody uses them, and no route of the internet leads to them
OUTSIDE = ("192.0.2.1", "198.51.100.1", "203.0.113.1")
OUTSIDE6 = "2001:db8::1"
#: ports of a host; any answer, even a refused connection, shows that it can be reached
_HOST_PORTS = (1, 22, 80, 443, 8443)
#: a port of a host that its rules refuse
_REFUSED_PORT = 1
_UNLISTED = 22
_DISCARD = 9
_DNS = 53
_REFUSED = 5  # RFC 1035, section 4.1.1
_SECONDS = 2.0  # for an answer from the same machine
_SOON = 300.0  # seconds for a script that waits for less
#: kind of probe -> its column in the table
KINDS = {
    "others": "other instances",
    "host": "the host",
    "apart": "other data centers",
    "dns": "DNS",
    "ipv6": "IPv6",
    "outside": "outside",
}

#: what the probe answers: what there is in an instance, and what became of an attempt
_SEEN = {
    "users": {str: int},
    "listening": [int],
    "listening_udp": [int],
    "connections": [[str, int, str, int]],
    "ipv6": [str],
    "rules": ({str: int}, None),
}
_VERDICT = {str: (str, int)}
#: of an attempt of which the instance says nothing
_UNKNOWN = {"state": "unheard", "on": "a device that it does not name", "code": 0}

May = Literal["nothing", "nobody", "refuse", "answer"]
Verdict = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """Something to be tried, and what may become of it.

    ``answer`` is what the plan lists. LXD lets all instances reach port 53 of the host: their resolver there may
    ``refuse`` to ask others, and elsewhere ``nobody`` may listen. ``nothing`` may come of the rest.
    """

    kind: str
    what: str
    to: str
    port: int
    protocol: str = "tcp"
    may: May = "nothing"

    @property
    def attempt(self) -> dict[str, Any]:
        needed = self.may == "answer"
        return {"to": self.to, "port": self.port, "protocol": self.protocol, "refused": self.refused, "needed": needed}

    @property
    def of_tor(self) -> bool:
        """Whether the user of the uplink would reach it."""
        return self.to in OUTSIDE and self.protocol == "tcp"

    @property
    def refused(self) -> bool:
        """Whether the host has to refuse it: a remote peer may simply not answer."""
        return self.kind in ("outside", "ipv6", "dns") and self.may == "nothing"

    @property
    def said(self) -> str:
        return f"{self.what} {self.protocol} {self.port}"


@dataclass(frozen=True)
class Tried:
    """What became of it, by users."""

    goal: Goal
    users: Mapping[str, Verdict]

    def faults(self) -> list[str]:
        """Return its faults, without the name of the instance."""
        return self._said(judged)

    def undecided(self) -> list[str]:
        """Return what could not be decided, without the name of the instance."""
        return self._said(unclear)

    def _said(self, judge: Callable[[Goal, Verdict], str | None]) -> list[str]:
        found: dict[str, list[str]] = {}
        for user, verdict in self.users.items():
            if said := judge(self.goal, verdict):
                found.setdefault(said, []).append(user)
        return [f"(as {' and '.join(users)}) {said}" for said, users in found.items()]


def judged(goal: Goal, verdict: Verdict) -> str | None:
    """Return the fault in the result of an attempt; None if there is none."""
    state = verdict["state"]
    if goal.may == "answer":
        if state in ("open", "left"):
            return None
        if state == "closed":
            return f"reaches {goal.what}, but nothing answers at {goal.protocol} {goal.port}"
        return f"cannot reach {goal.said}, which the plan lists"
    if goal.may == "refuse":
        asks = state == "answered" and verdict["code"] != _REFUSED
        return f"can resolve outside names at {goal.said}" if asks else None
    if state in ("open", "answered") or (state == "closed" and goal.may != "nobody"):
        return f"reaches {goal.said}, which the plan does not list"
    if state == "left" and goal.refused:
        return f"sends packets to {goal.said}, by {verdict['on']}, that nothing refuses"
    return None


def unclear(goal: Goal, verdict: Verdict) -> str | None:
    """Return why an attempt is undecided: silence proves neither that something was reached nor that it was not."""
    if goal.may == "answer" and verdict["state"] == "left":
        return f"got neither an answer nor a refusal from {goal.said}, which the plan lists"
    if verdict["state"] == "unheard":
        return f"sends packets to {goal.said}, by {verdict['on']}, where the host does not say what it refuses"
    return None


# -- the verb ---------------------------------------------------------------------------------------------------------


def prove(args: argparse.Namespace) -> int:
    """Test everything and print the result.

    The exit status is 1 if something is reached that should not be, or the reverse; 3 if that could not be decided.
    """
    datacenter: DataCenter = args.datacenter
    services = onion.read(datacenter)
    with connect(datacenter) as client:
        scene = Scene(datacenter, client, services)
        if not scene.running:
            raise BcmError(
                f"Nothing runs in data center {datacenter.name} ({datacenter.chain}), so nothing can be tested",
                remedy="`bcm stack start STACK`",
                code="not_ready",
                about=f"data center {datacenter.name}",
            )  # fmt: skip
        with ThreadPoolExecutor(8) as pool:
            carried = pool.submit(_carried, scene)
            seen = dict(zip(scene.running, pool.map(scene.look, scene.running), strict=True))
            tried = dict(zip(scene.running, pool.map(lambda name: scene.tried(name, seen), scene.running), strict=True))
            tor = carried.result()
    return _tell(args, Found(scene, seen, tried, tor))


class Scene:
    """What to test: the instances of the data center, and their surroundings on the endpoint."""

    def __init__(self, datacenter: DataCenter, client: Client, services: Services) -> None:
        self.client = client
        self.services = [service for service in services.values() if not service.parked]
        self.catalogue = catalogue(datacenter)
        there = deployed(client)
        self.instances = {name: item for name, item in there.items() if name in self.catalogue}
        self.unknown = sorted(set(there) - set(self.instances))
        self.running = [name for name in self.catalogue.ordered(self.instances)
                        if self.instances[name]["status"] == "Running"]  # fmt: skip
        self.stopped = sorted(set(self.instances) - set(self.running))
        self.site = Site(self.catalogue, datacenter.request([]))
        self.exceptions = exceptions(client, self.site.names.uplink)
        self.rules = self.strange_rules()
        self.notes = lxd_setup.calls_out(client)

    @cached_property
    def gateways(self) -> dict[str, str]:
        """The host's own addresses, by bridge."""
        networks = self.client.get("/1.0/networks", project="default", recursion=1)
        found = {item["name"]: str(item["config"].get("ipv4.address", "none")) for item in networks if item["managed"]}
        return {name: address.partition("/")[0] for name, address in found.items() if address != "none"}

    @cached_property
    def neighbours(self) -> list[dict[str, Any]]:
        """Instances of other data centers."""
        every = self.client.get("/1.0/instances", project=None, recursion=1, **{"all-projects": "true"})
        return [item for item in every if "user.bcm.stack" in item["config"] and item["project"] != self.client.project]

    def address(self, name: str) -> str:
        return str(self.instances[name]["devices"]["eth0"]["ipv4.address"])

    def addresses(self, name: str) -> set[str]:
        """The addresses that LXD restricts it to."""
        return {item["ipv4.address"] for item in self.instances[name]["devices"].values() if "ipv4.address" in item}

    def nics(self, name: str) -> dict[str, str]:
        """Return the network devices of an instance, and their bridges."""
        devices = self.instances[name]["devices"]
        return {key: item["network"] for key, item in devices.items() if item["type"] == "nic"}

    def leaves(self, name: str) -> str | None:
        """Return the user whose packets an instance may send outside."""
        return self.catalogue[name].uplink

    def excepted(self, name: str, goal: Goal) -> bool:
        return any(
            item["stack"] == name
            and ipaddress.ip_address(goal.to) in ipaddress.ip_network(item["to"])
            and goal.protocol == item["protocol"]
            and item["port"] in (None, goal.port)
            for item in self.exceptions
        )

    def edges(self, name: str) -> set[tuple[str, int]]:
        """Return the running instances, and their TCP ports, that an instance may reach."""
        site = self.site
        edges = {(other, port) for consumer, other, key in site.edges(self.running)
                 if consumer == name and self.catalogue[other].services[key].protocol == "tcp"
                 and (port := site.port(other, key))}  # fmt: skip
        if name == self.catalogue.onion_gateway:
            edges |= {edge for edge in self._onion_targets() if edge[0] in self.running}
        return edges

    def is_listed(self, name: str, connection: Sequence[Any]) -> bool:
        """Return whether the plan lists a TCP connection of an instance, in either direction."""
        own, port, remote, far_port = connection
        other = next((key for key in self.running if remote in self.addresses(key)), None)
        if own == remote or other == name:
            return True
        if other:
            return (other, far_port) in self.edges(name) or (name, port) in self.edges(other)
        if remote in self.gateways.values() and far_port == _DNS:
            return True
        host_ports = {service.ports.get(self.site.request.chain) for service in self.catalogue[name].services.values()
                      if service.host_port}  # fmt: skip
        is_public = any(ipaddress.ip_address(remote) in ipaddress.ip_network(item) for item in network.public())
        goal = Goal("outside", remote, remote, far_port)
        return port in host_ports or bool(self.leaves(name) and is_public) or self.excepted(name, goal)

    def goals(self, name: str, listening: Mapping[str, Iterable[int]]) -> list[Goal]:
        """Return everything to test from an instance; ``listening`` has the listening ports by instance."""
        ports = {_UNLISTED, *(port for key in self.running for port in self._ports(key, self.site.request.chain))}
        edges = self.edges(name)
        ports |= {port for other, port in edges}
        goals: list[Goal] = []
        for other in self.running:
            if other != name:
                for port in sorted({*ports, *listening[other]}):
                    may: May = "answer" if (other, port) in edges else "nothing"
                    goals.append(Goal("others", other, self.address(other), port, may=may))
                goals.append(Goal("others", other, self.address(other), _DISCARD, "udp"))
        nics = self.nics(name)
        own = self.gateways[nics["eth0"]]
        ours = {network for key in self.instances for network in self.nics(key).values()}
        for bridge, gateway in self.gateways.items():
            kind = "host" if bridge in ours else "apart"
            goals += [Goal(kind, f"the host at {bridge}", gateway, port) for port in _HOST_PORTS]
            if gateway == own:
                goals.append(Goal("dns", f"the resolver of {bridge}", gateway, 53, "udp", may="refuse"))
            else:
                goals += [
                    Goal("dns", f"the host at {bridge}", gateway, 53, protocol, may="nobody")
                    for protocol in ("tcp", "udp")
                ]
        for item in self.neighbours:
            stack, config = item["config"]["user.bcm.stack"], item["config"]
            address = item["devices"].get("eth0", {}).get("ipv4.address")
            known = self._ports(stack, config["user.bcm.chain"]) if stack in self.catalogue else []
            what = f"{item['name']} of {item['project']}"
            goals += [Goal("apart", what, address, port) for port in sorted({_UNLISTED, *known}) if address]
        goals += [Goal("dns", OUTSIDE[2], OUTSIDE[2], 53, protocol) for protocol in ("tcp", "udp")]
        goals += [Goal("ipv6", OUTSIDE6, OUTSIDE6, 80), Goal("ipv6", OUTSIDE6, OUTSIDE6, 53, "udp")]
        goals += [Goal("outside", OUTSIDE[0], OUTSIDE[0], 443), Goal("outside", OUTSIDE[1], OUTSIDE[1], 80),
                  Goal("outside", OUTSIDE[2], OUTSIDE[2], 123, "udp")]  # fmt: skip
        return [goal for goal in goals if not self.excepted(name, goal)]

    def past_routes(self, name: str) -> dict[str, list[Goal]]:
        """Return what is sent directly on a network device, past the routes, since root could add routes."""
        found = {}
        for device, bridge in self.nics(name).items():
            goals = [Goal("dns", f"{OUTSIDE[1]}, past its routes,", OUTSIDE[1], 53, "udp"),
                     Goal("outside", f"{OUTSIDE[1]}, past its routes,", OUTSIDE[1], 80)]  # fmt: skip
            # the host cannot distinguish what root sends as the user of the uplink
            alike = device != "eth0" and self.leaves(name)
            found[device] = [goal for goal in goals
                             if bridge in self.gateways and not (alike and goal.kind == "outside")
                             and not self.excepted(name, goal)]  # fmt: skip
        return found

    def _onion_targets(self) -> set[tuple[str, int]]:
        """Return the instances and ports to which tor forwards connections to onion services."""
        places = {self.address(name): name for name in self.instances}
        ports = [to for service in self.services for to in service.ports.values()]
        targets = [target.rpartition(":") for to in ports for target in to]
        return {(places[address], int(port)) for address, _colon, port in targets if address in places}

    def why(self, service: str) -> str:
        """Return why an onion service is public."""
        name, _hyphen, key = service.rpartition("-")
        stack = self.catalogue.get(name)
        declared = stack.services[key].onion if stack and key in stack.services else None
        return (declared.public if declared else None) or "no stack says why"

    def _ports(self, stack: str, chain: str, protocol: str = "tcp") -> list[int]:
        services = self.catalogue[stack].services.values()
        return [service.ports[chain] for service in services if service.protocol == protocol and chain in service.ports]

    def look(self, name: str) -> dict[str, Any]:
        """Read the users of an instance, its listening ports, and foreign things in it."""
        return {**self._probed(name, {}, _SEEN), "strangers": foreign(self.client, name, packages=True)}

    def strange_listeners(self, name: str, ports: Iterable[int]) -> list[int]:
        """Return TCP ports on which an instance listens and that are not in the plan."""
        services = self.catalogue[name].services.values()
        onions = [onion.listen for service in services if (onion := service.onion)]
        listed = {*self._ports(name, self.site.request.chain), *onions}
        listed |= {port for other, port in self._onion_targets() if other == name}
        return sorted(set(ports) - listed)

    def strange_udp_listeners(self, name: str, ports: Iterable[int]) -> list[int]:
        """Return UDP ports on which an instance listens and that are not in the plan."""
        return sorted(set(ports).difference(self._ports(name, self.site.request.chain, "udp")))

    def strange_rules(self) -> list[str]:
        """Return what the ACLs allow, and neither the plan nor an exception does."""
        site, found = self.site, []
        listed = {
            (f"{site.addresses[name]}/32", f"{site.addresses[other]}/32", service.protocol, str(site.port(other, key)))
            for name, other, key in site.edges(self.instances) for service in [self.catalogue[other].services[key]]
        }  # fmt: skip
        gateway = self.catalogue.onion_gateway
        if gateway in self.instances:
            listed |= {(f"{site.addresses[gateway]}/32", f"{site.addresses[other]}/32", "tcp", str(port))
                       for other, port in self._onion_targets()}  # fmt: skip
        ways: set[tuple[str | None, str, str]] = {
            (way.to, way.protocol, way.port) for name in self.instances for way in site.ways_out(name)
        }
        ways |= {(None, service.protocol, str(service.ports.get(site.request.chain))) for name in self.instances
                 for service in self.catalogue[name].services.values() if service.host_port}  # fmt: skip
        for acl in (site.names.network, site.names.uplink):
            there = self.client.find(f"/1.0/network-acls/{acl}", project="default") or {}
            for rule in [*there.get("egress", ()), *there.get("ingress", ())]:
                source, to = rule.get("source"), rule.get("destination")
                what = (rule.get("protocol"), rule.get("destination_port"))
                is_known = (source, to, *what) in listed if acl == site.names.network else (
                    BY_EXCEPTION in rule.get("description", "") or (to if source else None, *what) in ways
                )  # fmt: skip
                if rule["action"].startswith("allow") and not is_known:
                    how = " ".join(filter(None, what)) or "by any protocol"
                    found.append(
                        f"{acl} lets {source or 'anybody'} reach {to or 'anything'} {how}, which the plan does not list"
                    )
        return found

    def tried(self, name: str, seen: Mapping[str, Mapping[str, Any]]) -> list[Tried]:
        users = seen[name]["users"]
        goals = self.goals(name, {other: found["listening"] for other, found in seen.items()})
        past = self.past_routes(name)
        free = self.leaves(name)
        request = {
            "users": users,
            "attempts": [{**goal.attempt, "but_as": free if goal.of_tor else None} for goal in goals],
            "forged": [
                {**goal.attempt, "device": device, "mac": self._mac(self.nics(name)[device])}
                for device, some in past.items()
                for goal in some
            ],
            "controls": {
                device: {**Goal("host", "", self.gateways[bridge], _REFUSED_PORT).attempt, "refused": True,
                         "device": device, "mac": self._mac(bridge)}
                for device, bridge in self.nics(name).items() if bridge in self.gateways
            },
            "seconds": _SECONDS,
        }  # fmt: skip
        forged = [goal for some in past.values() for goal in some]
        said = self._probed(name, request, {"users": dict.fromkeys(users, [_VERDICT]), "forged": [_VERDICT]})
        if {len(said["users"][user]) for user in users} - {len(goals)} or len(said["forged"]) != len(forged):
            raise BcmError(
                f"Instance {name}",
                "does not say of each attempt what became of it",
                "see who is root in it",
                code="damaged",
            )
        found = [
            Tried(goal, {
                user: {**_UNKNOWN, **said["users"][user][number]} for user in users
                if not (goal.of_tor and user == free)
            })
            for number, goal in enumerate(goals)
        ]  # fmt: skip
        pairs = zip(forged, said["forged"], strict=True)
        return found + [Tried(goal, {"root": {**_UNKNOWN, **seen}}) for goal, seen in pairs]

    def _mac(self, bridge: str) -> str:
        """Return the host's own address on a bridge."""
        return str(self.client.get(f"/1.0/networks/{bridge}/state", project="default")["hwaddr"])

    def _probed(self, name: str, request: Mapping[str, Any], shape: Any) -> dict[str, Any]:
        argv = ["python3", "-c", Path(probe.__file__).read_text(encoding="utf-8")]
        command = lxd_exec.Command(argv, stdin=json.dumps(request).encode(), cwd="/")
        done = lxd_exec.run(self.client, name, command, deadline=_SOON)
        try:
            found: dict[str, Any] = read_shaped(done.stdout, shape)
            for _local, _port, remote, _far_port in found.get("connections", ()):
                ipaddress.ip_address(remote)
        except ValueError:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise BcmError(
                f"Nothing can be tested in instance {name}:",
                f"python3 there ended with {done.returncode}: {''.join(said)}",
                code="command_failed",
                about=f"instance {name}",
            ) from None
        return found


def _carried(scene: Scene) -> dict[str, Any] | None:
    """Return what tor reports; None if it does not run."""
    if onion.TOR not in scene.running:
        return None
    port = scene.catalogue[onion.TOR].services["socks"].ports[scene.site.request.chain]
    try:
        with Instance(scene.client, onion.TOR) as host:
            return observe_tor(host, (scene.address(onion.TOR), port), scene.services)
    except BcmError as error:
        return {"network": False, "services": [], "faults": [str(error)], "socks": port}


# -- what is told -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    scene: Scene
    seen: Mapping[str, Mapping[str, Any]]
    tried: Mapping[str, Sequence[Tried]]
    tor: Mapping[str, Any] | None

    @property
    def network(self) -> bool:
        """Whether tor uses the network; if not, nothing listens on its SOCKS port."""
        return bool(self.tor and self.tor["network"])

    def problems(self) -> list[str]:
        found = [
            f"{name} {fault}"
            for name, every in self.tried.items()
            for tried in every
            if not (tried.goal.what == onion.TOR and tried.goal.may == "answer" and not self.network)
            for fault in tried.faults()
        ]
        found += [f"{name} is connected to {remote} tcp {far_port}, from its port {port}, which the plan does not list"
                  for name, seen in self.seen.items() for own, port, remote, far_port in seen["connections"]
                  if not self.scene.is_listed(name, (own, port, remote, far_port))]  # fmt: skip
        found += [f"{name} listens on tcp {port}, which the plan does not list" for name, seen in self.seen.items()
                  for port in self.scene.strange_listeners(name, seen["listening"])]  # fmt: skip
        found += [f"{name} listens on udp {port}, which the plan does not list" for name, seen in self.seen.items()
                  for port in self.scene.strange_udp_listeners(name, seen["listening_udp"])]  # fmt: skip
        found += [f"{name}: {said}" for name, seen in self.seen.items() for said in seen["strangers"]]
        found += self.scene.rules
        found += [f"{name} has an IPv6 address, {address}" for name, seen in self.seen.items()
                  for address in seen["ipv6"]]  # fmt: skip
        found += [f"{name} has not loaded its egress firewall" for name, seen in self.seen.items()
                  if self.scene.leaves(name) and seen["rules"] is None]  # fmt: skip
        found += [f"{name} is not in the catalogue, so nothing was tested from there (bcm_stack_path)"
                  for name in self.scene.unknown]  # fmt: skip
        if self.tor:
            found += [f"tor: {fault}" for fault in self.tor["faults"]]
            found += [f"{item['service']} {item['fault']}" for item in self.tor["services"] if item["fault"]]
        return found

    def undecided(self) -> list[str]:
        return [
            f"{name} {said}"
            for name, every in self.tried.items()
            for tried in every
            if not (tried.goal.what == onion.TOR and tried.goal.may == "answer" and not self.network)
            for said in tried.undecided()
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return for each instance what it reaches of the plan, and how what it must not reach was tested."""
        rows = []
        for name, every in self.tried.items():
            listed = [tried for tried in every if tried.goal.may == "answer"]
            reached = [tried.goal for tried in listed if any(end["state"] == "open" for end in tried.users.values())]
            kept = {}
            for kind in KINDS:
                other = [tried for tried in every if tried.goal.kind == kind and tried.goal.may != "answer"]
                faults = sum(bool(tried.faults()) for tried in other)
                kept[kind] = {"attempts": sum(len(tried.users) for tried in other), "faults": faults}
            rows.append(
                {
                    "instance": name,
                    "as": list(self.seen[name]["users"]),
                    "reaches": [f"{goal.what} {goal.port}" for goal in reached],
                    "kept_from": kept,
                }
            )
        return rows

    def left(self) -> list[str]:
        """Return where tor's established connections lead, as the kernel shows it."""
        own = self.scene.site.subnets.network
        every = {remote for _local, _port, remote, _far_port in self.seen[onion.TOR]["connections"]}
        return sorted(remote for remote in every if ipaddress.ip_address(remote) not in own)

    def clients(self) -> dict[str, int]:
        """Return how many connections of each instance tor carries."""
        if not self.tor:
            return {}
        names = {self.scene.address(name): name for name in self.scene.running}
        port = self.tor["socks"]
        found: dict[str, int] = {}
        for _local, local_port, remote, _far_port in self.seen[onion.TOR]["connections"]:
            if local_port == port:
                name = names.get(remote, remote)
                if name == onion.TOR:  # our own connection
                    continue
                found[name] = found.get(name, 0) + 1
        return found


def _tell(args: argparse.Namespace, found: Found) -> int:
    problems, undecided, scene = found.problems(), found.undecided(), found.scene
    status = 1 if problems else 3 if undecided else 0
    onions = list(found.tor["services"]) if found.tor else []
    public = {item["service"]: scene.why(item["service"]) for item in onions if not item["authorization"]}
    facts: dict[str, Any] = {
        "instances": found.rows(),
        "stopped": scene.stopped,
        "tor": {**found.tor, "clients": found.clients(), "connected_to": found.left()} if found.tor else None,
        "rules": {name: seen["rules"] for name, seen in found.seen.items() if scene.leaves(name)},
        "exceptions": scene.exceptions,
        "public_services": public,
        "problems": problems,
        "undecided": undecided,
        "notes": scene.notes,
    }
    if args.json:
        answer(facts, True)
        return status
    answer([_row(row) for row in facts["instances"]], False)
    say()
    answer(_tor_facts(found), False)
    if onions:
        say()
        answer([{key: item[key] for key in ("service", "address", "state")} for item in onions], False)
        for service, why in public.items():
            say(f"{service} is public: {why}")
    if scene.exceptions:
        say()
        say("Exceptions:")
        answer(scene.exceptions, False)
    say()
    for name in scene.stopped:
        say(f"{name} does not run: nothing was tested from there, or to it")
    for note in scene.notes:
        say(f"Beside the data center: {note}")
    for problem in problems:
        say(f"NOT IN ORDER: {problem}")
    for said in undecided:
        say(f"NOT DECIDED: {said}")
    say()
    say(_last(found, problems, undecided))
    return status


def _row(facts: Mapping[str, Any]) -> dict[str, Any]:
    def cell(attempts: int, faults: int) -> str | None:
        return f"OPEN ({faults})" if faults else f"closed ({attempts})" if attempts else None

    kept = facts["kept_from"]
    own = {key: facts[key] for key in ("instance", "as", "reaches")}
    return {**own, **{KINDS[kind]: cell(**counts) for kind, counts in kept.items()}}


def _last(found: Found, problems: Sequence[str], undecided: Sequence[str]) -> str:
    if problems:
        return f"Not in order: {len(problems)} of the lines above"
    if undecided:
        return f"Nothing was found to leave, but {len(undecided)} of the tests could not be decided: run it again"
    kept = [
        " ".join(str(part) for part in (item["stack"], "to", item["to"], item["protocol"], item["port"]) if part)
        for item in found.scene.exceptions
    ]
    return f"Nothing but Tor leaves{', and by exception ' + ', '.join(kept) if kept else ''}"


def _tor_facts(found: Found) -> dict[str, Any]:
    tor = found.tor
    if tor is None:
        return {"tor": "does not run: nothing leaves, and no onion service is published"}
    counted = {"packets": found.seen[onion.TOR]["rules"]}
    if not tor["network"]:
        off = "does not answer" if tor["faults"] else f"{tor['version']}, its network is off (tor_network)"
        return {"tor": off, **counted}
    return {
        "tor": f"{tor['version']}, {tor['bootstrap']}",
        "bytes": {"in": tor["read"], "out": tor["written"]},
        "circuits": tor["circuits"],
        "carries": found.clients() or "nobody at the moment",
        "guards": tor["guards"],
        "connected_to": found.left(),
        **counted,
    }
