# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of registries (OCI, and Docker's second schema): manifest and blobs by digest, and the resulting file tree."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

from .._base.errors import BcmError
from .._base.read import read_object
from . import archive
from .archive import Member
from .declaration import Pin, Release
from .download import Downloader, DownloadError

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_OCI = "application/vnd.oci.image.manifest.v1+json"
_MANIFESTS = (_OCI, "application/vnd.docker.distribution.manifest.v2+json")
_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
#: the kernel's name of an architecture -> that of images
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER = re.compile(r'(?<!\w)(\w+)="([^"]*)"')
_WHITEOUT, _AUFS, _OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"
_LINKS = 40
_MOST_LAYERS = 127


@dataclass
class Registry:
    """Downloads from one repository of a registry, with the token that it may give to any client."""

    downloader: Downloader
    _token: str = ""

    def large(self, url: str, partial: Path, algorithm: str) -> str:
        """As `Downloader.large`."""
        tried = False
        while True:
            headers = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES, "*/*"))}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            try:
                return self.downloader.large(url, partial, algorithm, headers=headers)
            except DownloadError as error:
                if tried or not error.challenge.lower().startswith("bearer "):
                    raise
                tried = True
                self._token = self._asked(url, dict(_PARAMETER.findall(error.challenge)))

    def _asked(self, url: str, challenge: dict[str, str]) -> str:
        realm = challenge.pop("realm", "")
        if realm.partition("://")[0] not in {"https", url.partition("://")[0]}:
            raise DownloadError(
                url,
                f"wants a token of {realm or 'an unnamed server'}, which is not encrypted",
                "take another registry",
                code="not_verified",
            )
        given = _object(
            self.downloader.small(f"{realm}{'&' if '?' in realm else '?'}{urlencode(challenge)}"),
            f"The token of {realm}",
        )
        return str(given.get("token") or given.get("access_token") or "")


def manifest_of(index: Path, release: Release, architecture: str) -> Pin | None:
    """The manifest for an architecture that an index names by digest; None if this is a manifest itself.

    Raises BcmError.
    """
    name = _name(release)
    found = _object(index, f"The manifest of {name}")
    if found.get("mediaType") not in _INDEXES and "manifests" not in found:
        return None
    there = {_platform(item): str(item.get("digest")) for item in _objects(found, "manifests", name)}
    own = there.get(_ARCHITECTURES[architecture], "")
    if not _DIGEST.fullmatch(own):
        raise BcmError(
            name,
            f"is an index of images without one for {architecture}",
            "pin another one for that architecture",
            code="unsupported",
        )
    repository = _repository(release, architecture)
    return Pin(f"{repository}/manifests/{own}", *own.split(":"))


def _repository(release: Release, architecture: str) -> str:
    """The URL below which a registry has the manifests and the blobs of an image."""
    return release.file(architecture).url.rpartition("/manifests/")[0]


def parts(manifest: Path, release: Release, architecture: str) -> list[Pin]:
    """What an image is made of: its configuration, and its layers from the lowest up. Raises BcmError."""
    name = _name(release)
    found = _object(manifest, f"The manifest of {name}")
    kind = found.get("mediaType", _OCI)  # which OCI lets a manifest leave out
    if kind not in _MANIFESTS or not isinstance(found.get("config"), dict):
        raise BcmError(
            name,
            f"has no manifest of an image, but {kind}",
            "pin one of OCI, or of Docker's schema 2",
            code="invalid_value",
        )
    layers = _objects(found, "layers", name)
    if len(layers) > _MOST_LAYERS:
        raise BcmError(
            name,
            f"has {len(layers)} layers",
            f"take an image with at most {_MOST_LAYERS}, as engines run",
            code="unsupported",
        )
    for layer in layers:
        if layer.get("mediaType") not in _LAYERS:
            raise BcmError(
                name,
                f"has a layer of type {layer.get('mediaType')}",
                "take an image with layers of gzip",
                code="unsupported",
            )
    repository = _repository(release, architecture)
    digests = [str(item.get("digest")) for item in (found["config"], *layers)]
    for digest in digests:
        if not _DIGEST.fullmatch(digest):
            raise BcmError(
                name,
                f"has a blob that is called {digest}",
                "take an image whose blobs have SHA-256",
                code="unsupported",
            )
    return [Pin(f"{repository}/blobs/{digest}", *digest.split(":")) for digest in digests]


def check(found: Sequence[Path], release: Release, architecture: str) -> None:
    """Check all members of an image; paths are those of `parts`. Raises BcmError for forbidden members."""
    name = _name(release)
    config, *layers = found
    made_for = _object(config, f"The configuration of {name}").get("architecture")
    if made_for != _ARCHITECTURES[architecture]:
        raise BcmError(
            name,
            f"is made for {made_for}, and pinned for {architecture}",
            "pin the manifest of that one",
            code="invalid_value",
        )
    _Tree(name).grow(layers)


def read(layers: Sequence[Path], release: Release, members: Sequence[str] = ()) -> Iterator[tuple[Member, bytes]]:
    """What the layers make together, each with its content: folders, then files, then links.

    With ``members``, what is at or below these paths alone, and the folders above. No path leads through a link. Raises
    BcmError, before anything is given.
    """
    name = _name(release)
    tree = _Tree(name)
    tree.grow(layers)
    nodes = list(tree.nodes.items())
    for member in members:
        if member not in tree.nodes:
            raise archive.ArchiveError(
                name, f"holds no {member}", "correct the stack's list, or use the release it is for", code="not_found"
            )
    if members:
        nodes = [(path, node) for path, node in nodes if _is_wanted(path, members)]
    yield from ((node.member(path), b"") for path, node in nodes if node.kind == "folder")
    wanted: dict[tuple[int, int], list[Member]] = {}
    for path, node in nodes:
        if node.kind == "file":
            wanted.setdefault(node.source, []).append(node.member(path))
    for number, layer in enumerate(layers):
        for position, (_path, raw) in enumerate(archive.layer(layer, name)):
            if (number, position) in wanted:
                content = raw.open().read()
                yield from ((member, content) for member in wanted[number, position])
    yield from ((node.member(path), b"") for path, node in nodes if node.kind == "link")


@dataclass
class _Node:
    """``layer`` is the last one that had it, and for a folder the last that had anything below it.

    ``source`` is the layer and position that a file's content is at; ``cleared`` the layer that last took away what
    lower ones had below a folder.
    """

    kind: str
    layer: int
    mode: int = 0o755
    size: int = 0
    source: tuple[int, int] = (0, 0)
    target: str = ""
    children: dict[str, _Node] = field(default_factory=dict)
    cleared: int = 0

    def member(self, path: str) -> Member:
        return Member(path, self.kind, self.mode, self.size, self.target)


class _Tree:
    """The files of an image, layer upon layer; every path is a real one, with no link above it."""

    def __init__(self, name: str) -> None:
        self._root = _Node("folder", 0)
        self._name = name
        self._at = ""  # the member that is looked at

    @property
    def nodes(self) -> dict[str, _Node]:
        """All of them by their paths, in order."""
        found, todo = {}, [("", self._root)]
        while todo:
            path, node = todo.pop()
            below = {posixpath.join(path, name): child for name, child in node.children.items()}
            found.update(below)
            todo += below.items()
        return dict(sorted(found.items()))

    def grow(self, layers: Sequence[Path]) -> None:
        for layer, path in enumerate(layers):
            for position, (name, raw) in enumerate(archive.layer(path, self._name)):
                self._at = raw.name
                self._add(name, raw, layer, position)

    def _add(self, name: str, raw: archive.Raw, layer: int, position: int) -> None:
        above, base = posixpath.split(name)
        folder = self._real(above, layer)
        if base.startswith(_WHITEOUT):
            self._white_out(folder, base, layer)
            return
        node = _Node(raw.kind, layer, raw.plain_mode, raw.size, (layer, position), raw.link)
        if raw.kind == "hard link":
            above, own = posixpath.split(archive.link_target("", raw.link))
            other = self._real(above, layer).children.get(own)
            if other is None or other.kind == "folder":
                self._wrong("is a hard link to no file of the image")
            node = replace(other, layer=layer)
        before = folder.children.get(base)
        if before and before.kind == node.kind == "folder":
            node.children, node.cleared = before.children, before.cleared
        folder.children[base] = node

    def _white_out(self, folder: _Node, base: str, layer: int) -> None:
        gone = base.removeprefix(_WHITEOUT)
        if base == _OPAQUE:
            self._clear(folder, layer)
        elif base.startswith(_AUFS):
            return  # what a file system left, and of no meaning here
        elif gone in {"", ".", ".."}:
            self._wrong("removes nothing that has a name")
        elif (node := folder.children.get(gone)) and node.layer < layer:
            del folder.children[gone]
        elif node:
            self._clear(node, layer)

    def _clear(self, folder: _Node, layer: int) -> None:
        """Remove what only lower layers had below a folder. Once in a layer: later on none of it comes back."""
        todo = [folder]
        while todo:
            node = todo.pop()
            if node.cleared < layer:
                node.cleared = layer
                node.children = {name: child for name, child in node.children.items() if child.layer >= layer}
                todo += node.children.values()

    def _real(self, folder: str, layer: int) -> _Node:
        """What a folder of the image really is, as this layer has it, too."""
        node, names, links = self._root, list[str](), 0
        steps = folder.split("/")[::-1] if folder else []
        while steps:
            names.append(steps.pop())
            below = node.children.setdefault(names[-1], _Node("folder", layer))
            if below.kind == "file":
                self._wrong(f"is below {'/'.join(names)!r}, a file")
            if below.kind == "folder":
                node = below
                node.layer = layer
                continue
            links += 1
            target = archive.link_target("/".join(names[:-1]), below.target)
            if not target or links > _LINKS:
                self._wrong(f"is below {'/'.join(names)!r}, a link out of the image, to {below.target!r}")
            steps += (step for step in reversed(target.split("/")) if step != ".")
            node, names = self._root, []
        return node

    def _wrong(self, why: str) -> NoReturn:
        raise archive.refusal(self._name, self._at, why)


def _is_wanted(path: str, members: Sequence[str]) -> bool:
    """Whether a path is one of the members, below one, or a folder above one."""
    return any(f"{path}/".startswith(f"{member}/") or member.startswith(f"{path}/") for member in members)


def _platform(item: Mapping[str, Any]) -> str:
    platform = item.get("platform")
    if isinstance(platform, dict) and platform.get("os") == "linux":
        return str(platform.get("architecture"))
    return ""


def _objects(found: Mapping[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    items = found.get(key)
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise BcmError(f"The manifest of {name}", f"has no {key}", "pin that of an image", code="invalid_value")
    return items


def _object(data: bytes | Path, what: str) -> dict[str, Any]:
    try:
        return read_object(data.read_bytes() if isinstance(data, Path) else data)
    except (OSError, ValueError) as error:
        raise BcmError(what, f"is not an object in JSON: {error};", "take another image", code="damaged") from error


def _name(release: Release) -> str:
    return f"{release.name} {release.version}"
