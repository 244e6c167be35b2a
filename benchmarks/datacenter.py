# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A data center of the benchmarks' own, made by site.yml from a copy of inventories/local."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .measure import ROOT, Bench, Run


def site(bench: Bench, name: str, **variables: Any) -> Run:
    """``ansible-playbook site.yml -e stack=electrum`` on it."""
    inventory = bench.folder / name
    if not inventory.exists():
        shutil.copytree(ROOT / "inventories/local", inventory, ignore=shutil.ignore_patterns("secrets"))
    told = {
        "stack": "electrum",
        "bcm_datacenter": name,
        # Benchmarks do not download from upstream.
        "bitcoind_source": "debian",
        "tor_source": "debian",
        **variables,
    }
    return bench.playbook(ROOT / "site.yml", told, inventory=f"{inventory}/", config=ROOT / "ansible.cfg")


@contextmanager
def deployed(bench: Bench, name: str, **variables: Any) -> Iterator[Run]:
    """The run that made it; afterwards nothing of it is left."""
    try:
        yield site(bench, name, **variables)
    finally:
        site(bench, name, **{**variables, "stack": "tor"}, state="absent", delete_data=True)
