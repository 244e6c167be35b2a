# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets: listed, shown, replaced, edited; in a plain file, and in the vault."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._datacenter import secrets_file
from tests.cli.conftest import Checkout, Safe
from tests.support import PATIENCE

VALUES = {"bitcoind/rpc/electrs": "secret one", "electrum/wallet": "secret two"}
#: an editor, and what it is given with the file behind it
EDITOR = """#!/bin/sh
stat -c %a "$2" >"$0.mode"; dirname "$2" >"$0.folder"; stat -c %a "$(dirname "$2")" >>"$0.mode"
eval "$1"
"""


@pytest.fixture
def kept(checkout: Checkout) -> Path:
    path = checkout.home / "inventories/local/secrets/regtest.json"
    path.parent.mkdir(mode=0o700)
    path.write_text(secrets_file.format_secrets(VALUES))
    path.chmod(0o600)
    return path


@pytest.fixture
def editor(tmp_path: Path) -> Path:
    path = tmp_path / "the editor"
    path.write_text(EDITOR)
    path.chmod(0o700)
    return path


def edits(editor: Path, script: str) -> dict[str, str]:
    return {"VISUAL": f"'{editor}' '{script}'", "EDITOR": "false", "XDG_RUNTIME_DIR": str(editor.parent)}


def nothing_is_left(editor: Path) -> None:
    folder = Path(editor.with_suffix(".folder").read_text().strip())
    assert folder.parent == editor.parent
    assert not folder.exists()


def read(path: Path) -> dict[str, str]:
    values: dict[str, str] = json.loads(path.read_text())
    return values


# -- in a plain file --------------------------------------------------------------------------------------------------


def test_secrets_are_listed_without_their_values(checkout: Checkout, kept: Path) -> None:
    done = checkout.bcm("secret", "list")
    assert done.stdout.splitlines() == [
        "secret                stacks",
        "bitcoind/rpc/electrs  bitcoind, electrs",
        "electrum/wallet       electrum",
    ]
    listed = json.loads(checkout.bcm("secret", "list", "--json").stdout)["secrets"]
    assert listed[0] == {"secret": "bitcoind/rpc/electrs", "stacks": ["bitcoind", "electrs"]}
    assert [row["secret"] for row in listed] == sorted(VALUES)


@pytest.mark.parametrize("words", ["secret list", "stack list", "info", "config get", "stack start tor --check"])
def test_no_file_of_secrets_is_read_as_an_inventory(checkout: Checkout, kept: Path, tmp_path: Path, words: str) -> None:
    """Whatever directory a command is typed in, and whatever ansible.cfg lies there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ansible.cfg").write_text("[defaults]\ninventory = nowhere\n")
    (kept.parent / "hosts.yml").write_text("all: {hosts: {stranger: {}}, vars: {bcm_storage_pool: strange}}\n")
    site = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}, "changed_when": True}]}]
    (checkout.home / "site.yml").write_text(json.dumps(site))
    done = subprocess.run(
        [checkout.home / "bcm", *words.split()], cwd=elsewhere, env=checkout.environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "strange" not in done.stdout


def test_a_data_center_without_secrets_says_so(checkout: Checkout, safe: Safe) -> None:
    assert checkout.bcm("secret", "list").stdout == "none\n"
    assert json.loads(checkout.bcm("secret", "list", "--json").stdout) == {"secrets": []}
    refused = checkout.bcm("secret", "rekey")
    assert (refused.returncode, "Data center local has no vault, because" in refused.stderr) == (2, True)
    # nobody is asked to open what is not there
    assert safe.bcm("secret", "list").stdout == "none\n"
    for words in (["show", "a/b"], ["rotate", "a/b"], ["edit"]):
        done = safe.bcm("secret", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Data center home (signet) has no secrets yet: `bcm stack start STACK` creates them" in done.stderr
    assert safe.confirmed() == []


def test_only_the_named_secret_is_shown(checkout: Checkout, kept: Path) -> None:
    done = checkout.bcm("secret", "show", "electrum/wallet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "secret two\n", "")


def test_rotate_gives_new_values_to_the_named_secrets(checkout: Checkout, kept: Path) -> None:
    done = checkout.bcm("secret", "rotate", "bitcoind/rpc/electrs")
    assert (done.returncode, done.stdout) == (0, "")
    told = "Changed: bitcoind/rpc/electrs. `bcm stack start bitcoind electrs` makes the stacks use it"
    assert done.stderr == f"bcm: {told}\n"
    after = read(kept)
    assert after["electrum/wallet"] == VALUES["electrum/wallet"]
    assert len(after["bitcoind/rpc/electrs"]) == 43
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_what_a_wallet_depends_on_is_not_rotated(checkout: Checkout, kept: Path) -> None:
    values = {**VALUES, "lnd/wallet_password": "secret three"}
    kept.write_text(json.dumps(values))
    done = checkout.bcm("secret", "rotate", "electrum/wallet", "lnd/wallet_password")
    assert done.returncode == 1
    assert "lnd/wallet_password cannot be replaced, because a wallet" in done.stderr
    assert read(kept) == values


@pytest.mark.parametrize("words", [["show", "electrum/walet"], ["rotate", "bitcoind/rpc/electrs", "electrum/walet"]])
def test_missing_secret_is_reported(checkout: Checkout, kept: Path, words: list[str]) -> None:
    done = checkout.bcm("secret", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'Unknown secret "electrum/walet": did you mean "electrum/wallet"?' in done.stderr
    assert read(kept) == VALUES


def test_damaged_file_is_reported(checkout: Checkout, kept: Path) -> None:
    kept.write_text("{")
    for words in (["list"], ["show", "a/b"], ["rotate", "a/b"], ["edit"]):
        done = checkout.bcm("secret", *words)
        assert done.returncode == 1
        assert "regtest.json is damaged, it holds no JSON" in done.stderr
        assert kept.read_text() == "{"


def test_a_vault_that_the_settings_do_not_know_of(checkout: Checkout, kept: Path) -> None:
    kept.write_text("$ANSIBLE_VAULT;1.2;AES256;local\n3132\n")
    done = checkout.bcm("secret", "list")
    assert done.returncode == 1
    assert "regtest.json is encrypted: run it with --vault-id local@bcm-vault-client" in done.stderr


# -- in an editor -----------------------------------------------------------------------------------------------------


def test_secrets_are_edited_in_a_private_file(checkout: Checkout, kept: Path, editor: Path) -> None:
    done = checkout.bcm("secret", "edit", **edits(editor, 'sed -i s/two/three/ "$2"'))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "bcm: Changed: electrum/wallet. `bcm stack start electrum` makes the stacks use it\n"
    assert read(kept) == {**VALUES, "electrum/wallet": "secret three"}
    assert editor.with_suffix(".mode").read_text().split() == ["600", "700"]
    nothing_is_left(editor)


def test_edit_adds_and_removes_secrets(checkout: Checkout, kept: Path, editor: Path) -> None:
    done = checkout.bcm("secret", "edit", **edits(editor, 'sed -i s,electrum/wallet,tor/new, "$2"'))
    assert done.returncode == 0, done.stderr
    assert read(kept) == {"bitcoind/rpc/electrs": "secret one", "tor/new": "secret two"}


def test_edit_without_a_change_writes_nothing(checkout: Checkout, kept: Path, editor: Path) -> None:
    before = kept.stat().st_mtime_ns
    done = checkout.bcm("secret", "edit", **edits(editor, 'touch "$2"'))
    assert (done.returncode, done.stderr) == (0, "bcm: Nothing was changed\n")
    assert kept.stat().st_mtime_ns == before
    nothing_is_left(editor)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('echo "{" >"$2"', "This cannot be saved: it holds no JSON (line 2): nothing was changed"),
        ('echo "[1]" >"$2"', "it holds no mapping of names to secrets: nothing was changed"),
        ('sed -i s,electrum/wallet,wallet, "$2"', 'Secret "wallet" cannot be called that: write <stack>/<what>'),
        ('sed -i "s/secret two//" "$2"', "electrum/wallet needs 8 to 1000 letters"),
        ('rm "$2"', "No such file or directory"),
        ("exit 3", "ended with 3: nothing was changed"),
    ],
)
def test_invalid_edits_are_refused(checkout: Checkout, kept: Path, editor: Path, script: str, said: str) -> None:
    done = checkout.bcm("secret", "edit", **edits(editor, script))
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert read(kept) == VALUES
    nothing_is_left(editor)


def test_an_editor_that_is_not_there(checkout: Checkout, kept: Path) -> None:
    done = checkout.bcm("secret", "edit", VISUAL="/no/such/editor")
    assert done.returncode == 1
    assert "The editor /no/such/editor cannot be started: No such file or directory: set EDITOR" in done.stderr


def test_on_a_terminal_a_mistake_is_mended(checkout: Checkout, kept: Path, editor: Path) -> None:
    script = 'if grep -q two "$2"; then echo "{" >"$2"; else echo "{\\"tor/x\\": \\"12345678\\"}" >"$2"; fi'
    terminal = checkout.terminal("secret", "edit", **edits(editor, script))
    terminal.reads("This cannot be saved: it holds no JSON (line 2). Edit it again? [Y/n] ")
    assert read(kept) == VALUES
    terminal.types("\n")
    assert terminal.ends() == 0
    assert read(kept) == {"tor/x": "12345678"}
    nothing_is_left(editor)


@pytest.mark.parametrize("answer", ["n\n", "\x04"], ids=["no", "end-of-file"])
def test_on_a_terminal_a_mistake_is_dropped(checkout: Checkout, kept: Path, editor: Path, answer: str) -> None:
    terminal = checkout.terminal("secret", "edit", **edits(editor, 'echo "{" >"$2"'))
    terminal.reads("Edit it again? [Y/n] ")
    terminal.types(answer)
    assert terminal.ends() == 1
    assert "bcm: Nothing was changed" in terminal.output
    assert read(kept) == VALUES
    nothing_is_left(editor)


def test_control_c_is_passed_to_the_editor(checkout: Checkout, kept: Path, editor: Path) -> None:
    script = 'trap "sed -i s/two/three/ $2; exit 0" INT; echo ready; while :; do sleep 0.1; done'
    terminal = checkout.terminal("secret", "edit", **edits(editor, script))
    terminal.reads("ready")
    terminal.types("\x03")
    assert terminal.ends() == 0
    assert read(kept)["electrum/wallet"] == "secret three"


def test_terminated_edit_leaves_no_files(checkout: Checkout, kept: Path, editor: Path) -> None:
    terminal = checkout.terminal("secret", "edit", **edits(editor, "echo ready; while :; do sleep 0.1; done"))
    terminal.reads("ready")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ends() == 143
    assert read(kept) == VALUES
    nothing_is_left(editor)


@pytest.mark.parametrize(
    ("other", "status"), [({"electrum/wallet": "not ours"}, 1), ({"tor/new": "not ours"}, 0)], ids=["same", "another"]
)
def test_another_run_meanwhile(
    checkout: Checkout, kept: Path, editor: Path, other: dict[str, str], status: int
) -> None:
    theirs = editor.parent / "theirs"
    theirs.write_text(json.dumps({**VALUES, **other}))
    done = checkout.bcm("secret", "edit", **edits(editor, f'sed -i s/two/three/ "$2"; cp {theirs} {kept}'))
    assert done.returncode == status
    if status:
        assert "Another run changed electrum/wallet meanwhile: nothing was written" in done.stderr
        assert read(kept) == {**VALUES, **other}
    else:
        assert read(kept) == {**VALUES, **other, "electrum/wallet": "secret three"}


# -- in the vault -----------------------------------------------------------------------------------------------------


def test_plain_file_is_refused_until_it_was_encrypted_by_hand(safe: Safe, editor: Path) -> None:
    safe.root()
    path = safe.secrets / "signet.json"
    path.write_text(secrets_file.format_secrets(VALUES))
    for words in (("show", "electrum/wallet"), ("rotate", "electrum/wallet"), ("list",), ("edit",)):
        refused = safe.bcm("secret", *words)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{path} is not encrypted, as everything of vault home has to be" in refused.stderr
    assert path.read_text() == secrets_file.format_secrets(VALUES)
    command = refused.stderr.partition("`")[2].partition("`")[0]
    encrypted = safe.runs(*shlex.split(command.replace("home@", f"home@{safe.checkout.home}/")))
    assert encrypted.returncode == 0, encrypted.stderr
    safe.confirmed()
    assert safe.bcm("secret", "show", "electrum/wallet").stdout == "secret two\n"
    assert safe.confirmed() == ["Enter passphrase", "bcm vault home"]
    sealed = path.read_text()
    assert sealed.startswith("$ANSIBLE_VAULT;1.2;AES256;home\n")
    assert safe.bcm("secret", "edit", **edits(editor, 'grep -q "secret one" "$2"')).returncode == 0
    assert path.read_text() == sealed
    assert safe.bcm("secret", "edit", **edits(editor, 'sed -i s/one/1/ "$2"')).returncode == 0
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;home\n")
    assert safe.bcm("secret", "show", "bitcoind/rpc/electrs").stdout == "secret 1\n"
    listed = safe.bcm("secret", "list")
    assert "electrum/wallet       electrum" in listed.stdout
    assert set(safe.double.sessions.values()) <= {None}


def test_cancelled_confirmation_shows_no_secrets(safe: Safe) -> None:
    path = safe.secrets / "signet.json"
    path.parent.mkdir(mode=0o700)
    path.write_text("$ANSIBLE_VAULT;1.2;AES256;home\n3132\n")
    safe.double.settings.answers = ["confirm", "confirm", "cancel"]
    done = safe.bcm("secret", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cancelled on the device while opening the vault of home" in done.stderr
