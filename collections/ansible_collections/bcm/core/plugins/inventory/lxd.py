# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: lxd
author: Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
short_description: Use instances of LXD and Incus as an inventory
version_added: 0.1.0
description:
  - Reads the instances of an endpoint and adds each as a host that the connection plugin P(bcm.core.lxd#connection) can
    reach.
  - The file has to end in C(bcm.yml), C(bcm.yaml), C(lxd.yml) or C(lxd.yaml).
  - Groups are created from the instances' C(user.bcm.*) settings, C(stack_electrs), C(tier_bitcoin),
    C(chain_regtest) and C(datacenter_local), and from the cluster member they are on, C(host_node1). More groups and
    variables come from O(groups), O(keyed_groups) and O(compose).
  - Each host has the variables C(lxd_name), C(lxd_project), C(lxd_status), C(lxd_type), C(lxd_location),
    C(lxd_architecture), C(lxd_profiles), C(lxd_image) (properties of its image) and C(lxd_user) (its keys below
    C(user.), cloud-init's left out).
extends_documentation_fragment:
  - bcm.core.lxd.plugin
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Marks the file as an inventory of this plugin.
    type: str
    required: true
    choices: [bcm.core.lxd]
  projects:
    description:
      - Projects to read. Shell patterns such as C(bcm-*) are allowed.
      - The default is O(project).
    type: list
    elements: str
  status:
    description: Only instances in one of these states.
    type: list
    elements: str
    choices: [running, stopped, frozen, error]
  type:
    description: Only instances of this type.
    type: str
    choices: [container, virtual-machine]
  qualify:
    description:
      - Name the hosts C(instance.project). Needed when instances of several projects have the same name.
    type: bool
    default: false
notes:
  - The client and the connection plugin are loaded while the inventory is read, so that workers do not have to load
    them again.
seealso:
  - plugin: bcm.core.lxd
    plugin_type: connection
"""

EXAMPLES = r"""
# inventories/local/lxd.yml: what runs in all data centers of this machine
plugin: bcm.core.lxd
projects: [bcm-*]
status: [running]
qualify: true

---
# another machine, cached, with a group for each release of the image's system
plugin: bcm.core.lxd
endpoint: ssh://root@node1.example
project: web
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/bcm/inventory
keyed_groups:
  - key: lxd_image.release
    prefix: release
"""

import fnmatch
import typing as t

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.plugins.loader import connection_loader

from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client, quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.plugin_utils._action import plain
from ansible_collections.bcm.core.plugins.plugin_utils._lxd_options import client_from

if t.TYPE_CHECKING:
    from ansible.inventory.data import InventoryData
    from ansible.parsing.dataloader import DataLoader

_CONNECTION = "bcm.core.lxd"
_ENDPOINT_OPTIONS = ("endpoint", "client_cert", "client_key", "server_cert", "server_timeout")
_GROUPED = ("stack", "tier", "chain", "datacenter")
# user data of cloud-init, which may hold secrets, under the names LXD gave it before cloud-init.*
_CLOUD_INIT = ("user-data", "vendor-data", "network-config", "meta-data")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Instances as hosts."""

    NAME = "bcm.core.lxd"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("bcm.yml", "bcm.yaml", "lxd.yml", "lxd.yaml"))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        # Workers are forks of this process: what is loaded here, none of them has to load.
        connection_loader.get(_CONNECTION, class_only=True)
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        use_cache = cache and self.get_option("cache")
        instances = self._cache.get(key) if use_cache else None
        if instances is None:
            try:
                instances = self._fetch()
            except LxdError as error:
                raise AnsibleParserError(shown(f"Inventory {path}: {error}")) from None
            if self.get_option("cache"):
                self._cache[key] = instances
        self._populate(instances)

    def _fetch(self) -> list[dict[str, t.Any]]:
        """What the hosts are made from, of all instances in the projects asked for: plain data, as a cache wants it."""
        options = {name: plain(self.get_option(name)) for name in (*_ENDPOINT_OPTIONS, "project")}
        options["timeout"] = options.pop("server_timeout")
        wanted = plain(self.get_option("projects")) or [options["project"]]
        with client_from(options) as client:
            found = []
            for project in wanted:
                found += _instances(client, project)
        return [describe(instance) for instance in found]

    def _populate(self, instances: list[dict[str, t.Any]]) -> None:
        strict = self.get_option("strict")
        shared = {"ansible_connection": _CONNECTION}
        for option in _ENDPOINT_OPTIONS:
            if self.get_option(option) is not None:
                shared[f"bcm_{option}"] = self.get_option(option)
        named: dict[str, str] = {}
        for variables in filter(self._is_wanted, instances):
            name, project = variables["lxd_name"], variables["lxd_project"]
            host = f"{name}.{project}" if self.get_option("qualify") else name
            if named.setdefault(host, project) != project:
                raise AnsibleParserError(
                    f'Instances called "{name}" exist in the projects {named[host]} and {project}: set "qualify: true"'
                )
            self.inventory.add_host(host)
            variables = {**shared, "bcm_lxd_instance": name, "bcm_project": project, **variables}
            for variable, value in variables.items():
                self.inventory.set_variable(host, variable, value)
            for group in groups_of(variables):
                group = self.inventory.add_group(self._sanitize_group_name(group))
                self.inventory.add_host(host, group)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _is_wanted(self, variables: dict[str, t.Any]) -> bool:
        status, kind = self.get_option("status"), self.get_option("type")
        return (not status or variables["lxd_status"] in status) and (not kind or variables["lxd_type"] == kind)


def describe(instance: dict[str, t.Any]) -> dict[str, t.Any]:
    """The variables of an instance as the API shows it."""
    config = instance["expanded_config"]
    user = {key.removeprefix("user."): value for key, value in config.items() if key.startswith("user.")}
    location = instance["location"]
    return {
        "lxd_name": instance["name"],
        "lxd_project": instance["project"],
        "lxd_status": instance["status"].lower(),
        "lxd_type": instance["type"],
        # what a server that is in no cluster calls itself
        "lxd_location": "" if location == "none" else location,
        "lxd_architecture": instance["architecture"],
        "lxd_profiles": instance["profiles"],
        "lxd_image": {key.removeprefix("image."): value for key, value in config.items() if key.startswith("image.")},
        "lxd_user": {key: value for key, value in user.items() if key not in _CLOUD_INIT},
    }


def groups_of(variables: dict[str, t.Any]) -> list[str]:
    """The groups an instance belongs to by what it says about itself."""
    user = variables["lxd_user"]
    groups = [f"{label}_{user[f'bcm.{label}']}" for label in _GROUPED if user.get(f"bcm.{label}")]
    if variables["lxd_location"]:
        groups.append(f"host_{variables['lxd_location']}")
    return groups


def _instances(client: Client, project: str) -> list[dict[str, t.Any]]:
    """The instances of a project, or of all projects that a pattern matches."""
    if any(sign in project for sign in "*?["):
        found = client.get("/1.0/instances", project=None, recursion=1, **{"all-projects": "true"})
        return [instance for instance in found if fnmatch.fnmatchcase(instance["project"], project)]
    found = client.get("/1.0/instances", project=project, recursion=1)
    if not found and client.find(f"/1.0/projects/{quoted(project)}", project=None) is None:
        raise LxdError(
            f'there is no project "{project}" at {client.endpoint.name}', code="not_found", about=f'project "{project}"'
        )
    return found
