# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is issued, as OpenSSL, GnuTLS and Go judge it, and CSRs that nobody should have."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkilint.bin import lint_crl, lint_pkix_cert

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request, renewal_request
from ansible_collections.bcm.core.plugins.module_utils._ca.report import certificate_report

from .conftest import DOMAIN, NOW, Lab


def test_openssl_accepts_server_and_client(lab: Lab) -> None:
    lab.bootstrap()
    one = lab.one()
    lab.authority.ensure_lists({})
    told = lab.report()
    for purpose in ("sslserver", "sslclient"):
        assert lab.verify(one["chain"], told["trust"], told["crl"], purpose) == "OK"
    assert lab.verify(told["intermediates"][0]["certificate"], told["trust"], told["crl"], "any") == "OK"
    assert lab.verify(told["trust"], told["trust"], purpose="any") == "OK"


def test_linters_of_public_authorities_find_nothing(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All kinds that there are: roots and the bridge between them, intermediate, leaves, lists."""
    lab.authority.ensure_all([lab.want("electrs"), new_request("phone", [], ["client"])], allow_new=True)
    lab.authority.ensure_all([lab.want("electrs")], generation=2, allow_new=True)
    lab.authority.ensure_all([lab.want("lxd")], direct=True)
    book = lab.authority.read_database()
    certificates = [item.certificate for item in (*book.roots, *book.intermediates, *book.leaves.values())]
    certificates += [root.cross for root in book.roots if root.cross]
    lists = [issuer.crl for issuer in (*book.roots, *book.intermediates) if issuer.crl is not None]
    assert (len(certificates), len(lists)) == (8, 4)
    file = tmp_path / "linted.pem"
    texts = ([item.pem for item in certificates], [pki.to_pem(item) for item in lists])
    for lint, options, items in ((lint_pkix_cert, [], texts[0]), (lint_crl, ["-t", "CRL", "-p", "PKIX"], texts[1])):
        for item in items:
            file.write_text(item, encoding="ascii")
            assert lint.main(["lint", "-s", "NOTICE", *options, str(file)]) == 0
            assert capsys.readouterr().out.strip() == ""


def test_a_server_certificate_is_not_valid_for_clients(lab: Lab) -> None:
    one = lab.bootstrap().one(new_request("electrs", [DOMAIN], ["server"]))
    trust = lab.report()["trust"]
    assert lab.verify(one["chain"], trust) == "OK"
    assert "unsuitable certificate purpose" in lab.verify(one["chain"], trust, purpose="sslclient")


def test_a_client_needs_no_names(lab: Lab) -> None:
    one = lab.bootstrap().one(new_request("wallet", [], ["client"]))
    assert lab.verify(one["chain"], lab.report()["trust"], purpose="sslclient") == "OK"


def _gnutls(lab: Lab, chain: str, trust: str, crl: str, purpose: str = "1.3.6.1.5.5.7.3.1") -> str:
    """What GnuTLS says of a chain: "OK", or what is wrong. It knows no time but now."""
    place = lab.folder.parent
    for name, text in {"chain": chain, "trust": trust, "crl": crl}.items():
        (place / name).write_text(text, encoding="ascii")
    command = ["certtool", "--verify", "--infile", "chain", "--load-ca-certificate", "trust", "--load-crl", "crl"]
    command += ["--verify-purpose", purpose, "--verify-profile", "medium"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stdout


@dataclass(frozen=True)
class Go:
    """crypto/x509, which most programs of this field verify with."""

    program: Path

    def verify(self, lab: Lab, chain: str, trust: str, lists: str = "", usage: str = "server", host: str = "") -> str:
        """What it says of a chain: "OK", or what is wrong."""
        asked = {"Chain": chain, "Trust": trust, "Lists": lists, "Usage": usage, "Host": host}
        text = json.dumps({**asked, "Time": int(lab.authority.now.timestamp())})
        return subprocess.run([self.program], input=text, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    program = tmp_path_factory.mktemp("go") / "verify"
    source = Path(__file__).with_name("data") / "verify.go"
    subprocess.run(["go", "build", "-o", program, source], env={**os.environ, "GO111MODULE": "off"}, check=True)
    return Go(program)


_IPV6, _EXTRA = "fd00:1::/64", "lan.example"
#: what a person may ask for: its names, what for, and what else
ISSUED: dict[str, tuple[list[str], list[str], dict[str, Any]]] = {
    "stack": ([f"electrs.{DOMAIN}", "10.1.2.3"], ["server", "client"], {}),
    "addresses only": (["10.1.2.3", "fd00:1::3"], ["server"], {}),
    "addresses only, for both": (["10.1.2.3"], ["server", "client"], {}),
    "addresses only, with a name that is no host": (["10.1.2.3"], ["server"], {"name": "My box!"}),
    "addresses only, with a long name": (["10.1.2.3"], ["server"], {"name": "x" * 64}),
    "addresses only, with a common name": (["10.1.2.3"], ["server"], {"common_name": f"nas.{DOMAIN}"}),
    "wildcard": ([f"*.{DOMAIN}"], ["server"], {}),
    "domain": ([DOMAIN], ["server"], {}),
    "another domain": ([f"nas.{_EXTRA}"], ["server"], {}),
    "long name": ([f"{'x' * 60}.{DOMAIN}"], ["server"], {}),
    "client": ([], ["client"], {}),
    "client with an address": (["10.1.2.3"], ["client"], {"name": "My phone"}),
    "common name": ([f"electrs.{DOMAIN}"], ["server"], {"common_name": "electrs"}),
}


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("what", ISSUED)
def test_every_issued_certificate_is_accepted(make: Callable[..., Lab], go: Go, what: str, direct: bool) -> None:
    """By OpenSSL, GnuTLS and Go, and refused by them when it is revoked."""
    now = datetime.now(UTC).replace(microsecond=0)
    lab = make(domains=[DOMAIN, _EXTRA], subnets=["10.1.2.0/24", _IPV6], now=now).bootstrap()
    names, usage, more = ISSUED[what]
    asked = new_request(more.get("name", "box"), names, usage, common_name=more.get("common_name"))
    for _time in range(2):  # once more, as it is renewed
        one = lab.one(asked, direct=direct)
        lab.authority.ensure_lists({})
        told = lab.report()
        for kind in usage:
            assert lab.verify(one["chain"], told["trust"], told["crl"], f"ssl{kind}") == "OK"
            purpose = {"server": "1.3.6.1.5.5.7.3.1", "client": "1.3.6.1.5.5.7.3.2"}[kind]
            assert _gnutls(lab, one["chain"], told["trust"], told["crl"], purpose) == "OK"
            for host in [name.replace("*", "any") for name in names] or [""]:
                assert go.verify(lab, one["chain"], told["trust"], told["crl"], kind, host) == "OK"
        renewed = renewal_request(asked.name, lab.authority.read_database(), lab.authority.files.keys())
        asked = replace(renewed, renew=True)
    serial = int(one["serial"], 16)
    crl = lab.authority.ensure_lists({serial: "key_compromise"}).database
    lists = "".join(pki.to_pem(item.crl) for item in (*crl.roots, *crl.intermediates) if item.crl)
    assert "revoked" in _gnutls(lab, one["chain"], told["trust"], lists, purpose)
    assert "revoked" in go.verify(lab, one["chain"], told["trust"], lists, usage[0])
    assert "revoked" in lab.verify(one["chain"], told["trust"], lists, f"ssl{usage[0]}")


def test_authority_without_networks_is_accepted_after_two_rotations(make: Callable[..., Lab], go: Go) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    lab = make(subnets=(), now=now)
    asked = new_request("electrs", [f"electrs.{DOMAIN}"], ["server"])
    old = lab.authority.ensure_all([asked], allow_new=True).database.roots[0].certificate
    lab.authority.ensure_all([asked], generation=2, allow_new=True)
    outcome = lab.authority.ensure_all([asked], generation=3, allow_new=True)
    chain = certificate_report(asked, outcome.database, now)["chain"]
    for trust in (old.pem, lab.report()["trust"]):
        assert lab.verify(chain, trust, lab.report()["crl"]) == "OK"
        assert _gnutls(lab, chain, trust, lab.report()["crl"]) == "OK"
        assert go.verify(lab, chain, trust, lab.report()["crl"], host=f"electrs.{DOMAIN}") == "OK"


def test_a_server_without_host_names_has_a_common_name_in_the_domain(lab: Lab) -> None:
    """For which clients take it, so that name constraints count for it, too."""
    lab.bootstrap()
    lab.issue(new_request("box", ["10.1.2.3"], ["server"]))
    assert lab.authority.read_database().leaves["box"].certificate.common_name == f"box.{DOMAIN}"
    for name in ("box", "box.example.org", f"not{DOMAIN}"):
        with pytest.raises(BcmError, match=f'^"{name}" of certificate box is outside of what may be certified'):
            lab.issue(new_request("box", ["10.1.2.3"], ["server"], common_name=name))


@pytest.mark.parametrize("subnets", [("10.1.2.0/24",), ()])
@pytest.mark.parametrize("name", ["www.example.org", "10.9.9.9", "fd00::1", f"not{DOMAIN}"])
def test_names_that_the_intermediate_may_not_certify_are_refused(
    make: Callable[..., Lab], go: Go, subnets: tuple[str, ...], name: str
) -> None:
    """Signed with its key by somebody who got hold of it."""
    lab = make(subnets=subnets).bootstrap()
    issuer = lab.authority.read_database().intermediates[0]
    key = pki.load_key(lab.authority.files.keys()[issuer.key])
    public, above = pki.new_key().public_key(), issuer.certificate.content
    forged = pki.sign_leaf("forged", [name], ["server"], public, above, key, NOW, NOW + timedelta(days=1))
    chain, trust = pki.to_pem(forged) + issuer.certificate.pem, lab.report()["trust"]
    found = lab.verify(chain, trust)
    assert "permitted subtree violation" in found or "excluded subtree violation" in found
    found = go.verify(lab, chain, trust)
    assert "is not permitted by any constraint" in found or "is excluded by constraint" in found


def test_authority_below_the_intermediate_is_refused(lab: Lab, go: Go) -> None:
    issuer = lab.bootstrap().authority.read_database().intermediates[0]
    key = pki.load_key(lab.authority.files.keys()[issuer.key])
    own = pki.new_key()
    end = NOW + timedelta(days=1)
    scope = lab.authority.scope
    below = pki.sign_intermediate("below", own.public_key(), issuer.certificate.content, key, scope, NOW, end)
    leaf = pki.sign_leaf("x", [DOMAIN], ["server"], own.public_key(), below, own, NOW, end)
    chain = "".join(map(pki.to_pem, (leaf, below, issuer.certificate.content)))
    assert "path length constraint exceeded" in lab.verify(chain, lab.report()["trust"])
    assert "too many intermediates for path length constraint" in go.verify(lab, chain, lab.report()["trust"])


def test_everything_ends_with_its_issuer(make: Callable[..., Lab]) -> None:
    lab = make()
    lab.authority.ensure_root(None, allow_new=True, days=60)
    lab.authority.ensure_intermediate()
    lab.one()
    told = lab.report()
    assert told["intermediates"][0]["not_after"] == told["roots"][0]["not_after"]
    assert told["certificates"][0]["days_left"] == 30


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), None], ids=["P-256", "P-384", "Ed25519"])
def test_a_key_that_is_elsewhere(lab: Lab, curve: Any) -> None:
    key = ec.generate_private_key(curve) if curve else ed25519.Ed25519PrivateKey.generate()
    asked = new_request("electrs", [DOMAIN], ["server"], csr=_csr(key, hashes.SHA256() if curve else None))
    one = lab.bootstrap().one(asked)
    assert "key" not in one
    assert x509.load_pem_x509_certificate(one["certificate"].encode()).public_key() == key.public_key()
    assert lab.verify(one["chain"], lab.report()["trust"]) == "OK"
    assert not lab.issue(asked).changed
    other = new_request("electrs", [DOMAIN], ["server"], csr=_csr(pki.new_key()))
    assert lab.issue(other).after == [f"electrs: 30 days, {DOMAIN}, server (another key)"]


def _csr(key: Any, digest: Any = hashes.SHA256()) -> str:  # noqa: B008
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()


def _tampered() -> str:
    der = bytearray(x509.load_pem_x509_csr(_csr(pki.new_key()).encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("csr", "fault"),
    [
        (lambda: _csr(rsa.generate_private_key(65537, 1024)), "weak key, RSA with 1024 bits, 2048 needed"),
        (lambda: _csr(ec.generate_private_key(ec.SECP256K1())), "weak key, on curve secp256k1, which TLS does not"),
        (_tampered, "bad signature"),
        (lambda: "-----BEGIN CERTIFICATE REQUEST-----", "cannot be read"),
    ],
    ids=["small", "curve", "tampered", "garbage"],
)
def test_unacceptable_csrs_are_refused(lab: Lab, csr: Callable[[], str], fault: str) -> None:
    lab.bootstrap()
    before = lab.files()
    with pytest.raises(BcmError, match=f"^The CSR of electrs .*{fault}"):
        lab.issue("first", new_request("electrs", [DOMAIN], ["server"], csr=csr()))
    assert lab.files() == before


def test_pkcs12_opens_with_its_password(lab: Lab, tmp_path: Path) -> None:
    asked = new_request("phone", [], ["client"], pkcs12=True)
    one = lab.bootstrap().one(asked)
    (tmp_path / "p12.b64").write_text(one["pkcs12"], encoding="ascii")
    command = "base64 -d p12.b64 | openssl pkcs12 -passin stdin -in /dev/fd/3 -nodes 3<&0 0<password"
    (tmp_path / "password").write_text(one["password"], encoding="ascii")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("BEGIN CERTIFICATE") == 2
    assert "BEGIN PRIVATE KEY" in done.stdout
    assert not lab.issue(asked).changed
    assert lab.one(asked) == one


@pytest.mark.parametrize(
    ("domains", "subnets", "message"),
    [
        (["*.bcm"], [], r'^"\*.bcm" is not a domain'),
        (["a b"], [], '^"a b" is not a domain'),
        (["10.0.0.1"], [], '^"10.0.0.1" is not a domain'),
        (["x.bcm"], ["10.1.2.3/24"], '^"10.1.2.3/24" in subnets is not a network'),
    ],
)
def test_invalid_scopes_are_refused(domains: list[str], subnets: list[str], message: str) -> None:
    with pytest.raises(BcmError, match=message):
        pki.parse_scope(domains, subnets)


@pytest.mark.parametrize("fault", ["unknown curve", "encrypted", "no key"])
def test_key_that_cannot_be_used_is_a_value_error(fault: str) -> None:
    text = pki.key_pem(pki.new_key())
    if fault == "unknown curve":
        known, other = (bytes.fromhex(oid) for oid in ("06082a8648ce3d030107", "06082a8648ce3d030174"))
        body = base64.b64decode("".join(text.splitlines()[1:-1])).replace(known, other)
        text = f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(body).decode()}\n-----END PRIVATE KEY-----\n"
    elif fault == "encrypted":
        key, password = pki.load_key(text), serialization.BestAvailableEncryption(b"x")
        form = serialization.PrivateFormat.PKCS8
        text = key.private_bytes(serialization.Encoding.PEM, form, password).decode()
    else:
        text = text[:60]
    with pytest.raises(ValueError):
        pki.load_key(text)
