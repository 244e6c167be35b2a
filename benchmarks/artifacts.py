# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Four downloads side by side over a link of 1 Gbit/s, and curl with the same."""

from __future__ import annotations

import multiprocessing
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader, side_by_side

from .measure import Bench, Line, interleaved, timed

_FILES = 4
_SIZE = 50_000_000
_LINK = 125_000_000  # bytes per second
_CHUNK = bytes(1 << 16)


def lines(bench: Bench) -> list[Line]:
    with _server() as address:
        urls = [f"{address}/{number}" for number in range(_FILES)]
        variants = {
            "ours": partial(_ours, urls, bench.folder / "ours"),
            "curl": partial(_curl, urls, bench.folder / "curl"),
        }
        found = interleaved(variants, bench.repetitions)
    work = f"{_FILES} downloads of {_SIZE // 10**6} MB side by side, with their digests, over 1 Gbit/s"
    return [Line(work, found["ours"], "`curl --parallel`, without", found["curl"], 1.1)]


def _ours(urls: Sequence[str], folder: Path) -> float:
    paths = _emptied(folder, urls)
    loader = Downloader()
    jobs = [partial(loader.large, url, path, "sha256") for url, path in zip(urls, paths, strict=True)]
    return timed(lambda: side_by_side(jobs))


def _curl(urls: Sequence[str], folder: Path) -> float:
    command = ["curl", "--no-progress-meter", "--fail", "--parallel", "--parallel-immediate"]
    for url, path in zip(urls, _emptied(folder, urls), strict=True):
        command += ["--output", str(path), url]
    return timed(lambda: subprocess.run(command, check=True))


def _emptied(folder: Path, urls: Sequence[str]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    return [folder / url.rpartition("/")[2] for url in urls]


@contextmanager
def _server() -> Iterator[str]:
    """A server in a process of its own, whose connections share the link."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        process.terminate()
        process.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    _free = 0.0  # when the link has sent what it was given
    _lock = threading.Lock()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(_SIZE))
        self.end_headers()
        left = _SIZE
        while left:
            chunk = _CHUNK[:left]
            with self._lock:
                now = time.monotonic()
                _Handler._free = max(_Handler._free, now) + len(chunk) / _LINK
                wait = _Handler._free - now
            time.sleep(wait)
            self.wfile.write(chunk)
            left -= len(chunk)

    def log_message(self, *args: object) -> None:
        pass
