# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser, Chromium without a window, by the WebDriver protocol of chromedriver."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tornet import free_port

#: what Chromium needs where root runs it and memory is little
HEADLESS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
_AXE = "axe-core@4.14.1"
_AXE_DIGEST = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
_FIND = """
const done = arguments[arguments.length - 1];
const told = item => item.id + ": " + item.nodes.map(node => node.html).join(" ");
axe.run().then(found => done(found.violations.map(told)));
"""
_ASK_ELSEWHERE = """
const [url, done] = arguments;
document.addEventListener("securitypolicyviolation", event => done(event.blockedURI), {once: true});
url.startsWith("ws") ? new WebSocket(url) : Object.assign(new Image(), {src: url});
"""


class BrowserError(Exception):
    """What the browser could not do."""


class Browser:
    """A session with a browser."""

    def __init__(self, driver: str, options: Mapping[str, Any]) -> None:
        self._driver = driver
        capabilities = {"alwaysMatch": {"goog:chromeOptions": dict(options)}}
        self._session = self._call("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps({} if body is None else body).encode() if method == "POST" else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._driver}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(json.load(error)["value"]["message"]) from None

    def _ask(self, method: str, what: str, body: Any = None) -> Any:
        return self._call(method, f"/session/{self._session}/{what}", body)

    def open(self, url: str) -> None:
        self._ask("POST", "url", {"url": url})

    @property
    def title(self) -> str:
        return str(self._ask("GET", "title"))

    @property
    def url(self) -> str:
        return str(self._ask("GET", "url"))

    def run(self, script: str) -> Any:
        return self._ask("POST", "execute/sync", {"script": script, "args": []})

    def types(self, selector: str, text: str) -> None:
        """Type a text into a field, as far as the page can tell."""
        field = f"const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(text)}; "
        self.run(field + "field.dispatchEvent(new Event('input', {bubbles: true}))")

    def clicks(self, text: str) -> None:
        """Click the last button with that text, which is the one in front."""
        found = "[...document.querySelectorAll('button')].filter(item => item.textContent.trim() == "
        self.run(f"{found}{json.dumps(text)}).pop().click()")

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    @property
    def sources(self) -> set[str]:
        """The beginnings of all URLs from which something was loaded, tried or asked."""
        found = self.run("return performance.getEntriesByType('resource').map(item => new URL(item.name).origin)")
        return set(found)

    def forbids(self, url: str) -> bool:
        """Whether the policy of the page forbids it an image or a socket with that URL. Raises BrowserError if not."""
        return bool(self._ask("POST", "execute/async", {"script": _ASK_ELSEWHERE, "args": [url]}) == url)

    def devtools(self, command: str, **params: Any) -> Any:
        return self._ask("POST", "goog/cdp/execute", {"cmd": command, "params": params})

    def show_as(self, width: int, height: int, scheme: str) -> None:
        """Have a page of that size, in light or dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self) -> bytes:
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Close the browser, which may take its answer along."""
        with contextlib.suppress(BrowserError):
            self.devtools("Browser.close")

    def barriers(self, axe: str) -> list[str]:
        """What keeps people with disabilities from using the page, as axe finds it."""
        self.run(axe)
        return list(self._ask("POST", "execute/async", {"script": _FIND, "args": []}))


@contextmanager
def driver() -> Iterator[str]:
    """The address of a chromedriver."""
    port = free_port()
    process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{address}/status", timeout=10):
                    break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def attached(driver: str, port: int, within: float = 120) -> Browser:
    """A session with a browser that somebody has started with a port for it."""
    end = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/version", timeout=10):
                return Browser(driver, {"debuggerAddress": f"127.0.0.1:{port}"})
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def started(driver: str, *options: str) -> Browser:
    """A session with a browser that is started for it."""
    return Browser(driver, {"args": [*HEADLESS, *options], "binary": "/usr/bin/chromium"})


def trusting(home: Path, root: Path) -> Path:
    """The program of a browser whose user, with that home, trusts a root in PEM."""
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    certutil = ("certutil", "-d", f"sql:{database}")
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    subprocess.run([*certutil, "-A", "-n", "root", "-t", "C,,", "-i", root], check=True)
    wrapper = home / "chromium"
    wrapper.write_text(f'#!/bin/sh\nHOME={home} exec /usr/bin/chromium --user-data-dir={home}/profile "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def axe(folder: Path, npm: Sequence[str] = ("npm", "pack", "--silent")) -> str:
    """The program that looks for barriers, from the registry of npm, if it is the one that is known here."""
    subprocess.run([*npm, _AXE], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("axe-core-*.tgz")
    content = archive.read_bytes()
    if hashlib.sha256(content).hexdigest() != _AXE_DIGEST:
        raise BrowserError(f"{_AXE} is not what it was")
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        member = packed.extractfile("package/axe.min.js")
        if member is None:
            raise BrowserError(f"{_AXE} has no axe.min.js")
        return member.read().decode()
