# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data centers: the inventory folders, the current one, and its variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import ca_provider, datacenter_names, unknown
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_json, texts_of
from ansible_collections.bcm.core.plugins.module_utils._plan.settings import hint_of, not_set_yet

from .setup import ROOT

if TYPE_CHECKING:
    from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
    from ansible_collections.bcm.core.plugins.module_utils._plan.request import Request
    from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack
    from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

CURRENT = ROOT / "bcm.json"
_INVENTORIES = ROOT / "inventories"
_PROVIDERS = ("trezor", "software")
#: what tells which device has the password of the vault, so that it cannot be in an encrypted file
_OF_VAULT = ("chain", "bcm_chain", "bcm_ca_provider", "bcm_ca_device", "bcm_vault_generation")


class UsageError(BcmError):
    """An argument is invalid: exit status 2."""

    code = "usage"


def current() -> str:
    """Return the name of the current data center."""
    try:
        return texts_of(read_json(CURRENT.read_text(encoding="utf-8")))["datacenter"]
    except FileNotFoundError:
        return "local"
    except (OSError, ValueError, KeyError) as error:
        raise BcmError(CURRENT, "is damaged", "type `bcm config set datacenter=NAME`", code="damaged") from error


def names() -> list[str]:
    return sorted(path.name for path in _INVENTORIES.iterdir() if path.is_dir() and not path.name.startswith("."))


class DataCenter:
    """One inventory folder, its variables read as Ansible reads them."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or current()
        self.inventory = _INVENTORIES / self.name
        #: what `trezor_session.session` yielded, while there is one
        self.session: Mapping[str, str] = {}
        #: returns the password of its vault
        self.ask_password: Callable[[DataCenter], str] | None = None
        self._asking = False
        self._given: dict[str, Any] = {}
        # Ansible reads its configuration once, when imported, by default from the current directory.
        os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
        if self.name not in names():
            raise UsageError.of(unknown("data center", self.name, names()))

    @cached_property
    def loader(self) -> Any:
        """The reader of variable files, which decrypts them."""
        from ansible.errors import AnsibleError

        from .passwords import Loader, give_passwords

        loader = Loader()
        # otherwise the variables of another data center apply, too, if its folder is the current directory
        loader.set_basedir(str(ROOT))
        try:
            give_passwords(loader, self.name, self._own_password)
        except AnsibleError as error:
            raise BcmError("The passwords of Ansible's vaults:", error, code="wrong_key") from error
        return loader

    def _own_password(self) -> str:
        """The password of its vault. Raises AnsibleError if it has none."""
        from ansible.errors import AnsibleError

        if self._asking:
            raise AnsibleError("what tells which device has the password is encrypted with it")
        self._asking = True
        try:
            if self.ca_provider != "trezor" or self.ask_password is None:
                raise AnsibleError(f"data center {self.name} has no vault")
            return self.ask_password(self)
        finally:
            self._asking = False

    @cached_property
    def _readable(self) -> Any:
        """The templar with the variables of all files that are not encrypted as a whole, which need no password."""
        with self.loader.without_encrypted_files():
            return self._read()

    @cached_property
    def _templar(self) -> Any:
        """The templar with all variables. Raises BcmError if an encrypted file says where its password is."""
        readable = self._readable
        if not self.loader.left_out:
            return readable
        templar = self._read()
        for name in _OF_VAULT:
            if templar.available_variables.get(name) != readable.available_variables.get(name):
                raise BcmError(
                    f"{self.inventory}: {name}",
                    "is in an encrypted file, and tells which device has the password of that file",
                    f"move it to {self.group_vars}, which stays readable",
                    code="invalid_value",
                )
        return templar

    def _read(self) -> Any:
        from ansible.errors import AnsibleError
        from ansible.inventory.manager import InventoryManager
        from ansible.template import Templar
        from ansible.vars.manager import VariableManager

        loader = self.loader
        try:
            inventory = InventoryManager(loader, sources=[f"{self.inventory}/"])
            host = inventory.get_host("localhost")
            variables = {**VariableManager(loader, inventory).get_vars(host=host), **self._given}
            templar = Templar(loader=loader, variables=variables)
            declared = templar.template(variables.get("bcm_datacenter", "local"))
        except AnsibleError as error:
            raise BcmError(f"{self.inventory}:", error, code="invalid_value") from error
        if declared != self.name and "bcm_datacenter" not in self._given:
            # Two folders for one data center would each undo what the other did.
            raise BcmError(
                self.group_vars,
                f"says bcm_datacenter: {declared}, which is another folder",
                f"type `bcm -d {self.name} config set datacenter={self.name}`",
                code="invalid_value",
            )
        return templar

    def give(self, variables: Mapping[str, Any]) -> None:
        """Set variables of the command line, which take precedence.

        Raises UsageError for another data center's, and BcmError for one whose name is like a setting's.
        """
        from ansible_collections.bcm.core.plugins.module_utils._plan.settings import check_setting_names

        chain = self.chain
        self._given.update(variables)
        for templar in [self.__dict__[name] for name in ("_readable", "_templar") if name in self.__dict__]:
            templar.available_variables = {**templar.available_variables, **variables}
        check_setting_names(self._readable.available_variables)
        for name, meant in (("bcm_datacenter", self.name), ("bcm_chain", chain), ("chain", chain)):
            given = str(self.variable(name, "")) if name in variables else meant
            if given != meant:
                raise UsageError(
                    name,
                    f"is given as {given}, but data center {self.name} ({chain}) is meant",
                    "leave it out, and name another data center with -d, or change the setting with `bcm config set`",
                )

    def variable(self, name: str, default: Any = None) -> Any:
        """Return the value of a variable of the command line or the inventory, with templates resolved."""
        from ansible.errors import AnsibleError

        templar = self._readable if name in _OF_VAULT else self._templar
        value = templar.available_variables.get(name)
        if (hint := hint_of(value)) is not None:
            raise not_set_yet(name, hint).within(str(self.inventory))
        for left, hint in self._left(templar).items():
            if isinstance(value, str) and re.search(rf"\b{left}\b", value):
                raise not_set_yet(left, hint).within(str(self.inventory))
        try:
            return default if value is None else templar.template(value)
        except AnsibleError as error:
            raise BcmError(f"{self.inventory}:", f"{name}: {error}", code="invalid_value") from error

    def settings(self, variables: dict[str, str]) -> dict[str, Any]:
        """Return those settings (key -> variable) to which the inventory gives a value."""
        there = self._templar.available_variables.keys() - self.left_to_set.keys()
        return {key: self.variable(name) for key, name in variables.items() if name in there}

    @property
    def left_to_set(self) -> dict[str, str]:
        """The variables that its inventory leaves to be set, and what each may be."""
        return self._left(self._templar)

    @staticmethod
    def _left(templar: Any) -> dict[str, str]:
        there = templar.available_variables
        return {name: hint for name, value in there.items() if (hint := hint_of(value)) is not None}

    @property
    def group_vars(self) -> Path:
        """The file of its settings. Of a folder ``all`` and a file ``all.yml``, Ansible reads the folder alone."""
        folder = self.inventory / "group_vars" / "all"
        return folder / "main.yml" if folder.is_dir() else folder.with_suffix(".yml")

    @property
    def endpoint(self) -> str:
        """The configured endpoint of LXD; empty for this machine's own."""
        return str(self.variable("bcm_endpoint") or os.environ.get("BCM_ENDPOINT") or "")

    @property
    def storage_pool(self) -> str:
        return str(self.variable("bcm_storage_pool", "default"))

    @property
    def chain(self) -> str:
        return str(self.variable("chain") or self.variable("bcm_chain", "regtest"))

    @property
    def ca_provider(self) -> str:
        """Where the root key is: "trezor", or "software", which means a file."""
        declared = str(self.variable("bcm_ca_provider", ca_provider(self.chain)))
        if declared not in _PROVIDERS:
            raise unknown("provider", declared, _PROVIDERS).within(f"{self.inventory}: bcm_ca_provider")
        return declared

    @property
    def ca_device(self) -> str | None:
        """The device, if there are several, as trezorlib names it."""
        declared = self.variable("bcm_ca_device")
        return str(declared) if declared else None

    @property
    def vault_generation(self) -> int:
        """The generation of the vault's password; `bcm secret rekey` increments it."""
        declared = str(self.variable("bcm_vault_generation", 1))
        if not re.fullmatch(r"[1-9][0-9]{0,8}", declared):
            raise BcmError(
                f"{self.inventory}:",
                f"bcm_vault_generation is {declared}",
                "write a whole number from 1 up",
                code="invalid_value",
            )
        return int(declared)

    @property
    def secrets(self) -> Path:
        """The folder of the secrets and of the issued certificates."""
        return self.inventory / "secrets"

    def variable_files(self) -> list[Path]:
        """The files of its inventory, without its secrets."""
        return sorted(path for path in self.inventory.rglob("*") if path.is_file() and self.secrets not in path.parents)

    @property
    def project(self) -> str:
        return datacenter_names(self.name, self.chain).project

    def request(self, stacks: Sequence[str], **more: Any) -> Request:
        """Return a request for the planner, with the settings of this data center."""
        from ansible_collections.bcm.core.plugins.module_utils._plan.request import Request

        access = self.variable("bcm_access") or {}
        return Request(stacks, self.chain, self.name, subnet=self.variable("bcm_subnet"), access=access, **more)

    def role_variables(self, stacks: Sequence[Stack]) -> RoleVariables:
        """The variables of some stacks, as the playbook sees them."""
        from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

        given = {**self._templar.available_variables, "bcm": {"chain": self.chain, "datacenter": self.name}}
        return RoleVariables(self._templar, self.loader, stacks, given)

    def claim(self, client: Client) -> None:
        """Lock it until this process ends. Raises BcmError if it is locked, or its secrets are not ours."""
        from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import claim

        claim(client, self.connection, self.name, self.chain, self.secrets, run=os.getpid())

    def refuse_other_runs(self, client: Client, *, everywhere: bool = False) -> None:
        """Raise BcmError if another run changes it, or, with ``everywhere``, any data center of its endpoint."""
        from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import lock_name
        from ansible_collections.bcm.core.plugins.module_utils._lxd.lease import refuse_other_runs

        refuse_other_runs(client, os.getpid(), None if everywhere else lock_name(self.project))

    @property
    def connection(self) -> dict[str, Any]:
        """The options of a client of its endpoint."""
        keys = ("client_cert", "client_key", "server_cert")
        return {"endpoint": self.endpoint or None, **{key: self.variable(f"bcm_{key}") for key in keys}}
