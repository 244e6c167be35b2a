# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bill of materials: everything that runs in a data center, down to Debian's packages, in CycloneDX JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_shaped
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Source

from . import artifact, setup
from .datacenter import DataCenter

_PACKAGES = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
_WORDS = 4
_SAFE = re.compile(r"[A-Za-z0-9.+~:_-]+")
_MADE_OF = {
    **dict.fromkeys(("kind", "name", "version", "source", "licence"), str), "signers": [str], "digest": (str, None)
}  # fmt: skip
#: the sum of a Go module's files, which is no digest of one file
_GO_SUM = re.compile(r"h1:[A-Za-z0-9+/]{43}=")
_ALGORITHMS = {64: HashAlgorithm.SHA_256, 128: HashAlgorithm.SHA_512}
#: kind of artifact -> type of a package URL
_PURLS = {
    "crate": "cargo", "go": "golang", "maven": "maven", "npm": "npm", "wheels": "pypi", "oci": "oci",
    "archive": "generic",
}  # fmt: skip


def bill(
    datacenter: DataCenter,
    client: Client,
    instances: Mapping[str, dict[str, Any]],
    sources: Mapping[str, Source] | None = None,
) -> str:
    """Return the bill of materials of instances (stack -> LXD's description); ``sources`` are the chosen ones."""
    urls = {pin.digest: pin.url for source in artifact.sources(datacenter, []) for pin in source.release.files.values()}
    whole = _component("platform", datacenter.project, bom_ref=datacenter.project)
    bom = Bom(metadata=BomMetaData(component=whole))
    with ThreadPoolExecutor(8) as pool:
        packages = list(pool.map(lambda name: _packages(client, name, instances[name]), instances))
    for (stack, instance), installed in zip(instances.items(), packages, strict=True):
        made_of = _made_of(instance["config"].get("image.bcm.artifact"))
        fingerprint = instance["config"].get("volatile.base_image")
        image = _component(
            "container",
            f"bcm/{stack}",
            bom_ref=f"{stack}/image",
            version=fingerprint,
            hashes=_hashes(fingerprint),
            components=[_package(stack, *words) for words in installed or ()],
            properties=[Property(name="bcm:packages", value="not known: it is stopped")] * (installed is None),
        )
        bom.components.add(image)
        parts = [image]
        if made_of:
            source = (sources or {}).get(stack)
            parts.append(_artifact(stack, made_of, urls.get(made_of["digest"]), installed or [], source))
            bom.components.add(parts[1])
        else:
            setup.step(f"{stack}: its image has no bill of materials: `bcm stack start {stack}` replaces it")
        bom.register_dependency(whole, parts)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_7).output_as_string(indent=2)


def _packages(client: Client, name: str, instance: Mapping[str, Any]) -> list[list[str]] | None:
    """Return name, version and architecture of the Debian packages; None if it does not run."""
    if instance["status"] != "Running":
        setup.step(f"{name} does not run: its packages are not listed")
        return None
    command = lxd_exec.Command(["dpkg-query", "--show", f"--showformat={_PACKAGES}"])
    result = lxd_exec.run(client, instance["name"], command, deadline=60)
    if result.returncode:
        raise BcmError(
            f"{name}:", f"dpkg-query: {result.stderr.decode(errors='replace').strip()}", code="command_failed"
        )
    try:
        return installed_in(result.stdout)
    except ValueError as error:
        raise BcmError(
            f"{name}:", f"dpkg-query: {error}", "see whether it is the instance's own", code="damaged"
        ) from error


def installed_in(shown: bytes) -> list[list[str]]:
    """Name, version and architecture of the packages that dpkg-query shows as installed. Raises ValueError."""
    lines = [line.split(" ") for line in shown.decode().split("\n")[:-1]]
    if not all(len(words) == _WORDS and all(map(_SAFE.fullmatch, words[1:])) for words in lines):
        raise ValueError("it shows what is not a list of packages")
    return [words for status, *words in lines if status == "installed"]


def _made_of(text: str | None) -> dict[str, Any]:
    """What an image says that it was made of; nothing if it does not."""
    try:
        found: dict[str, Any] = read_shaped(text, _MADE_OF) if text else {}
    except ValueError:
        found = {}
    digest = found.get("digest")
    if not all(found.get(key) for key in ("kind", "name", "version")):
        return {}
    if digest is None or _GO_SUM.fullmatch(digest):
        return found
    return found if len(digest) in _ALGORITHMS and re.fullmatch("[0-9a-f]+", digest) else {}


def _package(stack: str, name: str, version: str, architecture: str) -> Component:
    purl = _debian(name, version, architecture)
    return _component("library", name, bom_ref=f"{stack}/{purl}", version=version, purl=purl)


def _debian(name: str, version: str, architecture: str) -> PackageURL:
    return PackageURL("deb", "debian", name, version, {"arch": architecture})


def _artifact(
    stack: str, made_of: Mapping[str, Any], url: str | None, installed: list[list[str]], source: Source | None
) -> Component:
    kind, name, version = made_of["kind"], made_of["name"], made_of["version"]
    purl = next((_debian(*words) for words in installed if kind in ("deb", "apt") and words[0] == name), None)
    if kind in _PURLS:
        exact = {"oci": f"sha256:{made_of['digest']}", "go": f"v{version}"}.get(kind, version)
        namespace, _separator, last = name.rpartition({"go": "/", "maven": ":"}.get(kind, "\0"))
        purl = PackageURL(_PURLS[kind], namespace or None, last, exact, {"download_url": url} if url else None)
    entries = [("bcm:stack", stack), ("bcm:source", made_of["source"]), ("bcm:kind", kind)]
    if source and source.name == made_of["source"]:
        entries.append(("bcm:source-why", source.why))
    if kind == "go":
        entries.append(("bcm:go-sum", made_of["digest"]))
    entries += [("bcm:signer", signer) for signer in made_of["signers"]]
    return _component(
        "application",
        name,
        bom_ref=f"{stack}/artifact",
        version=version,
        hashes=_hashes(made_of["digest"]),
        licenses=[LicenseFactory().make_from_string(made_of["licence"])],
        purl=purl,
        properties=[Property(name=key, value=value) for key, value in entries],
        external_references=[ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url))] if url else [],
    )


def _component(kind: str, name: str, **more: Any) -> Component:
    return Component(type=ComponentType(kind), name=name, **more)


def _hashes(digest: str | None) -> list[HashType]:
    return [HashType(alg=_ALGORITHMS[len(digest)], content=digest)] if digest and ":" not in digest else []
