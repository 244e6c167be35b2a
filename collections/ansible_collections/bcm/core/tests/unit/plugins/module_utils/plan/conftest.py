# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A catalogue of the shape of ours, as folders of its own, and a planner over it."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nativetypes
import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.image_choice import ImageNames
from ansible_collections.bcm.core.plugins.module_utils._plan.model import plain
from ansible_collections.bcm.core.plugins.module_utils._plan.plan import Planner
from ansible_collections.bcm.core.plugins.module_utils._plan.request import ProjectState, Request, Site
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack

ALL = ["mainnet", "testnet3", "testnet4", "signet", "regtest"]


def _debian(package: str) -> dict[str, Any]:
    return {"debian": {"kind": "deb", "name": package, "licence": "MIT"}}


STACKS: dict[str, dict[str, Any]] = {
    "tor": {
        "tier": "underlay",
        "services": {"socks": {"protocol": "tcp", "port": 9050}},
        "volumes": {"data": {"path": "/var/lib/tor", "size": "256MiB", "backup": "files"}},
        "uplink": {"user": "debian-tor"},
        "artifact": {"version_command": ["tor", "--version"], "sources": _debian("tor")},
    },
    "bitcoind": {
        "tier": "bitcoin",
        "needs": {"tor": ["socks"]},
        "services": {
            "rpc": {
                "protocol": "tcp",
                "ports": {"mainnet": 8332, "testnet3": 18332, "testnet4": 48332, "signet": 38332, "regtest": 18443},
            },
            "p2p": {
                "protocol": "tcp",
                "ports": {"mainnet": 8333, "testnet3": 18333, "testnet4": 48333, "signet": 38333, "regtest": 18444},
            },
        },
        "volumes": {"data": {"path": "/var/lib/bitcoind", "size": {"mainnet": "900GiB", "default": "1GiB"}}},
        "artifact": {
            "floor": {"versions": ["31.1", "30.3", "29.4"], "why": "31.1 mends an address leak"},
            "version_command": ["bitcoind", "--version"],
            "sources": {
                "release": {
                    "kind": "archive",
                    "name": "bitcoin-core",
                    "licence": "MIT",
                    "version": "31.1",
                    "files": {
                        "x86_64": {"url": "https://example.org/{version}/bitcoin-{version}.tar.gz", "sha256": "1" * 64}
                    },
                    "signed": {
                        "sums": "https://example.org/{version}/SHA256SUMS",
                        "signatures": "https://example.org/{version}/{signer}.asc",
                        "signers": {"alice": "A" * 40, "bob": {"fingerprint": "B" * 40, "wkd": "bob@example.org"}},
                        "threshold": 2,
                    },
                },
                **_debian("bitcoin-knots"),
            },
        },
        "image": {"variables": ["bitcoind_dbcache"]},
    },
    "electrs": {
        "tier": "bitcoin",
        "needs": {"bitcoind": {"services": ["rpc", "p2p"], "permissions": {"rpc_calls": ["getblock"]}}},
        "services": {"electrum": {"protocol": "tcp", "port": 60401}},
        "volumes": {"data": {"path": "/var/lib/electrs", "size": "1GiB"}},
        "assertions": [
            {
                "that": "bitcoind_prune | int == 0",
                "fail_msg": "electrs reads every block; set bitcoind_prune to 0, or do without electrs",
            }
        ],
        "artifact": {"sources": _debian("electrs")},
    },
    "electrum": {
        "tier": "desktop",
        "needs": {"electrs": ["electrum"]},
        "artifact": {"sources": _debian("electrum")},
        "display": True,
    },
    "lnd": {
        "tier": "lightning",
        "chains": ["mainnet", "regtest"],
        "needs": {"bitcoind": ["rpc"], "tor": ["socks"]},
        "artifact": {"sources": _debian("lnd")},
    },
}

VARIABLES = {"bitcoind_prune": 0, "bitcoind_dbcache": 450, "bitcoind_source": "release"}


class JinjaVariables:
    """Variables as the planner wants them, over plain Jinja."""

    places = ()

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables
        self.environment = jinja2.nativetypes.NativeEnvironment(undefined=jinja2.StrictUndefined)

    def value(self, name: str) -> Any:
        return self.variables.get(name)

    @property
    def given(self) -> Mapping[str, Any]:
        return self.variables

    def names(self, stack: Stack) -> set[str]:
        """Those that tests give these stacks."""
        known = {*VARIABLES, "bitcoind_serve", "tor_relay", "relay_or_host_port", "shop_onion"}
        return {name for name in known if name.startswith(f"{stack.prefix}_")}

    def check(self, stack: Stack) -> None:
        """There are no roles behind these stacks."""

    def holds(self, condition: str) -> bool:
        try:
            return bool(self.environment.from_string("{{ " + condition + " }}").render(**self.variables))
        except jinja2.TemplateError as error:
            raise BcmError(str(error)) from error

    def text(self, template: str) -> str:
        return str(self.environment.from_string(template).render(**self.variables))


WriteStacks = Callable[..., Path]


@pytest.fixture
def documents() -> dict[str, dict[str, Any]]:
    """The parsed stack.yml of each stack, for a test to spoil."""
    stacks = copy.deepcopy(STACKS)
    for name, document in stacks.items():
        stacks[name] = {
            "schema": 1,
            "description": f"What {name} does",
            "chains": list(ALL),
            **document,
        }
    return stacks


@pytest.fixture
def write(tmp_path: Path) -> WriteStacks:
    """Writes stack.yml files below a directory and returns it."""

    def writer(stacks: Mapping[str, Any], directory: str = "roles") -> Path:
        for name, document in stacks.items():
            path = tmp_path / directory / name / "meta/stack.yml"
            path.parent.mkdir(parents=True)
            text = document if isinstance(document, str) else json.dumps(document)  # JSON is YAML
            path.write_text(text, encoding="utf-8")
        return tmp_path / directory

    return writer


@pytest.fixture
def catalogue(documents: dict[str, Any], write: WriteStacks) -> Catalogue:
    return Catalogue.read(roles=write(documents))


class Planning:
    """The plan of a request, as Ansible gets it."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    def check(self) -> None:
        """Make as much of it as needs no endpoint."""

        class Enough(Exception):
            pass

        def nothing_is_read(_site: Site) -> ProjectState:
            raise Enough

        with pytest.raises(Enough):
            self.planner.plan(nothing_is_read, image_names)

    def plan(self, found: ProjectState, *more: Any) -> dict[str, Any]:
        return dict(plain(self.planner.plan(lambda _site: found, *more)))


MakePlanner = Callable[..., Planning]


@pytest.fixture
def planner(documents: dict[str, Any], write: WriteStacks) -> MakePlanner:
    """A planner for some stacks; keywords are the request's fields, `variables` the inventory's."""

    # when a test has changed the documents
    catalogue = functools.cache(lambda: Catalogue.read(roles=write(documents)))

    def make(*stacks: str, variables: Mapping[str, Any] | None = None, **fields: Any) -> Planning:
        request = Request(**{"stacks": stacks, "chain": "regtest", "datacenter": "local", **fields})
        known = JinjaVariables({**VARIABLES, **(variables or {})})
        return Planning(Planner(catalogue(), request, lambda _stacks: known))

    return make


def image_names(stack: Stack, variables: Mapping[str, Any], architecture: str) -> tuple[str, str]:
    return "b" * 64, (stack.name.encode().hex() + "0" * 64)[:64]


@pytest.fixture
def namer() -> ImageNames:
    return image_names


@pytest.fixture
def by_kind() -> Callable[[Sequence[Mapping[str, Any]]], list[tuple[str, str, str]]]:
    """Resources as triples of kind, name and state."""
    return lambda resources: [(item["kind"], item["name"], item["state"]) for item in resources]
