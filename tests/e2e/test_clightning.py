# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Core Lightning in one data center and lnd in another, on a real Tor network; and the web applications of a node.

Without an archive of Core Lightning, its double takes its place, and the tests marked ``real`` are left out: it has
neither peers nor coins. CONTRIBUTING.md says how to give one, and those of the web applications.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from tests import clightning, node_programs, record_ridethelightning, ridethelightning, tornet
from tests.e2e.conftest import FIRST, KILLS, SECOND, Pair, Person, client, inside, kill_when, reported
from tests.e2e.test_lightning import FEES, FILL, OTHER_CAPACITY, bitcoin, lncli, mark_version, memory
from tests.record_clightning import DIRECTORY, WORDS, moved, recorded
from tests.support import PATIENCE, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]
real = pytest.mark.skipif(
    not clightning.ARCHIVE,
    reason="the double of Core Lightning has no peers: set BCM_CLIGHTNING_ARCHIVE, see CONTRIBUTING",
)

CAPACITY = 1_000_000  # satoshi
#: states of channels that are spent on chain; after a restart, lightningd has to see that again
CLOSED = ("FUNDING_SPEND_SEEN", "ONCHAIN")
#: what was done -> when
MOMENTS: dict[str, float] = {}
DATABASE, REPLICA = f"{DIRECTORY}/lightningd.sqlite3", "/var/lib/clightning-backup/lightningd.sqlite3"
SAVED = "/var/lib/clightning-backup/emergency.recover"


def cli(*words: str, deadline: float = PATIENCE) -> dict[str, Any]:
    return dict(json.loads(inside(FIRST, "clightning", "lightning-cli", *words, deadline=deadline)))


def start(person: Person, *words: str) -> str:
    return person.succeeds("-d", FIRST, "stack", "start", "clightning", *words)


def sh(script: str) -> str:
    return inside(FIRST, "clightning", "sh", "-c", script)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the controller to which copies of its channels go."""
    return tmp_path_factory.mktemp("desk") / "copies"


@pytest.fixture(scope="module")
def node(person: Person, pair: Pair, tmp_path_factory: pytest.TempPathFactory, desk: Path) -> Iterator[dict[str, Any]]:
    """What the first start reports of a node whose recovery words are known. Other tests find no trace of it."""
    former = person.settings(FIRST).read_text()
    secrets = person.home / "inventories" / FIRST / "secrets/regtest.json"
    secrets.write_text(json.dumps({**json.loads(secrets.read_text()), "clightning/recovery_words": WORDS}))
    with person.settings(FIRST).open("a") as file:
        releases = tmp_path_factory.mktemp("releases")
        settings = clightning.settings(releases)
        settings["bcm_artifacts"] |= clightning.pages(releases)
        for name, value in settings.items():
            file.write(f"{name}: {json.dumps(value)}\n")
        file.write(f"backups_targets: {{desk: {{type: controller, path: {desk}}}}}\n")
    yield reported(start(person, "--json"))["clightning"]
    person.succeeds("-d", FIRST, "stack", "remove", "clightning", "backups", "--delete-data")
    person.settings(FIRST).write_text(former)


def test_node_announces_its_onion_address_alone(person: Person, node: dict[str, Any]) -> None:
    print(f"memory of clightning without channels: {memory(FIRST, 'clightning')}")
    (onion,) = (item for item in node["onions"] if item["service"] == "p2p")
    (shown,) = (
        item
        for item in json.loads(person.succeeds("-d", FIRST, "lightning", "status", "--json"))["nodes"]
        if item["stack"] == "clightning"
    )
    assert shown["addresses"] == [f"{node['facts']['public_key']}@{onion['address']}"]
    assert person.succeeds("-d", FIRST, "lightning-cli", "getinfo").startswith("{")


def test_double_answers_as_the_program(node: dict[str, Any]) -> None:
    """Byte for byte, except for the bytes of an encryption and of an invoice, which are others each time."""
    found = recorded(FIRST)
    if os.environ.get("BCM_RECORD") and clightning.ARCHIVE:
        clightning.RECORDINGS.write_text(json.dumps(found, indent=1) + "\n")
    known = json.loads(clightning.RECORDINGS.read_text())
    assert without_randomness(found) == without_randomness(moved(known, found["place"]))


def without_randomness(recordings: dict[str, Any]) -> dict[str, Any]:
    recordings["emergency.recover"] = ""
    answer = recordings["rest_with_rune"]["getemergencyrecoverdata"]
    answer["body"] = json.dumps({**json.loads(answer["body"]), "filedata": ""})
    for answer in recordings["invoices"].values():
        names = "bolt11|payment_hash|payment_secret|expires_at|created_index"
        answer["body"] = re.sub(rf'"({names})":("[^"]*"|\d+)', r'"\1":""', answer["body"])
    return recordings


def copied(person: Person) -> dict[str, Any]:
    """What `bcm backup status` says of its copies."""
    (found,) = json.loads(person.types("-d", FIRST, "backup", "status", "--json").stdout)["copies"]
    return dict(found)


def test_folder_has_the_copy_of_its_channel_backup(person: Person, node: dict[str, Any], desk: Path) -> None:
    person.succeeds("-d", FIRST, "stack", "start", "backups")
    found = copied(person)
    assert (found["stack"], found["target"], found["state"]) == ("clightning", "desk", "up to date")
    assert (desk / found["copy"]).exists()
    (shown,) = json.loads(person.succeeds("-d", FIRST, "lightning", "status", "--json"))["nodes"]
    assert [item["copy"] for item in shown["copies"]] == [found["copy"]]


def test_second_run_changes_nothing(person: Person, node: dict[str, Any]) -> None:
    assert "nothing changed" in start(person)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("clightning/recovery_words", None, "its volume has a wallet, and the secrets have no recovery words of it"),
        ("clightning/public_key", "02" * 33, "its volume has the wallet of another node"),
    ],
)
def test_secrets_of_another_wallet_are_refused(
    person: Person, node: dict[str, Any], name: str, value: str | None, fault: str
) -> None:
    file = person.home / "inventories" / FIRST / "secrets/regtest.json"
    right = file.read_text()
    values = {key: item for key, item in json.loads(right).items() if key != name}
    try:
        file.write_text(json.dumps(values if value is None else {**values, name: value}))
        refused = person.types("-d", FIRST, "stack", "start", "clightning")
        assert (refused.returncode, fault in refused.stdout + refused.stderr) == (2, True)
    finally:
        file.write_text(right)
    assert cli("getinfo")["id"] == node["facts"]["public_key"]


def test_version_older_than_one_that_ran_is_refused(person: Person, node: dict[str, Any]) -> None:
    mark_version("clightning", "99.0")
    found = refused(person)
    mark_version("clightning", clightning.VERSION)
    assert f"Version {clightning.VERSION} of clightning is older than 99.0, which has run here" in found


def test_full_volume_is_named(person: Person, node: dict[str, Any]) -> None:
    """lightningd would end with the first change, again and again."""
    replicas = str(Path(REPLICA).parent)
    inside(FIRST, "clightning", "sh", "-c", FILL, "sh", replicas)
    sh("systemctl kill --signal=KILL clightning")
    try:
        assert f"{replicas} is full: make its volume larger, with clightning_backup_size" in refused(person)
    finally:
        sh(f"rm {replicas}/filler.*")
    start(person)
    assert cli("getinfo")["id"] == node["facts"]["public_key"]


WRONG_WORDS = {"abandon " * 11 + "abandon": "its recovery words are not valid"}
if clightning.ARCHIVE:
    # The double knows one wallet alone.
    WRONG_WORDS["legal winner thank year wave sausage worth useful legal winner thank yellow"] = "are of another node"
#: how far a restore is; all but the first behind a number, as KILLS
RESTORING = (f"test -e {DIRECTORY}/hsm_secret", f"test -e {DIRECTORY}/restoring", f"test -e {DATABASE}")


def test_node_that_lost_all_volumes_is_made_again(person: Person, node: dict[str, Any]) -> None:
    """Of its words and a copy. It has no channels yet. Wrong words leave no wallet, and a killed restore goes on."""
    restore = ("lightning", "restore", "clightning")

    def refusal() -> str:
        done = person.types("-d", FIRST, *restore)
        assert done.returncode
        return done.stdout + done.stderr

    assert "there is nothing to restore" in refusal()
    person.succeeds("-d", FIRST, "stack", "remove", "clightning", "--delete-data")
    secrets = person.home / "inventories" / FIRST / "secrets/regtest.json"
    right = secrets.read_text()
    for words, fault in WRONG_WORDS.items():
        secrets.write_text(json.dumps({**json.loads(right), "clightning/recovery_words": words}))
        found = refusal()
        assert fault in found
        assert words not in found
    secrets.write_text(right)
    for condition in RESTORING[: max(1, KILLS // 5)]:
        kill_when(person, FIRST, "clightning", condition, *restore)
    person.succeeds("-d", FIRST, *restore)
    assert cli("getinfo")["id"] == node["facts"]["public_key"]
    assert "there is nothing to restore" in refusal()
    assert "nothing changed" in (start(person), start(person))[1]


def refused(person: Person, *words: str) -> str:
    done = person.types("-d", FIRST, "stack", "start", "clightning", *words)
    assert done.returncode == 2
    return done.stdout + done.stderr


# -- with peers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(person: Person, node: dict[str, Any], pair: Pair) -> str:
    """The key and address of the lnd in the other data center, which has the same blocks."""
    onion = pair.onions[SECOND]["bitcoind"]
    if onion not in [item["addednode"] for item in json.loads(bitcoin(FIRST, "getaddednodeinfo"))]:
        bitcoin(FIRST, "addnode", onion, "add")
    person.succeeds("-d", SECOND, "stack", "start", "lnd")
    person.succeeds("-d", FIRST, "lightning", "fund", "clightning")
    until(lambda: lnd_height() == height(), "blocks in the other data center")
    return str(lncli(SECOND, "getinfo")["uris"][0])


def height() -> int:
    return int(bitcoin(FIRST, "getblockcount"))


def lnd_height() -> int:
    found = inside(SECOND, "lnd", "sh", "-c", "lncli getinfo || true")
    return int(json.loads(found)["block_height"]) if found.startswith("{") else 0


def mine(count: int) -> None:
    bitcoin(FIRST, "generatetodescriptor", str(count), "raw(51)")
    # lightningd looks for blocks every 30 seconds.
    until(lambda: lnd_height() == height() == cli("getinfo")["blockheight"], "blocks in both nodes")


def channel() -> dict[str, Any]:
    (found,) = (item for item in cli("listpeerchannels")["channels"] if item["state"] not in CLOSED)
    return dict(found)


def usable() -> bool:
    """Whether the channel is open, and the other side is there."""
    found = sh("lightning-cli listpeerchannels || true")
    channels = json.loads(found)["channels"] if found.startswith("{") else []
    states = [(item["state"], item["peer_connected"]) for item in channels if item["state"] not in CLOSED]
    return states == [("CHANNELD_NORMAL", True)]


@pytest.fixture(scope="module")
def opened(node: dict[str, Any], other: str) -> str:
    """A channel that Core Lightning opened to lnd; half of it is lnd's. Its funding transaction."""
    key, _at, address = other.partition("@")
    until(
        lambda: sum(item["amount_msat"] for item in cli("listfunds")["outputs"] if item["status"] == "confirmed") > 0,
        "coins",
    )
    until(
        lambda: f'"id": "{key}"' in sh(f"lightning-cli connect {key} {address.replace(':', ' ')} || true"),
        "a connection",
    )
    funded = cli("-k", "fundchannel", f"id={key}", f"amount={CAPACITY}", f"push_msat={CAPACITY * 500}")
    MOMENTS["funded"] = time.time()
    mine(6)
    until(usable, "a channel")
    return str(funded["txid"])


def pay_lnd(amount: int) -> None:
    """It is tried again, while the other side has yet to learn of the channel."""
    invoice = lncli(SECOND, "addinvoice", "--amt", str(amount))["payment_request"]
    until(lambda: '"payment_preimage"' in sh(f"lightning-cli xpay {invoice} || true"), "a payment to lnd")


def pay_clightning(amount: int) -> None:
    label = f"coffee{time.time_ns()}"
    invoice = cli("-k", "invoice", f"amount_msat={amount * 1000}", f"label={label}", "description=a_payment")["bolt11"]
    paid = lncli(SECOND, "payinvoice", "--force", "--json", str(invoice))
    assert paid["status"] == "SUCCEEDED"
    assert cli("-k", "listinvoices", f"label={label}")["invoices"][0]["status"] == "paid"


@real
def test_invoices_are_paid_both_ways(opened: str) -> None:
    for pay, amount in ((pay_lnd, 5000), (pay_clightning, 7000)):
        began = time.monotonic()
        pay(amount)
        print(f"{pay.__name__}: {amount} sat in {time.monotonic() - began:.2f} s")


@real
def test_copy_of_a_new_channel_is_made_at_once(person: Person, opened: str) -> None:
    """Counted from when lightningd answers that it has made the channel: at most a second, if nothing else runs."""
    until(lambda: json.loads(opened_copy(person))["channels"] != [], "a copy of the channel")
    content = json.loads(opened_copy(person))
    assert [item["point"].partition(":")[0] for item in content["channels"]] == [opened]
    seconds = datetime.fromisoformat(content["created"]).timestamp() - MOMENTS["funded"]
    print(f"the copy was made {seconds:.3f} s after the channel")
    assert seconds < PATIENCE


def opened_copy(person: Person) -> str:
    """The newest copy, as age decrypts it."""
    identity = person.succeeds("-d", FIRST, "backup", "identity").strip()
    newest = "$(ls /var/lib/backups/copies/*.age | tail -n 1)"
    return inside(FIRST, "backups", "sh", "-c", f"age --decrypt --identity - {newest} <<END\n{identity}\nEND")


# Calls Lightning Charge or Spark in its instance, and prints what it answers.
_CALL = """
import sys, urllib.request
method, url, body, *headers = sys.argv[1:]
headers = dict(line.split(": ", 1) for line in ["Content-Type: application/json", *headers])
request = urllib.request.Request(url, body.encode() or None, headers, method=method)
print(urllib.request.urlopen(request, timeout=100).read().decode())
"""


@real
def test_shop_is_paid_through_lightning_charge(person: Person, opened: str) -> None:
    """What waits for the payment hears of it, also after the node was restarted meanwhile."""
    person.succeeds("-d", FIRST, "stack", "start", "lightning-charge")
    token = person.succeeds("-d", FIRST, "secret", "show", "lightning-charge/token").strip()
    authorization = f"Authorization: Basic {base64.b64encode(f'api-token:{token}'.encode()).decode()}"

    def charge(method: str, path: str, body: str = "") -> dict[str, Any]:
        words = (method, f"http://127.0.0.1:9112{path}", body, authorization)
        return dict(json.loads(inside(FIRST, "lightning-charge", "python3", "-c", _CALL, *words)))

    for _restarted in (False, True):
        made = charge("POST", "/invoice", json.dumps({"msatoshi": "9000000", "description": "a payment"}))
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(charge, "GET", f"/invoice/{made['id']}/wait?timeout=90")
            assert lncli(SECOND, "payinvoice", "--force", "--json", made["payreq"])["status"] == "SUCCEEDED"
            paid = waiting.result()
        assert (paid["status"], paid["msatoshi_received"]) == ("paid", "9000000")
        inside(FIRST, "clightning", "systemctl", "restart", "clightning")
        until(usable, "a channel")
    person.succeeds("-d", FIRST, "stack", "start", "lightning-charge")


@real
def test_spark_shows_the_channel_and_pays(person: Person, opened: str) -> None:
    person.succeeds("-d", FIRST, "stack", "start", "spark")
    password = person.succeeds("-d", FIRST, "secret", "show", "spark/password").strip()
    key = hmac.new(f"bcm:{password}".encode(), b"access-key", hashlib.sha256).digest()
    access = "X-Access: " + re.sub(r"[^A-Za-z0-9_]+", "", base64.b64encode(key).decode())

    def spark(method: str, *params: Any) -> Any:
        words = ("POST", "http://127.0.0.1:9737/rpc", json.dumps({"method": method, "params": params}), access)
        return json.loads(inside(FIRST, "spark", "python3", "-c", _CALL, *words))

    known = channel()
    of_peers = (item for peer in spark("listpeers")["peers"] for item in peer["channels"])
    (shown,) = (item for item in of_peers if item["state"] not in CLOSED)
    assert (shown["channel_id"], shown["msatoshi_to_us"]) == (known["channel_id"], known["to_us_msat"])
    coins = sum(coin["amount_msat"] for coin in cli("listfunds")["outputs"])
    assert sum(coin["value"] for coin in spark("listfunds")["outputs"]) == coins // 1000
    invoice = lncli(SECOND, "addinvoice", "--amt", "2000", "--memo", "a payment")["payment_request"]
    if not node_programs.REAL:
        return  # the double has neither of these
    assert spark("_decodecheck", invoice)["msatoshi"] == 2_000_000
    paid = spark("_pay", invoice)
    assert (paid["status"], paid["msatoshi"]) == ("complete", 2_000_000)
    assert [item["msatoshi_sent"] for item in spark("_listpays")["pays"] if item["bolt11"] == invoice] == [
        paid["msatoshi_sent"]
    ]
    assert {item["status"] for item in spark("_listinvoices")["invoices"]} == {"paid"}


@real
def test_program_outside_reaches_the_node_with_its_link(person: Person, opened: str, relays: tornet.TorNetwork) -> None:
    """And may do what the link says, until it is revoked."""
    words = ("-d", FIRST, "lightning", "connect-string", "clightning")
    made = json.loads(person.succeeds(*words, "phone", "--may", "invoices", "--json"))
    assert json.loads(person.succeeds(*words, "phone", "--may", "invoices", "--json"))["link"] == made["link"]
    link = urlsplit(made["link"])
    assert link.scheme == "clnrest"
    (rune,) = parse_qs(link.query)["rune"]
    phone = tornet.Client(relays, "phone-of-clightning", made["auth_private"])
    phone.tor.bootstrapped()
    host, _colon, port = link.netloc.partition(":")
    spoken = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    spoken.check_hostname, spoken.verify_mode = False, ssl.CERT_NONE

    def ask(method: str, body: str = "{}") -> str:
        head = f"POST /v1/{method} HTTP/1.1\r\nHost: {host}\r\nRune: {rune}\r\nConnection: close\r\n"
        with spoken.wrap_socket(phone.connected(host, int(port))) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    assert "bolt11" in ask("invoice", json.dumps({"amount_msat": 100_000, "label": "phone", "description": "tea"}))
    for method in ("listfunds", "createrune", "withdraw"):
        assert "Not permitted" in ask(method)
    assert json.loads(person.succeeds(*words, "--json")) == {"clients": [{"name": "phone", "may": "invoices"}]}
    start(person)
    assert "bolt11" in ask("listinvoices")
    person.succeeds(*words, "phone", "--revoke")
    assert json.loads(person.succeeds(*words, "--json")) == {"clients": []}
    assert tornet.WRONG_KEY in tornet.refusal(relays, host, int(port), made["auth_private"])


@real
def test_channel_survives_a_kill(opened: str) -> None:
    inside(FIRST, "clightning", "systemctl", "kill", "--signal=KILL", "clightning")
    until(usable, "the channel after a kill")
    pay_lnd(1000)


@real
def test_consumer_has_a_rune_of_its_own(person: Person, opened: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its verify program makes an invoice, and is refused all else."""
    # The folder of a test is deleted with it, and these settings stay.
    stacks = tmp_path_factory.mktemp("stacks")
    shutil.copytree(Path(__file__).parent / "stacks/counter", stacks / "counter")
    person.succeeds("-d", FIRST, "config", "set", f"stack_path={stacks}")
    made = reported(person.succeeds("-d", FIRST, "stack", "start", "counter", "--json"))
    assert (
        lncli(SECOND, "payinvoice", "--force", "--json", made["counter"]["facts"]["invoice"])["status"] == "SUCCEEDED"
    )
    rune = inside(FIRST, "counter", "cat", "/etc/counter/rune")
    stack = stacks / "counter/meta/stack.yml"
    stack.write_text(stack.read_text().replace("[invoice]", "[invoice, listinvoices]"))
    person.succeeds("-d", FIRST, "stack", "start", "counter")
    assert inside(FIRST, "counter", "cat", "/etc/counter/rune") != rune
    assert runes("counter") == {rune: True, inside(FIRST, "counter", "cat", "/etc/counter/rune"): False}
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", "counter")
    person.succeeds("-d", FIRST, "stack", "remove", "counter")
    start(person)
    assert set(runes("counter").values()) == {True}


# A plugin of a person's own, with one command.
_PLUGIN = """#!/usr/bin/python3
import json, sys
METHODS = [{"name": "greet", "usage": "", "description": "Greet."}]
ANSWERS = {"getmanifest": {"options": [], "rpcmethods": METHODS}, "init": {}, "greet": {"greeting": "hello"}}
text = ""
for line in sys.stdin:
    text += line
    try:
        asked = json.loads(text)
    except ValueError:
        continue
    text = ""
    answer = {"jsonrpc": "2.0", "id": asked["id"], "result": ANSWERS[asked["method"]]}
    print(json.dumps(answer), end="\\n\\n", flush=True)
"""


@real
def test_plugins_are_enabled_if_somebody_asks_for_them(person: Person, opened: str, tmp_path: Path) -> None:
    """gRPC, if the archive has it, WebSocket, and a plugin of one's own.

    The verify program speaks WebSocket, and calls gRPC, where the certificate of the stack alone lets it in.
    """
    plugin = tmp_path / "greeter"
    plugin.write_text(_PLUGIN)
    asked: dict[str, Any] = {"clightning_plugins": [str(plugin)], "clightning_grpc": True, "clightning_websocket": True}
    if not clightning.has_plugin("cln-grpc"):
        assert "clightning_grpc is true, and its release has no cln-grpc" in refused(person, "-e", json.dumps(asked))
        asked["clightning_grpc"] = False
    start(person, "-e", json.dumps(asked))
    assert cli("greet") == {"greeting": "hello"}
    plugins = {Path(item["name"]).name: item["active"] for item in cli("plugin", "list")["plugins"]}
    assert plugins["greeter"] and plugins.get("cln-grpc", False) == asked["clightning_grpc"]
    until(usable, "the channel")
    assert "nothing changed" in start(person, "-e", json.dumps(asked))
    start(person)
    assert "Unknown command" in sh("lightning-cli greet || true")
    until(usable, "the channel")


def runes(consumer: str) -> dict[str, bool]:
    """All runes of a consumer, and whether they are revoked."""
    found = [item for item in cli("showrunes")["runes"] if item["restrictions_as_english"].endswith(f" {consumer}")]
    return {item["rune"]: bool(item.get("blacklisted")) for item in found}


@real
def test_old_database_is_not_used(person: Person, opened: str) -> None:
    """An old copy of the volume, put back by hand, would lose the channel."""
    sh(f"systemctl stop clightning && cp -a {DATABASE} {DATABASE}.old && cp -a {REPLICA} {REPLICA}.old")
    start(person)
    until(usable, "the channel")
    pay_lnd(1000)
    start(person)
    sh(f"systemctl stop clightning && cp -a {DATABASE} {DATABASE}.good && cp -a {DATABASE}.old {DATABASE}")
    assert "is older than its replica" in refused(person)
    sh(f"systemctl stop clightning && rm {DATABASE} {DIRECTORY}/hsm_secret && cp -a {REPLICA} {REPLICA}.good")
    sh(f"cp -a {REPLICA}.old {REPLICA}")
    assert "is an old copy" in refused(person, "-e", "clightning_restore=true")
    sh(f"mv {REPLICA}.good {REPLICA} && rm -f {DATABASE}.* {REPLICA}.*")
    start(person, "-e", "clightning_restore=true")
    until(usable, "the channel")


@real
def test_channel_stays_open_when_the_volume_is_lost(person: Person, node: dict[str, Any], opened: str) -> None:
    before = channel()
    sh("systemctl stop clightning && rm -r /var/lib/clightning/*")
    assert "its wallet, created 20" in refused(person)
    began = time.monotonic()
    shown = person.succeeds("-d", FIRST, "lightning", "restore", "clightning")
    print(f"restored in {time.monotonic() - began:.1f} s")
    (line,) = (line for line in shown.splitlines() if opened in line)
    assert line.endswith("stays open")
    assert cli("getinfo")["id"] == node["facts"]["public_key"]
    until(usable, "the channel")
    after = channel()
    assert (after["funding_txid"], after["to_us_msat"]) == (opened, before["to_us_msat"])
    pay_lnd(2000)
    pay_clightning(3000)


def coins() -> int:
    """What it has on chain, whether that can be spent yet or not, in satoshi."""
    found = sh("lightning-cli listfunds || true")
    outputs = json.loads(found)["outputs"] if found.startswith("{") else []
    return sum(item["amount_msat"] for item in outputs if item["status"] != "spent") // 1000


@real
def test_coins_of_a_channel_come_back_if_all_volumes_are_lost(
    person: Person, node: dict[str, Any], opened: str
) -> None:
    """The other side closes the channel. A replica that lacks it is not used."""
    start(person)
    in_channel, on_chain = channel()["to_us_msat"] // 1000, coins()
    person.succeeds("-d", FIRST, "stack", "remove", "clightning", "--delete-data")
    began = time.monotonic()
    shown = person.succeeds("-d", FIRST, "lightning", "restore", "clightning")
    print(f"restored from the copy in {time.monotonic() - began:.1f} s")
    (line,) = (line for line in shown.splitlines() if opened in line)
    assert line.endswith("closed by the peer, yours less fees on chain")
    assert cli("getinfo")["id"] == node["facts"]["public_key"]
    until(lambda: coins() == on_chain, "coins from the words")
    until(lambda: len(lncli(SECOND, "pendingchannels")["waiting_close_channels"]) > 0, "the close")

    def swept() -> bool:
        bitcoin(FIRST, "generatetodescriptor", "1", "raw(51)")
        return coins() > on_chain

    until(swept, "coins from the channel")
    fees = on_chain + in_channel - coins()
    print(f"{in_channel} sat were in the channel; their way back cost {fees} sat")
    assert 0 <= fees < 50_000


@real
def test_lnd_opens_a_channel_towards_it(person: Person, node: dict[str, Any], other: str, opened: str) -> None:
    address = lncli(SECOND, "newaddress", "p2tr")["address"]
    bitcoin(FIRST, "generatetoaddress", "1", address)
    # Its former channel is forgotten, too.
    mine(110)
    (onion,) = (item for item in node["onions"] if item["service"] == "p2p")
    key = node["facts"]["public_key"]

    def connected() -> bool:
        inside(SECOND, "lnd", "sh", "-c", f"lncli connect {key}@{onion['address']} || true")
        return key in [peer["pub_key"] for peer in lncli(SECOND, "listpeers")["peers"]]

    until(connected, "a connection")
    until(lambda: int(lncli(SECOND, "walletbalance")["confirmed_balance"]) > 2 * CAPACITY, "coins")
    made = lncli(SECOND, "openchannel", key, str(CAPACITY), str(CAPACITY // 2))["funding_txid"]
    until(lambda: made in bitcoin(FIRST, "getrawmempool"), "the transaction where blocks are mined")
    mine(6)
    until(usable, "a channel")
    assert channel()["opener"] == "remote"
    pay_lnd(5000)
    until(lambda: [item["active"] for item in lncli(SECOND, "listchannels")["channels"]] == [True], "lnd")
    pay_clightning(7000)


def open_channels() -> list[dict[str, Any]]:
    """All channels that are not closed, but those that nobody has paid for: a kill kept them from being opened."""
    found = [item for item in cli("listpeerchannels")["channels"] if item["state"] not in CLOSED]
    return [item for item in found if bitcoin(FIRST, "gettxout", item["funding_txid"], str(item["funding_outnum"]))]


def wealth() -> int:
    """What both nodes have, in channels and on chain, in satoshi."""
    wallet = lncli(SECOND, "walletbalance")
    found = int(wallet["total_balance"]) + int(wallet["locked_balance"])
    found += int(lncli(SECOND, "channelbalance")["local_balance"]["sat"])
    found += int(lncli(SECOND, "pendingchannels")["total_limbo_balance"])
    return found + coins() + sum(item["to_us_msat"] for item in open_channels()) // 1000


def at_rest() -> bool:
    """Whether all channels can be used, and nothing is on its way."""
    if not sh("lightning-cli getinfo || true").startswith("{"):
        return False
    mine(1)
    for item in open_channels():
        if any("waiting for theirs" in line for line in item["status"]):
            # An lnd whose peer was killed in the midst of an opening greets that channel with the next connection.
            sh(f"lightning-cli disconnect {item['peer_id']} true || true")
            return False
    found = [(item["state"], item["peer_connected"], item["htlcs"]) for item in open_channels()]
    is_closing = lncli(SECOND, "pendingchannels")["waiting_close_channels"]
    return not is_closing and all(item == ("CHANNELD_NORMAL", True, []) for item in found)


def free_reserved() -> None:
    """Free coins that an opening has left reserved as it was killed, with the commands in docs/lightning.md."""
    for item in cli("listfunds")["outputs"]:
        if item["reserved"]:
            coin = json.dumps([f"{item['txid']}:{item['output']}"])
            psbt = cli("utxopsbt", "all", "1000perkw", "0", coin, "0", "true")["psbt"]
            cli("-k", "unreserveinputs", f"psbt={psbt}", "reserve=2016")


# Kills it as soon as its channel backup is another file.
KILL_WHILE_SAVING = f"""
backup={DIRECTORY}/emergency.recover; former=$(stat -c %i $backup)
while [ "$(stat -c %i $backup)" = "$former" ]; do :; done
systemctl kill --signal=KILL clightning
"""


@real
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_node_has_its_channel_or_its_coins(
    person: Person, node: dict[str, Any], other: str, opened: str, number: int
) -> None:
    """Killed while it opens a channel, pays, closes a channel, or saves its channel backup."""
    act = ("opening", "paying", "closing", "saving")[number % 4]
    key = other.partition("@")[0]
    until(at_rest, "channels at rest")
    free_reserved()
    (main,) = (item["channel_id"] for item in open_channels())
    fund = f"lightning-cli -k fundchannel id={key} amount={OTHER_CAPACITY} announce=false"
    if act == "closing":
        sh(fund)
        until(at_rest, "channels at rest")
    before = wealth()
    others = [item["channel_id"] for item in open_channels() if item["channel_id"] != main]
    if act == "paying":
        invoices = [lncli(SECOND, "addinvoice", "--amt", "100")["payment_request"] for _ in range(8)]
        script = "; ".join(f"lightning-cli xpay {invoice}" for invoice in invoices)
    else:
        script = f"lightning-cli close {others[0]}" if act == "closing" else fund
    with ThreadPoolExecutor() as pool:
        running = pool.submit(sh, f"{{ {script}; }} >/dev/null 2>&1 || true")
        if act == "saving":
            inside(FIRST, "clightning", "timeout", "60", "sh", "-c", KILL_WHILE_SAVING, deadline=90)
        else:
            # Later in each round: what it does lasts one or two seconds.
            time.sleep(0.1 + 0.25 * (number // 4))
            inside(FIRST, "clightning", "systemctl", "kill", "--signal=KILL", "clightning")
        running.result()
    start(person)
    until(lambda: sh(f"cmp {DIRECTORY}/emergency.recover {SAVED} && echo same || true") == "same", "the saved backup")
    until(at_rest, "channels at rest after a kill")
    found = [item["channel_id"] for item in open_channels() if item["channel_id"] != main]
    print(f"killed while {act}: {len(found)} other channels")
    # A commitment's fee is nobody's, until the channel is closed.
    assert abs(before - wealth()) < FEES
    for channel_id in found:
        sh(f"lightning-cli close {channel_id}")
    until(at_rest, "channels at rest")
    assert [item["channel_id"] for item in open_channels()] == [main]


def test_start_of_one_node_leaves_the_other_alone(person: Person, node: dict[str, Any]) -> None:
    """Though one stack copies the backups of both, with a credential of each."""
    person.succeeds("-d", FIRST, "stack", "start", "backups")
    made = reported(person.succeeds("-d", FIRST, "stack", "start", "lnd", "--json"))
    assert ("backups" in made, "clightning" in made) == (True, False)
    made = reported(start(person, "--json"))
    assert ("backups" in made, "lnd" in made) == (True, False)
    assert "nothing changed" in start(person)
    settings = json.loads(inside(FIRST, "backups", "cat", "/etc/backups/settings.json"))
    assert sorted(settings["sources"]) == ["clightning", "lnd"]


# -- web applications -------------------------------------------------------------------------------------------------

WEB = ("ridethelightning", "spark", "lightning-charge")
LOGINS = ("ridethelightning/password", "spark/password", "lightning-charge/token")
_SHOP = (Path(__file__).parent / "programs/shop.py").read_text()


def start_web(person: Person) -> dict[str, Any]:
    found = person.succeeds("-d", FIRST, "stack", "start", *WEB, "kiosk", "--json")
    warning = "Stack spark is software that nobody maintains since April 2022: faults in it will not be mended"
    assert json.loads(found)["warnings"].count(warning) == 1
    return reported(found)


@pytest.fixture(scope="module")
def web(person: Person, node: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is reported of the web applications, and of a stack that uses one of them, with both nodes."""
    stacks = tmp_path_factory.mktemp("kiosk")
    shutil.copytree(Path(__file__).parent / "stacks/kiosk", stacks / "kiosk")
    person.succeeds("-d", FIRST, "config", "set", f"stack_path={stacks}", "ridethelightning_node=both")
    return start_web(person)


def test_both_nodes_are_shown_in_one_page(person: Person, web: dict[str, Any]) -> None:
    """And its pages link to no explorer of others."""
    assert web["ridethelightning"]["facts"] == {"nodes": ["clightning", "lnd"], "height": height()}
    shown = json.loads(record_ridethelightning.ask(FIRST, ("GET", "/rtl/api/conf", "", False))[0][2])
    # Without a login, it is the node that is chosen.
    assert shown["nodes"][0]["lnNode"] == f"{FIRST} lnd"
    assert {item["settings"]["blockExplorerUrl"] for item in shown["nodes"]} == {"https://explorer.invalid"}
    assert not any(item["settings"]["fiatConversion"] for item in shown["nodes"])


def test_double_of_ride_the_lightning_refuses_as_the_program(web: dict[str, Any]) -> None:
    found = record_ridethelightning.recorded(FIRST)
    if os.environ.get("BCM_RECORD") and ridethelightning.ARCHIVE:
        ridethelightning.RECORDINGS.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(ridethelightning.RECORDINGS.read_text())


def test_credentials_of_ride_the_lightning_allow_what_its_pages_do_and_no_more(web: dict[str, Any]) -> None:
    needs = Catalogue.read()["ridethelightning"].needs
    given = json.loads(inside(FIRST, "ridethelightning", "cat", "/etc/ridethelightning/credentials.json"))
    macaroon = lncli(FIRST, "printmacaroon", given["lnd"])
    assert sorted(macaroon["permissions"]) == sorted(needs["lnd"].permissions["macaroon"])
    # A rune says what it allows.
    _number, calls, of = base64.urlsafe_b64decode(given["clightning"] + "==")[32:].decode().split("&")
    assert sorted(calls.split("|")) == [f"method={call}" for call in sorted(needs["clightning"].permissions["rune"])]
    assert "#bcm ridethelightning" in of


# Runs a program with the user and the files of a unit.
_AS_UNIT = """
unit=$1 && shift
exec nsenter --target "$(systemctl show --property=MainPID --value "$unit")" --mount -- \\
  setpriv --reuid="$unit" --regid="$unit" --clear-groups --no-new-privs -- "$@"
"""
# Tries what it is given, and prints what went: files to read, folders to write into, and places to connect to.
_TRY = """
import json, pathlib, socket, sys
def can(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True
files, folders, places = map(json.loads, sys.argv[1:])
print(json.dumps({
    "read": [path for path in files if can(pathlib.Path(path).read_bytes)],
    "written": [path for path in folders if can(pathlib.Path(path, "trace").touch)],
    "reached": [place for place in places if can(lambda: socket.create_connection(place.split(":"), 3).close())],
}))
"""


def test_spark_is_shut_in(web: dict[str, Any]) -> None:
    """Its process sees no credential of the node, writes nothing that stays, and reaches no stack but that node."""
    with client(FIRST) as lxd:
        instances = lxd.get("/1.0/instances", recursion=1)
    addresses = {item["name"]: item["devices"]["eth0"]["ipv4.address"] for item in instances}
    ports = {"bitcoind": (18443, 18444), "lnd": (8080, 10009), "tor": (9050,), "lightning-charge": (9112,)}
    places = [f"{addresses[name]}:{port}" for name, numbers in ports.items() for port in numbers]
    files = [
        "/etc/spark/node.json",
        "/etc/spark/environment",
        "/etc/bcm/credentials.json",
        "/etc/shadow",
        "/etc/hostname",
    ]
    folders = ["/tmp", "/var/tmp", "/run/spark", "/run", "/opt/spark", "/etc/spark", "/home", "/root", "/var/lib"]
    words = [json.dumps(item) for item in (files, folders, [*places, "192.0.2.1:443"])]
    script = ("sh", "-c", _AS_UNIT, "sh", "spark", "python3", "-c", _TRY, *words)
    found = json.loads(inside(FIRST, "spark", *script))
    # The third has the socket on which it finds the node.
    assert found == {"read": ["/etc/hostname"], "written": ["/tmp", "/var/tmp", "/run/spark"], "reached": []}


def charge_answers(path: str, token: str) -> tuple[int, str]:
    """Status and body of what Lightning Charge answers to a client with that token."""
    words = ("127.0.0.1:9112", "GET", path, "", f"api-token:{token}")
    found = json.loads(inside(FIRST, "lightning-charge", "python3", "-c", _SHOP, *words))
    ((status, text),) = found["answers"]
    return int(status), str(text)


def ride_the_lightning_answers(password: str) -> int:
    """The status of Ride The Lightning's answer to a person with that password."""
    proof = hashlib.sha256(password.encode()).hexdigest()
    login = json.dumps({"authenticateWith": "PASSWORD", "authenticationValue": proof, "twoFAToken": ""})
    pages = (("GET", "/rtl/login", "", False), ("POST", "/rtl/api/authenticate", login, True))
    return int(record_ridethelightning.ask(FIRST, *pages)[1][0])


def spark_answers(password: str) -> int:
    """The status of Spark's page for a person with that password."""
    words = ("127.0.0.1:9737", "GET", "/", "", f"bcm:{password}")
    found = json.loads(inside(FIRST, "spark", "python3", "-c", _SHOP, *words))
    ((status, _text),) = found["answers"]
    return int(status)


def test_web_applications_survive_all_that_may_change_behind_them(person: Person, web: dict[str, Any]) -> None:
    """Both nodes revoke the credentials, get other certificates and restart, and all logins are others: one run mends
    that, and the invoice of a shop is still there.
    """
    invoice = f"/invoice/{web['kiosk']['facts']['invoice']}"
    token = inside(FIRST, "kiosk", "cat", "/etc/kiosk/token")
    former = {name: person.succeeds("-d", FIRST, "secret", "show", name).split()[-1] for name in LOGINS}
    assert len({token, *former.values()}) == 4
    credentials = [f"clightning/rest/{stack}" for stack in WEB] + ["lnd/rest/ridethelightning"]
    kept = charge_answers(invoice, token)
    assert kept[0] == 200
    person.succeeds("-d", FIRST, "secret", "rotate", *LOGINS, "lightning-charge/http/kiosk", *credentials)
    # Until the next run, the fault is that which the node names.
    assert charge_answers("/info", token) == (400, "LightningError: Not authorized: Blacklisted rune")
    for stack in ("clightning", "lnd"):
        person.succeeds("-d", FIRST, "ca", "renew", stack)
    found = start_web(person)
    assert found["ridethelightning"]["facts"]["nodes"] == ["clightning", "lnd"]
    passwords = [(former[name], person.succeeds("-d", FIRST, "secret", "show", name).split()[-1]) for name in LOGINS]
    (rtl, spark, (before, after)), fresh = passwords, inside(FIRST, "kiosk", "cat", "/etc/kiosk/token")
    assert [ride_the_lightning_answers(password) for password in rtl] == [401, 200]
    assert [spark_answers(password) for password in spark] == [401, 200]
    assert [charge_answers("/info", item)[0] for item in (token, before, fresh, after)] == [401, 401, 200, 200]
    assert charge_answers(invoice, fresh) == kept
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", *WEB, "kiosk")


def test_nothing_left_for_anything_but_a_relay(pair: Pair, node: dict[str, Any]) -> None:
    assert pair.strange() == {}
