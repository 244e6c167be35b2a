# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command in an instance, its output captured: the client, and the raw REST calls that do the same."""

from __future__ import annotations

from typing import Any

from pylxd.client import get_session_for_url

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec

from .measure import Bench, Line, interleaved, timed

_ROUNDS = 60
_COMMAND = ["cat", "/etc/os-release"]


def lines(bench: Bench) -> list[Line]:
    url = bench.client.endpoint.url
    with bench.running("exec", 1) as (instance,), get_session_for_url(url) as session:
        name = instance["name"]

        def ours() -> bytes:
            return lxd_exec.run(bench.client, name, lxd_exec.Command(_COMMAND)).stdout

        def raw() -> bytes:
            return _raw(session, url, name)

        assert ours() == raw() != b""
        variants = {"ours": lambda: timed(ours), "raw": lambda: timed(raw)}
        found = interleaved(variants, _ROUNDS)
    return [Line("client, one command with its output", found["ours"], "raw REST, recorded output", found["raw"], 1.5)]


def _raw(session: Any, url: str, name: str) -> bytes:
    body = {"command": _COMMAND, "record-output": True, "wait-for-websocket": False}
    operation = session.post(f"{url}/1.0/instances/{name}/exec", json=body).json()["operation"]
    metadata = session.get(f"{url}{operation}/wait").json()["metadata"]["metadata"]
    output = [session.get(f"{url}{path}").content for _fd, path in sorted(metadata["output"].items())]
    for path in metadata["output"].values():
        session.delete(f"{url}{path}")
    assert metadata["return"] == 0
    return output[0]
