# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: listed, fetched, verified, carried on a disk, pruned."""

from __future__ import annotations

import json
import os
import platform
import threading
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pysequoia import Tsk

from ansible_collections.bcm.core.tests.unit.plugins.module_utils.artifact import test_artifacts
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.artifact.test_apt import Repository
from tests.cli.conftest import Published
from tests.support import PATIENCE

MACHINE = platform.machine()
FILE = f"thing-1.0-{MACHINE}.tar.gz"
SIGNED = "signed by ann, bob, cid; 3 of 3 needed"


def test_artifacts_are_listed_with_their_signers(published: Published) -> None:
    before = published.bcm("artifact", "list").stdout.splitlines()
    assert before[0].split() == ["stack", "source", "kind", "name", "version", "used", "in", "store", "signed", "by"]
    rows = {tuple(line.split()[:2]): line.split(maxsplit=5)[5] for line in before[1:]}
    assert rows["thing", "release"] == "yes   no        not verified yet (3 needed)"
    assert rows["thing", "debian"].startswith("no ")
    assert rows["bitcoind", "debian"].startswith("yes ")
    assert published.bcm("artifact", "fetch", "thing").returncode == 0
    listed = json.loads(published.bcm("artifact", "list", "--json").stdout)["artifacts"]
    (found,) = (row for row in listed if (row["stack"], row["source"]) == ("thing", "release"))
    assert found == {
        "stack": "thing", "source": "release", "kind": "archive", "name": "thing", "version": "1.0", "used": True,
        "in_store": [MACHINE], "signers": ["ann", "bob", "cid"], "threshold": 3,
    }  # fmt: skip


def test_release_is_fetched_once(published: Published) -> None:
    done = published.bcm("artifact", "fetch", "thing", "--json")
    assert done.returncode == 0, done.stderr
    row = {"stack": "thing", "source": "release", "version": "1.0", "architecture": MACHINE, "result": SIGNED}
    assert json.loads(done.stdout) == [row]
    assert f"bcm: {FILE}: 0.0 MB in " in done.stderr
    assert sorted(published.server.asked) == sorted(
        f"/up/1.0/{name}" for name in (FILE, "SHA256SUMS", "SHA256SUMS.asc")
    )
    published.server.asked.clear()
    assert SIGNED in published.bcm("artifact", "fetch", "thing").stdout
    assert published.server.asked == []
    assert published.bcm("artifact", "fetch", "thing", "--all-architectures").stdout.count(SIGNED) == 2


def test_releases_of_needed_stacks_are_fetched_too(published: Published) -> None:
    other = published.stack.parents[2] / "user/meta/stack.yml"
    other.parent.mkdir(parents=True)
    head, artifact, _release = published.stack.read_text().partition("artifact:")
    other.write_text(
        f"{head}needs: {{thing: []}}\n{artifact}\n  sources: {{debian: {{kind: deb, name: u, licence: MIT}}}}\n"
    )
    assert SIGNED in published.bcm("artifact", "fetch", "user").stdout


def test_tampered_release_is_refused(published: Published) -> None:
    test_artifacts.revoked(published.project)
    done = published.bcm("artifact", "fetch", "thing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "signed by bob, cid; ann: revoked key; 2 of 3 needed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_progress_of_downloads_is_shown_on_a_terminal(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each that is on its way, below what is said, and none of them stays."""
    for path in published.project.folder().glob("*.tar.gz"):
        path.write_bytes(test_artifacts.archive(os.urandom(3_000_000)))
    published.project.list_and_sign("1.0", test_artifacts.THREE)
    published.pin()
    seen = threading.Event()

    def slowly(_handler: SimpleHTTPRequestHandler, source: Any, target: Any) -> None:
        content = source.read()
        target.write(content[: len(content) // 2])
        assert len(content) < 1_000_000 or seen.wait(PATIENCE)
        target.write(content[len(content) // 2 :])

    monkeypatch.setattr(SimpleHTTPRequestHandler, "copyfile", slowly)
    terminal = published.terminal("artifact", "fetch", "thing", "--all-architectures")
    begun = terminal.reads("aarch64.tar.gz  0 MB of 3 MB\n")
    if "x86_64.tar.gz  0 MB of 3 MB\n" not in begun:
        terminal.reads("x86_64.tar.gz  0 MB of 3 MB\n")
    seen.set()
    left = terminal.reads("stack  source") + terminal.output
    assert "\033[2A\r\033[J" in left
    assert "bcm: thing-1.0-x86_64.tar.gz: 3.0 MB in " in left
    assert "of 3 MB" not in left.rpartition("\033[J")[2]
    assert terminal.ends() == 0
    assert terminal.output.count(SIGNED) == 2


def test_interrupted_download_is_completed_by_the_same_command(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs keeps nobody; the same command is all that it takes then."""
    over = threading.Event()

    def hanging(_handler: SimpleHTTPRequestHandler, _source: Any, _target: Any) -> None:
        over.wait(PATIENCE)

    with monkeypatch.context() as patched:
        patched.setattr(SimpleHTTPRequestHandler, "copyfile", hanging)
        terminal = published.terminal("artifact", "fetch", "thing")
        published.wait_for("/up/1.0/SHA256SUMS")
        terminal.types("\x03")
        assert terminal.ends() == 130
        assert terminal.output.endswith("bcm: interrupted\n")
        assert "Traceback" not in terminal.output
        over.set()
    assert published.bcm("artifact", "fetch", "thing").returncode == 0


def test_stack_of_packages_alone_has_nothing_to_fetch(published: Published) -> None:
    done = published.bcm("artifact", "fetch", "electrum")
    assert (done.returncode, done.stdout) == (0, "none\n")
    assert "Nothing to download here" in done.stderr
    assert published.bcm("artifact", "verify", "electrum").returncode == 0


def test_store_is_verified_again(published: Published) -> None:
    nothing = published.bcm("artifact", "verify", "thing")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "The store has nothing of thing: type `bcm artifact fetch` first" in nothing.stderr
    published.bcm("artifact", "fetch", "thing", "--all-architectures")
    published.server.asked.clear()
    done = published.bcm("artifact", "verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(SIGNED) == 2
    kept = published.cache / "bcm/artifacts/sha256" / published.project.release().files["x86_64"].digest
    kept.write_bytes(b"")
    done = published.bcm("artifact", "verify", "thing", "--json")
    assert done.returncode == 1
    rows = {row["architecture"]: row for row in json.loads(done.stdout)}
    assert rows["aarch64"]["verified"]
    assert not rows["x86_64"]["verified"]
    assert "thing-1.0-x86_64.tar.gz was damaged" in rows["x86_64"]["result"]
    test_artifacts.revoked(published.project)
    assert "ann: revoked key; 2 of 3 needed" in published.bcm("artifact", "verify").stdout
    assert published.server.asked == []


def test_release_is_exported_and_imported(published: Published, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    done = published.bcm("artifact", "export", str(disk), "thing", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)["written"]
    assert len(written) == 6
    assert f"thing/1.0/{FILE}" in written
    assert set(written) == test_artifacts.files(disk)
    published.server.asked.clear()
    # On another machine, as an import and as the place where everything comes from.
    for words in (["import", str(disk)], ["import", str(disk), "thing"], ["fetch", "thing", "--source", str(disk)]):
        published.cache.rename(tmp_path / f"cache-{words[0]}-{len(words)}")
        done = published.bcm("artifact", *words)
        assert (done.returncode, done.stdout.count(SIGNED)) == (0, 1), done.stderr
    published.cache.rename(tmp_path / "cache-setting")
    published.set(bcm_artifact_source=str(disk))
    assert published.bcm("artifact", "fetch", "thing").returncode == 0
    assert published.server.asked == []


def test_apt_repository_is_exported_and_imported(
    published: Published, builders: dict[str, Tsk], tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "repository", builders["ann"])
    for architecture in ("amd64", "arm64"):
        repository.add(b"a package", "1.0-1", name="thing", architecture=architecture)
    repository.publish()
    place = f"{{url: {published.server.url}/repository, suite: trixie}}"
    own = f"{{kind: apt, name: thing, licence: MIT, repository: {place}, signers: {{ann: {repository.fingerprint}}}}}"
    head = published.stack.read_text().partition("artifact:")[0]
    published.stack.write_text(f"{head}artifact:\n  sources:\n    own: {own}\n")
    disk = tmp_path / "disk"
    done = published.bcm("artifact", "export", str(disk), "thing", "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)["written"]
    assert {"thing/dists/trixie/InRelease", f"thing/{repository.fingerprint}.asc"} < set(written)
    assert set(written) == test_artifacts.files(disk)
    listed = json.loads(published.bcm("artifact", "list", "--json").stdout)["artifacts"]
    (found,) = (row for row in listed if row["stack"] == "thing")
    assert (found["version"], found["in_store"], found["signers"]) == ("1.0-1", [MACHINE], ["ann"])
    assert "thing (own) has no pins, the newest is taken" in published.bcm("artifact", "repin", "thing", "2.0").stderr
    published.cache.rename(tmp_path / "elsewhere")
    published.server.asked.clear()
    done = published.bcm("artifact", "import", str(disk), "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["version"], row["result"]) == ("1.0-1", "signed by ann; 1 of 1 needed")
    assert published.server.asked == []


def test_import_verifies_releases_that_the_store_has(published: Published, tmp_path: Path) -> None:
    published.bcm("artifact", "export", str(tmp_path / "disk"), "thing")
    test_artifacts.revoked(published.project)
    done = published.bcm("artifact", "import", str(tmp_path / "disk"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "ann: revoked key" in done.stderr


def test_tampered_export_is_refused(published: Published, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    published.bcm("artifact", "export", str(disk), "thing")
    published.cache.rename(tmp_path / "elsewhere")
    (disk / "thing/1.0" / FILE).write_bytes(b"")
    done = published.bcm("artifact", "import", str(disk))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"{FILE} has the sha256 digest e3b0c442" in done.stderr
    assert "not verified yet" in published.bcm("artifact", "list").stdout


def test_import_of_a_folder_without_the_release_is_refused(published: Published, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for words, what in (([], "what this data center needs"), (["thing"], "thing")):
        done = published.bcm("artifact", "import", str(tmp_path / "disk"), *words)
        assert done.returncode == 1
        assert f"disk has nothing of {what} in the pinned version: export it again" in done.stderr


def test_prune_deletes_releases_that_no_stack_names(published: Published) -> None:
    published.bcm("artifact", "fetch", "thing")
    told = published.bcm("artifact", "prune", "--older-than", "0").stdout
    assert told.split() == ["removed", "-", "freed", "nothing"]
    digest = published.project.release().files[MACHINE].digest
    published.stack.write_text(published.stack.read_text().replace("'1.0'", "'0.9'").replace(digest, "f" * 64))
    assert digest not in published.bcm("artifact", "prune", "--json").stdout
    gone = json.loads(published.bcm("artifact", "prune", "--older-than", "0", "--json").stdout)
    assert f"sha256/{digest}" in gone["removed"]
    assert gone["freed"] > 0


def test_public_chain_downloads_through_tor(published: Published) -> None:
    published.set(bcm_chain="signet", bcm_artifact_proxy="socks5h://127.0.0.1:1")
    done = published.bcm("artifact", "fetch", "thing", "--source", "http://releases.invalid")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Tor's SOCKS port at 127.0.0.1:1 does not answer: start tor on this machine" in done.stderr
    assert published.server.asked == []
    assert "bcm_artifact_proxy is localhost: write" in published.bcm("artifact", "fetch", "--proxy", "localhost").stderr
    assert published.bcm("artifact", "fetch", "thing", "--proxy", "").returncode == 0


def test_folder_of_keys_can_be_given(published: Published, tmp_path: Path) -> None:
    published.project.keys.rename(tmp_path / "elsewhere")
    done = published.bcm("artifact", "fetch", "thing")
    assert done.returncode == 1
    assert "unknown key" in done.stderr
    assert published.bcm("artifact", "fetch", "thing", "--keys", str(tmp_path / "elsewhere")).returncode == 0


def test_first_source_in_reach_is_fetched(published: Published) -> None:
    published.set(thing_source="[release, debian]")
    done = published.bcm("artifact", "fetch", "thing", "--source", f"{published.server.url}/none")
    assert done.returncode == 0
    assert "thing: its source release is out of reach: 127.0.0.1: the server answers 404" in done.stderr
    assert not any(row["in_store"] for row in _used(published))
    assert published.bcm("artifact", "fetch", "thing").returncode == 0
    assert [(row["source"], row["in_store"]) for row in _used(published)] == [("release", [MACHINE]), ("debian", None)]


def _used(published: Published) -> list[dict[str, Any]]:
    listed = json.loads(published.bcm("artifact", "list", "--json").stdout)["artifacts"]
    return [row for row in listed if row["stack"] == "thing" and row["used"]]


def test_inventory_changes_the_release(published: Published) -> None:
    def names() -> dict[str, str]:
        rows = map(str.split, published.bcm("artifact", "list").stdout.splitlines())
        return {source: name for stack, source, _kind, name, *_others in rows if stack == "thing"}

    published.set(bcm_artifacts="{thing: {name: other}}")
    assert names()["release"] == "other"
    published.set(thing_source="debian")
    assert (names()["release"], names()["debian"]) == ("thing", "other")
    published.set(bcm_artifacts="{thing: 1}")
    assert "Variable bcm_artifacts.thing is not a mapping" in published.bcm("artifact", "list").stderr
    published.set(bcm_artifacts="1")
    assert "Variable bcm_artifacts is not a mapping" in published.bcm("artifact", "fetch").stderr
    published.set(bcm_artifacts="{}", thing_source="git")
    assert 'Unknown source of thing "git"' in published.bcm("artifact", "list").stderr
