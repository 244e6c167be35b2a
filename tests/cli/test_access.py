# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may come to a stack from elsewhere: certificates and keys by hand, without any LXD. tests/e2e has the rest."""

from __future__ import annotations

import json
import plistlib
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._tor import onion_keys
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Service
from tests.cli.conftest import Checkout
from tests.cli.test_onion import kept

LAN = {"address": "192.168.7.1", "port": 443, "from": ["192.168.7.0/24"], "names": ["portal.home.arpa"]}
PORTAL = Service("portal-http", onion_keys.new_key(), {80: ("192.0.2.1:8080",)})
DOMAIN = "local-regtest.bcm"


def allow(checkout: Checkout, **access: object) -> None:
    with checkout.settings().open("a") as settings:
        settings.write(f"\nbcm_access: {json.dumps(access)}\n")


@pytest.fixture
def authority(checkout: Checkout) -> Checkout:
    assert checkout.bcm("ca", "init", "--yes").returncode == 0
    return checkout


def grant(checkout: Checkout, *words: str) -> subprocess.CompletedProcess[str]:
    return checkout.bcm("access", "grant", *words)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_certificate_is_for_one_stack_and_lasts_until_it_is_revoked(authority: Checkout) -> None:
    allow(authority, portal={"lan": LAN}, electrs={"lan": {**LAN, "port": 444}})
    out = authority.home / "out"
    for stack in ("portal", "electrs"):
        done = grant(authority, "alice", stack, "--by", "lan", "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert pki.common_name(certificate(out / f"alice@{stack}.crt")) == f"alice@{stack}"
        archive, profile = (out / f"alice@{stack}.p12", out / f"alice@{stack}.mobileconfig")
        root, own = plistlib.loads(profile.read_bytes())["PayloadContent"]
        assert own["PayloadContent"] == archive.read_bytes() and profile.stat().st_mode & 0o777 == 0o600
        assert own["Password"] == archive.with_suffix(".p12.password").read_text().strip()
        assert ssl.DER_cert_to_PEM_cert(root["PayloadContent"]) == (out / "root.crt").read_text()
    first = certificate(out / "alice@portal.crt").serial_number
    assert grant(authority, "alice", "portal", "--by", "lan", "--out", str(out)).returncode == 0
    assert certificate(out / "alice@portal.crt").serial_number == first, "the same one again"
    done = authority.bcm("access", "revoke", "alice", "portal", "--by", "lan")
    assert done.returncode, "it asks before"
    database = json.loads((authority.home / "inventories/local/secrets/regtest.pki.json").read_text())
    assert sorted(database["certificates"]) == ["alice@electrs", "alice@portal"]
    assert not any(item["revoked"] for item in database["serials"].values())
    terminal = authority.terminal("access", "revoke", "alice", "portal", "--by", "lan")
    terminal.reads("[y/N] ")
    terminal.types("y\n")
    assert terminal.ends() == 0
    database = json.loads((authority.home / "inventories/local/secrets/regtest.pki.json").read_text())
    assert [item["name"] for item in database["serials"].values() if item["revoked"]] == ["alice@portal"]


def test_renewed_certificate_replaces_its_files_with_force(authority: Checkout) -> None:
    allow(authority, portal={"lan": LAN})
    words = ("alice", "portal", "--by", "lan", "--out", str(authority.home / "out"))
    path = authority.home / "out/alice@portal.crt"
    assert grant(authority, *words).returncode == 0
    first = certificate(path).serial_number
    assert authority.bcm("ca", "renew", "alice@portal").returncode == 0
    done = grant(authority, *words)
    assert "alice@portal.key, " in done.stderr and "name another folder, or add --force" in done.stderr
    assert certificate(path).serial_number == first
    assert grant(authority, *words, "--force").returncode == 0
    assert certificate(path).serial_number != first


def test_names_and_addresses_of_local_networks_may_be_certified(authority: Checkout) -> None:
    allow(authority, portal={"lan": {**LAN, "names": ["portal.home.arpa", "shop.example.org", "desk"]}})
    permitted = json.loads(authority.bcm("ca", "show", "--json").stdout)["permitted"]
    assert "192.168.7.1" not in permitted, "what there is was made before"
    done = authority.bcm("ca", "issue", "nas", "--name", "portal.home.arpa", "--name", "192.168.7.1", "--name", "desk",
                         "--out", str(authority.home / "out"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    permitted = json.loads(authority.bcm("ca", "show", "--json").stdout)["permitted"]
    assert permitted.startswith(f"{DOMAIN}, portal.home.arpa, desk, ") and permitted.endswith(", 192.168.7.1/32")
    done = authority.bcm("ca", "issue", "web", "--name", "shop.example.org", "--out", str(authority.home / "out"))
    assert '"shop.example.org" is outside of what may be certified' in done.stderr
    assert "add it to bcm_ca_domains or bcm_ca_subnets" in done.stderr


MISTAKES = [
    (("alice", "portal", "--by", "lan"), "Certificates are files: say where they are to be written: add --out FOLDER"),
    (("alice", "portal"), "portal is reached in local networks and by its onion address: add --by lan or --by onion"),
    (("al@ice", "portal", "--by", "lan", "--out", "x"), '"al@ice" cannot be the name of a certificate'),
    (("alice", "electrs"), "Stack electrs is not reached from elsewhere with a key or a certificate"),
    (("alice", "electrs", "--by", "onion"), "Stack electrs is not reached by an onion address with a key"),
    (("alice", "lnd", "--by", "lan", "--out", "x"), "Stack lnd is not reached in local networks with a key or"),
    (("alice", "portl"), 'Unknown stack "portl": did you mean "portal"?'),
]  # fmt: skip


def test_mistakes_have_one_message_each_and_change_nothing(authority: Checkout) -> None:
    allow(authority, portal={"lan": LAN})
    services = kept(authority, PORTAL)
    before = authority.home / "inventories/local/secrets/regtest.pki.json"
    database, there = before.read_text(), services.read()
    for words, said in MISTAKES:
        done = grant(authority, *words)
        assert done.returncode and said in done.stderr, (words, done.stderr)
        assert done.stderr.count("bcm: ") == 1
    assert before.read_text() == database and services.read() == there
    assert not (authority.home / "x").exists()


def test_public_onion_service_has_no_keys(checkout: Checkout) -> None:
    kept(checkout, Service("portal-http", onion_keys.new_key(), PORTAL.ports, authorization=False))
    done = grant(checkout, "alice", "portal", "--by", "onion")
    assert done.returncode and "Stack portal is not reached by an onion address with a key" in done.stderr


@pytest.mark.parametrize(
    ("lan", "said"),
    [
        ({"from": ["8.8.8.0/24"]}, 'is "8.8.8.0/24", which is not a private network'),
        ({"from": ["192.168.7.1/24"]}, 'is "192.168.7.1/24", no IPv4 network'),
        ({"from": []}, "is []: write a list with at least one entry"),
        ({"port": 70000}, "is 70000"),
        ({"address": "localhost"}, 'is "localhost": write an IPv4 address of the host'),
    ],
)
def test_wrong_access_has_one_message(checkout: Checkout, lan: dict[str, object], said: str) -> None:
    allow(checkout, portal={"lan": {**LAN, **lan}})
    done = grant(checkout, "alice", "portal", "--by", "lan", "--out", "x")
    assert done.returncode and said in done.stderr, done.stderr
    assert "bcm_access" in done.stderr and done.stderr.count("bcm: ") == 1
