# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A data center whose root key is on a Trezor: on a signet of its own, with a Trezor in software for the device."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import Double, Settings
from tests.e2e.conftest import Person, inside, reported
from tests.support import until

pytestmark = [pytest.mark.containers, pytest.mark.whole, pytest.mark.usefixtures("started")]

NAME = "vaulted"
CHAIN = "signet"
# OP_TRUE: everybody may sign blocks of this signet
CHALLENGE = "51"
MAGIC = hashlib.sha256(hashlib.sha256(bytes([1]) + bytes.fromhex(CHALLENGE)).digest()).hexdigest()[:8]

# Speaks TLS to a service; prints the serial of its certificate, or why there is no connection.
_TLS = """
import json, socket, ssl, sys
said = json.load(sys.stdin)
trusting = ssl.create_default_context(cadata=said["trust"])
if "own" in said:
    with open("/run/own.pem", "w") as file:
        file.write(said["own"])
    trusting.load_cert_chain("/run/own.pem")
try:
    with socket.create_connection(said["server"], 10) as plain:
        with trusting.wrap_socket(plain, server_hostname=said["server"][0]) as connection:
            if said.get("page"):
                # TLS 1.3 tells a client only afterwards that it is refused
                connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                print(connection.recv(4096).split(b"\\r\\n")[0].decode() or "refused: it hangs up")
            print(connection.getpeercert()["serialNumber"].lower().lstrip("0"))
except OSError as error:
    print(f"refused: {error}")
"""

# The local port of the wallet's connection to its server.
_PORT = """
import sys
for line in open("/proc/net/tcp").read().splitlines()[1:]:
    local, remote, state = line.split()[1:4]
    if state == "01" and int(remote.split(":")[1], 16) == int(sys.argv[1]):
        print(int(local.split(":")[1], 16))
"""


@pytest.fixture(scope="module")
def device() -> Iterator[Double]:
    with Double(Settings(model="T2T1", version=(2, 3, 6), typed=["what only I know"])) as double:
        yield double


def confirmed(device: Double) -> list[str]:
    """What was shown since the last time, without generations and digests; that a passphrase was entered aside."""
    shown = [item["screen"][1] for item in device.confirmations if item["kind"] != "passphrase"]
    device.confirmations.clear()
    return [re.sub(r" g\d [0-9a-f]{8}$", "", text) for text in shown]


@pytest.fixture(scope="module")
def datacenter(person: Person, device: Double) -> Iterator[str]:
    """Settings of a data center on a signet of its own, and a stack whose service wants to know its clients."""
    stacks = person.home / "guarded-stacks"
    shutil.copytree(person.home / "docs/examples/stacks", stacks)
    declaration = stacks / "hello/meta/stack.yml"
    text = declaration.read_text()
    assert "http: {protocol: tcp, port: 8080}" in text
    declaration.write_text(text.replace("port: 8080}", "port: 8080, tls: mutual}"))
    person.datacenter(NAME, chain=CHAIN)
    settings = person.settings(NAME)
    text = re.sub(r"^bcm_stack_path: .*\n", "", settings.read_text(), flags=re.M)
    text += f"bcm_stack_path: [{stacks}]\n"
    # what the tests send stays on this machine
    text += "tor_network: false\nbcm_downloads_through_tor: false\n"
    text += f"bcm_ca_device: {device.path}\n"
    text += f"bitcoind_options: {{signetchallenge: '{CHALLENGE}'}}\nelectrs_magic: '{MAGIC}'\n"
    text += "electrum_network: mutinynet\nbitcoind_data_size: 2GiB\nelectrs_data_size: 2GiB\n"
    settings.write_text(text)
    yield NAME
    person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


@pytest.fixture(scope="module")
def authority(person: Person, datacenter: str, device: Double) -> str:
    """The data center, once its root is made."""
    refused = person.types("-d", datacenter, "stack", "start", "tor", "electrum")
    assert refused.returncode == 2
    assert "needs your consent, it has none yet: type `bcm ca init`" in refused.stdout
    assert not (person.home / "inventories" / datacenter / "secrets").exists(), "something was made before"
    confirmed(device)
    person.succeeds("-d", datacenter, "ca", "init")
    assert confirmed(device) == [f"bcm vault {datacenter}", "root", "inter", "crl"]
    return datacenter


@pytest.fixture(scope="module")
def deployed(person: Person, authority: str, device: Double) -> dict[str, str]:
    """Addresses of the stacks that run."""
    person.succeeds("-d", authority, "stack", "start", "electrum")
    assert confirmed(device) == [f"bcm vault {authority}"]

    # electrs serves nobody while bitcoind may lack blocks, as it may until the newest one is of today
    mined = person.succeeds("-d", authority, "bitcoin-cli", "generatetodescriptor", "1", "raw(51)", "1000000000")
    assert len(json.loads(mined)) == 1
    found = reported(person.succeeds("-d", authority, "stack", "start", "electrum", "hello", "--json"))
    return {name: item["address"] for name, item in found.items()}


def certificates(person: Person) -> dict[str, str]:
    """Serials by names."""
    listed = json.loads(person.succeeds("-d", NAME, "ca", "list", "--json"))
    return {item["name"]: item["serial"] for item in listed["certificates"]}


def trust(person: Person) -> str:
    public = json.loads((person.home / "inventories" / NAME / "secrets" / f"{CHAIN}.pki.json").read_text())
    return str(public["roots"][-1]["certificate"])


def speaks(instance: str, address: str, port: int, **more: object) -> list[str]:
    said = json.dumps({"server": [address, port], **more})
    return inside(NAME, instance, "sh", "-c", f"python3 -c '{_TLS}' <<'EOF'\n{said}\nEOF", chain=CHAIN).splitlines()


def connection() -> str:
    """The local port of the wallet's connection; empty if there is none."""
    return inside(NAME, "electrum", "python3", "-c", _PORT, "60602", chain=CHAIN)


def test_wallet_follows_its_server_over_tls(person: Person, deployed: dict[str, str]) -> None:
    found = reported(person.succeeds("-d", NAME, "stack", "start", "electrum", "--json"))
    assert found["electrs"]["verified"] == ["height 1"]
    assert found["electrum"]["verified"] == ["height 1"]
    until(lambda: bool(connection()), "the wallet's connection")
    pinned = inside(NAME, "electrum", "cat", f"/var/lib/electrum/mutinynet/certs/{deployed['electrs']}", chain=CHAIN)
    assert pinned == "", "the wallet took a certificate that no root vouches for"


def test_second_run_signs_nothing(person: Person, deployed: dict[str, str], device: Double) -> None:
    confirmed(device)
    assert person.succeeds("-d", NAME, "stack", "start", "electrum", "hello").rstrip().endswith("nothing changed")
    assert confirmed(device) == [f"bcm vault {NAME}"]


def test_only_the_root_of_the_data_center_is_trusted(
    person: Person, deployed: dict[str, str], started: dict[str, object]
) -> None:
    assert speaks("electrum", deployed["electrs"], 60602, trust=trust(person)) == [certificates(person)["electrs"]]
    other = json.loads((person.home / "inventories/local/secrets/regtest.pki.json").read_text())
    (answer,) = speaks("electrum", deployed["electrs"], 60602, trust=other["roots"][-1]["certificate"])
    assert "certificate verify failed" in answer


def test_client_without_or_with_a_revoked_certificate_is_refused(
    person: Person, deployed: dict[str, str], device: Double, tmp_path: Path
) -> None:
    server = ("hello", deployed["hello"], 8080)
    person.succeeds("-d", NAME, "ca", "issue", "phone", "--usage", "client", "--out", str(tmp_path))
    own = (tmp_path / "phone.crt").read_text() + (tmp_path / "phone.key").read_text()
    assert speaks(*server, trust=trust(person), page=True)[0].startswith("refused")
    assert speaks(*server, trust=trust(person), page=True, own=own)[0].endswith("200 OK")
    confirmed(device)
    person.succeeds("-d", NAME, "ca", "revoke", "phone")
    assert confirmed(device) == [f"bcm vault {NAME}"], "the intermediate lists what it has issued"
    person.succeeds("-d", NAME, "stack", "start", "hello")
    assert speaks(*server, trust=trust(person), page=True, own=own)[0].startswith("refused")


def test_one_certificate_is_renewed_and_the_others_are_left_alone(person: Person, deployed: dict[str, str]) -> None:
    before, port = certificates(person), connection()
    person.succeeds("-d", NAME, "ca", "renew", "electrs")
    person.succeeds("-d", NAME, "stack", "start", "electrum", "hello")
    after = certificates(person)
    assert {name for name in after if after[name] != before.get(name)} == {"electrs"}
    assert speaks("electrum", deployed["electrs"], 60602, trust=trust(person)) == [after["electrs"]]
    assert connection() == port, "the wallet lost its connection"


def test_root_is_rotated_while_the_wallet_stays_connected(
    person: Person, deployed: dict[str, str], device: Double
) -> None:
    old, port = trust(person), connection()
    confirmed(device)
    person.succeeds("-d", NAME, "ca", "rotate")
    shown = confirmed(device)
    assert (shown[:4], set(shown[4:])) == ([f"bcm vault {NAME}", "root", "cross", "inter"], {"crl"})
    person.succeeds("-d", NAME, "stack", "start", "electrum", "hello")
    assert trust(person) != old
    serial = certificates(person)["electrs"]
    for root in (old, trust(person)):
        assert speaks("electrum", deployed["electrs"], 60602, trust=root) == [serial]
    assert connection() == port, "the wallet lost its connection"
    assert person.succeeds("-d", NAME, "stack", "start", "electrum", "hello").rstrip().endswith("nothing changed")


def test_private_files_are_encrypted_and_the_session_is_over(person: Person, deployed: dict[str, str]) -> None:
    secrets = person.home / "inventories" / NAME / "secrets"
    for name in (f"{CHAIN}.json", f"{CHAIN}.keys.json"):
        assert (secrets / name).read_text().startswith(f"$ANSIBLE_VAULT;1.2;AES256;{NAME}\n")
