# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Trezor of a data center: one session for each command, and the password of the vault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._base.vault import PLAIN, Vault
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault

from . import setup
from .datacenter import DataCenter

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import Trezor

#: the variable with the path of the session file
SESSION = "BCM_TREZOR_SESSION"


@contextmanager
def session(datacenter: DataCenter) -> Iterator[dict[str, str]]:
    """Yield the environment variables with which processes share a session; none without a Trezor.

    Asks for the passphrase now; the device forgets it at the end in any case. Raises BcmError.
    """
    if datacenter.ca_provider != "trezor":
        yield {}
        return
    from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import Trezor

    path = datacenter.ca_device
    with setup.private_folder() as folder:
        session_path = folder / "session"
        try:
            with _open_device(datacenter, session_path, setup.step):
                pass
            yield {SESSION: str(session_path), **({"TREZOR_PATH": path} if path else {})}
        finally:
            Trezor(path, kept=session_path).end()


def vault(datacenter: DataCenter, environment: Mapping[str, str] | None = None, generation: int | None = None) -> Vault:
    """Return the vault of private files; ``environment`` is what `session` yielded, if any. Raises BcmError.

    ``generation`` of its password, without it that which is in use.
    """
    if datacenter.ca_provider != "trezor":
        return PLAIN
    word = password(datacenter, setup.step, session_file(environment or {}), generation)
    return AnsibleVault(datacenter.name, word.encode())


def session_file(environment: Mapping[str, str]) -> Path | None:
    """Return the session file in what `session` yielded."""
    return Path(environment[SESSION]) if environment else None


def password(
    datacenter: DataCenter, say: Callable[[str], None], session_path: Path | None = None, generation: int | None = None
) -> str:
    """Return the password of the vault, after one confirmation. Raises BcmError."""
    with _open_device(datacenter, session_path, say) as device:
        return device.vault_secret(datacenter.name, generation or datacenter.vault_generation)


def own_password(datacenter: DataCenter) -> str:
    """Return the password of the vault, in the session of the command if it has one. Raises BcmError."""
    return password(datacenter, setup.step, session_file(datacenter.session))


@contextmanager
def _open_device(datacenter: DataCenter, session_path: Path | None, say: Callable[[str], None]) -> Iterator[Trezor]:
    """Open the device, and check that it and the passphrase are those of the data center."""
    # only a data center with a Trezor needs these packages
    from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import Trezor

    roots = _roots(datacenter)
    with Trezor(datacenter.ca_device, first=not roots, say=say, kept=session_path) as device:
        for identity, key in roots:
            device.root(identity, key)
        if not roots:
            device.root(Identity(datacenter_names(datacenter.name, datacenter.chain).domain, 1), None)
        yield device


def _roots(datacenter: DataCenter) -> list[tuple[Identity, ec.EllipticCurvePublicKey]]:
    """Return the current root of each chain with a device, and its key."""
    from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
    from ansible_collections.bcm.core.plugins.module_utils._ca.database import parse_database

    found = []
    for path in sorted(datacenter.secrets.glob("*.pki.json")):
        content = AuthorityFiles(path.parent, path.name.removesuffix(".pki.json"), vault=None).read()
        database, _written = parse_database(content or {}, path)
        if database.provider == "trezor" and database.root:
            key = cast("ec.EllipticCurvePublicKey", database.root.certificate.content.public_key())
            found.append((database.identity(database.root), key))
    return found
