# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._image import images as module
from ansible_collections.bcm.core.plugins.module_utils._image.cache import Cache, Entry
from ansible_collections.bcm.core.plugins.module_utils._image.endpoint_images import EndpointImage
from ansible_collections.bcm.core.plugins.module_utils._image.images import Images, unused

A, B = "aa" * 32, "bb" * 32


class Endpoint:
    """The functions of the module store over a dictionary, and builders that are there or not."""

    def __init__(self) -> None:
        self.images: dict[str, EndpointImage] = {}
        self.used: dict[str, list[str]] = {}
        self.work: list[str] = []

    def add(self, image_hash: str, stack: str = "x", version: str = "1.0", alias: str | None = None) -> None:
        aliases = (alias or f"bcm/{stack}/{image_hash[:12]}",)
        self.images[image_hash] = EndpointImage(image_hash, f"fp-{image_hash}", stack, version, aliases, 100, "")

    def list_images(self, client: object) -> dict[str, EndpointImage]:
        return dict(self.images)

    def import_image(self, client: object, cache: Cache, entry: Entry) -> None:
        self.work.append(f"bring {entry.properties['bcm.stack']}")
        self.add(entry.hash, entry.properties["bcm.stack"], entry.properties["bcm.version"])

    def save_image(self, client: object, cache: Cache, image: EndpointImage, alias: str) -> None:
        self.work.append(f"keep {image.stack}")

    def ensure_alias(self, client: object, alias: str, fingerprint: str) -> None:
        self.work.append(f"alias {alias}")

    def delete_image(self, client: object, fingerprint: str) -> None:
        self.work.append(f"remove {fingerprint[:5]}")

    def image_users(self, client: object) -> dict[str, list[str]]:
        return self.used


class Client:
    server = {"environment": {"kernel_architecture": "x86_64"}}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    fake = Endpoint()
    for name in ("list_images", "import_image", "save_image", "ensure_alias", "delete_image", "image_users"):
        monkeypatch.setattr(module.endpoint_images, name, getattr(fake, name))
    monkeypatch.setattr(module.bake, "abandoned", lambda client: [])

    def build(
        settings: object, architecture: str, properties: object, directory: Path, notify: object
    ) -> dict[str, str]:
        fake.work.append("build base")
        for name in ("m", "r"):
            (directory / name).write_bytes(b"x")
        return {"metadata": "m", "rootfs": "r"}

    monkeypatch.setattr(module.base, "build", build)
    return fake


@pytest.fixture
def images(tmp_path: Path, endpoint: Endpoint) -> Images:
    return Images(Client(), Cache(tmp_path / "cache"), {}, lambda line: None)  # type: ignore[arg-type]


def wanted(images: Images, *hashes: str, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "stack": "x",
            "hash": one,
            "alias": f"bcm/x/{one[:12]}",
            "base_hash": images.base_hash,
            "version_command": ["x"],
            "floor": None,
            "allow_below_floor": False,
            **fields,
        }
        for one in hashes
    ]


def cached(images: Images, image_hash: str, version: str = "1.0", age: float = 0) -> None:
    cache = images.cache
    with cache.lock(image_hash), cache.draft(image_hash) as draft:
        (draft / "i").write_bytes(b"12345")
        properties = {"bcm.stack": "x", "bcm.version": version}
        cache.commit(draft, Entry(image_hash, f"bcm/x/{image_hash[:12]}", "f", {"image": "i"}, properties))
    os.utime(cache.root / image_hash / "image.json", (time.time() - age * 86400,) * 2)


def hashes(result: Sequence[dict[str, Any]]) -> list[str]:
    return [item["hash"] for item in result]


def test_nothing_to_do(images: Images, endpoint: Endpoint) -> None:
    endpoint.add(A)
    cached(images, A)
    result = images.present(wanted(images, A))
    assert (result["changed"], result["missing"], result["imported"], endpoint.work) == (False, [], [], [])


def test_without_images_there_is_nothing_to_do(images: Images, endpoint: Endpoint) -> None:
    assert images.present([])["changed"] is False
    assert endpoint.work == []


def test_cached_images_are_imported_without_the_base(images: Images, endpoint: Endpoint) -> None:
    cached(images, A)
    result = images.present(wanted(images, A))
    assert (result["changed"], result["missing"], result["imported"]) == (True, [], ["bcm/x/aaaaaaaaaaaa"])
    assert endpoint.work == ["bring x"]


def test_image_of_the_same_contents_gets_the_name_of_its_stack(images: Images, endpoint: Endpoint) -> None:
    cached(images, A)
    images.present(wanted(images, A, stack="y", alias="bcm/y/aaaaaaaaaaaa"))
    assert endpoint.work == ["bring x", "alias bcm/y/aaaaaaaaaaaa"]


def test_missing_images_need_the_base(images: Images, endpoint: Endpoint) -> None:
    cached(images, A)
    result = images.present(wanted(images, A, B))
    assert (result["changed"], hashes(result["missing"])) == (True, [B])
    assert sorted(endpoint.work) == ["bring base", "bring x", "build base"]
    assert images.cache.get(images.base_hash) is not None
    endpoint.work.clear()
    assert images.present(wanted(images, A, B))["changed"] is False
    assert endpoint.work == []


def test_the_base_can_be_asked_for(images: Images, endpoint: Endpoint) -> None:
    cached(images, A)
    endpoint.add(A)
    assert images.present(wanted(images, A), with_base=True, check=True)["changed"] is True
    assert images.present(wanted(images, A), with_base=True)["changed"] is True
    assert images.present(wanted(images, A), with_base=True)["changed"] is False
    assert endpoint.work == ["build base", "bring base"]


def test_a_base_without_its_name_gets_it(images: Images, endpoint: Endpoint) -> None:
    endpoint.add(images.base_hash, "base", alias="other")
    images.present(wanted(images, A))
    assert endpoint.work == [f"alias {images.base_alias}"]


def test_the_base_is_built_once(images: Images, endpoint: Endpoint) -> None:
    images.present(wanted(images, A))
    endpoint.images.clear()
    images.present(wanted(images, A))
    assert endpoint.work == ["build base", "bring base", "bring base"]


def test_a_base_that_fails_half_way_leaves_nothing(
    images: Images, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = module.base.build

    def broken(
        settings: object, architecture: str, properties: object, directory: Path, notify: object
    ) -> dict[str, str]:
        (directory / "r").write_bytes(b"ha")
        raise BcmError("mmdebstrap failed")

    monkeypatch.setattr(module.base, "build", broken)
    with pytest.raises(BcmError, match="mmdebstrap failed"):
        images.present(wanted(images, A))
    assert images.cache.entries() == []
    monkeypatch.setattr(module.base, "build", good)
    assert images.present(wanted(images, A))["changed"] is True


def test_check_mode_touches_nothing(images: Images, endpoint: Endpoint) -> None:
    cached(images, A)
    result = images.present(wanted(images, A, B), check=True)
    assert (result["changed"], hashes(result["missing"]), result["imported"]) == (True, [B], ["bcm/x/aaaaaaaaaaaa"])
    assert endpoint.work == []


def test_next_run_completes_a_killed_one(images: Images, endpoint: Endpoint) -> None:
    endpoint.add(A, alias="other")
    result = images.present(wanted(images, A))
    assert result["changed"] is True
    assert endpoint.work == ["alias bcm/x/aaaaaaaaaaaa", "keep x"]


def test_images_of_another_base(images: Images) -> None:
    with pytest.raises(BcmError, match="same image_"):
        images.present(wanted(images, A, base_hash="other"))


FLOOR = {"versions": ["2.0"], "why": "faults"}


@pytest.mark.parametrize("where", ["endpoint", "disk"])
def test_floors_hold_for_images_that_exist(images: Images, endpoint: Endpoint, where: str) -> None:
    if where == "endpoint":
        endpoint.add(A)
    cached(images, A)
    with pytest.raises(BcmError, match=r"x 1.0 is below its floor 2.0 \(faults\): .*allow_below_floor"):
        images.present(wanted(images, A, floor=FLOOR))
    assert endpoint.work == []
    warnings = images.present(wanted(images, A, floor=FLOOR, allow_below_floor=True))["warnings"]
    assert warnings == ["x 1.0 is below its floor 2.0 (faults); allowed by allow_below_floor"]


def test_full_disk_is_reported(images: Images, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.base, "build", full)
    with pytest.raises(BcmError, match="No space left on device"):
        images.present(wanted(images, A))


def test_a_full_disk_does_not_undo_a_bake(images: Images, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.endpoint_images, "save_image", full)
    endpoint.add(A)
    assert "No space left" in images.present(wanted(images, A))["warnings"][0]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The builders that were started."""
    names: list[str] = []
    monkeypatch.setattr(module.bake, "start", lambda client, name, *args, **options: names.append(name))
    monkeypatch.setattr(module, "_LOOK", 0.01)
    return names


def build(images: Images) -> str:
    (image,) = wanted(images, A, artifact={"suite": None})
    return images.build(image, "net", "default")


def test_image_that_another_run_bakes_is_taken_from_it(
    images: Images, endpoint: Endpoint, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(images, "notify", said.append)
    with ThreadPoolExecutor() as pool:
        with images.cache.lock(A):
            images.cache.set_baker(A, "another")
        monkeypatch.setattr(module.bake, "is_running_here", lambda run: run == "another")
        waiting = pool.submit(build, images)
        while not said:
            assert not waiting.done()
            time.sleep(0.01)
        cached(images, A)
        assert waiting.result(60) == ""
    assert said[0] == "image x: another run is baking it, waiting"
    assert (started, endpoint.work) == ([], ["bring x"])


@pytest.mark.parametrize("ended", ["killed", "other-machine:1:1", ""])
def test_image_of_a_run_that_ended_is_baked(images: Images, endpoint: Endpoint, started: list[str], ended: str) -> None:
    with images.cache.lock(A):
        images.cache.set_baker(A, ended)
    assert build(images) == started[0] == module.bake.builder_name("x", A)
    # and once more, since the same run may replace its builder
    assert build(images) == started[1]
    assert images.cache.baker(A) == module.bake.this_run()
    with images.cache.lock(A):
        images.cache.forget(A)
    assert images.cache.hashes() == set()


def test_unused() -> None:
    def image(name: str) -> EndpointImage:
        return EndpointImage(name, f"fp-{name}", "x", "", (), 1, "")

    found = [image("wanted"), image("used"), image("idle"), image("emptied")]
    doomed = unused(found, {"fp-used": ["p/i"], "fp-emptied": []}, {"wanted"})
    assert [one.hash for one in doomed] == ["idle", "emptied"]


def test_prune(images: Images, endpoint: Endpoint) -> None:
    plain, used, old, kept_old, broken = (name * 32 for name in ("a1", "a2", "a3", "a4", "a5"))
    for one in (plain, used, kept_old):
        endpoint.add(one)
    endpoint.used = {f"fp-{used}": ["p/i"]}
    cached(images, plain, age=1)
    cached(images, used, age=99)
    cached(images, old, age=31)
    cached(images, kept_old, age=99)
    (images.cache.root / broken).mkdir()
    before = images.prune(wanted(images, kept_old), 30, check=True)
    assert endpoint.work == []
    assert images.prune(wanted(images, kept_old), 30) == before
    assert endpoint.work == [f"remove fp-{plain[:2]}"]
    assert before["endpoint"] == ["bcm/x/a1a1a1a1a1a1"]
    assert before["cache"] == ["bcm/x/a3a3a3a3a3a3"]
    assert (before["changed"], before["freed"]) == (True, 105)
    assert images.cache.hashes() == {plain, used, kept_old}


def test_prune_keeps_images_of_a_running_bake(images: Images, endpoint: Endpoint) -> None:
    cached(images, A, age=99)
    with images.cache.lock(A):
        assert images.prune([], 30)["changed"] is False
    assert images.prune([], 30)["changed"] is True


def test_prune_keeps_the_base_of_today(images: Images, endpoint: Endpoint) -> None:
    endpoint.add(images.base_hash, "base")
    cached(images, images.base_hash, age=99)
    assert images.prune([], 0)["changed"] is False


def test_list(images: Images, endpoint: Endpoint) -> None:
    endpoint.add(A, "tor", "0.4")
    endpoint.add(images.base_hash, "base", "")
    endpoint.used = {f"fp-{A}": ["p/tor"]}
    cached(images, B, "2.0")
    found = images.list()
    assert [
        (one["stack"], one["version"], one["endpoint_size"], one["cache_size"], one["used_by"]) for one in found
    ] == [
        ("base", "", 100, 0, []),
        ("tor", "0.4", 100, 0, ["p/tor"]),
        ("x", "2.0", 0, 5, []),
    ]


@pytest.mark.parametrize(
    ("pins", "version", "digest"),
    [
        ({"version": "31.1", "files": {"x86_64": {"digest": "d" * 64}}}, "31.1", "d" * 64),
        ({"version": "0.11.1", "sha256": "e" * 64}, "0.11.1", "e" * 64),
        ({"version": "0.21.3-beta", "go": {"sum": f"h1:{'A' * 43}="}}, "0.21.3-beta", f"h1:{'A' * 43}="),
        ({"digests": ["f" * 64]}, "4.8.1", "f" * 64),
        ({}, "4.8.1", None),
    ],
)
def test_image_properties_name_its_release(pins: dict[str, Any], version: str, digest: str | None) -> None:
    artifact = {
        "source": "s",
        "kind": "archive",
        "name": "n",
        "licence": "MIT",
        "version": None,
        "files": {},
        "sha256": None,
        "go": None,
    }
    fetched = {"signers": ["alice"], "digests": pins.pop("digests", [])}
    told = json.loads(module._made_of({"artifact": {**artifact, **pins}, **fetched}, "4.8.1"))
    assert (told["version"], told["digest"], told["signers"]) == (version, digest, ["alice"])
    assert told["licence"] == "MIT" and told["source"] == "s"
