# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that a test starts beside lnd, in its instance: the same program and bitcoind, on loopback and without Tor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.conftest import inside
from tests.support import until

_START = """
set -e
mkdir -p -m 0700 /run/{name}
{{ echo '[Application Options]'; grep '^bitcoind[.]' /etc/lnd/lnd.conf; }} >/run/{name}/lnd.conf
systemd-run --quiet --unit={name} /usr/local/bin/lnd --lnddir=/run/{name} --configfile=/run/{name}/lnd.conf \\
  --noseedbackup --norest --bitcoin.regtest --bitcoin.node=bitcoind --logging.file.disable \\
  --listen=127.0.0.1:{port} --rpclisten=127.0.0.1:{rpc}
"""


@dataclass(frozen=True)
class Neighbour:
    """One of them; ``name`` is that of its unit."""

    datacenter: str
    name: str
    port: int

    @property
    def command(self) -> str:
        """How it is asked in its instance."""
        return f"/usr/local/bin/lncli --network=regtest --lnddir=/run/{self.name} --rpcserver=127.0.0.1:{self.port + 1}"

    def ask(self, *words: str) -> dict[str, Any]:
        return dict(json.loads(inside(self.datacenter, "lnd", *self.command.split(), *words)))

    def is_at(self, height: int) -> bool:
        found = inside(self.datacenter, "lnd", "sh", "-c", f"{self.command} getinfo || true")
        info = json.loads(found) if found.startswith("{") else {}
        return info.get("block_height") == height and bool(info["synced_to_chain"])


def await_blocks(*nodes: Neighbour) -> None:
    """Until they have the newest block, without which they refuse payments."""

    def there() -> bool:
        height = int(inside(nodes[0].datacenter, "bitcoind", "bitcoin-cli", "getblockcount"))
        return all(node.is_at(height) for node in nodes)

    until(there, "the newest block on loopback")


@contextmanager
def running(datacenter: str, *names: str) -> Iterator[list[Neighbour]]:
    """Nodes with these names; nothing of them stays."""
    found = [Neighbour(datacenter, name, 19_000 + 10 * number) for number, name in enumerate(names)]
    try:
        for node in found:
            script = _START.format(name=node.name, port=node.port, rpc=node.port + 1)
            inside(datacenter, "lnd", "sh", "-c", script)
        await_blocks(*found)
        yield found
    finally:
        for name in names:
            inside(datacenter, "lnd", "sh", "-c", f"systemctl stop {name}; rm -rf /run/{name}")
