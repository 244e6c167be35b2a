# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance has that no run and no package has put there; tests/e2e asks a real one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from bcm_cli import status, strangers


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("units", "info"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(strangers, "_STAMPS", tmp_path / "units")
    monkeypatch.setattr(strangers, "_LISTS", tmp_path / "info")
    monkeypatch.setattr(strangers, "_UNITS", (str(tmp_path / "systemd/system"),))
    return tmp_path


def answers(monkeypatch: pytest.MonkeyPatch, stdout: str) -> None:
    done = subprocess.CompletedProcess([], 0, stdout, "")
    monkeypatch.setattr(strangers.subprocess, "run", lambda *_args, **_more: done)


def test_file_that_is_not_as_it_was_written(root: Path) -> None:
    kept, other, gone = (root / name for name in ("kept", "other  file", "gone"))
    lines = [f"{hashlib.sha256(b'word').hexdigest()}  {path}" for path in (kept, other, gone)]
    (root / "units/lab.digest").write_text("\n".join(["stamp stamp", *lines, ""]))
    kept.write_text("word")
    other.write_text("another")
    expected = [f"{path} differs from what the last run wrote" for path in (other, gone)]
    assert strangers.changed(strangers.written()) == expected


def test_unit_of_no_package_and_of_no_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert strangers.units({str(own): ""}) == [
        f"unit {name}.service has {root}/{path}, which neither a package nor a run installed" for name, path in expected
    ]


def test_file_that_differs_from_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "??5?????? c /etc/tor/torrc\n??5??????   /usr/bin/tor\nmissing     /usr/share/doc/tor/NEWS\n"
            "missing     /usr/sbin/a b\nmissing   c /etc/motd\n??5??????   /var/lib/x\n")  # fmt: skip
    expected = [f"{path} differs from its package" for path in ("/usr/bin/tor", "/usr/sbin/a b")]
    assert strangers.differing() == expected


def test_it_says_no_more_than_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "".join(f"??5??????   /usr/bin/{number}\n" for number in range(1000)))
    said = strangers.main({"packages": True, "base": {}, "links": []})
    assert len(said) == strangers._MOST + 1
    assert said[-1] == f"and {1000 - strangers._MOST} more of this kind"


def test_file_that_changes_the_network_or_the_logs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("own", "base", "package", "99-x.network.d/x")
    own, base, package, foreign = (root / "systemd/network" / name for name in names)
    foreign.parent.mkdir(parents=True)
    for path in (own, base, package, foreign):
        path.touch()
    (root / "systemd/network/link").symlink_to("/nowhere")
    (root / "info/x.list").write_text(f"{package}\n")
    monkeypatch.setattr(strangers, "_EXCLUSIVE", (str(root / "systemd/network"), str(root / "absent")))
    found = strangers.added({str(own): "digest"}, {str(base): "digest"})
    strange = (foreign, root / "systemd/network/link")
    assert found == [f"{path} is there, which neither a package nor a run installed" for path in strange]


def test_file_or_link_of_the_base_image_that_changed_is_named(root: Path) -> None:
    names = ("kept", "edited", "gone", "of a run", "mask", "unmasked")
    kept, edited, gone, of_run, mask, unmasked = (root / name for name in names)
    for path in (kept, edited, of_run):
        path.write_text("word")
    mask.symlink_to("/dev/null")
    word, other, null = (hashlib.sha256(text).hexdigest() for text in (b"word", b"other", b"/dev/null"))
    base = {kept: word, edited: other, gone: word, of_run: other, mask: null, unmasked: null}
    unmasked.symlink_to(kept)
    assert strangers.differing_from_image({str(path): digest for path, digest in base.items()}, {str(of_run): ""}) == [
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
    strange = ["loop.service", "sshd.service", "multi-user.target.wants/ssh.service",
               "tor.service.requires/cron.service", "tor.service.upholds/nc.service"]  # fmt: skip
    assert strangers.enabled(image, {}, {}) == [
        f"unit {name.rpartition('/')[2]} is enabled by {system}/{name}, which is of no image, package or run"
        for name in strange
    ]


def test_files_of_the_base_image_are_no_strangers() -> None:
    assert "/etc/systemd/network/10-eth.network" in status.BASE
