# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the role collector, with a chain and a broker of the tests. tests/e2e has the real ones."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.event_codec import Codec
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from ansible_collections.bcm.core.plugins.module_utils._plan import event_schemas
from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/collector/scripts"
SOURCES = ("bitcoind", "clightning", "electrs", "lnd")
TOPIC = "bitcoind.block"
KNOWN = {
    topic: schemas
    for stack in (*SOURCES, "collector")
    for topic, schemas in event_schemas.read(COLLECTION / "roles" / stack, stack).items()
}
SCHEMAS = KNOWN[TOPIC]
KNOWN |= {f"{stack}.log": event_schemas.read_logs() for stack in (*SOURCES, "collector")}
NOTHING = "0" * 64
#: a node with a channel
LIGHTNING = SimpleNamespace(states=lambda: SimpleNamespace(open={"1:0": {}}))


class Broker:
    """What the client of Kafka would talk to: records of one topic."""

    def __init__(self) -> None:
        self.topics: dict[str, list[tuple[str, bytes]]] = {}
        self.records = self.topics.setdefault(TOPIC, [])
        #: connections that read, and how many of them are open
        self.readers, self.reading = 0, 0
        self.full = 0
        self.refuses = False
        #: what the client calls when it has to end: "produce" or "poll"
        self.ends = ""
        self.waiting = 0

    def client(self) -> ModuleType:
        broker = self

        class Producer:
            def __init__(self, options: dict[str, Any]) -> None:
                assert options["enable.idempotence"] and options["sasl.username"] == "collector"
                self.heard: list[Any] = []

            def produce(self, topic: str, value: bytes, key: str, callback: Any) -> None:
                self.go_on("produce")
                if broker.full:
                    broker.full -= 1
                    raise BufferError
                if broker.refuses:
                    self.heard.append((callback, topic))
                else:
                    broker.topics.setdefault(topic, []).append((key, value))

            def flush(self, _seconds: float) -> int:
                return broker.waiting

            def poll(self, _seconds: float) -> None:
                self.go_on("poll")
                for callback, topic in self.heard:
                    callback(SimpleNamespace(str=lambda: "it may not"), SimpleNamespace(topic=lambda: topic))  # noqa: B023

            def go_on(self, act: str) -> None:
                if broker.ends == act:
                    raise OSError("CLUSTER_AUTHORIZATION_FAILED")

        class Consumer:
            def __init__(self, options: dict[str, Any]) -> None:
                assert options["group.id"] == "collector"
                assert options["enable.auto.commit"] is False
                broker.readers += 1
                broker.reading += 1

            def get_watermark_offsets(self, where: tuple[str, int], timeout: float) -> tuple[int, int]:
                return 0, len(broker.topics.get(where[0], []))

            def assign(self, where: list[tuple[str, int]]) -> None:
                ((self.topic, self.offset),) = where

            def poll(self, _seconds: float) -> Any:
                value = broker.topics[self.topic][self.offset][1]
                self.offset += 1
                return SimpleNamespace(error=lambda: None, value=lambda: value)

            def unassign(self) -> None:
                del self.topic, self.offset

            def close(self) -> None:
                broker.reading -= 1

        module: Any = ModuleType("confluent_kafka")
        module.Producer, module.Consumer, module.KafkaException = Producer, Consumer, OSError
        module.TopicPartition = lambda topic, _partition, offset=0: (topic, offset)
        return module

    def events(self, topic: str = TOPIC) -> list[dict[str, Any]]:
        codec = Codec(KNOWN[topic])
        return [codec.decode(value) for _key, value in self.topics.get(topic, [])]

    def changes(self) -> list[str]:
        return [f"{event['change'][0].upper()}{event['block'][-4:]}" for event in self.events()]


class Clock:
    """What the time is, until a test says otherwise."""

    time = datetime(2026, 1, 1, tzinfo=UTC)


class Chain:
    """A bitcoind whose blocks are named by four letters: a branch and a height, as a012."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.known: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.warnings: Any = []
        self.mine(1)

    def mine(self, count: int, branch: str = "a") -> list[str]:
        mined = []
        for _ in range(count):
            height = len(self.blocks)
            name = f"{branch}{height:03}".rjust(64, "0")
            self.known[name] = {"hash": name, "height": height, "time": 1_700_000_000 + height, "nTx": 1}
            if self.blocks:
                self.known[name]["previousblockhash"] = self.blocks[-1]
            self.blocks.append(name)
            mined.append(name)
        return mined

    def leave(self, count: int) -> list[str]:
        """Disconnect blocks, the newest first."""
        return [self.blocks.pop() for _ in range(count)]

    def ask(self, method: str, *params: Any) -> Any:
        return self.ask_each(method, [params])[0]

    def ask_each(self, method: str, each: Iterable[tuple[Any, ...]]) -> list[Any]:
        self.asked.append(method)
        answers: dict[str, Any] = {
            "getnetworkinfo": lambda: {
                "subversion": "/Satoshi:31.1.0/", "warnings": self.warnings, "connections_in": 3, "connections_out": 10
            },
            "getmempoolinfo": lambda: {
                "size": 2, "bytes": 300, "usage": 5000, "total_fee": 0.00000579, "mempoolminfee": 0.00001
            },
            "getblockchaininfo": lambda: {"blocks": len(self.blocks) - 1, "bestblockhash": self.blocks[-1]},
            "getblockhash": lambda height: self.blocks[height],
        }
        return [answers[method](*params) for params in each]

    def headers(self, names: Iterable[str]) -> list[dict[str, Any]]:
        unknown = sys.modules["collector_bitcoind"].Unknown
        found = []
        for name in names:
            if name not in self.known:
                raise unknown("no such block")
            found.append({**self.known[name], "confirmations": 1 if name in self.blocks else -1})
        return found


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    broker = Broker()
    monkeypatch.setitem(sys.modules, "confluent_kafka", broker.client())
    monkeypatch.setitem(sys.modules, "zmq", ModuleType("zmq"))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield broker
    for name in ("topic", "lightning", "run", "show", "journal", *SOURCES):
        sys.modules.pop(f"collector_{name}", None)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def topics(*names: str) -> list[Any]:
    settings = {"client": {"sasl.username": "collector"}, "schemas": KNOWN, "datacenter": "a", "chain": "regtest",
                "hosts": dict.fromkeys(SOURCES, "box")}  # fmt: skip
    module = importlib.import_module("collector_topic")
    broker = module.Broker(settings)
    return [module.Topic(name, broker, name.partition(".")[0]) for name in names]


def collector(chain: Chain, most: int = 100) -> Any:
    """A collector that was just started."""
    return importlib.import_module("collector_bitcoind").Blocks(chain, *topics(TOPIC), most)


def connected(*names: str) -> list[str]:
    return [f"C{name[-4:]}" for name in names]


def disconnected(*names: str) -> list[str]:
    return [f"D{name[-4:]}" for name in names]


def test_empty_topic_begins_with_the_newest_blocks(broker: Broker, chain: Chain) -> None:
    chain.mine(500)
    collector(chain, most=3).catch_up()
    assert broker.changes() == connected("a498", "a499", "a500")
    first = broker.events()[0]
    assert first["previous"] == chain.blocks[497]
    assert (first["height"], first["transactions"], first["depth"]) == (498, 1, 0)
    assert first["block_time"] == datetime.fromtimestamp(1_700_000_498, UTC) == first["event"]["time"]
    told = {**first["event"], "id": "", "time": ""}
    assert told == {
        "id": "", "time": "", "sequence": 1, "time_source": "reported", "time_precision": 7_200_000_000,
        "datacenter": "a", "chain": "regtest", "stack": "bitcoind", "instance": "bitcoind",
        "version": "/Satoshi:31.1.0/", "host": "box",
    }  # fmt: skip
    assert broker.records[0][0] == first["block"]


def test_whole_chain_is_read_in_few_calls(broker: Broker, chain: Chain) -> None:
    chain.mine(1000)
    collector(chain, most=5000).catch_up()
    assert broker.changes() == connected(*chain.blocks)
    assert broker.events()[0]["previous"] == NOTHING
    assert chain.asked.count("getblockhash") == 6


def test_changes_are_written_as_they_happen(broker: Broker, chain: Chain) -> None:
    blocks = collector(chain)
    blocks.catch_up()
    told = connected("a000")
    for name in chain.mine(2):
        blocks.hear(name, b"C")
        told += connected(name)
    for name in chain.leave(1):
        blocks.hear(name, b"D")
        told += disconnected(name)
    for name in chain.mine(2, "b"):
        blocks.hear(name, b"C")
        told += connected(name)
    blocks.hear("ff" * 32, b"A")
    assert broker.changes() == told
    assert [event["depth"] for event in broker.events()] == [0, 0, 0, 1, 1, 0]
    assert {event["event"]["time_source"] for event in broker.events()[1:]} == {"observed"}


def test_reorganisation_is_found_afterwards(broker: Broker, chain: Chain) -> None:
    chain.mine(10)
    collector(chain).catch_up()
    told = connected(*chain.blocks)
    told += disconnected(*chain.leave(6))
    told += connected(*chain.mine(7, "b"))
    collector(chain).catch_up()
    assert broker.changes() == told
    assert [event["depth"] for event in broker.events()[-13:]] == [1, 2, 3, 4, 5, 6, 6, 0, 0, 0, 0, 0, 0]


def test_what_was_missed_is_asked_for(broker: Broker, chain: Chain) -> None:
    blocks = collector(chain)
    blocks.catch_up()
    _missed, name = chain.mine(2)
    blocks.hear(name, b"C")
    assert broker.changes() == connected(*chain.blocks)
    # ZeroMQ tells of it, too, what was found meanwhile.
    blocks.hear(chain.blocks[1], b"C")
    blocks.hear(chain.blocks[0], b"D")
    assert broker.changes() == connected(*chain.blocks)


def test_collector_that_is_killed_anywhere_goes_on_where_it_was(broker: Broker, chain: Chain) -> None:
    chain.mine(4)
    collector(chain).catch_up()
    chain.leave(3)
    chain.mine(4, "b")
    collector(chain).catch_up()
    whole, told = broker.events(), broker.changes()
    assert len(whole) == 12
    assert [event["event"]["sequence"] for event in whole] == list(range(1, 13))
    for length in range(5, 12):
        del broker.records[length:]
        collector(chain).catch_up()
        assert broker.changes() == told
        assert [event["event"]["id"] for event in broker.events()] == [event["event"]["id"] for event in whole]
        assert [event["depth"] for event in broker.events()] == [event["depth"] for event in whole]
    assert len({event["event"]["id"] for event in whole}) == 12


def test_block_that_is_connected_again_is_another_event(broker: Broker, chain: Chain) -> None:
    (name,) = chain.mine(1)
    blocks = collector(chain)
    blocks.catch_up()
    chain.leave(1)
    blocks.catch_up()
    chain.blocks.append(name)
    blocks.catch_up()
    assert broker.changes() == [*connected("a000", "a001"), *disconnected("a001"), *connected("a001")]
    assert len({event["event"]["id"] for event in broker.events()}) == 4


def test_other_chain_is_begun_again(broker: Broker, chain: Chain) -> None:
    chain.mine(3)
    collector(chain).catch_up()
    other = Chain()
    other.blocks, other.known = [], {}
    other.mine(2, "c")
    collector(other).catch_up()
    assert broker.changes()[4:] == connected("c000", "c001")


@pytest.fixture
def clock(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(importlib.import_module("collector_bitcoind"), "now", lambda: clock.time)
    return clock


def figures(chain: Chain) -> Any:
    names = ("bitcoind.mempool", "bitcoind.peers", "bitcoind.warning")
    return importlib.import_module("collector_bitcoind").Figures(chain, *topics(*names))


def test_mempool_and_peers_are_written_each_minute(broker: Broker, chain: Chain, clock: Clock) -> None:
    look = figures(chain)
    for _second in range(121):
        look.look()
        clock.time += timedelta(seconds=1)
    written = broker.events("bitcoind.mempool")
    told = {"transactions": 2, "size": 300, "fees": 579, "memory": 5000, "minimum_fee": 1000}
    assert [{key: value for key, value in event.items() if key != "event"} for event in written] == [told] * 3
    assert len({event["event"]["id"] for event in written}) == 3
    counts = [(event["inbound"], event["outbound"]) for event in broker.events("bitcoind.peers")]
    assert counts == [(3, 10)] * 3
    figures(chain).look()
    for topic in ("bitcoind.mempool", "bitcoind.peers"):
        assert broker.events(topic)[-1]["event"]["sequence"] == 4


@pytest.mark.parametrize("form", [list, lambda texts: "".join(texts)])
def test_warnings_are_written_when_they_are_others(broker: Broker, chain: Chain, clock: Clock, form: Any) -> None:
    for warnings in ([], ["a block is invalid"], ["a block is invalid"], []):
        chain.warnings = form(warnings)
        figures(chain).look()
    assert [event["warnings"] for event in broker.events("bitcoind.warning")] == [["a block is invalid"], []]


def test_source_waits_while_too_much_waits_for_the_broker(broker: Broker, chain: Chain) -> None:
    broker.full = 3
    collector(chain).catch_up()
    assert broker.changes() == connected("a000")


def test_nothing_is_written_after_an_event_that_the_broker_refuses(broker: Broker, chain: Chain) -> None:
    chain.mine(5)
    broker.refuses = True
    lost = importlib.import_module("collector_topic").Lost
    with pytest.raises(lost, match=r"bitcoind.block: it may not"):
        collector(chain).catch_up()
    assert broker.records == []


@pytest.mark.parametrize("act", ["produce", "poll"])
def test_client_that_ends_for_good_is_said_in_a_line(broker: Broker, chain: Chain, act: str) -> None:
    """As while its rights are being added; systemd starts the program again."""
    chain.mine(1)
    broker.ends = act
    lost = importlib.import_module("collector_topic").Lost
    with pytest.raises(lost, match=r"^the client of kafka has ended: CLUSTER_AUTHORIZATION_FAILED$"):
        collector(chain).catch_up()


def test_event_that_does_not_fit_its_schema_is_kept_aside(
    broker: Broker, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.known[chain.mine(1)[0]]["nTx"] = "many"
    chain.mine(1)
    collector(chain).catch_up()
    collector(chain).catch_up()
    assert broker.changes() == connected("a000", "a002")
    assert [event["event"]["sequence"] for event in broker.events()] == [1, 2]
    (aside,) = broker.events("collector.unfit")
    assert (aside["topic"], aside["event"]["sequence"], aside["event"]["stack"]) == (TOPIC, 2, "bitcoind")
    assert json.loads(aside["content"])["block"][-4:] == "a001"
    assert "many" in aside["why"]
    assert f"an event does not fit {TOPIC}: " in capsys.readouterr().err


def test_source_keeps_no_connection_that_reads_once_it_knows_where_to_go_on(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("collector_topic")
    (topic,) = topics(TOPIC)
    waits: list[float] = []

    class Gone(Exception):
        pass

    class Source:
        broker = topic._broker

        def begin(self) -> None:
            topic.newest()
            topic.newest()
            if not waits:
                raise module.Fault("the source does not answer")

        def step(self) -> None:
            raise Gone

    monkeypatch.setattr(module.time, "sleep", waits.append)
    with pytest.raises(Gone):
        module.keep_on(Source())
    assert (len(waits), broker.readers, broker.reading) == (1, 2, 0)


def test_newest_events_of_all_sources_are_shown_by_one_connection(
    broker: Broker, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("collector_topic")
    monkeypatch.setattr(importlib.import_module("collector_lnd"), "Node", lambda *_settings: LIGHTNING)

    def read_text(path: Path) -> str:
        own = {topic: known for topic, known in KNOWN.items() if topic.startswith((path.stem, "collector"))}
        needs = {"needs": {"rest": {"address": "192.0.2.1", "port": 1, "tls": True}}, "secrets": {"rest": ""}}
        return json.dumps({"client": {"sasl.username": "collector"}, "schemas": own, **needs})

    monkeypatch.setattr(module.Path, "read_text", read_text)
    chain.mine(1)
    chain.known[chain.blocks[0]]["nTx"] = None
    collector(chain).catch_up()
    before = broker.readers
    program = importlib.import_module("collector_show")
    each = {source: module.read_settings(source) for source in ("bitcoind", "electrs", "lnd")}
    shown = program.show(each, program.connect(each))
    assert broker.readers == before + 1
    assert shown["found"]["bitcoind"]["block"] == chain.blocks[1]
    assert (shown["found"]["electrs"], shown["unfit"]) == (None, 1)
    assert shown["found"]["lnd"] == {"written": [], "there": ["1:0"]}


def test_events_of_an_earlier_schema_are_read() -> None:
    fields = [*SCHEMAS[-1]["fields"], {"name": "weight", "type": "long", "default": 0}]
    newer = {**SCHEMAS[-1], "fields": fields}
    codec = Codec(SCHEMAS)
    envelope = {
        "id": "0", "sequence": 1, "time": datetime(2026, 1, 1, tzinfo=UTC), "time_source": "observed",
        "time_precision": 1, "datacenter": "a", "chain": "regtest", "stack": "x", "instance": "x", "version": "1",
        "host": "box",
    }  # fmt: skip
    event = {
        "event": envelope, "change": "connected", "block": "a", "previous": "b", "height": 1,
        "block_time": envelope["time"], "transactions": 1, "depth": 0,
    }  # fmt: skip
    written = codec.encode(event)
    assert codec.decode(written) == event
    assert Codec([*SCHEMAS, newer]).decode(written) == {**event, "weight": 0}
    for data in (b"", b"\xc3\x01", b"text", Codec([newer]).encode({**event, "weight": 1}), written[:-3]):
        with pytest.raises(Fault):
            codec.decode(data)
