# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore, Entry
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

CONTENT = b"an artifact"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
DAY = 24 * 60 * 60


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "artifacts")


def add(store: ContentStore, content: bytes = CONTENT, algorithm: str = "sha256", found: str | None = None) -> Path:
    digest = hashlib.new(algorithm, content).hexdigest()
    with store.lock(digest):
        store.partial(digest).write_bytes(content)
        return store.commit(store.partial(digest), algorithm, digest, "x.tar.gz", found)


def files(store: ContentStore, folder: str) -> list[str]:
    return sorted(os.listdir(store.root / folder)) if (store.root / folder).exists() else []


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ContentStore().root == tmp_path / "bcm/artifacts"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ContentStore().root == tmp_path / ".cache/bcm/artifacts"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_committed_file_is_found(store: ContentStore, algorithm: str) -> None:
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    assert store.get(algorithm, digest) is None
    assert store.check(algorithm, digest) is None
    assert store.entries() == []
    path = add(store, algorithm=algorithm)
    assert path == store.get(algorithm, digest) == store.check(algorithm, digest) == store.root / algorithm / digest
    assert path.read_bytes() == CONTENT
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert store.entries() == [Entry(algorithm, digest, len(CONTENT))]
    assert files(store, "partial") == []


def test_a_digest_that_is_known_is_not_computed_again(store: ContentStore) -> None:
    assert add(store, found=DIGEST).read_bytes() == CONTENT
    with pytest.raises(BcmError, match=f"has the sha256 digest {OTHER}"):
        add(store, found=OTHER)


def test_a_mismatch_is_kept_aside_once_and_never_given_out(store: ContentStore) -> None:
    for _unused in range(2):
        with store.lock(DIGEST):
            partial = store.partial(DIGEST)
            partial.write_bytes(b"another")
            partial.with_name(f"{DIGEST}.state").write_text("{}")
            kept = store.root / "refused" / f"{OTHER}-x.tar.gz"
            said = f"^x.tar.gz has the sha256 digest {OTHER}, pinned is {DIGEST}: .*; kept as {kept}, never used$"
            with pytest.raises(BcmError, match=said):
                store.commit(partial, "sha256", DIGEST, "x.tar.gz")
        assert files(store, "refused") == [kept.name]
        assert kept.read_bytes() == b"another"
    assert files(store, "partial") == []
    assert store.get("sha256", DIGEST) is store.get("sha256", OTHER) is None
    assert store.entries() == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_damaged_file_is_moved_to_refused(store: ContentStore, algorithm: str) -> None:
    path = add(store, algorithm=algorithm)
    path.write_bytes(b"damaged")
    assert store.check(algorithm, path.name) is None
    assert store.get(algorithm, path.name) is None
    assert files(store, "refused") == [f"{hashlib.new(algorithm, b'damaged').hexdigest()}-damaged"]


def test_a_long_name_is_no_obstacle(store: ContentStore) -> None:
    with store.lock("0"), pytest.raises(BcmError, match="never used"):
        store.partial("0").write_bytes(b"x")
        store.commit(store.partial("0"), "sha512", "0", "x" * 250)
    assert len(files(store, "refused")) == 1


def test_a_copy_is_verified(store: ContentStore, tmp_path: Path) -> None:
    source = tmp_path / "x.tar.gz"
    source.write_bytes(CONTENT)
    with store.lock(DIGEST):
        assert store.copy(source, "sha256", DIGEST, "x.tar.gz").read_bytes() == CONTENT
    assert source.read_bytes() == CONTENT
    with store.lock(OTHER), pytest.raises(BcmError, match=f"pinned is {OTHER}"):
        store.copy(source, "sha256", OTHER, "x.tar.gz")
    with store.lock(OTHER), pytest.raises(BcmError, match="No such file"):
        store.copy(tmp_path / "none", "sha256", OTHER, "x.tar.gz")
    assert files(store, "partial") == []


def test_small_contents_are_kept(store: ContentStore) -> None:
    assert store.put(CONTENT) == store.put(CONTENT) == DIGEST
    path = store.get("sha256", DIGEST)
    assert path and path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o644
    assert files(store, "partial") == []


def test_records(store: ContentStore) -> None:
    assert store.read_record("a") is None
    store.write_record("a", {"x": [1]})
    store.write_record("a", {"x": [2]})
    assert store.read_record("a") == {"x": [2]}
    assert files(store, "releases") == ["a.json"]
    for nonsense in ('{"x": [', "[1]", "\udcff"):
        (store.root / "releases/a.json").write_text(nonsense, errors="surrogateescape")
        assert store.read_record("a") is None


def test_prune_deletes_old_files_that_are_not_kept(store: ContentStore) -> None:
    keep, old, new = (aged(add(store, text), days) for text, days in ((b"keep", 9), (b"old", 9), (b"new", 7)))
    with store.lock("ab"):
        partial, state = store.partial("ab"), store.partial("ab.state")
    refused = store.root / "refused" / "ab-x.tar.gz"
    refused.parent.mkdir()
    for path in (partial, state, refused):
        path.write_bytes(b"12")
        aged(path, 9)
    assert store.prune({("sha256", keep.name)}, 8) == (9, [old, partial, state, refused])
    assert (keep.exists(), new.exists(), old.exists(), partial.exists()) == (True, True, False, False)
    assert store.prune({("sha256", keep.name)}, 0) == (3, [new])
    assert store.prune((), 0) == (4, [keep])
    assert files(store, "partial") == []


def test_prune_keeps_files_in_use(store: ContentStore) -> None:
    path = add(store)
    with store.lock(DIGEST):
        store.partial(DIGEST).write_bytes(b"half")
        assert store.prune((), 0) == (0, [])
        assert store.partial(DIGEST).exists()
    assert store.prune((), 0)[1] == [path, store.partial(DIGEST)]


def _killed(store: ContentStore) -> None:
    with store.lock(DIGEST):
        store.partial(DIGEST).write_bytes(CONTENT[:3])
        os._exit(9)


def test_a_killed_run_holds_no_lock_and_leaves_nothing_that_counts(store: ContentStore) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(store,))
    process.start()
    process.join()
    assert files(store, "partial") == [DIGEST, f"{DIGEST}.lock"]
    assert store.get("sha256", DIGEST) is None
    assert store.prune((), 0) == (3, [store.partial(DIGEST)])
    assert files(store, "partial") == []


def test_a_write_that_fails_leaves_the_former_record(store: ContentStore) -> None:
    store.write_record("a", {"x": 1})
    (store.root / "releases/b.json").mkdir()
    with pytest.raises(BcmError, match=f"^Artifacts below {store.root}: Is a directory; make it writable"):
        store.write_record("b", {"x": 2})
    assert store.read_record("a") == {"x": 1}
    assert files(store, "partial") == []


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ContentStore(tmp_path / "file" / "artifacts")
    for work in (lambda: store.put(b""), lambda: store.partial(DIGEST), lambda: store.lock(DIGEST).__enter__()):
        with pytest.raises(BcmError, match=f"^Artifacts below {store.root}: Not a directory; make it writable"):
            work()
