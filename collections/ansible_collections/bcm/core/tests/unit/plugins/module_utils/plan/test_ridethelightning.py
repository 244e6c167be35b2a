# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of Ride The Lightning: which nodes it shows, what it reaches, and what it may do there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan import checks
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.plan import Planner
from ansible_collections.bcm.core.plugins.module_utils._plan.request import ProjectState, Request
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

from .conftest import Planning, image_names

NAME = "ridethelightning"
#: what would give it more than its pages do: other credentials, the signer, the node's other secrets, and its end
MORE = {
    "lnd": {"macaroon:generate", "macaroon:read", "macaroon:write", "signer:generate", "signer:read", "info:write"},
    "clightning": {"createrune", "showrunes", "blacklistrune", "invokerune", "commando", "stop", "plugin", "setconfig",
                   "makesecret", "staticbackup", "emergencyrecover", "recover", "getemergencyrecoverdata",
                   "signpsbt", "sendpsbt", "signinvoice", "exposesecret", "sql", "dev-crash"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def without_assertions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other stacks use filters of the collection, which are not loaded here."""
    monkeypatch.setattr(checks, "check_assertions", lambda *_stacks: None)


def plan(node: str) -> dict[str, Any]:
    loader = DataLoader()
    request = Request(stacks=(NAME,), chain="regtest", datacenter="local")
    known = {"bcm": {"chain": "regtest"}, "allow_below_floor": ["clightning"], "ridethelightning_node": node}
    planner = Planner(Catalogue.read([]), request, lambda asked: RoleVariables(Templar(loader), loader, asked, known))
    return Planning(planner).plan(ProjectState(), image_names)


@pytest.mark.parametrize(
    ("node", "nodes"), [("lnd", ["lnd"]), ("clightning", ["clightning"]), ("both", ["lnd", "clightning"])]
)
def test_it_has_the_nodes_that_it_shows_and_no_others(node: str, nodes: list[str]) -> None:
    planned = plan(node)
    assert set(planned["stacks"]) == {"tor", "bitcoind", *nodes, NAME}
    assert planned["instances"][NAME]["credentials"] == [f"{name}/rest/{NAME}" for name in nodes]
    acl = next(item for item in planned["resources"] if item["kind"] == "network_acl")
    own = {rule["description"] for rule in acl["egress"] if rule["description"].startswith(f"{NAME} to ")}
    assert own == {f"{NAME} to {name} rest" for name in nodes}


def test_each_node_is_asked_for_what_its_pages_do_and_no_more() -> None:
    needs = Catalogue.read([])[NAME].needs
    instances = plan("both")["instances"]
    for node, more in MORE.items():
        given = instances[node]["consumers"][NAME]
        assert given["services"] == ["rest"] and given["permissions"] == needs[node].permissions
        (permissions,) = given["permissions"].values()
        assert permissions and not more & set(permissions)


def test_unknown_node_is_refused() -> None:
    with pytest.raises(BcmError, match="ridethelightning_node must be one of: lnd, clightning, both"):
        plan("eclair")
