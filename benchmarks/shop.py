# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop with its node, the pages of both and the portal, from images and volumes that exist, until all is verified.

lnd is the real one, BTCPay Server, NBXplorer and Ride The Lightning are the doubles of the tests.
"""

from __future__ import annotations

import json

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from tests import clightning

from .datacenter import deployed, site
from .measure import Bench, BenchError, Line

_NAME = "bench-s"
_STACKS = "btcpayserver,lnd,ridethelightning,portal"


def lines(bench: Bench) -> list[Line]:
    folder = bench.folder / "releases"
    folder.mkdir()
    settings = json.loads(clightning.environment(folder)["BCM_TEST_SETTINGS"])
    with deployed(bench, _NAME, stack=_STACKS, **settings):
        _mine(bench)
        site(bench, _NAME, stack="tor", state="absent", **settings)
        started = site(bench, _NAME, stack=_STACKS, **settings)
        unchanged = site(bench, _NAME, stack=_STACKS, **settings)
    work = "`bcm stack start btcpayserver lnd ridethelightning portal`, eight instances of cached images, verified"
    return [Line(work, started.seconds, at_most=60.0), Line("the same again, with nothing to do", unchanged.seconds)]


def _mine(bench: Bench) -> None:
    """lnd waits for a block, and says so in place of its proof."""
    with bench.client_of(datacenter_names(_NAME, "regtest").project) as client:
        command = lxd_exec.Command(["bitcoin-cli", "generatetodescriptor", "1", "raw(51)"])
        done = lxd_exec.run(client, "bitcoind", command, deadline=60)
    if done.returncode:
        raise BenchError(done.stderr.decode())
