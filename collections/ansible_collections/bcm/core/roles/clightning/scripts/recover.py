# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a restore without a replica, have the other nodes close the channels of the channel backups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bcm_guest import static_channel_backup
from bcm_guest.clightning import Lightningd, become
from bcm_guest.prove import Fault
from bcm_guest.volume_files import remove_file

#: channel backups, in the directory of lightningd; the second says that something is to be restored, and goes last
COPY, RESTORING = "restoring-copy", "restoring"
_INTERVAL = 0.5  # seconds


def close_all(lightningd: Lightningd, content: bytes) -> None:
    """Have the channels of a backup closed by the other nodes. Raises Fault.

    Of what a backup says of the state of a channel, lightningd 26.06.6 makes no use but to fail: if it is the newest
    one, its onchaind takes the closing transaction for one that it knows, does not find the other node's coins in it,
    and ends before it has claimed this node's. Without that it looks for these alone.
    """
    secret = bytes.fromhex(lightningd.call("makesecret", string="scb secret")["secret"])
    try:
        channels = static_channel_backup.channels(static_channel_backup.decrypted(content, secret))
    except ValueError:
        # Of another version: lightningd can read it, or says what is wrong.
        lightningd.call("emergencyrecover")
    else:
        lightningd.call("recoverchannel", scb=[channel.hex() for channel in channels])


def recover(lightningd: Lightningd, content: bytes, end: float) -> None:
    """Ask until lightningd is started. Raises Fault."""
    while True:
        try:
            close_all(lightningd, content)
            return
        except Fault:
            if time.monotonic() > end:
                raise
        time.sleep(_INTERVAL)


def recover_all(directory: Path, deadline: float) -> None:
    """Have all channels closed that are not yet. Raises Fault."""
    lightningd, end = Lightningd(str(directory)), time.monotonic() + deadline
    target = directory / "emergency.recover"
    for path in (directory / COPY, directory / RESTORING):
        if path.exists() and (content := path.read_bytes()):
            fresh = directory / "emergency.recover.new"
            fresh.write_bytes(content)
            fresh.replace(target)
            recover(lightningd, content, end)


def recover_as(user: str, directory: Path, deadline: float) -> None:
    """Do that as the user of lightningd. Raises SystemExit."""
    child = os.fork()
    if not child:
        status = 1
        try:
            become(user)
            recover_all(directory, deadline)
            status = 0
        except (Fault, OSError) as fault:
            sys.stderr.write(f"clightning: {fault}\n")
            sys.stderr.flush()
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(1)


def main() -> None:
    request = json.load(sys.stdin)
    directory = Path(request["expected"]["directory"])
    if changed := (directory / RESTORING).exists():
        recover_as(request["bcm"]["user"], directory, request["deadline"])
        # Until it has read the recovered channels from its database, lightningd gives a new channel the number of one
        # of them, and breaks down.
        subprocess.run(["systemctl", "restart", "clightning"], check=True, stdout=subprocess.DEVNULL, timeout=300)
        for name in (COPY, RESTORING):
            remove_file(directory / name)
    json.dump({"changed": changed}, sys.stdout)


if __name__ == "__main__":
    main()
