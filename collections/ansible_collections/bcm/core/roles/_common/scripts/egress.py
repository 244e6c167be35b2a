# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: compare rules and routes of the uplink with those of the plan, and put them back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

RULES = "/etc/bcm/egress.nft"
NETWORK = "/etc/systemd/network/05-uplink.network"
_LIST = "nft --stateless list table inet bcm"
_PATIENCE = 10.0  # seconds; it takes less than one


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def rules_differ() -> bool:
    """The same file in a network namespace of its own says how the kernel writes it."""
    wanted = output("unshare", "--net", "sh", "-c", f"nft -f {RULES} && {_LIST}")
    return not wanted or output(*_LIST.split()) != wanted


def routes_differ(uplink: dict[str, Any]) -> bool:
    user, gateway = uplink["user"], uplink["gateway"]
    networks = [*(rule["to"] for rule in uplink["rules"]), *uplink["answers"]]
    wanted = {("default", "100")} if user else {(_shown(network), "main") for network in networks}
    found = {
        (route["dst"], route.get("table", "main"), route.get("gateway"))
        for route in json.loads(output("ip", "-4", "-j", "route", "show", "table", "all", "dev", "eth1") or "[]")
        if route.get("table") != "local"
    }
    policies = [rule for rule in json.loads(output("ip", "-4", "-j", "rule") or "[]") if rule["table"] == "100"]
    own = [
        item["local"]
        for device in json.loads(output("ip", "-4", "-j", "address", "show", "dev", "eth1") or "[]")
        for item in device["addr_info"]
    ]
    return (
        found != {(*route, gateway) for route in wanted}
        or len(policies) != bool(user)
        or own != [uplink["address"]]
    )


def _shown(network: str) -> str:
    return "default" if network == "0.0.0.0/0" else network.removesuffix("/32")


def main() -> None:
    expected = json.load(sys.stdin)
    uplink, written = expected["uplink"], expected["written"]
    repaired = []

    def put_right(what: str, path: str, differs: Callable[[], bool], *commands: list[str]) -> None:
        if not differs():
            return
        if path not in written:
            done = "would be" if expected["check"] else "were"
            repaired.append(f"{what} of eth1 were not those of the plan, and {done} put back")
        if expected["check"]:
            return
        for command in commands:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(f"egress: `{' '.join(command)}` failed: {result.stderr.strip()}")
        end = time.monotonic() + _PATIENCE
        while differs():
            if time.monotonic() > end:
                sys.exit(f"egress: {what} of eth1 cannot be made those of the plan; see `networkctl status eth1`")
            time.sleep(0.1)

    if uplink["user"]:
        put_right("rules", RULES, rules_differ, ["systemctl", "reload-or-restart", "egress"])
    put_right(
        "routes",
        NETWORK,
        lambda: routes_differ(uplink),
        ["networkctl", "reload"],
        ["networkctl", "reconfigure", "eth1"],
    )
    print(json.dumps({"repaired": repaired}))


main()
