# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles write into the configuration of their programs, as Ansible makes it of a part of a plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import COLLECTION, ROOT

_TOR = {"socks": {"address": "10.0.0.1", "port": 9050}}
_RPC = {"address": "10.0.0.2", "port": 8332}


def rendered(folder: Path, role: str, template: str, bcm: dict[str, Any], secrets: dict[str, str]) -> list[str]:
    """The lines of a file that a role makes of its defaults and these variables."""
    path, target = COLLECTION / "roles" / role, folder / "rendered"
    tasks = [{"ansible.builtin.include_vars": str(path / name)} for name in ("defaults/main.yml", "vars/main.yml")]
    content = f"{{{{ lookup('ansible.builtin.template', '{path}/templates/{template}') }}}}"
    tasks.append({"ansible.builtin.copy": {"content": content, "dest": str(target), "mode": "0600"}})
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([play]))
    given = {"bcm": {"stack": role, "role_path": str(path), "user": role, **bcm}, "bcm_secrets": secrets}
    (folder / "given.json").write_text(json.dumps(given))
    words = [str(Path(sys.executable).parent / "ansible-playbook"), "play.yml", "-e", "@given.json"]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_HOME": str(folder)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target.read_text().splitlines()


def user(*services: str, **permissions: Any) -> dict[str, Any]:
    return {"address": "10.0.0.9", "services": services, "permissions": permissions}


def liquid(folder: Path, **consumers: Any) -> list[str]:
    services = {"rpc": {"port": 7041}, "p2p": {"port": 7042}}
    bcm = {"chain": "mainnet", "address": "10.0.0.3", "services": services, "consumers": consumers}
    secrets = {"bitcoind/rpc/liquid": "parent", "liquid/rpc/shop": "of-shop"}
    needs = {"tor": _TOR, "bitcoind": {"rpc": _RPC}}
    return rendered(folder, "liquid", "elements.conf.j2", {**bcm, "needs": needs}, secrets)


def test_elements_alone_listens_to_no_peer_and_knows_no_user(tmp_path: Path) -> None:
    lines = liquid(tmp_path)
    assert {"listen=0", "trim_headers=1", "rpcallowip=127.0.0.1", "rpcwhitelistdefault=0"} <= set(lines)
    assert not [line for line in lines if line.startswith(("rpcauth", "rpcwhitelist=", "bind=", "whitelist="))]


def test_stack_that_uses_elements_makes_its_calls_and_reads_blocks(tmp_path: Path) -> None:
    lines = liquid(tmp_path, shop=user("rpc", "p2p", rpc_calls=["getblockcount", "getblockhash"]))
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


def test_stack_that_makes_calls_alone_leaves_the_headers_trimmed(tmp_path: Path) -> None:
    lines = liquid(tmp_path, shop=user("rpc", rpc_calls=["getblockcount"]))
    assert {"listen=0", "trim_headers=1", "rpcwhitelist=shop:getblockcount"} <= set(lines)


def test_stack_that_names_no_calls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"Stack shop uses the RPC of liquid.*needs\.liquid\.permissions"):
        liquid(tmp_path, shop=user("rpc"))


_LIQUID = {"rpc": {"address": "10.0.0.3", "port": 7041}, "p2p": {"address": "10.0.0.3", "port": 7042}}
_SQL = {"sql": {"address": "10.0.0.4", "port": 5432}}


def nbxplorer(folder: Path, **more: Any) -> list[str]:
    needs = {"tor": {}, "bitcoind": {"rpc": _RPC, "p2p": {"address": "10.0.0.2", "port": 8333}}, "postgresql": _SQL}
    bcm = {"chain": "mainnet", "needs": {**needs, **more}}
    names = ("bitcoind/rpc", "liquid/rpc", "postgresql/sql")
    return rendered(folder, "nbxplorer", "nbxplorer.conf.j2", bcm, {f"{name}/nbxplorer": "own" for name in names})


def test_tracker_follows_liquid_if_it_is_there(tmp_path: Path) -> None:
    assert {
        "chains=btc,lbtc",
        "lbtc.rpc.url=http://10.0.0.3:7041/",
        "lbtc.rpc.user=nbxplorer",
        "lbtc.rpc.password=own",
        "lbtc.rpc.defaultwallet=nbxplorer",
        "lbtc.node.endpoint=10.0.0.3:7042",
    } <= set(nbxplorer(tmp_path, liquid=_LIQUID))


def test_tracker_alone_follows_bitcoin(tmp_path: Path) -> None:
    lines = nbxplorer(tmp_path)
    assert "chains=btc" in lines and not [line for line in lines if line.startswith("lbtc")]


def btcpayserver(folder: Path, **more: Any) -> list[str]:
    needs = {"tor": _TOR, "nbxplorer": {"http": {"address": "10.0.0.5", "port": 24444}}, "postgresql": _SQL}
    bcm = {"chain": "mainnet", "domain": "local.bcm", "choices": {"lightning": "lnd"}, "onions": {}}
    secrets = {"postgresql/sql/btcpayserver": "own"}
    return rendered(folder, "btcpayserver", "btcpayserver.conf.j2", {**bcm, "needs": {**needs, **more}}, secrets)


def test_shop_takes_coins_of_liquid_if_it_is_there(tmp_path: Path) -> None:
    assert {
        "chains=btc,lbtc",
        "btc.explorer.url=https://10.0.0.5:24444/",
        "lbtc.explorer.url=https://10.0.0.5:24444/",
        "lbtc.explorer.cookiefile=/etc/btcpayserver/nbxplorer.cookie",
    } <= set(btcpayserver(tmp_path, liquid={}))


def test_shop_alone_takes_bitcoins(tmp_path: Path) -> None:
    lines = btcpayserver(tmp_path)
    assert "chains=btc" in lines and not [line for line in lines if line.startswith("lbtc")]
