# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.playbook.task import Task

from ansible_collections.bcm.core.plugins.action.secrets import ActionModule
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.vault import PLAIN
from ansible_collections.bcm.core.plugins.module_utils._datacenter.secrets_file import (
    Secrets,
    change_secrets,
    ensure_secrets,
    is_lasting,
    keep_secrets,
    read_secrets,
)
from ansible_collections.bcm.core.plugins.module_utils._tor.relay import parse_identity
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault

NAMES = ["bitcoind/rpc/electrs", "electrum/wallet"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "local/secrets/regtest.json"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_missing_secrets_are_created_and_kept(path: Path) -> None:
    first = ensure_secrets(path, NAMES, check=False)
    assert first.made == NAMES
    assert all(len(value) == 43 for value in first.values.values())
    assert json.loads(path.read_text()) == first.values
    assert (_mode(path), _mode(path.parent)) == (0o600, 0o700)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", ".regtest.lock", "regtest.json"]
    assert ensure_secrets(path, NAMES, check=False) == Secrets(first.values, [])


def test_the_identity_of_a_relay_is_a_pair_of_keys(path: Path) -> None:
    values = ensure_secrets(path, ["torrelay/relay_identity"], check=False).values
    assert parse_identity(values["torrelay/relay_identity"]).fingerprint
    assert read_secrets(path, PLAIN) == values


def test_existing_secrets_never_change(path: Path) -> None:
    first = ensure_secrets(path, NAMES[:1], check=False)
    second = ensure_secrets(path, NAMES[1:], check=False)
    assert second.made == NAMES[1:]
    assert second.values.items() > first.values.items()


def test_remains_of_a_killed_run_are_removed(path: Path) -> None:
    first = ensure_secrets(path, NAMES[:1], check=False)
    for name in (".regtest.json.a1b2c3d4", ".signet.json.a1b2c3d4"):
        (path.parent / name).write_text("what nobody uses", encoding="ascii")
    ensure_secrets(path, NAMES, check=False)
    left = sorted(entry.name for entry in path.parent.iterdir())
    assert left == [".gitignore", ".regtest.lock", ".signet.json.a1b2c3d4", "regtest.json"]
    assert json.loads(path.read_text()).items() > first.values.items()


def test_an_open_file_is_closed_again(path: Path) -> None:
    ensure_secrets(path, NAMES, check=False)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    ensure_secrets(path, NAMES, check=False)
    assert (_mode(path), _mode(path.parent)) == (0o600, 0o700)


def test_check_mode_writes_nothing(path: Path) -> None:
    assert ensure_secrets(path, NAMES, check=True).made == NAMES
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "it holds no JSON"),
        (b"[]", "no mapping of names"),
        (b'{"a": 1}', "no mapping of"),
        (b'{"a/b": "\xff"}', "it holds no text"),
        (b'{"a/b": ""}', "a/b needs 8 to 1000 letters"),
        (b'{"a/b": "short"}', "a/b needs 8 to 1000 letters"),
        (b'{"a/b": "a line\\nauth = 1"}', "a/b needs 8 to 1000 letters"),
        (b'{"a/b": "12345678\\n"}', "a/b needs 8 to 1000 letters"),
        (b'{"a/b": "12345678\\" x"}', "a/b needs 8 to 1000 letters"),
        (b'{"a/b": "12345678\\\\"}', "a/b needs 8 to 1000 letters"),
        (b"[" * 5000, "nested too deep"),
    ],
)
def test_a_damaged_file_is_left_alone(path: Path, content: bytes, complaint: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(BcmError, match=f"regtest.json is damaged, .*{complaint}"):
        ensure_secrets(path, NAMES, check=False)
    assert path.read_bytes() == content


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BcmError, match=r"^Secrets in .*/file.*: Not a directory; nothing was changed: make it"):
        ensure_secrets(tmp_path / "file/secrets/regtest.json", NAMES, check=False)


def test_stacks_of_a_secret_may_have_hyphens(path: Path) -> None:
    assert list(ensure_secrets(path, ["lightning-charge/http/web-shop"], check=False).values) == [
        "lightning-charge/http/web-shop"
    ]


@pytest.mark.parametrize("name", ["rpc", "../x", "a/B", "a//b", "a/b c", "-a/b", "a/-b"])
def test_names_no_secret_can_have(path: Path, name: str) -> None:
    with pytest.raises(BcmError, match=f'Secret "{name}" cannot be called that'):
        ensure_secrets(path, [name], check=False)


def test_a_killed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_secrets(path, NAMES[:1], check=False)
    monkeypatch.setattr("os.replace", MagicMock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ensure_secrets(path, NAMES, check=False)
    assert json.loads(path.read_text()) == first.values
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", ".regtest.lock", "regtest.json"]


VAULT = AnsibleVault("home", b"correct horse")


def test_secrets_are_encrypted_in_a_vault(path: Path) -> None:
    first = ensure_secrets(path, NAMES, check=False, vault=VAULT)
    text = path.read_text()
    assert text.startswith("$ANSIBLE_VAULT;1.2;AES256;home\n")
    assert not any(bytes(word, "utf-8").hex() in text.replace("\n", "") for word in (*NAMES, *first.values.values()))
    assert ensure_secrets(path, NAMES, check=False, vault=VAULT) == Secrets(first.values, [])
    assert path.read_text() == text
    assert (_mode(path), read_secrets(path, VAULT)) == (0o600, first.values)


def test_plain_file_is_refused_where_there_is_a_vault(path: Path) -> None:
    ensure_secrets(path, NAMES, check=False)
    plain = path.read_text()
    for check in (True, False):
        with pytest.raises(BcmError, match=r"regtest.json is not encrypted, as everything of vault home has to be, so"):
            ensure_secrets(path, [*NAMES, "tor/new"], check=check, vault=VAULT)
    assert path.read_text() == plain


@pytest.mark.parametrize("vault", [PLAIN, AnsibleVault("home", b"wrong")])
def test_a_vault_that_does_not_open_is_left_alone(path: Path, vault: Any) -> None:
    ensure_secrets(path, NAMES, check=False, vault=VAULT)
    before = path.read_text()
    for check in (False, True):
        with pytest.raises(BcmError, match=r"regtest.json (is encrypted: run it with|cannot be decrypted: it was)"):
            ensure_secrets(path, [*NAMES, "tor/new"], check=check, vault=vault)
    assert path.read_text() == before


def test_first_file_of_a_chain_has_the_password_of_the_others(path: Path) -> None:
    """A run may have been given the password before `bcm secret rekey` changed it, and write afterwards."""
    ensure_secrets(path, NAMES, check=False, vault=VAULT)
    (path.parent / "regtest.pki.json").write_text("{}")
    new = path.with_name("signet.json")
    for read in (ensure_secrets, keep_secrets):
        wanted: Any = NAMES if read is ensure_secrets else {"lnd/public_key": "02" * 33}
        with pytest.raises(BcmError, match=r"signet.json would get another password than .*/regtest.json has: run it"):
            read(new, wanted, check=False, vault=AnsibleVault("home", b"former"))
    assert not new.exists()
    ensure_secrets(new, NAMES, check=False, vault=VAULT)
    ensure_secrets(path.with_name("testnet4.json"), NAMES, check=False)  # without a vault


def test_changes_are_written_if_nothing_was_raised(path: Path) -> None:
    first = ensure_secrets(path, NAMES, check=False, vault=VAULT)
    with pytest.raises(ZeroDivisionError), change_secrets(path, VAULT) as values:
        values[NAMES[0]] = str(1 // 0)
    assert read_secrets(path, VAULT) == first.values
    with change_secrets(path, VAULT) as values:
        values[NAMES[0]] = "12345678"
    assert read_secrets(path, VAULT) == {**first.values, NAMES[0]: "12345678"}


WORDS = {"lnd/recovery_words": "absent abandon ability"}


def test_secrets_made_elsewhere_are_kept_once(path: Path) -> None:
    made = ensure_secrets(path, NAMES, check=False).values
    assert keep_secrets(path, WORDS, check=True) == ["lnd/recovery_words"]
    assert read_secrets(path, PLAIN) == made
    assert keep_secrets(path, WORDS, check=False) == ["lnd/recovery_words"]
    assert keep_secrets(path, WORDS, check=False) == []
    assert read_secrets(path, PLAIN) == {**made, **WORDS}


def test_kept_secret_does_not_get_another_value(path: Path) -> None:
    keep_secrets(path, WORDS, check=False)
    with pytest.raises(BcmError, match="has another value of lnd/recovery_words"):
        keep_secrets(path, {"lnd/recovery_words": "absent abandon able"}, check=False)
    assert read_secrets(path, PLAIN) == WORDS


@pytest.mark.parametrize("value", ["short", "a line\nand another", 'a "quote"'])
def test_secret_that_a_file_could_not_hold_is_refused(path: Path, value: str) -> None:
    with pytest.raises(BcmError, match="cannot be kept: lnd/recovery_words needs"):
        keep_secrets(path, {"lnd/recovery_words": value}, check=False)
    assert not path.exists()


def test_two_runs_at_once_agree(path: Path) -> None:
    results: list[Secrets] = []
    threads = [
        threading.Thread(target=lambda: results.append(ensure_secrets(path, NAMES, check=False))) for _n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result.values == results[0].values for result in results)


def test_stack_gets_its_own_secrets_and_those_it_shares() -> None:
    known = Secrets({"bitcoind/rpc/electrs": "1", "bitcoind/rpc/lnd": "2", "electrum/wallet": "3"}, []).of_stacks()
    assert known == {
        "bitcoind": {"bitcoind/rpc/electrs": "1", "bitcoind/rpc/lnd": "2"},
        "electrs": {"bitcoind/rpc/electrs": "1"},
        "lnd": {"bitcoind/rpc/lnd": "2"},
        "electrum": {"electrum/wallet": "3"},
    }


def _run(args: dict[str, Any], sources: list[str]) -> dict[str, Any]:
    task = MagicMock(spec=Task, args=args, async_val=0, check_mode=False, diff=False, action="bcm.core.secrets")
    action = ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock())
    return action.run(task_vars={"ansible_inventory_sources": sources})


def test_action_keeps_secrets_beside_the_inventory(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {}", encoding="utf-8")
    for source in (hosts, tmp_path):
        result = _run({"chain": "regtest", "names": NAMES}, ["localhost,", str(source)])
        assert result["path"] == str(tmp_path / "secrets/regtest.json")
    assert result["changed"] is False
    assert result["_ansible_no_log"] is True
    assert set(result["secrets"]) == {"bitcoind", "electrs", "electrum"}


def test_the_action_needs_a_place() -> None:
    result = _run({"chain": "regtest", "names": NAMES}, ["localhost,"])
    assert result["msg"] == "The secrets have no place, since no inventory file is in use: set the option directory"


def test_secret_that_was_made_before_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "regtest.json"
    older = ensure_secrets(path, ["tor/one"], check=False)
    for check in (True, False):
        with pytest.raises(BcmError, match="^.*regtest.json lacks tor/three, tor/two, which .* has made already"):
            names = ["tor/one", "tor/two", "tor/three", "tor/four"]
            ensure_secrets(path, names, check=check, known=["tor/two", "tor/three", "gone/one"])
    assert read_secrets(path, PLAIN) == older.values
    assert ensure_secrets(path, ["tor/one"], check=False, known=["tor/one", "tor/two"]).made == []


def test_key_of_copies_is_known_to_no_stack_and_its_public_half_to_all(path: Path) -> None:
    names = ["backups/sealing_key", "backups/ssh_key", "bitcoind/rpc/electrs"]
    found = ensure_secrets(path, names, check=False)
    assert {name for known in found.of_stacks().values() for name in known} == set(names[1:])
    assert {name: value.split()[0][:4] for name, value in found.public().items()} == {
        "backups/sealing_key": "age1",
        "backups/ssh_key": "ssh-",
    }
    assert is_lasting("backups/sealing_key") and not is_lasting("backups/ssh_key")
