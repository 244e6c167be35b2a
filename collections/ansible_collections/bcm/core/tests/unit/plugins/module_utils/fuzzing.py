# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs that others may write: samples that are changed at random, and what is nothing of the kind."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.tests.unit.conftest import settings

#: what a parser gets, the parser, and what it may raise besides BcmError
Parser = tuple[st.SearchStrategy[Any], Callable[[Any], Any], tuple[type[Exception], ...]]

EXTREMES = [
    "9" * 5000,
    "-1",
    str(2**63),
    "0x10",
    "1e400",
    "NaN",
    "٣",
    "é",
    "\ud800",
    "\0",
    "\n",
    "x\n",
    "$(id)",
    "a" * 5000,
    "[" * 2000,
    '{"a":' * 2000,
    "null",
    "{}",
    "[]",
    "0000-00-00T00:00:00",
    "9999-12-31T23:59:59-23:59",
    "Fri, 99 Foo 99999 99:99:99 +9999",
    "../..",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
]


def _extreme(random: Random) -> str:
    return random.choice(EXTREMES)


def _text(random: Random) -> str:
    letters = (random.choice((random.randrange(32, 127), random.randrange(0x110000))) for _unused in range(8))
    return _extreme(random) if random.random() < 0.5 else "".join(map(chr, letters))[: random.randrange(9)]


def _value(random: Random, depth: int = 0) -> Any:
    """Anything that YAML or JSON may hold."""
    kinds: list[Callable[[], Any]] = [
        lambda: random.choice((None, True, False, 0, -1, 2**63, 10**400, 1.5, float("nan"), float("inf"), -0.0)),
        lambda: _text(random),
        lambda: random.randrange(-(10**6), 10**6),
    ]
    if depth < 3:
        kinds += [
            lambda: [_value(random, depth + 1) for _unused in range(random.randrange(4))],
            lambda: {_text(random): _value(random, depth + 1) for _unused in range(random.randrange(4))},
        ]
    return random.choice(kinds)()


def _bytes(random: Random, samples: list[bytes]) -> bytes:
    """A sample with some bytes changed, cut out, doubled or put in; or nothing of the kind."""
    if random.random() < 0.1:
        return random.randbytes(random.randrange(300))
    data = random.choice(samples)
    for _unused in range(random.randrange(5)):
        at, length = random.randrange(len(data) + 1), random.randrange(20)
        put = random.choice(
            (
                random.randbytes(random.randrange(20)),
                bytes([random.randrange(256)]) * length,
                _extreme(random).encode("utf-8", "surrogatepass"),
                data[at : at + length] * random.randrange(4),
                random.choice(samples)[at : at + length],
                b"",
            )
        )
        data = data[:at] + put + data[at + length :]
    return data


def _spoiled_text(random: Random, samples: list[str]) -> str:
    if random.random() < 0.1:
        return _text(random)
    text = random.choice(samples)
    for _unused in range(random.randrange(4)):
        at, length = random.randrange(len(text) + 1), random.randrange(8)
        put = random.choice((_text(random), _extreme(random), text[at : at + length] * random.randrange(4), ""))
        text = text[:at] + put + text[at + length :]
    return text


def _spoil(random: Random, document: Any) -> Any:
    """A document in which something is replaced, missing, doubled, or there besides."""
    places = [(None, None), *_places(document)]
    for _unused in range(random.randrange(4)):
        holder, key = random.choice(places)
        if holder is None or (key not in holder if isinstance(holder, dict) else key >= len(holder)):
            continue
        what = random.random()
        if what < 0.6:
            holder[key] = _value(random)
        elif what < 0.75:
            del holder[key]
        elif isinstance(holder, dict):
            holder[_text(random)] = _value(random) if random.random() < 0.5 else holder[key]
        else:
            holder.append(holder[key])
    return document if random.random() < 0.95 else _value(random)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from _places(document[key])


def _made(make: Callable[[Random], Any]) -> st.SearchStrategy[Any]:
    """What a function makes of a source of chance. One number is drawn for each input, so that 20,000 take seconds."""
    return st.integers(0, 2**64 - 1).map(lambda seed: make(Random(seed)))


def spoiled_bytes(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    return _made(lambda random: _bytes(random, samples))


def spoiled_text(samples: list[str]) -> st.SearchStrategy[str]:
    return _made(lambda random: _spoiled_text(random, samples))


def spoiled_value(sample: Any) -> st.SearchStrategy[Any]:
    return _made(lambda random: _spoil(random, copy.deepcopy(sample)))


def try_parser(parser: Parser) -> None:
    """Have a parser read or refuse thirty inputs, or as many as BCM_FUZZ says."""
    strategy, read, others = parser

    @settings(max_examples=int(os.environ.get("BCM_FUZZ", "30")))
    @given(strategy)
    def attempt(value: Any) -> None:
        try:
            read(value)
        except (BcmError, *others) as error:
            assert str(error)

    attempt()
