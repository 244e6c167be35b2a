# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write lnd's static channel backup to its second volume whenever a channel is opened or closed.

lnd tells it, over SubscribeChannelBackups. It has encrypted the backup with a key of the wallet, so that only the
recovery words open it.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from bcm_guest.prove import TRUST

# Shorter than a router forgets a connection that says nothing; then it asks again.
_SILENCE = 3600.0  # seconds


def snapshots(address: str, port: int, macaroon: bytes) -> Iterator[dict[str, Any]]:
    """Yield the backup of all channels, at first as it is now, and then after each change (ChanBackupSnapshot)."""
    headers = {"Grpc-Metadata-macaroon": macaroon.hex()}
    context = ssl.create_default_context(cafile=TRUST)
    changes, now = (HTTPSConnection(address, port, timeout=_SILENCE, context=context) for _ in range(2))
    # in this order, so that no change in between is missed
    changes.request("GET", "/v1/channels/backup/subscribe", headers=headers)
    now.request("GET", "/v1/channels/backup", headers=headers)
    answer = now.getresponse()
    content = answer.read().decode()
    if answer.status != 200:
        raise SystemExit(f"lnd does not give its channel backup: {content}")
    yield json.loads(content)
    for line in changes.getresponse():
        found = json.loads(line)
        if "result" not in found:
            raise SystemExit(f"lnd does not tell of changes any more: {found}")
        yield found["result"]


def write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def main(address: str, port: str, macaroon: str, backup: str) -> None:
    try:
        key = Path(macaroon).read_bytes()
        for snapshot in snapshots(address, int(port), key):
            write(Path(backup), base64.b64decode(snapshot["multi_chan_backup"]["multi_chan_backup"]))
            channels = len(snapshot["multi_chan_backup"]["chan_points"])
            print(f"Wrote the backup of {channels} channels", flush=True)
    except OSError as error:
        # lnd is not there yet, or has just ended: systemd starts this again
        raise SystemExit(f"Waiting for lnd: {error}") from error


main(*sys.argv[1:])
