# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault of a data center: the client script, the session of a command, and a device that replaces another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import Trezor
from ansible_collections.bcm.core.plugins.module_utils._datacenter import secrets_file
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca import double as doubles
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import Double
from bcm_cli import trezor_session
from bcm_cli.datacenter import DataCenter
from tests.cli.conftest import Checkout, Safe, Terminal
from tests.support import PATIENCE
from tests.tornet import free_port

TYPED = "Enter passphrase"
OPENED = "bcm vault home"
NAME = "bitcoind/rpc/electrs"
VALUE = "what only the vault knows"


def client(safe: Safe, name: str = "home", **more: str) -> subprocess.CompletedProcess[str]:
    return safe.runs(str(safe.checkout.home / "bcm-vault-client"), "--vault-id", name, cwd=safe.secrets.parent, **more)


def password(double: Double) -> str:
    """As another program gets it from the device."""
    with Trezor(double.path, ask=lambda *question: "dc1 passphrase") as used:
        return used.vault_secret("home")


def keep(safe: Safe, values: dict[str, str]) -> None:
    safe.secrets.mkdir(exist_ok=True)
    vault = AnsibleVault("home", password(safe.double).encode())
    (safe.secrets / "signet.json").write_text(vault.seal(json.dumps(values)))
    safe.confirmed()


def nothing_is_left(safe: Safe) -> None:
    """No session in the device, and no trace of one on disk."""
    assert set(safe.double.sessions.values()) <= {None}
    assert [path.name for path in Path(safe.checkout.environment["XDG_RUNTIME_DIR"]).glob("bcm-*")] == []


# -- the client -------------------------------------------------------------------------------------------------------


def test_the_client_prints_the_password_and_nothing_else(safe: Safe) -> None:
    done = client(safe)
    assert (done.returncode, done.stdout) == (0, f"{password(safe.double)}\n"), done.stderr
    assert len(done.stdout) == 64 + 1
    # there is no root yet that would tell a mistyped passphrase
    assert safe.confirmed()[:3] == [TYPED, TYPED, OPENED]
    assert done.stderr.splitlines()[-1] == f'bcm: Trezor "double": confirm: "{OPENED}"'
    nothing_is_left(safe)


def test_passphrase_is_checked_against_the_root(safe: Safe) -> None:
    safe.root()
    assert client(safe).returncode == 0
    assert safe.confirmed() == [TYPED, OPENED]
    safe.double.settings.typed = ["another passphrase"]
    done = client(safe)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'Trezor "double" with this passphrase has another key than the root of home-signet.bcm' in done.stderr
    assert safe.confirmed() == [TYPED]
    nothing_is_left(safe)


def test_without_a_root_the_passphrase_is_typed_twice_alike(safe: Safe) -> None:
    safe.double.settings.typed = ["one", "two"]
    done = client(safe)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the two passphrases differ" in done.stderr
    safe.double.settings.typed = [""]
    assert "the empty passphrase protects nothing" in client(safe).stderr
    nothing_is_left(safe)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "hom",
            'bcm: Unknown data center "hom": did you mean "home"? '
            "Known data centers: cluster, home, local, multipass, ssh",
        ),
        ("local", "bcm: Data center local has no vault, because bcm_ca_provider is not trezor: leave out --vault-id"),
    ],
)
def test_a_vault_that_does_not_exist(safe: Safe, name: str, said: str) -> None:
    done = client(safe, name)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", said)
    assert safe.confirmed() == []


def test_a_provider_that_does_not_exist(safe: Safe) -> None:
    with safe.checkout.settings("home").open("a") as file:
        file.write("bcm_ca_provider: trezr\n")
    done = client(safe)
    assert done.returncode == 1
    assert 'bcm_ca_provider: Unknown provider "trezr": did you mean "trezor"?' in done.stderr


def test_refusal_and_absence_of_the_device_are_reported(safe: Safe) -> None:
    safe.double.settings.answers = ["confirm", "confirm", "cancel"]
    done = client(safe)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cancelled on the device while opening the vault of home" in done.stderr
    nothing_is_left(safe)
    done = client(safe, TREZOR_PATH="udp:127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Trezor: none is at udp:127.0.0.1:1" in done.stderr


def test_prompts_are_shown_at_the_terminal(safe: Safe, tmp_path: Path) -> None:
    """As Ansible runs it, which keeps both of its outputs for itself."""
    command = f"{safe.checkout.home}/bcm-vault-client --vault-id home >{tmp_path}/out 2>{tmp_path}/err"
    terminal = Terminal(["/bin/sh", "-c", command], tmp_path, safe.checkout.environment)
    terminal.reads("enter the passphrase on its screen")
    terminal.reads(f'confirm: "{OPENED}"')
    assert terminal.ends() == 0
    assert (tmp_path / "out").read_text() == f"{password(safe.double)}\n"
    assert (tmp_path / "err").read_text() == ""


def test_ansible_encrypts_and_decrypts_with_it(safe: Safe, tmp_path: Path) -> None:
    given = ("--vault-id", "home@bcm-vault-client")
    done = safe.runs("ansible-vault", "encrypt_string", *given, VALUE, "--name", "hidden")
    assert done.returncode == 0, done.stderr
    assert "$ANSIBLE_VAULT;1.2;AES256;home" in done.stdout
    assert VALUE not in done.stdout
    (tmp_path / "hidden.yml").write_text(done.stdout)
    shown = ("-m", "ansible.builtin.debug", "-a", "var=hidden", "-e", f"@{tmp_path}/hidden.yml")
    done = safe.runs("ansible", "-i", "inventories/home", "localhost", *given, *shown)
    assert f'"hidden": "{VALUE}"' in done.stdout, done.stdout + done.stderr
    safe.double.settings.answers = ["confirm", "confirm", "cancel"]
    done = safe.runs("ansible", "-i", "inventories/home", "localhost", *given, *shown)
    assert done.returncode != 0
    assert "cancelled on the device" in done.stderr


# -- variables of the command line -------------------------------------------------------------------------------------


def variables(safe: Safe, path: Path, text: str, form: str) -> str:
    """A file of variables, encrypted as a whole or each value alone, as an argument of -e."""
    vault = AnsibleVault("home", password(safe.double).encode())
    name, value = text.split(": ")
    lines = vault.seal(value).splitlines()
    inline = f"{name}: !vault |\n" + "".join(f"  {line}\n" for line in lines)
    path.write_text(vault.seal(text) if form == "file" else inline)
    safe.confirmed()
    return f"@{path}"


@pytest.mark.parametrize(
    ("verb", "form"), [("start", "file"), ("stop", "value"), ("restart", "value"), ("remove", "file")]
)
def test_encrypted_variables_that_contradict_the_data_center_are_refused(
    safe: Safe, tmp_path: Path, verb: str, form: str
) -> None:
    safe.root()
    file = variables(safe, tmp_path / "more.yml", "bcm_datacenter: two", form)
    done = safe.bcm("stack", verb, "tor", "-e", file)
    assert done.returncode == 2, done.stderr
    assert "bcm_datacenter is given as two, but data center home (signet) is meant" in done.stderr
    assert safe.confirmed() == [TYPED, OPENED]
    nothing_is_left(safe)


def test_encrypted_variables_need_a_password_that_the_run_has(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text(AnsibleVault("work", b"correct horse").seal("bcm_datacenter: two"))
    (tmp_path / "word").write_text("correct horse\n")
    words = ("stack", "stop", "tor", "-e", f"@{tmp_path}/more.yml")
    done = checkout.bcm(*words)
    assert done.returncode == 2
    assert f"-e @{tmp_path}/more.yml: is encrypted, and its password is not known: " in done.stderr
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in done.stderr
    for setting, value in (
        ("ANSIBLE_VAULT_PASSWORD_FILE", f"{tmp_path}/word"),
        ("ANSIBLE_VAULT_IDENTITY_LIST", f"work@{tmp_path}/word"),
    ):
        done = checkout.bcm(*words, **{setting: value})
        assert done.returncode == 2
        assert "bcm_datacenter is given as two, but data center local (regtest) is meant" in done.stderr


# -- variables of the inventory ----------------------------------------------------------------------------------------

READS = [
    {
        "name": "Plan",
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Write down",
                "ansible.builtin.copy": {
                    "dest": "{{ playbook_dir }}/given.json",
                    "content": "{{ {'pool': bcm_storage_pool, 'word': hidden | default('')} | to_json }}",
                    "mode": "0600",
                },
                "check_mode": False,
            },
        ],
    }
]


def sealed(safe: Safe, text: str) -> str:
    vault = AnsibleVault("home", password(safe.double).encode())
    safe.confirmed()
    return vault.seal(text)


def as_value(name: str, vault: str) -> str:
    return f"{name}: !vault |\n" + "".join(f"  {line}\n" for line in vault.splitlines())


@pytest.fixture
def inventory(safe: Safe) -> Safe:
    """One value is encrypted in the file of settings, and another file as a whole."""
    (safe.checkout.home / "site.yml").write_text(yaml.safe_dump(READS))
    safe.root()
    with safe.checkout.settings("home").open("a") as file:
        file.write(as_value("bcm_storage_pool", sealed(safe, "hidden-pool")) + "# the end\n")
    hidden(safe).parent.mkdir()
    hidden(safe).write_text(sealed(safe, f"hidden: {VALUE}\nbcm_subnet: 10.9.0.0/20\n"))
    hidden(safe).chmod(0o640)
    return safe


def hidden(safe: Safe) -> Path:
    return safe.checkout.home / "inventories/home/host_vars/localhost.yml"


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_encrypted_variables_of_the_inventory_are_read_in_a_run(inventory: Safe, verb: str) -> None:
    done = inventory.bcm("stack", verb, "tor", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(inventory) == {"pool": "hidden-pool", "word": VALUE}
    assert inventory.confirmed() == [TYPED, OPENED, OPENED]
    assert VALUE not in done.stdout + done.stderr
    nothing_is_left(inventory)
    # and by a verb that runs no playbook
    for key, value in (("storage_pool", "hidden-pool"), ("subnet", "10.9.0.0/20")):
        done = inventory.bcm("config", "get", key)
        assert (done.returncode, done.stdout) == (0, f"{value}\n"), done.stderr
    nothing_is_left(inventory)


@pytest.mark.parametrize("setting", ["", "ANSIBLE_VAULT_IDENTITY_LIST"])
def test_encrypted_variables_of_the_inventory_are_read_without_bcm(inventory: Safe, setting: str) -> None:
    client_id = "home@bcm-vault-client"
    words = ["ansible-playbook", "-i", "inventories/home", "site.yml", *([] if setting else ["--vault-id", client_id])]
    done = inventory.runs(*words, **({setting: client_id} if setting else {}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(inventory) == {"pool": "hidden-pool", "word": VALUE}


def test_another_password_for_the_vault_is_that_of_encrypted_variables_too(inventory: Safe) -> None:
    settings = inventory.checkout.settings("home")
    whole = hidden(inventory)
    other = AnsibleVault("work", b"correct horse").seal("1")
    with settings.open("a") as file:
        file.write(as_value("elsewhere", other))
    before = settings.read_text(), whole.read_text()
    done = inventory.bcm("secret", "rekey")
    assert done.returncode == 0, done.stderr
    after = settings.read_text(), whole.read_text()
    assert before[0] != after[0] and before[1] != after[1] and whole.stat().st_mode & 0o777 == 0o640
    assert as_value("elsewhere", other) in after[0] and "# the end\n" in after[0]
    done = inventory.bcm("stack", "start", "tor", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(inventory) == {"pool": "hidden-pool", "word": VALUE}
    # killed before it was all done
    whole.write_text(before[1])
    settings.write_text(after[0].replace("bcm_vault_generation: 2\n", ""))
    done = inventory.bcm("secret", "rekey")
    assert done.returncode == 0, done.stderr
    done = inventory.bcm("stack", "start", "tor", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(inventory) == {"pool": "hidden-pool", "word": VALUE}


def test_value_that_is_not_a_block_is_refused_before_the_password_changes(inventory: Safe) -> None:
    settings = inventory.checkout.settings("home")
    with settings.open("a") as file:
        file.write(f"quoted: !vault {json.dumps(sealed(inventory, 'x'))}\n")
    before = settings.read_text()
    done = inventory.bcm("secret", "rekey")
    assert done.returncode == 1
    assert f"{settings} has an encrypted value that is not written as a block" in done.stderr
    assert settings.read_text() == before + "bcm_vault_generation: 1\n"


def test_what_tells_where_the_password_is_cannot_be_encrypted_with_it(inventory: Safe) -> None:
    hidden(inventory).write_text(sealed(inventory, "bcm_ca_device: webusb\n"))
    done = inventory.bcm("config", "get", "storage_pool")
    assert done.returncode == 1
    assert "bcm_ca_device is in an encrypted file, and tells which device has the password of that file" in done.stderr


def test_a_chain_without_files_is_locked_while_the_password_changes(inventory: Safe) -> None:
    """A run that is about to write the first file would encrypt it with the former password."""
    path = inventory.secrets / "mainnet.json"
    with secrets_file.secrets_file(path).locked():
        done = inventory.bcm("secret", "rekey")
    assert done.returncode == 1
    assert f"Another run has been at work on {path}" in done.stderr


# -- the session of a command -----------------------------------------------------------------------------------------

SITE = [
    {
        "name": "Plan",
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Read",
                "bcm.core.secrets": {"chain": "signet", "names": [NAME], "vault_id": "home"},
                "register": "kept",
            },
            {
                "name": "Write down",
                "ansible.builtin.copy": {
                    "dest": "{{ playbook_dir }}/given.json",
                    "content": "{{ {'kept': kept, 'path': lookup('env', 'TREZOR_PATH')} | to_json }}",
                    "mode": "0600",
                },
                "check_mode": False,
            },
        ],
    }
]


WHOLE = """---
- hosts: localhost
  gather_facts: false
  module_defaults:
    bcm.core.secrets: {chain: signet, vault_id: home}
    group/bcm.core.ca: {chain: signet, domain: home-signet.bcm, vault_id: home}
  tasks:
    - bcm.core.ca_root: {allow_new_root: true}
    - bcm.core.secrets: {names: [tor/a]}
    - bcm.core.ca_intermediate:
    - bcm.core.ca_certificate: {certificates: [{name: electrs, names: [electrs.home-signet.bcm]}]}
    - bcm.core.ca_crl:
"""


def test_a_first_run_makes_root_and_vault_in_one_session(safe: Safe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcm_cli.datacenter._INVENTORIES", safe.checkout.home / "inventories")
    (safe.checkout.home / "whole.yml").write_text(WHOLE)
    command = ("ansible-playbook", "-i", "inventories/home", "--vault-id", "home@bcm-vault-client", "whole.yml")

    def run() -> subprocess.CompletedProcess[str]:
        with trezor_session.session(DataCenter("home")) as environment:
            done = safe.runs(*command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        nothing_is_left(safe)
        return done

    run()
    signed = ["x509-root@home-signet.bcm/pki"] * 3
    assert safe.confirmed() == [TYPED, TYPED, OPENED, *signed]
    for name in ("signet.json", "signet.keys.json"):
        assert (safe.secrets / name).read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;home\n")
    assert "changed=0" in run().stdout
    assert safe.confirmed() == [TYPED, OPENED]


@pytest.fixture
def site(safe: Safe) -> Safe:
    (safe.checkout.home / "site.yml").write_text(yaml.safe_dump(SITE))
    safe.root()
    keep(safe, {NAME: VALUE})
    return safe


def given(safe: Safe) -> dict[str, object]:
    read: dict[str, object] = json.loads((safe.checkout.home / "given.json").read_text())
    return read


def test_a_verb_that_needs_no_secrets_opens_the_vault_for_encrypted_variables(site: Safe, tmp_path: Path) -> None:
    file = variables(site, tmp_path / "more.yml", "anything: 1", "file")
    done = site.bcm("stack", "stop", "tor", "--check", "-e", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.confirmed() == [TYPED, OPENED, OPENED]
    nothing_is_left(site)


def test_a_run_asks_for_the_passphrase_once_and_opens_the_vault_once(site: Safe) -> None:
    done = site.bcm("stack", "start", "tor", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(site)["kept"]["secrets"]["electrs"] == {NAME: VALUE}  # type: ignore[index]
    assert site.confirmed() == [TYPED, OPENED]
    assert VALUE not in done.stdout + done.stderr
    nothing_is_left(site)


def test_a_run_takes_the_device_of_the_inventory(site: Safe) -> None:
    with site.checkout.settings("home").open("a") as file:
        file.write(f"bcm_ca_device: {site.double.path}\n")
    done = site.bcm("stack", "start", "tor", "--check", TREZOR_PATH="udp:127.0.0.1:1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(site)["path"] == site.double.path
    nothing_is_left(site)


def test_variables_of_a_run_apply_to_the_vault(site: Safe) -> None:
    settings = "bcm_datacenter: home\nbcm_chain: signet\nbcm_ca_device: udp:127.0.0.1:1\n"
    site.checkout.settings("home").write_text(settings)
    more = ("-e", f"chain=signet bcm_ca_device={site.double.path}")
    done = site.bcm("stack", "start", "tor", "--check", *more, TREZOR_PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert given(site)["kept"]["secrets"]["electrs"] == {NAME: VALUE}  # type: ignore[index]
    assert site.confirmed() == [TYPED, OPENED]
    nothing_is_left(site)


def test_wrong_passphrase_is_reported_before_the_run(site: Safe) -> None:
    site.double.settings.typed = ["another passphrase"]
    done = site.bcm("stack", "start", "tor", "--check")
    assert done.returncode == 1
    assert "has another key than the root of home-signet.bcm" in done.stderr
    assert not (site.checkout.home / "given.json").exists()
    nothing_is_left(site)


def test_file_of_another_device_is_reported(site: Safe) -> None:
    (site.secrets / "signet.json").write_text(AnsibleVault("home", b"another").seal("{}"))
    done = site.bcm("stack", "start", "tor", "--check")
    assert done.returncode == 2
    assert "signet.json cannot be decrypted: it was encrypted with another device or passphrase" in done.stdout
    nothing_is_left(site)


def test_regtest_asks_for_no_confirmation(safe: Safe) -> None:
    (safe.checkout.home / "site.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False}]))
    done = safe.checkout.bcm("-d", "local", "stack", "start", "tor", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert safe.confirmed() == []


@pytest.mark.parametrize("at", [TYPED, OPENED])
def test_control_c_ends_the_session(site: Safe, at: str) -> None:
    site.double.settings.answers = ["hang"] if at == TYPED else ["confirm", "hang"]
    terminal = site.checkout.terminal("-d", "home", "stack", "start", "tor", "--check")
    site.wait_for(at)
    terminal.types("\x03")
    assert terminal.ends() == 130
    nothing_is_left(site)


@pytest.mark.parametrize("at", [TYPED, OPENED])
def test_sigterm_ends_the_session(site: Safe, at: str) -> None:
    site.double.settings.answers = ["hang"] if at == TYPED else ["confirm", "hang"]
    terminal = site.checkout.terminal("-d", "home", "stack", "start", "tor", "--check")
    site.wait_for(at)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ends() == 143
    nothing_is_left(site)


# -- another device ---------------------------------------------------------------------------------------------------

PINENTRY = """#!/bin/sh
echo OK Pleased to meet you
while read -r line; do
  case $line in GETPIN) echo "D $TYPED" ;; esac
  echo OK
done
"""


@contextmanager
def process(folder: Path, **settings: object) -> Iterator[tuple[str, Path]]:
    """A device in a process of its own: where it is, and what was confirmed on it."""
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    port = free_port(kind=socket.SOCK_DGRAM)
    options = ("--port", str(port), "--settings", folder / "settings.json", "--log", folder / "log.jsonl")
    with subprocess.Popen([sys.executable, doubles.__file__, *options]) as running:
        try:
            _answers(port)
            yield f"udp:127.0.0.1:{port}", folder / "log.jsonl"
        finally:
            running.terminate()


def _answers(port: int) -> None:
    end = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.settimeout(0.1)
        caller.connect(("127.0.0.1", port))
        while time.monotonic() < end:
            try:
                caller.send(b"PINGPING")
                assert caller.recv(64) == b"PONGPONG"
                return
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.02)
    pytest.fail("the device does not answer", pytrace=False)


def test_another_password_for_the_vault(safe: Safe) -> None:
    assert safe.bcm("ca", "init", "--yes").returncode == 0
    keep(safe, {NAME: VALUE})
    former = password(safe.double)
    files = [safe.secrets / "signet.json", safe.secrets / "signet.keys.json"]
    before = [path.read_text() for path in files]
    safe.confirmed()
    done = safe.bcm("secret", "rekey")
    assert (done.returncode, safe.confirmed()) == (0, [TYPED, OPENED, f"{OPENED} 2"]), done.stderr
    assert "Encrypted again: signet.json, signet.keys.json" in done.stderr
    assert "bcm_vault_generation: 2\n" in safe.checkout.settings("home").read_text()
    for path in files:
        with pytest.raises(BcmError, match="cannot be decrypted"):
            AnsibleVault("home", former.encode()).open(path.read_text(), path)
    # killed before it was all done
    safe.checkout.settings("home").write_text("bcm_datacenter: home\nbcm_chain: signet\n")
    files[0].write_text(before[0])
    assert safe.bcm("secret", "rekey").returncode == 0
    safe.confirmed()
    assert safe.bcm("secret", "show", NAME).stdout == f"{VALUE}\n"
    assert safe.confirmed() == [TYPED, f"{OPENED} 2"]
    assert client(safe).stdout.strip() not in ("", former)
    done = safe.bcm("ca", "issue", "laptop", "--usage", "client", "--out", str(safe.checkout.home / "out"))
    assert done.returncode == 0, done.stderr
    # what somebody encrypts with the password that he knows is not taken
    files[0].write_text(before[0])
    refused = safe.bcm("secret", "show", NAME)
    assert (refused.returncode, "cannot be decrypted" in refused.stderr) == (1, True)


def test_another_wallet_after_the_passphrase_was_compromised(safe: Safe) -> None:
    """As the documentation has it."""
    assert safe.bcm("ca", "init", "--yes").returncode == 0
    keep(safe, {NAME: VALUE})
    files = ["signet.json", "signet.keys.json"]
    client_id = "home@../../../bcm-vault-client"
    done = safe.runs("ansible-vault", "decrypt", "--vault-id", client_id, *files, cwd=safe.secrets)
    assert done.returncode == 0, done.stderr
    (safe.secrets / "signet.pki.json").unlink()
    safe.double.settings.typed = ["a new passphrase"]
    encrypt = ("ansible-vault", "encrypt", "--vault-id", client_id, "--encrypt-vault-id", "home")
    done = safe.runs(*encrypt, *files, cwd=safe.secrets)
    assert done.returncode == 0, done.stderr
    safe.confirmed()
    done = safe.bcm("ca", "init", "--yes")
    assert (done.returncode, "root g2: 3650 days" in done.stdout) == (0, True), done.stderr
    assert safe.bcm("secret", "show", NAME).stdout == f"{VALUE}\n"
    safe.double.settings.typed = ["dc1 passphrase"]
    refused = safe.bcm("secret", "show", NAME)
    assert (refused.returncode, "has another key than the root" in refused.stderr) == (1, True)


def test_the_recovery_sheet_opens_the_vault_on_another_device(site: Safe, tmp_path: Path) -> None:
    """Another model with another name, recovered from the words; the inventory is a copy."""
    pinentry = tmp_path / "bin/pinentry"
    pinentry.parent.mkdir()
    pinentry.write_text(PINENTRY)
    pinentry.chmod(0o700)
    site.double.unplug()
    show = ("secret", "show", NAME)
    with process(tmp_path / "spare", model="T1B1", version=[1, 14, 1], label="the spare one") as (path, log):
        own = {"TREZOR_PATH": path, "PATH": f"{pinentry.parent}{os.pathsep}{os.environ['PATH']}"}
        done = site.bcm(*show, **own, TYPED="dc1 passphrase")
        assert (done.returncode, done.stdout) == (0, f"{VALUE}\n"), done.stderr
        assert 'Trezor "the spare one": confirm: "bcm vault home"' in done.stderr
        assert client(site, **own, TYPED="dc1 passphrase").returncode == 0
        shown = [json.loads(line)["screen"][-1] for line in log.read_text().splitlines()]
        assert shown == ["Access hidden wallet?", "Use this passphrase?", OPENED] * 2
        done = site.bcm(*show, **own, TYPED="another passphrase")
        assert (done.returncode, done.stdout) == (1, "")
        assert "has another key than the root of home-signet.bcm" in done.stderr
        # the root is lost, too, and does not tell
        (site.secrets / "signet.pki.json").unlink()
        done = site.bcm(*show, **own, TYPED="another passphrase")
        assert (done.returncode, done.stdout) == (1, "")
        assert "signet.json cannot be decrypted: it was encrypted with another device or passphrase" in done.stderr
        assert site.bcm(*show, **own, TYPED="dc1 passphrase").stdout == f"{VALUE}\n"


def test_other_words_open_nothing(site: Safe, tmp_path: Path) -> None:
    site.double.unplug()
    (site.secrets / "signet.pki.json").unlink()
    words = " ".join(["abandon"] * 11 + ["about"])
    with process(tmp_path / "other", model="T2T1", version=[2, 3, 6], mnemonic=words) as (path, _log):
        done = site.bcm("secret", "show", NAME, TREZOR_PATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be decrypted" in done.stderr
