# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""40 files and 40 commands in 4 instances: as 80 items of copy and command, and by lxd_file and lxd_exec."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec

from .measure import Bench, Line, Variant, interleaved

_HOSTS = 4


def lines(bench: Bench) -> list[Line]:
    inventory = bench.folder / "items.ini"
    names = [f"items{number}" for number in range(_HOSTS)]
    inventory.write_text("\n".join(names) + "\n", encoding="utf-8")
    local = bench.folder / "items"
    local.mkdir(exist_ok=True)
    rounds = itertools.count()

    def variant(connection: str, playbook: str = "items", environment: Mapping[str, str] | None = None) -> Variant:
        def run() -> float:
            variables = {
                "ansible_connection": connection,
                # Each run has something new to write, so each does all of the work.
                "round": str(next(rounds)),
                "folder": str(local) if connection == "local" else "/root/items",
            }
            return bench.playbook(
                f"playbooks/{playbook}.yml", variables, inventory=inventory, environment=environment
            ).seconds

        return run

    mitogen = {
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(bench.peers / "ansible_mitogen/plugins/strategy"),
    }
    with bench.running("items", _HOSTS):
        for name in names:
            lxd_exec.run(bench.client, name, lxd_exec.Command(["mkdir", "-p", "/root/items"]))
        found = interleaved(
            {
                "said": variant("local", "said"),
                "ours": variant("bcm.core.lxd"),
                "mitogen": variant("mitogen_lxd", environment=mitogen),
                "local": variant("local"),
                "general": variant("community.general.lxd", environment={"ANSIBLE_PIPELINING": "false"}),
                "pipelined": variant("community.general.lxd"),
            },
            bench.repetitions,
        )
    items = "80 items of `copy` and `command` in 4 instances, connection `bcm.core.lxd`"
    said = "the same 40 files and 40 commands with `lxd_file` and `lxd_exec`"
    return [
        Line(items, found["ours"], "connection `community.general.lxd`, as it comes", found["general"], 0.6),
        Line(items, found["ours"], "connection `community.general.lxd`, pipelined", found["pipelined"]),
        Line(items, found["ours"], "connection `local`, no instance at all", found["local"]),
        Line(items, found["ours"], "`mitogen_lxd`", found["mitogen"]),
        Line(said, found["said"], "`mitogen_lxd`, the 80 items", found["mitogen"], 1.0),
    ]
