# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._image.hash import base_hash, image_hash

ROLE = {
    "tasks/install.yml": "install",
    "tasks/install/debian.yml": "debian",
    "tasks/configure.yml": "configure",
    "files/a": "a",
    "files/deep/.hidden": "hidden",
    "templates/x.j2": "template",
    "meta/stack.yml": "stack",
}
COMMON = {"tasks/install.yml": "common", "tasks/configure.yml": "else"}


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    for role, files in (("electrs", ROLE), ("_common", COMMON)):
        for name, content in files.items():
            path = tmp_path / "roles" / role / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return tmp_path / "roles"


def hashed(
    roles: Path, variables: dict[str, object] | None = None, base: str = "b", architecture: str = "x86_64"
) -> str:
    return image_hash(base, str(roles / "electrs"), str(roles / "_common"), variables or {"v": "1"}, architecture)


def test_image_hash_does_not_know_place_time_order_and_owner(roles: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in reversed([str(p.relative_to(roles)) for p in roles.rglob("*") if p.is_file()]):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(roles / name, elsewhere / name)
        os.utime(elsewhere / name, (1, 1))
        (elsewhere / name).chmod(0o600)
    assert hashed(elsewhere) == hashed(roles)


@pytest.mark.parametrize(
    "name", ["tasks/configure.yml", "templates/x.j2", "meta/stack.yml", "files/a~", "tasks/install.yml.swp"]
)
def test_image_hash_covers_only_files_of_the_image(roles: Path, name: str) -> None:
    before = hashed(roles)
    (roles / "electrs" / name).write_text("other")
    assert hashed(roles) == before


@pytest.mark.parametrize(
    "name", ["tasks/install.yml", "tasks/install/debian.yml", "files/a", "files/deep/.hidden", "files/new"]
)
def test_image_hash_has_every_file_that_goes_into_an_image(roles: Path, name: str) -> None:
    before = hashed(roles)
    (roles / "electrs" / name).write_text("other")
    assert hashed(roles) != before


def test_image_hash_leaves_out_the_wording_of_tasks(roles: Path) -> None:
    install = roles / "electrs/tasks/install.yml"
    install.write_text("- name: Install it\n  block:\n    - name: Copy\n      copy: {name: a}\n  vars: {name: b}\n")
    before = hashed(roles)
    install.write_text("# why\n- block:\n  - name: Copy the file\n    copy:\n      name: a\n  vars:\n    name: b\n")
    assert hashed(roles) == before
    for changed in ("copy: {name: c}", "copy: {name: b}"):
        install.write_text(f"- block:\n    - {changed}\n  vars: {{name: a}}\n")
        assert hashed(roles) != before


def test_image_hash_has_names_of_files(roles: Path) -> None:
    before = hashed(roles)
    (roles / "electrs/files/a").rename(roles / "electrs/files/b")
    assert hashed(roles) != before


def test_image_hash_has_the_rest_of_its_inputs(roles: Path) -> None:
    others = [
        hashed(roles, {"v": "2"}),
        hashed(roles, {"w": "1"}),
        hashed(roles, base="c"),
        hashed(roles, architecture="aarch64"),
    ]
    (roles / "_common/tasks/install.yml").write_text("other")
    others.append(hashed(roles))
    (roles / "_common/tasks/install.yml").write_text("common")
    assert len({hashed(roles), *others}) == 6


def test_image_hash_has_only_the_shared_install_tasks(roles: Path) -> None:
    before = hashed(roles)
    (roles / "_common/tasks/configure.yml").write_text("other")
    assert hashed(roles) == before


def test_tasks_of_a_kind_of_artifact_count_for_images_of_that_kind(roles: Path) -> None:
    images = [{"artifact": {"kind": kind}} for kind in ("maven", "crate")]
    before = [hashed(roles, image) for image in images]
    (roles / "_common/tasks/maven.yml").write_text("- fetch: jars")
    after = [hashed(roles, image) for image in images]
    assert (after[0] == before[0], after[1] == before[1]) == (False, True)


def test_image_hash_names_a_file_that_cannot_be_read(roles: Path) -> None:
    (roles / "electrs/files/gone").symlink_to("nowhere")
    with pytest.raises(BcmError, match=r"files/gone.*No such file"):
        hashed(roles)


@pytest.fixture
def keyring(tmp_path: Path) -> Callable[[str, str], str]:
    def make(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return make


def test_base_hash_does_not_know_the_way_packages_come(keyring: Callable[[str, str], str]) -> None:
    plain = base_hash({}, "x86_64")
    assert len(plain) == 64
    for settings in (
        {"image_mirror": "http://192.0.2.1/debian"},
        {"image_apt_options": ["Acquire::Check-Valid-Until=false"]},
        {"image_ca_certificates": ["/nowhere"]},
        {"image_snapshot": None, "image_sources": [], "image_keyring": None},
    ):
        assert base_hash(settings, "x86_64") == plain
    one, other = keyring("one", "key"), keyring("other", "key")
    assert base_hash({"image_keyring": one}, "x86_64") == base_hash({"image_keyring": other}, "x86_64") != plain


def test_base_hash_covers_the_sources_of_packages(keyring: Callable[[str, str], str]) -> None:
    sid = {"suite": "sid"}
    settings = [
        {},
        {"image_snapshot": "20261101T000000Z"},
        {"image_sources": [sid]},
        {"image_sources": [{**sid, "components": ["main", "contrib"]}]},
        {"image_sources": [{**sid, "mirror": "http://192.0.2.1/other"}]},
        {"image_sources": [{**sid, "keyring": keyring("extra", "extra")}]},
        {"image_keyring": keyring("main", "main")},
    ]
    assert len({*(base_hash(one, "x86_64") for one in settings), base_hash({}, "aarch64")}) == 8


def test_base_hash_is_the_same_with_defaults_said_or_left_out() -> None:
    said = {"suite": "sid", "components": ["main"], "mirror": None, "keyring": None}
    assert base_hash({"image_sources": [said]}, "x86_64") == base_hash({"image_sources": [{"suite": "sid"}]}, "x86_64")


def test_base_hash_names_a_missing_keyring() -> None:
    with pytest.raises(BcmError, match="/nowhere/keyring"):
        base_hash({"image_keyring": "/nowhere/keyring"}, "x86_64")
