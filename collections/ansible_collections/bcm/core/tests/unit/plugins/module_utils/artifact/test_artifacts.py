# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases as a project publishes them, five builders signing, and what may be wrong with them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pysequoia import Cert, SignatureMode, Tsk, sign

from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import Artifacts, identity
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Pin, Release, Signing, from_plain
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import release as declared
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.fields import Field

NAMES = ("ann", "bob", "cid", "dot", "eve")
ARCHITECTURES = ("x86_64", "aarch64")
THREE = NAMES[:3]


@pytest.fixture(scope="module")
def builders() -> dict[str, Tsk]:
    return {name: Tsk.generate(name) for name in (*NAMES, "stranger")}


@pytest.fixture(scope="module")
def expired() -> Iterator[tuple[Cert, Callable[[bytes], bytes]]]:
    """A key that has expired, and what signs with it, in its time."""
    # short: the agent's socket is in it
    with tempfile.TemporaryDirectory(prefix="bcm-gpg-", ignore_cleanup_errors=True) as home:

        def gpg(*words: str, stdin: bytes = b"") -> bytes:
            options = ["--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase="]
            command = ["gpg", f"--homedir={home}", *options, "--faked-system-time=20200101T000000!", *words]
            return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

        gpg("--quick-generate-key", "ann", "ed25519", "sign", "1y")
        yield Cert.from_bytes(gpg("--export", "ann")), lambda data: gpg("--armor", "--detach-sign", stdin=data)
        subprocess.run(["gpgconf", f"--homedir={home}", "--kill", "gpg-agent"], check=True)


def archive(content: bytes, name: str = "thing/bin/thingd") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o755
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Project:
    """What a project publishes, at ``up/VERSION`` of a web server, and the keys that a stack's role has."""

    def __init__(self, home: Path, keys: Mapping[str, Tsk], url: str) -> None:
        self.home, self.builders, self.url = home, dict(keys), url
        self.keys = home / "keys"
        self.keys.mkdir(parents=True)
        self.certs = {name: key.extract_certificate() for name, key in self.builders.items()}
        for name in NAMES:
            self.write_key(self.certs[name], name)
        for version in ("0.9", "1.0"):
            self.publish(version)

    def write_key(self, cert: Cert, name: str) -> None:
        (self.keys / f"{name}.asc").write_text(str(cert))

    def folder(self, version: str = "1.0") -> Path:
        return self.home / "up" / version

    def publish(
        self, version: str = "1.0", names: Iterable[str] = THREE, change: Callable[[bytes], bytes] = bytes
    ) -> None:
        self.folder(version).mkdir(parents=True, exist_ok=True)
        for architecture in ARCHITECTURES:
            content = archive(f"{version} {architecture} ".encode() + bytes(50_000))
            (self.folder(version) / f"thing-{version}-{architecture}.tar.gz").write_bytes(content)
        self.list_and_sign(version, names, change)

    def list_and_sign(self, version: str, names: Iterable[str], change: Callable[[bytes], bytes] = bytes) -> None:
        files = sorted(self.folder(version).glob("*.tar.gz"))
        sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
        self.sums(version).write_bytes(change(sums.encode()))
        self.sign(version, names)

    def sums(self, version: str = "1.0") -> Path:
        return self.folder(version) / "SHA256SUMS"

    def sign(self, version: str, names: Iterable[str]) -> None:
        self.sums(version).with_suffix(".asc").write_bytes(
            b"".join(self.signed(name, self.sums(version).read_bytes()) for name in names)
        )

    def signed(self, name: str, data: bytes) -> bytes:
        return sign(self.builders[name].signer(), data, mode=SignatureMode.DETACHED, armor=True)

    def release(self, version: str = "1.0", *architectures: str) -> Release:
        """As a catalogue would pin what is published now."""
        files = {}
        for architecture in architectures or ARCHITECTURES:
            name = f"thing-{version}-{architecture}.tar.gz"
            digest = hashlib.sha256((self.folder(version) / name).read_bytes()).hexdigest()
            files[architecture] = Pin(f"{self.url}/up/{version}/{name}", "sha256", digest)
        place = f"{self.url}/up/{version}/SHA256SUMS"
        signers = {name: self.certs[name].fingerprint.upper() for name in NAMES}
        signed = Signing(place, (f"{place}.asc",), signers, threshold=3)
        return Release("thing", "release", "archive", "thing", "MIT", version, files, signed)


class Server(ThreadingHTTPServer):
    """The folder ``root``, and the paths that were asked for."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(root)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, builders: dict[str, Tsk], server: Server) -> Project:
    return Project(tmp_path, builders, server.url)


def having(folder: Path, said: list[str] | None = None, **more: Any) -> Artifacts:
    return Artifacts(ContentStore(folder), Downloader(pause=0.01), [].append if said is None else said.append, **more)


def files(folder: Path) -> set[str]:
    """All that is below a folder, but for what is empty or was refused."""
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in there if not name.startswith("refused/")}


# -- what is in order -------------------------------------------------------------------------------------------------


def test_from_upstream_and_then_from_the_store(project: Project, server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    found = having(tmp_path / "store", said)
    release = project.release()
    (told,) = found.present([(release, project.keys)])
    assert (told["changed"], told["signers"]) == (True, list(THREE))
    assert told["explained"] == "signed by ann, bob, cid; 3 of 3 needed"
    for architecture, pin in release.files.items():
        assert found.path(release, architecture).read_bytes() == (project.folder() / pin.name).read_bytes()
        assert any(line.startswith(f"{pin.name}: 0.") for line in said)
    assert sorted(server.asked) == sorted(f"/up/1.0/{path.name}" for path in project.folder().iterdir())
    server.asked.clear()
    (again,) = having(tmp_path / "store").present([(release, project.keys)])
    assert again == {**told, "changed": False}
    assert server.asked == []


def test_changed_signers_require_verification(project: Project, tmp_path: Path) -> None:
    found, release = having(tmp_path / "store"), project.release()
    found.present([(release, project.keys)])
    assert release.signed
    stricter = replace(release, signed=replace(release.signed, threshold=4))
    with pytest.raises(BcmError, match="3 of 4 needed"):
        found.present([(stricter, project.keys)])


def test_nothing_is_fetched_in_check_mode(project: Project, server: Server, tmp_path: Path) -> None:
    assert having(tmp_path / "store").present([(project.release(), project.keys)], check=True) == [{"changed": True}]
    assert (server.asked, (tmp_path / "store").exists()) == ([], False)


@pytest.mark.parametrize("mirror", ["a folder", "a server"])
def test_from_a_mirror(project: Project, server: Server, tmp_path: Path, mirror: str) -> None:
    release = project.release()
    place = tmp_path / "mirror" / "thing" / "1.0"
    place.parent.mkdir(parents=True)
    project.folder().rename(place)
    source = str(tmp_path / "mirror") if mirror == "a folder" else f"{server.url}/mirror/"
    (told,) = having(tmp_path / "store", source=source).present([(release, project.keys)])
    assert told["signers"] == list(THREE)
    assert {path.split("/")[1] for path in server.asked} == (set() if mirror == "a folder" else {"mirror"})


def test_a_mirror_that_lacks_a_file(project: Project, tmp_path: Path) -> None:
    release = project.release()
    place = tmp_path / "mirror/thing/1.0"
    place.parent.mkdir(parents=True)
    project.folder().rename(place)
    (place / "thing-1.0-x86_64.tar.gz").unlink()
    with pytest.raises(BcmError, match="x86_64.tar.gz is not there: bcm_artifact_source names a folder without it"):
        having(tmp_path / "store", source=str(tmp_path / "mirror")).present([(release, project.keys)])
    (place / "SHA256SUMS").unlink()
    with pytest.raises(BcmError, match="SHA256SUMS cannot be read: No such file"):
        having(tmp_path / "store", source=str(tmp_path / "mirror")).present([(release, project.keys)])


def test_signatures_over_each_file_that_are_called_the_same(project: Project, server: Server, tmp_path: Path) -> None:
    release = project.release()
    for pin in release.files.values():
        for name in THREE:
            folder = project.folder() / name
            folder.mkdir(exist_ok=True)
            (folder / f"{pin.name}.asc").write_bytes(project.signed(name, (project.folder() / pin.name).read_bytes()))
    assert release.signed
    each = tuple(f"{server.url}/up/1.0/{name}/{{file}}.asc" for name in NAMES)
    release = replace(release, signed=replace(release.signed, sums=None, signatures=each))
    found = having(tmp_path / "store")
    (told,) = found.present([(release, project.keys)])
    assert told["signers"] == list(THREE)
    assert found.verify(release, project.keys)["signers"] == list(THREE)
    found.export([(release, project.keys)], tmp_path / "disk")
    server.asked.clear()
    other = having(tmp_path / "other", source=str(tmp_path / "disk"))
    assert other.present([(release, tmp_path / "none")])[0]["signers"] == list(THREE)
    assert server.asked == []
    # The signatures of the one file say nothing of the other.
    for name in THREE:
        first, second = (project.folder() / name / f"{pin.name}.asc" for pin in release.files.values())
        first.write_bytes(second.read_bytes())
    with pytest.raises(BcmError, match="bad signature.*0 of 3 needed"):
        having(tmp_path / "third").present([(release, project.keys)])


def test_a_manifest_with_a_signature_file_of_each_signer(project: Project, server: Server, tmp_path: Path) -> None:
    """As lnd publishes it: binary signatures, not of everybody, and digests of the programs in the archives as well."""
    pin = project.release().files["x86_64"]
    manifest = project.folder() / "manifest-v1.0.txt"
    manifest.write_text(f"{'0' * 64}  thing-1.0-x86_64/thingd\n{pin.digest}  {pin.name}\n")
    for name in THREE:
        signature = sign(
            project.builders[name].signer(), manifest.read_bytes(), mode=SignatureMode.DETACHED, armor=False
        )
        (project.folder() / f"manifest-{name}-v1.0.sig").write_bytes(signature)
    place = f"{server.url}/up/{{version}}"
    signed = {
        "sums": f"{place}/manifest-v{{version}}.txt",
        "signatures": f"{place}/manifest-{{signer}}-v{{version}}.sig",
        "signers": project.release().signed.signers,  # type: ignore[union-attr]
        "threshold": 3,
    }
    files = {"x86_64": {"url": f"{place}/thing-{{version}}-x86_64.tar.gz", "sha256": pin.digest}}
    source = {"kind": "archive", "name": "thing", "licence": "MIT", "version": "1.0", "files": files, "signed": signed}
    release = declared(Field(Path("stack.yml"), "source", source), "thing", "release")
    found = having(tmp_path / "store")
    (told,) = found.present([(release, project.keys)])
    assert told["signers"] == list(THREE)
    assert found.verify(release, project.keys)["signers"] == list(THREE)
    assert f"/up/1.0/manifest-{NAMES[-1]}-v1.0.sig" in server.asked, "nobody knows in advance who has signed"
    # One person's signature under the name of another counts once.
    first, second = (project.folder() / f"manifest-{name}-v1.0.sig" for name in THREE[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(BcmError, match="too few of its signers signed it: signed by bob, cid; 2 of 3 needed"):
        having(tmp_path / "other").present([(release, project.keys)])


def test_sources_of_a_commit_that_a_signed_manifest_names(project: Project, server: Server, tmp_path: Path) -> None:
    """As JoinMarket NG publishes it: the manifest lists no digest of the archive of sources."""
    commit, other = "0123456789" * 4, "f" * 40
    manifest = project.folder() / "manifest.txt"
    content = archive(b"source", f"thing-{commit}/thing.py")
    (project.folder() / f"{commit}.tar.gz").write_bytes(content)
    place = f"{server.url}/up/{{version}}"

    def release_of(named: str) -> Release:
        manifest.write_text(f"# Version: 1.0\ncommit: {named}\n")
        signatures = b"".join(project.signed(name, manifest.read_bytes()) for name in THREE)
        manifest.with_suffix(".sig").write_bytes(signatures)
        signed = {
            "sums": f"{place}/manifest.txt",
            "signatures": f"{place}/manifest.sig",
            "signers": project.release().signed.signers,  # type: ignore[union-attr]
            "threshold": 3,
            "commit": commit,
        }
        file = {"url": f"{place}/{{commit}}.tar.gz", "sha256": hashlib.sha256(content).hexdigest()}
        source = {"kind": "archive", "name": "thing", "licence": "MIT", "version": "1.0", "files": {"x86_64": file}}
        return declared(Field(Path("stack.yml"), "source", {**source, "signed": signed}), "thing", "release")

    release = release_of(commit)
    found = having(tmp_path / "store")
    (told,) = found.present([(release, project.keys)])
    assert told["signers"] == list(THREE)
    assert found.verify(release, project.keys)["signers"] == list(THREE)
    assert from_plain(release.plain()) == release
    with pytest.raises(BcmError, match=f"is signed as commit {commit} of git, from which no digest of a file follows"):
        found.published(release, project.keys)
    release_of(other)
    with pytest.raises(BcmError, match=f"names another commit: pinned {commit}, named {other}"):
        having(tmp_path / "other").present([(release, project.keys)])


def test_commit_that_nothing_signed_names_is_refused(project: Project) -> None:
    signed = {"signatures": "https://x/{file}.asc", "signers": {"ann": "A" * 40}, "threshold": 1, "commit": "a" * 40}
    file = {"url": "https://x/{commit}.tar.gz", "sha256": "a" * 64}
    source = {"kind": "archive", "name": "thing", "licence": "MIT", "version": "1", "files": {"x86_64": file}}
    with pytest.raises(BcmError, match="signed.commit is named by nothing that is signed: add sums"):
        declared(Field(Path("stack.yml"), "source", {**source, "signed": signed}), "thing", "release")


def test_an_unsigned_release_needs_only_its_digest(project: Project, server: Server, tmp_path: Path) -> None:
    release = replace(project.release(), signed=None)
    (told,) = having(tmp_path / "store").present([(release, project.keys)])
    assert (told["signers"], told["explained"]) == ([], "not signed; its digest is pinned")
    assert {path.rpartition(".")[2] for path in server.asked} == {"gz"}


def test_unreachable_sources_are_reported(project: Project, server: Server, tmp_path: Path) -> None:
    release = project.release("1.0", "x86_64")
    found = having(tmp_path / "store")
    assert found.out_of_reach(release) is None
    assert server.asked == ["/up/1.0/SHA256SUMS"], "what leads to it is asked for, and nothing is fetched"
    assert having(tmp_path / "store", source=f"{server.url}/mirror").out_of_reach(release) == (
        "127.0.0.1: the server answers 404 File not found"
    )
    away = having(tmp_path / "store", source=str(tmp_path / "folder")).out_of_reach(release)
    assert away == f"{tmp_path}/folder/thing/1.0/SHA256SUMS is not there"
    assert having(tmp_path / "store").out_of_reach(replace(release, kind="deb", files={}, signed=None)) is None
    found.present([(release, project.keys)])
    server.shutdown()
    server.server_close()
    assert found.out_of_reach(release) is None, "it is in the store"
    assert "127.0.0.1: no connection" in str(found.out_of_reach(project.release("0.9", "x86_64")))


def test_two_runs_at_once(project: Project, server: Server, tmp_path: Path) -> None:
    release = project.release()
    runs = [having(tmp_path / "store") for _unused in range(4)]
    threads = [threading.Thread(target=run.present, args=([(release, project.keys)],)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [server.asked.count(f"/up/1.0/{pin.name}") for pin in release.files.values()] == [1, 1]
    assert found_whole(tmp_path / "store", release)


def found_whole(store: Path, release: Release) -> bool:
    pins = release.files.values()
    whole = all(ContentStore(store).check(pin.algorithm, pin.digest) for pin in pins)
    return whole and not any((store / "partial").iterdir())


# -- what is refused --------------------------------------------------------------------------------------------------


def first(project: Project) -> Path:
    return project.folder() / "thing-1.0-x86_64.tar.gz"


def wrong_digest(project: Project) -> None:
    content = bytearray(first(project).read_bytes())
    content[100] ^= 1
    first(project).write_bytes(content)


def truncated(project: Project) -> None:
    first(project).write_bytes(first(project).read_bytes()[:-20])


def revoked(project: Project) -> None:
    cert, key = project.certs["ann"], project.builders["ann"]
    project.write_key(Cert.from_bytes(bytes(cert) + bytes(cert.revoke(key.certifier()))), "ann")


def renamed_key(project: Project) -> None:
    """A stranger's key under a builder's name."""
    project.write_key(project.certs["stranger"], "ann")
    project.sign("1.0", ["stranger", *THREE[1:]])


def another_version(project: Project) -> None:
    """A downgrade: what is signed is an old release, in place of the new one."""
    for name in ("SHA256SUMS", "SHA256SUMS.asc"):
        (project.folder() / name).write_bytes((project.folder("0.9") / name).read_bytes())


def signatures_of_another_version(project: Project) -> None:
    (project.folder() / "SHA256SUMS.asc").write_bytes((project.folder("0.9") / "SHA256SUMS.asc").read_bytes())


def other_digest(project: Project) -> None:
    project.list_and_sign("1.0", THREE, lambda sums: b"0" * 64 + sums[64:])


def without_the_file(project: Project) -> None:
    project.list_and_sign("1.0", THREE, lambda sums: sums.replace(b"x86_64", b"riscv64"))


def listed_twice(project: Project) -> None:
    project.list_and_sign("1.0", THREE, lambda sums: sums + b"0" * 64 + sums.splitlines()[0][64:] + b"\n")


REFUSED: dict[str, tuple[Callable[[Project], None], str]] = {
    "wrong digest": (
        wrong_digest,
        r"x86_64.tar.gz has the sha256 digest \w+, pinned is \w+: .* kept as .*, never used",
    ),
    "truncated": (truncated, r"x86_64.tar.gz has the sha256 digest \w+, pinned is"),
    "too few": (lambda project: project.sign("1.0", THREE[:2]), "too few .*signed by ann, bob; 2 of 3 needed"),
    "one twice": (lambda project: project.sign("1.0", ["ann", "bob", "bob"]), "signed by ann, bob; 2 of 3 needed"),
    "unknown key": (lambda project: project.sign("1.0", ["ann", "bob", "stranger"]), r"\w{40}: unknown key.*2 of 3"),
    "revoked": (revoked, "signed by bob, cid; ann: revoked key; 2 of 3 needed"),
    "renamed key": (renamed_key, "signed by bob, cid; .*unknown key.*ann: no key found; 2 of 3 needed"),
    "another version": (another_version, "SHA256SUMS does not list thing-1.0-x86_64.tar.gz: it is of another release"),
    "signatures of another version": (
        signatures_of_another_version,
        "ann: bad signature: over other data.*0 of 3 needed",
    ),
    "other digest": (
        other_digest,
        r"SHA256SUMS lists thing-1.0-aarch64.tar.gz with another digest: pinned \w+, listed 0",
    ),
    "not listed": (without_the_file, "SHA256SUMS does not list thing-1.0-x86_64.tar.gz"),
    "listed twice": (listed_twice, "SHA256SUMS lists 'thing-1.0-aarch64.tar.gz' twice, with different digests"),
    "no signatures": (lambda project: project.sums().with_suffix(".asc").unlink(), "thing 1.0: no signatures: .*404"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tampered_release_is_refused(project: Project, tmp_path: Path, case: str) -> None:
    tamper, message = REFUSED[case]
    found, old, release = having(tmp_path / "store"), project.release("0.9"), project.release()
    found.present([(old, project.keys)])
    before = files(tmp_path / "store")
    tamper(project)
    with pytest.raises(BcmError, match=message) as raised:
        found.present([(release, project.keys)])
    assert "\n" not in str(raised.value)
    left = files(tmp_path / "store") - before
    assert not {name for name in left if name.startswith(("releases/", "partial/"))}
    assert first(project).exists()
    assert found.recorded(release) is None
    assert found.store.get("sha256", release.files["x86_64"].digest) is None
    # The old release is as it was; and what is in order again is taken.
    assert found_whole(tmp_path / "store", old)
    for name in NAMES:
        project.write_key(project.certs[name], name)
    project.publish()
    assert found.present([(project.release(), project.keys)])[0]["changed"]


def test_an_expired_key_does_not_count(
    project: Project, tmp_path: Path, expired: tuple[Cert, Callable[[bytes], bytes]]
) -> None:
    cert, signed_by_ann = expired
    project.certs["ann"] = cert
    project.write_key(cert, "ann")
    project.sign("1.0", THREE[1:])
    with open(project.sums().with_suffix(".asc"), "ab") as file:
        file.write(signed_by_ann(project.sums().read_bytes()))
    with pytest.raises(BcmError, match="ann: key expired on 2020-12-31; 2 of 3 needed"):
        having(tmp_path / "store").present([(project.release(), project.keys)])


def test_an_archive_that_leaves_its_folder(project: Project, tmp_path: Path) -> None:
    """Even if it is what was pinned and signed."""
    first(project).write_bytes(archive(b"x", "../thingd"))
    project.list_and_sign("1.0", THREE)
    found, release = having(tmp_path / "store"), project.release()
    with pytest.raises(BcmError, match="'../thingd' leads out of the folder: refused"):
        found.present([(release, project.keys)])
    assert found.recorded(release) is None


def test_all_are_tried_before_the_first_error(project: Project, tmp_path: Path) -> None:
    wrong_digest(project)
    found, good = having(tmp_path / "store"), project.release("0.9")
    bad = replace(project.release(), files={"x86_64": replace(project.release().files["x86_64"], digest="0" * 64)})
    with pytest.raises(BcmError, match="with another digest"):
        found.present([(bad, project.keys), (good, project.keys)])
    assert found.recorded(good)


# -- verified again ---------------------------------------------------------------------------------------------------


def test_stored_release_is_verified_as_of_today(project: Project, server: Server, tmp_path: Path) -> None:
    found, release = having(tmp_path / "store"), project.release()
    with pytest.raises(BcmError, match="thing 1.0 is not in the store: fetch it first"):
        found.verify(release, project.keys)
    found.present([(release, project.keys)])
    server.asked.clear()
    assert found.verify(release, project.keys)["signers"] == list(THREE)
    # Keys that came along count where the role has none.
    assert found.verify(release, tmp_path / "none")["signers"] == list(THREE)
    assert server.asked == []
    revoked(project)
    with pytest.raises(BcmError, match="ann: revoked key; 2 of 3 needed"):
        found.verify(release, project.keys)


def test_damaged_files_are_downloaded_again(project: Project, tmp_path: Path) -> None:
    found, release = having(tmp_path / "store"), project.release()
    found.present([(release, project.keys)])
    path = found.path(release, "x86_64")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BcmError, match="x86_64.tar.gz was damaged, and is kept in .*refused: type `bcm artifact fetch"):
        found.verify(release, project.keys)
    assert found.present([(release, project.keys)])[0]["changed"]
    assert found_whole(tmp_path / "store", release)


# -- carried to another machine ---------------------------------------------------------------------------------------


def test_exported_and_imported(project: Project, server: Server, tmp_path: Path) -> None:
    found, release = having(tmp_path / "store"), project.release()
    found.present([(release, project.keys)])
    written = found.export([(release, project.keys)], tmp_path / "disk")
    keys = {f"thing/1.0/{project.certs[name].fingerprint.upper()}.asc" for name in THREE}
    sums = {"thing/1.0/SHA256SUMS", "thing/1.0/SHA256SUMS.asc"}
    assert (
        set(written)
        == files(tmp_path / "disk")
        == {f"thing/1.0/{p.name}" for p in release.files.values()} | sums | keys
    )
    server.asked.clear()
    other = having(tmp_path / "other", source=str(tmp_path / "disk"))
    assert other.present([(release, tmp_path / "none")])[0]["signers"] == list(THREE)
    assert found_whole(tmp_path / "other", release)
    assert server.asked == []


@pytest.mark.parametrize("name", ["thing-1.0-x86_64.tar.gz", "SHA256SUMS", "SHA256SUMS.asc"])
def test_a_release_tampered_in_transit_is_refused(project: Project, tmp_path: Path, name: str) -> None:
    found, release = having(tmp_path / "store"), project.release()
    found.present([(release, project.keys)])
    found.export([(release, project.keys)], tmp_path / "disk")
    path = tmp_path / "disk/thing/1.0" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 1 :])
    other = having(tmp_path / "other", source=str(tmp_path / "disk"))
    with pytest.raises(BcmError, match="digest|signature|unreadable"):
        other.present([(release, project.keys)])
    assert other.recorded(release) is None


def test_an_unwritable_store_is_named(project: Project, tmp_path: Path) -> None:
    found, release = having(tmp_path / "store"), project.release()
    found.present([(release, project.keys)])
    (tmp_path / "disk").write_text("")
    with pytest.raises(BcmError, match="Failed to write to .*disk/thing/1.0: Not a directory"):
        found.export([(release, project.keys)], tmp_path / "disk")


# -- pruned -----------------------------------------------------------------------------------------------------------


def test_unneeded_files_are_pruned(project: Project, tmp_path: Path) -> None:
    found, old, new = having(tmp_path / "store"), project.release("0.9"), project.release()
    found.present([(old, project.keys), (new, project.keys)])
    assert found.prune([new], older_than=1) == (0, [])
    freed, gone = found.prune([new], older_than=0)
    assert {f"sha256/{pin.digest}" for pin in old.files.values()} < set(gone)
    assert freed > sum(len(archive(b"")) for _unused in old.files)
    assert found.recorded(old) is None
    assert found.verify(new, tmp_path / "none")["signers"] == list(THREE)


# -- another version --------------------------------------------------------------------------------------------------


def test_digests_of_another_version_come_from_its_signers(project: Project, tmp_path: Path) -> None:
    old, new = project.release("0.9"), project.release()
    unpinned = {name: replace(new.files[name], digest=pin.digest) for name, pin in old.files.items()}
    found = having(tmp_path / "store")
    pins, explained = found.published(replace(new, files=unpinned), project.keys)
    assert (pins, explained) == (new.files, "signed by ann, bob, cid; 3 of 3 needed")
    another_version(project)
    with pytest.raises(
        BcmError, match="SHA256SUMS lists no sha256 of thing-1.0-x86_64.tar.gz: it is of another release"
    ):
        found.published(replace(new, files=unpinned), project.keys)
    project.sign("1.0", ["ann"])
    with pytest.raises(BcmError, match="1 of 3 needed"):
        found.published(replace(new, files=unpinned), project.keys)
    with pytest.raises(BcmError, match="is not signed"):
        found.published(replace(new, signed=None), project.keys)


def test_published_without_sums(project: Project, server: Server, tmp_path: Path) -> None:
    new = project.release("1.0", "x86_64")
    (pin,) = new.files.values()
    content = first(project).read_bytes()
    first(project).with_suffix(".gz.asc").write_bytes(b"".join(project.signed(name, content) for name in THREE))
    assert new.signed
    signed = replace(new.signed, sums=None, signatures=(f"{server.url}/up/1.0/{{file}}.asc",))
    unpinned = replace(new, signed=signed, files={"x86_64": replace(pin, digest="0" * 64)})
    found = having(tmp_path / "store")
    assert found.published(unpinned, project.keys)[0] == new.files
    wrong_digest(project)
    with pytest.raises(BcmError, match="bad signature.*0 of 3 needed"):
        found.published(unpinned, project.keys)


def test_record_of_a_release_is_readable(project: Project, tmp_path: Path) -> None:
    found, release = having(tmp_path / "store"), project.release()
    found.present([(release, project.keys)])
    record = json.loads((tmp_path / "store/releases" / f"{identity(release)}.json").read_text())
    assert record["files"] == {pin.name: pin.digest for pin in release.files.values()}
    assert set(record["evidence"]) == {"SHA256SUMS", "SHA256SUMS.asc"} | {
        f"{project.certs[name].fingerprint.upper()}.asc" for name in THREE
    }
    assert os.listdir(tmp_path / "store/partial") == []
