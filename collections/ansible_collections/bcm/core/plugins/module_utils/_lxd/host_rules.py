# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test whether the host still has LXD's firewall rules: another program there may have flushed them.

The API knows what rules there ought to be, not what the kernel has. A packet from an instance knows.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from .._guest import host_reply
from .client import Client
from .lxd_errors import LxdError
from .programs import ask_program

_SOON = 20.0  # seconds for what takes milliseconds


def lost(client: Client, instance: str, host: str) -> bool:
    """Whether an instance reaches the host, by its IPv4 address on their network, although an access list rejects that.

    Not if it could not be tried, as in an instance that is about to start or to stop.
    """
    path, shape = Path(host_reply.__file__), {"lost": bool}
    with contextlib.suppress(LxdError):
        return bool(ask_program(client, instance, path, {"host": host}, shape=shape, deadline=_SOON)["lost"])
    return False
