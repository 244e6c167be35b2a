# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts as declared in a catalogue: pins, and required signers. See docs/stacks.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from .._base.errors import BcmError
from .._base.fields import ROLE_FILE, Field
from .._base.schema import VERSION, Choice, Either, Key, Kinds, ListOf, MapOf, Number, Record, Text

ARCHITECTURES = ("x86_64", "aarch64")
#: what Debian calls them
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}

_DIGESTS = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}


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
    """The signers of a release: OpenPGP fingerprints in upper-case hex, of which ``threshold`` must have signed.

    Signatures are over the file at ``sums``, which lists digests, or names ``commit``; without it, over each file.
    """

    sums: str | None
    signatures: tuple[str, ...]
    signers: Mapping[str, str]
    threshold: int
    wkd: Mapping[str, str] = field(default_factory=dict)  # signer -> mail address whose domain publishes the key
    commit: str | None = None  # of git, in lower-case hex: what the files are the sources of


@dataclass(frozen=True)
class Repository:
    """An apt repository, and what of it may be taken: the newest version of a package that its floor lets through."""

    url: str
    suite: str
    onion: str | None = None  # onion service with the same files, for downloads through Tor
    floor: tuple[str, ...] = ()  # as in stack.yml; empty if all versions may be taken
    architectures: tuple[str, ...] = ARCHITECTURES

    @property
    def inrelease(self) -> str:
        return f"{self.url}/dists/{self.suite}/InRelease"


@dataclass(frozen=True)
class GoModule:
    """What pins a Go module, and which of its commands are built how."""

    sum: str  # of the module's files, as go.sum has it: h1: and Base64
    packages: tuple[str, ...]  # of commands, as ./cmd/lnd
    tags: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()  # that the linker sets, as IMPORTPATH.NAME=VALUE


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
    lock: str | None = None  # of maven, npm and wheels: a path in the role; `lockfiles` looks what is in it
    repository: Repository | None = None  # of apt
    suite: str | None = None  # of deb: that of the base image if None; of go: that of the compiler
    go: GoModule | None = None

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
                called,
                f"is not made for {architecture}, only for {', '.join(self.architectures)}",
                f"use another machine, or another source of {self.stack}",
                code="unsupported",
            )

    def file(self, architecture: str) -> Pin:
        """The file for a kernel's architecture. Raises BcmError."""
        self._check(architecture)
        return self.files[architecture]

    def pins(self, architecture: str) -> dict[str, Any]:
        """Return everything that decides what is installed, and its signers: part of an image's name."""
        digest = self.file(architecture).digest if self.files else self.sha256 or (self.go and self.go.sum)
        signers = self.signed and [self.signed.threshold, *sorted(self.signed.signers.values())]
        pins: dict[str, Any] = {
            **{key: getattr(self, key) for key in ("kind", "name", "version")}, "digest": digest, "signers": signers
        }  # fmt: skip
        if self.repository:
            pins |= {"suite": self.repository.suite, "floor": list(self.repository.floor)}
        if self.suite:
            pins["suite"] = self.suite
        if self.go:
            pins["go"] = asdict(self.go)
        return pins

    def plain(self) -> dict[str, Any]:
        """Of plain types; `from_plain` reads it."""
        values = asdict(self)
        if self.signed:
            values["signed"]["signatures"] = list(self.signed.signatures)
            if self.signed.commit is None:
                # as before there were any: what was verified then stays valid
                del values["signed"]["commit"]
        return values


def from_plain(values: Mapping[str, Any]) -> Release:
    signed, repository, go = (values.get(key) for key in ("signed", "repository", "go"))
    return Release(
        **{
            **values,
            "files": {key: Pin(**pin) for key, pin in values["files"].items()},
            "signed": signed and Signing(**{**signed, "signatures": tuple(signed["signatures"])}),
            "repository": repository
            and Repository(**{**repository, **{key: tuple(repository[key]) for key in ("floor", "architectures")}}),
            "go": go and GoModule(**{**go, **{key: tuple(go[key]) for key in ("packages", "tags", "variables")}}),
        }
    )


def basename(url: str) -> str:
    # a registry knows a file by its digest
    return urlsplit(url).path.rpartition("/")[2].removeprefix("sha256:")


# -- the table of sources ----------------------------------------------------------------------------------------------

_TEXT = Text()
_URL = Text(
    re.compile(r"https?://[!-.0-~]+/[!-~]*[!-.0-~]"), "write a URL, such as https://example.org/x-{version}.tar.gz"
)
_SUITE = Text(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), "write the name of a suite, such as trixie")
_ONION = Text(re.compile(r"[a-z2-7]{56}\.onion"), "write the host of an onion service of version 3")
_LOCK = Text(ROLE_FILE, "write a path in the role, such as files/package-lock.json")
_FINGERPRINT = Text(
    re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}"), "write a whole OpenPGP fingerprint, in capitals without spaces"
)
_COMMIT = Text(re.compile(r"[0-9a-f]{40}"), "write the whole id of a commit, in lower-case hex digits")
_DIGEST_TEXTS = {
    algorithm: Text(pattern, f"write {algorithm.upper()} in lower-case hex digits")
    for algorithm, pattern in _DIGESTS.items()
}


def _signers(field: Field, values: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Name -> fingerprint, and name -> mail address of those that say one."""
    both = {name: entry for name, entry in values.items() if isinstance(entry, dict)}
    signers = {name: entry["fingerprint"] if name in both else entry for name, entry in values.items()}
    if len(set(signers.values())) != len(signers):
        field.wrong("has one fingerprint under two names", "name each key once")
    return signers, {name: entry["wkd"] for name, entry in both.items()}


_SIGNERS = MapOf(
    Either(
        _FINGERPRINT,
        Record(
            {
                "fingerprint": Key(_FINGERPRINT, "The OpenPGP fingerprint of the signer's key.", required=True),
                "wkd": Key(_TEXT, "A mail address whose domain publishes the key.", required=True),
            }
        ),
    ),
    least=1,
    empty=("is empty", "name a signer, and the fingerprint of its key"),
    build=_signers,
)


def _signing(field: Field, values: dict[str, Any]) -> Signing:
    signers, wkd = values["signers"]
    if values["threshold"] > len(signers):
        field.sub("threshold", values["threshold"]).wrong(
            f"is {values['threshold']}", f"write how many of the {len(signers)} signers must have signed"
        )
    if "commit" in values and "sums" not in values:
        field.sub("commit", values["commit"]).wrong("is named by nothing that is signed", "add sums, the file with it")
    each = [values["signatures"].replace("{signer}", name) for name in signers]
    signatures = tuple(dict.fromkeys(each))
    return Signing(values.get("sums"), signatures, signers, values["threshold"], wkd, values.get("commit"))


_SIGNED = Record(
    {
        "signatures": Key(_URL, "One file with many signatures, or one for each signer (`{signer}`).", required=True),
        "signers": Key(
            _SIGNERS, "Name and OpenPGP fingerprint. The keys lie in `meta/keys` of the role.", required=True
        ),
        "threshold": Key(
            Number(1, 1000, "how many of the signers must have signed,"), "How many must have signed.", required=True
        ),
        "sums": Key(_URL, "A file with the digests, which is what is signed; without it, each file is (`{file}`)."),
        "commit": Key(_COMMIT, "The commit of git that `sums` names in the place of digests, for sources of a tag."),
    },
    _signing,
)


def _pin(field: Field, values: dict[str, Any]) -> Pin:
    given = [algorithm for algorithm in _DIGESTS if algorithm in values]
    if len(given) != 1:
        field.wrong("needs one digest", "add sha256 or sha512")
    return Pin(values["url"], given[0], values[given[0]])


def _manifest(field: Field, values: dict[str, Any]) -> Pin:
    if "sha256" not in values:
        field.wrong("needs one digest", "add sha256")
    repository, _unused, tag = values["url"].rpartition("/manifests/")
    if not tag or "/v2/" not in repository:
        field.sub("url", values["url"]).wrong("is not a manifest's", "write https://REGISTRY/v2/NAME/manifests/{version}")
    # A tag can change; a digest cannot.
    return Pin(f"{repository}/manifests/sha256:{values['sha256']}", "sha256", values["sha256"])


def _files(pin: Record) -> Key:
    def build(field: Field, values: dict[str, Any]) -> dict[str, Pin]:
        if not values:
            field.wrong("is empty", f"name a file for one of {', '.join(ARCHITECTURES)}")
        return values

    keys = {architecture: Key(pin, "The file for this architecture of the kernel.") for architecture in ARCHITECTURES}
    return Key(Record(keys, build, {"minProperties": 1}), "A file for each architecture of the kernel.", required=True)


_FILE_URL = Key(_URL, "Where it is; `{version}` stands for the version.", required=True)
_ONE_DIGEST = {"oneOf": [{"required": [algorithm]} for algorithm in _DIGESTS]}
_FILES = _files(
    Record(
        {
            "url": _FILE_URL,
            **{key: Key(text, f"Its {key.upper()}; one digest is needed.") for key, text in _DIGEST_TEXTS.items()},
        },
        _pin,
        _ONE_DIGEST,
    )
)
_MANIFESTS = _files(
    Record(
        {"url": _FILE_URL, "sha256": Key(_DIGEST_TEXTS["sha256"], "Its SHA256.")},
        _manifest,
        {"required": ["url", "sha256"]},
    )
)
_REPOSITORY = Record(
    {
        "url": Key(_URL, "The address of the repository.", required=True),
        "suite": Key(_SUITE, "The suite.", required=True),
        "onion": Key(_ONION, "An onion service that has the same, for clients that come through Tor."),
    },
    lambda _field, values: Repository(**values),
)


def _release(_field: Field, values: dict[str, Any]) -> Release:
    """The release that a source declares, without the names of its stack and of itself."""
    version = values.get("version") or ""
    signed = values.get("signed")
    if "signers" in values:  # of a repository
        signers, wkd = values.pop("signers")
        signed = Signing(None, (), signers, 1, wkd)

    commit = signed.commit if signed else None

    def complete(url: str) -> str:
        return url.replace("{version}", version).replace("{commit}", commit or "{commit}")

    if signed:
        signatures = tuple(map(complete, signed.signatures))
        signed = replace(signed, sums=signed.sums and complete(signed.sums), signatures=signatures)
    files = {key: replace(pin, url=complete(pin.url)) for key, pin in values.get("files", {}).items()}
    return Release("", "", **{**values, "files": files, "signed": signed})


def _go_release(field: Field, values: dict[str, Any]) -> Release:
    names = ("sum", "packages", "tags", "variables")
    module = GoModule(**{name: values.pop(name) for name in names if name in values})
    variables = tuple(text.replace("{version}", values["version"]) for text in module.variables)
    found = _release(field, {**values, "suite": _GO_SUITE})
    return replace(found, go=replace(module, variables=variables))


def _source(kind: str, build: Callable[[Field, dict[str, Any]], Release] = _release, **more: Key) -> Record:
    common = {
        "kind": Key(Choice((kind,)), "What it is.", required=True),
        "name": Key(_TEXT, "What its authors, or its packagers, call it.", required=True),
        "licence": Key(_TEXT, "Its licence, as SPDX writes it.", required=True),
    }
    return Record({**common, **more}, build)


_VERSION = Key(VERSION, "The version.", required=True)
_ANY_VERSION = Key(VERSION, "The version; if it is left out, the newest that the floor lets through.")
_LOCK_FILE = Key(_LOCK, "The lock file, below `files/` of the role.", required=True)

# Debian 13 itself has a Go that is too old for many modules; `install_go` of the role _common names the package.
_GO_SUITE = "trixie-backports"
_GO_MODULE = Text(
    re.compile(r"[a-z0-9.-]+\.[a-z]+(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*"),
    "write the path of a module, such as github.com/lightningnetwork/lnd",
)
_GO_SUM = Text(
    re.compile(r"h1:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="), "write h1: and 32 bytes in Base64, as go.sum has it"
)
_GO_PACKAGE = Text(
    re.compile(r"\.(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"), "write a folder of the module, such as ./cmd/lnd"
)
_GO_TAG = Text(re.compile(r"[A-Za-z0-9_.]+"), "write a build tag, in letters, digits, dots and underscores")
_GO_VARIABLE = Text(
    re.compile(r"[A-Za-z0-9._~/-]+\.[A-Za-z_][A-Za-z0-9_]*=[!#-&(-~]+"),
    "write IMPORTPATH.NAME=VALUE, without spaces and quotes",
)

_JAR = Text(
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*"),
    "write GROUP:ARTIFACT, such as org.apache.kafka:kafka-clients",
)

#: the sources of artifacts in a stack.yml, by kind
SOURCE = Kinds(
    {
        # a release of the authors, unpacked
        "archive": _source("archive", version=_VERSION, files=_FILES, signed=Key(_SIGNED, "The required signatures.")),
        # a package of Debian, which the archive's own keyring vouches for
        "deb": _source(
            "deb", version=_ANY_VERSION, suite=Key(_SUITE, "The suite; that of the base image if left out.")
        ),
        # the newest package of another signed repository
        "apt": _source(
            "apt",
            repository=Key(_REPOSITORY, "The repository.", required=True),
            signers=Key(_SIGNERS, "Keys of which one must have signed the repository's lists.", required=True),
            version=_ANY_VERSION,
        ),
        # cargo checks all that a crate needs against the crate's own lock file
        "crate": _source(
            "crate", version=_VERSION, sha256=Key(_DIGEST_TEXTS["sha256"], "The SHA256 of the crate.", required=True)
        ),
        # go checks all that a module needs against the module's own go.sum
        "go": _source(
            "go",
            _go_release,
            name=Key(_GO_MODULE, "The path of the module.", required=True),
            version=Key(VERSION, "The version, without the v that Go puts before it.", required=True),
            sum=Key(_GO_SUM, "The sum of the Go module, as go.sum has it.", required=True),
            packages=Key(ListOf(_GO_PACKAGE, least=1), "The commands to build, as folders of it.", required=True),
            tags=Key(ListOf(_GO_TAG), "Build tags."),
            variables=Key(
                ListOf(_GO_VARIABLE),
                "Variables that the linker sets, as IMPORTPATH.NAME=VALUE; `{version}` stands for the version.",
            ),
        ),
        # jars.txt with the digest of each jar
        "maven": _source(
            "maven",
            name=Key(_JAR, "GROUP:ARTIFACT of the jar that gives the version.", required=True),
            version=_VERSION,
            lock=_LOCK_FILE,
        ),
        "npm": _source("npm", version=_VERSION, lock=_LOCK_FILE),  # package-lock.json with integrity
        "wheels": _source("wheels", version=_VERSION, lock=_LOCK_FILE),  # requirements.txt with hashes
        # an image of a registry: its manifest has the digests of all that it is made of
        "oci": _source("oci", version=_VERSION, files=_MANIFESTS),
    }
)


def release(declared: Field, stack: str, source: str) -> Release:
    """The release that a source in a stack.yml declares. Raises CatalogueError, which names the field."""
    found: Release = SOURCE.read(declared)
    return replace(found, stack=stack, source=source)
