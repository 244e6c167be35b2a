# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.settings import (
    CONNECTION,
    OF_RUN,
    SETTINGS,
    Place,
    check_setting_names,
    check_settings,
)

COLLECTION = Path(__file__).resolve().parents[5]


def test_settings_of_playbooks_are_known() -> None:
    of_command = {"bcm_ssh_identity", "bcm_multipass_name"}
    text = "".join(path.read_text(encoding="utf-8") for path in COLLECTION.glob("playbooks/*.yml"))
    assert {*re.findall(r"(?<![.\w])(bcm_\w+) \| default\(", text)} == {*SETTINGS} - of_command
    run = {*re.findall(r"(?<![.\w])((?:allow|abandoned|confirmed|move|delete)_\w+) \| default\(", text)}
    assert run == {*OF_RUN}


def test_options_of_the_connection_are_known() -> None:
    documented = "".join(
        (COLLECTION / "plugins" / name).read_text(encoding="utf-8")
        for name in ("connection/lxd.py", "doc_fragments/lxd.py")
    )
    assert {*re.findall(r"- name: (bcm_\w+)", documented)} == {*CONNECTION}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bcm_datacentre", "bcm_datacenter"),
        ("bcm_chian", "bcm_chain"),
        ("bcm_endpiont", "bcm_endpoint"),
        ("bcm_storagepool", "bcm_storage_pool"),
        ("bcm_exception", "bcm_exceptions"),
        ("bcm_downloads_trough_tor", "bcm_downloads_through_tor"),
        ("bcm_sever_timeout", "bcm_server_timeout"),
        ("bcm_vault_genration", "bcm_vault_generation"),
    ],
)
def test_misspelt_settings_are_refused(name: str, meant: str) -> None:
    with pytest.raises(BcmError, match=rf'Unknown variable "{name}": did you mean "{meant}"\?') as error:
        check_setting_names([name])
    assert error.value.code == "unknown_name"


def test_other_names_are_returned_at_most() -> None:
    assert check_setting_names([*SETTINGS, *CONNECTION, "bcm_test_endpoint", "bcm", "chain"]) == ["bcm_test_endpoint"]


def test_settings_of_instances_alone_are_refused() -> None:
    everywhere = Place("group all", {"bcm_subnet": "x"}, is_everywhere=True)
    connection = Place("host tor", {"bcm_server_timeout": 60}, is_of_instances=True)
    elsewhere = Place("host box", {"bcm_subnet": "x"})
    assert check_settings([everywhere, connection, elsewhere]) == []
    with pytest.raises(BcmError, match="^bcm_chain, bcm_subnet cannot be set for host tor alone, since plan and inst"):
        check_settings([everywhere, Place("host tor", {"bcm_subnet": "x", "bcm_chain": 1}, is_of_instances=True)])
