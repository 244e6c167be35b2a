# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version in a stack.yml: what its signers signed, and nothing else of the file."""

from __future__ import annotations

import difflib

import pytest
import yaml

from ansible_collections.bcm.core.tests.unit.plugins.module_utils.artifact.test_artifacts import THREE
from bcm_cli.repin import _replace_scalars
from tests.cli.conftest import Published


@pytest.fixture
def newer(published: Published) -> Published:
    """Its project has published another version since."""
    published.project.publish("1.1")
    return published


def test_only_version_and_digests_change(newer: Published) -> None:
    before = newer.stack.read_text()
    newer.set(bcm_artifact_source="/nowhere")  # what is new is upstream's
    done = newer.bcm("artifact", "repin", "thing", "1.1", "--yes")
    assert done.returncode == 0, done.stderr
    after = newer.stack.read_text()
    old, new = newer.project.release().files, newer.project.release("1.1").files
    expected = before.replace("'1.0'", "'1.1'")
    for name in old:
        expected = expected.replace(old[name].digest, new[name].digest)
    assert after == expected
    assert done.stdout.startswith("thing 1.1: signed by ann, bob, cid; 3 of 3 needed\n---")
    changes = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]
    assert [line for line in done.stdout.splitlines() if line[0] in "-+"][2:] == [
        line[0] + line[2:] for line in changes
    ]
    # What was written can be fetched.
    newer.set(bcm_artifact_source="")
    assert newer.bcm("artifact", "fetch", "thing").returncode == 0
    again = newer.bcm("artifact", "repin", "thing", "1.1")
    assert (again.returncode, again.stdout.splitlines()[1:]) == (0, ["This version is already pinned"])


@pytest.mark.parametrize(("answer", "written"), [("\n", False), ("n\n", False), ("y\n", True)])
def test_person_is_asked_before_the_pin_is_written(newer: Published, answer: str, written: bool) -> None:
    before = newer.stack.read_text()
    terminal = newer.terminal("artifact", "repin", "thing", "1.1")
    assert "+      version: '1.1'  # the newest" in terminal.reads("Write it? [y/N] ")
    terminal.types(answer)
    assert terminal.ends() == (0 if written else 1)
    assert ("Nothing was written" in terminal.output) != written
    assert (newer.stack.read_text() != before) == written


def test_pin_is_not_written_without_a_terminal(newer: Published) -> None:
    before = newer.stack.read_text()
    done = newer.bcm("artifact", "repin", "thing", "1.1")
    assert (done.returncode, newer.stack.read_text()) == (1, before)
    assert "Nothing was written: run it on a terminal, or add --yes" in done.stderr


def _too_few(newer: Published) -> None:
    newer.project.sign("1.1", THREE[:2])


def _of_another_version(newer: Published) -> None:
    for name in ("SHA256SUMS", "SHA256SUMS.asc"):
        (newer.project.folder("1.1") / name).write_bytes((newer.project.folder() / name).read_bytes())


def _not_signed(newer: Published) -> None:
    newer.project.sums("1.1").write_bytes(newer.project.sums("1.1").read_bytes() + b"\n")


def _not_there(newer: Published) -> None:
    newer.project.sums("1.1").unlink()


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_too_few, "signed by ann, bob; 2 of 3 needed"),
        (_of_another_version, "SHA256SUMS lists no sha256 of thing-1.1-x86_64.tar.gz: it is of another release"),
        (_not_signed, "0 of 3 needed"),
        (_not_there, "the server answers 404"),
    ],
)
def test_release_that_cannot_be_verified_is_not_pinned(newer: Published, tamper: object, said: str) -> None:
    assert callable(tamper)
    tamper(newer)
    before = newer.stack.read_text()
    done = newer.bcm("artifact", "repin", "thing", "1.1", "--yes")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr
    assert newer.stack.read_text() == before


def test_version_below_the_floor_is_refused(published: Published) -> None:
    published.project.publish("0.8")
    done = published.bcm("artifact", "repin", "thing", "0.8", "--yes")
    assert done.returncode == 1
    assert "thing 0.8 is below the floor (0.9): it was worse before; choose a newer version" in done.stderr
    assert published.bcm("artifact", "repin", "thing", "0.8", "--yes", "--allow-below-floor").returncode == 0
    assert "version: '0.8'" in published.stack.read_text()


def test_source_without_signatures_is_refused(published: Published) -> None:
    done = published.bcm("artifact", "repin", "thing", "1.1", "--source", "debian", "--yes")
    assert done.returncode == 1
    assert "thing (debian) is not signed: its pins cannot be verified here" in done.stderr


def test_artifact_is_pinned_where_it_is_declared(newer: Published) -> None:
    done = newer.bcm("artifact", "repin", "torrelay", "1.1", "--yes")
    assert done.returncode == 2
    assert "torrelay is made of the artifact of tor: type `bcm artifact repin tor 1.1`" in done.stderr


def test_other_text_of_the_file_is_kept() -> None:
    text = "a: &x {version: 1.0, b: 'käse', c: \"1\"}  # 1.0\nd: [1.0]\n"
    changed = _replace_scalars(text, {("a", "version"): "1.10", ("a", "c"): "2"})
    assert changed == 'a: &x {version: "1.10", b: \'käse\', c: "2"}  # 1.0\nd: [1.0]\n'
    assert yaml.safe_load(changed)["a"]["version"] == "1.10"
    # A digit that YAML would read as a number
    assert _replace_scalars("sha256: abc\n", {("sha256",): "123"}) is None
