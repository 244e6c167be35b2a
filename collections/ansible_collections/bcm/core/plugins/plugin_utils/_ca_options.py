# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of the certificate authority share: options, where the root key is, results."""

from __future__ import annotations

import typing as t
from abc import abstractmethod
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from pathlib import Path

from ansible.utils.display import Display

from ..module_utils._base import names
from ..module_utils._base.errors import BcmError
from ..module_utils._base.vault import PLAIN, Vault
from ..module_utils._ca import pki, software
from ..module_utils._ca.authority import Authority, Outcome, Want, report, want
from ..module_utils._ca.authority_files import AuthorityFiles
from ..module_utils._ca.signer import OpenRootKeys, RootKeys
from ._action import BcmAction
from ._secrets import beside_inventory
from .ansible_vault import of_run

CA_ARGUMENT_SPEC: dict[str, t.Any] = {
    "chain": {"type": "str", "required": True, "choices": list(names.CHAINS)},
    "domain": {"type": "str", "required": True},
    "domains": {"type": "list", "elements": "str", "default": []},
    "subnets": {"type": "list", "elements": "str", "default": []},
    "provider": {"type": "str", "choices": ["trezor", "software"], "default": "trezor"},
    "device": {"type": "str"},
    "software_ca_chains": {"type": "list", "elements": "str", "default": []},
    "directory": {"type": "path"},
    "vault_id": {"type": "str"},
}

CERTIFICATES_ARGUMENT: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "common_name": {"type": "str"},
        "names": {"type": "list", "elements": "str", "default": []},
        "usage": {"type": "list", "elements": "str", "choices": list(pki.USAGES), "default": ["server"]},
        "csr": {"type": "str"},
        "pkcs12": {"type": "bool", "default": False},
    },
}
ISSUANCE_ARGUMENT: dict[str, t.Any] = {
    "type": "str",
    "choices": ["intermediate", "direct"],
    "default": "intermediate",
}


class CaAction(BcmAction):
    """An action on an authority: write `work`."""

    OWN_SPEC: t.ClassVar[dict[str, t.Any]] = {}
    #: False for who reads what is public, and needs no password for that
    PRIVATE: t.ClassVar[bool] = True

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**CA_ARGUMENT_SPEC, **cls.OWN_SPEC}

    @abstractmethod
    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the work and return the result."""

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = Path(params["directory"] or beside_inventory(task_vars))
        vault = of_run(params["vault_id"]) if self.PRIVATE else None
        return self.work(authority(params, directory, self.check_mode, vault), params)


def authority(
    params: t.Mapping[str, t.Any],
    directory: Path,
    check: bool,
    vault: Vault | None = PLAIN,
    say: t.Callable[[str], None] | None = None,
    kept: Path | None = None,
) -> Authority:
    """The authority that options say; ``say`` and ``kept`` as `Trezor` has them. Raises BcmError."""
    chain = params["chain"]
    names.check_ca("provider", params["provider"], chain, params["software_ca_chains"])
    return Authority(
        store=AuthorityFiles(directory, chain, vault=vault),
        scope=pki.parse_scope([params["domain"], *params["domains"]], params["subnets"]),
        provider=params["provider"],
        opener=software.open_keys if params["provider"] == "software" else _device(params["device"], say, kept),
        check=check,
    )


def wanted(certificates: t.Sequence[t.Mapping[str, t.Any]]) -> list[Want]:
    """Certificates of the option, checked. Raises BcmError."""
    wants = [want(**item) for item in certificates]
    names = [item.name for item in wants]
    for name in names:
        if names.count(name) > 1:
            raise BcmError(
                f"Certificate {name}",
                f"is asked for {names.count(name)} times",
                "give each a name of its own",
                code="invalid_value",
            )
    return wants


def _device(path: str | None, say: t.Callable[[str], None] | None, kept: Path | None) -> OpenRootKeys:
    def opened(
        keys: MutableMapping[str, str], where: object, *, first: bool, confirmations: int
    ) -> AbstractContextManager[RootKeys]:
        # only who signs needs what it takes to talk to a device
        from ..module_utils._ca.trezor import Trezor

        return Trezor(path, first=first, say=say or Display().display, confirmations=confirmations, kept=kept)

    return opened


def told(outcome: Outcome, authority: Authority) -> dict[str, t.Any]:
    """What every module returns that may change something."""
    return {
        "changed": outcome.changed,
        "signed": outcome.signed,
        "diff": {side: "".join(f"{line}\n" for line in getattr(outcome, side) if line) for side in ("before", "after")},
        "path": str(authority.store.public),
    }


def reported(outcome: Outcome, authority: Authority, *keys: str) -> dict[str, t.Any]:
    """Parts of the report on an authority."""
    everything = report(outcome.book, authority.now)
    return {key: everything[key] for key in keys}
