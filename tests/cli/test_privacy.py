# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How `bcm privacy` judges the outcomes of its probes; tests/e2e runs them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import probe
from ansible_collections.bcm.core.plugins.module_utils._plan.access import LanAccess
from bcm_cli.lan_probes import LanResult
from bcm_cli.probes import Probe, ProbeResult, find_fault

LISTED = Probe("others", "bitcoind", "10.0.0.2", 8332, expected="open")
OTHER = Probe("others", "bitcoind", "10.0.0.2", 22)
HOST = Probe("host", "the host at a-m-net", "10.0.0.1", 22)
RESOLVER = Probe("dns", "the resolver of a-m-net", "10.0.0.1", 53, "udp", expected="no_lookup")
UPLINK = Probe("dns", "the host at a-m-up", "10.0.8.1", 53, "udp", expected="no_listener")
OUTSIDE = Probe("outside", "192.0.2.1", "192.0.2.1", 443)
NAMES = Probe("dns", "203.0.113.1", "203.0.113.1", 53, "udp")

OPEN, CLOSED, SENT = {"state": "open"}, {"state": "closed"}, {"state": "sent", "on": "eth0"}
UNDECIDED = {"state": "undecided", "on": "eth0"}
NOT_SENT, REJECTED = {"state": "not_sent", "why": "Network is unreachable"}, {"state": "rejected", "by": "10.0.0.1"}


def answered(code: int) -> dict[str, Any]:
    return {"state": "answered", "code": code}


@pytest.mark.parametrize(
    ("tried", "outcome", "fault"),
    [
        (LISTED, OPEN, None),
        (LISTED, CLOSED, "reaches bitcoind, but nothing answers at tcp 8332"),
        (LISTED, SENT, None),
        (LISTED, REJECTED, "cannot reach bitcoind tcp 8332, which the plan lists"),
        (LISTED, NOT_SENT, "cannot reach bitcoind tcp 8332, which the plan lists"),
        (OTHER, OPEN, "reaches bitcoind tcp 22, which the plan does not list"),
        # the other side itself said that its port is closed, so it was reached
        (OTHER, CLOSED, "reaches bitcoind tcp 22, which the plan does not list"),
        (OTHER, REJECTED, None),
        # an instance on the same machine would have answered
        (OTHER, SENT, None),
        (OTHER, NOT_SENT, None),
        (HOST, CLOSED, "reaches the host at a-m-net tcp 22, which the plan does not list"),
        (HOST, SENT, None),
        (RESOLVER, answered(5), None),
        (RESOLVER, answered(0), "can resolve outside names at the resolver of a-m-net udp 53"),
        # it asked another server to know that
        (RESOLVER, answered(3), "can resolve outside names at the resolver of a-m-net udp 53"),
        (RESOLVER, SENT, None),
        (UPLINK, CLOSED, None),
        (UPLINK, SENT, None),
        (UPLINK, answered(5), "reaches the host at a-m-up udp 53, which the plan does not list"),
        (OUTSIDE, NOT_SENT, None),
        (OUTSIDE, REJECTED, None),
        (OUTSIDE, SENT, "sends packets to 192.0.2.1 tcp 443, by eth0, that nothing refuses"),
        (OUTSIDE, CLOSED, "reaches 192.0.2.1 tcp 443, which the plan does not list"),
        (NAMES, SENT, "sends packets to 203.0.113.1 udp 53, by eth0, that nothing refuses"),
        (NAMES, NOT_SENT, None),
        (NAMES, UNDECIDED, None),
    ],
)
def test_fault_of_an_outcome(tried: Probe, outcome: dict[str, Any], fault: str | None) -> None:
    assert find_fault(tried, outcome) == fault


LAN = LanAccess("portal", "http", "192.168.7.1", 443, ("192.168.7.0/24",), (), None)
PUBLIC = replace(LAN, public="friends")
NEAR, FAR = "192.168.7.9", "192.168.8.9"
WHAT = "portal at 192.168.7.1:443"


@pytest.mark.parametrize(
    ("result", "faults"),
    [
        (LanResult(LAN, NEAR, "refused"), []),
        (LanResult(LAN, NEAR, "refused", "alice", "let in"), []),
        (LanResult(LAN, NEAR, "refused", "alice", "refused"),
         [f"{WHAT} does not let in alice, who has a certificate: refused"]),
        (LanResult(LAN, NEAR, "let in"), [f"{WHAT} lets a client in without a certificate"]),
        (LanResult(LAN, NEAR, "unreachable"), [f"{WHAT} cannot be reached from {NEAR}, which is in its networks"]),
        (LanResult(LAN, FAR, "unreachable"), []),
        (LanResult(LAN, FAR, "refused"), [f"{WHAT} can be reached from {FAR}, which is in none of its networks"]),
        (LanResult(PUBLIC, NEAR, "let in"), []),
        (LanResult(PUBLIC, NEAR, "refused"), [f"{WHAT} refuses a client without a certificate"]),
        (LanResult(LAN, NEAR, "foreign"), []),
    ],
)  # fmt: skip
def test_fault_of_what_a_service_in_a_local_network_answers(result: LanResult, faults: list[str]) -> None:
    assert result.faults() == faults
    is_foreign = result.without_certificate == "foreign"
    text = "192.168.7.1:443 answers with a certificate that the root of the data center has not signed"
    assert result.undecided() == ([text] if is_foreign else [])


def test_fault_names_the_users() -> None:
    assert ProbeResult(OTHER, {"root": OPEN, "electrs": CLOSED, "tls": REJECTED}).faults() == [
        "(as root and electrs) reaches bitcoind tcp 22, which the plan does not list"
    ]
    assert ProbeResult(LISTED, {"root": OPEN, "electrs": NOT_SENT}).faults() == [
        "(as electrs) cannot reach bitcoind tcp 8332, which the plan lists"
    ]


def test_missing_answer_is_undecided() -> None:
    assert ProbeResult(LISTED, {"root": OPEN, "electrs": SENT}).undecided() == [
        "(as electrs) got neither an answer nor a refusal from bitcoind tcp 8332, which the plan lists"
    ]
    assert ProbeResult(NAMES, {"root": NOT_SENT, "electrs": UNDECIDED}).undecided() == [
        "(as electrs) sends packets to 203.0.113.1 udp 53, by eth0, where the host does not say what it refuses"
    ]
    for outcome in (OPEN, CLOSED, NOT_SENT, REJECTED, SENT):
        assert ProbeResult(NAMES, {"root": outcome}).undecided() == []


class Host(probe.Trials):
    """A host that seldom sends refusals, and no answer to what it lets out."""

    def __init__(self, trials: list[probe.Trial], refuses: Callable[[int], bool], lets_out: Collection[str]) -> None:
        controls = {"eth0": {"to": "10.0.0.1", "port": 1, "protocol": "tcp", "refused": True, "device": "eth0"}}
        super().__init__({"users": {}, "controls": controls, "seconds": 0}, trials)
        self._refuses, self._lets_out, self.count = refuses, lets_out, 0

    def _try_once(self, trials: list[probe.Trial], seconds: float) -> None:
        self.count += 1
        may_refuse = self._refuses(self.count)
        for trial in trials:
            trial.outcome = dict(SENT)
            if may_refuse and trial.item["to"] not in self._lets_out:
                trial.outcome, may_refuse = dict(REJECTED), False


@pytest.mark.parametrize(
    ("refuses", "lets_out", "states"),
    [
        # one a second, and not each second
        (lambda count: True, [], ["rejected"] * 20),
        (lambda count: count % 3 == 0, [], ["rejected"] * 20),
        (lambda count: False, [], ["undecided"] * 20),
        (lambda count: True, ["192.0.2.7"], ["rejected"] * 7 + ["sent"] + ["rejected"] * 12),
        (lambda count: count % 3 == 0, ["192.0.2.7"], ["rejected"] * 7 + ["sent"] + ["rejected"] * 12),
    ],
)
def test_attempts_are_repeated_while_the_host_limits_its_refusals(
    refuses: Callable[[int], bool], lets_out: list[str], states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "undecided" in states:
        monkeypatch.setattr(probe, "_BUDGET", 0.5)
    assert _run(monkeypatch, refuses, lets_out)[0] == states


def test_attempts_that_the_host_lets_out_are_decided_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a second or so each time."""
    states, count = _run(monkeypatch, lambda count: True, [f"192.0.2.{number}" for number in range(20)])
    assert states == ["sent"] * 20
    assert count < 20


def _run(
    monkeypatch: pytest.MonkeyPatch, refuses: Callable[[int], bool], lets_out: list[str]
) -> tuple[list[str], int]:
    """The states of twenty attempts, and how many times some were made."""
    monkeypatch.setattr(probe.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(probe.Watch, "__init__", lambda self: None)
    items = [{"to": f"192.0.2.{number}", "port": 80, "protocol": "tcp", "refused": True} for number in range(20)]
    trials = [probe.Trial(None, item) for item in items]
    host = Host(trials, refuses, lets_out)
    host.run()
    return [trial.outcome["state"] for trial in trials], host.count


# -- packets -----------------------------------------------------------------------------------------------------------

OURS, THEIRS, GATEWAY = "10.0.0.9", "10.0.0.2", "10.0.0.1"
ITEMS = {protocol: {"to": THEIRS, "port": 22, "protocol": protocol} for protocol in ("tcp", "udp")}


class Capture(probe.Watch):
    """A capture of made-up packets."""

    def __init__(self) -> None:
        self.outcomes = {}

    def comes(self, number: int, data: bytes, source: str = THEIRS) -> None:
        self._transport(number, data, source, OURS, 0, "eth0")

    def goes(self, number: int, data: bytes) -> None:
        self._transport(number, data, OURS, THEIRS, 4, "eth0")

    def outcome(self, protocol: str = "tcp", status: int = 110) -> dict[str, Any]:
        return probe.outcome_of(ITEMS[protocol], 5000, status, self)


def tcp(source: int, target: int, flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, 0, 0, 5 << 4, flags, 0, 0, 0)


def icmp(code: int, number: int) -> bytes:
    inner = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, number, 0) + bytes([10, 0, 0, 9]) + bytes([10, 0, 0, 2])
    return struct.pack("!BBHI", 3, code, 0, 0) + inner + struct.pack("!HHHH", 5000, 22, 8, 0)


def test_outcome_of_a_packet_that_was_not_sent() -> None:
    capture = Capture()
    assert capture.outcome(status=101) == {"state": "not_sent", "why": "Network is unreachable"}
    capture.goes(6, tcp(5001, 22, 2))  # another one
    assert capture.outcome()["state"] == "not_sent"


@pytest.mark.parametrize(("flags", "state"), [(0x12, "open"), (0x14, "closed"), (0x10, "sent")])
def test_outcome_of_a_tcp_packet(flags: int, state: str) -> None:
    capture = Capture()
    capture.goes(6, tcp(5000, 22, 2))
    assert capture.outcome() == {"state": "sent", "on": "eth0"}
    capture.comes(6, tcp(22, 5000, flags))
    assert capture.outcome()["state"] == state
    capture.goes(6, tcp(5000, 22, 2))  # again
    assert capture.outcome()["state"] == state


@pytest.mark.parametrize(
    ("protocol", "source", "code", "state"),
    [
        ("tcp", GATEWAY, 3, "rejected"),
        ("tcp", THEIRS, 3, "rejected"),
        ("udp", GATEWAY, 3, "rejected"),
        ("udp", THEIRS, 3, "closed"),
        ("udp", THEIRS, 13, "rejected"),
    ],
)
def test_outcome_of_an_icmp_message(protocol: str, source: str, code: int, state: str) -> None:
    capture = Capture()
    capture.comes(1, icmp(code, {"tcp": 6, "udp": 17}[protocol]), source)
    assert capture.outcome(protocol) == {"state": state, "by": source}


def test_outcome_of_a_dns_answer() -> None:
    capture = Capture()
    capture.comes(17, struct.pack("!HHHH", 22, 5000, 20, 0) + struct.pack("!6H", 0xBC11, 0x8185, 1, 0, 0, 0))
    assert capture.outcome("udp") == {"state": "answered", "code": 5}


def test_checksum_of_rfc_1071() -> None:
    """RFC 1071, section 3."""
    assert probe.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_kernel_addresses_are_decoded() -> None:
    assert probe._address("3500007F") == "127.0.0.53"
    assert probe._address("0000000000000000FFFF000035A05B0A") == "10.91.160.53"
    assert probe._address("00000000000000000000000001000000") == "::1"


def test_udp_ports_that_others_could_reach_are_found() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as others, socket.socket(type=socket.SOCK_DGRAM) as own:
        others.bind(("0.0.0.0", 0))
        own.bind(("127.0.0.1", 0))
        found = probe.listening_udp()
        assert others.getsockname()[1] in found
        assert own.getsockname()[1] not in found
        others.connect(("127.0.0.1", 9))
        assert others.getsockname()[1] not in probe.listening_udp()
