# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collectors of Lightning nodes share: how channels change, and which version of the node says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from bcm_guest.prove import Endpoint, Fault
from collector_topic import Broker, Source, Topic, now, run

#: no channel is older
BEGAN = datetime(2018, 1, 1, tzinfo=UTC)

#: what an event says of a channel, by what the node calls it
Bodies = Mapping[str, Mapping[str, Any]]


class States(NamedTuple):
    """The channels of a node that are not closed."""

    pending: Bodies
    open: Bodies
    #: those that wait to be closed
    closing: set[str]


class Node(Protocol):
    """What is asked of a node; each call raises Fault."""

    def version(self) -> str: ...
    def states(self) -> States: ...
    def closed_channels(self) -> Bodies: ...


class Part:
    """What is written of a node to one topic."""

    def __init__(self, node: Any, topic: Topic) -> None:
        self._node, self._topic = node, topic

    def check(self) -> None:
        """See whether the node that answers again is as it was. Raises Fault."""

    def look(self, version: str) -> None:
        """Write what happened since the last look. Raises Fault."""
        raise NotImplementedError


class Channels(Part):
    """The channels that wait to be opened, are open, or are closed."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic)
        newest = topic.newest()
        self._pending: set[str] = set(newest["pending"]) if newest else set()
        self._open: set[str] = set(newest["open"]) if newest else set()
        self._seen = newest["event"]["time"] if newest else BEGAN

    def look(self, version: str) -> None:
        began = now()
        states = self._node.states()
        for name in sorted(states.pending.keys() - states.open.keys() - self._pending - self._open):
            self._pending.add(name)
            self._write("pending", name, states.pending[name], version)
        for name in sorted(states.open.keys() - self._open):
            self._pending.discard(name)
            self._open.add(name)
            self._write("opened", name, states.open[name], version)
        if gone := (self._pending | self._open) - states.pending.keys() - states.open.keys() - states.closing:
            closed = self._node.closed_channels()
            for name in sorted(gone & closed.keys()):
                self._pending.discard(name)
                self._open.discard(name)
                self._write("closed", name, closed[name], version)
        self._seen = began

    def _write(self, change: str, name: str, body: Mapping[str, Any], version: str) -> None:
        then = {"pending": sorted(self._pending), "open": sorted(self._open)}
        self._topic.write(name, {"change": change, "channel": name, **body, **then}, version, now(), now() - self._seen)


class LightningSource(Source):
    """What is written of a Lightning node. Of its parts, the last one waits for what is new."""

    def __init__(self, settings: Mapping[str, Any], stack: str, node: Node, parts: Mapping[str, type[Part]]) -> None:
        super().__init__(settings, stack, *parts)
        self._node, self._kinds = node, parts.values()
        self._parts: list[Part] = []
        self._version = ""

    def begin(self) -> None:
        self._parts = [kind(self._node, topic) for kind, topic in zip(self._kinds, self.topics, strict=True)]

    def step(self) -> None:
        try:
            if not self._version:
                for part in self._parts:
                    part.check()
                self._version = self._node.version()
            for part in self._parts:
                part.look(self._version)
        except Fault:
            # It may be another version that answers next.
            self._version = ""
            raise


def run_node(stack: str, kind: Callable[[Endpoint, str], Node], **parts: type[Part]) -> None:
    """The program of a Lightning node. ``parts`` are what is written, by the names of topics."""
    run(stack, lambda settings: LightningSource(settings, stack, _connect(kind, settings), parts))


def show_channels(
    stack: str, kind: Callable[[Endpoint, str], Node], settings: Mapping[str, Any], broker: Broker
) -> dict[str, list[str]]:
    """The open channels of a node by the newest event (``written``), and by the node (``there``). Raises Fault."""
    newest = Topic(f"{stack}.channel", broker, stack).newest()
    there = sorted(_connect(kind, settings).states().open)
    return {"written": newest["open"] if newest else [], "there": there}


def _connect(kind: Callable[[Endpoint, str], Node], settings: Mapping[str, Any]) -> Node:
    return kind(Endpoint.of(settings["needs"]["rest"]), settings["secrets"]["rest"])


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
