# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images: import of files, copy from a remote, publishing of an instance, export."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlencode

from .client import OWN, Client, Operation, own_headers, quoted
from .lxd_errors import LxdError

if TYPE_CHECKING:
    from .resources import Resource

try:
    from requests_toolbelt import MultipartEncoder
except ImportError:  # the sanity tests import this file without the libraries
    pass

_FINGERPRINT = re.compile(r"[0-9a-f]{12,64}")
_CHUNK = 1024 * 1024


def fingerprint_of(client: Client, image: str, project: str | None = OWN) -> str:
    """The fingerprint behind an alias, or the full one of an abbreviated fingerprint. NotFound if there is none."""
    alias = client.find(f"/1.0/images/aliases/{quoted(image)}", project=project)
    if alias is not None:
        return alias["target"]
    if _FINGERPRINT.fullmatch(image):
        found = client.find(f"/1.0/images/{image}", project=project)
        if found is not None:
            return found["fingerprint"]
    raise client.not_found(f'Image "{image}" does not exist at {client.endpoint.name}', project)


def create(client: Client, resource: Resource) -> str:
    """Make the image a resource describes, and its alias; its fingerprint."""
    source = resource.given["source"]
    what, deadline = f"create {resource.label}", float(resource.options["deadline"])
    properties = resource.given.get("properties") or {}
    public = bool(resource.given.get("public"))
    if source.get("metadata"):
        rootfs = source.get("rootfs")
        fingerprint = import_files(
            client, Path(source["metadata"]), Path(rootfs) if rootfs else None,
            properties=properties, public=public, what=what, deadline=deadline, project=resource.project,
        )  # fmt: skip
    elif not source.get("instance") and not source.get("server"):
        fingerprint = fingerprint_of(client, source.get("fingerprint") or source["alias"], resource.project)
    else:
        # With its name from the start, so that a killed run leaves no image without a name.
        body: dict[str, Any] = {"public": public, "properties": dict(properties), "aliases": [{"name": resource.name}]}
        if source.get("instance"):
            body["source"] = {"type": "instance", "name": source["instance"]}
            if source.get("compression"):
                body["compression_algorithm"] = source["compression"]
        else:
            named = ("alias", "fingerprint", "server", "protocol", "certificate")
            body["source"] = {"type": "image", "mode": "pull", **{key: source[key] for key in named if source.get(key)}}
            if source.get("protocol") == "lxd":
                # A server of Incus copies from its like only, and calls the same protocol by its own name.
                body["source"]["protocol"] = client.server["environment"]["server"]
            body["auto_update"] = bool(resource.given.get("auto_update"))
        done = client.call("POST", "/1.0/images", body, what=what, deadline=deadline, project=resource.project)
        fingerprint = done["fingerprint"]
    alias(client, resource.name, fingerprint, project=resource.project)
    return fingerprint


def alias(client: Client, name: str, fingerprint: str, *, project: str | None = OWN) -> None:
    """Point an alias to an image, whatever it pointed to before."""
    path = f"/1.0/images/aliases/{quoted(name)}"
    what = f"name image {fingerprint[:12]} {name}"
    there = client.find(path, project=project)
    if there is None:
        client.call("POST", "/1.0/images/aliases", {"name": name, "target": fingerprint}, what=what, project=project)
    elif there["target"] != fingerprint:
        body = {"target": fingerprint, "description": there.get("description", "")}
        client.call("PUT", path, body, what=what, project=project)


def import_files(
    client: Client,
    metadata: Path,
    rootfs: Path | None = None,
    *,
    properties: Mapping[str, str] | None = None,
    public: bool = False,
    what: str = "import an image",
    deadline: float = 900.0,
    project: str | None = OWN,
) -> str:
    """Upload a unified (one file) or split (metadata tarball, root file system) image; its fingerprint.

    An image that is there already, say of a run that was killed, is used as it is. The fingerprint is the SHA-256 of
    both files, one after the other.
    """
    files = [path for path in (metadata, rootfs) if path is not None]
    digest = hashlib.sha256()
    try:
        for path in files:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise LxdError(f"Failed to {what}:", f"{error.filename}: {error.strerror}", code="io_error") from error
    fingerprint = digest.hexdigest()
    if client.find(f"/1.0/images/{fingerprint}", project=project) is not None:
        return fingerprint
    headers = own_headers(properties=urlencode(dict(properties or {})), public="1" if public else "0")
    handles: list[BinaryIO] = [path.open("rb") for path in files]
    try:
        data, headers["Content-Type"] = upload(dict(zip(("metadata", "rootfs"), handles, strict=False)))
        answer = client.decode(client.stream("POST", "/1.0/images", data=data, headers=headers, project=project))
    finally:
        for handle in handles:
            handle.close()
    if isinstance(answer, Operation):
        client.wait(answer, what=what, deadline=deadline)
    return fingerprint


def upload(parts: Mapping[str, BinaryIO]) -> tuple[Any, str]:
    """Body and type of an import, never held in memory: one file as it is, two (metadata, rootfs) as a form."""
    if len(parts) == 1:
        return next(iter(parts.values())), "application/octet-stream"
    fields = [(part, (Path(file.name).name, file, "application/octet-stream")) for part, file in parts.items()]
    form = MultipartEncoder(fields)
    return form, form.content_type
