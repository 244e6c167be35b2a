# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority by hand: with a file on regtest, and with a device that counts what it is asked."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.validation import check_type_list
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ansible_collections.bcm.core.plugins.module_utils._ca import pki, software
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request
from bcm_cli import ca_tables
from tests.cli.conftest import Checkout, Terminal, checkout_at
from tests.support import COLLECTION
from tests.tornet import free_port

DOUBLE = COLLECTION / "tests/unit/plugins/module_utils/ca/double.py"
DOMAIN = "local-regtest.bcm"


# One process for many commands: most of what one costs is to begin it.
COMMANDS = """
import contextlib, io, json, sys
sys.path[:0] = sys.argv[1:]
import ansible.utils.display  # wants to be where no output is redirected yet
from bcm_cli.main import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(json.loads(line))
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


@dataclass(frozen=True)
class Home:
    """A checkout with an authority, a folder for what it issues, and a process that carries out commands."""

    checkout: Checkout
    process: subprocess.Popen[str]
    chain: str = "regtest"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def secrets(self) -> Path:
        return self.checkout.home / "inventories/local/secrets"

    @property
    def out(self) -> Path:
        return self.checkout.home.parent / "out"

    @property
    def book(self) -> dict[str, Any]:
        return json.loads((self.secrets / f"{self.chain}.pki.json").read_text())

    def set(self, text: str) -> None:
        with self.checkout.settings().open("a") as settings:
            settings.write(f"\n{text}\n")

    def ca(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(["ca", *words]) + "\n")
        self.process.stdin.flush()
        return subprocess.CompletedProcess(words, *json.loads(self.process.stdout.readline()))

    def does(self, *words: str) -> Any:
        """What it answers in JSON, without a question."""
        done = self.ca(*words, "--json", "--yes")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def terminal(self, *words: str, **more: str) -> Terminal:
        return self.checkout.terminal("ca", *words, **self.environment, **more)

    def issue(self, name: str, *words: str) -> Any:
        return self.does("issue", name, *(words or ("--usage", "client")), "--out", str(self.out))

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.out / f"{name}.crt").read_bytes())

    def lists(self) -> str:
        """All revocation lists there are, in PEM."""
        book = self.book
        return "".join(item["crl"] or "" for item in (*reversed(book["roots"]), *book["intermediates"]))

    def verify(self, name: str, trust: str) -> str:
        """What openssl says of a certificate: OK, or what is wrong. ``trust`` in PEM."""
        (self.out / "trust").write_text(trust)
        (self.out / "lists").write_text(self.lists())
        command = ["openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "trust"]
        command += ["-untrusted", f"{name}.crt", "-purpose", "sslclient", "-crl_check_all", "-CRLfile", "lists"]
        done = subprocess.run([*command, f"{name}.crt"], cwd=self.out, capture_output=True, text=True, check=False)
        return "OK" if done.returncode == 0 else done.stderr


@contextmanager
def _process(checkout: Checkout, **more: str) -> Iterator[subprocess.Popen[str]]:
    python = str(checkout.home / ".venv/bin/python")
    command = [python, "-c", COMMANDS, str(checkout.home), str(checkout.home / "collections")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**checkout.environment, **more}
    with subprocess.Popen(command, cwd=checkout.home, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def bare(checkout: Checkout) -> Iterator[Home]:
    """Without an authority yet."""
    with _process(checkout) as process:
        yield Home(checkout, process)


@pytest.fixture
def home(bare: Home) -> Home:
    assert bare.does("init")["changed"] is True
    return bare


# -- a file, on regtest -----------------------------------------------------------------------------------------------


def test_authority_from_its_first_root_to_the_second(home: Home) -> None:
    again = home.ca("init")
    assert again.returncode == 0
    assert "has its authority already: nothing was changed" in again.stderr
    first = home.does("issue", "laptop", "--usage", "client", "--pkcs12", "--out", str(home.out))
    old = (home.out / "root.crt").read_text()
    assert home.verify("laptop", old) == "OK"
    modes = {path.name: path.stat().st_mode & 0o777 for path in home.out.iterdir() if path.stem.startswith("laptop")}
    assert modes == {"laptop.crt": 0o644, "laptop.key": 0o600, "laptop.p12": 0o600, "laptop.p12.password": 0o600,
                     "laptop.mobileconfig": 0o600}  # fmt: skip
    word = f"file:{home.out}/laptop.p12.password"
    opened = ["openssl", "pkcs12", "-in", str(home.out / "laptop.p12"), "-passin", word, "-nocerts", "-nodes"]
    key = subprocess.run(opened, capture_output=True, check=True).stdout
    assert _key_of(key) == pki.key_id(home.certificate("laptop").public_key())
    # It is due by no means, and stays what it is.
    assert home.does("renew") == {"changed": False, "done": [], "signed": []}
    assert home.issue("laptop", "--pkcs12")["serial"] == first["serial"]
    assert home.does("renew", "laptop")["changed"] is True
    kept = (home.out / "laptop.key").read_bytes()
    refused = home.ca("issue", "laptop", "--out", str(home.out))
    assert refused.returncode == 1
    assert "laptop.key, " in refused.stderr
    assert "would be replaced by another key: name another folder, or add --force" in refused.stderr
    assert (home.out / "laptop.key").read_bytes() == kept
    second = home.issue("laptop", "--force")
    assert second["serial"] != first["serial"]
    assert (home.out / "laptop.key").read_bytes() != kept
    listed = {row["serial"]: row["state"] for row in home.does("list", "--all")["certificates"]}
    assert (listed[first["serial"]], listed[second["serial"]]) == ("replaced", "good")
    assert [row["name"] for row in home.does("list")["certificates"]].count("laptop") == 1
    # All of them are refused then, the replaced one too.
    assert (
        len([line for line in home.does("revoke", "laptop", "--reason", "key_compromise")["done"] if "revoked" in line])
        == 2
    )
    assert "certificate revoked" in home.verify("laptop", old)
    assert home.does("show", "laptop")["state"] == "revoked"
    assert "revoked already, or has expired: nothing was changed" in home.ca("revoke", "laptop").stderr
    # Nobody asked for it back: neither what is due nor a rotation brings it.
    home.issue("phone")
    rotated = home.does("rotate")
    assert rotated["root"] == "g2"
    assert {line.split(":")[0] for line in rotated["done"] if "another issuer" in line} == {"phone"}
    home.does("issue", "phone", "--out", str(home.out), "--force")
    assert home.verify("phone", old) == "OK"
    home.does("export", str(home.out))
    new = (home.out / f"{DOMAIN}.crt").read_text().partition("-----END CERTIFICATE-----\n")
    assert home.verify("phone", new[0] + new[1]) == "OK"
    assert (home.out / f"{DOMAIN}.crl").read_text() == home.lists()
    der = x509.load_der_x509_certificate((home.out / f"{DOMAIN}.cer").read_bytes())
    assert der.fingerprint(hashes.SHA256()).hex() == rotated["fingerprint"]


def _key_of(pem: bytes) -> str:
    return pki.key_id(serialization.load_pem_private_key(pem[pem.index(b"-----BEGIN") :], None).public_key())


def test_certificate_of_a_request_needs_no_key_here(home: Home) -> None:
    key = home.checkout.home / "router.key"
    csr = home.checkout.home / "router.csr"
    made = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    ]
    subprocess.run([*made, "-keyout", str(key), "-out", str(csr)], capture_output=True, check=True)
    issued = home.issue("router", "--csr", str(csr), "--name", f"Router.{DOMAIN}", "--name", "10.75.240.9")
    assert [Path(name).name for name in issued["files"]] == ["router.crt", "root.crt"]
    assert pki.names_of(home.certificate("router")) == [f"router.{DOMAIN}", "10.75.240.9"]
    first = home.certificate("router")
    home.does("renew", "router")
    told = home.ca("issue", "router", "--out", str(home.out))
    assert "The key of router is where its CSR comes from: no router.key is written" in told.stderr
    assert home.certificate("router").serial_number != first.serial_number
    assert _key_of(key.read_bytes()) == pki.key_id(home.certificate("router").public_key())
    assert not (home.out / "router.key").exists()
    refused = home.ca("issue", "router", "--pkcs12", "--out", str(home.out))
    assert "The key of router is not in the vault" in refused.stderr


def test_certificate_of_another_key_is_not_replaced(home: Home) -> None:
    """Which is known before anything is issued."""
    home.out.mkdir()
    (home.out / "nas.key").write_text("somebody's")
    before = home.book
    refused = home.ca("issue", "nas", "--name", f"nas.{DOMAIN}", "--out", str(home.out))
    assert refused.returncode == 1
    assert "no file was written" in refused.stderr
    assert home.book == before
    assert [path.name for path in home.out.iterdir()] == ["nas.key"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    checkout = checkout_at(tmp_path_factory.mktemp("ca") / "bcm")
    with _process(checkout) as process:
        made = Home(checkout, process)
        made.does("init")
        made.issue("laptop")
        yield made


MISTAKES = [
    (("issue", "electrs", "--out", "x"), '"electrs" is a stack, whose certificates the playbook issues'),
    (("issue", "root", "--out", "x"), "root.crt is the file of the root"),
    (("issue", "../x", "--out", "x"), '"../x" cannot be the name of a certificate'),
    (("issue", "nas", "--out", "x"), "nas is for a server, but has no names: add --name HOST, or --usage client"),
    (("issue", "nas", "--name", "nas.example", "--out", "x"), '"nas.example" is outside of what may be certified'),
    (("issue", "nas", "--name", "a b", "--out", "x"), '"a b" of certificate nas is neither a host name nor an address'),
    (("issue", "nas", "--csr", "none", "--usage", "client", "--out", "x"), "none cannot be read: No such file"),
    (("issue", "nas", "--csr", "site.yml", "--usage", "client", "--out", "x"), "The CSR of nas cannot be read"),
    (("issue", "nas", "--csr", "site.yml", "--pkcs12", "--out", "x"), "leave out --csr or --pkcs12"),
    (("issue", "nas", "--usage", "client", "--days", "0", "--out", "x"), "cannot be good for 0 days"),
    (("renew", "laptop", "--days", "3000000"), "cannot be good for 3000000 days: write 1 to 36500"),
    (("issue", "nas", "--csr", "~nobody/x", "--usage", "client", "--out", "x"), "~nobody/x cannot be read: No such"),
    (("issue", "nas", "--usage", "client", "--out", "site.yml"), "site.yml cannot be used: File exists"),
    (("show", "laptp"), 'Unknown certificate "laptp": did you mean "laptop"?'),
    (("renew", "laptp"), 'Unknown certificate "laptp": did you mean "laptop"?'),
    (("revoke", "12ab", "--yes"), 'Unknown certificate "12ab"'),
    (("revoke", "laptop", "--reason", "stolen"), 'Unknown reason "stolen"'),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(words) for words, _said in MISTAKES])
def test_invalid_words_are_refused(shared: Home, words: tuple[str, ...], said: str) -> None:
    before = shared.book
    done = shared.ca(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert shared.book == before


def test_authority_is_shown(shared: Home) -> None:
    root = x509.load_pem_x509_certificate(shared.book["roots"][0]["certificate"].encode())
    printed = " ".join(shared.ca("show").stdout.split())
    grouped = re.sub("(.{4})(?=.)", r"\1 ", root.fingerprint(hashes.SHA256()).hex().upper())
    assert f"fingerprint {grouped} uri gpg://x509-root@{DOMAIN}/pki path m/13'/" in printed
    assert f"permitted {DOMAIN}, 10.75.240.0/21 " in printed
    end = root.not_valid_after_utc
    assert re.search(rf"root g1 root {end:%Y-%m-%d} (3649|3650) ", printed)  # the same second still has all of them
    assert " laptop client " in printed
    told = shared.does("show")
    assert (told["permitted"], told["roots"][0]["uri"]) == (
        f"{DOMAIN}, 10.75.240.0/21",
        f"gpg://x509-root@{DOMAIN}/pki",
    )
    shown = shared.ca("show", "laptop").stdout
    assert re.search(r"^purpose +client$", shown, re.M)
    assert re.search(rf"^issuer +{DOMAIN} g1 [0-9a-f]{{8}}$", shown, re.M)
    assert "BEGIN" not in shown


def test_settings_of_the_inventory(bare: Home) -> None:
    refused = bare.ca("show")
    assert (refused.returncode, refused.stderr) == (1, f"bcm: There is no root of {DOMAIN} yet: type `bcm ca init`\n")
    bare.set("bcm_subnet: 10.80.16.0/20\nbcm_ca_domains: [lan.example]\nbcm_ca_subnets: 192.168.7.0/24")
    bare.does("init")
    assert bare.does("show")["permitted"] == f"{DOMAIN}, lan.example, 10.80.16.0/21, 192.168.7.0/24"
    bare.issue("nas", "--name", "nas.lan.example", "--name", "192.168.7.2")
    bare.set("bcm_ca_issuance: directly")
    assert 'Unknown issuance "directly": did you mean "direct"?' in bare.ca("renew").stderr
    bare.set("bcm_ca_issuance: intermediate\nbcm_ca_provider: softwar")
    assert 'Unknown provider "softwar": did you mean "software"?' in bare.ca("show").stderr
    bare.set("bcm_chain: signet\nbcm_ca_provider: software")
    assert "Chain signet needs a certificate authority on a hardware wallet" in bare.ca("init", "--yes").stderr


@pytest.mark.parametrize("said", ["192.168.7.0/24,fd00::/8", ["192.168.7.0/24", "fd00::/8"], None])
def test_the_playbook_takes_the_same_settings(said: object) -> None:
    """A list of networks may be written as a text, as any list of Ansible's."""
    (plan, *_others) = DataLoader().load_from_file(str(COLLECTION / "playbooks/site.yml"), trusted_as_template=True)
    certifiable = {"domains": [], "subnets": ["192.168.9.1/32"]}
    known = {"bcm_planned": {"plan": {"network": {"subnet": "10.75.240.0/21"}, "certifiable": certifiable}}}
    templar = Templar(DataLoader(), {**known, **({"bcm_ca_subnets": said} if said else {})})
    found = templar.template(plan["module_defaults"]["group/bcm.core.ca"]["subnets"])
    expected = ["10.75.240.0/21", *(["192.168.7.0/24", "fd00::/8"] if said else []), "192.168.9.1/32"]
    assert check_type_list(found) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [(("revoke", "laptop"), "Nothing was revoked"), (("rotate",), "Nothing was changed")],
)
def test_nothing_is_changed_without_consent(shared: Home, words: tuple[str, ...], said: str) -> None:
    before = shared.book
    done = shared.ca(*words)
    assert done.returncode == 1
    assert f"{said}: run it on a terminal, or add --yes" in done.stderr
    terminal = shared.terminal(*words)
    terminal.reads("[y/N] ")
    terminal.types("\n")
    assert terminal.ends() == 1
    assert f"bcm: {said}\n" in terminal.output
    assert shared.book == before


def test_due_certificates_are_renewed(bare: Home) -> None:
    """An authority of 65 days ago: its intermediate is due, and what it issued 25 days ago; one is revoked."""
    scope = pki.parse_scope([DOMAIN], ["10.75.240.0/21"])
    now = datetime.now(UTC).replace(microsecond=0)

    def past(days: int) -> Authority:
        moment = now - timedelta(days=days)
        return Authority(AuthorityFiles(bare.secrets, "regtest"), scope, "software", software.open_keys, now=moment)

    past(65).ensure_root(None, allow_new=True)
    past(65).ensure_intermediate()
    past(25).ensure_certificates([new_request(name, [], ["client"]) for name in ("laptop", "gone")])
    past(2).ensure_certificates([new_request("phone", [], ["client"])])
    book = past(1).read_database()
    past(1).ensure_lists({book.leaves["gone"].certificate.serial: "superseded"})
    states = {row["name"]: row["state"] for row in ca_tables.certificate_rows(book, now)}
    assert [states[name] for name in ("root g1", "laptop", "phone")] == ["good", "due", "good"]
    assert states[book.intermediates[0].certificate.common_name] == "due"
    late = {row["name"]: row["state"] for row in ca_tables.certificate_rows(book, now + timedelta(days=6))}
    assert late["laptop"] == "expired"
    done = bare.does("renew")["done"]
    assert [line.split(":")[0].split(" g1")[0] for line in done] == ["intermediate", "laptop", "list of intermediate"]
    after = {row["name"]: row["state"] for row in bare.does("list")["certificates"]}
    assert (after["laptop"], after["phone"], after["gone"]) == ("good", "good", "revoked")


def test_certificates_of_a_revoked_intermediate_are_refused(home: Home) -> None:
    """What it signed is refused, and issued again only when somebody asks for it."""
    home.issue("laptop")
    trust = (home.out / "root.crt").read_text()
    (intermediate,) = (row for row in home.does("list")["certificates"] if row["purpose"] == "intermediate")
    serial = intermediate["serial"].zfill(40).upper()
    printed = ":".join(serial[index : index + 2] for index in range(0, 40, 2))  # as openssl does
    told = home.ca("revoke", printed, "--yes")
    assert f"{intermediate['name']} {intermediate['serial']}, good until {intermediate['end'][:10]}" in told.stderr
    assert "`bcm ca renew` issues them again" in told.stderr
    assert "certificate revoked" in home.verify("laptop", trust)
    assert [line.rpartition("(")[2] for line in home.does("renew")["done"] if "laptop" in line] == ["another issuer)"]
    home.does("issue", "laptop", "--out", str(home.out), "--force")
    assert home.verify("laptop", trust) == "OK"


def test_lost_public_file_begins_the_next_generation(home: Home) -> None:
    """What was revoked is forgotten, so nobody is to trust the root that signed it."""
    laptop = home.issue("laptop")["serial"]
    home.does("revoke", "laptop")
    old = (home.out / "root.crt").read_text()
    private = (home.secrets / "regtest.keys.json").read_bytes()
    public = home.secrets / "regtest.pki.json"
    public.rename(home.out / "lost")
    refused = home.ca("issue", "laptop", "--usage", "client", "--out", str(home.out))
    assert (refused.returncode, "type `bcm ca init`" in refused.stderr) == (1, True)
    assert home.ca("init", "--generation", "1", "--yes").returncode == 1
    assert (public.exists(), (home.secrets / "regtest.keys.json").read_bytes()) == (False, private)
    begun = home.ca("init", "--yes")
    assert (begun.returncode, "root g2: 3650 days" in begun.stdout) == (0, True), begun.stderr
    assert (home.secrets / "regtest.keys.g1.json").read_bytes() == private
    assert home.does("show")["roots"][0]["generation"] == 2
    assert home.issue("laptop", "--usage", "client", "--force")["serial"] != laptop
    assert "error" in home.verify("laptop", old)
    assert home.verify("laptop", (home.out / "root.crt").read_text()) == "OK"
    refused = home.ca("init", "--generation", "3")
    assert (refused.returncode, "has root g2 already: `bcm ca rotate` begins" in refused.stderr) == (2, True)
    # the older one is not taken any more
    (home.out / "lost").rename(public)
    for words in (("show",), ("renew",), ("export", str(home.out)), ("revoke", "laptop", "--yes")):
        refused = home.ca(*words)
        assert (refused.returncode, "is older than regtest.keys.json, so what was revoked" in refused.stderr) == (
            1,
            True,
        )


def test_compromised_root_is_replaced(home: Home) -> None:
    home.issue("laptop")
    old = (home.out / "root.crt").read_text()
    told = home.ca("rotate", "--compromised", "--yes")
    assert "Remove the old root from browsers, wallets and phones now" in told.stderr
    home.issue("laptop", "--out", str(home.out), "--force")
    new = (home.out / "root.crt").read_text()
    assert old not in new
    assert home.verify("laptop", new) == "OK"
    assert "unable to get" in home.verify("laptop", old)
    states = {row["name"]: row["state"] for row in home.does("list", "--all")["certificates"]}
    assert (states["root g1"], states["root g2"]) == ("distrusted", "good")


def test_edited_public_file_is_refused(home: Home) -> None:
    home.issue("laptop")
    home.does("revoke", "laptop")
    content = home.book
    for item in content["serials"].values():
        item["revoked"] = None
    (home.secrets / "regtest.pki.json").write_text(json.dumps(content))
    for words in (("show",), ("renew",), ("init",), ("issue", "laptop", "--out", str(home.out)), ("rotate", "--yes")):
        refused = home.ca(*words)
        assert (refused.returncode, "pki.json was changed by something other than" in refused.stderr) == (1, True)


def test_expired_certificate_is_issued_again(bare: Home) -> None:
    """A certificate that expired long ago is there until something is written, and may be wanted again."""
    now = datetime.now(UTC).replace(microsecond=0)
    options: dict[str, Any] = {"provider": "software", "open_keys": software.open_keys, "now": now - timedelta(days=70)}
    past = Authority(AuthorityFiles(bare.secrets, "regtest"), pki.parse_scope([DOMAIN], ["10.75.240.0/21"]), **options)
    past.ensure_all([new_request("laptop", [], ["client"])], allow_new=True)
    done = bare.does("renew", "laptop")["done"]
    assert [line.split(" g1")[0].split(":")[0] for line in done][:2] == ["intermediate", "laptop"]
    assert bare.does("show", "laptop")["state"] == "good"


def test_expired_root_is_replaced(bare: Home) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    options: dict[str, Any] = {"provider": "software", "open_keys": software.open_keys, "now": now - timedelta(days=40)}
    past = Authority(AuthorityFiles(bare.secrets, "regtest"), pki.parse_scope([DOMAIN], ["10.75.240.0/21"]), **options)
    past.ensure_root(None, allow_new=True, days=35)
    past.ensure_intermediate()
    past.ensure_certificates([new_request("laptop", [], ["client"])])
    for words in (("init",), ("renew",), ("issue", "nas", "--usage", "client", "--out", str(bare.out))):
        refused = bare.ca(*words)
        assert refused.returncode == 1
        assert f"Root g1 of {DOMAIN} has expired on " in refused.stderr
        assert "or type `bcm ca rotate`" in refused.stderr
    assert bare.does("rotate")["root"] == "g2"
    bare.does("issue", "laptop", "--out", str(bare.out))
    assert bare.verify("laptop", (bare.out / "root.crt").read_text()) == "OK"


def test_rotation_is_refused_if_a_name_may_no_longer_be_certified(home: Home) -> None:
    text = home.checkout.settings().read_text()
    home.set("bcm_ca_domains: [lan.example]")
    home.issue("nas", "--name", "nas.lan.example")
    home.checkout.settings().write_text(text)
    before = home.book
    refused = home.ca("rotate", "--yes")
    assert refused.returncode == 1
    assert '"nas.lan.example" of certificate nas is outside of what may be certified' in refused.stderr
    assert home.book == before
    home.does("revoke", "nas")
    assert home.does("rotate")["root"] == "g2"


def test_lost_key_of_the_intermediate_is_replaced(home: Home) -> None:
    book = home.book
    root = book["roots"][0]["key"]
    vault = home.secrets / "regtest.keys.json"
    private = json.loads(vault.read_text())
    vault.write_text(json.dumps({**private, "keys": {root: private["keys"][root]}}))
    refused = home.ca("renew", "--days", "7")
    assert "Nothing is due" in refused.stderr  # as far as all that is public tells
    refused = home.ca("issue", "laptop", "--usage", "client", "--out", str(home.out))
    assert "put the file back from a backup, or set replace_lost" in refused.stderr
    assert home.does("renew", "--replace-lost")["done"][0].startswith("intermediate g1: ")
    home.issue("laptop")
    assert home.verify("laptop", (home.out / "root.crt").read_text()) == "OK"


# -- a code for cameras -----------------------------------------------------------------------------------------------


def _read_by_a_camera(lines: list[str], place: Path) -> str:
    """What zbar finds in characters of half blocks, as the terminal paints them: black on white."""
    white = {" ": (255, 255), "▀": (0, 255), "▄": (255, 0), "█": (0, 0)}
    rows = []
    for line in lines:
        painted = re.fullmatch(r"\x1b\[30;107m([ ▀▄█]+)\x1b\[0m", line)
        assert painted, line
        for half in (0, 1):
            row = b"".join(bytes([white[character][half]]) * 4 for character in painted[1])
            rows += [row] * 4
    place.write_bytes(f"P5 {len(rows[0])} {len(rows)} 255\n".encode() + b"".join(rows))
    done = subprocess.run(["zbarimg", "-q", "--raw", str(place)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "room", [{"COLUMNS": "110", "LINES": "60"}, {"COLUMNS": "80", "LINES": "24"}], ids=["big", "80x24"]
)
def test_camera_reads_the_root_from_a_qr_code(shared: Home, tmp_path: Path, room: dict[str, str]) -> None:
    certificate = shared.book["roots"][0]["certificate"]
    terminal = shared.terminal("export", str(tmp_path), **room)
    told = terminal.reads("The root's ")
    assert terminal.ends() == 0
    said, *lines = terminal.output.splitlines()
    read = _read_by_a_camera(lines, tmp_path / "screen.pgm").strip()
    assert len(lines) < int(room["LINES"])
    assert len(lines[0]) - len("\x1b[30;107m\x1b[0m") <= int(room["COLUMNS"])
    fingerprint = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256()).hex().upper()
    if room["COLUMNS"] == "80":
        assert said.startswith("fingerprint (its certificate needs a terminal of ")
        assert read == fingerprint
    else:
        assert said == "certificate:"
        assert read == certificate.strip()
    assert fingerprint in "".join(told.split())
    assert (tmp_path / f"{DOMAIN}.crt").read_text() == certificate


def test_no_qr_code_is_printed_if_none_is_wanted(shared: Home, tmp_path: Path) -> None:
    terminal = shared.terminal("export", "--no-qr", str(tmp_path))
    assert terminal.ends() == 0
    assert "█" not in terminal.output
    done = shared.ca("export", str(tmp_path))
    assert "█" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[-5:]] == [
        "Firefox", "Chromium", "Electrum", "Android", "iOS",
    ]  # fmt: skip


# -- a device ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wallet(Home):
    """With the root on a double, which somebody may let hang or cancel."""

    folder: Path = Path()
    device: subprocess.Popen[bytes] | None = None

    def answers(self, *answers: str) -> None:
        """What becomes of the next confirmations."""
        _settings(self.folder, *answers)

    def confirmed(self) -> list[str]:
        """What was signed since this was asked last, as it stood on the screen."""
        log = self.folder / "log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return [line["screen"][1] for line in lines if line["kind"] == "sign"]

    def unplug(self) -> None:
        assert self.device
        self.device.kill()
        self.device.wait()


def _settings(folder: Path, *answers: str) -> None:
    content = {"model": "T2T1", "version": [2, 3, 6], "answers": list(answers)}
    new = folder / "settings.new"
    new.write_text(json.dumps(content))
    new.replace(folder / "settings")


@pytest.fixture
def wallet(checkout: Checkout, tmp_path: Path) -> Iterator[Wallet]:
    folder = tmp_path / "device"
    folder.mkdir()
    _settings(folder)
    port = free_port(kind=socket.SOCK_DGRAM)
    command = [sys.executable, str(DOUBLE), "--port", str(port), "--settings", str(folder / "settings")]
    environment = {"XDG_RUNTIME_DIR": str(folder), "TREZOR_PATH": f"udp:127.0.0.1:{port}"}
    with subprocess.Popen([*command, "--log", str(folder / "log")]) as device:
        try:
            _awaited(port)
            with _process(checkout, **environment) as process:
                made = Wallet(checkout, process, "signet", environment, folder, device)
                made.set("bcm_chain: signet")
                yield made
        finally:
            device.kill()


def _awaited(port: int) -> None:
    """Until a device answers there."""
    end = time.monotonic() + 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(0.1)
        line.connect(("127.0.0.1", port))
        while True:
            try:
                line.send(b"PINGPING")
                if line.recv(64) == b"PONGPONG":
                    return
            except OSError:  # nobody yet
                assert time.monotonic() < end, "the double did not start"


def _kinds(shown: list[str]) -> list[str]:
    return [" ".join(text.split()[:2]) for text in shown]


def test_device_is_asked_as_often_as_announced(wallet: Wallet) -> None:
    refused = wallet.ca("init")
    assert refused.returncode == 1
    assert "Nothing was created: run it on a terminal, or add --yes" in refused.stderr
    terminal = wallet.terminal("init")
    told = terminal.reads("Create the authority? [y/N] ")
    assert "is going to be gpg://x509-root@local-signet.bcm/pki, at m/13'/" in told
    assert "then 3 confirmations: root g1, inter g1, crl g1" in told
    assert not wallet.secrets.exists()
    terminal.types("y\n")
    assert terminal.ends() == 0
    shown = wallet.confirmed()
    assert _kinds(shown) == ["root g1", "inter g1", "crl g1"]
    assert re.findall(r'confirm (\d of \d): "(.*?)"', terminal.output) == [
        (f"{count} of 3", text) for count, text in enumerate(shown, 1)
    ]
    (root,) = wallet.book["roots"]
    assert root["uri"] in told
    assert root["path"] in told
    # Neither a certificate nor a revocation is the root's to sign.
    wallet.issue("laptop")
    wallet.issue("phone")
    old = root["certificate"]
    assert wallet.verify("laptop", old) == "OK"
    wallet.does("revoke", "laptop")
    assert "certificate revoked" in wallet.verify("laptop", old)
    assert wallet.confirmed() == []
    rotated = wallet.ca("rotate", "--yes")
    assert rotated.returncode == 0, rotated.stderr
    assert "then 4 confirmations: root g2, cross g1, inter g2, crl g2\n" in rotated.stderr
    assert "`bcm ca export FOLDER`" in rotated.stderr
    shown = wallet.confirmed()
    assert _kinds(shown) == ["root g2", "cross g1", "inter g2", "crl g2"]
    assert re.findall(r'confirm (\d of \d): "(.*?)"', rotated.stderr) == [
        (f"{count} of 4", text) for count, text in enumerate(shown, 1)
    ]
    wallet.does("issue", "phone", "--force", "--out", str(wallet.out))
    assert wallet.verify("phone", old) == "OK"
    assert wallet.verify("phone", wallet.book["roots"][1]["certificate"]) == "OK"
    assert "PRIVATE" not in json.dumps(wallet.book)
    # What is public needs no device.
    wallet.unplug()
    assert wallet.does("show")["roots"][1]["generation"] == 2
    assert {row["name"] for row in wallet.does("list", "--all")["certificates"]} >= {"laptop", "phone", "cross g2"}
    assert wallet.does("renew")["changed"] is False
    assert wallet.does("export", str(wallet.out))["root"] == "g2"
    assert "has its authority already" in wallet.ca("init").stderr
    gone = wallet.ca("issue", "tablet", "--usage", "client", "--out", str(wallet.out))
    assert gone.returncode == 1
    assert "Trezor: none is at " in gone.stderr
    assert "Traceback" not in gone.stderr


def test_root_issues_certificates_directly(wallet: Wallet) -> None:
    wallet.set("bcm_ca_issuance: direct")
    wallet.does("init")
    assert _kinds(wallet.confirmed()) == ["root g1", "crl g1"]
    done = wallet.ca("issue", "laptop", "--usage", "client", "--out", str(wallet.out))
    assert "then 1 confirmation: leaf g1\n" in done.stderr
    assert "confirm 1 of 1: " in done.stderr
    assert _kinds(wallet.confirmed()) == ["leaf g1"]
    assert wallet.verify("laptop", wallet.book["roots"][0]["certificate"]) == "OK"
    rotated = wallet.ca("rotate", "--yes")
    assert "then 4 confirmations: root g2, cross g1, leaf g2, crl g2\n" in rotated.stderr
    assert _kinds(wallet.confirmed()) == ["root g2", "cross g1", "leaf g2", "crl g2"]


def test_certificates_of_the_root_are_renewed_by_the_root(wallet: Wallet) -> None:
    """As LXD's certificates are, where others are an intermediate's."""
    wallet.does("init")
    wallet.set("bcm_ca_issuance: direct")
    first = wallet.issue("laptop")["serial"]
    wallet.set("bcm_ca_issuance: intermediate")
    wallet.issue("phone")
    wallet.confirmed()
    assert wallet.does("renew")["changed"] is False
    assert wallet.does("show", "laptop")["serial"] == first
    assert wallet.confirmed() == []
    done = wallet.ca("rotate", "--yes")
    assert "then 5 confirmations: root g2, cross g1, inter g2, leaf g2, crl g2\n" in done.stderr
    assert _kinds(wallet.confirmed()) == ["root g2", "cross g1", "inter g2", "leaf g2", "crl g2"]


def test_confirmations_for_lost_files_are_counted(wallet: Wallet) -> None:
    wallet.does("init")
    wallet.confirmed()
    (wallet.secrets / "signet.keys.json").unlink()
    done = wallet.ca("renew", "--replace-lost")
    assert "and nothing is signed, unless a key is lost" in done.stderr
    assert re.findall(r'confirm (\d of \d): "(\w+ g1)', done.stderr) == [("1 of 2", "inter g1"), ("2 of 2", "crl g1")]
    assert _kinds(wallet.confirmed()) == ["inter g1", "crl g1"]


def test_lost_files_of_a_device_do_not_reuse_a_generation(wallet: Wallet) -> None:
    """Its key would be the same again, and what was revoked would be good."""
    told = wallet.ca("init", "--yes")
    assert "If it had a root before, put its files back, or add --generation N" in told.stderr
    wallet.confirmed()
    (wallet.secrets / "signet.pki.json").unlink()
    told = wallet.ca("init", "--yes")
    assert (told.returncode, "the next after what the vault knows" in told.stderr) == (0, True)
    assert _kinds(wallet.confirmed()) == ["root g2", "inter g2", "crl g2"]
    for name in ("signet.pki.json", "signet.keys.json"):
        (wallet.secrets / name).unlink()
    (wallet.secrets / "signet.json").touch()
    refused = wallet.ca("init", "--yes")
    assert (refused.returncode, "with `bcm ca init --generation N`" in refused.stderr) == (1, True)
    assert wallet.confirmed() == []
    assert wallet.does("init", "--generation", "3")["root"] == "g3"


def test_cancelled_rotation_is_finished(wallet: Wallet) -> None:
    wallet.does("init")
    wallet.issue("laptop")
    wallet.confirmed()
    before = wallet.book
    # Of all that it asks, the passphrase and the vault come first.
    asked = wallet.folder / "log"
    wallet.answers(*["confirm"] * 4, "cancel")
    cancelled = wallet.ca("rotate", "--yes")
    assert cancelled.returncode == 1
    assert "cancelled on the device" in cancelled.stderr
    answers = [(line["kind"], line["answer"]) for line in map(json.loads, asked.read_text().splitlines())]
    assert answers == [*[(kind, "confirm") for kind in ("passphrase", "cipher", "sign", "sign")], ("sign", "cancel")]
    assert len(wallet.book["roots"]) == 2
    assert wallet.book["certificates"] == before["certificates"]
    wallet.confirmed()
    wallet.answers()
    finished = wallet.ca("rotate", "--yes")
    assert "The rotation to generation 2 was interrupted, and is going to be finished" in finished.stderr
    assert "then 2 confirmations: inter g2, crl g2\n" in finished.stderr
    assert _kinds(wallet.confirmed()) == ["inter g2", "crl g2"]
    assert wallet.book["certificates"] != before["certificates"]


def test_interrupt_leaves_whole_files(wallet: Wallet) -> None:
    wallet.does("init")
    wallet.issue("laptop")
    before = {path.name: path.read_bytes() for path in wallet.secrets.glob("*.json*")}
    wallet.answers(*["confirm"] * 3, "hang")
    terminal = wallet.terminal("rotate", "--yes")
    terminal.reads('confirm 2 of 4: "cross g1')
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert terminal.output.endswith("bcm: interrupted\n")
    assert {path.name: path.read_bytes() for path in wallet.secrets.glob("*.json*")} == before
    # Beside them is what keeps others out, and keeps them out of a repository.
    assert all(name.startswith(".") for name in {path.name for path in wallet.secrets.iterdir()} - before.keys())
    wallet.answers()
    wallet.confirmed()
    assert wallet.does("rotate")["root"] == "g2"
    assert _kinds(wallet.confirmed()) == ["root g2", "cross g1", "inter g2", "crl g2"]
