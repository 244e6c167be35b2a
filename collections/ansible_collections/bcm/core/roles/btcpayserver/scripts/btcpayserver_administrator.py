# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the administrator once BTCPay Server answers, and give it the password of the data center's secrets.

BTCPay Server changes a password only for somebody who knows the one before. So the one that it has is kept, too. A key
with which the stack is verified is made beside it, since logins are limited to a few in a minute.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bcm_guest.prove import Endpoint, Fault, has_main_process_ended, http_request
from bcm_guest.volume_files import read_file, write_file

_PATIENCE = 600.0  # seconds: the database of an earlier version is changed first
_WANTED = Path("/etc/btcpayserver/password")
_FOLDER = Path("/var/lib/btcpayserver")
_KEPT, _KEY = _FOLDER / "administrator", _FOLDER / "verify"
#: what the key allows
_PERMISSIONS = (
    "btcpay.server.canuseinternallightningnode",
    "btcpay.store.cancreateinvoice",
    "btcpay.store.canmodifyinvoices",
    "btcpay.store.canmodifystoresettings",
    "btcpay.store.canviewinvoices",
    "btcpay.store.canviewstoresettings",
)


class Server:
    """BTCPay Server, as its administrator."""

    def __init__(self, place: Endpoint, email: str) -> None:
        self._place = place
        self._email = email

    def ask(self, method: str, path: str, body: Any = None, password: str = "", key: str = "") -> tuple[int, str]:
        """Status and body of an answer. Raises Fault if nothing answers."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            headers["Authorization"] = f"token {key}"
        login = f"{self._email}:{password}" if password else ""
        return http_request(
            self._place, method, f"/api/v1/{path}", "" if body is None else json.dumps(body), login, headers
        )

    def knows(self, password: str) -> bool:
        return bool(password) and self.ask("GET", "users/me", password=password)[0] == 200

    def check_health(self) -> None:
        """Raises Fault unless it is at work."""
        status, text = self.ask("GET", "health")
        if status != 200:
            raise Fault(f"it answers with status {status}: {text[:300]}")

    def await_answer(self) -> None:
        """Wait until it is at work. Raises SystemExit if that takes too long, or if it has ended."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.check_health()
            except Fault as fault:
                if time.monotonic() > end or has_main_process_ended():
                    raise SystemExit(f"BTCPay Server is not at work: {fault}") from fault
            time.sleep(0.5)

    def provide(self, wanted: str) -> None:
        """Have the administrator log in with this password. Raises SystemExit if nobody knows the one it has."""
        if self.knows(wanted):
            return
        body: dict[str, Any]
        before = read_kept(_KEPT)
        if before and before != wanted and self.knows(before):
            body = {"currentPassword": before, "newPassword": wanted}
            status, text = self.ask("PUT", "users/me", body, password=before)
        else:
            body = {"email": self._email, "password": wanted, "isAdministrator": True}
            status, text = self.ask("POST", "users", body)
        if status not in (200, 201):
            # verify says so, once more; the shop works.
            raise SystemExit(f"{self._email} cannot be given the password of the secrets: {text[:300]}")

    def make_key(self, password: str) -> None:
        key = read_kept(_KEY)
        if key and self.ask("GET", "api-keys/current", key=key)[0] == 200:
            return
        body = {"label": "verification by the data center", "permissions": _PERMISSIONS}
        status, text = self.ask("POST", "api-keys", body, password=password)
        if status == 200:
            write_file(_KEY, json.loads(text)["apiKey"].encode())


def read_kept(path: Path) -> str:
    """What an earlier start has written there; empty if none has."""
    try:
        return read_file(path).decode()
    except FileNotFoundError:
        return ""


def main(place: str, email: str) -> None:
    host, port = place.split(":")
    server, wanted = Server(Endpoint(host, int(port)), email), _WANTED.read_text()
    server.await_answer()
    try:
        server.provide(wanted)
    except SystemExit as why:
        sys.stderr.write(f"{why}\n")
        if not read_kept(_KEPT):
            raise
        return
    if read_kept(_KEPT) != wanted:
        write_file(_KEPT, wanted.encode())
    server.make_key(wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
