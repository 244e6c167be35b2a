# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options with which artifacts are fetched. The module artifact documents the same; a test compares."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from .._base.names import TOY_CHAIN
from .._base.text import amount
from .artifacts import Artifacts
from .content_store import ContentStore
from .download import Downloader

ARTIFACT_SPEC: dict[str, dict[str, Any]] = {
    "artifact_source": {"type": "str"},
    "artifact_proxy": {"type": "str"},
    "artifact_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "artifact_store": {"type": "path"},
}

#: where Tor's own packages let it listen
TOR = "socks5h://127.0.0.1:9050"
_EVERY = 10.0
_PATIENCE = 5.0  # seconds


def artifacts(
    settings: Mapping[str, Any], chain: str, notify: Callable[[str], None], progress: Progress | None = None
) -> Artifacts:
    """The artifacts, with the values of `ARTIFACT_SPEC`. On all chains but regtest Tor carries them by default."""
    proxy = settings.get("artifact_proxy")
    if proxy is None and chain != TOY_CHAIN:
        proxy = TOR
    return Artifacts(
        store=ContentStore(settings.get("artifact_store")),
        downloader=Downloader(proxy or None, notify, progress or ProgressLines(notify)),
        notify=notify,
        source=settings.get("artifact_source"),
        keys=settings.get("artifact_keys") or [],
    )


def is_listening(proxy: str) -> bool:
    """Whether a program listens at the address of a proxy (socks5h://HOST:PORT)."""
    where = urlsplit(proxy)
    try:
        socket.create_connection((where.hostname, where.port), _PATIENCE).close()
    except OSError:
        return False
    return True


Progress = Callable[[str, int, "int | None"], None]


class ProgressLines:
    """Progress as a line now and then, for a log."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._told: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told.setdefault(name, now) >= _EVERY:
            self._told[name] = now
            self._notify(f"{name}: {amount(done)}{f' of {amount(total)}' if total else ''}")
