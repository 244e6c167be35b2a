# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports for people."""

from __future__ import annotations

from ansible_collections.bcm.core.plugins.module_utils._base.text import report


def test_mappings_in_the_rows_of_a_table_become_tables_of_their_own() -> None:
    stacks = [
        {"stack": "tor", "status": "running", "onions": [], "limits": {}},
        {
            "stack": "bitcoind",
            "status": "running",
            "onions": [{"service": "p2p", "port": 8333}, {"service": "rpc", "port": 8332}],
            "limits": {"memory": "2GiB", "processors": 2},
        },
    ]
    assert report({"chain": "regtest", "stacks": stacks, "exceptions": []}) == [
        "chain       regtest",
        "exceptions  -",
        "",
        "stack     status",
        "tor       running",
        "bitcoind  running",
        "",
        "stack     service  port",
        "bitcoind  p2p      8333",
        "bitcoind  rpc      8332",
        "",
        "stack     memory  processors",
        "bitcoind  2GiB    2",
    ]


def test_column_without_mappings_stays_in_its_table() -> None:
    assert report({"stacks": [{"stack": "tor", "onions": [], "verified": ["network off", "1 guard"]}]}) == [
        "",
        "stack  onions  verified",
        "tor    -       network off, 1 guard",
    ]


def test_rows_that_are_empty_are_left_out() -> None:
    assert report({"stacks": [{}], "pages": [{}, {"title": "x"}]}) == ["stacks  -", "", "title", "x"]
