# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Targets to which backups are copied, as the variable ``backups_targets`` describes them."""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from pathlib import Path
from typing import Any

from .._base.errors import BcmError
from .._base.fields import Field

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_FOLDER = re.compile(r"/?[A-Za-z0-9_.][A-Za-z0-9_./-]{0,199}")
_HOST_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|rsa-sha2-(?:256|512)|ssh-rsa) ([A-Za-z0-9+/]+=*)")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_.-][A-Za-z0-9_./-]{0,199}")
_WORD = re.compile(r"[!-~]{1,512}")
#: type -> the fields that it needs, and those that it may have
_FIELDS = {
    "ssh": (("host", "user", "host_key"), ("port", "path")),
    "s3": (("endpoint", "bucket", "access_key", "secret_key"), ("region", "prefix", "ca")),
    "controller": (("path",), ()),
}


def faults(declared: Any) -> list[str]:
    """What is wrong with the targets, as sentences; none if they can be used. Secrets are not shown."""
    found = []
    try:
        targets = Field(Path("the inventory"), "backups_targets", declared).entries()
    except BcmError as error:
        return [str(error)]
    for target in targets.values():
        try:
            _check(target)
        except BcmError as error:
            found.append(str(error))
    return found


def _check(target: Field) -> None:
    """Raises CatalogueError."""
    name = target.path.rpartition(".")[2]
    Field(target.source, target.path, name).part()
    entries = target.entries()
    if "type" not in entries:
        target.sub("type", None).wrong("is missing", f"write one of {', '.join(_FIELDS)}")
    kind = entries["type"].choice(_FIELDS)
    required, optional = _FIELDS[kind]
    fields = target.mapping(required=("type", *required), optional=optional)
    {"ssh": _check_ssh, "s3": _check_s3, "controller": _check_controller}[kind](fields)


def _check_ssh(fields: dict[str, Field]) -> None:
    fields["host"].match(_HOST, "write an onion address, a name or an IPv4 address")
    fields["user"].match(_USER, "write the name of a user there")
    if "port" in fields:
        fields["port"].port()
    if "path" in fields:
        fields["path"].match(_FOLDER, "write a path in letters, digits, and the signs _ . / -")
    remedy = "write the type and the key, as `ssh-keyscan` prints them after the name, such as ssh-ed25519 AAAA…"
    found = _HOST_KEY.fullmatch(fields["host_key"].match(_HOST_KEY, remedy))
    try:
        raw = base64.b64decode(found[2] if found else "", validate=True)
    except binascii.Error:
        raw = b""
    # RFC 4253, section 6.6: its own name, and more fields, each after its length; keys of rsa-sha2-* are called ssh-rsa
    parts = _parts(raw)
    if not found or len(parts) < 2 or parts[0].decode(errors="replace") != re.sub("^rsa-sha2-.*", "ssh-rsa", found[1]):
        fields["host_key"].wrong("is cut off, or of another type than it says", remedy)


def _parts(raw: bytes) -> list[bytes]:
    """The fields of a key; none if the last one is cut off."""
    parts = []
    while raw:
        length = int.from_bytes(raw[:4], "big")
        if len(raw) < 4 + length:
            return []
        parts.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return parts


def _check_s3(fields: dict[str, Field]) -> None:
    endpoint = fields["endpoint"]
    remedy = "write https://HOST or https://HOST:PORT, or http:// with an onion address"
    try:
        place = urllib.parse.urlsplit(endpoint.text())
        host, _port = place.hostname or "", place.port
    except ValueError:
        endpoint.wrong(f"is {endpoint.shown}", remedy)
    if place.scheme not in ("http", "https") or not _HOST.fullmatch(host) or place.query or place.username:
        endpoint.wrong(f"is {endpoint.shown}", remedy)
    if place.scheme == "http" and not host.endswith(".onion"):
        endpoint.wrong(f"is {endpoint.shown}, which is not encrypted beyond Tor", remedy)
    fields["bucket"].match(_BUCKET, "write the name of a bucket, in lower-case letters and digits")
    for key in ("region", "prefix"):
        if key in fields:
            fields[key].match(_PREFIX, "write letters, digits, and the signs _ . / -")
    for key in ("access_key", "secret_key"):
        if not isinstance(fields[key].value, str) or not _WORD.fullmatch(fields[key].value):
            fields[key].wrong("is not a key", "write it in quotes, without spaces")
    if "ca" in fields and "-----BEGIN CERTIFICATE-----" not in str(fields["ca"].value):
        fields["ca"].wrong("holds no certificate", "write certificates in PEM")


def _check_controller(fields: dict[str, Field]) -> None:
    if not Path(fields["path"].text()).expanduser().is_absolute():
        fields["path"].wrong(f"is {fields['path'].shown}", "write an absolute path, or one that begins with ~/")
