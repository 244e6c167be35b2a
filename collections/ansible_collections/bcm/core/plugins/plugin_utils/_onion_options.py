# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base classes of the modules for onion services: options, changes and results."""

from __future__ import annotations

import contextlib
import typing as t
from abc import abstractmethod
from pathlib import Path

from ..module_utils._base import names
from ..module_utils._tor.deploy import DEADLINE, Instance
from ..module_utils._tor.reconcile import apply_services
from ..module_utils._tor.services import Services, check_keys
from ..module_utils._tor.services_file import ServicesFile
from ._action import BcmAction, secrets_directory
from .ansible_vault import of_run

ONION_ARGUMENT_SPEC: dict[str, t.Any] = {
    "chain": {"type": "str", "required": True, "choices": list(names.CHAINS)},
    "instance": {"type": "str", "default": "tor"},
    "directory": {"type": "path"},
    "vault_id": {"type": "str"},
}
DEADLINE_ARGUMENT: dict[str, t.Any] = {"type": "float", "default": DEADLINE}


class OnionAction(BcmAction):
    """An action on the onion services of a data center: implement `work`."""

    LXD = True
    OWN_SPEC: t.ClassVar[dict[str, t.Any]] = {}

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**super().argument_spec(), **ONION_ARGUMENT_SPEC, **cls.OWN_SPEC}

    @abstractmethod
    def work(self, store: ServicesFile, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the work and return the result."""

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = Path(params["directory"] or secrets_directory(task_vars))
        vault = of_run(params["vault_id"])
        return self.work(ServicesFile(directory, params["chain"], vault=vault, owner=params["project"]), params)


class OnionChange(OnionAction):
    """An action that changes them: implement `desired` and `result`."""

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**super().argument_spec(), "deadline": DEADLINE_ARGUMENT}

    @abstractmethod
    def desired(self, present: Services, params: dict[str, t.Any]) -> Services:
        """Return the desired services, given the existing ones. Raises BcmError."""

    @abstractmethod
    def result(self, wanted: Services, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the module's own results."""

    def work(self, store: ServicesFile, params: dict[str, t.Any]) -> dict[str, t.Any]:
        if self.check_mode:
            return self._change(store, params)
        with store.locked():
            return self._change(store, params)

    def _change(self, store: ServicesFile, params: dict[str, t.Any]) -> dict[str, t.Any]:
        present = store.read()
        wanted = self.desired(present, params)
        check_keys(wanted.values())
        kept = wanted == present
        with contextlib.ExitStack() as stack:
            host = None
            if params.get("publish", True):
                host = stack.enter_context(Instance(self.client, params["instance"]))
            done = apply_services(
                host,
                store,
                present,
                wanted,
                check=self.check_mode,
                deadline=params["deadline"],
                network=params.get("network"),
            )
        sides = [
            "".join(f"{service.summary()}\n" for _name, service in sorted(services.items()))
            for services in (present, wanted)
        ]
        header = {"before_header": str(store.path), "after_header": str(store.path)}
        own = [] if sides[0] == sides[1] else [{**header, "before": sides[0], "after": sides[1]}]
        return {
            "changed": done.changed or not kept,
            "diff": [*own, *done.diff],
            "files": done.files,
            "published": done.published,
            "network": done.network,
            "path": str(store.path),
            **self.result(wanted, params),
        }
