# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links with which programs of people reach this node: `bcm lightning connect-string`.

Each has a rune of its own, which lightningd remembers; its comment names the client, and what it may do.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from bcm_guest.client_links import Refusal, answer_about_links

READ = [
    "bkpr-listaccountevents", "bkpr-listbalances", "bkpr-listincome", "decode", "feerates", "getinfo", "listchannels",
    "listclosedchannels", "listforwards", "listfunds", "listinvoices", "listnodes", "listoffers", "listpays",
    "listpeerchannels", "listpeers", "listsendpays", "listtransactions", "sql",
]  # fmt: skip
INVOICES = ["decode", "getinfo", "invoice", "listinvoices", "newaddr", "waitanyinvoice", "waitinvoice"]
#: what a person may choose -> the calls; none can spend coins on chain, open or close a channel, or make runes
CALLS = {
    "read": READ,
    "invoices": INVOICES,
    "pay": sorted({*READ, *INVOICES, "fetchinvoice", "pay", "xpay"}),
}
# Other than that of the stacks that use it, whose runes are revoked when the stack has gone.
_COMMENT = "bcm-client"


def lightning_cli(*words: str) -> dict[str, Any]:
    """Answer of a command. Raises Refusal."""
    done = subprocess.run(["lightning-cli", *words], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refusal(f"lightning-cli {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return dict(json.loads(done.stdout))


def restrictions(name: str, may: str) -> list[list[str]]:
    return [[f"method={call}" for call in CALLS[may]], [f"method#{_COMMENT} {name} {may}"]]


def client_of(rune: Mapping[str, Any]) -> tuple[str, str] | None:
    """Whose rune it is, and what it may do; None if it is no client's, or was revoked."""
    if rune.get("blacklisted") or not rune["restrictions"]:
        return None
    comment = rune["restrictions"][-1]["alternatives"][0]
    words = comment["value"].split(" ")
    if comment["condition"] != "#" or len(words) != 3 or words[0] != _COMMENT:
        return None
    return words[1], words[2]


def read_clients() -> dict[str, tuple[str, dict[str, Any]]]:
    """What each client may do, and its rune. Raises Refusal."""
    found = ((client_of(rune), rune) for rune in lightning_cli("showrunes")["runes"])
    return {client[0]: (client[1], rune) for client, rune in found if client}


def make(name: str, may: str, place: str) -> dict[str, Any]:
    """Make the link of a client, or show it again. Raises Refusal."""
    clients = read_clients()
    if name in clients:
        known, rune = clients[name]
        if known != may:
            raise Refusal(f"{name} may {known}, not {may}: revoke it first, or choose another name")
    else:
        rune = lightning_cli("-k", "createrune", f"restrictions={json.dumps(restrictions(name, may))}")
    return {"link": f"clnrest://{place}?rune={rune['rune']}"}


def revoke(name: str) -> dict[str, Any]:
    """Revoke what a client has. Raises Refusal."""
    clients = read_clients()
    if name not in clients:
        raise Refusal(f"{name} has no link; those that have one: {', '.join(clients) or 'none'}")
    lightning_cli("blacklistrune", clients[name][1]["unique_id"])
    return {}


def main() -> None:
    answer_about_links("clightning", make, revoke, lambda: {name: may for name, (may, _rune) in read_clients().items()})


if __name__ == "__main__":
    main()
