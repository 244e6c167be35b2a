# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Needs that are optional, needs with alternatives, stacks with a hyphen in their names, and web pages."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.fields import CatalogueError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Deployed, ProjectState


@pytest.fixture
def world(documents: dict[str, Any]) -> dict[str, Any]:
    """A shop that is paid by one of two kinds of nodes, and shows an explorer if there is one."""
    base = {**documents["lnd"], "needs": {}}
    documents["lnd"]["services"] = {"rest": {"protocol": "tcp", "port": 8080, "tls": "server"}}
    cln = {**documents["lnd"], "services": {"rest": {"protocol": "tcp", "port": 3010, "tls": "mutual"}}}
    documents["clightning"] = copy.deepcopy(cln)
    documents["explorer"] = {
        **base,
        "needs": {"bitcoind": ["rpc"]},
        "services": {"http": {"protocol": "tcp", "port": 8000}},
        "web": [{"service": "http", "title": "Block explorer", "icon": "files/icon.svg"}],
    }
    documents["web_shop"] = {
        **base,
        "needs": {
            "lightning": {
                "one_of": {"clightning": ["rest"], "lnd": {"services": ["rest"], "permissions": {"macaroon": ["read"]}}}
            },
            "explorer": {"services": ["http"], "optional": True},
        },
        "volumes": {"data": {"path": "/var/lib/shop", "size": "1GiB"}},
        "services": {"http": {"protocol": "tcp", "port": 80}},
    }
    return documents


def _running(*stacks: str, requested: tuple[str, ...] = ()) -> ProjectState:
    return ProjectState(stacks={name: Deployed(requested=name in requested, running=True) for name in stacks})


def _rules(plan: dict[str, Any]) -> set[str]:
    acl = next(item for item in plan["resources"] if item["kind"] == "network_acl")
    return {rule["description"] for rule in acl["egress"]}


# -- alternatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "stack", "other"),
    [(None, "clightning", "lnd"), ("", "clightning", "lnd"), ("lnd", "lnd", "clightning")],
)
def test_variable_chooses_one_of_the_alternatives(
    world: Any, planner: Any, namer: Any, chosen: str | None, stack: str, other: str
) -> None:
    made = planner("web-shop", variables={"web_shop_lightning": chosen})
    made.check()
    plan = made.plan(ProjectState(), namer)
    assert plan["stacks"] == ["tor", "bitcoind", stack, "web-shop"]
    shop, node = plan["instances"]["web-shop"], plan["instances"][stack]
    assert list(shop["needs"]) == [stack]
    assert shop["needs"][stack]["rest"]["address"] == node["address"]
    assert shop["choices"] == {"lightning": stack}
    permissions = {"macaroon": ["read"]} if stack == "lnd" else {}
    assert node["consumers"] == {
        "web-shop": {"address": shop["address"], "services": ["rest"], "permissions": permissions, "events": []}
    }
    assert f"web-shop to {stack} rest" in _rules(plan)
    assert f"{stack}/rest/web-shop" in plan["secrets"]
    # only clightning asks its clients for certificates
    assert shop["has_certificate"] == (stack == "clightning")


def test_unknown_alternative_is_rejected(world: Any, planner: Any) -> None:
    with pytest.raises(BcmError) as caught:
        planner("web-shop", variables={"web_shop_lightning": "clightnin"})
    assert str(caught.value) == (
        'Variable web_shop_lightning: Unknown choice "clightnin": did you mean "clightning"? '
        "Known choices: clightning, lnd"
    )


def test_removal_of_the_chosen_alternative_removes_its_users(world: Any, planner: Any, namer: Any) -> None:
    found = _running("tor", "bitcoind", "lnd", "clightning", "web-shop", requested=("web-shop", "lnd", "clightning"))
    variables = {"web_shop_lightning": "lnd"}
    gone = planner("clightning", state="absent", variables=variables).plan(found, namer)
    assert gone["stacks"] == ["clightning"]
    gone = planner("lnd", state="absent", variables=variables).plan(found, namer)
    assert gone["stacks"] == ["web-shop", "lnd"]


def test_circle_through_an_alternative_is_rejected(world: Any, write: Any) -> None:
    world["clightning"]["needs"] = {"web-shop": ["http"]}
    with pytest.raises(CatalogueError, match="in a circle: clightning -> web-shop -> clightning; take one"):
        Catalogue.read(roles=write(world))


# -- optional needs ----------------------------------------------------------------------------------------------------


def test_optional_need_is_used_only_if_it_is_there(world: Any, planner: Any, namer: Any) -> None:
    without = planner("web-shop").plan(ProjectState(), namer)
    assert "explorer" not in without["stacks"]
    assert "explorer" not in without["instances"]["web-shop"]["needs"]
    assert not [rule for rule in _rules(without) if "explorer" in rule]
    for plan in (
        planner("web-shop", "explorer").plan(ProjectState(), namer),
        planner("web-shop").plan(_running("tor", "bitcoind", "explorer", requested=("explorer",)), namer),
    ):
        assert list(plan["instances"]["web-shop"]["needs"]["explorer"]) == ["http"]
        assert "web-shop to explorer http" in _rules(plan)
    assert list(planner("web-shop", "explorer").plan(ProjectState(), namer)["instances"]["explorer"]["consumers"]) == [
        "web-shop"
    ]


def test_optional_need_comes_before_its_user(world: Any, planner: Any, namer: Any) -> None:
    order = planner("web-shop", "explorer").plan(ProjectState(), namer)["stacks"]
    assert order.index("explorer") < order.index("web-shop")


def test_users_are_configured_when_an_optional_need_appears(world: Any, planner: Any, namer: Any) -> None:
    found = _running("tor", "bitcoind", "clightning", "web-shop", requested=("web-shop",))
    plan = planner("explorer").plan(found, namer)
    assert set(plan["stacks"]) == {"tor", "bitcoind", "explorer", "clightning", "web-shop"}
    assert "explorer" in plan["instances"]["web-shop"]["needs"]
    # and left alone when it is there already
    there = _running("tor", "bitcoind", "clightning", "web-shop", "explorer", requested=("web-shop", "explorer"))
    assert planner("explorer").plan(there, namer)["stacks"] == ["tor", "bitcoind", "explorer"]


def test_removal_of_an_optional_need_keeps_its_users(world: Any, planner: Any, namer: Any) -> None:
    there = _running("tor", "bitcoind", "clightning", "web-shop", "explorer", requested=("web-shop", "explorer"))
    plan = planner("explorer", state="absent").plan(there, namer)
    assert plan["stacks"] == ["explorer"]
    assert "web-shop to explorer http" not in _rules(plan)


def test_optional_need_alone_keeps_nothing(world: Any, planner: Any, namer: Any) -> None:
    there = _running("tor", "bitcoind", "clightning", "web-shop", "explorer", requested=("web-shop",))
    plan = planner("lnd", state="absent").plan(there, namer)
    assert plan["stacks"] == ["explorer"], "nobody requested it, and its only user can do without"


def test_optional_alternatives(world: Any, planner: Any, namer: Any) -> None:
    world["web_shop"]["needs"]["lightning"]["optional"] = True
    plan = planner("web-shop").plan(ProjectState(), namer)
    assert plan["stacks"] == ["web-shop"]
    assert plan["instances"]["web-shop"]["needs"] == {}
    plan = planner("web-shop", "clightning").plan(ProjectState(), namer)
    assert list(plan["instances"]["web-shop"]["needs"]) == ["clightning"]


def test_provider_is_configured_when_a_new_stack_uses_it_optionally(world: Any, planner: Any, namer: Any) -> None:
    there = _running("tor", "bitcoind", "explorer", requested=("explorer",))
    plan = planner("web-shop").plan(there, namer)
    assert list(plan["instances"]["explorer"]["consumers"]) == ["web-shop"]
    # and left alone when it knows the stack
    there = _running("tor", "bitcoind", "clightning", "explorer", "web-shop", requested=("explorer", "web-shop"))
    assert "explorer" not in planner("web-shop").plan(there, namer)["stacks"]


def test_circle_through_an_optional_need_is_rejected(world: Any, write: Any) -> None:
    world["explorer"]["needs"] = {"web-shop": {"services": ["http"], "optional": True}}
    with pytest.raises(CatalogueError, match="in a circle: explorer -> web-shop -> explorer; take one"):
        Catalogue.read(roles=write(world))


# -- needs with a condition --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shows", "needs"), [(True, ["lnd", "explorer"]), (False, ["lnd"])])
def test_need_counts_if_its_condition_holds(
    world: Any, planner: Any, namer: Any, shows: bool, needs: list[str]
) -> None:
    world["web_shop"]["needs"]["explorer"] = {"services": ["http"], "when": "web_shop_explorer"}
    variables = {"web_shop_lightning": "lnd", "web_shop_explorer": shows}
    plan = planner("web-shop", variables=variables).plan(ProjectState(), namer)
    assert sorted(plan["instances"]["web-shop"]["needs"]) == sorted(needs)
    assert ("explorer" in plan["stacks"]) == shows == ("web-shop to explorer http" in _rules(plan))
    # what it does not need now may be removed
    there = _running("tor", "bitcoind", "lnd", "web-shop", "explorer", requested=("web-shop", "explorer"))
    gone = planner("explorer", state="absent", variables=variables).plan(there, namer)["stacks"]
    assert ("web-shop" in gone) == shows


def test_circle_through_a_need_with_a_condition_is_rejected(world: Any, write: Any) -> None:
    world["explorer"]["needs"] = {"web-shop": {"services": ["http"], "when": "false"}}
    with pytest.raises(CatalogueError, match="in a circle: explorer -> web-shop -> explorer; take one"):
        Catalogue.read(roles=write(world))


# -- services with a condition ----------------------------------------------------------------------------------------


def test_service_is_there_if_its_condition_holds(world: Any, planner: Any, namer: Any) -> None:
    """Its pages too, and its certificate is for its own program as well if that asks for one."""
    service = {"protocol": "tcp", "port": 9000, "tls": "mutual", "grpc": True, "when": "explorer_grpc"}
    world["explorer"]["services"]["grpc"] = service
    world["explorer"]["web"] = [{"service": "grpc", "title": "gRPC"}]
    for there in (True, False):
        plan = planner("explorer", variables={"explorer_grpc": there}).plan(ProjectState(), namer)
        instance = plan["instances"]["explorer"]
        assert ("grpc" in instance["services"], len(instance["web"])) == (there, int(there))
        (usage,) = [item["usage"] for item in plan["certificates"] if item["name"] == "explorer"] or [[]]
        assert ("client" in usage) == there
    assert plan["instances"]["explorer"]["services"].keys() == {"http"}


def test_stack_that_uses_a_disabled_service_is_refused(world: Any, planner: Any) -> None:
    world["explorer"]["services"]["http"]["when"] = "explorer_http"
    world["web_shop"]["needs"]["explorer"] = {"services": ["http"]}
    planner("web-shop", variables={"explorer_http": True, "web_shop_lightning": "lnd"})
    fault = "needs.explorer uses http of explorer, which is disabled: have this hold: explorer_http"
    with pytest.raises(CatalogueError, match=fault):
        planner("web-shop", variables={"explorer_http": False, "web_shop_lightning": "lnd"})


# -- credentials that a provider makes --------------------------------------------------------------------------------


LND = {"web_shop_lightning": "lnd"}


@pytest.fixture
def maker(world: Any, tmp_path: Path) -> None:
    """lnd makes the credentials of its consumers; a till uses the shop."""
    program = tmp_path / "roles/lnd/scripts/credentials.py"
    program.parent.mkdir(parents=True)
    program.touch()
    world["till"] = {**world["explorer"], "needs": {"web-shop": ["http"]}, "web": []}


@pytest.mark.usefixtures("maker")
def test_no_secret_is_shared_with_a_stack_that_makes_credentials(planner: Any, namer: Any) -> None:
    plan = planner("till", variables=LND).plan(ProjectState(), namer)
    assert plan["secrets"] == ["bitcoind/rpc/lnd", "tor/socks/bitcoind", "tor/socks/lnd", "web-shop/http/till"]
    instances = plan["instances"]
    assert [name for name, instance in instances.items() if instance["makes_credentials"]] == ["lnd"]
    assert {name: instance["credentials"] for name, instance in instances.items() if instance["credentials"]} == {
        "web-shop": ["lnd/rest/web-shop"]
    }


@pytest.mark.usefixtures("maker")
def test_stack_and_all_that_use_it_are_configured_after_who_makes_its_credentials(planner: Any, namer: Any) -> None:
    plan = planner("till", "explorer", variables=LND).plan(ProjectState(), namer)
    levels = {name: instance["level"] for name, instance in plan["instances"].items()}
    assert levels == {"tor": 0, "bitcoind": 0, "explorer": 0, "lnd": 0, "web-shop": 1, "till": 1}
    plan = planner("till", variables={}).plan(ProjectState(), namer)
    assert {instance["level"] for instance in plan["instances"].values()} == {0}


@pytest.mark.usefixtures("maker")
def test_consumer_is_configured_with_who_makes_its_credentials(planner: Any, namer: Any) -> None:
    there = _running("tor", "bitcoind", "lnd", "web-shop", "till", requested=("web-shop", "lnd", "till"))
    assert planner("lnd", variables=LND).plan(there, namer)["stacks"] == ["tor", "bitcoind", "lnd", "web-shop"]
    stopped = ProjectState(stacks={**there.stacks, "web-shop": Deployed(requested=True, running=False)})
    plan = planner("lnd", variables=LND).plan(stopped, namer)
    assert plan["stacks"] == ["tor", "bitcoind", "lnd"]
    assert list(plan["instances"]["lnd"]["consumers"]) == ["web-shop"], "what it has is not revoked"


@pytest.mark.usefixtures("maker")
def test_maker_of_credentials_that_are_optional_is_configured_with_its_consumer(
    world: Any, planner: Any, namer: Any
) -> None:
    world["web_shop"]["needs"]["lightning"]["optional"] = True
    assert planner("web-shop", variables=LND).plan(ProjectState(), namer)["stacks"] == ["web-shop"]
    there = _running("tor", "bitcoind", "lnd", "web-shop", requested=("web-shop", "lnd"))
    assert "lnd" in planner("web-shop", variables=LND).plan(there, namer)["stacks"]


@pytest.mark.usefixtures("maker")
def test_neighbour_keeps_the_credentials_of_stacks_that_are_not_asked_for(
    world: Any, planner: Any, namer: Any, tmp_path: Path
) -> None:
    """Unless its instance, which has them, is replaced by one of another image."""
    program = tmp_path / "roles/clightning/scripts/credentials.py"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch()
    optional = {name: {"services": ["rest"], "optional": True} for name in ("lnd", "clightning")}
    world["courier"] = {**world["explorer"], "needs": optional, "web": []}
    stacks = ("tor", "bitcoind", "lnd", "clightning", "courier")
    there = _running(*stacks, requested=("lnd", "clightning", "courier"))
    image = planner("courier", variables=LND).plan(there, namer)["instances"]["courier"]["image"]["hash"]
    current = Deployed(requested=True, running=True, image=image)
    there = ProjectState(stacks={**there.stacks, "courier": current})

    def configured(name: str, found: ProjectState) -> set[str]:
        return set(planner(name, variables=LND).plan(found, namer)["stacks"]).difference({"tor", "bitcoind"})

    assert configured("lnd", there) == {"lnd", "courier"}
    assert configured("clightning", there) == {"clightning", "courier"}
    assert configured("courier", there) == {"lnd", "clightning", "courier"}
    plan = planner("lnd", variables=LND).plan(there, namer)
    assert plan["instances"]["courier"]["credentials"] == ["lnd/rest/courier", "clightning/rest/courier"]
    older = ProjectState(stacks={**there.stacks, "courier": Deployed(requested=True, running=True, image="older")})
    assert configured("lnd", older) == {"lnd", "clightning", "courier"}


def test_more_levels_than_there_are_plays_are_rejected(world: Any, write: Any, tmp_path: Path) -> None:
    names = ("bitcoind", "a", "b", "c", "d")
    for former, name in itertools.pairwise(names):
        program = tmp_path / f"roles/{former}/scripts/credentials.py"
        program.parent.mkdir(parents=True)
        program.touch()
        service = "rpc" if former == "bitcoind" else "http"
        world[name] = {**world["explorer"], "needs": {former: [service]}, "web": []}
    with pytest.raises(CatalogueError, match=r"roles/d/meta/stack.yml: what makes its credentials gets its own ones"):
        Catalogue.read(roles=write(world))
    (tmp_path / "roles/c/scripts/credentials.py").unlink()
    assert Catalogue.read(roles=tmp_path / "roles").levels(names)["d"] == 3


# -- names -------------------------------------------------------------------------------------------------------------


def test_folder_and_variables_have_an_underscore_for_the_hyphen(world: Any, planner: Any, namer: Any) -> None:
    variables = {"web_shop_data_size": "3GiB", "web_shop_memory": "2GiB"}
    plan = planner("web-shop", variables=variables).plan(ProjectState(), namer)
    shop = plan["instances"]["web-shop"]
    assert (shop["stack"], shop["role"]) == ("web-shop", "bcm.core.web_shop")
    assert shop["role_path"].endswith("/roles/web_shop")
    assert shop["volumes"]["data"]["volume"] == "web-shop-data"
    assert (shop["volumes"]["data"]["size"], shop["limits"]["memory"]) == ("3GiB", "2GiB")
    assert plan["images"][-1]["alias"].startswith("bcm/web-shop/")


def test_two_stacks_whose_parts_share_a_name_are_rejected(world: Any, write: Any) -> None:
    world["web"] = {**world["explorer"], "web": [], "volumes": {"shop_data": {"path": "/srv", "size": "1GiB"}}}
    with pytest.raises(CatalogueError, match='"data" of web-shop and a part of web are both called "web-shop-data"'):
        Catalogue.read(roles=write(world))


def test_folder_with_a_hyphen_names_the_folder_to_use(world: Any, write: Any) -> None:
    world["web-shop"] = world.pop("web_shop")
    with pytest.raises(CatalogueError, match="rename it to web_shop; the stack is called web-shop then"):
        Catalogue.read(roles=write(world))


# -- web pages ---------------------------------------------------------------------------------------------------------


def test_web_page_is_in_the_plan(world: Any, planner: Any, namer: Any) -> None:
    plan = planner("explorer").plan(ProjectState(), namer)
    explorer = plan["instances"]["explorer"]
    page = {"service": "http", "path": "/", "title": "Block explorer", "icon": "files/icon.svg"}
    assert explorer["web"] == [{**page, "url": f"http://{explorer['address']}:8000/"}]
    assert plan["instances"]["bitcoind"]["web"] == []


def test_web_page_behind_tls_has_a_url_with_https(world: Any, planner: Any, namer: Any) -> None:
    world["explorer"]["services"]["http"]["tls"] = "server"
    world["explorer"]["web"][0]["path"] = "/blocks?page=1"
    explorer = planner("explorer").plan(ProjectState(), namer)["instances"]["explorer"]
    assert [page["url"] for page in explorer["web"]] == [f"https://{explorer['address']}:8000/blocks?page=1"]


def test_web_page_at_a_port_of_the_host_has_its_address(world: Any, planner: Any, namer: Any) -> None:
    world["explorer"]["services"]["http"]["host_port"] = True
    world["explorer"]["uplink"] = {"user": "explorer"}
    variables = {"explorer_http_host_port": "192.0.2.1:443"}
    plan = planner("explorer", variables=variables).plan(ProjectState(), namer)
    assert plan["instances"]["explorer"]["web"][0]["url"] == "http://192.0.2.1:443/"


def test_web_page_needs_a_service_that_speaks_tcp(world: Any, write: Any) -> None:
    world["explorer"]["services"]["http"]["protocol"] = "udp"
    world["web_shop"]["needs"].pop("explorer")
    with pytest.raises(CatalogueError, match="web.0.service is http, which does not speak tcp: name a service"):
        Catalogue.read(roles=write(world))
