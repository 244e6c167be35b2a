# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Downloads over HTTP: resumed, in parallel, through Tor if configured. Downloaded files are not trusted yet."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import ipaddress
import json
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, TypeVar
from urllib.parse import urljoin, urlsplit

from .._base.errors import BcmError
from .._base.read import read_number, read_object

try:
    import requests
    import urllib3
except ImportError:  # the sanity tests import this file without the libraries
    requests = None  # type: ignore[assignment]
    urllib3 = None  # type: ignore[assignment]

_CHUNK = 1 << 18
_SMALL = 4 << 20
_LARGE = 4 << 30
_REDIRECTS = 5
#: seconds of the one try that tells whether something can be reached
_TRY = 5.0
_WORKERS = 4

_T = TypeVar("_T")


class DownloadError(BcmError):
    """A file could not be downloaded. ``challenge`` is what a server says that requires authentication."""

    code = "download_failed"
    challenge = ""


class _Again(Exception):
    """A temporary fault: the download is tried again."""


@dataclass
class Downloader:
    """How downloads are made; safe to share between threads.

    ``proxy`` is ``socks5h://host:port`` or None; what the environment says of proxies is not used. ``notify`` gets a
    line for a person; ``progress`` a file's name, the bytes so far, and the bytes in all if the server tells. Times
    are in seconds.
    """

    proxy: str | None = None
    notify: Callable[[str], None] = lambda line: None
    progress: Callable[[str, int, int | None], None] = lambda name, size, total: None
    connect_timeout: float = 30
    read_timeout: float = 60
    retries: int = 3
    pause: float = 1

    def __post_init__(self) -> None:
        if self.proxy is not None:
            self._proxy_address()

    def small(self, url: str, limit: int = _SMALL) -> bytes:
        """The content of a small file. Raises DownloadError."""
        file = io.BytesIO()
        self._fetch(_Part(url, file), limit)
        return file.getvalue()

    def large(
        self, url: str, partial: Path, algorithm: str, limit: int = _LARGE, headers: Mapping[str, str] | None = None
    ) -> str:
        """Download into ``partial``, going on with what is there, and return the digest of the whole in hex.

        What the server knows the file by is kept in ``<partial>.state``. Raises DownloadError; what has arrived stays.
        """
        try:
            file = open(partial, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise DownloadError(
                partial, f"cannot be written: {error.strerror};", "make its folder writable", code="io_error"
            ) from error
        with file:
            self._fetch(_Part(url, file, partial, headers), limit)
            file.seek(0)
            return hashlib.file_digest(file, algorithm).hexdigest()

    def out_of_reach(self, url: str) -> str | None:
        """What keeps a file from being downloaded, by one try that ends after `_TRY` seconds; None if nothing does."""
        future: Future[str | None] = Future()

        part = _Part(url, io.BytesIO())

        def run() -> None:
            try:
                with self._faults(part), self._open(part) as response:
                    status = response.status_code
                    # a registry first requires a token
                    fits = status < 400 or status == 401
                    future.set_result(None if fits else f"the server answers {status} {response.reason}")
            except Exception as error:
                future.set_result(str(error))

        # Looking up a name, and addresses one after the other, have no deadline of their own.
        Thread(target=run, daemon=True).start()
        try:
            fault = future.result(_TRY)
        except TimeoutError:
            fault = f"no answer within {_TRY:g} s"
        return fault and f"{urlsplit(url).hostname}: {fault.removeprefix(f'{part.shown}: ')}"

    def _fetch(self, part: _Part, limit: int) -> None:
        failures, furthest = 0, part.size
        while True:
            try:
                return self._attempt(part, limit)
            except _Again as fault:
                # A long download through Tor may be interrupted often: only tries without progress count.
                failures = 1 if part.size > furthest else failures + 1
                furthest = max(furthest, part.size)
                if failures > self.retries:
                    raise DownloadError(
                        f"{part.shown}:",
                        f"{fault}, {failures} times;",
                        "run it again later, or set bcm_artifact_source",
                    ) from fault
                self.notify(f"{part.name}: {fault}; trying again")
                time.sleep(self.pause * 2 ** (failures - 1))

    def _attempt(self, part: _Part, limit: int) -> None:
        with self._faults(part):
            with self._open(part) as response:
                total = part.begin(response)
                if total is not None and total > limit:
                    part.refuse_length(limit)
                part.make_room(total)
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    if part.size + len(chunk) > limit:
                        part.refuse_length(limit)
                    part.write(chunk, total)
                    self.progress(part.name, part.size, total)
            if total is not None and part.size != total:
                raise _Again(f"cut off after {part.size} bytes")

    @contextlib.contextmanager
    def _faults(self, part: _Part) -> Iterator[None]:
        """Say what went wrong for people; raises _Again if it may be over the next time, else DownloadError."""
        try:
            yield
        except requests.exceptions.ConnectTimeout as error:
            self._check_proxy()
            raise _Again(f"no connection within {self.connect_timeout:g} s") from error
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _Again(f"the server sent nothing for {self.read_timeout:g} s") from error
        except requests.exceptions.SSLError as error:
            raise DownloadError(
                f"{part.shown}:",
                f"no trust in the server's TLS: {_reason(error)};",
                "if the machine has a certificate authority of its own, name its file in REQUESTS_CA_BUNDLE",
                code="not_verified",
            ) from error
        except requests.exceptions.ConnectionError as error:
            self._check_proxy()
            raise _Again(f"no connection: {_reason(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise _Again(f"cut off after {part.size} bytes") from error
        except requests.exceptions.InvalidURL as error:  # its text would show what the URL hides
            raise DownloadError(
                part.shown, "is not a URL that can be asked for;", "correct it", code="invalid_value"
            ) from error
        except (OSError, ValueError) as error:  # a redirect, or a bundle of certificates, that is none
            raise DownloadError(f"{part.shown}:", error) from error

    @contextlib.contextmanager
    def _open(self, part: _Part) -> Iterator[requests.Response]:
        """The answer that is no redirect. Each hop is checked, and is its own circuit of Tor."""
        url = part.url
        headers = {"Accept-Encoding": "identity", **part.headers()}
        with requests.Session() as session:
            session.trust_env = False
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
            for _unused in range(_REDIRECTS + 1):
                with session.get(
                    url,
                    headers=headers,
                    proxies=self._proxies(url),
                    timeout=(self.connect_timeout, self.read_timeout),
                    stream=True,
                    allow_redirects=False,
                ) as response:
                    if not response.is_redirect:
                        yield response
                        return
                    target = urljoin(url, response.headers["Location"])
                    if urlsplit(target).scheme not in {"https", urlsplit(url).scheme}:
                        raise DownloadError(
                            part.shown,
                            f"redirects to {_shown(target)}, which is not encrypted: it is not followed;",
                            "correct the URL, or set bcm_artifact_source",
                            code="not_verified",
                        )
                    if urlsplit(target).netloc != urlsplit(url).netloc:
                        headers.pop("Authorization", None)
                    url = target
        raise DownloadError(part.shown, f"redirects more than {_REDIRECTS} times;", "correct the URL")

    def _proxies(self, url: str) -> dict[str, str]:
        if self.proxy is None or _is_near(url):
            return {}
        host, port = self._proxy_address()
        # Tor makes a circuit of its own for each name and password: no exit sees all that is fetched.
        proxy = f"socks5h://{urlsplit(url).hostname}:bcm@{f'[{host}]' if ':' in host else host}:{port}"
        return {"http": proxy, "https": proxy}

    def _proxy_address(self) -> tuple[str, int]:
        try:
            parts = urlsplit(self.proxy or "")
            if parts.scheme == "socks5h" and parts.hostname and parts.port:
                return parts.hostname, parts.port
        except ValueError:
            pass
        raise DownloadError(
            "bcm_artifact_proxy",
            f"is {self.proxy}",
            "write socks5h://HOST:PORT, such as socks5h://127.0.0.1:9050",
            code="invalid_value",
        )

    def _check_proxy(self) -> None:
        if self.proxy is None:
            return
        host, port = self._proxy_address()
        try:
            socket.create_connection((host, port), self.connect_timeout).close()
        except OSError as error:
            raise DownloadError(
                f"Tor's SOCKS port at {host}:{port}",
                "does not answer",
                "start tor on this machine, or set bcm_artifact_proxy",
                code="unreachable",
            ) from error


class _Part:
    """What has arrived of one file, in memory or on the disk, and what its server knows it by."""

    def __init__(
        self, url: str, file: IO[bytes], path: Path | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.url = url
        self._headers = headers or {}
        self.shown = _shown(url)
        self.name = self.shown.rpartition("/")[2]
        self._file = file
        self._path = path
        self._state = path and path.with_name(f"{path.name}.state")
        self._validator = self._known()
        self.size = file.seek(0, os.SEEK_END)

    def headers(self) -> dict[str, str]:
        if not (self.size and self._validator):
            return dict(self._headers)
        return {**self._headers, "Range": f"bytes={self.size}-", "If-Range": self._validator}

    def begin(self, response: requests.Response) -> int | None:
        """Continue or start over, depending on the answer; returns the total size, if the server sends it."""
        status, headers = response.status_code, response.headers
        unit, _unused, length = headers.get("Content-Range", "").rpartition("/")
        if status == 416 and unit == "bytes *" and length == str(self.size):
            return self.size
        if status == 416 or (status == 206 and not unit.startswith(f"bytes {self.size}-")):
            self._start_over({})
            raise _Again("the server cannot go on where it was cut off")
        if status == 206:
            return _length(length)
        if status == 429 or status >= 500:
            raise _Again(f"the server answers {status} {response.reason}")
        if status != 200:
            error = DownloadError(
                f"{self.shown}:",
                f"the server answers {status} {response.reason};",
                "correct the URL, or set bcm_artifact_source",
            )
            error.challenge = headers.get("WWW-Authenticate", "")
            raise error
        self._start_over(headers)
        return _length(headers.get("Content-Length", ""))

    def write(self, chunk: bytes, total: int | None) -> None:
        left = memoryview(chunk)
        try:
            while left:
                written = self._file.write(left)
                self.size += written
                left = left[written:]
        except OSError as error:
            raise self._unwritable(error, total) from error

    def make_room(self, total: int | None) -> None:
        """Check that the rest fits on the disk. Raises DownloadError: a full disk would harm others, too."""
        if self._path and total and total - self.size > shutil.disk_usage(self._path.parent).free:
            raise self._unwritable(OSError(errno.ENOSPC, ""), total)

    def refuse_length(self, limit: int) -> None:
        self._start_over({})
        raise DownloadError(
            self.shown, f"is longer than {limit} bytes: refused;", "correct the URL, or its server", code="not_verified"
        )

    def _unwritable(self, error: OSError, total: int | None) -> DownloadError:
        folder = self._path and self._path.parent
        if folder is None or error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return DownloadError(
                self._path, f"cannot be written: {error.strerror};", "make its folder writable", code="io_error"
            )
        missing = "" if total is None else f": {total - self.size - shutil.disk_usage(folder).free} bytes are missing"
        return DownloadError(
            f"No room in {folder} for {self.name}{missing};",
            remedy="make room there, or set XDG_CACHE_HOME to another disk",
            code="no_space",
        )

    def _known(self) -> str | None:
        """The validator of what is there; without one, it is not gone on with."""
        try:
            known = read_object(self._state.read_text(encoding="utf-8")) if self._state else {}
            if known["url"] == self.url and known["validator"]:
                return str(known["validator"])
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return None

    def _start_over(self, headers: Mapping[str, str]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        etag = headers.get("ETag", "")  # a weak one, W/"…", does not promise the same bytes
        self._validator = etag if etag.startswith('"') else headers.get("Last-Modified")
        if self._state:
            try:
                self._state.write_text(json.dumps({"url": self.url, "validator": self._validator}), encoding="utf-8")
            except OSError as error:
                raise self._unwritable(error, None) from error


def side_by_side(work: Sequence[Callable[[], _T]]) -> list[_T]:
    """Do it in a few threads; the results in order, or the first error after everything has ended.

    Ctrl-C does not wait for a server that hangs: the threads end with the process.
    """
    futures: list[Future[_T]] = [Future() for _unused in work]
    todo = deque(zip(work, futures, strict=True))

    def run() -> None:
        while todo:
            try:
                item, future = todo.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                future.set_result(item())
            except BaseException as error:
                future.set_exception(error)

    for _unused in range(min(_WORKERS, len(work))):
        Thread(target=run, daemon=True).start()
    try:
        wait(futures)
    finally:
        todo.clear()
    return [future.result() for future in futures]


def _length(text: str) -> int | None:
    with contextlib.suppress(ValueError):
        return read_number(text)
    return None


def _is_near(url: str) -> bool:
    """Whether a URL has an address in the local network, which Tor cannot reach."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_private
    return False


def _shown(url: str) -> str:
    """Return a URL without secrets."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    raise DownloadError(url.rpartition("@")[2], "is not a URL of http or https;", "correct it", code="invalid_value")


def _reason(error: BaseException) -> str:
    """Return the root cause of an error, in one line."""
    while below := error.__cause__ or error.__context__:
        error = below
    text = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())
