# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An apt repository, signed and served as its authors would, and what may be wrong with it; apt is asked as well."""

from __future__ import annotations

import hashlib
import itertools
import lzma
import os
import pwd
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pysequoia import SignatureMode, Tsk, sign

from ansible_collections.bcm.core.plugins.module_utils._artifact import apt
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import Artifacts
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Release, from_plain, release
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader
from ansible_collections.bcm.core.plugins.module_utils._artifact.key_sources import Keys
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.fields import Field
from ansible_collections.bcm.core.plugins.module_utils._base.versions import order
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue

from .test_artifacts import Server, server
from .test_download import Socks, serving

__all__ = ["server"]

ONION = f"{'a' * 56}.onion"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def key() -> Tsk:
    return Tsk.generate("archive")


@dataclass
class Repository:
    """A repository below a folder, with the suite trixie; `publish` writes its lists and signs them."""

    root: Path
    key: Tsk

    def __post_init__(self) -> None:
        self.packages: list[str] = []
        self.suite = self.root / "dists/trixie"
        self.fingerprint: str = self.key.extract_certificate().fingerprint.upper()

    def add(self, content: bytes, version: str, name: str = "tor", architecture: str = "amd64") -> Path:
        path = self.root / f"pool/main/t/{name}/{name}_{version.partition(':')[2] or version}_{architecture}.deb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}", "Description: a\n more"]
        lines += [f"Filename: {path.relative_to(self.root)}", f"Size: {len(content)}"]
        self.packages.append("\n".join([*lines, f"SHA256: {hashlib.sha256(content).hexdigest()}"]))
        return path

    def publish(
        self, *, date: datetime | None = None, until: datetime | None = None, codename: str = "trixie", more: str = ""
    ) -> None:
        date = date or datetime.now(UTC)
        listed = []
        for architecture in ("amd64", "arm64"):
            path = self.suite / f"main/binary-{architecture}/Packages.xz"
            path.parent.mkdir(parents=True, exist_ok=True)
            own = [item for item in self.packages if f"Architecture: {architecture}" in item]
            plain = "\n\n".join([*own, ""]).encode()
            path.write_bytes(lzma.compress(plain))
            # apt wants to know the plain one as well, though it fetches the other
            for name, content in (("Packages", plain), ("Packages.xz", path.read_bytes())):
                place = f"main/binary-{architecture}/{name}"
                listed.append(f" {hashlib.sha256(content).hexdigest()} {len(content):8} {place}")
        dated = [f"Valid-Until: {_written(until)}"] if until else []
        text = ["Origin: Test", f"Codename: {codename}", f"Date: {_written(date)}", *dated]
        self.sign("\n".join([*text, "Architectures: amd64 arm64", "Components: main", more or "SHA256:", *listed, ""]))

    def sign(self, text: str) -> None:
        (self.suite / "InRelease").write_bytes(sign(self.key.signer(), text.encode(), mode=SignatureMode.CLEAR))

    def write_key(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.fingerprint}.asc").write_text(str(self.key.extract_certificate()))

    def declared(self, url: str, architecture: str = "x86_64", **more: Any) -> Release:
        """As a stack's first source, for one architecture."""
        repository = {"url": url, "suite": "trixie", **more.pop("repository", {})}
        value = {"kind": "apt", "name": "tor", "licence": "MIT", "repository": repository, **more}
        value.setdefault("signers", {"archive": self.fingerprint})
        return release(Field(Path("stack.yml"), "x", value), "tor", "own").only(architecture)


def _written(moment: datetime) -> str:
    return moment.strftime("%a, %d %b %Y %H:%M:%S UTC")


@pytest.fixture
def repository(tmp_path: Path, key: Tsk) -> Repository:
    made = Repository(tmp_path / "repository", key)
    made.write_key(tmp_path / "keys")
    for version in ("0.4.8.22-1", "0.4.9.14-1~d13.trixie+1", "0.4.9.9-1", "0.4.9.14-1~d13.trixie"):
        made.add(f"the package {version}".encode(), version)
    made.add(b"another", "9.9-1", name="tor-geoipdb")
    made.add(b"the package for arm", "0.4.9.14-1", architecture="arm64")
    made.publish(until=datetime.now(UTC) + DAY)
    return made


@pytest.fixture
def wanted(repository: Repository, server: Server) -> Release:
    return repository.declared(f"{server.url}/repository")


def having(folder: Path, **more: Any) -> Artifacts:
    proxy = more.pop("proxy", None)
    return Artifacts(ContentStore(folder), Downloader(proxy, pause=0.01), [].append, **more)


# -- what is in order -------------------------------------------------------------------------------------------------


def test_the_newest_is_taken(wanted: Release, repository: Repository, server: Server, tmp_path: Path) -> None:
    found = having(tmp_path / "store")
    (told,) = found.present([(wanted, tmp_path / "keys")])
    name = "pool/main/t/tor/tor_0.4.9.14-1~d13.trixie+1_amd64.deb"
    assert (told["changed"], told["version"], told["signers"]) == (True, "0.4.9.14-1~d13.trixie+1", ["archive"])
    assert told["files"] == {name: hashlib.sha256((repository.root / name).read_bytes()).hexdigest()}
    assert found.path(wanted, "x86_64").read_bytes() == (repository.root / name).read_bytes()
    asked = {path.partition("repository/")[2] for path in server.asked}
    assert asked == {"dists/trixie/InRelease", "dists/trixie/main/binary-amd64/Packages.xz", name}
    server.asked.clear()
    # as it comes back from Ansible
    assert found.present([(from_plain(wanted.plain()), tmp_path / "keys")]) == [{**told, "changed": False}]
    assert found.verify(wanted, tmp_path / "keys")["files"] == told["files"]
    assert server.asked == []
    arm = repository.declared(f"{server.url}/repository", "aarch64")
    assert found.present([(arm, tmp_path / "keys")])[0]["version"] == "0.4.9.14-1"


def test_it_is_looked_for_again_when_the_list_has_expired(
    wanted: Release, repository: Repository, tmp_path: Path
) -> None:
    found = having(tmp_path / "store")
    (old,) = found.present([(wanted, tmp_path / "keys")])
    for path in (tmp_path / "store/releases").iterdir():
        path.write_text(path.read_text().replace(old["until"], "2026-01-01T00:00:00+00:00"))
    repository.add(b"mended", "0.4.9.15-1")
    repository.publish(until=datetime.now(UTC) + DAY)
    (new,) = found.present([(wanted, tmp_path / "keys")])
    assert (new["version"], found.path(wanted, "x86_64").read_bytes()) == ("0.4.9.15-1", b"mended")


@pytest.mark.parametrize(
    ("version", "chosen"), [("0.4.9.9", "0.4.9.9-1"), ("0.4.9.14-1~d13.trixie", "0.4.9.14-1~d13.trixie")]
)
def test_a_version_may_be_pinned(
    repository: Repository, server: Server, tmp_path: Path, version: str, chosen: str
) -> None:
    pinned = repository.declared(f"{server.url}/repository", version=version)
    assert having(tmp_path / "store").present([(pinned, tmp_path / "keys")])[0]["version"] == chosen


@pytest.mark.parametrize("mirror", ["a folder", "a server"])
def test_exported_files_are_a_repository(wanted: Release, server: Server, tmp_path: Path, mirror: str) -> None:
    found = having(tmp_path / "store")
    (told,) = found.present([(wanted, tmp_path / "keys")])
    assert len(found.export([(wanted, tmp_path / "keys")], tmp_path / "mirror")) == 4
    server.asked.clear()
    other = having(tmp_path / "other", source=f"{server.url}/mirror" if mirror == "a server" else f"{tmp_path}/mirror")
    assert other.present([(wanted, tmp_path / "none")])[0]["files"] == told["files"]
    assert all(path.startswith("/mirror/tor/") for path in server.asked)
    assert bool(server.asked) == (mirror == "a server")
    assert having(tmp_path / "store").prune([wanted], 0) == (0, [])


def test_through_tor_only_its_onion_service_is_asked(repository: Repository, server: Server, tmp_path: Path) -> None:
    declared = repository.declared("https://deb.invalid/repository", repository={"onion": ONION})
    with Socks(("127.0.0.1", server.server_port)) as socks, serving(socks):
        having(tmp_path / "store", proxy=socks.url).present([(declared, tmp_path / "keys")])
        assert {host for _user, host in socks.asked} == {ONION}
    found = having(tmp_path / "store")
    assert declared.repository
    assert found.locate(declared, declared.repository.inrelease) == declared.repository.inrelease


# -- what is refused --------------------------------------------------------------------------------------------------


def change(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def inrelease(repository: Repository) -> Path:
    return repository.suite / "InRelease"


def more_text(repository: Repository) -> None:
    change(inrelease(repository), b"Origin: Test", b"Origin: Evil")


def text_in_front(repository: Repository) -> None:
    path = inrelease(repository)
    path.write_bytes(b"SHA256:\n 0 0 main/binary-amd64/Packages\n" + path.read_bytes())


def without_signature(repository: Repository) -> None:
    path = inrelease(repository)
    path.write_bytes(path.read_bytes().partition(b"-----BEGIN PGP SIGNATURE")[0])


def of_a_stranger(repository: Repository) -> None:
    replace(repository, key=Tsk.generate("stranger")).publish()


def other_packages(repository: Repository) -> None:
    path = repository.suite / "main/binary-amd64/Packages.xz"
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()).replace(b"0.4.9.14", b"0.4.9.99")))


def expired(repository: Repository) -> None:
    repository.publish(date=datetime.now(UTC) - 2 * DAY, until=datetime.now(UTC) - DAY)


def of_tomorrow(repository: Repository) -> None:
    repository.publish(date=datetime.now(UTC) + DAY)


def of_another_suite(repository: Repository) -> None:
    repository.publish(codename="bookworm")


def without_digests(repository: Repository) -> None:
    repository.publish(more="MD5Sum:")


def other_package(repository: Repository) -> None:
    for path in repository.root.glob("pool/main/t/tor/*_amd64.deb"):
        change(path, b"package", b"PACKAGE")


REFUSED = [
    (more_text, r"too few of its signers signed it: .*archive: bad signature"),
    (text_in_front, r"InRelease is not a message with a signature"),
    (without_signature, r"InRelease is not a message with a signature"),
    (of_a_stranger, r"signed by none of the pinned keys; \w+: unknown key"),
    (other_packages, r"Packages.xz has the SHA-256 \w+, http.*InRelease promises \w+: it was changed"),
    (expired, r"InRelease expired on .* UTC: refused, since what it does not know of may mend faults; the mirror"),
    (of_tomorrow, r"InRelease is dated .* in the future: refused, or this machine's clock is wrong"),
    (of_another_suite, r"InRelease is of bookworm, not of trixie: refused"),
    (without_digests, r"InRelease has no packages of main for amd64"),
    (other_package, r"amd64.deb has the sha256 digest \w+, pinned is \w+: it is not what was released"),
]


@pytest.mark.parametrize(("spoil", "said"), REFUSED, ids=[spoil.__name__ for spoil, _said in REFUSED])
def test_tampered_repositories_are_refused(
    wanted: Release, repository: Repository, tmp_path: Path, spoil: Callable[[Repository], None], said: str
) -> None:
    spoil(repository)
    with pytest.raises(BcmError, match=said):
        having(tmp_path / "store").present([(wanted, tmp_path / "keys")])


def test_an_older_list_than_the_last_one_is_refused(wanted: Release, repository: Repository, tmp_path: Path) -> None:
    old = inrelease(repository).read_bytes()
    repository.publish(date=datetime.now(UTC) + timedelta(seconds=5))
    having(tmp_path / "store").present([(wanted, tmp_path / "keys")])
    inrelease(repository).write_bytes(old)
    # another stack's, or another floor's: nothing but the list is remembered
    with pytest.raises(BcmError, match="was accepted before: refused, an old copy hides what is newer"):
        having(tmp_path / "store").present([(replace(wanted, licence="none"), tmp_path / "keys")])


def test_below_the_floor_there_is_nothing(wanted: Release, tmp_path: Path) -> None:
    assert wanted.repository

    def above(*floor: str) -> Release:
        assert wanted.repository
        return replace(wanted, repository=replace(wanted.repository, floor=floor))

    found = having(tmp_path / "store")
    said = r"has no tor that is not below the floor \(0\.4\.9\.15\), only 0\.4\.8\.22-1, .*: use another source of tor"
    with pytest.raises(BcmError, match=said):
        found.present([(above("0.4.9.15"), tmp_path / "keys")])
    (told,) = found.present([(above("0.4.9.15", "0.4.8.22"), tmp_path / "keys")])
    assert told["version"] == "0.4.8.22-1", "the newest of a line that is above its own floor"
    assert above("0.4.9.14").pins("x86_64") != above("0.4.9.15").pins("x86_64"), "a floor that rises names a new image"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("repository", {"url": "https://a.invalid/x"}, "x.repository.suite is missing"),
        ("repository", {"url": "x", "suite": "trixie"}, 'x.repository.url is "x": write a URL'),
        ("repository", {"url": "https://a.invalid/x", "suite": "../x"}, "suite is .*write the name of a suite"),
        ("repository", {"url": "https://a.invalid/x", "suite": "x", "onion": "a.onion"}, "onion service of version 3"),
        ("signers", {}, "x.signers is empty: name a signer"),
        ("signers", {"a": "886DDD89"}, "write a whole OpenPGP fingerprint"),
    ],
)
def test_an_invalid_declaration_is_refused(field: str, value: Any, said: str) -> None:
    sound = {"kind": "apt", "name": "tor", "licence": "MIT", "repository": {"url": "https://a.invalid/x", "suite": "x"}}
    with pytest.raises(BcmError, match=said):
        release(Field(Path("y"), "x", {**sound, "signers": {"a": "A" * 40}, field: value}), "tor", "own")


def test_roles_have_the_keys_of_all_pinned_signers() -> None:
    for stack in Catalogue.read().values():
        for source in stack.artifact.sources:
            signed = stack.artifact.release(stack.name, source, {}).signed
            keys = Keys([str(stack.artifact.keys_path)], lambda url: b"")
            for name, fingerprint in signed.signers.items() if signed else ():
                assert keys.find(fingerprint), f"{stack.artifact.keys_path} lacks that of {name}"


# -- whom Debian asks -------------------------------------------------------------------------------------------------


def test_versions_are_in_dpkg_s_order() -> None:
    versions = [
        "1.0~rc1-1",
        "1.0-1~bpo1",
        "1.0-1",
        "1.0-1+b1",
        "1.0a-1",
        "1.0+x-1",
        "1.0.1-1",
        "1.2-1",
        "1.10-1",
        "1:0-1",
        "1:0.1~rc1-1",
        "1:0.1-1",
        "10:0-1",
    ]
    shuffled = random.Random(1).sample(versions, len(versions))
    assert sorted(shuffled, key=order) == versions
    if dpkg := shutil.which("dpkg"):
        for older, newer in itertools.pairwise(versions):
            subprocess.run([dpkg, "--compare-versions", older, "lt", newer], check=True)
    assert [apt.upstream(text) for text in ("1:0.4.9-1-2", "0.4.9", "0.4.9.14-1~d13.trixie+1")] == [
        "0.4.9-1",
        "0.4.9",
        "0.4.9.14",
    ]


class Apt:
    """apt itself, with these sources, options beyond the usual ones, and a state of its own."""

    def __init__(self, folder: Path, sources: Sequence[str], *more: str, architecture: str = "amd64") -> None:
        self.folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (folder / name).mkdir(parents=True)
        (folder / "etc/sources.list").write_text("".join(f"{line}\n" for line in sources))
        options = [f"Dir::{name}={folder / name.lower()}" for name in ("State", "Cache", "Etc")]
        options += ["Dir::State::status=/dev/null", f"APT::Architecture={architecture}", "Acquire::Languages=none"]
        options += [f"APT::Sandbox::User={pwd.getpwuid(os.getuid()).pw_name}", *more]
        self._options = [f"-o{option}" for option in options]

    def says(self) -> str:
        """What it has against reading the lists and fetching the newest package; nothing if all is well."""
        ran = [
            subprocess.run(["apt-get", *self._options, *words], cwd=self.folder, capture_output=True, check=False)
            for words in (["-q", "update"], ["-q", "download", "tor"])
        ]
        return "".join(done.stderr.decode() for done in ran)


@pytest.fixture
def debian(repository: Repository, server: Server, tmp_path: Path) -> Apt:
    if not shutil.which("apt-get"):
        pytest.skip("apt is Debian's")
    key = tmp_path / f"keys/{repository.fingerprint}.asc"
    # what this machine may be told of clocks does not count here
    options = ("Acquire::http::Proxy=DIRECT", "Acquire::Check-Valid-Until=true", "Acquire::Check-Date=true")
    return Apt(tmp_path / "apt", [f"deb [signed-by={key}] {server.url}/repository trixie main"], *options)


def test_apt_takes_the_same(debian: Apt, wanted: Release, tmp_path: Path) -> None:
    assert debian.says() == ""
    (fetched,) = debian.folder.glob("*.deb")
    found = having(tmp_path / "store")
    found.present([(wanted, tmp_path / "keys")])
    assert fetched.read_bytes() == found.path(wanted, "x86_64").read_bytes()


@pytest.mark.parametrize("spoil", [spoil for spoil, _said in REFUSED], ids=[spoil.__name__ for spoil, _said in REFUSED])
def test_apt_complains_of_the_same(debian: Apt, repository: Repository, spoil: Callable[[Repository], None]) -> None:
    spoil(repository)
    assert debian.says()


BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n"


@pytest.mark.parametrize(
    "message",
    [
        BEGIN + (b"x\n" + SIGNATURE) * 131_072,
        BEGIN + b"x\n" * 2_097_152,
        BEGIN[:35] + b"Hash: a\n" * 524_288,
        BEGIN + b"x\n" + SIGNATURE + b"-----END PGP SIGNATURE-----\n" * 131_072 + b"x",
        SIGNATURE + BEGIN,
    ],
    ids=["beginnings", "lines", "hashes", "ends", "backwards"],
)
def test_malformed_messages_are_refused_quickly(message: bytes) -> None:
    # 4 MiB, as much as is downloaded; were this to take the square of it, the test would not end
    with pytest.raises(BcmError, match="InRelease is not a message with a signature"):
        apt.cleartext(message, "InRelease")


def test_a_field_may_have_many_lines() -> None:
    text = b"Suite: trixie\nDate: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n" + b" a\n" * 349_525
    assert apt.promise(text, "trixie", "InRelease").files == {}
