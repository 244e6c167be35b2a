# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints of https: mutual trust by certificates, and everything over it that goes over a socket."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import Forbidden, LxdError, Unreachable
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import run
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from tests.support import Tools

pytestmark = pytest.mark.containers


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


@pytest.fixture(scope="module")
def remote(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("https")
    with socket.socket() as raw:
        raw.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{raw.getsockname()[1]}"
    server = folder / "server.crt"
    server.write_text(client.server["environment"]["certificate"])
    pairs = {name: _pair(folder, name) for name in ("trusted", "stranger")}
    der = x509.load_pem_x509_certificate(pairs["trusted"][0].read_bytes())
    listen = {"config": {"core.https_address": address}}
    client.call("PATCH", "/1.0", listen, what=f"listen on {address}", project=False)
    encoded = base64.b64encode(der.public_bytes(serialization.Encoding.DER)).decode()
    body = {"type": "client", "name": "bcm-test", "certificate": encoded}
    client.call("POST", "/1.0/certificates", body, what="trust a certificate", project=False)
    trusted, stranger = ((str(pair[0]), str(pair[1])) for pair in pairs.values())
    yield Remote(f"https://{address}", str(server), trusted, stranger)
    fingerprint = der.fingerprint(hashes.SHA256()).hex()
    client.call("DELETE", f"/1.0/certificates/{fingerprint}", what="trust it no more", project=False)
    listen["config"]["core.https_address"] = ""
    client.call("PATCH", "/1.0", listen, what="listen no more", project=False)


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, form, plain))
    return paths


def test_it_is_the_same_server(remote: Remote, client: Client) -> None:
    with remote.client() as over_https:
        assert over_https.server["environment"]["certificate"] == client.server["environment"]["certificate"]
        assert over_https.server["auth"] == "trusted"


def test_commands(remote: Remote, instance: str) -> None:
    with remote.client() as over_https:
        done = run(over_https, instance, ["sh", "-c", "cat; echo error >&2; exit 7"], stdin=b"x" * 3_000_000)
        assert (done.returncode, done.stdout, done.stderr) == (7, b"x" * 3_000_000, b"error\n")


def test_files(remote: Remote, instance: str) -> None:
    content = os.urandom(3_000_001)
    with remote.client() as over_https, FileSession(over_https, instance) as files:
        files.write("/root/over-https", content, mode=0o600, uid=0, gid=0)
        assert files.read("/root/over-https", most=len(content)) == content
        files.remove("/root/over-https")
        assert files.lstat("/root/over-https") is None


def test_a_module_with_options_of_the_environment(remote: Remote, instance: str) -> None:
    environment = {
        "BCM_ENDPOINT": remote.url,
        "BCM_CLIENT_CERT": remote.trusted[0],
        "BCM_CLIENT_KEY": remote.trusted[1],
        "BCM_SERVER_CERT": remote.server,
    }
    module = ("ansible", "localhost", "--module-name=bcm.core.lxd_info", f"--args=kind=instance name={instance}")
    assert '"status": "Running"' in Tools(environment).run(*module)


def test_a_server_with_another_certificate_than_the_pinned_one(remote: Remote, instance: str) -> None:
    pin = remote.stranger[0]
    with remote.client(server_cert=pin) as over_https:
        message = f"^{remote.url} is not what it should be: it does not show the certificate pinned in {pin}$"
        for ask in (lambda: over_https.server, lambda: FileSession(over_https, instance), over_https.connect):
            with pytest.raises(Unreachable, match=message):
                ask()


def test_a_server_whose_certificate_this_machine_does_not_trust(remote: Remote) -> None:
    fault = "this machine does not trust its certificate: name it in server_cert"
    message = f"^{remote.url} is not what it should be: {fault}$"
    certificate, key = remote.trusted
    unpinned = Client(remote.url, client_cert=certificate, client_key=key)
    with unpinned as over_https, pytest.raises(Unreachable, match=message):
        over_https.get("/1.0")


def test_without_a_client_certificate(remote: Remote) -> None:
    message = f"^Endpoint {remote.url} needs a client certificate: set client_cert and client_key$"
    with pytest.raises(LxdError, match=message):
        Client(remote.url, server_cert=remote.server)


def test_a_client_certificate_that_the_server_does_not_trust(remote: Remote, instance: str) -> None:
    message = f"^{remote.url} does not trust our client certificate: add it there with a trust token$"
    with remote.client(remote.stranger) as over_https:
        for ask in (
            lambda: over_https.server,
            lambda: over_https.get("/1.0/instances"),
            lambda: run(over_https, instance, ["true"]),
            lambda: FileSession(over_https, instance),
        ):
            with pytest.raises(Forbidden, match=message):
                ask()
