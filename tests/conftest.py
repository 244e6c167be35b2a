# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of every test of the repository, and their order."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests import isolation, tornet
from tests.support import RELAYS, ROOT, Tools, own_lxd


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pages", metavar="FOLDER", help="keep the pictures of stacks' pages there")
    parser.addoption("--picture", metavar="FILE", help="keep the photograph of the wallet's window here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap ones first; what needs containers comes last, the parts before the whole."""
    folders = [ROOT / "tests" / name for name in ("integration", "molecule", "e2e")]
    items.sort(key=lambda item: folders.index(item.path.parent) if item.path.parent in folders else -1)


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()


@pytest.fixture(scope="session")
def lxd_tools() -> Iterator[Tools]:
    with own_lxd() as tools:
        yield tools
        assert isolation.count_strays() == 0, "packets that tests aimed at the outside were about to leave this machine"


@pytest.fixture(scope="session")
def tor_network() -> Iterator[tornet.TorNetwork]:
    with tornet.running() as network:
        yield network


@pytest.fixture(scope="session")
def relays(lxd_tools: Tools) -> Iterator[tornet.TorNetwork]:
    """A Tor network in the outside world of data centers."""
    subprocess.run(["ip", "address", "replace", f"{RELAYS}/32", "dev", "lo"], check=True)
    try:
        with tornet.running([RELAYS]) as network:
            yield network
    finally:
        subprocess.run(["ip", "address", "delete", f"{RELAYS}/32", "dev", "lo"], check=True)
