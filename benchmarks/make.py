# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""8 instances from nothing to an address: one lxd_apply, and the raw API side by side."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pylxd.client import get_session_for_url

from .measure import Bench, Line, interleaved, timed

_COUNT = 8


def lines(bench: Bench) -> list[Line]:
    instances = bench.instances("make", _COUNT, config={"limits.memory": "1GiB"}, wait_for="address")

    def ours() -> float:
        run = bench.playbook("playbooks/make.yml", {"instances": instances})
        bench.remove("make", _COUNT)
        return run.tasks["Make instances"]

    def raw() -> float:
        with ThreadPoolExecutor(_COUNT) as pool:
            seconds = timed(lambda: list(pool.map(lambda instance: _make(bench, instance), instances)))
        bench.remove("make", _COUNT)
        return seconds

    found = interleaved({"ours": ours, "raw": raw}, bench.repetitions)
    work = f"`lxd_apply`, {_COUNT} instances from nothing to an address"
    return [Line(work, found["ours"], "raw REST, side by side", found["raw"], 1.25)]


def _make(bench: Bench, instance: dict[str, Any]) -> None:
    url = bench.client.endpoint.url
    path = f"{url}/1.0/instances/{instance['name']}"
    with get_session_for_url(url) as session:

        def done(answer: Any) -> None:
            operation = session.get(f"{url}{answer.json()['operation']}/wait").json()["metadata"]
            assert operation["status_code"] == 200, operation["err"]

        body = {key: instance[key] for key in ("name", "profiles", "config", "devices")}
        body["source"] = {"type": "image", "fingerprint": instance["image"]}
        done(session.post(f"{url}/1.0/instances", json=body))
        done(session.put(f"{path}/state", json={"action": "start"}))
        while not _address(session.get(f"{path}/state").json()["metadata"]):
            time.sleep(0.05)


def _address(state: dict[str, Any]) -> bool:
    addresses = ((state["network"] or {}).get("eth0") or {}).get("addresses", ())
    return any(address["scope"] == "global" for address in addresses)
