# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts as a catalogue declares them: what is pinned, and who must have signed it. docs/stacks.md has the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from .._base.errors import BcmError
from .._base.fields import Field
from .._base.read import is_integer

#: kind -> its fields, beside those of every kind: required ones, optional ones
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "archive": (("version", "files"), ("signed",)),  # a release of the authors, unpacked
    "deb": ((), ("version", "suite")),  # a package of Debian, which the archive's own keyring vouches for
    "apt": (("repository", "signers"), ("version",)),  # the newest package of another signed repository
    "crate": (("version", "sha256"), ()),  # cargo checks all that a crate needs against the crate's own lock file
    "npm": (("version", "lock"), ()),  # package-lock.json with integrity
    "wheels": (("version", "lock"), ()),  # requirements.txt with hashes
    "oci": (("version", "files"), ()),  # an image of a registry: its manifest has the digests of all that it is made of
}
ARCHITECTURES = ("x86_64", "aarch64")
#: what Debian calls them
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}

_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_SUITE = re.compile(r"\w[\w.-]*", re.ASCII)
_ONION = re.compile(r"[a-z2-7]{56}\.onion")
_URL = re.compile(r"https?://[!-.0-~]+/[!-~]*[!-.0-~]")
_PATH = re.compile(r"files/(?!.*\.\.)\w[\w./-]*", re.ASCII)  # the image is named by what is there


@dataclass(frozen=True)
class Pin:
    """One file: where upstream has it, and its digest in lower-case hex."""

    url: str
    algorithm: str
    digest: str

    @property
    def name(self) -> str:
        return basename(self.url)


@dataclass(frozen=True)
class Signing:
    """Who signs a release: OpenPGP fingerprints in upper-case hex, of which ``threshold`` must have signed.

    Signatures are over the file at ``sums`` which lists digests; without it, over each file itself.
    """

    sums: str | None
    signatures: tuple[str, ...]
    signers: Mapping[str, str]
    threshold: int
    wkd: Mapping[str, str] = field(default_factory=dict)  # signer -> mail address whose domain publishes the key


@dataclass(frozen=True)
class Repository:
    """An apt repository, and what of it may be taken: the newest version of a package that its floor lets through."""

    url: str
    suite: str
    onion: str | None = None  # host that has the same, for who comes through Tor
    floor: tuple[str, ...] = ()  # as in stack.yml; empty if all versions may be taken
    architectures: tuple[str, ...] = ARCHITECTURES

    @property
    def inrelease(self) -> str:
        return f"{self.url}/dists/{self.suite}/InRelease"


@dataclass(frozen=True)
class Release:
    """A release of one source of a stack: pinned, or of `repository`, the newest that is there."""

    stack: str
    source: str
    kind: str
    name: str
    licence: str
    version: str | None = None
    files: Mapping[str, Pin] = field(default_factory=dict)  # architecture -> file
    signed: Signing | None = None
    sha256: str | None = None  # of a crate
    lock: str | None = None  # of npm and wheels: a path in the role; `locks` looks what is in it
    repository: Repository | None = None  # of apt
    suite: str | None = None  # of deb: that of the base image if None

    @property
    def architectures(self) -> tuple[str, ...]:
        """Those that there are files for, which the controller fetches."""
        return self.repository.architectures if self.repository else tuple(self.files)

    @property
    def first(self) -> str:
        """The address of what is there if anything is; of a repository, a folder."""
        if self.repository:
            return f"{self.repository.url}/dists/{self.repository.suite}/main/binary-{DEBIAN[self.architectures[0]]}"
        return next(iter(self.files.values())).url

    @property
    def package(self) -> str:
        """What apt-get is asked to install, if the kind is deb."""
        return "/".join(filter(None, (self.name, self.suite)))

    @property
    def leads(self) -> str | None:
        """The address of what leads to its files, and is asked for first; None if a package manager knows it alone."""
        if self.repository:
            return self.repository.inrelease
        if self.signed and self.signed.sums:
            return self.signed.sums
        return next((pin.url for pin in self.files.values()), None)

    def only(self, architecture: str) -> Release:
        """The same for one architecture of a kernel. Raises BcmError if there is none."""
        if self.repository:
            self._check(architecture)
            return replace(self, repository=replace(self.repository, architectures=(architecture,)))
        return replace(self, files={architecture: self.file(architecture)}) if self.files else self

    def _check(self, architecture: str) -> None:
        if architecture not in self.architectures:
            called = " ".join(filter(None, (self.name, self.version)))
            raise BcmError(
                f"{called} is not made for {architecture}, only for {', '.join(self.architectures)}: "
                f"use another machine, or another source of {self.stack}"
            )

    def file(self, architecture: str) -> Pin:
        """The file for a kernel's architecture. Raises BcmError."""
        self._check(architecture)
        return self.files[architecture]

    def pins(self, architecture: str) -> dict[str, Any]:
        """What decides what is installed, and on whose word: part of an image's name."""
        digest = self.file(architecture).digest if self.files else self.sha256
        signers = self.signed and [self.signed.threshold, *sorted(self.signed.signers.values())]
        pins = {"kind": self.kind, "name": self.name, "version": self.version, "digest": digest, "signers": signers}
        if self.repository:
            pins |= {"suite": self.repository.suite, "floor": list(self.repository.floor)}
        if self.suite:
            pins["suite"] = self.suite
        return pins

    def plain(self) -> dict[str, Any]:
        """Of plain types; `from_plain` reads it."""
        values = asdict(self)
        return {**values, "signed": self.signed and {**values["signed"], "signatures": list(self.signed.signatures)}}


def from_plain(values: Mapping[str, Any]) -> Release:
    signed, repository = values["signed"], values["repository"]
    return Release(
        **{
            **values,
            "files": {key: Pin(**pin) for key, pin in values["files"].items()},
            "signed": signed and Signing(**{**signed, "signatures": tuple(signed["signatures"])}),
            "repository": repository
            and Repository(**{**repository, **{key: tuple(repository[key]) for key in ("floor", "architectures")}}),
        }
    )


def basename(url: str) -> str:
    # a registry knows a file by its digest
    return urlsplit(url).path.rpartition("/")[2].removeprefix("sha256:")


def release(declared: Field, stack: str, source: str) -> Release:
    """The release that a source in a stack.yml declares. Raises CatalogueError, which names the field."""
    kind = declared.entries().get("kind", declared.sub("kind", None)).choice(KINDS)
    required, optional = KINDS[kind]
    fields = declared.mapping(("kind", "name", "licence", *required), optional)
    version = fields["version"].version() if "version" in fields else None
    signed = _signing(fields["signed"], version or "") if "signed" in fields else None
    if "signers" in fields:
        signers, wkd = _signers(fields["signers"])
        signed = Signing(None, (), signers, 1, wkd)
    return Release(
        stack=stack,
        source=source,
        kind=kind,
        name=fields["name"].text(),
        licence=fields["licence"].text(),
        version=version,
        files=_files(fields["files"], version or "", kind) if "files" in fields else {},
        signed=signed,
        sha256=_digest(fields["sha256"], "sha256") if "sha256" in fields else None,
        lock=fields["lock"].match(_PATH, "write a path in the role, such as files/package-lock.json")
        if "lock" in fields
        else None,
        repository=_repository(fields["repository"]) if "repository" in fields else None,
        suite=_suite(fields["suite"]) if "suite" in fields else None,
    )


def _repository(declared: Field) -> Repository:
    parts = declared.mapping(("url", "suite"), ("onion",))
    onion = ""
    if "onion" in parts:
        onion = parts["onion"].match(_ONION, "write the host of an onion service of version 3")
    return Repository(_url(parts["url"], ""), _suite(parts["suite"]), onion or None)


def _suite(declared: Field) -> str:
    return declared.match(_SUITE, "write the name of a suite, such as trixie")


def _files(declared: Field, version: str, kind: str) -> dict[str, Pin]:
    files = declared.mapping(optional=ARCHITECTURES)
    if not files:
        declared.wrong("is empty", f"name a file for one of {', '.join(ARCHITECTURES)}")
    return {architecture: _pin(entry, version, kind) for architecture, entry in files.items()}


def _pin(declared: Field, version: str, kind: str) -> Pin:
    known = ("sha256",) if kind == "oci" else tuple(_DIGESTS)
    parts = declared.mapping(("url",), known)
    given = [algorithm for algorithm in known if algorithm in parts]
    if len(given) != 1:
        declared.wrong("needs one digest", f"add {' or '.join(known)}")
    pin = Pin(_url(parts["url"], version), given[0], _digest(parts[given[0]], given[0]))
    if kind != "oci":
        return pin
    repository, _unused, tag = pin.url.rpartition("/manifests/")
    if not tag or "/v2/" not in repository:
        parts["url"].wrong("is no manifest's", "write https://REGISTRY/v2/NAME/manifests/{version}")
    # A tag may lead to something else tomorrow; the digest leads to this or to nothing.
    return replace(pin, url=f"{repository}/manifests/sha256:{pin.digest}")


def _signing(declared: Field, version: str) -> Signing:
    parts = declared.mapping(("signatures", "signers", "threshold"), ("sums",))
    signers, wkd = _signers(parts["signers"])
    threshold = parts["threshold"]
    if not is_integer(threshold.value) or threshold.value not in range(1, len(signers) + 1):
        threshold.wrong(f"is {threshold.shown}", f"write how many of the {len(signers)} signers must have signed")
    pattern = _url(parts["signatures"], version)
    each = [pattern.replace("{signer}", name) for name in signers]
    return Signing(
        sums=_url(parts["sums"], version) if "sums" in parts else None,
        signatures=tuple(dict.fromkeys(each)),
        signers=signers,
        threshold=threshold.value,
        wkd=wkd,
    )


def _signers(declared: Field) -> tuple[dict[str, str], dict[str, str]]:
    """Name -> fingerprint, and name -> mail address of those that say one."""
    signers, wkd = {}, {}
    for name, entry in declared.entries().items():
        if isinstance(entry.value, dict):
            both = entry.mapping(("fingerprint", "wkd"))
            entry, wkd[name] = both["fingerprint"], both["wkd"].text()
        signers[name] = entry.match(_FINGERPRINT, "write a whole OpenPGP fingerprint, in capitals without spaces")
    if not signers:
        declared.wrong("is empty", "name who signs, and the fingerprint of the key")
    if len(set(signers.values())) != len(signers):
        declared.wrong("has one fingerprint under two names", "name each key once")
    return signers, wkd


def _url(declared: Field, version: str) -> str:
    return declared.match(_URL, "write a URL, such as https://example.org/x-{version}.tar.gz").replace(
        "{version}", version
    )


def _digest(declared: Field, algorithm: str) -> str:
    return declared.match(_DIGESTS[algorithm], f"write {algorithm.upper()} in lower-case hex digits")
