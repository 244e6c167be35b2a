# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources of OpenPGP keys, searched by fingerprint only: folders, URLs, key servers, Web Key Directories."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from .._base.errors import BcmError
from .openpgp import reason, subkey_expires, subkeys

try:
    from pysequoia import Cert
except ImportError:  # the sanity tests import this file without the libraries
    pass

_SUFFIXES = (".asc", ".gpg", ".pgp")
_ZBASE32 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"ybndrfg8ejkmcpqxot1uwisza345h769")


class Keys:
    """Keys from ``sources``, asked in their order: a folder, a URL with ``{fingerprint}``, ``hkps://server``, ``wkd``.

    ``get`` downloads a URL; ``wkd`` says fingerprint -> mail address. ``failures`` tells what did not work, for people.
    """

    def __init__(
        self, sources: Sequence[str], get: Callable[[str], bytes], wkd: Mapping[str, str] | None = None
    ) -> None:
        self.failures: list[str] = []
        self._sources = sources
        self._get = get
        self._mail = wkd or {}
        self._folders: dict[str, dict[str, Cert]] = {}
        self._found: dict[str, bytes | None] = {}

    def find(self, fingerprint: str) -> bytes | None:
        """The key of a fingerprint, merged from what the sources have until one has it and it is not expired."""
        if fingerprint not in self._found:
            cert: Cert | None = None
            for source in self._sources:
                for copy in self._copies(source, fingerprint):
                    cert = cert.merge(copy) if cert else copy
                if cert and _settled(cert):
                    break
            self._found[fingerprint] = bytes(cert) if cert else None
        return self._found[fingerprint]

    def _copies(self, source: str, fingerprint: str) -> Iterator[Cert]:
        if source != "wkd" and "://" not in source:
            if source not in self._folders:
                self._folders[source] = self._read(Path(source))
            if fingerprint in self._folders[source]:
                yield self._folders[source][fingerprint]
            return
        for url in self._urls(source, fingerprint):
            try:
                certs = _parse(self._get(url), url)
            except BcmError as error:
                self.failures.append(str(error))
                continue
            copies = [cert for cert in certs if cert.fingerprint.upper() == fingerprint]
            if not copies:
                self.failures.append(f"{url} has another key than {fingerprint}")
            yield from copies
            return

    def _urls(self, source: str, fingerprint: str) -> list[str]:
        """Where a key may be, the next being asked only if there is nothing at the one before."""
        if source == "wkd":
            return wkd_urls(self._mail[fingerprint]) if fingerprint in self._mail else []
        if source.startswith("hkps://"):
            server = source.removeprefix("hkps://").rstrip("/")
            return [f"https://{server}/pks/lookup?op=get&options=mr&search=0x{fingerprint}"]
        return [source.replace("{fingerprint}", fingerprint)]

    def _read(self, folder: Path) -> dict[str, Cert]:
        """All keys in a folder, by their fingerprints: what a file is called says nothing."""
        found: dict[str, Cert] = {}
        try:
            for path in sorted(path for path in folder.expanduser().iterdir() if path.suffix in _SUFFIXES):
                data = path.read_bytes()
                if data.startswith(b"-----BEGIN PGP SIGNATURE"):
                    continue  # signatures lie beside keys where a release was exported to
                try:
                    certs = _parse(data, str(path))
                except BcmError as error:
                    self.failures.append(str(error))
                    continue
                for cert in certs:
                    key = cert.fingerprint.upper()
                    found[key] = found[key].merge(cert) if key in found else cert
        except OSError as error:
            self.failures.append(f"{error.filename or folder} cannot be read: {error.strerror}")
        return found


def wkd_urls(mail: str) -> list[str]:
    """Where the domain of a mail address publishes its key: the advanced, then the direct method of the draft."""
    local, _unused, domain = mail.rpartition("@")
    digest = hashlib.sha1(local.lower().encode(), usedforsecurity=False).digest()
    hashed = base64.b32encode(digest).translate(_ZBASE32).decode()
    domain, path = domain.lower(), f"hu/{hashed}?l={quote(local, safe='')}"
    return [
        f"https://openpgpkey.{domain}/.well-known/openpgpkey/{domain}/{path}",
        f"https://{domain}/.well-known/openpgpkey/{path}",
    ]


def _parse(blob: bytes, where: str) -> list[Cert]:
    try:
        return Cert.split_bytes(blob)
    except RuntimeError as error:
        raise BcmError(where, f"is no OpenPGP key: {reason(error)}", code="invalid_value") from None


def _settled(cert: Cert) -> bool:
    """Whether no other copy can make it any better."""
    try:
        ends = [cert.expiration]
    except RuntimeError:
        return False  # a copy without the signatures that bind its names
    now = datetime.now(UTC)
    signing = [subkey for subkey in subkeys(cert).values() if any(p.key_flags and p.key_flags.signing for p in subkey)]
    ends += [max((subkey_expires(subkey) or datetime.max.replace(tzinfo=UTC) for subkey in signing), default=None)]
    return all(end is None or end > now for end in ends)
