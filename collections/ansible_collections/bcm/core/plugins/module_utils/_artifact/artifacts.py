# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts: download, verify, list, export, import and prune them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._base.errors import BcmError
from .._base.read import read_moment
from . import apt, archive, oci, sums
from .content_store import ContentStore
from .declaration import Pin, Release, Repository, Signing, basename
from .download import Downloader, side_by_side
from .key_sources import Keys
from .openpgp import SignatureError, Verdict, verify

#: kinds whose files are fetched here; the others are fetched, with the pins, where they are installed
FETCHED = ("archive", "apt", "oci")

#: address, partial file, algorithm -> digest
_Get = Callable[[str, Path, str], str]


@dataclass
class Artifacts:
    """The store of the controller, and where what it lacks comes from.

    ``source`` is a folder or an ``http(s)://`` address with files as ``STACK/VERSION/NAME``, in place of upstream, and
    below ``STACK`` what is needed of an apt repository, as it has it;
    ``keys`` are more places of OpenPGP keys, asked after the release's own folder.
    """

    store: ContentStore
    downloader: Downloader
    notify: Callable[[str], None]
    source: str | None = None
    keys: Sequence[str] = ()

    # -- present ------------------------------------------------------------------------------------------------------

    def present(self, releases: Iterable[tuple[Release, Path]], *, check: bool = False) -> list[dict[str, Any]]:
        """Download and verify releases, each with the folder of its keys, into the store, in parallel.

        The first error of any of them, after all have ended. Results are as `_record` makes them, and ``changed``.
        """
        wanted = [(release, folder) for release, folder in releases if release.kind in FETCHED]
        return side_by_side([partial(self._present, release, folder, check) for release, folder in wanted])

    def _present(self, release: Release, folder: Path, check: bool) -> dict[str, Any]:
        there = self.recorded(release)
        if there is not None and _counts(there.get("until")):
            return {**there, "changed": False}
        if check:
            return {"changed": True}
        evidence = _Evidence(self, release, folder)
        if release.signed and release.signed.sums:
            evidence.check_sums(release.files.values())
        for package in evidence.offered():
            get_package = partial(self.downloader.large, limit=package.size)
            self._stored(release, get_package, package.pin)
        get = oci.Registry(self.downloader).large if release.kind == "oci" else self.downloader.large
        for architecture, pin in release.files.items():
            path = self._stored(release, get, pin)
            if release.signed and not release.signed.sums:
                evidence.check_file(pin, path)
            if release.kind == "oci":
                path, parts = self._image(release, architecture, partial(self._stored, release, get))
                evidence.blobs += [pin.digest for pin in parts]
                parts = oci.parts(path, release, architecture)
                each = list(dict.fromkeys(parts))  # a layer may come twice
                paths = side_by_side([partial(self._stored, release, get, part) for part in each])
                oci.check([paths[each.index(part)] for part in parts], release, architecture)
                evidence.blobs += [part.digest for part in parts]
            else:
                archive.check(path, pin.name)
        record = evidence.record()
        self.store.write_record(identity(release), record)
        return {**record, "changed": True}

    def out_of_reach(self, release: Release) -> str | None:
        """Return why a release cannot be downloaded now, after one try of a few seconds; None if it can.

        What a package manager fetches always can: images are made of Debian's packages, and which registry is asked is
        a matter of the machine.
        """
        if release.leads is None:
            return None
        there = self.recorded(release)
        if there is not None and _counts(there.get("until")):
            return None
        where = self.locate(release, release.leads)
        if "://" in where:
            return self.downloader.out_of_reach(where)
        return None if Path(where).expanduser().exists() else f"{where} is not there"

    def recorded(self, release: Release) -> dict[str, Any] | None:
        """Return the record of a release whose files are complete; None if it has to be downloaded or verified."""
        record = self.store.read_record(identity(release))
        there = record is not None and all(self.store.get(*kept) for kept in _files(release, record).values())
        return record if there else None

    def path(self, release: Release, architecture: str) -> Path:
        """The file of a release in the store, hashed again. Raises BcmError if it is not what was pinned."""
        if release.repository is None:
            return self._whole(release, release.file(architecture))
        record = self.recorded(release.only(architecture)) or {"files": {release.name: ""}}
        ((name, digest),) = record["files"].items()
        return self._whole(release, Pin(name, "sha256", digest))

    def layers(self, release: Release, architecture: str) -> list[Path]:
        """Those of an image in the store, from the lowest up, hashed again. Raises BcmError as `path` does."""
        path, _own = self._image(release, architecture, partial(self._whole, release))
        return [self._whole(release, part) for part in oci.parts(path, release, architecture)[1:]]

    def _image(self, release: Release, architecture: str, hold: Callable[[Pin], Path]) -> tuple[Path, list[Pin]]:
        """The manifest of an image; and its pin, if an index is pinned, which names it."""
        path = self.path(release, architecture)
        own = oci.manifest_of(path, release, architecture)
        return (hold(own), [own]) if own else (path, [])

    def _whole(self, release: Release, pin: Pin) -> Path:
        there = self.store.get(pin.algorithm, pin.digest)
        path = self.store.check(pin.algorithm, pin.digest)
        if path is None:
            fault = f"was damaged, and is kept in {self.store.root}/refused" if there else "is not in the store"
            raise BcmError(
                f"{pin.name} {fault}",
                remedy=f"type `bcm artifact fetch {release.stack}`, or run the playbook again",
                code="not_ready",
            )
        return path

    def _stored(self, release: Release, get: _Get, pin: Pin) -> Path:
        with self.store.lock(pin.digest, partial(self.notify, f"{pin.name}: another run fetches it")):
            return self.store.check(pin.algorithm, pin.digest) or self._fetch(release, get, pin)

    def _fetch(self, release: Release, get: _Get, pin: Pin) -> Path:
        started = time.monotonic()
        where = self.locate(release, pin.url)
        if "://" in where:
            file = self.store.partial(pin.digest)
            found = get(where, file, pin.algorithm)
            path = self.store.commit(file, pin.algorithm, pin.digest, pin.name, found)
        elif (source := Path(where).expanduser()).is_file():
            path = self.store.copy(source, pin.algorithm, pin.digest, pin.name)
        else:
            raise BcmError(where, "is not there: bcm_artifact_source names a folder without it", code="not_found")
        self.notify(f"{pin.name}: {path.stat().st_size / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")
        return path

    def locate(self, release: Release, url: str) -> str:
        """Return the source of an upstream file: an address or a path."""
        if self.source:
            return f"{self.source.rstrip('/')}/{_folder(release)}/{_local(release, url)}"
        if release.repository and release.repository.onion and self.downloader.proxy:
            return urlsplit(url)._replace(scheme="http", netloc=release.repository.onion).geturl()
        return url

    def small(self, release: Release, url: str) -> bytes:
        where = self.locate(release, url)
        if "://" in where:
            return self.downloader.small(where)
        try:
            return Path(where).expanduser().read_bytes()
        except OSError as error:
            raise BcmError(
                where, f"cannot be read: {error.strerror}; bcm_artifact_source names a folder", code="io_error"
            ) from error

    def accept(self, repository: Repository, promise: apt.Promise, fingerprints: Iterable[str]) -> None:
        """Remember the newest InRelease of a repository and its keys. Raises BcmError if there was a newer one."""
        what = " ".join([repository.url, repository.suite, *sorted(fingerprints)])
        name = hashlib.sha256(what.encode()).hexdigest()
        with self.store.lock(name):
            promise.check_order((self.store.read_record(name) or {}).get("date", ""))
            self.store.write_record(name, {"date": promise.date.isoformat()})

    def finder(self, release: Release, folder: Path) -> Keys:
        """Keys of a release's signers: those that came with it, and those of the other places."""
        places = [str(folder), *self.keys]
        if self.source:
            pattern = self.locate(release, "https://any/{fingerprint}.asc")
            places.append(pattern if "://" in pattern else str(Path(pattern).parent))
        return Keys(places, self.downloader.small, _mail(release))

    # -- verify -------------------------------------------------------------------------------------------------------

    def verify(self, release: Release, folder: Path) -> dict[str, Any]:
        """Verify a release in the store again, from digests to signatures, as of today. Raises BcmError."""
        record = self.recorded(release)
        if record is None:
            raise BcmError(
                f"{release.name} {release.version}", "is not in the store", "fetch it first", code="not_ready"
            )
        evidence = _Evidence(self, release, folder, record)
        if release.signed and release.signed.sums:
            evidence.check_sums(release.files.values())
        for package in evidence.offered():
            self._whole(release, package.pin)
        for architecture, pin in release.files.items():
            path = self.path(release, architecture)
            if release.signed and not release.signed.sums:
                evidence.check_file(pin, path)
            if release.kind == "oci":
                path, own = self._image(release, architecture, partial(self._whole, release))
                parts = [*own, *oci.parts(path, release, architecture)]
                evidence.blobs += [self._whole(release, part).name for part in parts]
        # The archive's members were checked when it was downloaded, and its digest is unchanged.
        return evidence.record()

    def published(self, release: Release, folder: Path) -> tuple[dict[str, Pin], str]:
        """The files of a release as its signers signed them, whatever its own digests are; and its signers, in a line.

        Raises BcmError if that cannot be verified.
        """
        signed = release.signed
        if signed is None or release.kind not in FETCHED:
            raise BcmError(
                f"{release.name} ({release.source})",
                "is not signed: its pins cannot be verified here",
                code="not_verified",
            )
        if release.repository:
            raise BcmError(
                f"{release.name} ({release.source})",
                "has no pins, the newest is taken",
                f"to have another version, set bcm_artifacts.{release.stack}.version",
                code="invalid_value",
            )
        if signed.commit:
            raise BcmError(
                f"{release.name} ({release.source})",
                f"is signed as commit {signed.commit} of git, from which no digest of a file follows",
                f"compare its sha256 with that of `git archive --prefix={release.name}-{signed.commit}/ {signed.commit}"
                " | gzip -cn`",
                code="not_verified",
            )
        evidence = _Evidence(self, release, folder)
        pins = dict(release.files)
        if signed.sums:
            listed = evidence.listed()
            for architecture, pin in pins.items():
                pins[architecture] = pin = replace(pin, digest=listed.get(pin.name, ""))
                if len(pin.digest) != 2 * hashlib.new(pin.algorithm).digest_size:
                    raise BcmError(
                        signed.sums,
                        f"lists no {pin.algorithm} of {pin.name}: it is of another release",
                        code="not_verified",
                    )
        else:
            with tempfile.TemporaryDirectory() as place:
                for architecture, pin in pins.items():
                    path = Path(place) / pin.name
                    found = self.downloader.large(self.locate(release, pin.url), path, pin.algorithm)
                    evidence.check_file(pin, path)
                    archive.check(path)
                    pins[architecture] = replace(pin, digest=found)
        return pins, evidence.record()["explained"]

    # -- carrying -----------------------------------------------------------------------------------------------------

    def export(self, releases: Iterable[tuple[Release, Path]], directory: Path) -> list[str]:
        """Copy what was verified to a folder that can be another machine's ``source``. Names of what was written."""
        written = []
        for release, folder in releases:
            if release.kind not in FETCHED:
                continue
            record = self.verify(release, folder)
            place = directory / _folder(release)
            files = _files(release, record)
            files |= {name: ("sha256", digest) for name, digest in record["evidence"].items()}
            try:
                for name, (algorithm, digest) in files.items():
                    kept = self.store.get(algorithm, digest)
                    if kept is not None:
                        target = place / name
                        target.parent.mkdir(parents=True, exist_ok=True)
                        part = target.with_name(f".{target.name}.part")
                        shutil.copyfile(kept, part)
                        part.rename(target)
                        written.append(str(target.relative_to(directory)))
            except OSError as error:
                raise BcmError(f"Failed to write to {place}:", error.strerror, code="io_error", about=place) from error
        return written

    # -- list, prune --------------------------------------------------------------------------------------------------

    def prune(self, keep: Iterable[Release], older_than: float) -> tuple[int, list[str]]:
        """Remove what no release of ``keep`` needs and was not used for ``older_than`` days: bytes, names."""
        wanted: set[tuple[str, str]] = set()
        for release in keep:
            record = self.store.read_record(identity(release)) or {"evidence": {}}
            wanted |= set(_files(release, record).values())
            wanted |= {("sha256", digest) for digest in record["evidence"].values()}
        freed, gone = self.store.prune(wanted, older_than)
        return freed, [f"{path.parent.name}/{path.name}" for path in gone]


@dataclass
class _Evidence:
    """Sums, signatures and keys of one release, from upstream or, with a record, from the store; and what they say."""

    artifacts: Artifacts
    release: Release
    folder: Path
    kept: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    found: dict[str, str] = field(default_factory=dict)  # name -> SHA-256 of the content
    blobs: list[str] = field(default_factory=list)  # SHA-256 of what an image is made of
    chosen: dict[str, Any] = field(default_factory=dict)  # of a repository: what its record says beyond the others'

    @property
    def _signed(self) -> Signing:
        if self.release.signed is None:
            raise SignatureError(
                f"{self.release.name} {self.release.version}", "is not signed"
            )
        return self.release.signed

    def _listing(self) -> bytes:
        listing = self._get(self._signed.sums or "")
        self._verify(listing, self._signatures(""))
        return listing

    def listed(self) -> dict[str, str]:
        """Name -> digest, as enough of the signers signed it."""
        return sums.parse(self._listing(), self._signed.sums or "")

    def check_sums(self, pins: Iterable[Pin]) -> None:
        """Check that enough of the signers signed the digests of files, or the commit that they are the sources of."""
        if self._signed.commit:
            sums.check_commit(self._listing(), self._signed.commit, self._signed.sums or "")
            return
        listed = self.listed()
        for pin in pins:
            sums.lookup(listed, pin, self._signed.sums or "")

    def check_file(self, pin: Pin, path: Path) -> None:
        self._verify(path, self._signatures(pin.name))

    def offered(self) -> list[apt.Package]:
        """The newest package of a repository for each architecture, as one of its signers lists it."""
        release, repository = self.release, self.release.repository
        if repository is None:
            return []
        where = repository.inrelease
        text, signature = apt.cleartext(self._get(where), where)
        self._verify(text, [signature])
        promise = apt.promise(text, repository.suite, where)
        if not self.kept:  # when it came, what is in the store was of its day
            promise.check_time(datetime.now(UTC))
            self.artifacts.accept(repository, promise, self._signed.signers.values())
        found = []
        for architecture in repository.architectures:
            name = promise.index(architecture)
            listed = f"{repository.url}/dists/{repository.suite}/{name}"
            found.append(apt.newest(promise.unpacked(name, self._get(listed)), release, listed))
        self.chosen = {
            "version": found[0].version,
            "files": {_local(release, package.pin.url): package.pin.digest for package in found},
            "until": promise.until and promise.until.isoformat(),
        }
        return found

    def record(self) -> dict[str, Any]:
        release = self.release
        return {
            "stack": release.stack,
            "name": release.name,
            "version": release.version,
            "files": {pin.name: pin.digest for pin in release.files.values()},
            "blobs": self.blobs,
            "evidence": self.found,
            "signers": list(self.verdict.counted) if self.verdict else [],
            "explained": self.verdict.explain() if self.verdict else "not signed; its digest is pinned",
            **self.chosen,
        }

    def _verify(self, data: bytes | Path, blobs: Sequence[bytes]) -> None:
        signed = self._signed
        keys = self.artifacts.finder(self.release, self.folder)

        def find(fingerprint: str) -> bytes | None:
            kept = self._stored_evidence(f"{fingerprint}.asc")
            key = keys.find(fingerprint) or kept
            if key is not None:
                self.found[f"{fingerprint}.asc"] = self.artifacts.store.put(key)
            return key

        self.verdict = verify(data, blobs, signed.signers, find, signed.threshold)
        if not self.verdict.enough:
            why = "; ".join([self.verdict.explain(), *keys.failures])
            raise SignatureError(
                f"{self.release.name} {self.release.version}", f"is refused, too few of its signers signed it: {why}"
            )

    def _signatures(self, name: str) -> list[bytes]:
        blobs, failures = [], []
        for url in self._signed.signatures:
            try:
                blobs.append(self._get(url.replace("{file}", name)))
            except BcmError as error:
                failures.append(str(error))
        if not blobs:
            raise BcmError(
                f"{self.release.name} {self.release.version}:",
                f"no signatures: {'; '.join(failures)}",
                code="not_verified",
            )
        return blobs

    def _get(self, url: str) -> bytes:
        name = _local(self.release, url)
        data = self._stored_evidence(name)
        if data is None:
            data = self.artifacts.small(self.release, url)
        self.found[name] = self.artifacts.store.put(data)
        return data

    def _stored_evidence(self, name: str) -> bytes | None:
        digest = self.kept.get("evidence", {}).get(name)
        path = self.artifacts.store.check("sha256", digest) if digest else None
        return path.read_bytes() if path else None


def _files(release: Release, record: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name -> algorithm and digest of the files of a release, and the blobs that its record knows."""
    files = {pin.name: (pin.algorithm, pin.digest) for pin in release.files.values()}
    if release.repository:
        files = {name: ("sha256", digest) for name, digest in record.get("files", {}).items()}
    return files | {digest: ("sha256", digest) for digest in record.get("blobs", [])}


def identity(release: Release) -> str:
    """What a verification is valid for: the pins and the required signers. SHA-256 in hex."""
    return hashlib.sha256(json.dumps(release.plain(), sort_keys=True).encode()).hexdigest()


def _folder(release: Release) -> str:
    """Where the files of a release lie in a ``source``."""
    return release.stack if release.repository else f"{release.stack}/{release.version}"


def _local(release: Release, url: str) -> str:
    """What a file is called beside the others of its release: signers may call their signatures the same."""
    if release.repository and url.startswith(f"{release.repository.url}/"):
        return url.removeprefix(f"{release.repository.url}/")
    signatures = release.signed.signatures if release.signed else ()
    each = {other.replace("{file}", pin.name) for other in signatures for pin in release.files.values()}
    same = [other for other in each if basename(other) == basename(url)]
    return "-".join(url.split("/")[-2:]) if len(same) > 1 else basename(url)


def _counts(until: str | None) -> bool:
    """Whether what led to a package is still of today; pins are for ever."""
    return until is None or datetime.now(UTC) <= read_moment(until)


def _mail(release: Release) -> dict[str, str]:
    signed = release.signed
    return {signed.signers[name]: mail for name, mail in signed.wkd.items()} if signed else {}
