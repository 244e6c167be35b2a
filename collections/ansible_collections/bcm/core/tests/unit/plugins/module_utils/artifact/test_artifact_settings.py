# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact import artifact_settings as options
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import DownloadError


@pytest.mark.parametrize(
    ("chain", "told", "proxy"),
    [
        ("regtest", None, None),
        ("regtest", "socks5h://127.0.0.1:9150", "socks5h://127.0.0.1:9150"),
        ("mainnet", None, options.TOR),
        ("signet", None, options.TOR),
        ("mainnet", "", None),
    ],
)
def test_public_chains_download_through_tor(tmp_path: Path, chain: str, told: str | None, proxy: str | None) -> None:
    settings: dict[str, Any] = {"artifact_proxy": told, "artifact_store": tmp_path}
    assert options.artifacts(settings, chain, pytest.fail).downloader.proxy == proxy


def test_nothing_goes_out_when_tor_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(options, "TOR", f"socks5h://127.0.0.1:{port}")
    found = options.artifacts({"artifact_store": tmp_path}, "mainnet", pytest.fail)
    with pytest.raises(DownloadError) as caught:
        found.downloader.small("https://example.invalid/SHA256SUMS")
    assert str(caught.value) == (
        f"Tor's SOCKS port at 127.0.0.1:{port} does not answer: start tor on this machine, or set bcm_artifact_proxy"
    )


def test_progress_is_a_line_now_and_then() -> None:
    said: list[str] = []
    lines = options.ProgressLines(said.append)
    lines("bitcoin.tar.gz", 1_000_000, 50_000_000)
    lines._told["bitcoin.tar.gz"] -= 11
    lines("bitcoin.tar.gz", 20_000_000, 50_000_000)
    lines("bitcoin.tar.gz", 21_000_000, 50_000_000)
    assert said == ["bitcoin.tar.gz: 20 MB of 50 MB"]


def test_whether_this_machine_has_a_tor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy = f"socks5h://127.0.0.1:{taken.getsockname()[1]}"
        assert options.is_listening(proxy)
    assert not options.is_listening(proxy)
