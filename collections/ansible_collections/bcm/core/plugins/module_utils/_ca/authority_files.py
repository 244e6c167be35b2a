# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An authority on the controller's disk: a public file, and one of private keys.

Each is replaced as a whole, the keys first, so that whatever happens, all certificates are there with their chains and
their keys. The public file is numbered, and signed with a key that is among the private ones, which know the number of
the newest. So neither an edited file is taken, nor an older one.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .._base.disk import write_files
from .._base.errors import BcmError
from .._base.read import is_integer
from .._base.vault import PLAIN, Vault
from .._base.vaulted_file import PATIENCE, VaultedFile, as_json, damaged

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ImportError:  # the sanity tests import this file without the library
    pass

FORMAT = 1


@dataclass(frozen=True)
class _Private:
    """The private file. ``seal`` is the Ed25519 key that signs the public one, 32 bytes in hexadecimal.

    ``count`` and ``generation`` are those of the newest public file: how many were written, and its newest root.
    """

    seal: str = field(default_factory=lambda: secrets.token_hex(32))
    count: int = 0
    generation: int = 0
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def sealing_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.seal))


class AuthorityFiles:
    """The files of one authority below ``directory``, the private one in a vault.

    Without a ``vault`` only the public file can be read. A change of it is noticed even then, unless the seal was
    replaced, too.

    Raises BcmError if a file is damaged, was changed by another program, cannot be decrypted, or the disk fails.
    """

    def __init__(self, directory: Path, chain: str, patience: float = PATIENCE, vault: Vault | None = PLAIN) -> None:
        self.directory = directory
        self.public = directory / f"{chain}.pki.json"
        self.private = directory / f"{chain}.keys.json"
        #: other files that a data center in use has on this chain
        self.others = [directory / f"{chain}.{suffix}" for suffix in ("identity", "json", "onions.json")]
        self._vault = vault
        self._public_file = VaultedFile(self.public, "Certificates", PLAIN, patience)
        self._private_file = VaultedFile(self.private, "Certificates", vault)

    def read(self, *, without_private: bool = False) -> dict[str, Any] | None:
        """Return the content of the public file; None if it does not exist (yet).

        ``without_private``: take it although the private file is lost, which would tell whether it is the newest.
        """
        content = self._public()
        known = self._private()
        if content is None or known is None:
            if content is not None and self._vault is not None and not without_private:
                raise BcmError(
                    self.private,
                    f"is missing, and nothing else shows whether {self.public.name} is the newest",
                    "put the file back from a backup, or set replace_lost (`bcm ca renew --replace-lost`) to go on "
                    "without it",
                    code="data_at_risk",
                )
            return content
        if content["seal"]["key"] != _public_key(known.sealing_key):
            raise self._changed()
        if content["count"] < known.count:
            raise BcmError(
                self.public,
                f"is older than {self.private.name}, so what was revoked since would be good again",
                "put the newest copy of it back, or move it away and type `bcm ca init`, which begins generation "
                f"{known.generation + 1}",
                code="data_at_risk",
            )
        return content

    def lost_generation(self) -> int | None:
        """The generation of a public file that is lost; 0 if none is, None if it cannot be known without a vault."""
        if self.public.exists() or not self.private.exists():
            return 0
        known = self._private()
        return None if known is None else known.generation

    def issued(self) -> tuple[int, int] | None:
        """The newest generation in the public file, and how many of its kind were written; None if it is not there.

        Whatever is issued or revoked, the pair goes up.
        """
        content = self._public()
        if content is None:
            return None
        try:
            return max((int(root["index"]) for root in content["roots"]), default=0), content["count"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._changed() from error

    def keys(self) -> dict[str, str]:
        """Private keys by the identifiers of their public keys, and PKCS#12 by those of their certificates."""
        known = self._private()
        return dict(known.keys) if known else {}

    def write(self, public: Mapping[str, Any], keys: Mapping[str, str] | None, generation: int) -> None:
        """Replace the public file, and before that the private one if it changed. Needs the lock.

        Keys of an authority whose public file is lost are kept beside it, under another name.
        """
        found, present = self._private(), self._public()
        known = found or _Private()
        count = max(known.count, present["count"] if present else 0) + 1
        before = known if keys is None else replace(known, keys=keys)
        after = replace(before, count=count, generation=max(generation, known.generation))
        signed = {"format": FORMAT, "count": count, **public}
        sealed = _with_seal(signed, known)
        files: list[tuple[Path, str, int]] = []
        if found and present is None and known.count:
            kept = self.private.with_suffix(f".g{known.generation}.json")
            files.append((kept, self.private.read_text(encoding="utf-8"), 0o600))
        if found is None or keys is not None:
            files.append(self._draft(before))
        with self._private_file.disk_errors():
            write_files(*files, (self.public, as_json(sealed), 0o644), self._draft(after))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs from writing meanwhile; BcmError if another one does not end soon."""
        return self._public_file.locked(
            self.private, remedy="wait until it has ended, or answer it on the device, and run again"
        )

    def _public(self) -> dict[str, Any] | None:
        """The public file, if its seal is right."""
        content = self._public_file.read_mapping()
        if content is None:
            return None
        if content.get("format") != FORMAT:
            raise BcmError(
                self.public,
                f"is of format {content.get('format')}, known is {FORMAT}",
                "use the newer bcm",
                code="unsupported",
            )
        try:
            signed = {key: value for key, value in content.items() if key != "seal"}
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(content["seal"]["key"]))
            key.verify(bytes.fromhex(content["seal"]["signature"]), _signed_bytes(signed))
            if not _is_count(content["count"]):
                raise ValueError("no number")
        except (KeyError, TypeError, ValueError, InvalidSignature) as error:
            raise self._changed() from error
        return content

    def _changed(self) -> BcmError:
        return BcmError(
            self.public,
            "was changed by something other than bcm, its seal is broken",
            "put a copy of it back; if there is none, move it away and type `bcm ca init`, which begins the next "
            "generation",
            code="damaged",
        )

    def _private(self) -> _Private | None:
        """The private file; None if it is not there, or it is encrypted and there is no vault."""
        content = self._private_file.read_mapping()
        if content is None:
            return None
        try:
            found = _Private(*(content[name] for name in ("seal", "count", "generation", "keys")))
            _public_key(found.sealing_key)
            if not (_is_count(found.count) and _is_count(found.generation) and _is_texts(found.keys)):
                raise ValueError("of another kind")
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self.private, "it holds no keys") from error
        return found

    def _draft(self, content: _Private) -> tuple[Path, str, int]:
        return self._private_file.draft(as_json(asdict(content)))


def _signed_bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _with_seal(content: Mapping[str, Any], known: _Private) -> dict[str, Any]:
    key = known.sealing_key
    return {**content, "seal": {"key": _public_key(key), "signature": key.sign(_signed_bytes(content)).hex()}}


def _public_key(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _is_count(value: Any) -> bool:
    return is_integer(value) and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
