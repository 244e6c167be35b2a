# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An authority in a folder, and openssl, which judges what it issues."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ansible_collections.bcm.core.plugins.module_utils._ca import pki, software
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority, Result
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles, _with_seal
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request
from ansible_collections.bcm.core.plugins.module_utils._ca.report import authority_report, certificate_report

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DOMAIN = "home-regtest.bcm"


@dataclass
class Lab:
    """An authority whose clock is set by hand."""

    authority: Authority
    folder: Path

    def later(self, **delta: int) -> Lab:
        return replace(self, authority=replace(self.authority, now=self.authority.now + timedelta(**delta)))

    def bootstrap(self) -> Lab:
        self.authority.ensure_root(None, allow_new=True)
        self.authority.ensure_intermediate()
        return self

    def issue(self, *wants: Any, **options: Any) -> Result:
        return self.authority.ensure_certificates([self.want(item) for item in wants], **options)

    @staticmethod
    def want(item: Any) -> Any:
        names = [f"{item}.{DOMAIN}", "10.1.2.3"]
        return new_request(item, names, ["server", "client"]) if isinstance(item, str) else item

    def one(self, item: Any = "electrs", **options: Any) -> dict[str, Any]:
        result = self.issue(item, **options)
        return certificate_report(self.want(item), result.database, self.authority.now, result.keys)

    def report(self) -> dict[str, Any]:
        return authority_report(self.authority.read_database(), self.authority.now)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if not path.name.startswith(".")}

    def edit(self, change: Callable[[dict[str, Any]], object], *, seal: bool = False) -> None:
        """Change the public file by hand; ``seal``: as somebody who has the key of its seal."""
        store = self.authority.files
        content = json.loads(store.public.read_text())
        change(content)
        if seal:
            del content["seal"]
            content = _with_seal(content, store._private())
        store.public.write_text(json.dumps(content), encoding="utf-8")

    def lose(self, *names: str) -> None:
        """Take keys out of the private file."""
        path = self.authority.files.private
        content = json.loads(path.read_text())
        for name in names:
            del content["keys"][name]
        path.write_text(json.dumps(content), encoding="utf-8")

    def verify(self, chain: str, trust: str, crl: str | None = None, purpose: str = "sslserver") -> str:
        """What openssl says of a chain: "OK", or what is wrong."""
        place = self.folder.parent / "openssl"
        place.mkdir(exist_ok=True)
        leaf, end, rest = chain.partition("-----END CERTIFICATE-----\n")
        files = {"leaf": leaf + end, "rest": rest, "trust": trust, "crl": crl or ""}
        for name, text in files.items():
            (place / name).write_text(text, encoding="ascii")
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", _seconds(self.authority.now)]
        command += ["-no-CApath", "-no-CAstore", "-CAfile", "trust"]
        command += ["-untrusted", "rest"] if rest else []
        command += ["-crl_check_all", "-CRLfile", "crl"] if crl else []
        done = subprocess.run([*command, "leaf"], cwd=place, capture_output=True, text=True, check=False)
        return done.stdout.strip().removeprefix("leaf: ") if done.returncode == 0 else done.stderr


def foreign() -> list[x509.Certificate]:
    """Certificates that none of ours can be: without a name, and of other kinds of keys."""
    keys = [
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (ec.generate_private_key(ec.BrainpoolP256R1()), hashes.SHA256()),
    ]
    nobody = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(nobody).issuer_name(nobody).serial_number(5)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
    return [builder.public_key(key.public_key()).sign(key, algorithm) for key, algorithm in keys]


def _seconds(moment: datetime) -> str:
    return str(int(moment.timestamp()))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Lab]:
    def made(domains: Sequence[str] = (DOMAIN,), subnets: Sequence[str] = ("10.1.2.0/24",), **options: Any) -> Lab:
        folder = tmp_path / "home/secrets"
        store = AuthorityFiles(folder, "regtest", patience=0.1)
        found = {"provider": "software", "open_keys": software.open_keys, "now": NOW, **options}
        return Lab(Authority(files=store, scope=pki.parse_scope(domains, subnets), **found), folder)

    return made


@pytest.fixture
def lab(make: Callable[..., Lab]) -> Lab:
    return make()
