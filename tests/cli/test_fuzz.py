# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an instance or a file says to the command, it is read or refused. BCM_FUZZ=20000 tries as many for each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import foreign_files, probe
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.fuzzing import (
    Parser,
    spoiled_bytes,
    spoiled_text,
    spoiled_value,
    try_parser,
)
from bcm_cli import datacenter, lxd_setup, materials, probe_plan, probes, status, window

CLIENT: Any = SimpleNamespace()
PACKAGES = b"installed libc6 2.41-12 amd64\ninstalled tor 0.4.9.14~rc1-1 amd64\nnot-installed x  \n"
MADE_OF = {
    "kind": "archive",
    "name": "bitcoin-core",
    "version": "31.1",
    "source": "release",
    "licence": "MIT",
    "signers": ["a"],
    "digest": "a" * 64,
}
OBSERVATION = {
    "users": {"root": 0, "tor": 100},
    "listening": [9050],
    "listening_udp": [],
    "ipv6": [],
    "rules": {"sent": 1},
    "connections": [["10.0.0.2", 9050, "10.0.0.3", 40000]],
}
OUTCOMES = {"users": {"root": [{"state": "sent", "on": "eth0"}]}, "forged": []}
PROBES = (
    probes.Probe("outside", "x", "192.0.2.1", 80),
    probes.Probe("dns", "x", "10.0.0.1", 53, "udp", expected="no_lookup"),
)
UNITS = "Id=tor.service\nFragmentPath=/etc/systemd/system/tor.service\nDropInPaths=\n"
# an ICMP message about a SYN, after its IPv4 header; an answer of DNS; a SYN-ACK
PACKETS = [
    bytes.fromhex("4500003800004000400100000a0000010a000002030d00000000000045000028000040004006")
    + bytes.fromhex("00000a000002c0000201d4310050000000010000000050020400"),
    bytes.fromhex("4500003800004000401100000a0000010a0000020035d43100240000bc118185000100000000"),
    bytes.fromhex("4500002800004000400600000a0000010a0000020050d431000000010000000250120400"),
    bytes.fromhex("6000000000140640") + bytes(32) + bytes.fromhex("0050d4310000000100000002501204000000"),
]


def said_by_instance(work: Callable[[], Any]) -> Callable[[Any], Any]:
    """What is done when a command in an instance writes this."""

    def run(data: Any) -> Any:
        said = data if isinstance(data, bytes) else json.dumps(data).encode()
        done = ExecResult(0, said, b"")
        with mock.patch("ansible_collections.bcm.core.plugins.module_utils._lxd.exec.run", lambda *_, **__: done):
            return work()

    return run


def _outcomes() -> None:
    plan: Any = SimpleNamespace(client=CLIENT)
    found = probe_plan.ProbePlan._ask_probe(plan, "tor", {}, {"users": {"root": [probe_plan._OUTCOME]}, "forged": []})
    for outcome in found["users"]["root"]:
        for tried in PROBES:
            probes.find_fault(tried, {**probe_plan._NOT_REPORTED, **outcome})
            probes.explain_undecided(tried, {**probe_plan._NOT_REPORTED, **outcome})


def _observation() -> None:
    plan: Any = SimpleNamespace(client=CLIENT)
    probe_plan.ProbePlan._ask_probe(plan, "x", {}, probe_plan._OBSERVATION)


def _component(value: Any) -> None:
    made_of = materials._made_of(json.dumps(value))
    if made_of:
        materials._artifact("x", made_of, None, [["x", "1", "amd64"]], None)


def _in_file(module: Any, name: str, work: Callable[[], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(module, name, Path(folder) / "file"):
            (Path(folder) / "file").write_bytes(data) if data else (Path(folder) / "file").mkdir()
            work()

    return read


class _Wire:
    """A packet socket on which one packet comes."""

    def __init__(self, data: bytes) -> None:
        self._left = [(data, ("eth0", kind, 0)) for kind in (probe._IPV4, probe._IPV6)]

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[str, int, int]]:
        if not self._left:
            raise BlockingIOError
        return self._left.pop()


def _packet(data: bytes) -> dict[Any, dict[str, Any]]:
    watch = probe.Watch.__new__(probe.Watch)
    watch.outcomes, watch._socket = {}, _Wire(data)  # type: ignore[assignment]
    watch.read()
    return watch.outcomes


def _strange(text: str) -> None:
    shown = SimpleNamespace(stdout=text.encode("utf-8", "replace").decode(), returncode=0)
    nowhere = Path("/nonexistent")
    with (
        mock.patch.object(foreign_files.subprocess, "run", lambda *_, **__: shown),
        mock.patch.object(foreign_files, "_LISTS", nowhere),
    ):
        foreign_files.find_foreign_units({})
        foreign_files.find_files_unlike_package()


def _cookie(text: str) -> None:
    listed = SimpleNamespace(stdout=text, stderr="")
    with mock.patch.object(window.subprocess, "run", lambda *_, **__: listed):
        window._cookie(":0")


PARSERS: dict[str, Parser] = {
    "packages": (
        spoiled_bytes([PACKAGES]),
        said_by_instance(lambda: [materials._package("x", *words) for words in materials._packages(
            CLIENT, "x", {"status": "Running", "name": "x"}) or ()]),
        (),
    ),
    "what an image is made of": (spoiled_value(MADE_OF), _component, ()),
    "states of units, as a value": (
        spoiled_value({"units": {"tor": "active", "nginx": "failed"}}),
        said_by_instance(lambda: status._units(CLIENT, "x")),
        (),
    ),
    "states of units": (
        spoiled_bytes([b'{"units": {"tor": "active"}}']), said_by_instance(lambda: status._units(CLIENT, "x")), ()
    ),
    "count of a disk, as a value": (
        spoiled_value({"uncounted": "/dev/loop2"}),
        said_by_instance(lambda: status.find_uncounted(CLIENT, [{"stack": "x", "status": "running"}])),
        (),
    ),
    "foreign files, as a value": (
        spoiled_value({"messages": ["unit x has /x"]}), said_by_instance(lambda: status.find_foreign(CLIENT, "x")), ()
    ),
    "foreign files": (
        spoiled_bytes([b'{"messages": ["unit x"]}']), said_by_instance(lambda: status.find_foreign(CLIENT, "x")), ()
    ),
    "systemctl, in an instance": (spoiled_text([UNITS, "??5?????? c /etc/x\n"]), _strange, ()),
    "observation of an instance": (
        spoiled_value(OBSERVATION),
        said_by_instance(_observation),
        (),
    ),
    "outcomes of attempts": (spoiled_value(OUTCOMES), said_by_instance(_outcomes), ()),
    "packet": (spoiled_bytes(PACKETS), _packet, ()),
    "user of a window": (
        spoiled_bytes([b"electrum\n100\n101\n"]), said_by_instance(lambda: window._user(CLIENT, "x", "x.service")), ()
    ),
    "cookie of X": (spoiled_text(["0100 0004 7f000001 0001 30 0012 4d49 0010 00ff\n"]), _cookie, ()),
    "current data center": (
        spoiled_bytes([b'{"datacenter": "local"}']), _in_file(datacenter, "CURRENT", datacenter.current), ()
    ),
    "os-release": (
        spoiled_bytes([b"ID=debian\nID_LIKE=ubuntu\n"]), _in_file(lxd_setup, "_OS_RELEASE", lxd_setup._is_ubuntu), ()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
def test_whatever_it_gets(name: str) -> None:
    try_parser(PARSERS[name])


def test_packets_of_the_samples_are_understood() -> None:
    seen = {outcome["state"] for packet in PACKETS for outcome in _packet(packet).values()}
    assert {"rejected", "answered", "open"} <= seen
