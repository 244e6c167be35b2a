# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Lightning nodes in two data centers, on a real Tor network: they meet at onion addresses, and pay each other."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.bcm.core.plugins.module_utils._plan.request import VERSION
from tests import tornet
from tests.e2e import neighbour
from tests.e2e.conftest import FIRST, KILLS, SECOND, Pair, Person, client, follow, inside, kill_when, reported
from tests.support import COLLECTION, PATIENCE, ROOT, until

pytestmark = [pytest.mark.containers, pytest.mark.apart]

CAPACITY = 1_000_000  # satoshi
PAYMENTS = 200


def lncli(name: str, *words: str) -> dict[str, Any]:
    return dict(json.loads(inside(name, "lnd", "lncli", *words)))


def bitcoin(name: str, *words: str) -> str:
    return inside(name, "bitcoind", "bitcoin-cli", *words)


def mine(name: str, count: int) -> None:
    """Blocks that both nodes have in the end."""
    follow(lambda: bitcoin(name, "generatetodescriptor", str(count), "raw(51)"), have_all_blocks, "the blocks in both")


def have_all_blocks() -> bool:
    """Whether both nodes have the newest block."""
    height = int(bitcoin(FIRST, "getblockcount"))
    if all(reached(node, height) for node in (FIRST, SECOND)):
        return True
    for other in json.loads(bitcoin(FIRST, "getaddednodeinfo")):
        if not other["connected"]:
            # By itself, bitcoind tries again once a minute.
            bitcoin(FIRST, "addnode", other["addednode"], "onetry")
    return False


def reached(name: str, height: int) -> bool:
    """Whether a node is at that height; it may not be at work yet."""
    found = inside(name, "lnd", "sh", "-c", "lncli getinfo || true")
    info = json.loads(found) if found.startswith("{") else {}
    return info.get("block_height") == height and bool(info["synced_to_chain"])


@pytest.fixture(scope="module")
def nodes(person: Person, pair: Pair) -> dict[str, str]:
    """The key and onion address of each, as other nodes are told."""
    other = pair.onions[SECOND]["bitcoind"]
    if other not in [node["addednode"] for node in json.loads(bitcoin(FIRST, "getaddednodeinfo"))]:
        bitcoin(FIRST, "addnode", other, "add")
    has_blocks = bitcoin(FIRST, "getblockcount") != "0"
    with person.settings(SECOND).open("a") as settings:
        settings.write("lnd_watchtower: true\nlnd_max_pending_channels: 50\n")
    for name in (FIRST, SECOND):
        started = json.loads(person.succeeds("-d", name, "stack", "start", "lnd", "--json"))
        assert any("mines some" in warning for warning in started["warnings"]) != has_blocks
    person.succeeds("-d", FIRST, "lightning", "fund")
    # All that was mined for it can be spent, so that more blocks make it no richer.
    bitcoin(FIRST, "generatetodescriptor", "100", "raw(51)")
    until(have_all_blocks, "blocks in both nodes")
    (tower,) = lncli(SECOND, "tower", "info")["uris"]
    guarded = json.loads(person.succeeds("-d", FIRST, "lightning", "guard", SECOND, "--json"))
    assert guarded == {"stack": "lnd", "watchtower": tower}
    found = reported(person.succeeds("-d", FIRST, "stack", "start", "lnd", "--json"))
    assert found["lnd"]["facts"]["watchtowers"] == [tower]
    return {name: lncli(name, "getinfo")["uris"][0] for name in (FIRST, SECOND)}


@dataclass(frozen=True)
class Targets:
    """Where the copies of the other's channels go: servers of the first, and a folder that a person's command fills."""

    folder: Path
    #: the stacks of the first that are not the collection's
    stacks: Path


@pytest.fixture(scope="module")
def targets(person: Person, nodes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    """The stack backups, with a target of each type, and an SSH server that is away until it is started."""
    warned = json.loads(person.succeeds("-d", SECOND, "stack", "start", "backups", "--json"))["warnings"]
    assert any("set backups_targets" in warning for warning in warned)
    line = person.succeeds("-d", SECOND, "backup", "key").strip()
    stacks = tmp_path_factory.mktemp("stacks")
    shutil.copytree(Path(__file__).parent / "stacks/box", stacks / "box")
    shutil.copy(COLLECTION / "plugins/module_utils/_guest/copies.py", stacks / "box/scripts")
    person.succeeds("-d", FIRST, "config", "set", f"stack_path={stacks}")
    with person.settings(FIRST).open("a") as settings:
        settings.write(f"box_key: {line}\n")
    made = reported(person.succeeds("-d", FIRST, "stack", "start", "box", "--json"))["box"]["onions"]
    onions = {item["service"]: item["address"].partition(":")[0] for item in made}
    host_key = " ".join(inside(FIRST, "box", "cat", "/var/lib/box/host_key.pub").split()[:2])
    ssh = {"type": "ssh", "user": "box", "path": "/var/lib/box/copies", "host_key": host_key}
    keys = {"access_key": "AKIAEXAMPLE", "secret_key": "very-secret-key"}
    folder = tmp_path_factory.mktemp("desk") / "copies"
    uses: dict[str, dict[str, Any]] = {
        "attic": {**ssh, "host": onions["ssh"], "port": 2222},
        "late": {**ssh, "host": onions["late"], "port": 2223, "path": "/var/lib/box/late"},
        "store": {"type": "s3", "endpoint": f"http://{onions['store']}:9000", "bucket": "copies", **keys},
        "desk": {"type": "controller", "path": str(folder)},
    }
    with person.settings(SECOND).open("a") as settings:
        settings.write(f"backups_targets: {json.dumps(uses)}\n")
    fault = "target late lacks the newest copy of lnd, and cannot be reached: tor cannot reach"

    def is_said() -> bool:
        warned = json.loads(person.succeeds("-d", SECOND, "stack", "start", "backups", "--json"))["warnings"]
        return any(fault in warning for warning in warned)

    until(is_said, "the warning of a target that is away; tor takes its time to know")
    command = person.command("-d", SECOND, "backup", "follow")
    follower = subprocess.Popen(command, cwd=person.home, env=person.environment, stderr=subprocess.DEVNULL)
    yield Targets(folder, stacks)
    follower.terminate()
    follower.wait(PATIENCE)


def copied(person: Person) -> dict[str, dict[str, Any]]:
    """What `bcm backup status` says of each target."""
    found = person.types("-d", SECOND, "backup", "status", "--json").stdout
    return {item["target"]: item for item in json.loads(found)["copies"]}


@pytest.fixture(scope="module")
def channel(nodes: dict[str, str], targets: Targets) -> str:
    """The transaction of a channel that the first opened; half of it belongs to the other."""
    until(lambda: coins(FIRST) > 2 * CAPACITY, "coins")
    until(lambda: connected(nodes[SECOND]), "a connection")
    key = nodes[SECOND].partition("@")[0]
    opened = lncli(FIRST, "openchannel", key, str(CAPACITY), str(CAPACITY // 2))
    mine(FIRST, 6)
    until(lambda: all(active(name) and announced(name) for name in (FIRST, SECOND)), "an active channel")
    return str(opened["funding_txid"])


def connected(uri: str) -> bool:
    inside(FIRST, "lnd", "sh", "-c", f"lncli connect {shlex.quote(uri)} || true")
    return [peer["pub_key"] for peer in lncli(FIRST, "listpeers")["peers"]] == [uri.partition("@")[0]]


def coins(name: str) -> int:
    return int(lncli(name, "walletbalance")["confirmed_balance"])


def active(name: str) -> bool:
    return [item["active"] for item in lncli(name, "listchannels")["channels"]] == [True]


def announced(name: str) -> bool:
    """Whether it knows the fees of both ends, without which there is no route."""
    return knows_fees(lncli(name, "describegraph"))


def knows_fees(graph: dict[str, Any]) -> bool:
    return [bool(edge["node1_policy"] and edge["node2_policy"]) for edge in graph["edges"]] == [True]


def balance(name: str) -> int:
    (channel,) = lncli(name, "listchannels")["channels"]
    return int(channel["local_balance"])


def test_nodes_announce_their_onion_addresses_alone(nodes: dict[str, str]) -> None:
    for name, uri in nodes.items():
        print(f"memory of lnd without channels: {memory(name, 'lnd')}")
        key, _at, address = uri.partition("@")
        assert lncli(name, "getinfo")["uris"] == [uri]
        assert (len(key), address.endswith(".onion:9735")) == (66, True)


def test_second_volume_has_the_backup_of_a_new_channel(channel: str) -> None:
    for name in (FIRST, SECOND):
        found = lncli(name, "verifychanbackup", "--multi_file", "/var/lib/lnd-backup/channel.backup")
        assert [point.partition(":")[0] for point in found["chan_points"]] == [channel]


def test_targets_have_each_new_backup_at_once(person: Person, targets: Targets, channel: str) -> None:
    """Of the other's channel, counted from when lnd wrote it to its second volume: a second, if nothing else runs."""
    names = ("attic", "store", "desk")
    until(lambda: all(copied(person)[name]["state"] == "up to date" for name in names), "the copies at the targets")
    found = copied(person)
    moment = found["attic"]["copy"].removesuffix("Z.age").rpartition("-")[2]
    made = datetime.strptime(moment, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC).timestamp()
    writes = inside(SECOND, "lnd", "journalctl", "-u", "lnd", "-o", "short-unix", "--grep", "Updating backup file")
    written = min((float(line.split()[0]) for line in writes.splitlines()), key=lambda time: abs(time - made))
    seconds = {
        name: round(datetime.fromisoformat(found[name]["copied"]).timestamp() - written, 3)
        for name in names
    }
    print(f"copies were at targets after {seconds} s, made after {made - written:.3f} s")
    assert max(seconds.values()) < PATIENCE
    name = found["attic"]["copy"]
    there = inside(FIRST, "box", "sha256sum", f"/var/lib/box/copies/{name}", f"/var/lib/box/store/{name}").split()[::2]
    assert there == [hashlib.sha256((targets.folder / name).read_bytes()).hexdigest()] * 2


def test_target_that_was_away_catches_up(person: Person, channel: str) -> None:
    found = copied(person)["late"]
    assert (found["state"], bool(found["why"])) == ("failed", True)
    assert person.types("-d", SECOND, "backup", "status").returncode == 3
    inside(FIRST, "box", "systemctl", "start", "box-late")
    until(lambda: copied(person)["late"]["state"] == "up to date", "the copy at the target that was away")


def test_copies_are_readable_with_the_key_of_the_data_center_alone(person: Person, channel: str) -> None:
    name = copied(person)["attic"]["copy"]
    identity = person.succeeds("-d", SECOND, "backup", "identity").strip()
    program = f"age --decrypt --identity - /var/lib/backups/copies/{name} <<END\n{identity}\nEND"
    content = json.loads(inside(SECOND, "backups", "sh", "-c", program))
    assert [item["point"].partition(":")[0] for item in content["channels"]] == [channel]
    assert inside(SECOND, "backups", "sh", "-c", f"grep -rl {identity} /etc /var/lib || true") == ""


def test_invoices_are_paid_both_ways(channel: str) -> None:
    for payer, payee, amount in ((FIRST, SECOND, 5000), (SECOND, FIRST, 7000)):
        before = balance(payee)
        invoice = lncli(payee, "addinvoice", "--amt", str(amount))["payment_request"]
        began = time.monotonic()
        pay = f"lncli payinvoice --force --json {invoice} || true"
        # A route that failed, since a node had yet to follow a block, is tried again.
        until(lambda payer=payer, pay=pay: '"SUCCEEDED"' in inside(payer, "lnd", "sh", "-c", pay), "a payment")
        print(f"{amount} sat from {payer} to {payee}: {time.monotonic() - began:.2f} s")
        until(lambda payee=payee, due=before + amount: balance(payee) == due, "the amount")  # type: ignore[misc]


# Pays invoices one after another, each again if its route failed, and says how many milliseconds each took.
_PAY = """
set -e
pay=$1; shift
for invoice in "$@"; do
  began=$(date +%s%N)
  until $pay payinvoice --force --json "$invoice" >/dev/null; do sleep 0.1; began=$(date +%s%N); done
  echo $((($(date +%s%N) - began) / 1000000))
done
"""


def milliseconds(command: str, invoices: list[str]) -> list[int]:
    found = inside(FIRST, "lnd", "sh", "-c", _PAY, "sh", command, *invoices)
    return [int(line) for line in found.split()]


def memory(name: str, stack: str, unit: str = "") -> str:
    """What the processes of a unit have in memory, without what the kernel keeps of files."""
    script = f"""
    for process in /proc/[0-9]*; do
      ! grep -qs '/{unit or stack}[.]service$' $process/cgroup || cat $process/status
    done | awk '/^RssAnon/ {{ sum += $2 }} END {{ print sum / 1024 }}'
    """
    return f"{float(inside(name, stack, 'sh', '-c', script)):.0f} MiB"


def test_payments_through_tor_arrive_beside_those_on_loopback(channel: str) -> None:
    """Ten of each, by the same program with the same bitcoind: docs/performance.md has the figures."""
    with neighbour.running(FIRST, "ann", "bob") as (ann, bob):
        bitcoin(FIRST, "generatetoaddress", "1", ann.ask("newaddress", "p2tr")["address"])
        mine(FIRST, 100)
        neighbour.await_blocks(ann, bob)
        place, key = f"127.0.0.1:{bob.port}", bob.ask("getinfo")["identity_pubkey"]
        ann.ask("openchannel", "--node_key", key, "--connect", place, "--local_amt", str(CAPACITY))
        mine(FIRST, 6)
        neighbour.await_blocks(ann, bob)
        until(lambda: [item["active"] for item in ann.ask("listchannels")["channels"]] == [True], "a channel")
        until(lambda: knows_fees(ann.ask("describegraph")), "the fees of the channel")
        invoices = [bob.ask("addinvoice", "--amt", "100")["payment_request"] for _number in range(10)]
        near = milliseconds(ann.command, invoices)
        print(f"memory: {memory(FIRST, 'lnd')}, on loopback {memory(FIRST, 'lnd', 'ann')}")
    invoices = [lncli(SECOND, "addinvoice", "--amt", "100")["payment_request"] for _number in range(10)]
    far = milliseconds("lncli", invoices)
    for name, found in (("through Tor", far), ("on loopback", near)):
        print(f"payments {name}: {median(found):.0f} ms, {min(found)} to {max(found)} ms")
        assert len(found) == 10


def test_many_payments_arrive(channel: str) -> None:
    """Eight at a time."""
    until(lambda: at_rest(FIRST), "channels at rest")
    before = balance(SECOND)
    make = f"for n in $(seq {PAYMENTS}); do lncli addinvoice --amt 100 | jq -r .payment_request; done"
    make = make.replace("jq -r .payment_request", 'sed -n \'s/.*"payment_request": *"\\(.*\\)".*/\\1/p\'')
    invoices = inside(SECOND, "lnd", "sh", "-c", make).split()
    assert len(set(invoices)) == PAYMENTS
    began = time.monotonic()
    # a route that failed for one of the others is tried again, as a person does; lnd refuses to pay an invoice twice
    once = "lncli payinvoice --force --json --timeout 300s $0 >/tmp/paid-$$ 2>&1"
    pay = f"for _again in 1 2 3; do {once} && exit 0; grep -h -e failure_reason -e rpc /tmp/paid-$$ >&2; done; exit 1"
    pay = f"printf '%s\\n' {' '.join(invoices)} | xargs -P 8 -n 1 sh -c '{pay}'"
    inside(FIRST, "lnd", "sh", "-c", pay, deadline=900)
    print(f"{PAYMENTS} payments: {time.monotonic() - began:.1f} s")
    until(lambda: balance(SECOND) == before + 100 * PAYMENTS, "all amounts")


def test_watchtower_of_the_other_data_center_has_the_states(person: Person, channel: str) -> None:
    def guarded() -> list[str]:
        (node,) = json.loads(person.succeeds("-d", FIRST, "lightning", "status", "--json"))["nodes"]
        return [str(tower) for tower in node["guarded_by"]]

    tower = json.loads(person.succeeds("-d", SECOND, "lightning", "status", "--json"))["nodes"][0]["watchtower"]
    until(lambda: re.findall(r"\((\d+) states\)", guarded()[0]) > ["0"], "states at the watchtower")
    assert guarded()[0].startswith(f"{tower} (")
    assert tower.partition("@")[0] != lncli(SECOND, "getinfo")["identity_pubkey"]


def test_program_outside_reaches_the_node_with_its_link(
    person: Person, nodes: dict[str, str], relays: tornet.TorNetwork
) -> None:
    """And may do what the link says, until it is revoked."""
    words = ("-d", FIRST, "lightning", "connect-string", "lnd")
    made = json.loads(person.succeeds(*words, "phone", "--may", "invoices", "--json"))
    link = urlsplit(made["link"])
    assert link.scheme == "lndconnect"
    (macaroon,) = parse_qs(link.query)["macaroon"]
    phone = tornet.Client(relays, "phone", made["auth_private"])
    phone.tor.bootstrapped()
    host, _colon, port = link.netloc.partition(":")
    spoken = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    spoken.check_hostname, spoken.verify_mode = False, ssl.CERT_NONE

    def ask(method: str, path: str, body: str = "") -> str:
        token = base64.urlsafe_b64decode(macaroon + "=" * (-len(macaroon) % 4)).hex()
        head = f"{method} {path} HTTP/1.0\r\nGrpc-Metadata-macaroon: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        with spoken.wrap_socket(phone.connected(host, int(port))) as connection:
            connection.sendall(f"{head}{body}".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    assert "payment_request" in ask("POST", "/v1/invoices", json.dumps({"value": "100"}))
    for path in ("/v1/balance/channels", "/v1/macaroon/ids"):
        assert "permission denied" in ask("GET", path)
    assert json.loads(person.succeeds(*words, "--json")) == {"clients": [{"name": "phone", "may": "invoices"}]}
    person.succeeds(*words, "phone", "--revoke")
    assert json.loads(person.succeeds(*words, "--json")) == {"clients": []}
    assert macaroons(FIRST) == []
    assert tornet.WRONG_KEY in tornet.refusal(relays, host, int(port), made["auth_private"])


def test_wallet_opens_by_itself(person: Person, nodes: dict[str, str], channel: str) -> None:
    """After a kill, and once the machine starts again."""
    inside(FIRST, "lnd", "systemctl", "kill", "--signal=KILL", "lnd")
    until(lambda: quietly_active(FIRST), "an active channel after a kill")
    person.succeeds("-d", FIRST, "stack", "restart", "lnd")
    until(lambda: quietly_active(FIRST), "an active channel after a restart")
    assert lncli(FIRST, "getinfo")["uris"] == [nodes[FIRST]]


def quietly_active(name: str) -> bool:
    """Whether its channel is active, while lnd may not answer yet."""
    found = inside(name, "lnd", "sh", "-c", "lncli listchannels || true")
    return found.startswith("{") and [item["active"] for item in json.loads(found)["channels"]] == [True]


def test_second_run_changes_nothing(person: Person, channel: str) -> None:
    # The first run came before the node was at work, and could not know its key.
    person.succeeds("-d", FIRST, "stack", "start", "lnd")
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", "lnd")


def macaroons(name: str) -> list[str]:
    """The root keys of macaroons, without lnd's own."""
    return [key for key in lncli(name, "listmacaroonids")["root_key_ids"] if key != "0"]


def test_consumer_has_a_macaroon_of_its_own(person: Person, targets: Targets, channel: str) -> None:
    """Its verify program makes an invoice, and is refused all else."""
    shutil.copytree(Path(__file__).parent / "stacks/till", targets.stacks / "till")
    made = reported(person.succeeds("-d", FIRST, "stack", "start", "till", "--json"))
    invoice = made["till"]["facts"]["invoice"]
    assert lncli(SECOND, "payinvoice", "--force", "--json", invoice)["status"] == "SUCCEEDED"
    first, macaroon = macaroons(FIRST), inside(FIRST, "till", "cat", "/etc/till/macaroon")
    assert len(first) == 1

    stack = targets.stacks / "till/meta/stack.yml"
    stack.write_text(stack.read_text().replace("[invoices:write]", "[invoices:write, message:write]"))
    person.succeeds("-d", FIRST, "stack", "start", "till")
    assert inside(FIRST, "till", "cat", "/etc/till/macaroon") != macaroon
    assert len(macaroons(FIRST)) == 1 and macaroons(FIRST) != first
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", "till")

    # leaked: nobody can use it any more, and the next run makes another one
    leaked = inside(FIRST, "till", "cat", "/etc/till/macaroon")
    person.succeeds("-d", FIRST, "secret", "rotate", "lnd/rest/till")
    assert macaroons(FIRST) == []
    unknown = person.types("-d", FIRST, "secret", "rotate", "lnd/rest/tills")
    assert (unknown.returncode, "tills has no credential of lnd" in unknown.stderr) == (2, True)
    person.succeeds("-d", FIRST, "stack", "start", "till")
    assert inside(FIRST, "till", "cat", "/etc/till/macaroon") != leaked

    person.succeeds("-d", FIRST, "stack", "remove", "till")
    person.succeeds("-d", FIRST, "stack", "start", "lnd")
    assert macaroons(FIRST) == []


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("lnd/recovery_words", None, "its volume has a wallet, and the secrets have no recovery words of it"),
        ("lnd/public_key", "02" * 33, "its volume has the wallet of another node"),
    ],
)
def test_secrets_of_another_wallet_are_refused(
    person: Person, channel: str, name: str, value: str | None, fault: str
) -> None:
    file = person.home / "inventories" / FIRST / "secrets/regtest.json"
    right = file.read_text()
    values = {key: item for key, item in json.loads(right).items() if key != name}
    try:
        file.write_text(json.dumps(values if value is None else {**values, name: value}))
        refused = person.types("-d", FIRST, "stack", "start", "lnd")
        assert (refused.returncode, fault in refused.stdout + refused.stderr) == (2, True), refused
    finally:
        file.write_text(right)
    assert active(FIRST)


def mark_version(stack: str, version: str) -> None:
    """As if that version had run in the first data center."""
    with client(FIRST) as lxd:
        path = f"/1.0/projects/{lxd.project}"
        marks = lxd.get(path, project=None)["config"] | {f"{VERSION}{stack}": version}
        lxd.call("PATCH", path, {"config": marks}, what="mark a project", project=None)


def test_version_older_than_one_that_ran_is_refused(person: Person, channel: str) -> None:
    """As if a newer lnd had changed the database."""
    mark_version("lnd", "0.99.0-beta")
    refused = person.types("-d", FIRST, "stack", "start", "lnd")
    mark_version("lnd", "0.21.3-beta")
    fault = "Version 0.21.3-beta of github.com/lightningnetwork/lnd is older than 0.99.0-beta, which has run here"
    assert (refused.returncode, fault in refused.stdout + refused.stderr) == (2, True), refused
    assert active(FIRST)


def pay_many(count: int, payer: str = FIRST, payee: str = SECOND) -> None:
    """Pay invoices of 100 satoshi, eight at a time; some may fail, or not come to an end."""
    make = f"for n in $(seq {count}); do lncli addinvoice --amt 100; done"
    invoices = re.findall(r'"payment_request": *"(\w+)"', inside(payee, "lnd", "sh", "-c", make))
    pay = "xargs -P 8 -n 1 timeout 30 lncli payinvoice --force --json >/dev/null 2>&1 || true"
    inside(payer, "lnd", "sh", "-c", f"printf '%s\\n' {' '.join(invoices)} | {pay}", deadline=900)


def wealth() -> int:
    """What both nodes have, in channels, in the wallet, and on the way from one to the other."""
    found = 0
    for name in (FIRST, SECOND):
        coins = lncli(name, "walletbalance")
        # locked for a channel that was not opened
        found += int(coins["total_balance"]) + int(coins["locked_balance"])
        found += int(lncli(name, "channelbalance")["local_balance"]["sat"])
    return found


def at_rest(name: str) -> bool:
    """Whether all channels of a node are active, and nothing is on its way; mines a block."""
    found = inside(name, "lnd", "sh", "-c", "lncli listchannels && lncli pendingchannels || true")
    if not found.endswith("}"):
        return False
    decoder = json.JSONDecoder()
    channels, end = decoder.raw_decode(found)
    pending = json.loads(found[end:])
    bitcoin(name, "generatetodescriptor", "1", "raw(51)")
    is_active = all(item["active"] and not item["pending_htlcs"] for item in channels["channels"])
    return is_active and not any(value for key, value in pending.items() if key.endswith("_channels"))


def await_rest(nodes: dict[str, str]) -> None:
    until(lambda: connected(nodes[SECOND]), "a connection")
    until(lambda: at_rest(FIRST), "channels at rest")
    mine(FIRST, 1)


def kill_machine(name: str) -> None:
    """Kill all instances of a data center, as if its machine had lost power."""
    with client(name) as lxd:
        found = lxd.get("/1.0/instances", recursion=1)
        numbers = [lxd.get(f"/1.0/instances/{item['name']}/state")["pid"] for item in found]
    for number in filter(None, numbers):
        os.kill(number, signal.SIGKILL)
    with client(name) as lxd:
        until(lambda: {item["status"] for item in lxd.get("/1.0/instances", recursion=1)} == {"Stopped"}, "the end")


#: the fees of an opened and a closed channel, and of a commitment
FEES = 30_000
OTHER_CAPACITY = 300_000
# lnd writes the channel backup beside the former one.
KILL_WHILE_SAVING = """
cd /var/lib/lnd-backup; former=$(stat -c %i channel.backup)
while [ "$(stat -c %i channel.backup)" = "$former" ] && [ ! -e temp-dont-use.backup ]; do :; done
systemctl kill --signal=KILL lnd
"""
AWAIT_COPYING = """
cd /var/lib/backups/copies; former=$(echo *)
while [ "$(echo *)" = "$former" ]; do :; done
"""


def open_other(key: str) -> list[str]:
    return ["lncli", "openchannel", "--node_key", key, "--local_amt", str(OTHER_CAPACITY)]


def others(channel: str) -> list[str]:
    """The points of all channels but the main one."""
    points = [item["channel_point"] for item in lncli(FIRST, "listchannels")["channels"]]
    return [point for point in points if not point.startswith(channel)]


def has_newest_copies(person: Person) -> bool:
    """Whether the targets have all channels of the other. The target that was late is away once its machine died."""
    found = inside(SECOND, "lnd", "sh", "-c", "lncli listchannels || true")
    if not found.startswith("{"):
        return False
    points = sorted(item["channel_point"] for item in json.loads(found)["channels"])
    state = json.loads(inside(SECOND, "backups", "cat", "/var/lib/backups/state.json"))
    targets = copied(person)
    is_current = all(targets[name]["state"] == "up to date" for name in ("attic", "store", "desk"))
    return is_current and state["sources"]["lnd"]["points"] == points


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_node_has_its_channel_or_its_coins(
    person: Person, pair: Pair, nodes: dict[str, str], channel: str, number: int
) -> None:
    """Killed while it opens a channel, pays, closes a channel, or saves the backup, or while its backup is copied.

    Alone, or with all of its machine.
    """
    act = ("opening", "paying", "closing", "copying", "saving")[number % 5]
    with_machine = number % 3 == 1 and act != "saving"
    killed = SECOND if act == "copying" else FIRST
    key = nodes[SECOND].partition("@")[0]
    await_rest(nodes)
    if act == "closing":
        inside(FIRST, "lnd", *open_other(key))
        await_rest(nodes)
    before = wealth()
    if act == "paying":
        running = threading.Thread(target=quietly, args=(lambda: pay_many(24),))
    elif act == "closing":
        (point,) = others(channel)
        close = ["lncli", "closechannel", "--chan_point", point]
        running = threading.Thread(target=quietly, args=(lambda: inside(FIRST, "lnd", *close),))
    else:
        running = threading.Thread(target=quietly, args=(lambda: inside(FIRST, "lnd", *open_other(key)),))
    running.start()
    if act == "saving":
        inside(FIRST, "lnd", "timeout", "60", "sh", "-c", KILL_WHILE_SAVING)
    else:
        if act == "copying":
            inside(SECOND, "backups", "timeout", "60", "sh", "-c", AWAIT_COPYING)
        else:
            # Later in each round: what it does lasts one or two seconds.
            time.sleep(0.1 + 0.25 * (number // 5))
        if with_machine:
            kill_machine(killed)
        else:
            unit = "backups" if act == "copying" else "lnd"
            inside(killed, unit, "systemctl", "kill", "--signal=KILL", unit)
    running.join()
    with client(killed) as lxd:
        stacks = [item["name"] for item in lxd.get("/1.0/instances", recursion=1)] if with_machine else ["lnd"]
    # Its verify proves that the backup has all channels.
    person.succeeds("-d", killed, "stack", "start", *stacks)
    if with_machine and killed == FIRST:
        bitcoin(FIRST, "addnode", pair.onions[SECOND]["bitcoind"], "add")
    await_rest(nodes)
    until(lambda: has_newest_copies(person), "the newest copies")
    found = others(channel)
    print(f"killed while {act}{' with its machine' if with_machine else ''}: {len(found)} other channels")
    # A commitment's fee is nobody's, until the channel is closed.
    assert abs(before - wealth()) < FEES
    for point in found:
        inside(FIRST, "lnd", "lncli", "closechannel", "--chan_point", point)
    await_rest(nodes)
    assert others(channel) == []
    until(lambda: has_newest_copies(person), "the copies without them")


def quietly(act: Any) -> None:
    """Do what fails because the other side is killed."""
    try:
        act()
    except (Exception, pytest.fail.Exception) as error:
        print(f"as intended: {str(error)[:80]}")


def test_payments_survive_a_restart_of_tor(nodes: dict[str, str], channel: str) -> None:
    await_rest(nodes)
    before = wealth()
    running = threading.Thread(target=quietly, args=(lambda: pay_many(40),))
    running.start()
    inside(FIRST, "tor", "systemctl", "restart", "tor")
    running.join()
    await_rest(nodes)
    assert abs(wealth() - before) < FEES
    pay_many(1)


def test_node_goes_on_after_a_restart_of_bitcoind(pair: Pair, nodes: dict[str, str], channel: str) -> None:
    """It ends when it loses bitcoind, and starts again."""
    inside(FIRST, "bitcoind", "systemctl", "restart", "bitcoind")
    bitcoin(FIRST, "-rpcwait", "addnode", pair.onions[SECOND]["bitcoind"], "add")
    until(lambda: quietly_active(FIRST), "an active channel")
    await_rest(nodes)


def test_payment_to_a_node_that_is_away_fails_and_costs_nothing(nodes: dict[str, str], channel: str) -> None:
    before = balance(FIRST)
    invoice = lncli(SECOND, "addinvoice", "--amt", "100")["payment_request"]
    inside(SECOND, "lnd", "systemctl", "stop", "lnd")
    try:
        until(lambda: not active(FIRST), "the loss of the connection")
        paid = inside(FIRST, "lnd", "sh", "-c", f"lncli payinvoice --force --json {invoice} || true")
        assert '"status":  "FAILED"' in paid or '"status": "FAILED"' in paid or "FAILURE" in paid, paid
    finally:
        inside(SECOND, "lnd", "systemctl", "start", "lnd")
    await_rest(nodes)
    assert balance(FIRST) == before


# What LXD counts for a volume is less than what is free in its pool.
FILL = """
cd $1
for size in 512M 64M 8M 1M 128K 16K; do
  number=0
  while fallocate -l $size filler.$size.$number 2>/dev/null; do number=$((number + 1)); done
done
! touch filler.last
"""


def test_full_volume_costs_no_channel(nodes: dict[str, str], channel: str) -> None:
    """lnd cannot write a state then, and does not go on with one that it has not written."""
    await_rest(nodes)
    before = wealth()
    inside(FIRST, "lnd", "sh", "-c", FILL, "sh", "/var/lib/lnd")
    quietly(lambda: pay_many(16))
    inside(FIRST, "lnd", "sh", "-c", "rm /var/lib/lnd/filler.*; systemctl restart lnd")
    until(lambda: quietly_active(FIRST), "an active channel")
    await_rest(nodes)
    assert abs(wealth() - before) < FEES


def test_node_follows_the_chain_again_after_a_silence(person: Person, nodes: dict[str, str], channel: str) -> None:
    """bitcoind's messages about new blocks get lost for a while: a run says so."""
    configuration = inside(FIRST, "lnd", "grep", "^bitcoind.zmqpub", "/etc/lnd/lnd.conf")
    places = re.findall(r"tcp://([\d.]+):(\d+)", configuration)
    rules = "".join(f"ip saddr {address} tcp sport {port} drop\n" for address, port in places)
    chain = f"chain silent {{ type filter hook forward priority -200;\n{rules}}}"
    subprocess.run(["nft", "-f", "-"], input=f"table inet silent {{\n{chain}\n}}\n", text=True, check=True)
    try:
        bitcoin(FIRST, "generatetodescriptor", "1", "raw(51)")
        height = int(bitcoin(FIRST, "getblockcount"))
        refused = person.types("-d", FIRST, "stack", "start", "lnd")
        text = refused.stdout + refused.stderr
        assert (refused.returncode, "no more come: bitcoind's messages" in text) == (2, True), refused
        assert not reached(FIRST, height)
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "silent"], check=True)
    until(lambda: all(reached(name, height) for name in (FIRST, SECOND)), "the block that was not announced")


def listening(name: str) -> set[str]:
    """Where the APIs of a node listen."""
    found = inside(name, "lnd", "ss", "-Hltn", "( sport = :8080 or sport = :10009 )")
    return {line.split()[3] for line in found.splitlines()}


def test_node_that_no_longer_serves_announces_nothing(person: Person, channel: str, nodes: dict[str, str]) -> None:
    with person.settings(SECOND).open("a") as settings:
        settings.write("lnd_serve: false\n")
    person.succeeds("-d", SECOND, "stack", "start", "lnd")
    assert lncli(SECOND, "getinfo")["uris"] == []
    text = person.settings(SECOND).read_text()
    person.settings(SECOND).write_text(text.replace("lnd_serve: false\n", ""))
    person.succeeds("-d", SECOND, "stack", "start", "lnd")
    assert lncli(SECOND, "getinfo")["uris"] == [nodes[SECOND]]
    until(lambda: quietly_active(FIRST), "an active channel")


#: how far a restore is
RESTORING = (
    "test -e /var/lib/lnd-backup/channel.backup-restore-copy",
    "test -e /var/lib/lnd/.lnd/data/chain/bitcoin/regtest/wallet.db",
    "test -e /var/lib/lnd/.lnd/data/chain/bitcoin/regtest/opens-bolt",
)


def test_wallet_that_is_gone_is_not_replaced(person: Person, nodes: dict[str, str], channel: str) -> None:
    """Coins on chain come back with the recovery words, those in channels with the channel backup."""
    key = nodes[SECOND].partition("@")[0]
    # An option that is not among the fixed ones.
    with person.settings(SECOND).open("a") as settings:
        settings.write("lnd_options: {bitcoin.timelockdelta: 90}\n")
    address = lncli(SECOND, "newaddress", "p2tr")["address"]
    lncli(FIRST, "sendcoins", address, "300000")
    mine(FIRST, 1)
    until(lambda: coins(SECOND) == 300_000, "coins")
    in_channel = balance(SECOND)
    # A node at work is not restored.
    refused = person.types("-d", SECOND, "lightning", "restore", "lnd", "--from", "attic")
    assert (refused.returncode, "its wallet is on its volume" in refused.stdout + refused.stderr) == (2, True), refused
    assert balance(SECOND) == in_channel
    # As on another machine, bitcoind has no blocks, and gets none at first.
    bitcoin(FIRST, "setnetworkactive", "false")
    person.succeeds("-d", SECOND, "stack", "remove", "bitcoind", "--delete-data")
    refused = person.types("-d", SECOND, "stack", "start", "lnd")
    assert refused.returncode == 2
    assert "its wallet, created 20" in refused.stdout + refused.stderr
    # Whoever reached it now could make a wallet.
    assert listening(SECOND) == {"127.0.0.1:8080", "127.0.0.1:10009"}
    (node,) = json.loads(person.succeeds("-d", SECOND, "lightning", "status", "--json"))["nodes"]
    assert "has no wallet" in node["state"]
    refused = person.types("-d", SECOND, "lightning", "restore", "lnd", "--from", "attic")
    assert "nothing was restored: bitcoind lacks blocks" in refused.stdout + refused.stderr
    bitcoin(FIRST, "setnetworkactive", "true")
    until(lambda: bitcoin(SECOND, "getbestblockhash") == bitcoin(FIRST, "getbestblockhash"), "blocks")
    # Valid words of another node.
    first, secrets = (person.home / "inventories" / name / "secrets/regtest.json" for name in (FIRST, SECOND))
    right, other_words = secrets.read_text(), json.loads(first.read_text())["lnd/recovery_words"]
    secrets.write_text(json.dumps({**json.loads(right), "lnd/recovery_words": other_words}))
    refused = person.types("-d", SECOND, "lightning", "restore", "lnd", "--from", "attic")
    secrets.write_text(right)
    fault = f"its recovery words are of another node: {nodes[FIRST].partition('@')[0]}, not {key}"
    assert fault in refused.stdout + refused.stderr, refused
    made = " ".join(condition.removeprefix("test -e ") for condition in RESTORING)
    assert inside(SECOND, "lnd", "sh", "-c", f"ls {made} 2>/dev/null || true") == ""
    for condition in RESTORING[: max(1, KILLS // 5)]:
        kill_when(person, SECOND, "lnd", condition, "lightning", "restore", "lnd", "--from", "attic")
    shown = person.succeeds("-d", SECOND, "lightning", "restore", "lnd", "--from", "attic")
    assert channel in shown
    assert lncli(SECOND, "getinfo")["identity_pubkey"] == key
    until(lambda: coins(SECOND) == 300_000, "coins from the words")
    # The other side has closed the channel, as lnd asked it to, and pays what it owed.
    until(lambda: len(lncli(FIRST, "pendingchannels")["waiting_close_channels"]) > 0, "the close")

    def swept() -> bool:
        bitcoin(FIRST, "generatetodescriptor", "1", "raw(51)")
        return coins(SECOND) > 300_000

    until(swept, "coins from the channel")
    fees = 300_000 + in_channel - coins(SECOND)
    print(f"{in_channel} sat were in the channel; their way back cost {fees} sat")
    assert 0 <= fees < 50_000


def test_tutorial_works_as_it_is_written(person: Person, pair: Pair, nodes: dict[str, str]) -> None:
    """Between two data centers that are there already, so without its first commands and its last ones."""
    page = (ROOT / "docs/first-channel.md").read_text()
    lines = [line for block in re.findall(r"^```\n(.*?)^```$", page, re.M | re.S) for line in block.splitlines()]
    left_out = re.compile(r" datacenter create | config set | stack remove ")
    commands = [shlex.split(line) for line in lines if not left_out.search(line)]
    assert len(lines) - len(commands) == 6 and commands[0] == shlex.split("bcm -d ann stack start lnd")
    known = {"BOB_BITCOIND": pair.onions[SECOND]["bitcoind"]}
    known |= {"BOB": nodes[SECOND], "BOB_KEY": nodes[SECOND].partition("@")[0]}
    for command in commands:
        names = {"ann": FIRST, "bob": SECOND, **known}
        words = [names.get(word, word) for word in command[1:]]
        if "addnode" in words:
            # It was added before, unless bitcoind has been restarted.
            inside(FIRST, "bitcoind", "sh", "-c", f"bitcoin-cli addnode {known['BOB_BITCOIND']} remove || true")
        output = ""

        def done(words: list[str] = words) -> bool:
            nonlocal output
            tried = person.types(*words)
            output = tried.stdout
            # It was connected before.
            return tried.returncode == 0 or "already connected" in tried.stderr

        if "closechannel" in words:
            until(lambda: active(FIRST), "an active channel")
        until(done, " ".join(words))
        if "addinvoice" in words:
            known["INVOICE"] = json.loads(output)["payment_request"]
        if words[2:] == ["bitcoin-cli", "generatetodescriptor", "6", "raw(51)"]:
            until(have_all_blocks, "blocks in both nodes")
            until(lambda: active(FIRST) and announced(FIRST), "an active channel")
            known["CHANNEL"] = lncli(FIRST, "listchannels")["channels"][0]["channel_point"]
        if "payinvoice" in words:
            until(lambda: balance(SECOND) == 5000, "the payment")
    until(lambda: lncli(FIRST, "listchannels")["channels"] == [], "the close")


def test_nothing_left_for_anything_but_a_relay(pair: Pair, channel: str) -> None:
    assert pair.strange() == {}
