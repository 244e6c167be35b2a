# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local network of the host, with two other addresses in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

#: of the host; of a client in the networks that the inventory lists, and of one that is not
HOST, NEAR, FAR = "192.168.77.1", "192.168.77.7", "192.168.77.130"
LISTED = ["192.168.77.0/25"]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def local_network(namespace: str) -> Iterator[None]:
    """The other addresses are in a network namespace of that name, in which `ip netns exec` runs programs."""
    _ip("netns", "add", namespace)
    try:
        _ip("link", "add", "bcm-lan0", "type", "veth", "peer", "name", "bcm-lan1", "netns", namespace)
        _ip("addr", "add", f"{HOST}/24", "dev", "bcm-lan0")
        _ip("link", "set", "bcm-lan0", "up")
        for words in (("addr", "add", f"{NEAR}/24", "dev", "bcm-lan1"), ("addr", "add", f"{FAR}/24", "dev", "bcm-lan1"),
                      ("link", "set", "bcm-lan1", "up"), ("link", "set", "lo", "up")):  # fmt: skip
            _ip("-n", namespace, *words)
        yield
    finally:
        _ip("netns", "del", namespace)
