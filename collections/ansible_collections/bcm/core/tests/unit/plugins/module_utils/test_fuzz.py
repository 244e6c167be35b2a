# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a parser gets, it reads it or refuses it in its own words. BCM_FUZZ=20000 tries as many for each."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.bcm.core.plugins.action import ca_crl
from ansible_collections.bcm.core.plugins.filter.verification_report import verification_report
from ansible_collections.bcm.core.plugins.module_utils._artifact import (
    apt,
    archive,
    declaration,
    key_sources,
    lockfiles,
    oci,
    openpgp,
    sums,
)
from ansible_collections.bcm.core.plugins.module_utils._artifact import content_store as artifact_store
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import _counts
from ansible_collections.bcm.core.plugins.module_utils._base import fields, names, network, read, text, versions
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca import (
    authority_files,
    certificate_request,
    database,
    pinentry,
    pki,
)
from ansible_collections.bcm.core.plugins.module_utils._datacenter import backup_keys, backup_targets, secrets_file
from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import identity_of
from ansible_collections.bcm.core.plugins.module_utils._guest import copies, grpc, tor_control
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from ansible_collections.bcm.core.plugins.module_utils._image import cache
from ansible_collections.bcm.core.plugins.module_utils._image import sources as apt_sources
from ansible_collections.bcm.core.plugins.module_utils._lxd import (
    client,
    endpoint,
    files,
    lease,
    resources,
    shell,
    streams,
    units,
)
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._plan import access, event_schemas, exceptions, stack_file
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._tor import bridges, deploy, observe, relay, services
from ansible_collections.bcm.core.plugins.module_utils._tor import onion_keys as tor_keys
from ansible_collections.bcm.core.plugins.module_utils._tor import services_file as tor_store
from ansible_collections.bcm.core.plugins.plugin_utils import _files_option
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault

from .ca.conftest import foreign
from .datacenter.test_backup_keys import SECRET as SEALING_KEY
from .datacenter.test_backup_keys import SMALL as SEALED
from .datacenter.test_backup_targets import S3, SSH
from .fuzzing import Parser, spoiled_bytes, spoiled_text, spoiled_value, try_parser
from .guest.test_tor_control import Stream
from .plan.conftest import STACKS

# -- samples ----------------------------------------------------------------------------------------------------------


def _tar(mode: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/a", tarfile.REGTYPE), ("d/l", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a"
            tar.addfile(info, io.BytesIO())
    return made.getvalue()


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("d/a", "1")
        file.writestr("n", "without a name")
    data = bytearray(made.getvalue())
    for at in (data.index(b"PK\3\4", 4) + 26, data.rindex(b"PK\1\2") + 28):
        data[at : at + 4] = b"\0\0\1\0"  # its name is taken for an extra field
    return bytes(data)


def _csr() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return pki.to_pem(made)  # type: ignore[arg-type]


def _database() -> dict[str, Any]:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    key = pki.new_key()
    root = pki.sign_root("x", key, begin, begin + timedelta(days=900))
    text = pki.to_pem(root)
    one = {"index": 1, "uri": "x", "path": "m", "key": pki.key_id(key.public_key()), "certificate": text}
    return {
        "format": authority_files.FORMAT,
        "domain": "x.bcm",
        "provider": "software",
        "written": begin.isoformat(),
        "roots": [{**one, "cross": None, "crl": None}],
        "intermediates": [],
        "certificates": {"a": {"certificate": text, "issuer": one["key"]}},
        "serials": {"ff": {"name": "a", "issuer": "x", "end": begin.isoformat(), "revoked": None, "reason": "x"}},
    }


def _foreign_certificates() -> list[bytes]:
    """Of kinds that no authority of ours issues, and each in a file of its own."""
    return [pki.to_pem(certificate).encode() for certificate in foreign()]


def _database_with(data: bytes) -> None:
    """The database with this certificate in every place."""
    text = data.decode("latin-1")
    content = _database()
    content["roots"][0].update(certificate=text, cross=text)
    content["intermediates"] = [{"root": 1, "certificate": text, "crl": text}]
    content["certificates"]["a"]["certificate"] = text
    database.parse_database(content, "x")


TOR_KEY = tor_keys.new_key(bytes(32))
SERVICE = services.Service("web", TOR_KEY, {80: ("10.1.2.3:80",)}, clients={"bob": tor_keys.new_client(bytes(32))})
BRIDGE = f"obfs4 192.0.2.1:443 {'A' * 40} cert={'a' * 70} iat-mode=0"
INRELEASE = b"Suite: x\nDate: Sat, 01 Nov 2025 00:00:00 UTC\nValid-Until: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n " + (
    b"a" * 64 + b" 12 main/binary-amd64/Packages\n"
)
PACKAGES = (
    b"Package: tor\nVersion: 1:0.4.9.14~rc1-1\nFilename: pool/main/t/tor.deb\nSize: 12\nSHA256: " + b"a" * 64 + b"\n\n"
)
APT = declaration.Release(
    "tor", "x", "apt", "tor", "BSD", repository=declaration.Repository("https://a.invalid/x", "x", floor=("0.4.9.1",))
)
OCI = declaration.Release(
    "app", "x", "oci", "app", "MIT", "1",
    {"x86_64": declaration.Pin("https://a.invalid/v2/app/manifests/sha256:" + "a" * 64, "sha256", "a" * 64)},
)  # fmt: skip
DIGEST = "sha256:" + "a" * 64
INDEX = {"manifests": [{"digest": DIGEST, "platform": {"os": "linux", "architecture": "amd64"}}]}
MANIFEST = {
    "mediaType": oci._OCI,
    "config": {"digest": DIGEST},
    "layers": [{"mediaType": oci._LAYERS[0], "digest": DIGEST}],
}
GO = {
    "kind": "go", "name": "example.org/x", "licence": "MIT", "version": "1.0", "sum": f"h1:{'A' * 43}=",
    "packages": ["./cmd/x"], "tags": ["sqlite"], "variables": ["main.version=v{version}"],
}  # fmt: skip
SIGNED = {
    "kind": "archive",
    "name": "x",
    "licence": "MIT",
    "version": "31.1",
    "files": {"x86_64": {"url": "https://a.invalid/x-{version}", "sha256": "a" * 64}},
    "signed": {"signatures": "https://a.invalid/x", "signers": {"a": "A" * 40}, "threshold": 1},
}
LOCK = {"lockfileVersion": 3, "packages": {"": {}, "node_modules/x": {"version": "1", "integrity": "sha512-x"}}}
STACK = {"schema": 1, "description": "x", "kind": "datacenter", "chains": ["mainnet", "regtest"], **STACKS["bitcoind"]}
ENTRY = {"hash": "x", "alias": "x", "fingerprint": "x", "files": {"image": "a"}, "properties": {}, "sizes": {"a": 1}}
ACCESS = {
    "portal": {
        "lan": {"address": "192.0.2.1", "port": 1, "from": ["192.168.1.0/24"], "names": ["a.home.arpa"], "public": "x"},
        "onion": {"public": "y"},
    },
}
EXCEPTION = [{"stack": "bitcoind", "to": "203.0.113.0/24", "protocol": "tcp", "port": 80, "why": "x"}]


@functools.cache
def _catalogue() -> Catalogue:
    return Catalogue.read()


class _Known(dict):  # type: ignore[type-arg]
    """A catalogue that has one stack."""


# -- what reads them --------------------------------------------------------------------------------------------------


def _in_file(work: Callable[[Path], Any], name: str = "file") -> Callable[[bytes], Any]:
    """Reads a file with these bytes; a folder in its place if there are none."""

    def read(data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data) if data else path.mkdir()
            return work(path)

    return read


def _field(value: Any) -> fields.Field:
    return fields.Field(Path("x"), "x", value)


def _answers(data: bytes) -> None:
    session = tor_control.Control(Stream(data))
    session.authenticate(lambda _path: bytes(32))
    session.getinfo("version", "status/bootstrap-phase")
    session.getconf("DisableNetwork")


def _decoded(data: bytes) -> Any:
    response = requests.Response()
    response.raw, response.status_code = io.BytesIO(data), 200
    with client.Client("unix:///nowhere") as nobody:
        return nobody.decode(response)


def _layers(path: Path) -> None:
    oci._Tree("x").grow([path])


def _unpacked(data: bytes) -> None:
    files = {f"Packages{suffix}": (hashlib.sha256(data).hexdigest(), len(data)) for suffix in (".xz", ".gz")}
    made = apt.Promise("x", datetime(2026, 1, 1, tzinfo=UTC), None, files)
    for name in files:
        with contextlib.suppress(BcmError):
            made.unpacked(name, data)


def _apt(data: bytes) -> None:
    text, _signature = apt.cleartext(data, "x")
    made = apt.promise(text, "x", "x")
    made.check_time(datetime(2026, 1, 1, tzinfo=UTC))
    made.check_order("2025-01-01T00:00:00+00:00")
    made.index("x86_64")


MESSAGE = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + INRELEASE
MESSAGE += b"-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"

CONTROL = b"250-AUTH METHODS=NULL\r\n250 OK\r\n250 OK\r\n250-version=1\r\n"
CONTROL += b"250+status/bootstrap-phase=\r\nx\r\n.\r\n250 OK\r\n"

SHOWN = """LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no
FragmentPath=/etc/systemd/system/tor.service
DropInPaths=
"""
HOLDER = {
    **dict.fromkeys(("nonce", "user", "host", "place", "run_started", "keeper_started"), "x"),
    **dict.fromkeys(("run", "keeper"), 1),
    **dict.fromkeys(("since", "until"), 1.7e9),
}
PUBLISHED = vars(tor_control.Published(True, "x", ["x.onion"], {"x.onion": "REASON=x"}))
LOOKED = {
    **dict.fromkeys(("version", "phase", "bootstrap"), "x"),
    **dict.fromkeys(("read", "written", "circuits", "socks"), 1),
    "guards": ["192.0.2.1:9001"],
    "faults": [],
    "network": True,
    "services": [{"service": "web", "address": "x", "authorization": True, "state": "x", "fault": None}],
}
SOURCES = b"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.example.org/debian trixie main\n"
DEB822 = b"""Types: deb
URIs: http://deb.example.org/debian http://[::1]/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
DUMP = 'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Retries "3";\n'
RECORD = {"files": {"x": DIGEST}, "blobs": [DIGEST], "evidence": {"x": DIGEST}, "date": "2026-01-01", "until": None}

# settings, headers, and a message with padding
GRPC = b"\0\0\0\4\0\0\0\0\0" + b"\0\0\1\1\4\0\0\0\1\x88" + b"\0\0\7\0\x09\0\0\0\1\1\0\0\0\0\0\0"

# one name, what `ls -l` prints, and attributes: all that there are
SFTP_NAMES = b"\0\0\0\1\0\0\0\5a.age\0\0\0\1-\x80\0\0\x0f" + bytes(28) + b"\0\0\0\1\0\0\0\1x\0\0\0\1y"


class _Place:
    """An instance of which a script says something."""

    name = "tor"

    def __init__(self, said: bytes) -> None:
        self.files: Any = self
        self._said = said

    def run(self, _argv: Any, **_options: Any) -> lxd_exec.ExecResult:
        return lxd_exec.ExecResult(0, self._said, b"")

    def read(self, _path: str) -> bytes:
        return self._said

    def lstat(self, _path: str) -> None:
        return None

    def download(self, _path: str) -> bytes:
        return self._said

    def find(self, _path: str) -> dict[str, str]:
        return {}


def _output(data: bytes) -> None:
    stream = streams.OutputStream("mark")
    for at in range(0, len(data), 7):
        stream.add(data[at : at + 7])
    streams.exit_status(str(stream.status))


def _published(value: Any) -> None:
    host = _Place(json.dumps(value).encode())
    work = deploy._Deployment(host, {"web": SERVICE}, False, services.LAYOUT)
    with contextlib.suppress(BcmError):
        deploy._late_message("tor", ["web"], work.query(), 1.0, {"web": SERVICE})
        return
    deploy.read_published(host)  # type: ignore[arg-type]


def _looked(value: Any) -> None:
    observe.observe_tor(_Place(json.dumps(value).encode()), ("127.0.0.1", 9), [SERVICE])


def _held_by(value: Any) -> None:
    holder = lease.holder_in(json.dumps(value))
    lease._is_held(holder, 1.0)
    lease.Lease._busy(SimpleNamespace(_title="x"), holder)  # type: ignore[arg-type]


def _ids(data: bytes) -> None:
    place: Any = _Place(data)
    session = files.FileSession.__new__(files.FileSession)
    session.instance, session._ids, session.read = "x", {}, place.read  # type: ignore[method-assign]
    for find in (
        session.uid,
        session.gid,
        lambda name: shell.find_user(place, "x", name),
        lambda name: shell.find_group(place, "x", name),
    ):
        with contextlib.suppress(BcmError):
            find("tor")


def _mirrors(path: Path) -> None:
    (path.parent / "sources.list").write_bytes(path.read_bytes() if path.is_file() else b"")
    apt_folder, lists = path.parents[1], path.parents[1] / "lists"
    (apt_folder / "sources.list").write_bytes(path.read_bytes() if path.is_file() else b"")
    apt_sources.mirrors({}, apt_folder, lists)


def _identity(data: bytes) -> None:
    def read(path: Path) -> None:
        made = _identity_of(path.parent)
        made.read()
        made.known({"user.bcm.identity": "a" * 32, "user.bcm.kept": data.decode(errors="replace")}, None, "x")

    _in_file(read, "regtest.identity")(data)


def _recorded(path: Path) -> None:
    record = artifact_store.ContentStore(path.parents[1]).read_record("x")
    if record is not None:
        _counts(record.get("until"))
        apt.Promise("x", datetime(2026, 1, 1, tzinfo=UTC), None, {}).check_order(record.get("date", ""))


def _shown(value: Any) -> None:
    shown = "\n".join(text.report(value) if isinstance(value, dict) else [text.cell(value)])
    if any(letter not in "\n" and not letter.isprintable() for letter in shown):
        raise AssertionError("a terminal would do something else than print it")


def _identity_of(folder: Path) -> Any:
    return identity_of("local", "regtest", folder)


#: parser -> what it gets, what it is, and what it may raise
PARSERS: dict[str, Parser] = {
    "json": (spoiled_bytes([b'{"a": [1, "\\ud800", 1e9]}']), read.read_json, (ValueError,)),
    "object": (spoiled_text(['{"a": [1, "\\ud800", 1e9]}']), read.read_object, (ValueError,)),
    "number": (spoiled_text(["12"]), read.read_number, (ValueError,)),
    "moment": (spoiled_text(["2026-01-01T00:00:00+00:00"]), read.read_moment, (ValueError,)),
    "gRPC": (spoiled_bytes([GRPC]), lambda data: grpc.answer(io.BytesIO(data)), (ValueError,)),
    "version": (
        spoiled_text(["31.1", "0.4.9.14~rc1", "v29.4.knots1"]),
        lambda text: versions.satisfies(text, {"versions": ["31.1", "30.3rc1"]}),
        (),
    ),
    "order of versions": (spoiled_text(["1:0.4.9.14~rc1-1"]), versions.order, ()),
    "size": (spoiled_text(["80GiB", "2 TiB"]), fields.size_in_bytes, ()),
    "data center": (spoiled_text(["local"]), lambda text: names.datacenter_names(text, "regtest"), ()),
    "chain": (spoiled_text(["regtest"]), lambda text: names.datacenter_names("local", text), ()),
    "subnet": (spoiled_text(["10.80.16.0/20"]), lambda text: network.subnets("local", "regtest", text), ()),
    "stack.yml": (
        spoiled_value(STACK),
        lambda value: stack_file.parse(value, "bitcoind", Path("x"), "bcm.core.x", Path("x")),
        (),
    ),
    "stack.yml, as a file": (
        spoiled_bytes([yaml.safe_dump(STACK).encode(), json.dumps(STACK).encode()]),
        _in_file(lambda path: stack_file.read(path.parents[1], "x"), "bitcoind/meta/stack.yml"),
        (),
    ),
    "schema of events": (
        spoiled_bytes([b'{"type": "record", "namespace": "bcm.x", "name": "y", "fields": [{"name": "event"}]}']),
        _in_file(lambda path: event_schemas.read(path.parents[1], "x"), "x/events/y.1.avsc"),
        (),
    ),
    "access": (spoiled_value(ACCESS), lambda value: access.read(value, _catalogue(), ()), ()),
    "exceptions": (spoiled_value(EXCEPTION), lambda value: exceptions.read(value, _Known(bitcoind=1)), ()),  # type: ignore[arg-type]
    "source": (spoiled_value(SIGNED), lambda value: declaration.release(_field(value), "x", "y"), ()),
    "source of a Go module": (spoiled_value(GO), lambda value: declaration.release(_field(value), "x", "y"), ()),
    "InRelease": (spoiled_bytes([MESSAGE, INRELEASE]), _apt, ()),
    "Packages": (spoiled_bytes([PACKAGES]), lambda data: apt.newest(data, APT, "x"), ()),
    "packed": (
        spoiled_bytes([lzma.compress(b"x"), gzip.compress(b"x")]),
        _unpacked,
        (),
    ),
    "signature": (
        spoiled_bytes([b"-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n", b"\x88\x01\x00"]),
        lambda data: openpgp.verify(b"x", [data], {"a": "A" * 40}, lambda _fingerprint: data, 1),
        (),
    ),
    "key": (
        spoiled_bytes([b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", b"\x98\x33\x04"]),
        lambda data: key_sources._parse(data, "x"),
        (),
    ),
    "sums": (
        spoiled_bytes([b"a" * 64 + b"  x\n", b"SHA256 (x) = " + b"a" * 64]),
        lambda data: sums.parse(data, "x"),
        (),
    ),
    "manifest with a commit": (
        spoiled_bytes([b"# Manifest\ncommit: " + b"a" * 40 + b"\n"]),
        lambda data: sums.check_commit(data, "a" * 40, "x"),
        (),
    ),
    "lock of npm": (
        spoiled_bytes([json.dumps(LOCK).encode()]),
        _in_file(
            lambda path: (path.with_name("package.json").write_text("{}"), lockfiles._npm(path, "x")),
            "package-lock.json",
        ),
        (),
    ),
    "lock of pip": (
        spoiled_bytes([b"x==1.0 \\\n    --hash=sha256:" + b"a" * 64]),
        _in_file(lambda path: lockfiles._wheels(path, "x")),
        (),
    ),
    "lock of jars": (
        spoiled_bytes([b"x:y:1.0 sha256:" + b"a" * 64]),
        _in_file(lambda path: lockfiles._jars(path, "x:y")),
        (),
    ),
    "manifest": (
        spoiled_bytes([json.dumps(MANIFEST).encode()]),
        _in_file(lambda path: oci.parts(path, OCI, "x86_64")),
        (),
    ),
    "manifest, as a value": (
        spoiled_value(MANIFEST),
        lambda value: _in_file(lambda path: oci.parts(path, OCI, "x86_64"))(json.dumps(value).encode()),
        (),
    ),
    "index of images": (
        spoiled_bytes([json.dumps(INDEX).encode()]),
        _in_file(lambda path: oci.manifest_of(path, OCI, "x86_64")),
        (),
    ),
    "layer": (spoiled_bytes([_tar("w:"), _tar("w:gz")]), _in_file(_layers), ()),
    "archive": (spoiled_bytes([_tar("w:"), _tar("w:gz"), _tar("w:xz"), _zip()]), _in_file(archive.check), ()),
    "record of a release": (
        spoiled_bytes([b'{"date": "2026-01-01"}']),
        _in_file(lambda path: artifact_store.ContentStore(path.parents[1]).read_record("x"), "releases/x.json"),
        (),
    ),
    "image on disk": (
        spoiled_bytes([json.dumps(ENTRY).encode()]),
        _in_file(lambda path: cache.Cache(path.parents[1]).get("x"), "x/image.json"),
        (),
    ),
    "CSR": (spoiled_text([_csr()]), lambda text: pki.read_csr_key(text, "x"), ()),
    "certificates": (
        spoiled_bytes([json.dumps(_database()).encode()]),
        _in_file(lambda path: authority_files.AuthorityFiles(path.parent, "x").read(), "x.pki.json"),
        (),
    ),
    "certificates that are sealed": (
        spoiled_value(_database()),
        lambda value: database.parse_database(value, "x") if isinstance(value, dict) else None,
        (),
    ),
    "certificate in the database": (
        spoiled_bytes([_database()["roots"][0]["certificate"].encode(), *_foreign_certificates()]),
        _database_with,
        (),
    ),
    "private key": (spoiled_text([pki.key_pem(pki.new_key())]), pki.load_key, (ValueError,)),
    "domain": (spoiled_text(["home.bcm"]), lambda text: pki.parse_scope([text], []), ()),
    "network": (spoiled_text(["10.1.2.0/24", "fd00::/64"]), lambda text: pki.parse_scope([], [text]), ()),
    "serial": (spoiled_text(["5b:e1:c2", "5be1c2f0"]), ca_crl._parse_serial, ()),
    "name of a certificate": (
        spoiled_text(["a.example", "192.0.2.1"]),
        lambda text: certificate_request.new_request("x", [text], ["server"]),
        (),
    ),
    "onion address": (spoiled_text([TOR_KEY.address]), lambda text: tor_keys.public_of(text, "x"), ()),
    "onion key": (spoiled_text([TOR_KEY.text]), lambda text: tor_keys.parse_key(text, "x"), ()),
    "client key": (spoiled_text([SERVICE.clients["bob"].text]), lambda text: tor_keys.parse_client(text, "x"), ()),
    "relay": (spoiled_text([relay.new_identity().text]), relay.parse_identity, ()),
    "onion service": (spoiled_value(SERVICE.record()), lambda value: services.parse_record("web", value), ()),
    "onion services": (
        spoiled_bytes([json.dumps({"format": 1, "services": {"web": SERVICE.record()}}).encode()]),
        _in_file(lambda path: tor_store.ServicesFile(path.parent, "x").read(), "x.onions.json"),
        (),
    ),
    "target": (
        spoiled_text(["10.1.2.3:80", "unix:/run/x", "[::1]:80"]),
        lambda text: services.parse_ports("web", [{"port": 80, "targets": [text]}]),
        (),
    ),
    "bridge": (spoiled_text([BRIDGE]), lambda text: bridges.faults([text], {text: text}), ()),
    "control": (spoiled_bytes([CONTROL]), _answers, (tor_control.ControlError, TimeoutError)),
    "endpoint": (
        spoiled_text(["unix:///run/x", "https://host:8443", "https://[::1]:8443"]),
        lambda text: endpoint.resolve(text.replace("ssh:", "")),
        (),
    ),
    "certificate of an endpoint": (
        spoiled_bytes(
            [pki.to_pem(x509.load_pem_x509_certificate(_database()["roots"][0]["certificate"].encode())).encode()]
        ),
        _in_file(
            lambda path: endpoint.resolve(
                "https://x", client_cert=str(path), client_key=str(path), server_cert=str(path)
            )
        ),
        (),
    ),
    "answer of LXD": (
        spoiled_bytes([b'{"type": "sync", "metadata": {}}', b'{"type": "error", "error": "x", "error_code": 404}']),
        _decoded,
        (),
    ),
    "resource": (
        spoiled_value(
            {"kind": "instance", "name": "x", "image": "x", "config": {"a": "1"}, "devices": {"a": {"b": "c"}}}
        ),
        lambda value: resources.parse(value) if isinstance(value, dict) else None,
        (),
    ),
    "end of a command": (spoiled_text(["0", "255", "no-directory"]), streams.exit_status, ()),
    "output of a command": (spoiled_bytes([b"x\nmark 0\n", b"mark 1-free\n"]), _output, ()),
    "units": (spoiled_text([SHOWN]), lambda text: units.properties(text, 1), (ValueError,)),
    "onions that tor has": (spoiled_value(PUBLISHED), _published, ()),
    "look of tor": (spoiled_value(LOOKED), _looked, ()),
    "pinentry": (
        spoiled_bytes([b"OK\nOK\nD x%25\nOK\n", b"OK\nOK\nERR 83886179 cancelled <Pinentry>\n"]),
        lambda data: pinentry._answer(data.splitlines(), 2, "x", 1.0, "pinentry"),
        (),
    ),
    "lock": (spoiled_value(HOLDER), _held_by, (ValueError,)),
    "users and groups": (
        spoiled_bytes([b"root:x:0:0:root:/root:/bin/bash\ntor:x:100:65534::/:/bin/sh\n", b"tor:x:7:\n"]),
        _ids,
        (),
    ),
    "sources.list": (spoiled_bytes([SOURCES]), _in_file(_mirrors, "sources.list.d/x.list"), ()),
    "sources, as of deb822": (spoiled_bytes([DEB822]), _in_file(_mirrors, "sources.list.d/x.sources"), ()),
    "apt.conf": (
        spoiled_text([DUMP]),
        lambda text: apt_sources.apt_conf(dict(apt_sources._options_of_machine(text))),
        (),
    ),
    "proxy": (spoiled_text(["http://localhost:3142", "https://[::1]/"]), apt_sources.loopback, ()),
    "identity": (spoiled_bytes([b"a" * 32 + b"\n", b"secrets,onions"]), _identity, ()),
    "vault": (
        spoiled_text([AnsibleVault("x", b"password").seal("text")]),
        lambda text: AnsibleVault("x", b"password").open(text, "file"),
        (),
    ),
    "keys of the authority": (
        spoiled_bytes(
            [json.dumps({"format": 1, "seal": "a" * 64, "count": 1, "generation": 1, "keys": {"a": "b"}}).encode()]
        ),
        _in_file(lambda path: authority_files.AuthorityFiles(path.parent, "x").keys(), "x.keys.json"),
        (),
    ),
    "record of a release, as a value": (
        spoiled_value(RECORD),
        lambda value: _in_file(_recorded, "releases/x.json")(json.dumps(value).encode()),
        (),
    ),
    "mode of a file": (
        spoiled_value({"path": "/x", "state": "file", "content": "x", "mode": "0640"}),
        lambda value: _files_option._mode(
            "/x", value["mode"] if isinstance(value, dict) and "mode" in value else value
        ),
        (),
    ),
    "report of verify": (
        spoiled_value({"notes": ["x"], "warnings": []}),
        lambda value: verification_report({"stdout": json.dumps(value)}, "tor"),
        (),
    ),
    "report of verify, as text": (
        spoiled_text(['{"notes": ["x"], "warnings": []}']),
        lambda text: verification_report({"stdout": text}, "tor"),
        (),
    ),
    "what a person sees": (spoiled_value({"a": ["x"], "b": [{"c": 1}], "d": {"e": {"f": None}}}), _shown, ()),
    "names in a folder of SFTP": (spoiled_bytes([SFTP_NAMES]), copies.names_in, (Fault,)),
    "copy": (spoiled_bytes([SEALED]), lambda raw: backup_keys.decrypt(SEALING_KEY, raw), ()),
    "targets of backups": (spoiled_value({"box": SSH, "store": S3}), backup_targets.faults, ()),
    "secrets": (
        spoiled_text(['{"tor/a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}']),
        secrets_file.parse_secrets,
        (ValueError,),
    ),
}


@pytest.mark.parametrize("name", PARSERS)
def test_whatever_it_gets(name: str) -> None:
    try_parser(PARSERS[name])
