# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Pin
from ansible_collections.bcm.core.plugins.module_utils._artifact.sums import check_commit, lookup, parse
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

PUBLISHED = Path(__file__).parent / "data/bitcoin-31.1/SHA256SUMS"
A, B = "ab" * 32, "cd" * 32


def test_the_published_sums_of_bitcoin_core() -> None:
    sums = parse(PUBLISHED.read_bytes(), "SHA256SUMS")
    pinned = "b80d9c3e04da78fb6f0569685673418cf686fadba9042d926d13fb87ff503f9e"
    assert len(sums) == len(PUBLISHED.read_text().splitlines())
    lookup(sums, Pin("https://example.org/31.1/bitcoin-31.1-x86_64-linux-gnu.tar.gz", "sha256", pinned), "SHA256SUMS")


def test_manifest_of_lnd_lists_archives_and_the_programs_in_them() -> None:
    text = f"{A}  lnd-linux-amd64-v0.21.3-beta.tar.gz\n{B}  lnd-linux-amd64-v0.21.3-beta/lnd\n{B}  vendor.tar.gz\n"
    listed = parse(text.encode(), "manifest")
    lookup(listed, Pin("https://example.org/v0.21.3-beta/lnd-linux-amd64-v0.21.3-beta.tar.gz", "sha256", A), "manifest")
    with pytest.raises(BcmError, match="manifest does not list lnd: it is of another release"):
        lookup(listed, Pin("https://example.org/lnd", "sha256", B), "manifest")


@pytest.mark.parametrize("options", [[], ["--binary"], ["--tag"]])
@pytest.mark.parametrize("tool", ["sha256sum", "sha512sum"])
def test_sums_of_coreutils_are_read(tmp_path: Path, tool: str, options: list[str]) -> None:
    names = [
        "plain",
        "two  blanks",
        "back\\slash",
        "new\nline",
        "return\r",
        "\\n",
        "a) = b",
        "ü",
        "line\u2028separator",
    ]
    for name in names:
        (tmp_path / name).write_text(name)
    text = subprocess.run([tool, *options, "--", *names], cwd=tmp_path, capture_output=True, check=True).stdout
    assert parse(text, "sums") == {name: hashlib.new(tool[:-3], name.encode()).hexdigest() for name in names}


@pytest.mark.parametrize(
    "text",
    [
        f"{A.upper()}  a\n\n{B} *./b",
        f"{A}  a\r\n{B}  b\r\n",
        f"SHA256 (a) = {A}\n{B}  b\n{A}  a\n",
    ],
)
def test_other_formats_of_sums_are_read(text: str) -> None:
    assert parse(text.encode(), "sums") == {"a": A, "b": B}


@pytest.mark.parametrize(
    "text",
    ["<html>", f"{A} a", f"{A}", f"{A[:40]}  a", f"{A}  a\nhello", f"MD5 (a) = {A}", f"-----BEGIN\n{A}  a", "\0"],
)
def test_malformed_sums_are_refused(text: str) -> None:
    with pytest.raises(BcmError, match=r"^https://x/SHA256SUMS is not a list of digests: line [12] is '[^\n]*'$"):
        parse(text.encode(), "https://x/SHA256SUMS")


def test_a_file_listed_twice_is_refused() -> None:
    with pytest.raises(BcmError, match=r"^sums lists 'a' twice, with different digests"):
        parse(f"{A}  a\n{B}  a\n".encode(), "sums")


def test_a_digest_other_than_the_pinned_one_is_refused() -> None:
    pin = Pin("https://x/a", "sha256", A)
    lookup({"a": A}, pin, "sums")
    with pytest.raises(BcmError, match="^sums does not list a: "):
        lookup({"b": A}, pin, "sums")
    with pytest.raises(BcmError, match=re.escape(f"sums lists a with another digest: pinned {A}, listed {B}")):
        lookup({"a": B}, pin, "sums")


@pytest.mark.parametrize("text", ["", "commit: {B}", "commit: {A}\ncommit: {B}", " commit: {A}", "commit: {A}0", "x"])
def test_manifest_that_names_another_commit_or_two_is_refused(text: str) -> None:
    ours, other = A[:40], B[:40]
    check_commit(f"# Manifest\n\ncommit: {ours}\nlayers: {other}\n".encode(), ours, "manifest")
    with pytest.raises(BcmError, match=f"^manifest names another commit: pinned {ours}, named "):
        check_commit(text.format(A=ours, B=other).encode(), ours, "manifest")
