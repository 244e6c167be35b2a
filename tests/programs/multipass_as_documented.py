#!/usr/bin/env python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of multipass: it lists, launches, stops and deletes as the documentation of the real one says, and has no
machines. What it is asked, and what it launches with, is kept beside it; the file `address` says where machines are,
and the file `host_key` which key they show.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).parent
STATE = HERE / "machines.json"


def main(verb: str, *words: str) -> None:
    machines = json.loads(STATE.read_text()) if STATE.exists() else {}
    with (HERE / "asked").open("a") as asked:
        asked.write(f"{' '.join((verb, *words))}\n")
    if verb == "list":
        rows = [
            {
                "ipv4": [(HERE / "address").read_text()] if state == "Running" else [],
                "name": name,
                "release": "Ubuntu 24.04 LTS",
                "state": state,
            }
            for name, state in machines.items()
        ]
        print(json.dumps({"list": rows}, indent=4))
    elif verb == "launch":
        (HERE / "user-data").write_text(sys.stdin.read())
        machines[words[words.index("--name") + 1]] = "Running"
    elif verb == "exec":
        print((HERE / "host_key").read_text(), end="")
    elif verb == "stop":
        machines[words[-1]] = "Stopped"
    elif verb == "delete":
        del machines[words[-1]]
    STATE.write_text(json.dumps(machines))


main(*sys.argv[1:])
