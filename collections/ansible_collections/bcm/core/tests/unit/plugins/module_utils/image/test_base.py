# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._image import base, recipe
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.image.conftest import Machine

# Stands in for mmdebstrap: what it is called with, its way of telling, and its two ways to end.
MMDEBSTRAP = """\
#!/bin/sh
printf '%s\\n' "$@" > "$LOG"
for word; do case $word in
    "--setup-hook=upload "*) file=${word#* }; cp --preserve=mode "${file% *}" "$LOG.options";;
esac; done
echo "I: downloading packages with apt..." >&2
echo "I: running --customize-hook in shell" >&2
if [ -n "$BROKEN" ]; then
    echo "Setting up x" >&2
    echo "dpkg: error processing package x" >&2
    echo "E: apt-get install failed by http://me:secret@192.0.2.7:3142/" >&2
    exit 25
fi
for last; do case $last in *.tar.zst) echo image > "$last";; esac; done
echo "I: success" >&2
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin"
    path.mkdir()
    for name, text in (
        ("mmdebstrap", MMDEBSTRAP),
        ("zstd", ""),
        ("newuidmap", ""),
        ("setpriv", '#!/bin/sh\nshift 3\nexec "$@"\n'),
    ):
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    (tmp_path / "keyring.gpg").write_text("keys")
    (tmp_path / "draft").mkdir()
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setattr(base, "_KEYRING", str(tmp_path / "keyring.gpg"))
    return path


def build(tmp_path: Path, architecture: str = "x86_64", **settings: object) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    settings = {"image_mirror": "http://192.0.2.1/debian", **settings}
    files = base.build(settings, architecture, {"bcm.hash": "ab"}, tmp_path / "draft", said.append)
    return files, said


@pytest.mark.usefixtures("tools")
def test_build(tmp_path: Path) -> None:
    files, said = build(tmp_path, image_apt_options=["Acquire::Check-Valid-Until=false"])
    assert files == {"metadata": "metadata.tar", "rootfs": "rootfs.tar.zst"}
    assert sorted(os.listdir(tmp_path / "draft")) == sorted(files.values())
    assert said[0] == "base image: downloading packages with apt"
    assert said[1].startswith("base image: Debian trixie by mmdebstrap, ")
    argv = (tmp_path / "log").read_text().splitlines()
    assert "--architectures=amd64" in argv
    assert f"--include={','.join(recipe.PACKAGES)}" in argv
    assert (tmp_path / "log.options").read_text() == 'Acquire::Check-Valid-Until "false";\n'
    assert argv[-3:] == [
        "deb http://192.0.2.1/debian trixie main",
        "deb http://192.0.2.1/debian trixie-updates main",
        "deb http://192.0.2.1/debian-security trixie-security main",
    ]


@pytest.mark.usefixtures("tools")
def test_options_of_the_machine_are_used_and_the_password_of_its_proxy_is_hidden(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.set('Acquire::http::Proxy "http://me:secret@192.0.2.7:3142/";\nAcquire::Check-Date "false";')
    build(tmp_path, image_apt_options=["Acquire::Check-Date=true"])
    options = tmp_path / "log.options"
    assert options.read_text() == (
        'Acquire::http::Proxy "http://me:secret@192.0.2.7:3142/";\nAcquire::Check-Date "true";\n'
    )
    assert options.stat().st_mode & 0o777 == 0o600
    assert "secret" not in (tmp_path / "log").read_text()
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BcmError) as failed:
        build(tmp_path)
    assert "failed by http://192.0.2.7:3142/" in str(failed.value)


@pytest.mark.usefixtures("tools")
def test_mode_follows_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    build(tmp_path)
    assert "--mode=root" in (tmp_path / "log").read_text().splitlines()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(base, "_has_range", lambda path, user: True)
    build(tmp_path)
    assert "--mode=unshare" in (tmp_path / "log").read_text().splitlines()


@pytest.mark.usefixtures("tools")
def test_failure_quotes_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BcmError, match=r"\(status 25\): dpkg: error processing package x; E: apt-get install failed"):
        build(tmp_path)


@pytest.mark.usefixtures("tools")
def test_an_architecture_that_debian_lacks(tmp_path: Path) -> None:
    with pytest.raises(BcmError, match="no Debian trixie for the architecture vax"):
        build(tmp_path, "vax")


def test_missing_programs(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tools))
    (tools / "mmdebstrap").unlink()
    (tools / "zstd").unlink()
    with pytest.raises(BcmError, match="mmdebstrap and zstd not found: `sudo apt install mmdebstrap zstd`"):
        build(tmp_path)


@pytest.mark.usefixtures("tools")
def test_missing_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_KEYRING", "/nowhere/keyring.gpg")
    with pytest.raises(BcmError, match="/nowhere/keyring.gpg.*apt install debian-archive-keyring"):
        build(tmp_path)
    with pytest.raises(BcmError, match="/nowhere/own.gpg.*set image_keyring"):
        build(tmp_path, image_keyring="/nowhere/own.gpg")


def test_build_without_root_requires_newuidmap(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tools))
    (tools / "newuidmap").unlink()
    with pytest.raises(BcmError, match="apt install uidmap"):
        build(tmp_path)


@pytest.mark.usefixtures("tools")
def test_build_without_root_requires_a_range_of_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(base, "_has_range", lambda path, user: False)
    with pytest.raises(BcmError, match="no range in /etc/subuid.*usermod --add-subuids"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("alice:100000:65536\n", True),
        (f"{os.getuid()}:100000:65536\n", True),
        ("bob:100000:65536\n", False),
        ("alice\n", False),
    ],
)
def test_ranges(tmp_path: Path, text: str, has: bool) -> None:
    (tmp_path / "subuid").write_text(text)
    assert base._has_range(tmp_path / "subuid", "alice") is has
    assert base._has_range(tmp_path / "none", "alice") is False


@pytest.mark.usefixtures("tools")
def test_metadata(tmp_path: Path) -> None:
    build(tmp_path, "aarch64")
    with tarfile.open(tmp_path / "draft/metadata.tar") as tar:
        metadata = json.load(io.TextIOWrapper(tar.extractfile("metadata.yaml") or io.BytesIO()))
        names = set(tar.getnames())
    assert metadata["architecture"] == "aarch64"
    assert metadata["properties"] == {"bcm.hash": "ab"}
    assert {f"templates/{item['template']}" for item in metadata["templates"].values()} < names


def test_archive() -> None:
    data = base.archive({"a/b": (0o755, "text"), "c": (0o600, b"\0")}, {"d": "/dev/null"})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar}
    assert (members["a/b"].mode, members["a/b"].size, members["c"].mode) == (0o755, 4, 0o600)
    assert members["d"].linkname == "/dev/null"
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}


def test_nothing_starts_by_itself_in_the_base() -> None:
    assert recipe.FILES["usr/sbin/policy-rc.d"] == (0o755, "#!/bin/sh\nexit 101\n")
    assert recipe.FILES["etc/systemd/system-preset/00-bcm.preset"][1] == "disable *\n"
    assert {"etc/systemd/system/apt-daily.timer", "etc/systemd/system/apt-daily-upgrade.timer"} < recipe.LINKS.keys()
