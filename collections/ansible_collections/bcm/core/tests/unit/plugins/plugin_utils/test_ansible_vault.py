# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultSecret, VaultSecretsContext

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.vault import PLAIN
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault, of_run

TEXT = '{"bitcoind/rpc/electrs": "geheim, ein wenig länger"}\n'
VAULT = AnsibleVault("home", b"correct horse")
BIN = Path(sys.executable).parent


def test_ansible_decrypts_encrypted_files_and_the_reverse(tmp_path: Path) -> None:
    file, password = tmp_path / "file", tmp_path / "password"
    password.write_text("correct horse")
    file.write_text(VAULT.seal(TEXT))

    def ansible_vault(verb: str, *more: str) -> str:
        command = [BIN / "ansible-vault", verb, "--vault-id", f"home@{password}", *more, file]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert ansible_vault("view") == TEXT
    file.write_text(TEXT)
    ansible_vault("encrypt", "--encrypt-vault-id", "home")
    assert VAULT.open(file.read_text(), file) == TEXT


def test_its_lines_are_as_ansible_wraps_them() -> None:
    header, *lines = VAULT.seal(TEXT * 10).splitlines()
    assert header == "$ANSIBLE_VAULT;1.2;AES256;home"
    assert {len(line) for line in lines[:-1]} == {80}
    assert VAULT.seal(TEXT) != VAULT.seal(TEXT)


def test_plain_text_is_read_without_a_vault_and_refused_with_one() -> None:
    assert PLAIN.open(PLAIN.seal(TEXT), "x.json") == TEXT == PLAIN.seal(TEXT)
    for text in (TEXT, "", f" {VAULT.seal(TEXT)}"):
        with pytest.raises(BcmError, match=r"^x.json is not encrypted, .* put a copy of it back; .*`ansible-vault e"):
            VAULT.open(text, "x.json")


@pytest.mark.parametrize(
    ("vault_id", "shown"), [("home", "home"), ("default", "default")], ids=["format-1.2", "format-1.1"]
)
def test_without_a_password_it_says_which_one(vault_id: str, shown: str) -> None:
    with pytest.raises(BcmError) as raised:
        PLAIN.open(AnsibleVault(vault_id, b"x").seal(TEXT), "x.json")
    said = f"x.json is encrypted: run it with --vault-id {shown}@bcm-vault-client, or use bcm"
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("vault", "said"),
    [
        (AnsibleVault("home", b"wrong"), "another device or passphrase, or it is damaged: connect the right device"),
        (AnsibleVault("office", b"wrong"), "another device or passphrase, and for vault home, not office, or it is"),
    ],
)
def test_another_password(vault: AnsibleVault, said: str) -> None:
    with pytest.raises(BcmError, match="^x.json cannot be decrypted: it was encrypted with ") as raised:
        vault.open(VAULT.seal(TEXT), "x.json")
    assert said in str(raised.value)


def test_a_data_center_that_was_renamed_keeps_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.constants.DEFAULT_VAULT_ID_MATCH", True)
    assert AnsibleVault("office", b"correct horse").open(VAULT.seal(TEXT), "x.json") == TEXT


@pytest.mark.parametrize(
    "text",
    ["$ANSIBLE_VAULT", "$ANSIBLE_VAULT;1.2", "$ANSIBLE_VAULT;1.2;ROT13;home\n3132\n", VAULT.seal(TEXT)[:-10],
     VAULT.seal(TEXT)[:200], "$ANSIBLE_VAULT;1.2;AES256;home\nkäse\n", "$ANSIBLE_VAULT;1.2;AES256;home\n"],
)  # fmt: skip
def test_damaged_files_are_refused(text: str) -> None:
    with pytest.raises(BcmError, match=r"^x.json (is damaged, it is no|cannot be decrypted: .* or it is damaged)"):
        VAULT.open(text, "x.json")


def test_the_password_of_the_run_is_the_one_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [("office", VaultSecret(b"wrong")), ("home", VaultSecret(b"correct horse"))]
    monkeypatch.setattr(VaultSecretsContext, "_current", VaultSecretsContext(given))
    assert VAULT.open(of_run("home").seal(TEXT), "x.json") == TEXT
    assert of_run(None) is of_run("") is PLAIN
    with pytest.raises(BcmError, match="^This run was not given the password of vault hom: run it with --vault-id"):
        of_run("hom")


PLAYBOOK = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "bcm.core.secrets": {"chain": "signet", "names": ["tor/a"], "vault_id": "home"},
                "register": "kept",
                # in a worker that was forked, and beside others
                "loop": [1, 2],
            },
            {"ansible.builtin.assert": {"that": "kept.results | map(attribute='secrets') | unique | length == 1"}},
        ],
    }
]


@pytest.mark.parametrize("check", [False, True])
def test_a_run_of_ansible_has_its_passwords_in_the_workers(tmp_path: Path, check: bool) -> None:
    for name, text in (("hosts", "localhost ansible_connection=local\n"), ("pass", "correct horse\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "play.yml").write_text(json.dumps(PLAYBOOK))
    file = tmp_path / "secrets/signet.json"
    file.parent.mkdir()
    file.write_text(VAULT.seal('{"tor/a": "the very value"}'))
    command = [BIN / "ansible-playbook", "-i", tmp_path / "hosts", tmp_path / "play.yml", "-vvv", *["--check"] * check]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        root = next(path for path in Path(__file__).parents if path.name == "ansible_collections").parent
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(root), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
        return subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)

    done = run("--vault-id", f"home@{tmp_path / 'pass'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the very value" not in done.stdout + done.stderr
    refused = run()
    assert refused.returncode == 2
    assert "This run was not given the password of vault home" in refused.stdout
