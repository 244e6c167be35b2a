# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API of JoinMarket's wallet daemon, for programs in its instance: ``bcm_guest.joinmarket``.

Source: jmwalletd/src/jmwalletd/routers of joinmarket-ng
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .prove import Endpoint, Fault, Refused, has_main_process_ended, http_request
from .volume_files import read_file, write_file

#: the file of the wallet
WALLET = "wallet.jmdat"
#: what programs keep of the wallet beside it, as JSON: the name that it has at bitcoind, and its bond
_STATE = Path("/var/lib/joinmarket/bcm.json")
#: seconds for an answer: it derives keys, and has bitcoind import a thousand addresses of each kind
_WORK = 240.0
_INTERVAL = 0.2  # seconds


class Joinmarket:
    """The daemon at an endpoint, and the wallet with that password."""

    def __init__(self, place: Endpoint, password: str) -> None:
        self._place = place
        self._password = password

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = "") -> dict[str, Any]:
        """Answer of a call below ``/api/v1``. Raises Fault; Refused if the answer is an error."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        text = "" if body is None else json.dumps(body)
        status, answer = http_request(self._place, method, f"/api/v1/{path}", text, headers=headers, patience=_WORK)
        try:
            content = json.loads(answer)
        except ValueError:
            content = {}
        if status >= 400:
            # Its errors quote what it was sent, such as words.
            raise Refused(f"it answers {path.rpartition('/')[2]} with status {status}", status)
        return dict(content)

    def wait(self, end: float) -> None:
        """Wait until it answers, up to that time of the monotonic clock. Raises Fault."""
        while True:
            try:
                self.call("GET", "getinfo")
                return
            except Fault:
                if time.monotonic() > end or has_main_process_ended():
                    raise
            time.sleep(_INTERVAL)

    def has_wallet(self) -> bool:
        return WALLET in self.call("GET", "wallet/all")["wallets"]

    def create(self) -> tuple[str, str]:
        """Make a wallet: a token for it, and its recovery words."""
        made = self.call("POST", "wallet/create", self._wallet())
        return str(made["token"]), str(made["seedphrase"])

    def restore(self, words: str) -> str:
        """Make the wallet of recovery words, with all coins and bonds that bitcoind finds for it: a token for it."""
        try:
            return str(self.call("POST", "wallet/recover", {**self._wallet(), "seedphrase": words})["token"])
        except Refused as error:
            if error.status == 400:
                raise Refused("its recovery words are not valid: correct them with `bcm secret edit`", 400) from None
            raise

    def _wallet(self) -> dict[str, str]:
        # of the kind that can have fidelity bonds
        return {"walletname": WALLET, "password": self._password, "wallettype": "sw-fb"}

    def unlock(self) -> str:
        """Open the wallet, unless it is open: a token for it."""
        return str(self.call("POST", f"wallet/{WALLET}/unlock", {"password": self._password})["token"])

    def words(self, token: str) -> str:
        return str(self.call("GET", f"wallet/{WALLET}/getseed", token=token)["seedphrase"])

    def name(self, token: str) -> str:
        """The name that the wallet has at bitcoind, which is made of its master key."""
        return str(self.call("GET", "session", token=token)["descriptor_wallet_name"])

    def bond(self, token: str, until: str) -> str:
        """The address whose coins are locked until a month, as ``2027-06``. Each month has one."""
        return str(self.call("GET", f"wallet/{WALLET}/address/timelock/new/{until}", token=token)["address"])

    def offer(self, token: str, offer: Mapping[str, str] | None) -> None:
        """Have the wallet take part in coinjoins of others, unless it does; with None, leave it as it is."""
        session = self.call("GET", "session")
        if offer and not session["maker_running"] and not session["coinjoin_in_process"]:
            self.call("POST", f"wallet/{WALLET}/maker/start", offer, token)


def read_state() -> dict[str, Any]:
    """What `write_state` has written. Raises Fault if there is nothing."""
    try:
        return dict(json.loads(read_file(_STATE)))
    except (OSError, ValueError) as error:
        raise Fault(f"it has no wallet yet: {_STATE} cannot be read") from error


def write_state(state: Mapping[str, Any]) -> bool:
    """Write what is kept of the wallet beside it; whether it was another."""
    content = json.dumps(state, sort_keys=True).encode()
    if _STATE.exists() and read_file(_STATE) == content:
        return False
    write_file(_STATE, content)
    return True
