# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The REST API of lnd, for programs in its instance: ``bcm_guest.lnd``.

Source: https://lightning.engineering/api-docs
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .prove import Endpoint, Fault, Refused, Stack, http_request
from .volume_files import read_file

#: Names of lnd's states: without a wallet, with one that is locked, while it waits for blocks, and at work. The others
#: come in between.
NO_WALLET, LOCKED, WAITING, ACTIVE = "NON_EXISTING", "LOCKED", "RPC_ACTIVE", "SERVER_ACTIVE"

#: The age of the newest block, in seconds, up to which lnd takes the chain for complete.
CURRENT = 7200
#: seconds until it has made or opened a wallet: each derives keys by scrypt, on a small computer beside other work
_WORK = 150.0


class Lnd:
    """The API of the lnd in this instance, or of the one at ``place``.

    ``directory`` has the macaroons that lnd makes for its operator.
    """

    def __init__(self, stack: Stack, directory: str, place: Endpoint | None = None) -> None:
        # Its other addresses are closed as long as there is no wallet.
        service = stack.bcm["services"]["rest"]
        self._place = place or Endpoint("127.0.0.1", int(service["port"]), True, name=stack.bcm["address"])
        self._directory = Path(directory)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, macaroon: str = "") -> Any:
        """Answer of a call, with one of the operator's macaroons. Raises Fault; Refused if the answer is an error."""
        headers = {}
        if macaroon:
            try:
                headers["Grpc-Metadata-macaroon"] = read_file(self._directory / f"{macaroon}.macaroon").hex()
            except OSError as error:
                raise Fault(f"its {macaroon}.macaroon cannot be read: {error.strerror}") from error
        if body is None:
            status, answer = http_request(self._place, method, path, headers=headers)
        else:
            status, answer = http_request(
                self._place, method, path, json.dumps(body), headers=headers, patience=_WORK
            )
        try:
            content = json.loads(answer)
        except ValueError:
            content = {}
        if status != 200:
            raise Refused(f"it answers {path} with an error: {content.get('message', f'status {status}')}", status)
        return content

    def state(self) -> str:
        """Whether it has a wallet, and whether that is open. Raises Fault."""
        return str(self.call("GET", "/v1/state")["state"])

    def info(self) -> dict[str, Any]:
        """What it says of itself: its key, its addresses, its height. Raises Fault."""
        return dict(self.call("GET", "/v1/getinfo", macaroon="readonly"))

    def watchtowers(self) -> list[str]:
        """The watchtowers that it uses, as ``key@host:port``. Raises Fault, also if its client is off."""
        towers = self.call("GET", "/v2/watchtower/client", macaroon="readonly")["towers"]
        return sorted(
            f"{base64.b64decode(tower['pubkey']).hex()}@{address}"
            for tower in towers
            if tower["active_session_candidate"]
            for address in tower["addresses"]
        )

    def tower(self) -> str:
        """Its own watchtower, as ``key@host:port``. Raises Fault, also if that is off."""
        return str(self.call("GET", "/v2/watchtower/server", macaroon="readonly")["uris"][0])

    def forget_addresses(self, wanted: str | None) -> bool:
        """Have it announce no address but that one; whether it announced another. Raises Fault.

        Without an address in its configuration, it announces those that it announced before.
        """
        announced = [uri.partition("@")[2] for uri in self.info()["uris"]]
        updates = [{"action": "REMOVE", "address": address} for address in announced if address != wanted]
        if updates:
            self.call("POST", "/v2/peers/nodeannouncement", {"address_updates": updates}, macaroon="admin")
        return bool(updates)

    def use_watchtowers(self, wanted: Sequence[str]) -> bool:
        """Have it use these watchtowers, as ``key@host:port``, and no others; whether it used others. Raises Fault.

        It keeps them in its database.
        """
        used = self.watchtowers()
        for uri in sorted(set(wanted).difference(used)):
            key, _at, address = uri.partition("@")
            body = {"pubkey": base64.b64encode(bytes.fromhex(key)).decode(), "address": address}
            self.call("POST", "/v2/watchtower/client", body, macaroon="admin")
        for uri in sorted(set(used).difference(wanted)):
            key, _at, address = uri.partition("@")
            path = f"/v2/watchtower/client/{quote(base64.urlsafe_b64encode(bytes.fromhex(key)).decode())}"
            # without an address, the whole tower
            is_kept = any(other.partition("@")[0] == key for other in wanted)
            self.call("DELETE", f"{path}?address={quote(address)}" if is_kept else path, macaroon="admin")
        return set(used) != set(wanted)
