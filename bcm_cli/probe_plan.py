# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes of a data center: what to try from each instance, and what the plan lists."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base import network
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._guest import probe as probe_program
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program
from ansible_collections.bcm.core.plugins.module_utils._plan.exceptions import BY_EXCEPTION
from ansible_collections.bcm.core.plugins.module_utils._plan.request import JOURNAL_PORT, Site
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Services

from . import lxd_setup
from .datacenter import DataCenter
from .probes import OUTSIDE, OUTSIDE6, Expectation, Probe, ProbeResult
from .stacks import catalogue
from .status import deployed, exceptions, find_foreign, through_tor

#: ports of a host; any answer, even a refused connection, shows that it can be reached
_HOST_PORTS = (1, 22, 80, 443, 8443)
#: a port of a host that its rules refuse
_REFUSED_PORT = 1
_UNLISTED = 22
_DISCARD = 9
_DNS = 53
_SECONDS = 2.0  # for an answer from the same machine
_DEADLINE = 300.0  # seconds for a script that waits for less

#: the answers of the program in the instance: its observations, and the outcome of one attempt
_OBSERVATION = {
    "users": {str: int},
    "listening": [int],
    "listening_udp": [int],
    "connections": [[str, int, str, int]],
    "ipv6": [str],
    "rules": ({str: int}, None),
}
_OUTCOME = {str: (str, int)}
#: the outcome of an attempt that the instance does not report
_NOT_REPORTED = {"state": "undecided", "on": "a device that it does not name", "code": 0}


class ProbePlan:
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
        self.through_tor = through_tor(client, self.site.names.network)
        self.rules = self.unlisted_rules()
        self.notes = lxd_setup.calls_out(client)

    @cached_property
    def gateways(self) -> dict[str, str]:
        """The host's own addresses, by bridge."""
        networks = self.client.get("/1.0/networks", project="default", recursion=1)
        found = {item["name"]: str(item["config"].get("ipv4.address", "none")) for item in networks if item["managed"]}
        return {name: address.partition("/")[0] for name, address in found.items() if address != "none"}

    @cached_property
    def foreign_instances(self) -> list[dict[str, Any]]:
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

    def uplink_user(self, name: str) -> str | None:
        """Return the user whose packets an instance may send outside."""
        return self.catalogue[name].uplink

    def is_exception(self, name: str, probe: Probe) -> bool:
        return any(
            item["stack"] == name
            and ipaddress.ip_address(probe.to) in ipaddress.ip_network(item["to"])
            and probe.protocol == item["protocol"]
            and item["port"] in (None, probe.port)
            for item in self.exceptions
        )

    def edges(self, name: str) -> set[tuple[str, int]]:
        """Return the running instances, and their TCP ports, that an instance may reach."""
        site = self.site
        edges = {(other, port) for consumer, other, key in site.edges(self.running)
                 if consumer == name and self.catalogue[other].services[key].protocol == "tcp"
                 and (port := site.port(other, key))}  # fmt: skip
        edges |= {(other, JOURNAL_PORT) for reader, other in site.journals(self.running) if name == reader != other}
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
        probe = Probe("outside", remote, remote, far_port)
        sources = [source for item in self.site.lan(name) if port == self.site.port(name, item.service)
                   for source in item.sources]  # fmt: skip
        if any(ipaddress.ip_address(remote) in ipaddress.ip_network(source) for source in sources):
            return True
        return port in host_ports or bool(self.uplink_user(name) and is_public) or self.is_exception(name, probe)

    def probes(self, name: str, listening: Mapping[str, Iterable[int]]) -> list[Probe]:
        """Return everything to test from an instance; ``listening`` has the listening ports by instance."""
        ports = {_UNLISTED, *(port for key in self.running for port in self._ports(key, self.site.request.chain))}
        edges = self.edges(name)
        ports |= {port for other, port in edges}
        probes: list[Probe] = []
        for other in self.running:
            if other != name:
                for port in sorted({*ports, *listening[other]}):
                    expected: Expectation = "open" if (other, port) in edges else "blocked"
                    probes.append(Probe("others", other, self.address(other), port, expected=expected))
                probes.append(Probe("others", other, self.address(other), _DISCARD, "udp"))
        nics = self.nics(name)
        own = self.gateways[nics["eth0"]]
        ours = {network for key in self.instances for network in self.nics(key).values()}
        for bridge, gateway in self.gateways.items():
            kind = "host" if bridge in ours else "apart"
            probes += [Probe(kind, f"the host at {bridge}", gateway, port) for port in _HOST_PORTS]
            if gateway == own:
                probes.append(Probe("dns", f"the resolver of {bridge}", gateway, 53, "udp", expected="no_lookup"))
            else:
                probes += [
                    Probe("dns", f"the host at {bridge}", gateway, 53, protocol, expected="no_listener")
                    for protocol in ("tcp", "udp")
                ]
        for item in self.foreign_instances:
            stack, config = item["config"]["user.bcm.stack"], item["config"]
            address = item["devices"].get("eth0", {}).get("ipv4.address")
            known = self._ports(stack, config["user.bcm.chain"]) if stack in self.catalogue else []
            what = f"{item['name']} of {item['project']}"
            probes += [Probe("apart", what, address, port) for port in sorted({_UNLISTED, *known}) if address]
        probes += [Probe("host", f"{item.stack} at {item.place}", item.address, item.port)
                   for item in self.site.lan(*self.running)]  # fmt: skip
        probes += [Probe("dns", OUTSIDE[2], OUTSIDE[2], 53, protocol) for protocol in ("tcp", "udp")]
        probes += [Probe("ipv6", OUTSIDE6, OUTSIDE6, 80), Probe("ipv6", OUTSIDE6, OUTSIDE6, 53, "udp")]
        probes += [Probe("outside", OUTSIDE[0], OUTSIDE[0], 443), Probe("outside", OUTSIDE[1], OUTSIDE[1], 80),
                  Probe("outside", OUTSIDE[2], OUTSIDE[2], 123, "udp")]  # fmt: skip
        return [probe for probe in probes if not self.is_exception(name, probe)]

    def forged_probes(self, name: str) -> dict[str, list[Probe]]:
        """Return what is sent directly on a network device, past the routes, since root could add routes."""
        found = {}
        for device, bridge in self.nics(name).items():
            probes = [Probe("dns", f"{OUTSIDE[1]}, past its routes,", OUTSIDE[1], 53, "udp"),
                     Probe("outside", f"{OUTSIDE[1]}, past its routes,", OUTSIDE[1], 80)]  # fmt: skip
            # the host cannot distinguish packets of root from those of the uplink's user
            is_ambiguous = device != "eth0" and self.uplink_user(name)
            found[device] = [probe for probe in probes
                             if bridge in self.gateways and not (is_ambiguous and probe.kind == "outside")
                             and not self.is_exception(name, probe)]  # fmt: skip
        return found

    def _onion_targets(self) -> set[tuple[str, int]]:
        """Return the instances and ports to which tor forwards connections to onion services."""
        places = {self.address(name): name for name in self.instances}
        ports = [to for service in self.services for to in service.ports.values()]
        targets = [target.rpartition(":") for to in ports for target in to]
        return {(places[address], int(port)) for address, _colon, port in targets if address in places}

    def publication_reason(self, service: str) -> str:
        """Return why an onion service is public."""
        name, _hyphen, key = service.rpartition("-")
        is_known = name in self.catalogue and key in self.catalogue[name].services
        return (self.site.publication_reason(name, key) if is_known else None) or "no stack says why"

    def _ports(self, stack: str, chain: str, protocol: str = "tcp") -> list[int]:
        services = self.catalogue[stack].services.values()
        return [service.ports[chain] for service in services if service.protocol == protocol and chain in service.ports]

    def observe(self, name: str) -> dict[str, Any]:
        """Read the users of an instance, its listening ports, connections and foreign files."""
        foreign = find_foreign(self.client, name, packages=True)
        return {**self._ask_probe(name, {}, _OBSERVATION), "foreign_files": foreign}

    def unlisted_ports(self, name: str, ports: Iterable[int]) -> list[int]:
        """Return TCP ports on which an instance listens and that are not in the plan."""
        services = self.catalogue[name].services.values()
        onions = [onion.listen for service in services if (onion := service.onion)]
        listed = {*self._ports(name, self.site.request.chain), *onions}
        listed |= {port for other, port in self._onion_targets() if other == name}
        # systemd goes on to listen when nobody reads journals any more
        listed.add(JOURNAL_PORT)
        return sorted(set(ports) - listed)

    def unlisted_udp_ports(self, name: str, ports: Iterable[int]) -> list[int]:
        """Return UDP ports on which an instance listens and that are not in the plan."""
        return sorted(set(ports).difference(self._ports(name, self.site.request.chain, "udp")))

    def unlisted_rules(self) -> list[str]:
        """Return what the ACLs allow, and neither the plan nor an exception does."""
        site, found = self.site, []
        listed = {
            (f"{site.addresses[name]}/32", f"{site.addresses[other]}/32", service.protocol, str(site.port(other, key)))
            for name, other, key in site.edges(self.instances) for service in [self.catalogue[other].services[key]]
        }  # fmt: skip
        listed |= {(f"{site.addresses[reader]}/32", f"{site.addresses[other]}/32", "tcp", str(JOURNAL_PORT))
                   for reader, other in site.journals(self.instances)}  # fmt: skip
        gateway = self.catalogue.onion_gateway
        if gateway in self.instances:
            listed |= {(f"{site.addresses[gateway]}/32", f"{site.addresses[other]}/32", "tcp", str(port))
                       for other, port in self._onion_targets()}  # fmt: skip
        ways: set[tuple[str | None, str, str]] = {
            (way.to, way.protocol, way.port) for name in self.instances for way in site.ways_out(name)
        }
        ways |= {(None, service.protocol, str(service.ports.get(site.request.chain))) for name in self.instances
                 for service in self.catalogue[name].services.values() if service.host_port}  # fmt: skip
        local = {(",".join(item.sources), f"{device['ipv4.address']}/32", "tcp", str(port))
                 for item in site.lan(*self.instances) for port in [site.port(item.stack, item.service)]
                 if (device := self.instances[item.stack]["devices"].get("eth1"))}  # fmt: skip
        for acl in (site.names.network, site.names.uplink):
            there = self.client.find(f"/1.0/network-acls/{acl}", project="default") or {}
            for rule in [*there.get("egress", ()), *there.get("ingress", ())]:
                source, to = rule.get("source"), rule.get("destination")
                what = (rule.get("protocol"), rule.get("destination_port"))
                is_known = (source, to, *what) in listed if acl == site.names.network else (
                    BY_EXCEPTION in rule.get("description", "") or (source, to, *what) in local
                    or (to if source else None, *what) in ways
                )  # fmt: skip
                if rule["action"].startswith("allow") and not is_known:
                    how = " ".join(filter(None, what)) or "by any protocol"
                    found.append(
                        f"{acl} lets {source or 'any source'} reach {to or 'anything'} {how}, "
                        "which the plan does not list"
                    )
        return found

    def run_probes(self, name: str, observed: Mapping[str, Mapping[str, Any]]) -> list[ProbeResult]:
        """Run all probes from an instance."""
        users = observed[name]["users"]
        probes = self.probes(name, {other: found["listening"] for other, found in observed.items()})
        by_device = self.forged_probes(name)
        uplink_user = self.uplink_user(name)
        request = {
            "users": users,
            "attempts": [{**probe.attempt, "but_as": uplink_user if probe.is_through_uplink else None}
                         for probe in probes],
            "forged": [
                {**probe.attempt, "device": device, "mac": self._mac(self.nics(name)[device])}
                for device, some in by_device.items()
                for probe in some
            ],
            "controls": {
                device: {**Probe("host", "", self.gateways[bridge], _REFUSED_PORT).attempt, "refused": True,
                         "device": device, "mac": self._mac(bridge)}
                for device, bridge in self.nics(name).items() if bridge in self.gateways
            },
            "seconds": _SECONDS,
        }  # fmt: skip
        forged = [probe for some in by_device.values() for probe in some]
        answered = self._ask_probe(name, request, {"users": dict.fromkeys(users, [_OUTCOME]), "forged": [_OUTCOME]})
        if {len(answered["users"][user]) for user in users} - {len(probes)} or len(answered["forged"]) != len(forged):
            raise BcmError(
                f"Instance {name}",
                "did not report the outcome of each attempt",
                "check which processes run as root in it",
                code="damaged",
            )
        results = [
            ProbeResult(probe, {
                user: {**_NOT_REPORTED, **answered["users"][user][number]} for user in users
                if not (probe.is_through_uplink and user == uplink_user)
            })
            for number, probe in enumerate(probes)
        ]  # fmt: skip
        pairs = zip(forged, answered["forged"], strict=True)
        return results + [ProbeResult(probe, {"root": {**_NOT_REPORTED, **observed}}) for probe, observed in pairs]

    def _mac(self, bridge: str) -> str:
        """Return the host's own address on a bridge."""
        return str(self.client.get(f"/1.0/networks/{bridge}/state", project="default")["hwaddr"])

    def _ask_probe(self, name: str, request: Mapping[str, Any], shape: Any) -> dict[str, Any]:
        program = Path(probe_program.__file__)
        found = ask_program(self.client, name, program, request, shape=shape, deadline=_DEADLINE)
        for _local, _port, remote, _far_port in found.get("connections", ()):
            try:
                ipaddress.ip_address(remote)
            except ValueError:
                raise BcmError(
                    f"Instance {name}",
                    f'reports a connection to "{shown(remote)}", which is no address',
                    "check which processes run as root in it",
                    code="damaged",
                ) from None
        return found
