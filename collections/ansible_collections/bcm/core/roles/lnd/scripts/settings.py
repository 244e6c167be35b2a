# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply what lnd keeps in its database and not in its configuration: its addresses, and its watchtowers.

Without an address in its configuration, it announces those that it announced before.
"""

from __future__ import annotations

import base64
import json
import sys
from urllib.parse import quote

from bcm_guest.lnd import ACTIVE, Lnd
from bcm_guest.prove import Fault, Stack


def forget_addresses(lnd: Lnd, wanted: str | None) -> bool:
    """Have lnd announce no address but that one; whether it announced another. Raises Fault."""
    announced = [uri.partition("@")[2] for uri in lnd.info()["uris"]]
    updates = [{"action": "REMOVE", "address": address} for address in announced if address != wanted]
    if updates:
        lnd.call("POST", "/v2/peers/nodeannouncement", {"address_updates": updates}, macaroon="admin")
    return bool(updates)


def use_watchtowers(lnd: Lnd, wanted: list[str]) -> bool:
    """Have lnd use these watchtowers, as ``key@host:port``, and no others; whether it used others. Raises Fault."""
    used = lnd.watchtowers()
    for uri in sorted(set(wanted).difference(used)):
        key, _at, address = uri.partition("@")
        body = {"pubkey": base64.b64encode(bytes.fromhex(key)).decode(), "address": address}
        lnd.call("POST", "/v2/watchtower/client", body, macaroon="admin")
    for uri in sorted(set(used).difference(wanted)):
        key, _at, address = uri.partition("@")
        path = f"/v2/watchtower/client/{quote(base64.urlsafe_b64encode(bytes.fromhex(key)).decode())}"
        # without an address, the whole tower
        is_kept = any(other.partition("@")[0] == key for other in wanted)
        lnd.call("DELETE", f"{path}?address={quote(address)}" if is_kept else path, macaroon="admin")
    return set(used) != set(wanted)


def main() -> None:
    request = json.load(sys.stdin)
    stack = Stack(request["bcm"], {}, request["expected"])
    lnd = Lnd(stack, stack.expected["directory"])
    try:
        # While it waits for blocks, it keeps what it has; the next run finds it at work.
        is_active = lnd.state() == ACTIVE
        changed = is_active and forget_addresses(lnd, stack.expected["onion"])
        # Without any, its watchtower client is off.
        if is_active and stack.expected["watchtowers"]:
            changed |= use_watchtowers(lnd, stack.expected["watchtowers"])
    except Fault as fault:
        raise SystemExit(f"lnd: {fault}") from fault
    json.dump({"changed": changed}, sys.stdout)


if __name__ == "__main__":
    main()
