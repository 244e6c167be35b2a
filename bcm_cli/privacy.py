# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm privacy`: test what leaves a data center, instead of reading its configuration, and show what Tor carries."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._plan.access import LanAccess
from ansible_collections.bcm.core.plugins.module_utils._tor.deploy import Instance
from ansible_collections.bcm.core.plugins.module_utils._tor.observe import observe_tor

from . import ca_session, onion
from .connect import connect
from .datacenter import DataCenter
from .lan_probes import Certificates, LanResult, probe_lan
from .output import answer, say
from .probe_plan import ProbePlan
from .probes import ProbeResult
from .trezor_session import vault

#: kind of probe -> its column in the table
KINDS = {
    "others": "other instances",
    "host": "the host",
    "apart": "other data centers",
    "dns": "DNS",
    "ipv6": "IPv6",
    "outside": "outside",
}


# -- the verb ---------------------------------------------------------------------------------------------------------


def check_privacy(args: argparse.Namespace) -> int:
    """Test everything and print the result.

    The exit status is 1 if something is reached that should not be, or the reverse; 3 if that could not be decided.
    """
    datacenter: DataCenter = args.datacenter
    services = onion.read(datacenter)
    with connect(datacenter) as client:
        plan = ProbePlan(datacenter, client, services)
        if not plan.running:
            raise BcmError(
                f"Nothing runs in data center {datacenter.name} ({datacenter.chain}), so nothing can be tested",
                remedy="`bcm stack start STACK`",
                code="not_ready",
                about=f"data center {datacenter.name}",
            )  # fmt: skip
        access = plan.site.lan(*plan.running)
        certificates = _certificates(datacenter, access)
        with ThreadPoolExecutor(8) as pool:
            tor = pool.submit(_read_tor, plan)
            lan = pool.submit(probe_lan, access, certificates)
            observed = dict(zip(plan.running, pool.map(plan.observe, plan.running), strict=True))
            results = pool.map(lambda name: plan.run_probes(name, observed), plan.running)
            report = PrivacyReport(plan, observed, dict(zip(plan.running, results, strict=True)), tor.result(),
                                   lan.result())  # fmt: skip
    return _print_report(args, report)


def _read_tor(plan: ProbePlan) -> dict[str, Any] | None:
    """Return what tor reports; None if it does not run."""
    if onion.TOR not in plan.running:
        return None
    port = plan.catalogue[onion.TOR].services["socks"].ports[plan.site.request.chain]
    try:
        with Instance(plan.client, onion.TOR) as host:
            return observe_tor(host, (plan.address(onion.TOR), port), plan.services)
    except BcmError as error:
        return {"network": False, "services": [], "faults": [str(error)], "socks": port}


def _certificates(datacenter: DataCenter, access: Sequence[LanAccess]) -> Certificates:
    """Return certificates for services in local networks; opens the vault if one of these asks for them."""
    keys: Mapping[str, str] = {}
    if any(item.public is None for item in access):
        keys = AuthorityFiles(datacenter.secrets, datacenter.chain, vault=vault(datacenter)).keys()
    authority = ca_session.read_only(datacenter)
    return Certificates.read(authority.read_database(), keys, access, authority.now)


# -- the report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrivacyReport:
    plan: ProbePlan
    observed: Mapping[str, Mapping[str, Any]]
    results: Mapping[str, Sequence[ProbeResult]]
    tor: Mapping[str, Any] | None
    lan: Sequence[LanResult]

    @property
    def network(self) -> bool:
        """Whether tor uses the network; if not, nothing listens on its SOCKS port."""
        return bool(self.tor and self.tor["network"])

    def problems(self) -> list[str]:
        found = [
            f"{name} {fault}"
            for name, results in self.results.items()
            for result in results
            if not (result.probe.what == onion.TOR and result.probe.expected == "open" and not self.network)
            for fault in result.faults()
        ]
        found += [f"{name} is connected to {remote} tcp {far_port}, from its port {port}, which the plan does not list"
                  for name, observed in self.observed.items() for own, port, remote, far_port in observed["connections"]
                  if not self.plan.is_listed(name, (own, port, remote, far_port))]  # fmt: skip
        found += [f"{name} listens on tcp {port}, which the plan does not list"
                  for name, observed in self.observed.items()
                  for port in self.plan.unlisted_ports(name, observed["listening"])]  # fmt: skip
        found += [f"{name} listens on udp {port}, which the plan does not list"
                  for name, observed in self.observed.items()
                  for port in self.plan.unlisted_udp_ports(name, observed["listening_udp"])]  # fmt: skip
        found += [f"{name}: {text}" for name, observed in self.observed.items() for text in observed["foreign_files"]]
        found += self.plan.rules
        found += [fault for result in self.lan for fault in result.faults()]
        found += [f"{name} has an IPv6 address, {address}" for name, observed in self.observed.items()
                  for address in observed["ipv6"]]  # fmt: skip
        found += [f"{name} has not loaded its egress firewall" for name, observed in self.observed.items()
                  if self.plan.uplink_user(name) and observed["rules"] is None]  # fmt: skip
        found += [f"{name} is not in the catalogue, so nothing was tested from there (bcm_stack_path)"
                  for name in self.plan.unknown]  # fmt: skip
        if self.tor:
            found += [f"tor: {fault}" for fault in self.tor["faults"]]
            found += [f"{item['service']} {item['fault']}" for item in self.tor["services"] if item["fault"]]
        return found

    def undecided(self) -> list[str]:
        return [text for result in self.lan for text in result.undecided()] + [
            f"{name} {text}"
            for name, results in self.results.items()
            for result in results
            if not (result.probe.what == onion.TOR and result.probe.expected == "open" and not self.network)
            for text in result.undecided()
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return for each instance what it reaches of the plan, and how what it must not reach was tested."""
        rows = []
        for name, results in self.results.items():
            listed = [result for result in results if result.probe.expected == "open"]
            reached = [result.probe for result in listed
                       if any(one["state"] == "open" for one in result.users.values())]  # fmt: skip
            blocked = {}
            for kind in KINDS:
                other = [result for result in results if result.probe.kind == kind and result.probe.expected != "open"]
                faults = sum(bool(result.faults()) for result in other)
                blocked[kind] = {"attempts": sum(len(result.users) for result in other), "faults": faults}
            rows.append(
                {
                    "instance": name,
                    "as": list(self.observed[name]["users"]),
                    "reaches": [f"{probe.what} {probe.port}" for probe in reached],
                    "blocked": blocked,
                }
            )
        return rows

    def remote_addresses(self) -> list[str]:
        """Return where tor's established connections lead, as the kernel shows it."""
        own = self.plan.site.subnets.network
        remotes = {remote for _local, _port, remote, _far_port in self.observed[onion.TOR]["connections"]}
        return sorted(remote for remote in remotes if ipaddress.ip_address(remote) not in own)

    def connection_counts(self) -> dict[str, int]:
        """Return how many connections of each instance tor carries."""
        if not self.tor:
            return {}
        names = {self.plan.address(name): name for name in self.plan.running}
        port = self.tor["socks"]
        found: dict[str, int] = {}
        for _local, local_port, remote, _far_port in self.observed[onion.TOR]["connections"]:
            if local_port == port:
                name = names.get(remote, remote)
                if name == onion.TOR:  # our own connection
                    continue
                found[name] = found.get(name, 0) + 1
        return found


def _print_report(args: argparse.Namespace, report: PrivacyReport) -> int:
    problems, undecided, plan = report.problems(), report.undecided(), report.plan
    status = 1 if problems else 3 if undecided else 0
    onions = list(report.tor["services"]) if report.tor else []
    public = {item["service"]: plan.publication_reason(item["service"]) for item in onions if not item["authorization"]}
    tor = report.tor and {
        **report.tor, "clients": report.connection_counts(), "connected_to": report.remote_addresses()
    }  # fmt: skip
    facts: dict[str, Any] = {
        "instances": report.rows(),
        "stopped": plan.stopped,
        "tor": tor,
        "rules": {name: observed["rules"] for name, observed in report.observed.items() if plan.uplink_user(name)},
        "lan": [result.row() for result in report.lan],
        "exceptions": plan.exceptions,
        "through_tor": plan.through_tor,
        "public_services": public,
        "problems": problems,
        "undecided": undecided,
        "notes": plan.notes,
    }
    if args.json:
        answer(facts, True)
        return status
    answer([_row(row) for row in facts["instances"]], False)
    say()
    answer(_tor_facts(report), False)
    if onions:
        say()
        answer([{key: item[key] for key in ("service", "address", "state")} for item in onions], False)
        for service, why in public.items():
            say(f"{service} is public: {why}")
    if report.lan:
        say()
        answer([_lan_cells(result) for result in report.lan], False)
    if plan.exceptions:
        say()
        say("Exceptions:")
        answer(plan.exceptions, False)
    if plan.through_tor:
        say()
        say("Exceptions through Tor:")
        answer(plan.through_tor, False)
    say()
    for name in plan.stopped:
        say(f"{name} does not run: nothing was tested from there, or to it")
    for note in plan.notes:
        say(f"Beside the data center: {note}")
    for problem in problems:
        say(f"NOT IN ORDER: {problem}")
    for text in undecided:
        say(f"NOT DECIDED: {text}")
    say()
    say(_summary(report, problems, undecided))
    return status


def _row(facts: Mapping[str, Any]) -> dict[str, Any]:
    def cell(attempts: int, faults: int) -> str | None:
        return f"OPEN ({faults})" if faults else f"closed ({attempts})" if attempts else None

    blocked = facts["blocked"]
    own = {key: facts[key] for key in ("instance", "as", "reaches")}
    return {**own, **{KINDS[kind]: cell(**counts) for kind, counts in blocked.items()}}


def _lan_cells(result: LanResult) -> dict[str, Any]:
    row = result.row()
    listed = "is" if result.is_listed else "is not"
    return {
        "in local networks": f"{row['stack']} at {row['address']}",
        "from here": f"{row['from']}, which {listed} listed",
        "without a certificate": row["without_certificate"],
        "with one": f"{row['with_certificate']}, as {row['client']}" if row["client"] else None,
    }


def _summary(report: PrivacyReport, problems: Sequence[str], undecided: Sequence[str]) -> str:
    if problems:
        return f"Not in order: {len(problems)} of the lines above"
    if undecided:
        return f"Nothing was found to leave, but {len(undecided)} of the tests could not be decided: run it again"
    allowed = [
        " ".join(str(part) for part in (item["stack"], "to", item["to"], item["protocol"], item["port"]) if part)
        for item in report.plan.exceptions
    ]
    return f"Nothing but Tor leaves{', and by exception ' + ', '.join(allowed) if allowed else ''}"


def _tor_facts(report: PrivacyReport) -> dict[str, Any]:
    tor = report.tor
    if tor is None:
        return {"tor": "does not run: nothing leaves, and no onion service is published"}
    counted = {"packets": report.observed[onion.TOR]["rules"]}
    if not tor["network"]:
        off = "does not answer" if tor["faults"] else f"{tor['version']}, its network is off (tor_network)"
        return {"tor": off, **counted}
    return {
        "tor": f"{tor['version']}, {tor['bootstrap']}",
        "bytes": {"in": tor["read"], "out": tor["written"]},
        "circuits": tor["circuits"],
        "carries": report.connection_counts() or "no connections at the moment",
        "guards": tor["guards"],
        "connected_to": report.remote_addresses(),
        **counted,
    }
