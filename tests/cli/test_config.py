# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: read as Ansible reads them, written without touching any other line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from bcm_cli import config
from tests.cli.conftest import Checkout

TEXT = """---
# What this data center is for.
bcm_datacenter: local
bcm_chain: regtest  # until it works

bcm_image_sources:
  - suite: sid
# The end.
"""


def test_other_lines_of_the_file_are_kept(checkout: Checkout) -> None:
    checkout.settings().write_text(TEXT)
    done = checkout.bcm("config", "set", "chain=signet", "storage_pool=fast")
    assert done.returncode == 0, done.stderr
    expected = TEXT.replace("bcm_chain: regtest", "bcm_chain: signet") + "bcm_storage_pool: fast\n"
    assert checkout.settings().read_text() == expected


def test_folder_of_variables_has_the_settings_in_a_file_that_ansible_reads(checkout: Checkout) -> None:
    folder = checkout.settings().with_suffix("")
    folder.mkdir()
    checkout.settings().rename(folder / "main.yml")
    done = checkout.bcm("config", "set", "storage_pool=fast")
    assert done.returncode == 0, done.stderr
    assert not checkout.settings().exists()
    assert checkout.bcm("config", "get", "storage_pool").stdout == "fast\n"


VALUES = ("a: b # c", "yes", "1e3", "", " x", "{{ 1 }}", "'", '"', "10.0.0.0/20", "käse", "- a", "0x1", "a #b", "012")


@pytest.mark.parametrize("value", VALUES)
def test_value_is_read_as_it_was_written(tmp_path: Path, value: str) -> None:
    file = tmp_path / "all.yml"
    file.write_text(TEXT)
    for _turn in range(2):
        config.write(file, {"bcm_subnet": value})
        assert yaml.safe_load(file.read_text()) == {**yaml.safe_load(TEXT), "bcm_subnet": value}


def test_numbers_and_booleans_keep_their_type(checkout: Checkout) -> None:
    checkout.bcm("config", "set", "bitcoind_dbcache=2000", "tor_network=true")
    read = yaml.safe_load(checkout.settings().read_text())
    assert (read["bitcoind_dbcache"], read["tor_network"]) == (2000, True)


def test_variables_that_the_plan_reads_for_every_stack_are_settings(checkout: Checkout) -> None:
    done = checkout.bcm("config", "set", "electrs_memory=2GiB", "bitcoind_data_size=20GiB", "electrs_source=crate")
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(checkout.settings().read_text())
    assert (read["electrs_memory"], read["bitcoind_data_size"]) == ("2GiB", "20GiB")
    refused = checkout.bcm("config", "set", "electrs_onoin=true")
    assert refused.returncode == 2
    assert 'Unknown setting "electrs_onoin": did you mean "electrs_onion"?' in refused.stderr


def test_value_over_several_lines_is_refused(checkout: Checkout) -> None:
    checkout.settings().write_text(TEXT)
    done = checkout.bcm("config", "set", "image_sources=x")
    assert done.returncode == 1
    assert "bcm_image_sources is written on several lines there" in done.stderr
    assert checkout.settings().read_text() == TEXT


def test_list_of_sources_is_kept_on_regtest_alone(checkout: Checkout) -> None:
    checkout.settings().write_text(
        "bcm_datacenter: local\nbitcoind_source: [release, debian]\ntor_source: [a, b]  # c\n"
    )
    assert checkout.bcm("config", "set", "chain=regtest").stderr == ""
    done = checkout.bcm("config", "set", "chain=signet", "bitcoind_source=debian")
    assert done.stderr == "bcm: tor_source is a now: a list of sources is for regtest alone\n"
    read = yaml.safe_load(checkout.settings().read_text())
    assert (read["bitcoind_source"], read["tor_source"], read["bcm_chain"]) == ("debian", "a", "signet")
    assert "tor_source: a  # c" in checkout.settings().read_text()


def test_words_that_are_not_a_setting_are_refused(checkout: Checkout) -> None:
    done = checkout.bcm("config", "set", "chain")
    assert done.returncode == 2
    assert '"chain" is not a setting: write KEY=VALUE' in done.stderr


def test_settings_are_shown(checkout: Checkout) -> None:
    checkout.settings().write_text(TEXT + 'bcm_storage_pool: "{{ bcm_chain }}-pool"\n')
    assert checkout.bcm("config", "get", "storage_pool").stdout == "regtest-pool\n"
    assert checkout.bcm("config", "get", "endpoint").stdout == "-\n"
    read = json.loads(checkout.bcm("config", "get", "--json").stdout)
    assert (read["datacenter"], read["chain"], read["image_sources"]) == ("local", "regtest", [{"suite": "sid"}])
    assert "storage_pool" in checkout.bcm("config", "get").stdout


def test_another_data_center_is_selected(checkout: Checkout) -> None:
    shutil.copytree(checkout.home / "inventories/local", checkout.home / "inventories/office")
    # Two folders that say they are the same data center would fight over it.
    refused = checkout.bcm("-d", "office", "info")
    assert refused.returncode == 1
    assert "type `bcm -d office config set datacenter=office`" in refused.stderr
    assert checkout.bcm("-d", "office", "config", "set", "datacenter=office").returncode == 0
    assert checkout.bcm("config", "get", "datacenter").stdout == "local\n"
    assert checkout.bcm("config", "set", "datacenter=office").returncode == 0
    assert checkout.bcm("config", "get", "datacenter").stdout == "office\n"
    assert json.loads(checkout.bcm("info", "--json").stdout)["project"] == "bcm-office-regtest"
    shutil.rmtree(checkout.home / "inventories/office")
    assert 'Unknown data center "office"' in checkout.bcm("info").stderr
    assert checkout.bcm("config", "set", "datacenter=local").returncode == 0
    assert checkout.bcm("-d", "local", "config", "set", "datacenter=office").returncode == 2


def test_damaged_choice_of_the_data_center_is_reported(checkout: Checkout) -> None:
    (checkout.home / "bcm.json").write_text("{")
    done = checkout.bcm("info")
    assert done.returncode == 1
    assert "is damaged: type `bcm config set datacenter=NAME`" in done.stderr


def test_damaged_inventory_is_reported(checkout: Checkout) -> None:
    checkout.settings().write_text("bcm_chain: [\n")
    done = checkout.bcm("info")
    assert done.returncode == 1
    assert "inventories/local" in done.stderr
    assert "Traceback" not in done.stderr
