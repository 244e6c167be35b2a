# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authority that settings name, with its root key in a file or on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .._base import names
from .._base.vault import PLAIN, Vault
from . import pki, software
from .authority import Authority
from .authority_files import AuthorityFiles
from .signer import OpenRootKeys, RootKeys


def open_authority(
    params: Mapping[str, Any],
    directory: Path,
    check_mode: bool,
    say: Callable[[str], None],
    vault: Vault | None = PLAIN,
    session: Path | None = None,
) -> Authority:
    """The authority that the options name. ``say`` and ``session`` as in `Trezor`. Raises BcmError."""
    chain = params["chain"]
    names.check_ca("provider", params["provider"], chain, params["software_ca_chains"])
    return Authority(
        files=AuthorityFiles(directory, chain, vault=vault),
        scope=pki.parse_scope([params["domain"], *params["domains"]], params["subnets"]),
        provider=params["provider"],
        open_keys=software.open_keys if params["provider"] == "software" else _device(params["device"], say, session),
        check_mode=check_mode,
    )


def _device(path: str | None, say: Callable[[str], None], session: Path | None) -> OpenRootKeys:
    def open_device(
        keys: MutableMapping[str, str], where: object, *, first: bool, confirmations: int
    ) -> AbstractContextManager[RootKeys]:
        # only signing needs the libraries that talk to a device
        from .trezor import Trezor

        return Trezor(path, first=first, say=say, confirmations=confirmations, kept=session)

    return open_device
