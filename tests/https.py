# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An LXD that listens for HTTPS, and certificates with which it is reached."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.tornet import free_port


@dataclass(frozen=True)
class Remote:
    """An endpoint, and files of certificates: the server's, and pairs with their keys."""

    url: str
    server: str
    trusted: tuple[str, str]
    stranger: tuple[str, str]

    def client(self, pair: tuple[str, str] | None = None, server_cert: str | None = None) -> Client:
        certificate, key = pair or self.trusted
        return Client(self.url, client_cert=certificate, client_key=key, server_cert=server_cert or self.server)

    def settings(self) -> dict[str, str]:
        """What the inventory of a data center at this endpoint says."""
        certificate, key = self.trusted
        return {"endpoint": self.url, "client_cert": certificate, "client_key": key, "server_cert": self.server}


@contextmanager
def listening(client: Client, folder: Path) -> Iterator[Remote]:
    """Have the server of ``client`` listen and trust a certificate; files are kept in ``folder``."""
    address = f"127.0.0.1:{free_port()}"
    server = folder / "server.crt"
    server.write_text(client.server["environment"]["certificate"])
    pairs = {name: _pair(folder, name) for name in ("trusted", "stranger")}
    der = x509.load_pem_x509_certificate(pairs["trusted"][0].read_bytes())
    listen = {"config": {"core.https_address": address}}
    client.call("PATCH", "/1.0", listen, what=f"listen on {address}", project=None)
    encoded = base64.b64encode(der.public_bytes(serialization.Encoding.DER)).decode()
    body = {"type": "client", "name": "bcm-test", "certificate": encoded}
    client.call("POST", "/1.0/certificates", body, what="trust a certificate", project=None)
    trusted, stranger = ((str(pair[0]), str(pair[1])) for pair in pairs.values())
    try:
        yield Remote(f"https://{address}", str(server), trusted, stranger)
    finally:
        fingerprint = der.fingerprint(hashes.SHA256()).hex()
        client.call("DELETE", f"/1.0/certificates/{fingerprint}", what="trust it no more", project=None)
        listen["config"]["core.https_address"] = ""
        client.call("PATCH", "/1.0", listen, what="listen no more", project=None)


def _unsigned(name: str, by: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """What is to be signed: valid since an hour, for an hour."""
    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, by))
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP384R1())
    builder = _unsigned(name, name, key)
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, form, plain))
    return paths


def certified(folder: Path, host: str) -> tuple[tuple[Path, Path], Path]:
    """A certificate for a host and its key, and the certificate of the authority that signed it."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _each in ("authority", host)]
    identity = x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key())
    usage = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False) | {"key_cert_sign": True}
    authority = _unsigned("authority", "authority", keys[0]).add_extension(identity, critical=False)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    authority = authority.add_extension(x509.KeyUsage(**usage), critical=True)
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity)
    own = _unsigned(host, "authority", keys[1]).add_extension(by, critical=False)
    own = own.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = folder / f"{host}.crt", folder / f"{host}.key", folder / "authority.crt"
    paths[0].write_bytes(own.sign(keys[0], hashes.SHA256()).public_bytes(pem))
    paths[1].write_bytes(keys[1].private_bytes(pem, form, plain))
    paths[2].write_bytes(authority.sign(keys[0], hashes.SHA256()).public_bytes(pem))
    return paths[:2], paths[2]
