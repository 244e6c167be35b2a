# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact import lockfiles
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Release
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

SHA512 = f"sha512-{'A' * 86}=="
LOCK: dict[str, Any] = {
    "name": "wallet",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "wallet", "dependencies": {"rtl": "0.15.4"}},
        "node_modules/rtl": {"version": "0.15.4", "integrity": SHA512},
        "node_modules/rtl/node_modules/ms": {"version": "2.1.3", "integrity": f"sha1-abc= {SHA512}"},
        "node_modules/side": {"resolved": "node_modules/rtl", "link": True},
    },
}
HASH = f"--hash=sha256:{'a' * 64}"
REQUIREMENTS = f"""\
# made by a tool
cffi==1.17.1 ; platform_python_implementation != 'PyPy' \\
    {HASH} \\
    {HASH}
    # via cryptography
jam_Client[full]==0.9.9 {HASH}  # itself

"""

SHA256 = f"sha256:{'a' * 64}"
JARS = f"org.apache.kafka:kafka_2.13:4.4.0 {SHA256}\norg.slf4j:slf4j-api:1.7.36 {SHA256}\n"


def npm(role: Path, lock: Any = None, package: str = "{}", version: str = "0.15.4") -> None:
    (role / "files").mkdir(exist_ok=True)
    (role / "files/package-lock.json").write_text(json.dumps(LOCK if lock is None else lock))
    (role / "files/package.json").write_text(package)
    lock_path = "files/package-lock.json"
    lockfiles.check(Release("rtl", "npm", "npm", "rtl", "MIT", version=version, lock=lock_path), role)


def wheels(role: Path, text: str = REQUIREMENTS, version: str = "0.9.9") -> None:
    (role / "requirements.txt").write_text(text)
    release = Release("jam", "wheels", "wheels", "jam-client", "MIT", version=version, lock="requirements.txt")
    lockfiles.check(release, role)


def jars(role: Path, text: str = JARS, version: str = "4.4.0") -> None:
    (role / "jars.txt").write_text(text)
    name = "org.apache.kafka:kafka_2.13"
    lockfiles.check(Release("kafka", "maven", "maven", name, "Apache-2.0", version=version, lock="jars.txt"), role)


def test_complete_lock_files_are_accepted(tmp_path: Path) -> None:
    jars(tmp_path)
    npm(tmp_path)
    npm(tmp_path, {**LOCK, "lockfileVersion": 2})
    wheels(tmp_path)
    lockfiles.check(Release("tor", "debian", "deb", "tor", "BSD-3-Clause"), tmp_path)


@pytest.mark.parametrize(
    ("place", "change", "complaint"),
    [
        ("rtl", {"integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}, "node_modules/rtl has no integrity with SHA-512"),
        ("rtl", {"integrity": "sha512-short=="}, "node_modules/rtl has no integrity with SHA-512"),
        ("rtl/node_modules/ms", {"integrity": None}, "node_modules/rtl/node_modules/ms has no integrity with SHA-512"),
        ("x", {"version": "git+ssh://git@example.org/x.git#1"}, "node_modules/x has no integrity with SHA-512"),
        ("x", {"resolved": "file:../x.tgz"}, "node_modules/x has no integrity with SHA-512"),
        ("x", {"version": "1.0.0", "inBundle": True}, "node_modules/x has no integrity with SHA-512"),
        ("x", "1.0.0", "node_modules/x has no integrity with SHA-512"),
        ("rtl", {"resolved": "https://example.org/rtl.tgz"}, "rtl names where it was found: lock it again with npm's"),
        ("rtl", {"hasShrinkwrap": True}, "node_modules/rtl brings a lock file of its own"),
        ("rtl", {"version": "0.15.3"}, "locks rtl 0.15.3, pinned is 0.15.4: lock it again"),
        ("rtl", {"name": "other"}, "locks rtl none, pinned is 0.15.4"),
        ("rtl", {"link": True, "version": None}, "locks rtl None, pinned is 0.15.4"),
    ],
)
def test_unpinned_npm_packages_are_refused(tmp_path: Path, place: str, change: Any, complaint: str) -> None:
    lock = copy.deepcopy(LOCK)
    before = lock["packages"].get(f"node_modules/{place}", {})
    lock["packages"][f"node_modules/{place}"] = {**before, **change} if isinstance(change, dict) else change
    with pytest.raises(BcmError, match="^[^\n]*$") as caught:
        npm(tmp_path, lock)
    assert complaint in str(caught.value)
    assert f"{tmp_path}/files/package-lock.json" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"lock": {**LOCK, "lockfileVersion": 1}}, "package-lock.json is not a lock file of version 2 or 3"),
        ({"lock": {"lockfileVersion": 3}}, "package-lock.json is not a lock file of version 2 or 3"),
        ({"lock": []}, "package-lock.json is not an object in JSON: it holds no mapping"),
        ({"package": "{"}, "package.json is not an object in JSON: Expecting"),
        ({"version": "0.15.5"}, "locks rtl 0.15.4, pinned is 0.15.5"),
    ],
)
def test_malformed_npm_lock_files_are_refused(tmp_path: Path, given: Any, complaint: str) -> None:
    with pytest.raises(BcmError, match=complaint):
        npm(tmp_path, **given)


def test_a_lock_file_that_is_not_there(tmp_path: Path) -> None:
    release = Release("rtl", "npm", "npm", "rtl", "MIT", version="1", lock="files/package-lock.json")
    with pytest.raises(BcmError, match=r"files/package\.json cannot be read: .*; it has to come with the role"):
        lockfiles.check(release, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "cffi==1.17.1",
        f"cffi>=1.17.1 {HASH}",
        f"cffi==1.* {HASH}",
        f"cffi==1.17.1,!=1.18 {HASH}",
        f"cffi===1.17.1 {HASH}",
        f"cffi==1.17.1 {HASH[:-1]}",
        "cffi==1.17.1 --hash=md5:d41d8cd98f00b204e9800998ecf8427e",
        f"cffi @ https://example.org/cffi.whl {HASH}",
        f"./cffi.whl {HASH}",
        f"-e . {HASH}",
        "--index-url https://example.org/simple",
        "--extra-index-url=https://example.org/simple",
        "-r other.txt",
        f"cffi==1.17.1 {HASH} --config-settings=x",
        f"cffi==${{VERSION}} {HASH}",
        f"cffi==1.17.1 ; python_version > '3' --hash=sha1:abc {HASH}",
    ],
)
def test_unpinned_requirements_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(BcmError, match=r"requirements.txt: .* is no NAME==VERSION with --hash=sha256") as caught:
        wheels(tmp_path, f"{REQUIREMENTS}{line}\n")
    assert line[:80] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        ("", "none"),
        (REQUIREMENTS.replace("0.9.9", "0.9.8"), r"0\.9\.8"),
        (f"{REQUIREMENTS}jam.client==0.9.8 ; sys_platform == 'win32' {HASH}\n", r"0\.9\.8 and 0\.9\.9"),
    ],
)
def test_wheels_of_another_version(tmp_path: Path, text: str, locked: str) -> None:
    with pytest.raises(BcmError, match=rf"requirements\.txt locks jam-client {locked}, pinned is 0\.9\.9"):
        wheels(tmp_path, text)


@pytest.mark.parametrize(
    "line",
    [
        "org.slf4j:slf4j-simple:1.7.36",
        f"org.slf4j:slf4j-simple {SHA256}",
        f"org.slf4j:slf4j-simple:1.7.36 {SHA256[:-1]}",
        f"org.slf4j:slf4j-simple:1.7.36  {SHA256}",
        f"org.slf4j:slf4j-simple:1.7.36:sources {SHA256}",
        f"org.slf4j:../simple:1.7.36 {SHA256}",
        f'org.slf4j:"simple:1.7.36 {SHA256}',
        f"org.slf4j:slf4j-simple:[1.7,) {SHA256}",
        "",
    ],
)
def test_unpinned_jars_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(BcmError, match=r"jars.txt: .* is no GROUP:ARTIFACT:VERSION with sha256") as caught:
        jars(tmp_path, f"{JARS}{line}\n")
    assert line[:80] in str(caught.value)


def test_jars_that_would_be_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BcmError, match=r"jars.txt: slf4j-api-1.7.36.jar is there twice"):
        jars(tmp_path, f"{JARS}com.example:slf4j-api:1.7.36 {SHA256}\n")


def test_jars_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(BcmError, match=r"jars.txt locks org.apache.kafka:kafka_2.13 4.4.0, pinned is 4.4.1"):
        jars(tmp_path, version="4.4.1")
