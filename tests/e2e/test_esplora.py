# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of a data center in a browser that asks nobody else.

Only with the real programs, since their double has no pages and no index; CONTRIBUTING.md says how to give them. The
double is deployed by the collection's scenario.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import esplora
from tests.e2e.conftest import Person, inside, opened, reported
from tests.support import ROOT, until

pytestmark = [
    pytest.mark.containers,
    pytest.mark.whole,
    pytest.mark.skipif(
        not esplora.REAL, reason="the double of Esplora has no pages: set BCM_ESPLORA_PROGRAMS, see CONTRIBUTING"
    ),
]

NAME = "local"
# That of the first test vector of BIP 173, on regtest.
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
_ASK = """
import json, sys, time, urllib.request
begun = time.monotonic()
text = urllib.request.urlopen("http://127.0.0.1:3001" + sys.argv[1], timeout=60).read().decode()
print(json.dumps([text, time.monotonic() - begun]))
"""


def ask(path: str) -> tuple[str, float]:
    """What its server answers, and after how many seconds."""
    text, seconds = json.loads(inside(NAME, "esplora", "python3", "-c", _ASK, path))
    return text, seconds


def height() -> int:
    return int(inside(NAME, "bitcoind", "bitcoin-cli", "getblockcount"))


def history() -> list[dict[str, Any]]:
    """Transactions of the address, the newest first: the fork looks them up side by side, and keeps no order."""
    found = json.loads(ask(f"/address/{ADDRESS}/txs")[0])
    return sorted(found, key=lambda item: int(item["status"]["block_height"]), reverse=True)


@pytest.fixture(scope="module")
def explorer(
    person: Person, started: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What the first start reports."""
    former = person.settings(NAME).read_text()
    folder = tmp_path_factory.mktemp("esplora")
    settings = {"bcm_artifact_source": str(folder), "bcm_artifacts": {"esplora": esplora.pin(folder)}}
    with person.settings(NAME).open("a") as file:
        for name, value in settings.items():
            file.write(f"{name}: {json.dumps(value)}\n")
    inside(NAME, "bitcoind", "bitcoin-cli", "generatetodescriptor", "200", "raw(51)")
    yield reported(person.succeeds("stack", "start", "esplora", "--json"))["esplora"]
    person.succeeds("stack", "remove", "esplora", "--delete-data")
    person.settings(NAME).write_text(former)


def test_second_run_changes_nothing(person: Person, explorer: dict[str, Any]) -> None:
    assert explorer["facts"]["height"] == height()
    assert "nothing changed" in person.succeeds("stack", "start", "esplora")


def test_index_goes_on_after_it_was_killed(person: Person, explorer: dict[str, Any]) -> None:
    inside(NAME, "esplora", "systemctl", "kill", "--signal=KILL", "esplora")
    inside(NAME, "bitcoind", "bitcoin-cli", "generatetodescriptor", "50", "raw(51)")
    # is-active fails as long as it does not.
    state = ("systemctl", "show", "--property=ActiveState", "--value", "esplora")
    until(lambda: inside(NAME, "esplora", *state) == "active", "it runs again")
    inside(NAME, "esplora", "systemctl", "kill", "--signal=KILL", "esplora")
    assert reported(person.succeeds("stack", "start", "esplora", "--json"))["esplora"]["facts"]["height"] == height()


def test_block_is_answered_at_once(explorer: dict[str, Any]) -> None:
    block, _seconds = ask("/block-height/100")
    for path in (f"/block/{block}", f"/block/{block}/txs"):
        assert min(ask(path)[1] for _time in range(5)) < 0.1, path


def test_history_of_an_address(explorer: dict[str, Any]) -> None:
    inside(NAME, "bitcoind", "bitcoin-cli", "generatetoaddress", "2", ADDRESS)
    until(lambda: len(history()) == 2, "its two payments")
    assert [item["status"]["block_height"] for item in history()] == [height(), height() - 1]


def test_other_index_is_made_again_with_all_blocks(person: Person, explorer: dict[str, Any]) -> None:
    """Without transactions, which bitcoind has without an index of them, and with addresses to search."""
    before = history()
    person.succeeds("config", "set", "esplora_lightmode=true", "esplora_address_search=true")
    assert reported(person.succeeds("stack", "start", "esplora", "--json"))["esplora"]["facts"]["height"] == height()
    assert inside(NAME, "esplora", "ls", "/var/lib/esplora") == "light-search"
    assert history() == before
    assert json.loads(ask(f"/address-prefix/{ADDRESS[:10]}")[0]) == [ADDRESS]


def test_browser_shows_blocks_and_asks_nobody_else(
    person: Person, explorer: dict[str, Any], driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keep = request.config.getoption("--pages")
    with opened(person, NAME, driver, "esplora", tmp_path) as page:
        page.show_as(1280, 900, "light")
        until(lambda: str(height()) in page.text, "the newest block")
        own = page.url.partition("/regtest")[0]
        if keep:
            (ROOT / keep / "esplora-desktop.png").write_bytes(page.picture())
        block, _seconds = ask("/block-height/100")
        # As other stacks link to it, which do not know what the chain is called there.
        page.open(f"{own}/block/{block}")
        until(lambda: page.title.startswith(f"Block #100: {block}"), "the block")
        assert page.url == f"{own}/regtest/block/{block}"
        assert page.forbids("https://api.coingecko.com/x.png")
