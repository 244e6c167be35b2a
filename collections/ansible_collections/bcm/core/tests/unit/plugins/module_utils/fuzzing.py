# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs that others may write: samples that are changed at random, and what is nothing of the kind."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.tests.unit import conftest  # noqa: F401  settings of hypothesis

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
texts = st.one_of(st.text(), st.sampled_from(EXTREMES))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.just(2**63), st.just(-1)),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(texts, below, max_size=3)),
    max_leaves=6,
)


@st.composite
def spoiled_bytes(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """A sample with some bytes changed, cut out or put in; or nothing of the kind."""
    data = draw(st.one_of(st.sampled_from(samples), st.sampled_from(samples), st.binary(max_size=300)))
    for _unused in range(draw(st.integers(0, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 20))
        extreme = st.sampled_from([text.encode("utf-8", "surrogatepass") for text in EXTREMES])
        put = draw(st.one_of(st.binary(max_size=20), extreme))
        data = data[:at] + put + data[at + length :]
    return data


@st.composite
def spoiled_text(draw: st.DrawFn, samples: list[str]) -> str:
    text = draw(st.one_of(st.sampled_from(samples), st.sampled_from(samples), texts))
    for _unused in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 8))
        text = text[:at] + draw(st.one_of(st.text(max_size=5), st.sampled_from(EXTREMES))) + text[at + length :]
    return text


@st.composite
def spoiled_value(draw: st.DrawFn, sample: Any) -> Any:
    """A document in which something is replaced, missing, or there besides."""
    document = copy.deepcopy(sample)
    for _unused in range(draw(st.integers(1, 3))):
        at, steps = document, draw(st.integers(0, 6))
        for _step in range(steps):
            keys_ = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
            if not keys_:
                break
            key = draw(st.sampled_from(keys_))
            if isinstance(at[key], (dict, list)) and _step < steps - 1:
                at = at[key]
                continue
            if draw(st.booleans()):
                at[key] = draw(values)
            elif isinstance(at, dict):
                del at[key]
            break
        if isinstance(at, dict) and draw(st.integers(0, 5)) == 0:
            at[draw(texts)] = draw(values)
    return draw(st.one_of(st.just(document), st.just(document), st.just(document), values))


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
