# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test whether the host still has LXD's firewall rules: another program there may have flushed them.

The API knows what rules there ought to be, not what the kernel has. A packet knows: what an access list rejects is
answered by ICMP, an unfiltered one by TCP itself.
"""

from __future__ import annotations

import contextlib

from . import exec as lxd_exec
from .client import Client
from .lxd_errors import LxdError

_SOON = 20.0  # seconds for what takes milliseconds
# A connection to the host's port for "discard". The kernel hands an ICMP message to raw sockets before
# the connection hears of it. It sends one a second, after six in a row (icmp_ratelimit of icmp(7)), so one attempt
# may have to be repeated, which TCP does.
_ASK = """
import errno, socket, struct, sys
host = sys.argv[1]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as heard, socket.socket() as asking:
    asking.settimeout(4)
    answered = asking.connect_ex((host, 9)) in (0, errno.ECONNREFUSED)
    own, rejected = asking.getsockname()[1], False
    heard.setblocking(False)
    try:
        while True:
            packet = heard.recv(256)
            about = packet[(packet[0] & 15) * 4 :][8:]
            tcp = about[(about[0] & 15) * 4 :][:4] if about else b""
            rejected |= tcp == struct.pack("!HH", own, 9) and about[16:20] == socket.inet_aton(host)
    except BlockingIOError:
        pass
print("lost" if answered and not rejected else "")
"""


def lost(client: Client, instance: str, host: str) -> bool:
    """Whether an instance reaches the host, by its IPv4 address on their network, although an access list rejects that.

    Not if it could not be tried, as in an instance that is about to start or to stop.
    """
    with contextlib.suppress(LxdError):
        argv = ["python3", "-S", "-E", "-c", _ASK, host]
        return lxd_exec.run(client, instance, lxd_exec.Command(argv, cwd="/"), deadline=_SOON).stdout.strip() == b"lost"
    return False
