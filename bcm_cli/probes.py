# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of what an instance can reach: the attempt, the expected result, and what an outcome means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: documentation addresses (RFC 5737, RFC 3849): they are unassigned, and no route of the internet leads to them
OUTSIDE = ("192.0.2.1", "198.51.100.1", "203.0.113.1")
OUTSIDE6 = "2001:db8::1"
_DNS_REFUSED = 5  # RFC 1035, section 4.1.1

Expectation = Literal["blocked", "no_listener", "no_lookup", "open"]
Outcome = Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """A packet or connection to try, and the expected result.

    ``open`` is what the plan lists. LXD lets all instances reach port 53 of the host: the resolver there must not look
    up outside names (``no_lookup``), and elsewhere nothing may listen (``no_listener``). The rest is ``blocked``.
    """

    kind: str
    what: str
    to: str
    port: int
    protocol: str = "tcp"
    expected: Expectation = "blocked"

    @property
    def attempt(self) -> dict[str, Any]:
        where = {"to": self.to, "port": self.port, "protocol": self.protocol}
        return {**where, "refused": self.must_be_refused, "needed": self.expected == "open"}

    @property
    def is_through_uplink(self) -> bool:
        """Whether the user of the uplink would reach it."""
        return self.to in OUTSIDE and self.protocol == "tcp"

    @property
    def must_be_refused(self) -> bool:
        """Whether the host has to refuse it: a remote peer may simply not answer."""
        return self.kind in ("outside", "ipv6", "dns") and self.expected == "blocked"

    @property
    def label(self) -> str:
        return f"{self.what} {self.protocol} {self.port}"


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of a probe, by user."""

    probe: Probe
    users: Mapping[str, Outcome]

    def faults(self) -> list[str]:
        """Return its faults, without the name of the instance."""
        return self._describe(find_fault)

    def undecided(self) -> list[str]:
        """Return what could not be decided, without the name of the instance."""
        return self._describe(explain_undecided)

    def _describe(self, explain: Callable[[Probe, Outcome], str | None]) -> list[str]:
        found: dict[str, list[str]] = {}
        for user, outcome in self.users.items():
            if text := explain(self.probe, outcome):
                found.setdefault(text, []).append(user)
        return [f"(as {' and '.join(users)}) {text}" for text, users in found.items()]


def find_fault(probe: Probe, outcome: Outcome) -> str | None:
    """Return the fault in the result of an attempt; None if there is none."""
    state = outcome["state"]
    if probe.expected == "open":
        if state in ("open", "sent"):
            return None
        if state == "closed":
            return f"reaches {probe.what}, but nothing answers at {probe.protocol} {probe.port}"
        return f"cannot reach {probe.label}, which the plan lists"
    if probe.expected == "no_lookup":
        asks = state == "answered" and outcome["code"] != _DNS_REFUSED
        return f"can resolve outside names at {probe.label}" if asks else None
    if state in ("open", "answered") or (state == "closed" and probe.expected != "no_listener"):
        return f"reaches {probe.label}, which the plan does not list"
    if state == "sent" and probe.must_be_refused:
        return f"sends packets to {probe.label}, by {outcome['on']}, that nothing refuses"
    return None


def explain_undecided(probe: Probe, outcome: Outcome) -> str | None:
    """Return why an attempt is undecided: silence proves neither that something was reached nor that it was not."""
    if probe.expected == "open" and outcome["state"] == "sent":
        return f"got neither an answer nor a refusal from {probe.label}, which the plan lists"
    if outcome["state"] == "undecided":
        return f"sends packets to {probe.label}, by {outcome['on']}, where the host does not say what it refuses"
    return None
