# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of the certificate authority share: options, the way to the root key, results."""

from __future__ import annotations

import typing as t
from abc import abstractmethod
from pathlib import Path

from ansible.utils.display import Display

from ..module_utils._base import names
from ..module_utils._base.errors import BcmError
from ..module_utils._ca import pki
from ..module_utils._ca.authority import Authority, Result
from ..module_utils._ca.certificate_request import CertificateRequest, new_request
from ..module_utils._ca.open_authority import open_authority
from ..module_utils._ca.report import authority_report, certificate_report
from ._action import BcmAction, secrets_directory
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
    """An action on an authority: implement `work`."""

    OWN_SPEC: t.ClassVar[dict[str, t.Any]] = {}
    #: False if it reads what is public only, which needs no password
    PRIVATE: t.ClassVar[bool] = True

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**CA_ARGUMENT_SPEC, **cls.OWN_SPEC}

    @abstractmethod
    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the work and return the result."""

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = Path(params["directory"] or secrets_directory(task_vars))
        vault = of_run(params["vault_id"]) if self.PRIVATE else None
        return self.work(open_authority(params, directory, self.check_mode, Display().display, vault), params)


def certificate_requests(certificates: t.Sequence[t.Mapping[str, t.Any]]) -> list[CertificateRequest]:
    """The option C(certificates), checked. Raises BcmError."""
    requests = [new_request(**item) for item in certificates]
    found = [request.name for request in requests]
    for name in found:
        if found.count(name) > 1:
            raise BcmError(
                f"Certificate {name}",
                f"is asked for {found.count(name)} times",
                "give each a name of its own",
                code="invalid_value",
            )
    return requests


def change_result(result: Result, authority: Authority, *parts: str) -> dict[str, t.Any]:
    """What every module returns that may change something, and ``parts`` of the report on the authority."""
    report = authority_report(result.database, authority.now)
    sides = {"before": result.before, "after": result.after}
    return {
        "changed": result.changed,
        "confirmations": result.confirmations,
        "signed": result.signed,
        "diff": {side: "".join(f"{line}\n" for line in lines if line) for side, lines in sides.items()},
        "path": str(authority.files.public),
        **{part: report[part] for part in parts},
    }


def certificate_results(
    requests: t.Sequence[CertificateRequest], result: Result, authority: Authority, *, private: bool
) -> list[dict[str, t.Any]]:
    """The certificates of requests; ``private``: with their keys."""
    keys = result.keys if private else None
    return [certificate_report(request, result.database, authority.now, keys) for request in requests]
