# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials: true to CycloneDX's own schema, and to what LXD and Debian say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Source
from bcm_cli import artifact, materials
from bcm_cli.datacenter import DataCenter
from tests.cli.conftest import Checkout

PACKAGES = b"installed tor 0.4.9.14-1 amd64\nconfig-files old 1 amd64\ninstalled libc6 1:2.43-1+b1 amd64\n"


def instance(name: str, made_of: dict[str, Any] | None, status: str = "Running") -> dict[str, Any]:
    config = {"volatile.base_image": name[0].encode().hex() * 32}
    if made_of:
        config["image.bcm.artifact"] = json.dumps(made_of)
    return {"name": name, "status": status, "config": config}


def made(kind: str, name: str, version: str, digest: str | None = None, *signers: str) -> dict[str, Any]:
    return {
        "source": "here", "kind": kind, "name": name, "licence": "MIT",
        "version": version, "digest": digest, "signers": list(signers),
    }  # fmt: skip


def bill(
    monkeypatch: pytest.MonkeyPatch,
    *instances: dict[str, Any],
    status: int = 0,
    sources: dict[str, Source] | None = None,
) -> dict[str, Any]:
    result = ExecResult(status, PACKAGES, b"it is locked\n")
    monkeypatch.setattr(materials.lxd_exec, "run", lambda *words, **more: result)
    with Client("/nowhere/unix.socket") as client:
        text = materials.bill(DataCenter("local"), client, {found["name"]: found for found in instances}, sources)
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def components(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {component["bom-ref"]: component for component in found["components"]}


def test_release_is_listed_with_its_signers(monkeypatch: pytest.MonkeyPatch) -> None:
    release = next(source.release for source in artifact.sources(DataCenter("local"), ["bitcoind"]))
    pin = release.files["aarch64"]
    there = instance("bitcoind", made("archive", "bitcoin-core", "31.1", pin.digest, "fanquake", "hebasto"))
    found = components(bill(monkeypatch, there))["bitcoind/artifact"]
    assert (found["name"], found["version"], found["licenses"]) == (
        "bitcoin-core",
        "31.1",
        [{"license": {"id": "MIT"}}],
    )
    assert found["hashes"] == [{"alg": "SHA-256", "content": pin.digest}]
    assert found["purl"] == f"pkg:generic/bitcoin-core@31.1?download_url={pin.url}"
    assert found["externalReferences"] == [{"type": "distribution", "url": pin.url}]
    said = [(item["name"], item["value"]) for item in found["properties"]]
    assert [value for name, value in said if name == "bcm:signer"] == ["fanquake", "hebasto"]
    assert {("bcm:stack", "bitcoind"), ("bcm:source", "here"), ("bcm:kind", "archive")} < set(said)


def test_image_is_listed_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bill(monkeypatch, instance("tor", made("deb", "tor", "0.4.9.14")))
    image, tor = (components(found)[name] for name in ("tor/image", "tor/artifact"))
    assert (image["type"], image["hashes"]) == ("container", [{"alg": "SHA-256", "content": "74" * 32}])
    assert [(item["name"], item["version"], item["purl"]) for item in image["components"]] == [
        ("libc6", "1:2.43-1+b1", "pkg:deb/debian/libc6@1:2.43-1%2Bb1?arch=amd64"),
        ("tor", "0.4.9.14-1", "pkg:deb/debian/tor@0.4.9.14-1?arch=amd64"),
    ]
    assert tor["purl"] == "pkg:deb/debian/tor@0.4.9.14-1?arch=amd64"
    assert "hashes" not in tor
    (whole,) = (item["dependsOn"] for item in found["dependencies"] if "dependsOn" in item)
    assert whole == ["tor/artifact", "tor/image"]


def test_reason_for_a_source_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [instance(name, made("deb", name, "1")) for name in ("tor", "bitcoind")]
    taken = {"tor": Source("here", "torproject cannot be had"), "bitcoind": Source("elsewhere", "it was so once")}
    found = components(bill(monkeypatch, *there, sources=taken))
    why = {"name": "bcm:source-why", "value": "torproject cannot be had"}
    assert why in found["tor/artifact"]["properties"]
    assert "bcm:source-why" not in {item["name"] for item in found["bitcoind/artifact"]["properties"]}


def test_artifacts_of_other_kinds_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = bill(monkeypatch, instance("electrs", made("crate", "electrs", "0.11.1", "ab" * 64)))
    electrs = components(found)["electrs/artifact"]
    assert (electrs["purl"], electrs["hashes"][0]["alg"]) == ("pkg:cargo/electrs@0.11.1", "SHA-512")
    found = bill(monkeypatch, instance("shop", made("oci", "shop", "2.3", "cd" * 32)))
    assert components(found)["shop/artifact"]["purl"] == f"pkg:oci/shop@sha256:{'cd' * 32}"
    go_sum = "h1:Tp1YdwnP0daq/wenwObkaCqe0hckIRnxibN2QKoUv9Y="
    found = bill(monkeypatch, instance("lnd", made("go", "github.com/lightningnetwork/lnd", "0.21.3-beta", go_sum)))
    lnd = components(found)["lnd/artifact"]
    assert lnd["purl"] == "pkg:golang/github.com/lightningnetwork/lnd@v0.21.3-beta"
    assert "hashes" not in lnd, "the sum of a module is the digest of no file"
    assert {"name": "bcm:go-sum", "value": go_sum} in lnd["properties"]
    found = bill(monkeypatch, instance("kafka", made("maven", "org.apache.kafka:kafka_2.13", "4.4.0")))
    assert components(found)["kafka/artifact"]["purl"] == "pkg:maven/org.apache.kafka/kafka_2.13@4.4.0"
    # no such package there, so no name of one
    knots = components(bill(monkeypatch, instance("bitcoind", made("deb", "bitcoin-knots", "29"))))["bitcoind/artifact"]
    assert "purl" not in knots


def test_unknown_facts_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = components(bill(monkeypatch, instance("tor", None, "Stopped")))
    assert list(found) == ["tor/image"]
    assert found["tor/image"]["properties"] == [{"name": "bcm:packages", "value": "not known: it is stopped"}]
    told = capsys.readouterr().err
    assert "tor does not run: its packages are not listed" in told
    assert "tor: its image has no bill of materials: `bcm stack start tor`" in told
    with pytest.raises(BcmError, match="^tor: dpkg-query: it is locked$"):
        bill(monkeypatch, instance("tor", None), status=2)


def test_bill_is_the_same_for_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [instance("tor", made("deb", "tor", "1")), instance("electrs", made("crate", "electrs", "1"))]
    first, second = bill(monkeypatch, *there), bill(monkeypatch, *reversed(there))
    assert first.pop("serialNumber") != second.pop("serialNumber")
    assert first["metadata"].pop("timestamp") != second["metadata"].pop("timestamp")
    assert first == second


def test_unreachable_endpoint_is_reported(checkout: Checkout) -> None:
    done = checkout.bcm("info", "--bill-of-materials")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "LXD" in done.stderr


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"digest": "a" * 63}, {"digest": "x" * 64}, {"digest": "h1:x"}, {"signers": "me"}, {}],
)
def test_image_that_does_not_say_what_it_is_made_of(change: dict[str, Any]) -> None:
    made_of = {"kind": "archive", "name": "x", "version": "1", "source": "x", "licence": "MIT", "signers": []}
    text = json.dumps({**made_of, "digest": None, **change})
    assert materials._made_of(text) == ({} if change else json.loads(text))
    assert materials._made_of(None) == {}
    assert materials._made_of(text[:-1]) == {}
