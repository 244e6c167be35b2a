# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import disk_counters

MOUNTS = """\
5985 5984 0:811 / /dev rw,relatime shared:6560 - tmpfs none rw,size=492k,mode=755
5984 5466 0:581 /containers/x/rootfs / rw,relatime shared:5062 - {kind} {device} rw,space_cache=v2,subvolid=275
6085 5984 0:581 /custom/x /var/lib/x rw - {kind} /dev/loop9 rw
"""


@pytest.mark.parametrize(
    ("kind", "device", "flag", "found"),
    [
        ("btrfs", "/dev/loop2", "1", "/dev/loop2"),
        ("btrfs", "/dev/loop2", "0", None),
        ("btrfs", "/dev/loop2", None, None),  # quotas are off, or the kernel is older
        ("btrfs", "/dev/loop3", "1", None),
        ("zfs", "pool/containers/x", "1", None),
    ],
)
def test_pool_of_which_the_kernel_has_lost_count_is_named(
    kind: str, device: str, flag: str | None, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS.format(kind=kind, device=device))
    (tmp_path / "btrfs/069bc307/devices/loop2").mkdir(parents=True)
    if flag is not None:
        (tmp_path / "btrfs/069bc307/qgroups").mkdir()
        (tmp_path / "btrfs/069bc307/qgroups/inconsistent").write_text(f"{flag}\n")
    monkeypatch.setattr(disk_counters, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(disk_counters, "_FILESYSTEMS", tmp_path / "btrfs")
    assert disk_counters.find_uncounted() == found
