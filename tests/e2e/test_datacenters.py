# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two data centers on a real Tor network: they meet at onion addresses, and so does a wallet that has a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests import tornet
from tests.e2e.conftest import FIRST, SECOND, Pair, Person, client, inside, reported
from tests.support import LXD_DIR, PATIENCE, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

# The test network forgets and finds again at its own pace, and so does Electrum.
VERSION = json.dumps({"id": 0, "method": "server.version", "params": ["test", "1.4"]}).encode() + b"\n"
DIRECTORY = "/tmp/wallet"


def cli(person: Person, name: str, *words: str) -> Any:
    return json.loads(person.succeeds("-d", name, "bitcoin-cli", *words))


def tip(person: Person, name: str) -> tuple[int, str]:
    found = cli(person, name, "getblockchaininfo")
    return found["blocks"], found["bestblockhash"]


def mine(person: Person, name: str, count: int) -> None:
    assert len(cli(person, name, "generatetodescriptor", str(count), "raw(51)")) == count


def agree(person: Person, height: int) -> bool:
    tips = {tip(person, name) for name in (FIRST, SECOND)}
    return len(tips) == 1 and tips.pop()[0] == height


@pytest.fixture(scope="module")
def synced(person: Person, pair: Pair) -> Pair:
    """Each has blocks that only the other has mined: a hundred each."""
    person.succeeds("-d", FIRST, "bitcoin-cli", "addnode", pair.onions[SECOND]["bitcoind"], "add")
    mine(person, FIRST, 100)
    until(lambda: agree(person, 100), "blocks of the first")
    mine(person, SECOND, 100)
    until(lambda: agree(person, 200), "blocks of the other")
    return pair


def test_no_two_services_have_an_address_in_common(pair: Pair) -> None:
    addresses = [address for stacks in pair.onions.values() for address in stacks.values()]
    assert [set(stacks) for stacks in pair.onions.values()] == [{"bitcoind", "electrs"}, {"bitcoind"}]
    assert len({address.partition(":")[0] for address in addresses}) == 3


def test_nodes_meet_at_onion_addresses(person: Person, synced: Pair) -> None:
    out = cli(person, FIRST, "getpeerinfo")
    assert synced.onions[SECOND]["bitcoind"] in [peer["addr"] for peer in out]
    peers = [*out, *cli(person, SECOND, "getpeerinfo")]
    nodes = [peer for peer in peers if "electrs" not in peer["subver"]]
    assert {peer["network"] for peer in nodes} == {"onion"}
    assert [peer["permissions"] for peer in nodes] == [[]] * len(nodes), "who comes through Tor is nobody's friend"
    told = cli(person, SECOND, "getnetworkinfo")["localaddresses"]
    assert [f"{item['address']}:{item['port']}" for item in told] == [synced.onions[SECOND]["bitcoind"]]


@dataclass(frozen=True)
class Wallet:
    """Electrum, on a machine that has no network but the SOCKS port of a tor with a client key."""

    instance: str
    lxd: Client

    def run(self, *argv: str) -> lxd_exec.ExecResult:
        return lxd_exec.run(self.lxd, self.instance, lxd_exec.Command(argv), deadline=PATIENCE)

    def height(self) -> int | None:
        """That of the newest block it knows; None if it is not connected."""
        done = self.run("runuser", "-u", "electrum", "--", "electrum", "--regtest", "-D", DIRECTORY, "getinfo")
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        return int(found["blockchain_height"]) if found.get("connected") else None


@pytest.fixture(scope="module")
def key(person: Person, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `bcm onion authorize` hands over."""
    file = tmp_path_factory.mktemp("keys") / "alice.auth_private"
    said = person.succeeds("-d", FIRST, "onion", "authorize", "alice", "electrs-electrum", "--output", str(file))
    line = file.read_text()
    assert line.split(":")[3].strip() not in said
    return line


@pytest.fixture(scope="module")
def alice(relays: tornet.TorNetwork, key: str) -> tornet.Client:
    alice = tornet.Client(relays, "alice", key)
    alice.tor.bootstrapped()
    return alice


@pytest.fixture(scope="module")
def wallet(pair: Pair, alice: tornet.Client) -> Iterator[Wallet]:
    with Client(str(LXD_DIR / "unix.socket"), project="default") as lxd:
        aliases = [item["name"] for item in lxd.get("/1.0/images/aliases", recursion=1)]
        image = next(alias for alias in aliases if alias.startswith("bcm/electrum/"))
        wallet = Wallet("outside", lxd)
        devices = {
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "tor": {
                "type": "proxy",
                "bind": "instance",
                "listen": "tcp:127.0.0.1:9050",
                "connect": f"tcp:127.0.0.1:{alice.port}",
            },
        }
        source = {"type": "image", "alias": image}
        body = {"name": wallet.instance, "source": source, "profiles": [], "devices": devices}
        lxd.wait(lxd.send("POST", "/1.0/instances", body), what="make the wallet", deadline=PATIENCE)
        state = f"/1.0/instances/{wallet.instance}/state"
        try:
            lxd.wait(lxd.send("PUT", state, {"action": "start"}), what="start the wallet", deadline=PATIENCE)
            until(lambda: wallet.run("systemctl", "is-system-running").stdout.strip() != b"starting", "its system")
            wallet.run("install", "-d", "-o", "electrum", DIRECTORY)
            started = wallet.run(
                *("systemd-run", "--unit=wallet", "--uid=electrum", "electrum", "--regtest", "-D", DIRECTORY),
                *("daemon", "--oneserver", "--server", f"{pair.onions[FIRST]['electrs']}:t"),
                *("--proxy", "socks5:127.0.0.1:9050"),
            )
            assert started.returncode == 0, started.stderr.decode()
            yield wallet
        finally:
            stopped = lxd.send("PUT", state, {"action": "stop", "force": True})
            lxd.wait(stopped, what="stop the wallet", deadline=PATIENCE)
            gone = lxd.send("DELETE", f"/1.0/instances/{wallet.instance}")
            lxd.wait(gone, what="remove the wallet", deadline=PATIENCE)


def place(pair: Pair) -> tuple[str, int]:
    """Where the Electrum server is for those outside."""
    address, _colon, port = pair.onions[FIRST]["electrs"].partition(":")
    return address, int(port)


def test_wallet_with_a_key_follows_the_server(person: Person, synced: Pair, wallet: Wallet) -> None:
    height = tip(person, FIRST)[0]
    until(lambda: wallet.height() == height, "the wallet's height")
    mine(person, FIRST, 1)
    until(lambda: wallet.height() == height + 1, "the next block in the wallet")


def test_client_without_a_key_cannot_read_the_descriptor(
    pair: Pair, relays: tornet.TorNetwork, alice: tornet.Client
) -> None:
    assert b"electrs" in alice.get(*place(pair), VERSION)
    assert tornet.NO_KEY in tornet.refusal(relays, *place(pair))


def test_onion_addresses_survive_the_removal_of_all_data(person: Person, synced: Pair, wallet: Wallet) -> None:
    """The instance of tor, its volume, and tor itself a moment later."""
    with client(FIRST) as lxd:
        stop = lxd.send("PUT", "/1.0/instances/tor/state", {"action": "stop", "force": True})
        lxd.wait(stop, what="stop tor", deadline=PATIENCE)
        lxd.wait(lxd.send("DELETE", "/1.0/instances/tor"), what="remove tor", deadline=PATIENCE)
        lxd.send("DELETE", "/1.0/storage-pools/default/volumes/custom/tor-data")
    found = reported(person.succeeds("-d", FIRST, "stack", "start", "electrs", "--json"))
    back = {stack: item["onions"][0]["address"] for stack, item in found.items() if item["onions"]}
    assert back == synced.onions[FIRST]
    inside(FIRST, "tor", "systemctl", "kill", "--signal=KILL", "tor")
    mine(person, FIRST, 1)
    height = tip(person, FIRST)[0]
    until(lambda: wallet.height() == height, "the wallet's height")
    until(lambda: agree(person, height), "blocks of the first")


def test_revoked_client_is_locked_out(
    person: Person, pair: Pair, wallet: Wallet, key: str, relays: tornet.TorNetwork
) -> None:
    person.succeeds("-d", FIRST, "onion", "revoke", "alice")
    until(lambda: wallet.height() is None, "the wallet's disconnection")
    assert tornet.WRONG_KEY in tornet.refusal(relays, *place(pair), key)
    (service,) = (
        item
        for item in json.loads(person.succeeds("-d", FIRST, "onion", "list", "--json"))["services"]
        if item["service"] == "electrs-electrum"
    )
    assert (service["clients"], service["published"]) == ([], True)


def test_copied_keys_of_another_data_center_are_refused(person: Person, pair: Pair) -> None:
    secrets = [person.home / "inventories" / name / "secrets/regtest.onions.json" for name in (FIRST, SECOND)]
    own = secrets[1].read_text()
    try:
        secrets[1].write_text(Path(secrets[0]).read_text())
        done = person.types("-d", SECOND, "stack", "start", "bitcoind")
        assert done.returncode != 0
        assert "are those of bcm-first-regtest, and this is bcm-other-regtest" in done.stdout + done.stderr
    finally:
        secrets[1].write_text(own)
