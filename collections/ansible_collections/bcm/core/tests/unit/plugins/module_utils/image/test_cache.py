# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._image.cache import Cache, Entry

HASH = "ab" * 32


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "images")


def add(cache: Cache, content: bytes = b"image", image_hash: str = HASH) -> Entry:
    with cache.lock(image_hash), cache.draft(image_hash) as draft:
        (draft / "image.tar.zst").write_bytes(content)
        return cache.commit(
            draft, Entry(image_hash, "bcm/x/abab", "f" * 64, {"image": "image.tar.zst"}, {"bcm.stack": "x"})
        )


def left(cache: Cache) -> list[str]:
    return [name for name in os.listdir(cache.root) if not name.startswith(".lock")]


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache().root == tmp_path / "bcm/images"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache().root == tmp_path / ".cache/bcm/images"


def test_an_entry_comes_back(cache: Cache) -> None:
    assert cache.get(HASH) is None
    assert cache.entries() == []
    entry = add(cache)
    assert cache.get(HASH) == entry
    assert cache.entries() == [entry]
    assert entry.size == 5
    assert cache.path(entry, "image").read_bytes() == b"image"
    assert left(cache) == [HASH]


def test_a_new_entry_replaces_the_former(cache: Cache) -> None:
    add(cache)
    assert cache.path(add(cache, b"other"), "image").read_bytes() == b"other"
    assert left(cache) == [HASH]


def test_a_failed_entry_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(OSError, match="disk full"), cache.lock(HASH), cache.draft(HASH) as draft:
        (draft / "image.tar.zst").write_bytes(b"im")
        raise OSError("disk full")
    assert cache.get(HASH) is None
    assert left(cache) == []


def _killed(cache: Cache) -> None:
    with cache.lock(HASH), cache.draft(HASH) as draft:
        (draft / "image.tar.zst").write_bytes(b"im")
        os._exit(9)


def test_the_next_run_removes_a_killed_entry(cache: Cache) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(cache,))
    process.start()
    process.join()
    assert len(left(cache)) == 1
    assert cache.get(HASH) is None
    assert cache.entries() == []
    with cache.lock(HASH):
        assert left(cache) == []


def test_draft_of_another_run_is_kept(cache: Cache) -> None:
    other = "cd" * 32
    with cache.lock(other), cache.draft(other) as draft, cache.lock(HASH):
        assert draft.exists()


@pytest.mark.parametrize("damage", ["shorter", "gone", "no index", "half an index", "another hash"])
def test_damaged_entry_is_not_returned(cache: Cache, damage: str) -> None:
    entry = add(cache)
    index = cache.root / HASH / "image.json"
    if damage == "shorter":
        os.truncate(cache.path(entry, "image"), 3)
    elif damage == "gone":
        cache.path(entry, "image").unlink()
    elif damage == "no index":
        index.unlink()
    elif damage == "half an index":
        os.truncate(index, 20)
    else:
        index.write_text(index.read_text().replace("ab", "cd"))
    assert cache.get(HASH) is None
    assert cache.entries() == []
    assert cache.hashes() == {HASH}


def test_removing(cache: Cache) -> None:
    add(cache)
    with cache.lock(HASH):
        cache.remove(HASH)
        cache.remove(HASH)
        cache.forget(HASH)
    assert os.listdir(cache.root) == []


def test_lock_excludes_others_and_reports_the_wait(cache: Cache) -> None:
    inside, told = threading.Event(), threading.Event()
    order: list[str] = []

    def second() -> None:
        inside.wait(5)
        with cache.lock(HASH, told.set):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with cache.lock(HASH):
        inside.set()
        assert told.wait(120)
        order.append("first")
    thread.join(120)
    assert order == ["first", "second"]


def test_lock_that_was_removed_while_waiting_is_taken_again(cache: Cache) -> None:
    told = threading.Event()
    taken: list[bool] = []

    def second() -> None:
        with cache.lock(HASH, told.set):
            taken.append((cache.root / f".lock-{HASH}").exists())

    with cache.lock(HASH):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(120)
        cache.forget(HASH)
    thread.join(120)
    assert taken == [True]


def test_use_is_remembered(cache: Cache) -> None:
    add(cache)
    os.utime(cache.root / HASH / "image.json", (time.time() - 100,) * 2)
    assert 99 < cache.used(HASH) < 110
    cache.touch(HASH)
    assert cache.used(HASH) < 10
    cache.touch("cd" * 32)
