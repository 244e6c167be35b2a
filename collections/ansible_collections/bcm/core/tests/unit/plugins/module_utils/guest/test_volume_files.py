# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root reads and writes in directories of a service, which could put links there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.volume_files import (
    list_files,
    make_directory,
    read_file,
    remove_file,
    write_file,
)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory of a service, beside one of somebody else's with the file ``secret.json``."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/secret.json").write_text("theirs")
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def test_written_file_is_read_and_only_its_owners(volume: Path) -> None:
    make_directory(volume / "kept")
    make_directory(volume / "kept")
    assert list_files(volume / "missing", ".json") == []
    for content in (b"first", b"second"):
        write_file(volume / "kept/a.json", content)
        assert read_file(volume / "kept/a.json") == content
    assert (volume / "kept/a.json").stat().st_mode & 0o777 == 0o600
    assert list_files(volume / "kept", ".json") == [volume / "kept/a.json"]
    remove_file(volume / "kept/a.json")
    remove_file(volume / "kept/a.json")
    assert list(volume.rglob("*")) == [volume / "kept"]


def test_file_that_a_killed_program_left_is_replaced(volume: Path) -> None:
    (volume / "a.json.new").write_text("half")
    write_file(volume / "a.json", b"whole")
    assert (read_file(volume / "a.json"), os.listdir(volume)) == (b"whole", ["a.json"])


def test_failed_write_leaves_the_former_file(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(volume / "a.json", b"former")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(volume / "a.json", b"latter")
    assert read_file(volume / "a.json") == b"former"


@pytest.mark.parametrize(
    "act",
    [
        lambda volume: read_file(volume / "link.json"),
        lambda volume: read_file(volume / "way/secret.json"),
        lambda volume: write_file(volume / "way/secret.json", b"ours"),
        lambda volume: remove_file(volume / "way/secret.json"),
        lambda volume: list_files(volume / "way", ".json"),
        lambda volume: make_directory(volume / "way"),
        lambda volume: make_directory(volume / "way/below"),
    ],
)
def test_links_are_not_followed(volume: Path, act: Callable[[Path], object]) -> None:
    other = volume.parent / "other"
    (volume / "way").symlink_to(other)
    (volume / "link.json").symlink_to(other / "secret.json")
    with pytest.raises(OSError):
        act(volume)
    assert {path.name: path.read_text() for path in other.iterdir()} == {"secret.json": "theirs"}


@pytest.mark.parametrize("name", ["a.json", "a.json.new"])
def test_link_in_the_place_of_a_file_is_replaced(volume: Path, name: str) -> None:
    secret = volume.parent / "other/secret.json"
    (volume / name).symlink_to(secret)
    write_file(volume / "a.json", b"ours")
    assert (read_file(volume / "a.json"), secret.read_text()) == (b"ours", "theirs")
    (volume / "a.json").unlink()
    (volume / "a.json").symlink_to(secret)
    remove_file(volume / "a.json")
    assert (os.listdir(volume), secret.read_text()) == ([], "theirs")


def test_pipe_is_no_file(volume: Path) -> None:
    os.mkfifo(volume / "a.json")
    with pytest.raises(OSError, match="Not a file"):
        read_file(volume / "a.json")
