# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles write into the configuration of their programs, as Ansible makes it of a part of a plan."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support import COLLECTION, ROOT

_TOR = {"socks": {"address": "10.0.0.1", "port": 9050}}
_RPC = {"address": "10.0.0.2", "port": 8332}


# In a process of its own: Ansible's loader would load the collection again for all tests of this one.
_EVALUATE = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

given = json.load(sys.stdin)
init_plugin_loader([given["collections"]])
loader, known = DataLoader(), given["known"]
for name in ("defaults/main.yml", "vars/main.yml"):
    known |= loader.load_from_file(f"{known['bcm']['role_path']}/{name}", trusted_as_template=True)
templar = Templar(loader, variables={**known, **given["variables"]})
print(templar.template(trust_as_template(given["expression"])), end="")
"""


def evaluated(role: str, expression: str, bcm: dict[str, Any], secrets: dict[str, str], **variables: Any) -> str:
    """What an expression of a role comes to, with its defaults and these variables. Raises ValueError."""
    own = {"stack": role, "role_path": str(COLLECTION / "roles" / role), "user": role, **bcm}
    frame = str(COLLECTION / "roles/_common")
    given = {
        "collections": str(ROOT / "collections"),
        "known": {"bcm": own, "bcm_secrets": secrets, "ansible_search_path": [frame]},
        "variables": variables,
        "expression": f"{{{{ {expression} }}}}",
    }
    words = [sys.executable, "-c", _EVALUATE]
    done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def rendered(role: str, template: str, bcm: dict[str, Any], secrets: dict[str, str]) -> list[str]:
    """The lines of a file that a role makes."""
    lookup = f"lookup('bcm.core.template', bcm.role_path ~ '/templates/{template}')"
    return evaluated(role, lookup, bcm, secrets).splitlines()


def user(*services: str, **permissions: Any) -> dict[str, Any]:
    return {"address": "10.0.0.9", "services": services, "permissions": permissions}


def liquid(**consumers: Any) -> list[str]:
    services = {"rpc": {"port": 7041}, "p2p": {"port": 7042}}
    bcm = {"chain": "mainnet", "address": "10.0.0.3", "services": services, "consumers": consumers}
    secrets = {"bitcoind/rpc/liquid": "parent", "liquid/rpc/shop": "of-shop"}
    needs = {"tor": _TOR, "bitcoind": {"rpc": _RPC}}
    return rendered("liquid", "elements.conf.j2", {**bcm, "needs": needs}, secrets)


def test_elements_alone_listens_to_no_peer_and_knows_no_user() -> None:
    lines = liquid()
    assert {"listen=0", "trim_headers=1", "rpcallowip=127.0.0.1", "rpcwhitelistdefault=0"} <= set(lines)
    assert not [line for line in lines if line.startswith(("rpcauth", "rpcwhitelist=", "bind=", "whitelist="))]


def test_stack_that_uses_elements_makes_its_calls_and_reads_blocks() -> None:
    lines = liquid(shop=user("rpc", "p2p", rpc_calls=["getblockcount", "getblockhash"]))
    assert {
        "listen=1",
        "bind=10.0.0.3:7042",
        # It has no permission "in", and would not start with one.
        "whitelist=noban,download@10.0.0.9",
        # Without all headers it serves no blocks.
        "trim_headers=0",
        "rpcbind=10.0.0.3:7041",
        "rpcallowip=10.0.0.9",
        "rpcwhitelist=shop:getblockcount,getblockhash",
    } <= set(lines)
    assert [line for line in lines if line.startswith("rpcauth=shop:")] and "of-shop" not in " ".join(lines)


def test_stack_that_makes_calls_alone_leaves_the_headers_trimmed() -> None:
    lines = liquid(shop=user("rpc", rpc_calls=["getblockcount"]))
    assert {"listen=0", "trim_headers=1", "rpcwhitelist=shop:getblockcount"} <= set(lines)


def test_stack_that_names_no_calls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Stack shop uses the RPC of liquid.*needs\.liquid\.permissions"):
        liquid(shop=user("rpc"))


_LIQUID = {"rpc": {"address": "10.0.0.3", "port": 7041}, "p2p": {"address": "10.0.0.3", "port": 7042}}
_SQL = {"sql": {"address": "10.0.0.4", "port": 5432}}


def nbxplorer(**more: Any) -> list[str]:
    needs = {"tor": {}, "bitcoind": {"rpc": _RPC, "p2p": {"address": "10.0.0.2", "port": 8333}}, "postgresql": _SQL}
    bcm = {"chain": "mainnet", "needs": {**needs, **more}}
    names = ("bitcoind/rpc", "liquid/rpc", "postgresql/sql")
    return rendered("nbxplorer", "nbxplorer.conf.j2", bcm, {f"{name}/nbxplorer": "own" for name in names})


def test_tracker_follows_liquid_if_it_is_there() -> None:
    assert {
        "chains=btc,lbtc",
        "lbtc.rpc.url=http://10.0.0.3:7041/",
        "lbtc.rpc.user=nbxplorer",
        "lbtc.rpc.password=own",
        "lbtc.rpc.defaultwallet=nbxplorer",
        "lbtc.node.endpoint=10.0.0.3:7042",
    } <= set(nbxplorer(liquid=_LIQUID))


def test_tracker_alone_follows_bitcoin() -> None:
    lines = nbxplorer()
    assert "chains=btc" in lines and not [line for line in lines if line.startswith("lbtc")]


def btcpayserver(**more: Any) -> list[str]:
    needs = {"tor": _TOR, "nbxplorer": {"http": {"address": "10.0.0.5", "port": 24444}}, "postgresql": _SQL}
    bcm = {"chain": "mainnet", "domain": "local.bcm", "choices": {"lightning": "lnd"}, "onions": {}, "through_tor": []}
    secrets = {"postgresql/sql/btcpayserver": "own"}
    return rendered("btcpayserver", "btcpayserver.conf.j2", {**bcm, "needs": {**needs, **more}}, secrets)


def test_shop_takes_coins_of_liquid_if_it_is_there() -> None:
    assert {
        "chains=btc,lbtc",
        "btc.explorer.url=https://10.0.0.5:24444/",
        "lbtc.explorer.url=https://10.0.0.5:24444/",
        "lbtc.explorer.cookiefile=/etc/btcpayserver/nbxplorer.cookie",
    } <= set(btcpayserver(liquid={}))


def test_shop_alone_takes_bitcoins() -> None:
    lines = btcpayserver()
    assert "chains=btc" in lines and not [line for line in lines if line.startswith("lbtc")]


_LND = {"lnd": {"rest": {"address": "10.0.0.6", "port": 8080}}}
_CLIGHTNING = {"clightning": {"rest": {"address": "10.0.0.8", "port": 3010}}}


def core_lightning(expression: str, **variables: Any) -> str:
    """An expression of Core Lightning's role."""
    bcm = {
        "chain": "mainnet",
        "services": {
            name: {"port": port, "listen": "127.0.0.1"}
            for name, port in (("p2p", 9735), ("rest", 3010), ("websocket", 9738))
        },
        "onions": {},
        "needs": {"tor": _TOR, "bitcoind": {"rpc": _RPC}},
    }
    return evaluated("clightning", expression, bcm, {"bitcoind/rpc/clightning": "own"}, **variables)


_CONFIG = "lookup('bcm.core.template', bcm.role_path ~ '/templates/config.j2')"


def test_core_lightning_runs_the_plugins_of_its_owner_from_a_folder_of_its_own() -> None:
    plugins = ["plugins/summary.py", "/home/alice/rebalance"]
    lines = core_lightning(_CONFIG, clightning_plugins=plugins).splitlines()
    folder = "/usr/local/lib/clightning"
    assert [line for line in lines if line.startswith("plugin=")] == [
        f"plugin={folder}/summary.py", f"plugin={folder}/rebalance"
    ]  # fmt: skip
    assert json.loads(core_lightning("clightning_plugin_files | to_json", clightning_plugins=plugins)) == [
        {"path": f"{folder}/summary.py", "src": plugins[0], "mode": "0755"},
        {"path": f"{folder}/rebalance", "src": plugins[1], "mode": "0755"},
    ]


@pytest.mark.parametrize("asked", [False, True])
def test_core_lightning_asks_for_rates_if_its_owner_wants_them(asked: bool) -> None:
    lines = core_lightning(_CONFIG, clightning_currency_rates=asked).splitlines()
    assert ("disable-plugin=cln-currencyrate" in lines) is not asked
    assert {"disable-plugin=cln-grpc", "disable-plugin=cln-bip353", "always-use-proxy=true"} <= set(lines)


@pytest.mark.parametrize("asked", [False, True])
def test_core_lightning_lets_browsers_in_if_its_owner_wants_them(asked: bool) -> None:
    lines = core_lightning(_CONFIG, clightning_websocket=asked).splitlines()
    assert "disable-plugin=wss-proxy" in lines
    bound = ["bind-addr=127.0.0.1:9735", *["bind-addr=ws:127.0.0.1:9738"] * asked]
    assert [line for line in lines if line.startswith(("bind-addr", "wss-"))] == bound


@pytest.mark.parametrize(("chain", "network"), [("mainnet", "mainnet"), ("testnet3", "testnet"), ("signet", "signet")])
@pytest.mark.parametrize("database", ["bolt", "sqlite"])
def test_lnd_looks_for_its_first_nodes_through_tor_alone(chain: str, network: str, database: str) -> None:
    """By lnd's own lookups, over TCP, at the server that is its default; whatever its database is."""
    bcm = {
        "chain": chain,
        "services": {"p2p": {"port": 9735, "listen": "10.0.0.6"}},
        "onions": {},
        "needs": {"tor": _TOR, "bitcoind": dict.fromkeys(("rpc", "zmqblock", "zmqtx"), _RPC)},
    }
    template = "lookup('bcm.core.template', bcm.role_path ~ '/templates/lnd.conf.j2')"
    lines = evaluated("lnd", template, bcm, {"bitcoind/rpc/lnd": "own"}, lnd_database=database).splitlines()
    assert [line for line in lines if line.startswith("tor.")] == [
        "tor.active=true", "tor.socks=10.0.0.1:9050", "tor.streamisolation=true"
    ]  # fmt: skip
    assert {f"bitcoin.{network}=true", f"db.backend={database}"} <= set(lines)
    # Nothing switches the lookups off, or brings addresses to others.
    assert not [line for line in lines if line.startswith(("nobootstrap", "externalip", "nat", "db.postgres"))]


def ride_the_lightning(needs: dict[str, Any], expression: str, **variables: Any) -> str:
    """An expression of Ride The Lightning's role, as JSON if it is no text."""
    bcm = {
        "stack": "ridethelightning",
        "datacenter": "local",
        "domain": "local.bcm",
        "services": {"http": {"port": 3000, "listen": "127.0.0.1"}},
    }
    secrets = {"lnd/rest/ridethelightning": "abcdef01", "clightning/rest/ridethelightning": "a-rune"}
    return evaluated("ridethelightning", expression, {**bcm, "needs": needs}, secrets, **variables)


def explorer_of_ride_the_lightning(needs: dict[str, Any], **variables: Any) -> str:
    expression = "ridethelightning_config.nodes[0].settings.blockExplorerUrl"
    return ride_the_lightning({**_LND, **needs}, expression, **variables)


@pytest.mark.parametrize(
    ("needs", "indices", "names"),
    [
        (_LND, [1], ["local lnd"]),
        (_CLIGHTNING, [2], ["local clightning"]),
        ({**_CLIGHTNING, **_LND}, [1, 2], ["local lnd", "local clightning"]),
    ],
)
def test_ride_the_lightning_shows_one_node_or_both(needs: dict[str, Any], indices: list[int], names: list[str]) -> None:
    """A node has the same number, which is that of its database, whether the other one is there or not."""
    config = json.loads(ride_the_lightning(needs, "ridethelightning_config | to_json"))
    assert ([node["index"] for node in config["nodes"]], config["defaultNodeIndex"]) == (indices, indices[0])
    assert [node["lnNode"] for node in config["nodes"]] == names
    stacks = [name.split()[1] for name in names]
    assert len({node["settings"]["channelBackupPath"] for node in config["nodes"]}) == len(stacks)
    waits = json.loads(ride_the_lightning(needs, "ridethelightning_units['ridethelightning-node'].wait_for | to_json"))
    assert waits == {f"{stack}/rest": None for stack in stacks}
    assert sorted(json.loads(ride_the_lightning(needs, "ridethelightning_credentials | to_json"))) == sorted(stacks)
    assert json.loads(ride_the_lightning(needs, "ridethelightning_expected | to_json")) == {"nodes": stacks[::-1]}


def test_each_node_is_reached_by_a_connection_that_verifies_its_certificate() -> None:
    lookup = "lookup('bcm.core.template', bcm.role_path ~ '/templates/nginx.conf.j2')"
    text = ride_the_lightning({**_LND, **_CLIGHTNING}, lookup)
    config = json.loads(ride_the_lightning({**_LND, **_CLIGHTNING}, "ridethelightning_config | to_json"))
    urls = [node["settings"]["lnServerUrl"].removeprefix("http://") for node in config["nodes"]]
    assert re.findall(r"listen (.*);\s+proxy_pass (.*);\s+proxy_ssl_name (.*);", text) == [
        (urls[0], "10.0.0.6:8080", "lnd.local.bcm"),
        (urls[1], "10.0.0.8:3010", "clightning.local.bcm"),
    ]
    assert "proxy_ssl_verify on;" in text.partition("server {")[0]


def test_ride_the_lightning_links_to_the_own_explorer() -> None:
    own = {"esplora": {"http": {"address": "10.0.0.7", "port": 3000}}}
    assert explorer_of_ride_the_lightning(own) == "https://10.0.0.7:3000"
    named = {"ridethelightning_explorer": "https://esplora.home.arpa"}
    assert explorer_of_ride_the_lightning(own, **named) == "https://esplora.home.arpa"
    # With none, it would link to one of its authors' choice.
    assert explorer_of_ride_the_lightning({}) == "https://explorer.invalid"


def lightning_charge(*consumers: str) -> str:
    """The configuration of nginx in front of Lightning Charge."""
    bcm = {
        "services": {"http": {"port": 9112, "listen": "127.0.0.1"}},
        "needs": {"clightning": _CLIGHTNING["clightning"]},
        "consumers": {name: user("http") for name in consumers} | {"other": user("another service")},
    }
    secrets = {"lightning-charge/token": "of-the-person", "lightning-charge/http/other": "of-other"}
    secrets |= {f"lightning-charge/http/{name}": f"of-{name}" for name in consumers}
    return "\n".join(rendered("lightning_charge", "nginx.conf.j2", bcm, secrets))


def test_each_stack_that_uses_lightning_charge_has_a_token_of_its_own() -> None:
    """A token is one of those in the map, and what is behind nginx is given the person's own alone."""

    def known(text: str) -> dict[str, str]:
        found = re.findall('^ *"Basic ([A-Za-z0-9+/=]+)" "(.*)";$', text, re.M)
        return {base64.b64decode(token).decode(): name for token, name in found}

    person = {"api-token:of-the-person": "person"}
    assert known(lightning_charge()) == person
    both = {**person, "api-token:of-shop": "shop", "api-token:of-kiosk": "kiosk"}
    assert known(lightning_charge("shop", "kiosk")) == both
    # Of a stack that was removed, it is refused.
    assert known(lightning_charge("kiosk")) == {**person, "api-token:of-kiosk": "kiosk"}
    (passed,) = re.findall('proxy_set_header Authorization "Basic (.*)";', lightning_charge("shop"))
    assert base64.b64decode(passed).decode() == "api-token:of-the-person"


def esplora(chain: str, expression: str, **variables: Any) -> str:
    bcm = {"chain": chain, "services": {"http": {"port": 3000, "listen": "127.0.0.1"}}}
    needs = {"bitcoind": {"rpc": _RPC}}
    return evaluated("esplora", expression, {**bcm, "needs": needs}, {"bitcoind/rpc/esplora": "own"}, **variables)


def test_pages_of_the_explorer_are_found_without_the_name_of_the_chain() -> None:
    template = "lookup('bcm.core.template', bcm.role_path ~ '/templates/nginx.conf.j2')"
    text = esplora("testnet3", template)
    assert "return 302 /testnet$request_uri;" in text and "location /testnet/api/" in text
    # Otherwise, browsers were led from TLS to a port where nothing speaks HTTP without it.
    assert "absolute_redirect off;" in text
    assert "return 302" not in esplora("mainnet", template)


@pytest.mark.parametrize(
    ("lightmode", "search", "index"),
    [(False, False, "full"), (True, False, "light"), (False, True, "full-search"), (True, True, "light-search")],
)
def test_index_that_was_made_in_another_way_is_deleted(lightmode: bool, search: bool, index: str) -> None:
    variables = {"esplora_lightmode": lightmode, "esplora_address_search": search}
    found = esplora("regtest", "esplora_index ~ ' ' ~ esplora_units.esplora.before[0]", **variables)
    own, _rm, _options, *others = found.split()
    known = [f"/var/lib/esplora/{name}" for name in ("full", "full-search", "light", "light-search")]
    assert own == f"/var/lib/esplora/{index}"
    # Always in this order: the unit is restarted when its text is another one.
    assert others == [name for name in known if name != own]
