# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network and mounts of the tests' own, so that neither this machine's bridges and rules nor its LXD are touched.

What tests send outside goes through slirp4netns, the user-mode network of rootless containers: nothing is set up on the
machine for it, and it ends with this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import tempfile
from functools import cache

import pytest

#: the way out of the tests' network; its addresses are those of RFC 6598, which no data center has
UPLINK = "tap0"
_SUBNET, _RESOLVER = "100.64.0.0/24", "100.64.0.3"
#: where tests aim on purpose, in the networks of documentation (RFC 5737): at a host of their own, or at nobody
AIMED_AT = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/28")
#: where what they aim there goes
NOWHERE = "nowhere"
_NEWNS, _NEWNET = 0x00020000, 0x40000000  # sched.h
#: what a shell does first in a network of its own, and mounts of its own
OWN_SYSFS = """
set -e
mount --make-rprivate /
cgroups=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$cgroups"
mount -t sysfs sysfs /sys
mount --rbind "$cgroups" /sys/fs/cgroup
umount --lazy "$cgroups"
rmdir "$cgroups"
"""
_MOUNTS = f"""{OWN_SYSFS}
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
mount --bind "$1" "$(readlink -f /etc/resolv.conf)"
ip link set lo up
ip link add {NOWHERE} type veth peer name {NOWHERE}0
ip link set {NOWHERE} arp off up
ip link set {NOWHERE}0 arp off up
sysctl --quiet --write net.ipv4.ip_forward=1
"""
_RULES = f"""
table inet bcm_tests {{
    counter strays {{ }}
    chain leaving {{
        type filter hook postrouting priority 0;
        oifname "{UPLINK}" ip daddr {{ {", ".join(AIMED_AT)} }} counter name strays drop
    }}
}}
"""


@cache
def enter() -> None:
    """Give this process, and all that it starts from now on, a network and mounts of its own. Needs root.

    They are gone with the last process in them.
    """
    if os.geteuid() != 0:
        pytest.fail("Tests with containers need root: run `sudo ./bcm test`, or `./bcm test --fast`", pytrace=False)
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(_NEWNS | _NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    with tempfile.NamedTemporaryFile("w", prefix="bcm-resolv-") as resolver:
        resolver.write(f"nameserver {_RESOLVER}\n")
        resolver.flush()
        os.fchmod(resolver.fileno(), 0o644)
        subprocess.run(["sh", "-c", _MOUNTS, "sh", resolver.name], check=True)
    _connect(outside)
    os.close(outside)
    for network in AIMED_AT:
        subprocess.run(["ip", "route", "add", network, "dev", NOWHERE], check=True)
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)


def count_strays() -> int:
    """How many packets that tests aimed at the outside would have left this machine, were they not dropped."""
    listed = subprocess.run(
        ["nft", "-j", "list", "counter", "inet", "bcm_tests", "strays"], capture_output=True, check=True
    )
    found = next(item["counter"] for item in json.loads(listed.stdout)["nftables"] if "counter" in item)
    return int(found["packets"])


def _connect(outside: int) -> None:
    """Start the way out, from the network ``outside`` (a file descriptor), and wait until it is there.

    It ends when the descriptor ``ours`` is closed, with this process at the latest.
    """
    ready, told = os.pipe()
    theirs, _ours = os.pipe()
    options = ["--configure", "--mtu=65520", f"--cidr={_SUBNET}", "--disable-host-loopback"]
    pipes = [f"--ready-fd={told}", f"--exit-fd={theirs}"]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            ["nsenter", f"--net=/proc/self/fd/{outside}", "slirp4netns", *options, *pipes, str(os.getpid()), UPLINK],
            pass_fds=(outside, told, theirs), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        os.close(told)
        os.close(theirs)
        if os.read(ready, 1) != b"1":
            child.wait()
            log.seek(0)
            pytest.fail(f"slirp4netns gives the tests no network: {log.read().decode(errors='replace')}", pytrace=False)
    os.close(ready)
