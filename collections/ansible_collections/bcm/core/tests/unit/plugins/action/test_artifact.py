# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.action import artifact

PROXIED = {"proxy": "tor", "socks": "10.80.16.9:9050", "environment": {}, "nic": {}}


@pytest.mark.parametrize(
    ("downloads", "told", "has_tor", "proxy"),
    [
        (None, None, True, None),
        (PROXIED, None, True, "socks5h://127.0.0.1:1234"),
        (PROXIED, "socks5h://192.0.2.1:9050", True, "socks5h://192.0.2.1:9050"),
        (PROXIED, "", True, ""),
        ({"proxy": None}, None, True, artifact.TOR),
        ({"proxy": None}, None, False, ""),
        ({"proxy": None}, "socks5h://192.0.2.1:9050", False, "socks5h://192.0.2.1:9050"),
    ],
)
def test_release_is_downloaded_through_the_proxy_of_the_plan(
    monkeypatch: pytest.MonkeyPatch,
    downloads: dict[str, Any] | None,
    told: str | None,
    has_tor: bool,
    proxy: str | None,
) -> None:
    @contextlib.contextmanager
    def forwarded(_client: Any, instance: str, place: str) -> Iterator[int]:
        assert (instance, place) == ("tor", "10.80.16.9:9050")
        yield 1234

    monkeypatch.setattr(artifact, "forwarded", forwarded)
    monkeypatch.setattr(artifact, "is_listening", lambda _proxy: has_tor)
    action = object.__new__(artifact.ActionModule)
    action._client = object()  # type: ignore[assignment]
    with action._way(downloads, told) as found:
        assert found == proxy
