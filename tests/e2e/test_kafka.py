# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events of stacks: nobody else writes or reads them, and what the broker acknowledged is there whatever happens."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import neighbour
from tests.e2e.conftest import Person, client, inside, reported
from tests.e2e.lan import HOST, LISTED, NEAR, local_network
from tests.support import PATIENCE, ROOT, until

pytestmark = [pytest.mark.containers, pytest.mark.apart]

NAME = "gazettes"
TOPIC = "gazette.issue"
#: where programs in the local network find services
PLACES = {"kafka/clients": 9095, "electrs/metrics": 4224}
FETCH = Path(__file__).with_name("programs") / "fetch.py"


def events(instance: str, *words: str, **options: str) -> list[str]:
    """What the client in an instance prints; ``options`` are its own, with underscores in place of dots."""
    told = {name.replace("_", "."): value for name, value in options.items()}
    return inside(NAME, instance, "python3", "/root/events.py", *words, json.dumps(told)).splitlines()


def is_refused(instance: str, **options: str) -> bool:
    """Whether the broker leaves a client alone that writes, within ten times what it takes to answer others."""
    return events(instance, "write", TOPIC, "1", message_timeout_ms="10000", **options) == ["_MSG_TIMED_OUT"]


def start(person: Person, *words: str) -> dict[str, Any]:
    return json.loads(person.succeeds("-d", NAME, "stack", "start", *words, "--json"))


@pytest.fixture(scope="module")
def gazette(person: Person) -> Iterator[dict[str, Any]]:
    """The broker with a stack that writes and one that reads; programs in a local network may be let in."""
    person.datacenter(NAME, stack_path=str(Path(__file__).parent / "stacks"))
    access = {place: {"lan": {"address": HOST, "port": port, "from": LISTED}} for place, port in PLACES.items()}
    with person.settings(NAME).open("a") as settings:
        settings.write(f"electrs_metrics: true\nbcm_access: {json.dumps(access)}\n")
    with local_network(NAME):
        yield reported(json.dumps(start(person, "gazette", "reader")))
        person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


@pytest.fixture
def answers(gazette: dict[str, Any]) -> Iterator[None]:
    """The broker acknowledges events afterwards."""
    yield
    until(lambda: events("gazette", "write", TOPIC, "1") == ["0"], "the broker acknowledges an event")


def test_stack_does_what_the_plan_says_and_nothing_else(answers: None) -> None:
    assert events("gazette", "write", TOPIC, "3") == ["0", "1", "2"]
    assert events("reader", "read", TOPIC)[-3:] == ["0", "1", "2"]
    assert events("reader", "write", TOPIC, "1") == ["TOPIC_AUTHORIZATION_FAILED"]
    refused = (["TOPIC_AUTHORIZATION_FAILED"], ["GROUP_AUTHORIZATION_FAILED"])
    assert events("gazette", "read", TOPIC) in refused
    assert events("gazette", "write", "gazette.other", "1")[0] in ("_UNKNOWN_TOPIC", "TOPIC_AUTHORIZATION_FAILED")
    assert events("reader", "read", "bcm_probe") in (*refused, ["nothing answers"])


def test_client_without_certificate_or_password_is_refused(answers: None) -> None:
    other = json.loads(inside(NAME, "reader", "cat", "/root/client.json"))["sasl.password"]
    clients = (
        {"ssl_certificate_location": "", "ssl_key_location": ""},
        {"sasl_password": "guessed"},
        {"sasl_password": other},
    )
    # Nobody tells a client that it is refused, so each takes the time that it waits.
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda options: is_refused("gazette", **options), clients))


def test_second_run_changes_nothing(person: Person, gazette: dict[str, Any]) -> None:
    assert person.succeeds("-d", NAME, "stack", "start", "gazette", "reader").rstrip().endswith("nothing changed")


def bitcoin(*words: str) -> Any:
    answer = inside(NAME, "bitcoind", "bitcoin-cli", *words)
    return json.loads(answer) if answer.startswith(("{", "[")) else answer


def mine(count: int, script: str = "51") -> list[str]:
    return list(bitcoin("generatetodescriptor", str(count), f"raw({script})"))


def read_events(person: Person, topic: str = "bitcoind.block") -> list[dict[str, Any]]:
    """All events of a topic, each once, in their order."""
    lines = person.succeeds("-d", NAME, "events", "tail", topic, "--json", "--newest=9999", "--stop")
    once = {event["event"]["id"]: event for event in map(json.loads, lines.splitlines())}
    assert [event["event"]["sequence"] for event in once.values()] == list(range(1, len(once) + 1))
    return list(once.values())


def kill(instance: str, unit: str, signal: str = "KILL") -> None:
    inside(NAME, instance, "systemctl", "kill", f"--signal={signal}", unit)


def test_what_is_in_journals_is_events_without_secrets_and_nobody_else_reads_it(person: Person, answers: None) -> None:
    def say(text: str) -> None:
        inside(NAME, "gazette", "systemd-cat", "--identifier=test", "--priority=warning", "echo", text)

    def said() -> list[tuple[str, str]]:
        events = read_events(person, "gazette.log")
        return [(event["message"], event["priority"]) for event in events if event["identifier"] == "test"]

    say(f"macaroon {secrets.token_urlsafe(32)}")
    until(lambda: said() == [("macaroon [masked]", "warning")], "what was said is an event")
    kill("collector", "collector-journal")
    say("while nobody listened")
    until(lambda: [message for message, _priority in said()][1:] == ["while nobody listened"], "that, too")
    assert any(event["unit"] == "gazette.service" for event in read_events(person, "gazette.log"))
    runs = "systemctl list-units --no-legend --plain 'journal@*' | wc -l"
    assert int(inside(NAME, "gazette", "sh", "-c", runs)) >= 1
    connect = f"import socket; socket.create_connection(('gazette.{NAME}-regtest.bcm', 19531), 10)"
    inside(NAME, "collector", "python3", "-c", connect)
    inside(NAME, "reader", "sh", "-c", f'! python3 -c "{connect}"')


def test_each_block_is_an_event_once_whatever_is_killed(person: Person, answers: None) -> None:
    def changes() -> list[tuple[str, str]]:
        return [(event["change"], event["block"]) for event in read_events(person)]

    # The collector came with the broker.
    began = reported(json.dumps(start(person, "lnd", "electrs")))
    assert began["collector"]["verified"][:2] == ["events up to block 0", "events up to block 0 of electrs"]
    topics = {row["topic"] for row in json.loads(person.succeeds("-d", NAME, "events", "list", "--json"))}
    assert {"bitcoind.block", "bitcoind.mempool", "bitcoind.peers", "bitcoind.warning", "electrs.index"} <= topics
    assert {"lnd.channel", "lnd.forward", "lnd.invoice", "lnd.payment", TOPIC} <= topics
    assert {f"{stack}.log" for stack in began} <= topics
    run = read_events(person, "collector.run")[-1]
    assert (run["state"], run["event"]["host"]) == ("present", socket.gethostname())
    assert {"lnd", "electrs", "bitcoind"} <= set(run["stacks"]) and run["versions"]["lnd"]
    of_run = {
        name: [event for event in read_events(person, f"collector.{name}") if event["run"] == run["run"]]
        for name in ("started", "change", "certificate")
    }
    assert [event["stacks"] for event in of_run["started"]] == [["lnd", "electrs"]]
    assert {"localhost", "lnd", "electrs", "bitcoind"} <= {event["instance"] for event in of_run["change"]}
    assert "lnd" in {event["name"] for event in of_run["certificate"]}
    told = [("connected", bitcoin("getblockhash", "0"))]
    assert changes() == told
    told += [("connected", block) for block in mine(20)]
    until(lambda: changes() == told, "all blocks are events")
    told += [("connected", block) for block in mine(1)]
    until(lambda: changes() == told, "the next block is an event")
    newest = read_events(person)[-1]["event"]
    assert (newest["time_source"], newest["host"]) == ("observed", socket.gethostname())
    for unit in ("collector-bitcoind", "collector-electrs", "collector-lnd", "collector-journal"):
        process = inside(NAME, "collector", "systemctl", "show", "--property=MainPID", "--value", unit)
        status = inside(NAME, "collector", "cat", f"/proc/{process}/status")
        whole, own = (int(re.findall(rf"{name}:\s*(\d+) kB", status)[0]) for name in ("VmRSS", "RssAnon"))
        print(f"memory of {unit}: {whole} kB, of which {own} kB are its own")
        assert own < 20 * 1024

    # A reorganisation of six blocks that the collector does not see, and then it is killed.
    kill("collector", "collector-bitcoind", "STOP")
    bitcoin("invalidateblock", told[-6][1])
    told += [("disconnected", block) for _change, block in reversed(told[-6:])]
    told += [("connected", block) for block in mine(7, "52")]  # others than before
    kill("collector", "collector-bitcoind")
    until(lambda: changes() == told, "the reorganisation is in the events")
    assert [event["depth"] for event in read_events(person)[-13:]] == [1, 2, 3, 4, 5, 6, 6, 0, 0, 0, 0, 0, 0]

    # The broker is killed while blocks come, and the collector, too, while it is away.
    miner = threading.Thread(target=lambda: told.extend(("connected", block) for block in mine(300)))
    miner.start()
    kill("kafka", "kafka")
    miner.join()
    kill("collector", "collector-bitcoind")
    until(lambda: events("gazette", "write", TOPIC, "1") == ["0"], "the broker acknowledges an event")
    until(lambda: changes() == told, "all blocks are events")
    until(lambda: read_events(person, "electrs.index")[-1]["block"] == told[-1][1], "electrs has them, too")


def test_metrics_are_read_with_a_certificate_for_their_stack(person: Person, answers: None, tmp_path: Path) -> None:
    person.succeeds("-d", NAME, "ca", "export", str(tmp_path))
    (root,) = tmp_path.glob("*.crt")
    person.succeeds("-d", NAME, "access", "grant", "prometheus", "electrs", "--by", "lan", "--out", str(tmp_path))
    own = [tmp_path / f"prometheus@electrs.{kind}" for kind in ("crt", "key")]

    def read(*certificate: Path) -> str:
        words = [FETCH, NEAR, HOST, str(PLACES["electrs/metrics"]), "/metrics", root, *certificate]
        command = ["ip", "netns", "exec", NAME, sys.executable, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert re.search(r"^electrs_[a-z_]+({.*})? [0-9.e+-]+$", read(*own), re.MULTILINE)
    assert read() == "closed"


def lncli(*words: str) -> dict[str, Any]:
    return dict(json.loads(inside(NAME, "lnd", "lncli", *words)))


def ask_lnd(words: str, command: str = "lncli") -> dict[str, Any]:
    """What a node answers, nothing while it cannot."""
    found = inside(NAME, "lnd", "sh", "-c", f"{command} {words} || true")
    return dict(json.loads(found)) if found.startswith("{") else {}


def has_followed() -> bool:
    """Whether lnd is at work, and has the newest block, without which it takes neither channels nor payments."""
    info = ask_lnd("getinfo")
    return info.get("block_height") == int(bitcoin("getblockcount")) and bool(info["synced_to_chain"])


def is_usable(ann: neighbour.Neighbour) -> bool:
    """Whether both nodes have the channel, and the fees of its ends, without which there is no route."""
    for command in ("lncli", ann.command):
        edges = ask_lnd("describegraph", command).get("edges") or [{}]
        if not ask_lnd("listchannels --active_only", command).get("channels"):
            return False
        if not all(edge.get("node1_policy") and edge.get("node2_policy") for edge in edges):
            return False
    return has_followed()


def test_channels_invoices_and_payments_of_lnd_are_events_once(person: Person, answers: None) -> None:
    def values(topic: str, *fields: str) -> list[tuple[Any, ...]]:
        return [tuple(event[field] for field in fields) for event in read_events(person, topic)]

    def receive(amount: int) -> tuple[str, int]:
        invoice = lncli("addinvoice", "--amt", str(amount), "--memo", "for nobody else")
        ann.ask("payinvoice", "--force", "--json", invoice["payment_request"])
        return invoice["r_hash"], amount * 1000

    def send(amount: int, outcome: str = "succeeded") -> tuple[str, str, int]:
        invoice = ann.ask("addinvoice", "--amt", str(amount))
        pay = f"lncli payinvoice --force --json {invoice['payment_request']} || true"
        inside(NAME, "lnd", "sh", "-c", pay)
        return invoice["r_hash"], outcome, amount * 1000

    def await_events() -> None:
        until(lambda: values("lnd.payment", "payment_hash", "outcome", "amount") == sent, "the payments are events")
        until(lambda: values("lnd.invoice", "payment_hash", "amount") == received, "the invoices are events")

    def comes_back() -> bool:
        """The other node tries again after ever longer times, so it is told to."""
        ask_lnd(f"connect {key}@{place}", ann.command)
        return is_usable(ann)

    with neighbour.running(NAME, "ann") as (ann,):
        bitcoin("generatetoaddress", "1", ann.ask("newaddress", "p2tr")["address"])
        mine(100)
        neighbour.await_blocks(ann)
        until(has_followed, "lnd has all blocks")
        key = lncli("getinfo")["identity_pubkey"]
        place = inside(NAME, "lnd", "sed", "-n", "s/^listen=//p", "/etc/lnd/lnd.conf")
        amounts = ("--local_amt", "1000000", "--push_amt", "400000")
        opened = ann.ask("openchannel", "--node_key", key, "--connect", place, *amounts)["funding_txid"]
        until(lambda: values("lnd.channel", "change", "balance") == [("pending", 400_000)], "a pending channel")
        mine(6)
        neighbour.await_blocks(ann)
        until(lambda: is_usable(ann), "a channel")
        received, sent = [receive(5000)], [send(7000), send(900_000, "failed")]
        await_events()

        # Meanwhile the collector and the broker are away, and then lnd.
        inside(NAME, "collector", "systemctl", "stop", "collector-lnd")
        kill("kafka", "kafka")
        received += [receive(1000), receive(2000)]
        sent += [send(1500), send(800_000, "failed")]
        inside(NAME, "collector", "systemctl", "start", "collector-lnd")
        inside(NAME, "lnd", "systemctl", "restart", "lnd")
        until(comes_back, "a channel")
        received.append(receive(3000))
        sent.append(send(2500))
        (channel,) = lncli("listchannels")["channels"]
        lncli("closechannel", "--chan_point", channel["channel_point"])
        mine(6)
        until(lambda: len(values("lnd.channel")) == 3, "the channel is closed")
        await_events()
    assert values("lnd.channel", "change", "how") == [("pending", ""), ("opened", ""), ("closed", "cooperative_close")]
    assert {point.partition(":")[0] for (point,) in values("lnd.channel", "channel")} == {opened}
    (number,) = (path for path in inside(NAME, "lnd", "ls", "/var/lib/lnd/consumers").split() if "collector" in path)
    macaroon = json.loads(inside(NAME, "lnd", "cat", f"/var/lib/lnd/consumers/{number}"))
    allowed = bytes.fromhex(macaroon)
    assert len(set(re.findall(rb"/lnrpc[.]Lightning/\w+", allowed))) == 9 and b"offchain" not in allowed


def ask_in_sql(person: Person, question: str) -> list[dict[str, Any]]:
    return list(json.loads(person.succeeds("-d", NAME, "events", "query", question, "--json")))


def test_answers_in_sql_are_what_bitcoind_and_lnd_say(person: Person, answers: None) -> None:
    height = int(bitcoin("getblockcount"))
    chain = "SELECT height, block FROM bitcoind_block ORDER BY event_sequence DESC LIMIT 1"
    assert ask_in_sql(person, chain) == [{"height": height, "block": bitcoin("getbestblockhash")}]
    paid = {item["payment_hash"]: int(item["value_msat"]) for item in lncli("listpayments")["payments"]}
    found = ask_in_sql(person, "SELECT payment_hash, amount FROM lnd_payment WHERE outcome = 'succeeded'")
    assert {row["payment_hash"]: row["amount"] for row in found} == paid and len(found) == len(paid) == 3
    assert ask_in_sql(person, "SELECT * FROM forwarding_income") == []
    inside(NAME, "gazette", "systemd-cat", "--priority=err", "echo", "something is broken")
    errors = "SELECT stack FROM log_errors WHERE stack = 'gazette'"
    until(lambda: ask_in_sql(person, errors) != [], "the error is counted")

    command = person.command(
        "-d", NAME, "events", "query", "SELECT max(height) AS height FROM bitcoind_block", "--follow"
    )
    environment = {**person.environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=person.home, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        try:
            assert following.stdout.readline() == f"height={height}\n"
            mine(1)
            assert following.stdout.readline() == f"height={height + 1}\n"
        finally:
            following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE) == 130


def test_acknowledged_events_survive_a_kill_in_mid_write(answers: None) -> None:
    before = len(events("reader", "read", TOPIC))
    script = f"python3 /root/events.py write {TOPIC} 100000 > /tmp/acknowledged"
    writer = threading.Thread(target=inside, args=(NAME, "gazette", "sh", "-c", script), kwargs={"deadline": 300})
    writer.start()
    count = ("sh", "-c", "cat /tmp/acknowledged 2>/dev/null | wc -l")
    until(lambda: int(inside(NAME, "gazette", *count)) > 500, "events are acknowledged")
    inside(NAME, "kafka", "systemctl", "kill", "--signal=KILL", "kafka")
    writer.join(300)
    acknowledged = [line for line in inside(NAME, "gazette", "cat", "/tmp/acknowledged").splitlines() if line.isdigit()]
    assert len(acknowledged) > 500
    until(lambda: events("gazette", "write", TOPIC, "1") == ["0"], "the broker acknowledges an event")
    assert set(acknowledged) <= set(events("reader", "read", TOPIC)[before:])


def test_full_disk_loses_nothing_that_was_acknowledged(answers: None) -> None:
    data, small = "/var/lib/kafka", "/var/tmp/small"
    inside(NAME, "kafka", "systemctl", "stop", "kafka")
    used = int(inside(NAME, "kafka", "du", "-sk", data).split()[0])
    inside(
        NAME, "kafka", "sh", "-ec",
        f"mkdir {small}; mount -t tmpfs -o size={used + 52_000}k tmpfs {small}; cp -a {data}/. {small};"
        f"fallocate -l 50M {small}/ballast; chown kafka: {small}; chmod 700 {small}; mount --bind {small} {data};"
        "systemctl start kafka",
    )  # fmt: skip
    try:
        said = events("gazette", "write", TOPIC, "200000")
        acknowledged = {line for line in said if line.isdigit()}
        assert said[-1] == "_MSG_TIMED_OUT" and 0 < len(acknowledged) < 200_000
        inside(NAME, "kafka", "rm", f"{small}/ballast")
        until(lambda: events("gazette", "write", TOPIC, "1") == ["0"], "the broker writes again")
        assert acknowledged <= set(events("reader", "read", TOPIC))
    finally:
        script = f"systemctl stop kafka; umount {data}; umount {small}; rmdir {small}; systemctl start kafka"
        inside(NAME, "kafka", "sh", "-c", script)


def program_elsewhere(instance: str, folder: Path) -> tuple[list[str | Path], Path]:
    """How a command begins that runs in the local network, with the files of an instance; its copy of a folder."""
    with client(NAME) as lxd:
        root = Path(f"/proc/{lxd.get(f'/1.0/instances/{instance}/state')['pid']}/root")
    there = Path("/root") / folder.name
    shutil.copytree(folder, f"{root}{there}", dirs_exist_ok=True)
    return ["ip", "netns", "exec", NAME, "chroot", root, "python3"], there


def elsewhere(folder: Path, *words: str) -> list[str]:
    """What a client prints that runs in the local network, with the files of the instance `reader`, and those given."""
    begin, there = program_elsewhere("reader", folder)
    (properties,) = folder.glob("*.properties")
    options = dict(line.split("=", 1) for line in properties.read_text().splitlines())
    own = {key: str(there / value) if key.endswith(".location") else value for key, value in options.items()}
    command = [*begin, "/root/events.py", *words, json.dumps(own)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout.splitlines()


def test_example_in_the_documentation_reads_each_event_once(person: Person, answers: None, tmp_path: Path) -> None:
    folder = tmp_path / "carol"
    person.succeeds("-d", NAME, "events", "grant", "carol", "--read", "bitcoind.*", "--out", str(folder))
    shutil.copy(ROOT / "docs/examples/read_events.py", folder)
    start(person, "kafka")
    begin, there = program_elsewhere("kafka", folder)
    command = [*begin, there / "read_events.py", there, "bitcoind.block"]

    def printed(newest: str) -> list[str]:
        """The events that it prints, up to one."""
        found: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reading:
            assert reading.stdout is not None
            try:
                while found[-1:] != [newest]:
                    found.append(json.loads(reading.stdout.readline())["event"]["id"])
            finally:
                reading.kill()  # The broker waits for it, and then gives its events to the next one.
        return found

    known = [event["event"]["id"] for event in read_events(person)]
    assert printed(known[-1]) == known
    mine(1)
    until(lambda: len(read_events(person)) > len(known), "the next block is an event")
    newest = read_events(person)[-1]["event"]["id"]
    # It goes on where it was; what was not done yet when it was killed comes again.
    assert printed(newest) in ([newest], [known[-1], newest])


def test_program_elsewhere_reads_what_was_granted_until_that_is_revoked_or_replaced(
    person: Person, answers: None, tmp_path: Path
) -> None:
    def grant(name: str, folder: Path) -> None:
        person.succeeds("-d", NAME, "events", "grant", name, "--read", "gazette.*", "--out", str(folder))

    alice, bob, again = (tmp_path / name for name in ("alice", "bob", "again"))
    inside(NAME, "gazette", "cp", "-rL", "/etc/bcm/tls", "/root/old")
    password = json.loads(inside(NAME, "gazette", "cat", "/root/client.json"))["sasl.password"]
    person.succeeds("-d", NAME, "ca", "revoke", "gazette")
    person.succeeds("-d", NAME, "secret", "rotate", "kafka/events/gazette")
    grant("alice", alice)
    grant("bob", bob)
    start(person, "gazette")
    certificate = {"ssl_certificate_location": "/root/old/certificate.pem", "ssl_key_location": "/root/old/key.pem"}
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda old: is_refused("gazette", **old), (certificate, {"sasl_password": password})))

    assert events("gazette", "write", TOPIC, "1") == ["0"]
    assert elsewhere(alice, "read", TOPIC)[-1] == "0"
    assert elsewhere(alice, "write", TOPIC, "1") == ["TOPIC_AUTHORIZATION_FAILED"]
    refused = (["TOPIC_AUTHORIZATION_FAILED"], ["nothing answers"])
    assert elsewhere(alice, "read", "bcm_probe") in refused
    person.succeeds("-d", NAME, "events", "revoke", "alice")
    granted = [(event["change"], event["client"], event["topics"]) for event in read_events(person, "collector.access")]
    to_both = [("granted", "alice", ["gazette.*"]), ("granted", "bob", ["gazette.*"])]
    assert [one for one in granted if one[1] in ("alice", "bob")] == to_both
    assert {"alice@kafka", "bob@kafka"} <= {event["name"] for event in read_events(person, "collector.certificate")}
    assert [event["name"] for event in read_events(person, "collector.revocation")] == ["gazette"]
    assert elsewhere(bob, "read", TOPIC)[-1] == "0"
    person.succeeds("-d", NAME, "secret", "rotate", "kafka/clients")
    start(person, "kafka")
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda folder: elsewhere(folder, "read", TOPIC), (alice, bob)))
    assert found == [["nothing answers"]] * 2
    grant("bob", again)
    assert elsewhere(again, "read", TOPIC)[-1] == "0"


def test_stack_that_is_gone_has_no_rights_and_its_topic_is_kept_until_somebody_says_so(
    person: Person, answers: None
) -> None:
    kept = events("reader", "read", TOPIC)
    # What the run tells the broker, which is away, is told by the next one.
    inside(NAME, "kafka", "systemctl", "stop", "kafka", deadline=150)
    removed = person.types("-d", NAME, "stack", "remove", "gazette")
    assert removed.returncode == 0 and "are kept for the next one" in removed.stderr, removed.stderr
    warned = start(person, "kafka")["warnings"]
    assert any(f"no stack writes the topic {TOPIC} any more" in text for text in warned), warned
    assert [run["state"] for run in read_events(person, "collector.run")[-2:]] == ["absent", "present"]
    start(person, "gazette")
    assert events("reader", "read", TOPIC)[: len(kept)] == kept
