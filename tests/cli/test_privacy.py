# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How `bcm privacy` judges what became of its attempts; tests/e2e has the attempts."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import probe
from bcm_cli.privacy import Goal, Tried, judged

LISTED = Goal("others", "bitcoind", "10.0.0.2", 8332, may="answer")
OTHER = Goal("others", "bitcoind", "10.0.0.2", 22)
HOST = Goal("host", "the host at a-m-net", "10.0.0.1", 22)
RESOLVER = Goal("dns", "the resolver of a-m-net", "10.0.0.1", 53, "udp", may="refuse")
UPLINK = Goal("dns", "the host at a-m-up", "10.0.8.1", 53, "udp", may="nobody")
OUTSIDE = Goal("outside", "192.0.2.1", "192.0.2.1", 443)
NAMES = Goal("dns", "203.0.113.1", "203.0.113.1", 53, "udp")

OPEN, CLOSED, LEFT = {"state": "open"}, {"state": "closed"}, {"state": "left", "on": "eth0"}
UNHEARD = {"state": "unheard", "on": "eth0"}
KEPT, REJECTED = {"state": "kept", "why": "Network is unreachable"}, {"state": "rejected", "by": "10.0.0.1"}


def answered(code: int) -> dict[str, Any]:
    return {"state": "answered", "code": code}


@pytest.mark.parametrize(
    ("goal", "verdict", "fault"),
    [
        (LISTED, OPEN, None),
        (LISTED, CLOSED, "reaches bitcoind, but nothing answers at tcp 8332"),
        (LISTED, LEFT, None),
        (LISTED, REJECTED, "cannot reach bitcoind tcp 8332, which the plan lists"),
        (LISTED, KEPT, "cannot reach bitcoind tcp 8332, which the plan lists"),
        (OTHER, OPEN, "reaches bitcoind tcp 22, which the plan does not list"),
        # that nobody listens is what the other side said, so it was reached
        (OTHER, CLOSED, "reaches bitcoind tcp 22, which the plan does not list"),
        (OTHER, REJECTED, None),
        # what is on the same machine would have answered
        (OTHER, LEFT, None),
        (OTHER, KEPT, None),
        (HOST, CLOSED, "reaches the host at a-m-net tcp 22, which the plan does not list"),
        (HOST, LEFT, None),
        (RESOLVER, answered(5), None),
        (RESOLVER, answered(0), "can resolve outside names at the resolver of a-m-net udp 53"),
        # it asked somebody to know that
        (RESOLVER, answered(3), "can resolve outside names at the resolver of a-m-net udp 53"),
        (RESOLVER, LEFT, None),
        (UPLINK, CLOSED, None),
        (UPLINK, LEFT, None),
        (UPLINK, answered(5), "reaches the host at a-m-up udp 53, which the plan does not list"),
        (OUTSIDE, KEPT, None),
        (OUTSIDE, REJECTED, None),
        (OUTSIDE, LEFT, "sends packets to 192.0.2.1 tcp 443, by eth0, that nothing refuses"),
        (OUTSIDE, CLOSED, "reaches 192.0.2.1 tcp 443, which the plan does not list"),
        (NAMES, LEFT, "sends packets to 203.0.113.1 udp 53, by eth0, that nothing refuses"),
        (NAMES, KEPT, None),
        (NAMES, UNHEARD, None),
    ],
)
def test_what_is_wrong(goal: Goal, verdict: dict[str, Any], fault: str | None) -> None:
    assert judged(goal, verdict) == fault


def test_who_did_it_is_said() -> None:
    assert Tried(OTHER, {"root": OPEN, "electrs": CLOSED, "tls": REJECTED}).faults() == [
        "(as root and electrs) reaches bitcoind tcp 22, which the plan does not list"
    ]
    assert Tried(LISTED, {"root": OPEN, "electrs": KEPT}).faults() == [
        "(as electrs) cannot reach bitcoind tcp 8332, which the plan lists"
    ]


def test_silence_is_no_verdict() -> None:
    assert Tried(LISTED, {"root": OPEN, "electrs": LEFT}).undecided() == [
        "(as electrs) got neither an answer nor a refusal from bitcoind tcp 8332, which the plan lists"
    ]
    assert Tried(NAMES, {"root": KEPT, "electrs": UNHEARD}).undecided() == [
        "(as electrs) sends packets to 203.0.113.1 udp 53, by eth0, where the host does not say what it refuses"
    ]
    for verdict in (OPEN, CLOSED, KEPT, REJECTED, LEFT):
        assert Tried(NAMES, {"root": verdict}).undecided() == []


class Host(probe.Trials):
    """A host that says only now and then what it refuses, and nothing of what it lets out."""

    def __init__(self, trials: list[probe.Trial], tells: Callable[[int], bool], lets_out: str = "") -> None:
        controls = {"eth0": {"to": "10.0.0.1", "port": 1, "protocol": "tcp", "refused": True, "device": "eth0"}}
        super().__init__({"users": {}, "controls": controls, "seconds": 0}, trials)
        self._tells, self._lets_out, self._count = tells, lets_out, 0

    def _once(self, trials: list[probe.Trial], seconds: float) -> None:
        self._count += 1
        told = self._tells(self._count)
        for trial in trials:
            trial.verdict = dict(LEFT)
            if told and trial.item["to"] != self._lets_out:
                trial.verdict, told = dict(REJECTED), False


@pytest.mark.parametrize(
    ("tells", "lets_out", "states"),
    [
        # one a second, and not each second
        (lambda count: True, "", ["rejected"] * 20),
        (lambda count: count % 3 == 0, "", ["rejected"] * 20),
        (lambda count: False, "", ["unheard"] * 20),
        (lambda count: True, "192.0.2.7", ["rejected"] * 7 + ["left"] + ["rejected"] * 12),
    ],
)
def test_host_that_says_little_is_asked_again(
    tells: Callable[[int], bool], lets_out: str, states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(probe, "_BUDGET", 0.5)
    monkeypatch.setattr(probe.Watch, "__init__", lambda self: None)
    items = [{"to": f"192.0.2.{number}", "port": 80, "protocol": "tcp", "refused": True} for number in range(20)]
    trials = [probe.Trial(None, item) for item in items]
    Host(trials, tells, lets_out).run()
    assert [trial.verdict["state"] for trial in trials] == states


# -- what the packets say ---------------------------------------------------------------------------------------------

OURS, THEIRS, GATEWAY = "10.0.0.9", "10.0.0.2", "10.0.0.1"
ITEMS = {protocol: {"to": THEIRS, "port": 22, "protocol": protocol} for protocol in ("tcp", "udp")}


class Seen(probe.Watch):
    """Packets that nobody sent."""

    def __init__(self) -> None:
        self.seen = {}

    def comes(self, number: int, data: bytes, source: str = THEIRS) -> None:
        self._transport(number, data, source, OURS, 0, "eth0")

    def goes(self, number: int, data: bytes) -> None:
        self._transport(number, data, OURS, THEIRS, 4, "eth0")

    def verdict(self, protocol: str = "tcp", status: int = 110) -> dict[str, Any]:
        return probe.verdict(ITEMS[protocol], 5000, status, self)


def tcp(source: int, target: int, flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, 0, 0, 5 << 4, flags, 0, 0, 0)


def icmp(code: int, number: int) -> bytes:
    inner = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, number, 0) + bytes([10, 0, 0, 9]) + bytes([10, 0, 0, 2])
    return struct.pack("!BBHI", 3, code, 0, 0) + inner + struct.pack("!HHHH", 5000, 22, 8, 0)


def test_a_packet_that_was_not_sent() -> None:
    seen = Seen()
    assert seen.verdict(status=101) == {"state": "kept", "why": "Network is unreachable"}
    seen.goes(6, tcp(5001, 22, 2))  # another one
    assert seen.verdict()["state"] == "kept"


@pytest.mark.parametrize(("flags", "state"), [(0x12, "open"), (0x14, "closed"), (0x10, "left")])
def test_tcp(flags: int, state: str) -> None:
    seen = Seen()
    seen.goes(6, tcp(5000, 22, 2))
    assert seen.verdict() == {"state": "left", "on": "eth0"}
    seen.comes(6, tcp(22, 5000, flags))
    assert seen.verdict()["state"] == state
    seen.goes(6, tcp(5000, 22, 2))  # again
    assert seen.verdict()["state"] == state


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
def test_refused(protocol: str, source: str, code: int, state: str) -> None:
    seen = Seen()
    seen.comes(1, icmp(code, {"tcp": 6, "udp": 17}[protocol]), source)
    assert seen.verdict(protocol) == {"state": state, "by": source}


def test_a_resolver_that_answers() -> None:
    seen = Seen()
    seen.comes(17, struct.pack("!HHHH", 22, 5000, 20, 0) + struct.pack("!6H", 0xBC11, 0x8185, 1, 0, 0, 0))
    assert seen.verdict("udp") == {"state": "answered", "code": 5}


def test_a_checksum() -> None:
    """RFC 1071, section 3."""
    assert probe.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_addresses_of_the_kernel() -> None:
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
