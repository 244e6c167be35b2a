# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Onion services on a Tor network of one's own: 20 in one batch, one, and none to be made; addresses of keys."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._tor.onion_keys import new_key, parse_key
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile
from tests import tornet

from .datacenter import site
from .measure import Bench, Line, timed

_COUNT = 20
_ADDRESSES = 1000
_DATACENTER = "bench-t"
# of the bridge of the benchmarks: the tor of the data center reaches it by its own
_HOST = "198.51.100.1"
#: seconds on the way to a relay, and as many back, as between relays of different continents
_DELAY = 0.075


def lines(bench: Bench) -> list[Line]:
    one: list[float] = []
    many: list[float] = []
    again: list[float] = []
    reached: list[float] = []
    with tornet.running([_HOST], _DELAY) as network:
        told: dict[str, Any] = {"stack": "bitcoind", "tor_network": True, "tor_lines": network.lines}
        outside = tornet.Client(network, "outside")
        outside.tor.bootstrapped()
        try:
            site(bench, _DATACENTER, **told)
            # their keys stay, and so do their addresses
            kept = ServicesFile(bench.folder / _DATACENTER / "secrets", "regtest").read()["bitcoind-p2p"]
            for number in range(bench.repetitions):
                site(bench, _DATACENTER, **told, state="absent", delete_data=True)
                begun = time.monotonic()
                site(bench, _DATACENTER, **told)
                outside.connected(kept.key.address, min(kept.ports)).close()
                reached.append(time.monotonic() - begun)
                services = {
                    "project": datacenter_names(_DATACENTER, "regtest").project,
                    "place": str(bench.folder / f"onions{number}"),
                    "one": _services("one", 1),
                    "many": _services("many", _COUNT),
                }
                tasks = bench.playbook("playbooks/onions.yml", services).tasks
                one.append(tasks["One service"])
                many.append(tasks["Many services"])
                again.append(tasks["Leave them alone"])
        finally:
            site(bench, _DATACENTER, **told, state="absent", delete_data=True)
    texts = [new_key().text for _number in range(_ADDRESSES)]
    derived = [
        timed(lambda: [parse_key(text, "a service").address for text in texts]) for _number in range(bench.repetitions)
    ]
    return [
        Line("from site.yml to an onion service that is reached from outside", median(reached)),
        Line(f"{_COUNT} onion services created and published in one batch", median(many), "one", median(one), 1.5),
        Line(f"{_COUNT} onion services, nothing to do", median(again), at_most=0.5),
        Line(f"{_ADDRESSES} onion addresses derived from their keys", median(derived), at_most=1.0),
    ]


def _services(name: str, count: int) -> list[dict[str, Any]]:
    ports = [{"port": 80, "targets": ["127.0.0.1:80"]}]
    return [{"name": f"{name}{number}", "ports": ports} for number in range(count)]
