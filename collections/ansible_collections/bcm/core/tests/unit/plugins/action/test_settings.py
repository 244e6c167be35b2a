# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings and variables of stacks are checked wherever an inventory has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

from ansible_collections.bcm.core.plugins.action.settings import ActionModule
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_variable_names
from ansible_collections.bcm.core.plugins.plugin_utils.inventory_places import find_places
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

LOCALHOST = {"ansible_connection": "local"}


class Inventory:
    """A folder as that of a data center, and what a task of the controller sees of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("hosts.yml", {"all": {"hosts": {"localhost": LOCALHOST}}})
        self.write("group_vars/all.yml", {"bcm_datacenter": "local", "bitcoind_prune": 0})

    def write(self, name: str, content: Any) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def _seen(self) -> tuple[DataLoader, dict[str, Any]]:
        loader = DataLoader()
        inventory = InventoryManager(loader, sources=[str(self.folder / "hosts.yml")])
        manager = VariableManager(loader, inventory)
        hostvars = HostVars(inventory, manager, loader)
        return loader, {**manager.get_vars(host=inventory.get_host("localhost")), "hostvars": hostvars}

    def run(self) -> dict[str, Any]:
        """The result of the module."""
        loader, variables = self._seen()
        task = MagicMock(spec=Task, args={}, async_val=0, check_mode=False, diff=False, action="bcm.core.settings")
        templar = Templar(loader=loader, variables=variables)
        result: dict[str, Any] = ActionModule(task, MagicMock(), MagicMock(), loader, templar).run(task_vars=variables)
        return result

    def check_stacks(self) -> list[str]:
        """What the plan says of the names of variables."""
        loader, variables = self._seen()
        catalogue = Catalogue.read()
        places = find_places(loader, variables["hostvars"], catalogue)
        templar = Templar(loader=loader, variables=variables)
        return check_variable_names(
            catalogue, lambda stacks: RoleVariables(templar, loader, stacks, variables, places)
        )


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    monkeypatch.setattr("ansible.utils.vars.load_extra_vars.extra_vars", {}, raising=False)
    return Inventory(tmp_path)


def in_file(name: str) -> Callable[[Inventory, dict[str, Any]], None]:
    return lambda inventory, variables: inventory.write(name, variables)


def in_hosts(**groups: Any) -> Callable[[Inventory, dict[str, Any]], None]:
    """In the file of hosts, where a value is None."""

    def write(inventory: Inventory, variables: dict[str, Any]) -> None:
        def filled(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: filled(item) for key, item in value.items()}
            return variables if value is None else value

        inventory.write("hosts.yml", {"all": {"hosts": {"localhost": LOCALHOST}, **filled(groups)}})

    return write


EVERYWHERE = {
    "all, in a file": in_file("group_vars/all.yml"),
    "all, in the hosts file": in_hosts(vars=None),
}
APART = {
    "an instance, in a file": in_file("host_vars/bitcoind.yml"),
    "all instances, in a file": in_file("group_vars/bcm_instances.yml"),
    "the group of a stack, in a file": in_file("group_vars/stack_bitcoind.yml"),
    "the group of a tier, in a file": in_file("group_vars/tier_bitcoin.yml"),
    "an instance, in the hosts file": in_hosts(hosts={"localhost": LOCALHOST, "bitcoind": None}),
    "all instances, in the hosts file": in_hosts(children={"bcm_instances": {"vars": None}}),
    "a group of one's own": in_hosts(children={"mine": {"hosts": {"bitcoind": {}}, "vars": None}}),
}
CONTROLLER = {
    "the controller, in a file": in_file("host_vars/localhost.yml"),
    "the controller, in the hosts file": in_hosts(hosts={"localhost": None}),
    "another machine": in_hosts(hosts={"localhost": LOCALHOST, "box": None}),
}
PLACES = {**EVERYWHERE, **APART, **CONTROLLER}


@pytest.mark.parametrize("place", PLACES)
def test_misspelt_setting_is_refused_wherever_it_is_set(inventory: Inventory, place: str) -> None:
    PLACES[place](inventory, {"bcm_storage_pol": "fast"})
    result = inventory.run()
    assert result["failed"] and result["error"]["code"] == "unknown_name"
    assert 'Unknown variable "bcm_storage_pol": did you mean "bcm_storage_pool"? Correct it' in result["msg"]


@pytest.mark.parametrize("place", PLACES)
def test_setting_with_an_undefined_variable_is_refused_wherever_it_is_set(inventory: Inventory, place: str) -> None:
    PLACES[place](inventory, {"bcm_server_timeout": "{{ [typo, 3] | max }}"})
    result = inventory.run()
    assert result["failed"] and result["msg"].startswith("bcm_server_timeout")
    assert "uses a variable that is not defined" in result["msg"]


@pytest.mark.parametrize("name", ["bcm_endpoint", "tor_source"])
def test_variable_that_is_left_to_be_set_says_what_it_may_be(inventory: Inventory, name: str) -> None:
    inventory.write("group_vars/all.yml", {name: "{{ undef(hint='write ssh://USER@HOST') }}"})
    result = inventory.run()
    assert result["failed"] and result["msg"] == f"{name} is not set yet: write ssh://USER@HOST"


@pytest.mark.parametrize("place", PLACES)
def test_setting_with_a_template_is_accepted(inventory: Inventory, place: str) -> None:
    PLACES[place](inventory, {"bcm_server_timeout": "{{ [slow | default(3), longest] | max }}", "longest": 9})
    assert inventory.run() == {"changed": False, "unread": [], "warnings": []}


@pytest.mark.parametrize("place", PLACES)
def test_misspelt_variable_of_a_stack_is_refused_wherever_it_is_set(inventory: Inventory, place: str) -> None:
    PLACES[place](inventory, {"bitcoind_soruce": "debian"})
    with pytest.raises(BcmError, match='Unknown variable "bitcoind_soruce": did you mean "bitcoind_source"'):
        inventory.check_stacks()


@pytest.mark.parametrize("place", {**APART, **CONTROLLER})
def test_variable_of_a_stack_is_refused_where_only_some_read_it(inventory: Inventory, place: str) -> None:
    """The plan reads those of the controller, and a role those of its instance."""
    PLACES[place](inventory, {"bitcoind_prune": 550})
    with pytest.raises(BcmError, match=r"^bitcoind_prune cannot be set for (host|group) \w+ alone") as error:
        inventory.check_stacks()
    assert error.value.code == "invalid_value"


@pytest.mark.parametrize("place", APART)
def test_setting_is_refused_where_only_instances_read_it(inventory: Inventory, place: str) -> None:
    PLACES[place](inventory, {"bcm_chain": "signet"})
    assert "bcm_chain cannot be set for " in inventory.run()["msg"]


@pytest.mark.parametrize("place", EVERYWHERE)
def test_variables_of_all_are_accepted(inventory: Inventory, place: str) -> None:
    EVERYWHERE[place](inventory, {"bcm_chain": "regtest", "bitcoind_prune": 550, "mine": "{{ typo }}"})
    assert inventory.run() == {"changed": False, "unread": [], "warnings": []}
    assert inventory.check_stacks() == []


def test_other_variable_with_the_prefix_is_warned_about(inventory: Inventory) -> None:
    inventory.write("group_vars/all.yml", {"bcm_of_my_own": 1})
    result = inventory.run()
    assert result["unread"] == ["bcm_of_my_own"]
    assert result["warnings"] == ["Variable bcm_of_my_own begins with bcm_, but is not one of the settings"]


def test_value_that_is_left_out_is_accepted(inventory: Inventory) -> None:
    inventory.write("group_vars/all.yml", {"bcm_ca_device": "{{ typo | default(omit) }}"})
    assert inventory.run()["changed"] is False
