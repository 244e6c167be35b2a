# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of an instance that neither a run nor a package installed; tests/e2e reads them from a real one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import foreign_files
from bcm_cli import status


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("units", "files", "info"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(foreign_files, "_STAMPS", tmp_path / "units")
    monkeypatch.setattr(foreign_files, "_FILES", tmp_path / "files")
    monkeypatch.setattr(foreign_files, "_LISTS", tmp_path / "info")
    monkeypatch.setattr(foreign_files, "_UNITS", (str(tmp_path / "systemd/system"),))
    return tmp_path


def answers(monkeypatch: pytest.MonkeyPatch, stdout: str) -> None:
    done = subprocess.CompletedProcess([], 0, stdout, "")
    monkeypatch.setattr(foreign_files.subprocess, "run", lambda *_args, **_more: done)


def test_file_changed_after_a_run_is_found(root: Path) -> None:
    kept, other, gone = (root / name for name in ("kept", "other  file", "gone"))
    lines = [f"{hashlib.sha256(b'word').hexdigest()}  {path}" for path in (kept, other, gone)]
    (root / "units/lab.digest").write_text("\n".join(["stamp stamp", *lines, ""]))
    kept.write_text("word")
    other.write_text("another")
    expected = [f"{path} differs from what the last run wrote" for path in (other, gone)]
    assert foreign_files.find_changed_files(foreign_files.recorded_digests()) == expected


def test_file_that_a_run_wrote_for_no_unit_is_known(root: Path) -> None:
    (root / "files/uplink.digest").write_text(f"uplink\n{'0' * 64}  /etc/systemd/network/05-uplink.network\n")
    assert foreign_files.recorded_digests() == {"/etc/systemd/network/05-uplink.network": "0" * 64}


def test_foreign_unit_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, masked = root / "own.service", root / "masked.service"
    masked.symlink_to("/dev/null")
    (root / "info/tor.list").write_text("/lib/systemd/system/tor.service\n/usr/bin/tor\n")
    shown = [
        ("a.service", own, ""),
        ("b.service", "/usr/lib/systemd/system/tor.service", "/run/systemd/generator/b.service.d/x.conf"),
        ("c.service", masked, ""),
        ("d.service", "", ""),
        ("e.service", root / "e.service", ""),
        ("f.service", own, f"{root}/f.conf {root}/g.conf"),
    ]
    blocks = [f"Id={name}\nFragmentPath={path}\nDropInPaths={added}" for name, path, added in shown]
    answers(monkeypatch, "\n\n".join(blocks) + "\n")
    expected = [("e", "e.service"), ("f", "f.conf"), ("f", "g.conf")]
    assert foreign_files.find_foreign_units({str(own): ""}) == [
        f"unit {name}.service has {root}/{path}, which neither a package nor a run installed" for name, path in expected
    ]


def test_file_unlike_its_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "??5?????? c /etc/tor/torrc\n??5??????   /usr/bin/tor\nmissing     /usr/share/doc/tor/NEWS\n"
            "missing     /usr/sbin/a b\nmissing   c /etc/motd\n??5??????   /var/lib/x\n")  # fmt: skip
    expected = [f"{path} differs from its package" for path in ("/usr/bin/tor", "/usr/sbin/a b")]
    assert foreign_files.find_files_unlike_package() == expected


def test_long_list_is_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "".join(f"??5??????   /usr/bin/{number}\n" for number in range(1000)))
    found = foreign_files.main({"packages": True, "base": {}, "links": []})["messages"]
    assert len(found) == foreign_files._MOST + 1
    assert found[-1] == f"and {1000 - foreign_files._MOST} more of this kind"


def test_foreign_configuration_of_network_and_logs_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("own", "base", "package", "99-x.network.d/x")
    own, base, package, foreign = (root / "systemd/network" / name for name in names)
    foreign.parent.mkdir(parents=True)
    for path in (own, base, package, foreign):
        path.touch()
    (root / "systemd/network/link").symlink_to("/nowhere")
    (root / "info/x.list").write_text(f"{package}\n")
    monkeypatch.setattr(foreign_files, "_EXCLUSIVE", (str(root / "systemd/network"), str(root / "absent")))
    found = foreign_files.find_foreign_configuration({str(own): "digest"}, {str(base): "digest"})
    foreign_paths = (foreign, root / "systemd/network/link")
    assert found == [f"{path} is there, which neither a package nor a run installed" for path in foreign_paths]


def test_file_or_link_of_the_base_image_that_changed_is_named(root: Path) -> None:
    names = ("kept", "edited", "gone", "of a run", "mask", "unmasked")
    kept, edited, gone, of_run, mask, unmasked = (root / name for name in names)
    for path in (kept, edited, of_run):
        path.write_text("word")
    mask.symlink_to("/dev/null")
    word, other, null = (hashlib.sha256(text).hexdigest() for text in (b"word", b"other", b"/dev/null"))
    base = {kept: word, edited: other, gone: word, of_run: other, mask: null, unmasked: null}
    unmasked.symlink_to(kept)
    digests = {str(path): digest for path, digest in base.items()}
    assert foreign_files.find_files_unlike_image(digests, {str(of_run): ""}) == [
        f"{path} differs from the base image of this version" for path in (edited, gone, unmasked)
    ]


def test_unit_that_was_enabled_by_hand_is_named(root: Path) -> None:
    system = root / "systemd/system"
    for name in ("tor.service", "own.timer"):
        (root / "units" / f"{name.removesuffix('.service')}.digest").touch()
    links = {
        "multi-user.target.wants/tor.service": "/etc/systemd/system/tor.service",
        "timers.target.wants/own.timer": "/etc/systemd/system/own.timer",
        "onion.service": "/etc/systemd/system/tor.service",
        "sockets.target.wants/image.socket": "/lib/systemd/system/image.socket",
        "multi-user.target.wants/package.service": "../package.service",
        "masked.service": "/dev/null",
        "x.target.wants/masked.service": "/dev/null",
        "multi-user.target.wants/ssh.service": "/lib/systemd/system/ssh.service",
        "sshd.service": "/lib/systemd/system/ssh.service",
        "tor.service.requires/cron.service": "/lib/systemd/system/cron.service",
        "tor.service.upholds/nc.service": "/nowhere",
        "loop.service": "loop.service",
    }
    for name, target in links.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).symlink_to(target)
    (system / "x.service").touch()
    (root / "info/package.list").write_text(f"{system}/multi-user.target.wants/package.service\n")
    image = [f"{system}/sockets.target.wants/image.socket"]
    foreign_paths = ["loop.service", "sshd.service", "multi-user.target.wants/ssh.service",
                     "tor.service.requires/cron.service", "tor.service.upholds/nc.service"]  # fmt: skip
    assert foreign_files.find_foreign_links(image, {}, {}) == [
        f"unit {name.rpartition('/')[2]} is enabled by {system}/{name}, which is of no image, package or run"
        for name in foreign_paths
    ]


def test_files_of_the_base_image_are_not_foreign() -> None:
    assert "/etc/systemd/network/10-eth.network" in status.BASE
