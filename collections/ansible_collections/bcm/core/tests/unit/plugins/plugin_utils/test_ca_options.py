# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules of the authority as Ansible calls them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.parsing.vault import VaultSecret, VaultSecretsContext
from ansible.playbook.task import Task

OPTIONS = {"chain": "regtest", "domain": "home-regtest.bcm", "provider": "software"}
WANTED = [{"name": "electrs", "names": ["electrs.home-regtest.bcm"]}]


def _run(tmp_path: Path, name: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
    action = importlib.import_module(f"ansible_collections.bcm.core.plugins.action.{name}").ActionModule
    args = {**OPTIONS, "directory": str(tmp_path / "secrets"), **options}
    task = MagicMock(spec=Task, args=args, async_val=0, check_mode=check, diff=True, action=f"bcm.core.{name}")
    return action(task, MagicMock(), MagicMock(), MagicMock(), MagicMock()).run(task_vars={})


def _begin(tmp_path: Path) -> None:
    _run(tmp_path, "ca_root", allow_new_root=True)
    _run(tmp_path, "ca_intermediate")


def test_keys_are_returned_only_if_they_are_asked_for_and_then_hidden(tmp_path: Path) -> None:
    _begin(tmp_path)
    seen = _run(tmp_path, "ca_certificate", certificates=WANTED)
    assert "PRIVATE KEY" not in json.dumps(seen)
    assert "_ansible_no_log" not in seen
    assert seen["diff"]["after"] == "electrs: 30 days, electrs.home-regtest.bcm, server (new)\n"
    hidden = _run(tmp_path, "ca_certificate", certificates=WANTED, return_keys=True)
    assert hidden["_ansible_no_log"] is True
    assert hidden["changed"] is False
    assert "PRIVATE KEY" in hidden["certificates"][0]["key"]


def test_check_mode_without_an_authority_reports_everything(tmp_path: Path) -> None:
    runs = [
        _run(tmp_path, "ca_root", check=True, allow_new_root=True),
        _run(tmp_path, "ca_intermediate", check=True),
        _run(tmp_path, "ca_certificate", check=True, certificates=WANTED, return_keys=True),
        _run(tmp_path, "ca_crl", check=True),
    ]
    assert all(run["changed"] and run["diff"]["after"] for run in runs)
    assert list(tmp_path.iterdir()) == []


def test_private_keys_are_kept_in_the_vault_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = _run(tmp_path, "ca_root", allow_new_root=True, vault_id="home")
    assert "was not given the password of vault home: run it with --vault-id home@bcm-vault-client" in refused["msg"]
    assert not (tmp_path / "secrets").exists()
    monkeypatch.setattr(VaultSecretsContext, "_current", VaultSecretsContext([("home", VaultSecret(b"x" * 64))]))
    options = {"vault_id": "home", "certificates": WANTED}
    _run(tmp_path, "ca_root", allow_new_root=True, vault_id="home")
    _run(tmp_path, "ca_intermediate", vault_id="home")
    made = _run(tmp_path, "ca_certificate", return_keys=True, **options)
    text = (tmp_path / "secrets/regtest.keys.json").read_text()
    assert text.startswith("$ANSIBLE_VAULT;1.2;AES256;home\n")
    again = _run(tmp_path, "ca_certificate", return_keys=True, **options)
    assert (again["changed"], again["certificates"]) == (False, made["certificates"])
    monkeypatch.setattr(VaultSecretsContext, "_current", None)
    assert "was not given" in _run(tmp_path, "ca_certificate", **options)["msg"]
    assert "is encrypted: run it with --vault-id home@" in _run(tmp_path, "ca_certificate", certificates=WANTED)["msg"]
    assert _run(tmp_path, "ca_info", vault_id="home")["certificates"][0]["name"] == "electrs"
    assert "BEGIN" in (tmp_path / "secrets/regtest.pki.json").read_text()


def test_plain_keys_are_refused_where_there_is_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _begin(tmp_path)
    file = tmp_path / "secrets/regtest.keys.json"
    plain = file.read_text()
    monkeypatch.setattr(VaultSecretsContext, "_current", VaultSecretsContext([("home", VaultSecret(b"x" * 64))]))
    for module, options in (("ca_intermediate", {}), ("ca_certificate", {"certificates": WANTED}), ("ca_crl", {})):
        said = _run(tmp_path, module, vault_id="home", **options)["msg"]
        assert f"{file} is not encrypted, as everything of vault home has to be" in said
    assert file.read_text() == plain


def test_a_file_holds_the_root_on_regtest_only(tmp_path: Path) -> None:
    refused = _run(tmp_path, "ca_root", chain="signet", allow_new_root=True)
    assert refused["msg"] == (
        "Chain signet needs a certificate authority on a hardware wallet, provider is software: use chain regtest, or "
        "name signet in software_ca_chains to accept keys in a file"
    )
    assert _run(tmp_path, "ca_root", chain="signet", allow_new_root=True, software_ca_chains=["signet"])["changed"]


def test_revocation_takes_a_serial_as_openssl_prints_it(tmp_path: Path) -> None:
    _begin(tmp_path)
    serial = _run(tmp_path, "ca_certificate", certificates=WANTED)["certificates"][0]["serial"]
    even = serial.zfill(len(serial) + len(serial) % 2).upper()
    printed = ":".join(even[index : index + 2] for index in range(0, len(even), 2))
    assert _run(tmp_path, "ca_crl", revoke=[{"serial": printed}])["changed"]
    assert _run(tmp_path, "ca_info")["certificates"][0]["revoked"] is True


@pytest.mark.parametrize("names", [["a", "a"], ["a", "b", "a"]])
def test_no_name_is_given_twice(tmp_path: Path, names: list[str]) -> None:
    _begin(tmp_path)
    certificates = [{"name": name, "usage": ["client"]} for name in names]
    told = _run(tmp_path, "ca_certificate", certificates=certificates)
    assert told["msg"] == "Certificate a is asked for 2 times: give each a name of its own"
