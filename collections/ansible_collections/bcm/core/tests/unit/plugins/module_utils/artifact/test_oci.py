# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of a registry that speaks the distribution API, and what their layers make together."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact import oci
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import Artifacts, identity
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Release, release
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.fields import Field

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
APP = Release("app", "image", "oci", "app", "MIT", "1.2")
CONFIG = {"architecture": "amd64", "os": "linux"}

#: a file's content, or its kind, and what else differs; a name that ends with a slash is a folder
Item = Any


def layer(*items: tuple[str, Item]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, item in items:
            fields = {"content": item} if isinstance(item, str) else dict(item)
            content = fields.pop("content", "").encode()
            member = tarfile.TarInfo(name.rstrip("/") or name)
            member.size, member.mode = len(content), 0o640
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue())


def link(target: str) -> Item:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def hard(target: str) -> Item:
    return {"type": tarfile.LNKTYPE, "linkname": target}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# -- a registry --------------------------------------------------------------------------------------------------------


class Registry(ThreadingHTTPServer):
    """Gives manifests and blobs to whoever has a token, blobs from another host; ``cut`` of them stop half-way."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.tokens: list[str] = []
        self.cut: list[str] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.realm = f"http://127.0.0.1:{self.server_port}/token"
        self.lifetime = 1000

    def handle_error(self, *args: Any) -> None:
        pass

    def blob(self, data: bytes) -> dict[str, Any]:
        self.content[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    def push(self, *layers: bytes, **changes: Any) -> str:
        """Its manifest's digest."""
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(CONFIG).encode()),
            "layers": [{"mediaType": kind, **self.blob(data)} for data in layers],
            **changes,
        }
        data = json.dumps(manifest).encode()
        self.types[digest(data)] = str(manifest["mediaType"])
        return str(self.blob(data)["digest"])

    def pinned(self, found: str, architecture: str = "x86_64") -> Release:
        """As a catalogue declares it."""
        url = f"http://127.0.0.1:{self.server_port}/v2/some/app/manifests/v{{version}}"
        declared = {
            "kind": "oci",
            "name": "app",
            "licence": "MIT",
            "version": "1.2",
            "files": {architecture: {"url": url, "sha256": found.removeprefix("sha256:")}},
        }
        return release(Field(Path("stack.yml"), "artifact", declared), "app", "image")

    def paths(self, part: str) -> list[str]:
        return [path for path, _headers in self.asked if part in path]


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        server, parts = self.server, urlsplit(self.path)
        server.asked.append((self.path, dict(self.headers)))
        kind, _unused, name = parts.path.removeprefix("/v2/some/app/").partition("/")
        if parts.path == "/token":
            server.tokens.append(json.dumps(parse_qs(parts.query)))
            self._answer(200, json.dumps({"token": f"t{len(server.tokens)}"}).encode())
        elif parts.path.startswith("/cdn/"):
            # as a CDN does that checks a signature in the address, and nothing else
            self._blob(parts.path.removeprefix("/cdn/"), not self.headers["Authorization"])
        elif self.headers["Authorization"] != f"Bearer t{len(server.tokens)}" or server.lifetime == 0:
            challenge = f'Bearer realm="{server.realm}",service="reg",scope="repository:some/app:pull"'
            self._answer(401, b"", {"WWW-Authenticate": challenge})
        elif name not in server.content:
            self._answer(404, b"")
        elif kind == "blobs":
            server.lifetime -= 1
            self._answer(307, b"", {"Location": f"http://localhost:{server.server_port}/cdn/{name}?signature=1"})
        elif server.types[name] in (*self.headers["Accept"].split(", "), "application/x"):
            self._answer(200, server.content[name], {"Content-Type": server.types[name]})
        else:
            self._answer(404, b"")

    def _blob(self, name: str, allowed: bool) -> None:
        data = self.server.content[name] if allowed else b""
        start = int((re.findall(r"bytes=(\d+)-", self.headers["Range"] or "") or ["0"])[0])
        extra = {"ETag": '"1"', "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if name in self.server.cut:
            self.server.cut.remove(name)
            self._answer(200, data[: len(data) // 2], {**extra, "Content-Length": str(len(data))})
        else:
            self._answer((206 if start else 200) if allowed else 400, data[start:], extra)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def artifacts(home: Path, source: str | None = None) -> Artifacts:
    return Artifacts(ContentStore(home), Downloader(pause=0.01, retries=1), lambda line: None, source)


def present(found: Artifacts, wanted: Release) -> dict[str, Any]:
    return found.present([(wanted, Path("/nowhere"))])[0]


BELOW = layer(("etc/", ""), ("etc/one", "1"), ("etc/two", "2"))
ABOVE = layer(("etc/.wh.one", ""), ("etc/three", "3"))


def test_an_image_is_fetched_verified_and_unpacked(registry: Registry, tmp_path: Path) -> None:
    wanted = registry.pinned(registry.push(BELOW, ABOVE, BELOW))
    found = artifacts(tmp_path)
    told = present(found, wanted)
    assert told["changed"]
    assert sorted({f"sha256:{name}" for name in (*told["blobs"], *told["files"])}) == sorted(registry.content)
    members = {member.name: content for member, content in oci.read(found.layers(wanted, "x86_64"), wanted)}
    assert members == {"etc": b"", "etc/one": b"1", "etc/two": b"2", "etc/three": b"3"}
    assert json.loads(registry.tokens[0]) == {"service": ["reg"], "scope": ["repository:some/app:pull"]}
    assert len(registry.paths("/blobs/")) <= 6, "the layer that comes twice was fetched twice"
    asked = len(registry.asked)
    assert present(found, wanted) == {**told, "changed": False}
    assert len(registry.asked) == asked
    assert found.verify(wanted, Path("/nowhere"))["blobs"] == told["blobs"]


def test_the_image_for_an_architecture_is_found_in_an_index(registry: Registry, tmp_path: Path) -> None:
    image = registry.push(BELOW)
    own = {"digest": image, "platform": {"os": "linux", "architecture": "amd64"}}
    # What builders add about an image is called an image of an unknown system.
    attestation = {"digest": digest(b"x"), "platform": {"os": "unknown", "architecture": "unknown"}}
    index = registry.push(mediaType=INDEX, manifests=[own, attestation])
    found, wanted = artifacts(tmp_path / "store"), registry.pinned(index)
    told = present(found, wanted)
    assert image.removeprefix("sha256:") in told["blobs"]
    members = {member.name: content for member, content in oci.read(found.layers(wanted, "x86_64"), wanted)}
    assert members == {"etc": b"", "etc/one": b"1", "etc/two": b"2"}
    assert found.verify(wanted, Path("/nowhere"))["blobs"] == told["blobs"]
    # A mirror has the index, and all that it leads to.
    found.export([(wanted, Path("/nowhere"))], tmp_path / "mirror")
    assert present(artifacts(tmp_path / "other", str(tmp_path / "mirror")), wanted)["blobs"] == told["blobs"]
    with pytest.raises(BcmError, match="app 1.2 is an index of images without one for aarch64"):
        present(found, registry.pinned(index, "aarch64"))


def test_dockers_manifests_are_read_too(registry: Registry, tmp_path: Path) -> None:
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    layers = [{"mediaType": kind, **registry.blob(BELOW)}]
    wanted = registry.pinned(registry.push(mediaType=DOCKER, layers=layers))
    assert len(present(artifacts(tmp_path), wanted)["blobs"]) == 2


def test_an_interrupted_blob_is_resumed(registry: Registry, tmp_path: Path) -> None:
    wanted = registry.pinned(registry.push(BELOW))
    registry.cut = [digest(BELOW)]
    present(artifacts(tmp_path), wanted)
    ranges = [headers.get("Range") for path, headers in registry.asked if digest(BELOW) in path and "cdn" in path]
    assert ranges == [None, f"bytes={len(BELOW) // 2}-"]


def test_an_expired_token_is_replaced_once(registry: Registry, tmp_path: Path) -> None:
    wanted = registry.pinned(registry.push(BELOW))
    registry.lifetime = 0
    with pytest.raises(BcmError, match="the server answers 401 Unauthorized"):
        present(artifacts(tmp_path), wanted)
    assert len(registry.tokens) == 1
    registry.lifetime = 1000
    assert present(artifacts(tmp_path), wanted)["changed"]


@pytest.mark.parametrize("realm", ["http://127.0.0.1/token", ""])
def test_a_token_is_not_asked_for_in_the_clear(tmp_path: Path, realm: str) -> None:
    registry = oci.Registry(Downloader())
    with pytest.raises(BcmError, match="wants a token of .*, which is not encrypted"):
        registry._asked("https://example.org/v2/a/blobs/b", {"realm": realm})


@pytest.mark.parametrize("answer", [b"no", b"[]", b"[" * 100_000])
def test_a_malformed_token_is_refused(registry: Registry, tmp_path: Path, answer: bytes) -> None:
    wanted = registry.pinned(registry.push(BELOW))
    registry.content["none"], registry.realm = answer, f"http://localhost:{registry.server_port}/cdn/none?x=1"
    with pytest.raises(BcmError, match=r"^The token of http://localhost\S+ .*[:;] take another image$"):
        present(artifacts(tmp_path), wanted)


def test_a_blob_that_is_another_is_kept_aside(registry: Registry, tmp_path: Path) -> None:
    wanted = registry.pinned(registry.push(BELOW))
    registry.content[digest(BELOW)] = ABOVE
    found = artifacts(tmp_path)
    with pytest.raises(BcmError, match="it is not what was released"):
        present(found, wanted)
    assert found.recorded(wanted) is None
    assert [path.name[:64] for path in (tmp_path / "refused").iterdir()] == [digest(ABOVE).removeprefix("sha256:")]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"mediaType": INDEX, "manifests": [{"digest": "sha256:1"}]}, "is an index of images without one for x86_64"),
        ({"mediaType": "application/x"}, "app 1.2 has no manifest of an image, but application/x"),
        ({"config": None}, "has no manifest of an image"),
        ({"layers": []}, "The manifest of app 1.2 has no layers"),
        ({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"}]}, "has a layer of type .*zstd"),
        ({"config": {"digest": "sha512:1"}}, "has a blob that is called sha512:1"),
        ({"config": {"digest": f"sha256:{'a' * 64}/../.."}}, "has a blob that is called sha256"),
    ],
)
def test_manifests_of_nothing_to_install(
    registry: Registry, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    wanted = registry.pinned(registry.push(BELOW, **changes))
    with pytest.raises(BcmError, match=f"^[^\n]*{complaint}[^\n]*$"):
        present(artifacts(tmp_path), wanted)


def test_an_image_of_another_architecture(registry: Registry, tmp_path: Path) -> None:
    wanted = registry.pinned(registry.push(BELOW), "aarch64")
    with pytest.raises(BcmError, match="app 1.2 is made for amd64, and pinned for aarch64"):
        present(artifacts(tmp_path), wanted)


def test_an_image_is_carried_and_pruned_with_its_blobs(registry: Registry, tmp_path: Path) -> None:
    wanted = registry.pinned(registry.push(BELOW, ABOVE))
    other = registry.pinned(registry.push(layer(("a", "other"))))
    found = artifacts(tmp_path / "one")
    for item in (wanted, other):
        present(found, item)
    written = found.export([(wanted, Path("/nowhere"))], tmp_path / "disk")
    names = {name.removeprefix("app/1.2/") for name in written}
    assert names == {path.name for path in (tmp_path / "disk/app/1.2").iterdir()}
    assert len(names) == 4
    asked = len(registry.asked)
    second = artifacts(tmp_path / "two", source=str(tmp_path / "disk"))
    assert present(second, wanted)["blobs"] == present(found, wanted)["blobs"]
    assert len(registry.asked) == asked

    assert len(found.prune([wanted], -1)[1]) == 2, "what both have is kept"
    assert found.recorded(other) is None
    assert found.verify(wanted, Path("/nowhere"))
    (tmp_path / "one/sha256" / digest(ABOVE).removeprefix("sha256:")).write_bytes(b"damaged")
    with pytest.raises(BcmError, match="was damaged, and is kept in"):
        found.verify(wanted, Path("/nowhere"))
    assert found.recorded(wanted) is None
    assert present(found, wanted)["changed"]


@pytest.mark.parametrize("url", ["https://example.org/app.tar", "https://example.org/v2/app/blobs/{version}"])
def test_a_declaration_names_a_manifest(url: str) -> None:
    files = {"x86_64": {"url": url, "sha256": "a" * 64}}
    declared = {"kind": "oci", "name": "app", "licence": "MIT", "version": "1.2", "files": files}
    with pytest.raises(BcmError, match="files.x86_64.url is not a manifest's: write https://REGISTRY/v2/NAME/manifests/"):
        release(Field(Path("stack.yml"), "artifact", declared), "app", "image")


def test_the_digest_leads_to_the_manifest(registry: Registry) -> None:
    wanted = registry.pinned(f"sha256:{'a' * 64}")
    pin = wanted.file("x86_64")
    assert pin.url.endswith(f"/v2/some/app/manifests/sha256:{'a' * 64}")
    assert pin.name == "a" * 64
    assert identity(wanted) != identity(replace(wanted, version="1.3"))


# -- layers ------------------------------------------------------------------------------------------------------------


def unpacked(home: Path, layers: Iterable[bytes]) -> list[str]:
    """What there is, one text for each path, in the order in which it is made."""
    paths = []
    for number, data in enumerate(layers):
        paths.append(home / f"{number}.tar.gz")
        paths[-1].write_bytes(data)
    shown = []
    for member, content in oci.read(paths, APP):
        shape = {"folder": "/", "link": f" -> {member.target}", "file": f"={content.decode()}"}[member.kind]
        shown.append(f"{member.name}{shape}")
    return shown


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([[("./", ""), ("b", "1"), ("a", link("b"))]], ["b=1", "a -> b"]),
        ([[("x/y/z", "1")]], ["x/", "x/y/", "x/y/z=1"]),
        ([[("a", "1")], [("a", "2")]], ["a=2"]),
        ([[("a", "1"), ("a", "2")]], ["a=2"]),
        ([[("d/a", "1")], [("d/.wh.a", "")]], ["d/"]),
        ([[("d/a", "1"), ("e", "1")], [(".wh.d", "")]], ["e=1"]),
        ([[("d/a", "1"), ("d/e/f", "1")], [("d/b", "2"), ("d/.wh..wh..opq", "")]], ["d/", "d/b=2"]),
        ([[("d/a", "1")], [("d/.wh..wh..opq", ""), ("d/a", "2")]], ["d/", "d/a=2"]),
        ([[("d/e/a", "1")], [("d/e/b", "2"), ("d/.wh..wh..opq", "")]], ["d/", "d/e/", "d/e/b=2"]),
        ([[("a", "1"), ("b/c", "1")], [(".wh..wh..opq", "")]], []),
        ([[("a", "1")], [(".wh.a", ""), ("a", "2")]], ["a=2"]),
        ([[("a", "1"), (".wh.a", "")]], ["a=1"]),
        ([[("a", "1"), (".wh..wh.plnk", "")]], ["a=1"]),
        ([[("a", "1")], [(".wh.b", "")]], ["a=1"]),
        ([[("d/a", "1")], [("d", "2")]], ["d=2"]),
        ([[("d", "1")], [("d/", ""), ("d/a", "2")]], ["d/", "d/a=2"]),
        ([[("d/a", "1")], [("d/", ""), ("d/b", "2")]], ["d/", "d/a=1", "d/b=2"]),
        ([[("l", link("u/lib")), ("u/lib/", "")], [("l/x", "1")]], ["u/", "u/lib/", "u/lib/x=1", "l -> u/lib"]),
        ([[("a/l", link("../b/.")), ("b/", "")], [("a/l/x", "1")]], ["a/", "b/", "b/x=1", "a/l -> ../b/."]),
        ([[("l", link("d")), ("d/x", "1")], [("l/.wh.x", "")]], ["d/", "l -> d"]),
        ([[("l", link("/etc"))], [("l/", ""), ("l/x", "1")]], ["l/", "l/x=1"]),
        ([[("mtab", link("/proc/mounts")), ("up", link("../.."))]], ["mtab -> /proc/mounts", "up -> ../.."]),
        ([[("a", "1")], [("b", hard("a")), ("a", "2")]], ["b=1", "a=2"]),
        ([[("a", "1")], [("b", hard("a")), (".wh.a", "")]], ["b=1"]),
        (
            [[("d/e/a", "1")], [("d/e/b", "2"), ("d/e/.wh..wh..opq", ""), ("d/c", "3"), ("d/.wh..wh..opq", "")]],
            ["d/", "d/e/", "d/e/b=2", "d/c=3"],
        ),
        ([[("d/a", "1")], [("d/b", "2"), (".wh.d", "")], [("d/.wh..wh..opq", "")]], ["d/"]),
        ([[("d/a", "1")], [(".wh.d", ""), ("d/", "")]], ["d/"]),
        ([[("t", {"type": tarfile.DIRTYPE, "mode": 0o1777})]], ["t/"]),
    ],
)  # fmt: skip
def test_layers(tmp_path: Path, layers: Any, wanted: list[str]) -> None:
    assert unpacked(tmp_path, [layer(*items) for items in layers]) == wanted


def test_modes_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    items = (("a", {"mode": 0o600}), ("b", {"mode": 0o711}), ("c/", {"mode": 0o700}))
    path.write_bytes(layer(*items, ("su", {"mode": 0o4755}), ("wall", {"mode": 0o2755})))
    modes = {member.name: member.mode for member, _content in oci.read([path], APP)}
    assert modes == {"a": 0o644, "b": 0o755, "c": 0o755, "su": 0o755, "wall": 0o755}


def test_chosen_members_are_read_with_all_below(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    items = (("app/a", "1"), ("app/b/c", "2"), ("apple", "3"), ("usr/share/x", "4"), ("usr/share/y", "5"))
    path.write_bytes(layer(*items))
    found = [member.name for member, _content in oci.read([path], APP, ["app", "usr/share/x"])]
    assert found == ["app", "app/b", "usr", "usr/share", "app/a", "app/b/c", "usr/share/x"]
    with pytest.raises(BcmError, match="app 1.2 holds no usr/bin"):
        list(oci.read([path], APP, ["usr/bin"]))


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        ([[("/etc/passwd", "x")]], "'/etc/passwd' leads out of the folder"),
        ([[("a/../../b", "x")]], "leads out of the folder"),
        ([[("../.wh.b", "")]], "leads out of the folder"),
        ([[("a", {"type": tarfile.CHRTYPE})]], "is a device"),
        ([[("a", {"type": tarfile.FIFOTYPE})]], "is a device"),
        ([[("l", link("/etc")), ("l/x", "x")]], "'l/x' is below 'l', a link out of the image, to '/etc'"),
        ([[("l", link("..")), ("l/x", "x")]], "is below 'l', a link out of the image"),
        ([[("d/l", link("../..")), ("d/l/x", "x")]], "is below 'd/l', a link out of the image"),
        ([[("m", link("/")), ("l", link("m/etc"))], [("l/x", "x")]], "'l/x' is below 'm', a link out of the image"),
        ([[("l", link("/etc"))], [("l/.wh.passwd", "")]], "is below 'l', a link out of the image"),
        ([[("l", link("/etc"))], [("a", hard("l/passwd"))]], "is below 'l', a link out of the image"),
        ([[("l", link("l")), ("l/x", "x")]], "is below 'l', a link out of the image"),
        ([[("a", hard("/etc/passwd"))]], "is a hard link to no file"),
        ([[("a", hard("../x"))]], "is a hard link to no file"),
        ([[("d/", ""), ("a", hard("d"))]], "is a hard link to no file"),
        ([[("a", hard("b")), ("b", "1")]], "is a hard link to no file"),
        ([[("a", "1"), ("a/b", "2")]], "is below 'a', a file"),
        ([[("d/.wh.", "")]], "removes nothing that has a name"),
        ([[("d/" * 129 + "x", "")]], "is too long, or in too many folders"),
        ([[("d" * 4097, "")]], "is too long, or in too many folders"),
        ([[("l", link("d" * 4097))]], "is too long, or in too many folders"),
        ([[("l", link("d/" * 129 + "x"))]], "is too long, or in too many folders"),
        ([[("d/.wh...", "")]], "removes nothing that has a name"),
    ],
)
def test_forbidden_layers_are_refused(tmp_path: Path, layers: Any, complaint: str) -> None:
    with pytest.raises(BcmError, match="^app 1.2: [^\n]*: refused, ") as caught:
        unpacked(tmp_path, [layer(*items) for items in layers])
    assert complaint in str(caught.value)


def test_a_damaged_layer(tmp_path: Path) -> None:
    with pytest.raises(BcmError, match="^app 1.2 is damaged, or no archive"):
        unpacked(tmp_path, [layer(("a", "1" * 10000))[:-20]])
