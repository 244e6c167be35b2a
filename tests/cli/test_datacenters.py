# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders of data centers: another one like one of them, and what is left to set there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Checkout

SSH = "write ssh://USER@HOST, whose user may use LXD or Incus there"


def _listed(checkout: Checkout) -> dict[str, dict[str, Any]]:
    rows = json.loads(checkout.bcm("datacenter", "list", "--json").stdout)["datacenters"]
    return {row["datacenter"]: row for row in rows}


def test_data_center_is_like_another_one_without_its_secrets(checkout: Checkout) -> None:
    secrets = checkout.home / "inventories/local/secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "regtest.json").write_text("{}")
    assert checkout.bcm("config", "set", "storage_pool=fast").returncode == 0
    done = checkout.bcm("datacenter", "create", "office")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("next:\n  bcm -d office stack start STACK\n")
    assert not (checkout.home / "inventories/office/secrets").exists()
    assert checkout.bcm("-d", "office", "config", "get", "storage_pool").stdout == "fast\n"
    assert checkout.bcm("-d", "office", "config", "get", "datacenter").stdout == "office\n"
    found = _listed(checkout)
    assert (found["office"]["chain"], found["office"]["endpoint"], found["office"]["fault"]) == ("regtest", "", None)
    assert [name for name, row in found.items() if row["current"]] == ["local"]


def test_what_is_left_to_set_is_said_and_needed(checkout: Checkout) -> None:
    done = checkout.bcm("datacenter", "create", "far", "--like", "ssh")
    assert done.returncode == 0, done.stderr
    assert f"endpoint is not set yet: {SSH}\n" in done.stdout
    assert "  bcm -d far config set endpoint=…\n" in done.stdout
    row = _listed(checkout)["far"]
    assert (row["to_set"], row["endpoint"]) == (["bcm_endpoint"], None)
    for words in (["stack", "status"], ["stack", "start", "tor"]):
        refused = checkout.bcm("-d", "far", "--yes", *words)
        assert refused.returncode == 1
        assert refused.stderr.rstrip().endswith(f"inventories/far: bcm_endpoint is not set yet: {SSH}")
    assert checkout.bcm("-d", "far", "config", "get", "chain").stdout == "regtest\n"
    assert checkout.bcm("-d", "far", "config", "set", "endpoint=ssh://me@192.0.2.7").returncode == 0
    row = _listed(checkout)["far"]
    assert (row["to_set"], row["endpoint"]) == ([], "ssh://me@192.0.2.7")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["local"], 2, "Data center local exists already: choose another name"),
        (["Office"], 1, 'Data center "Office" cannot be called that: use at most 9 lower-case letters'),
        (["../x"], 1, 'Data center "../x" cannot be called that'),
        (["x", "--like", "loacl"], 2, 'Unknown data center "loacl": did you mean "local"?'),
    ],
)
def test_mistakes_are_named_and_nothing_is_made(
    checkout: Checkout, words: list[str], status: int, message: str
) -> None:
    before = sorted((checkout.home / "inventories").rglob("*"))
    done = checkout.bcm("datacenter", "create", *words)
    assert done.returncode == status
    assert message in done.stderr
    assert sorted((checkout.home / "inventories").rglob("*")) == before


def test_encrypted_files_are_not_taken_over(checkout: Checkout) -> None:
    (checkout.home / "inventories/ssh/group_vars/tor.yml").write_text("$ANSIBLE_VAULT;1.2;AES256;ssh\n00\n")
    done = checkout.bcm("datacenter", "create", "far", "--like", "ssh")
    assert done.returncode == 1
    assert "group_vars/tor.yml is encrypted with the password of ssh, which another data center" in done.stderr
    assert not (checkout.home / "inventories/far").exists()


def test_folder_that_cannot_be_read_is_listed_with_its_fault(checkout: Checkout) -> None:
    (checkout.home / "inventories/ssh/group_vars/all.yml").write_text("bcm_chain: [\n")
    found = _listed(checkout)
    assert "inventories/ssh" in found["ssh"]["fault"]
    assert found["local"]["fault"] is None


def test_interrupted_copy_is_no_data_center(checkout: Checkout) -> None:
    half = checkout.home / "inventories/.office.new"
    half.mkdir()
    (half / "left").write_text("")
    assert set(_listed(checkout)) == {"cluster", "local", "multipass", "ssh"}
    assert checkout.bcm("datacenter", "create", "office").returncode == 0
    assert not half.exists()
    assert not (checkout.home / "inventories/office/left").exists()
