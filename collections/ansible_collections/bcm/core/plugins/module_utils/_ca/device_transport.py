# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line to a Trezor: which one it is, a lock on it, and a deadline on each wait."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

from .._base.errors import BcmError
from .._base.locks import hold_lock

try:
    from trezorlib import exceptions, transport
except ImportError:  # the sanity tests import this file without the library
    pass

_Answer = TypeVar("_Answer")
_Answers: TypeAlias = "queue.SimpleQueue[tuple[_Answer | None, Exception | None]]"

#: seconds that a device may take to answer without asking the person
ANSWER = 10.0
# what says which one, the first that is set
_SETTING = "bcm_ca_device, or TREZOR_PATH if that is not set"
# How often one at a path is asked that is not there. Over UDP, trezorlib waits a tenth of a second for an answer: one
# that is silent for as long may be busy, and where nothing listens, the kernel says so at once.
_ASKED, _SILENCE = 10, 0.1


class DeviceError(BcmError):
    """Something about the device, or the person in front of it."""

    code = "device_failed"


class InUse(DeviceError):
    """Another process on this machine has the device."""

    code = "busy"


class TimedTransport:
    """A transport of trezorlib with a deadline on each wait: of itself it has none, on some not even for writing."""

    def __init__(self, wrapped: transport.Transport, patience: float) -> None:
        self.CHUNK_SIZE = wrapped.CHUNK_SIZE
        self.path = wrapped.get_path()
        self.asks_person = False
        self._wrapped, self._patience = wrapped, patience
        self._answers: _Answers[bytes] = queue.SimpleQueue()
        self._reading, self._reads = threading.Lock(), False

    def __enter__(self) -> TimedTransport:
        _run_within(ANSWER, self._wrapped.__enter__)
        return self

    def __exit__(self, *_details: object) -> None:
        with contextlib.suppress(exceptions.TrezorException):
            _run_within(ANSWER, partial(self._wrapped.__exit__, None, None, None))

    def write_chunk(self, chunk: bytes, /) -> None:
        _run_within(ANSWER, partial(self._wrapped.write_chunk, chunk))

    def read_chunk(self, *, timeout: float | None = None) -> bytes:
        if timeout is None:
            timeout = self._patience if self.asks_person else ANSWER
        if self._wrapped.PATH_PREFIX == "bridge":
            chunk = self._read_bridge(timeout)
        else:
            with _transport_errors():
                # which keeps to its time-out by itself, and in a thread would take the next answer too after an
                # interrupt
                chunk = self._wrapped.read_chunk(timeout=timeout)
        self.asks_person = False
        return chunk

    def _read_bridge(self, timeout: float) -> bytes:
        """What a bridge has read, by the thread that asked for it.

        A bridge ends the session of whoever gives a read up, as trezorlib's probe does after a tenth of a second. So it
        is not given up: what comes later is the answer to whatever asked for it later. Nor does a bridge read twice at
        once, so an interrupt while the thread starts or reads loses neither the thread nor what it gets.
        """
        with self._reading:
            start = not self._reads and self._answers.empty()
            self._reads = self._reads or start
        if start:
            threading.Thread(target=self._read_once, daemon=True).start()
        return _wait_for(self._answers, timeout)

    def _read_once(self) -> None:
        answer = _answer_of(self._wrapped.read_chunk)
        with self._reading:
            self._reads = False
            self._answers.put(answer)


@contextlib.contextmanager
def _transport_errors() -> Iterator[None]:
    """Make a TransportException of what transports raise: errors of sockets, libusb and the bridge's HTTP client."""
    try:
        yield
    except exceptions.TrezorException:
        raise
    except Exception as error:
        kind = transport.Timeout if "Timeout" in type(error).__name__ else transport.TransportException
        raise kind(str(error)) from error


def _run_within(seconds: float, work: Callable[[], _Answer]) -> _Answer:
    """What it returns; a TransportException if it raises anything, or takes longer."""
    answers: _Answers[_Answer] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_answer_of(work)), daemon=True).start()
    return _wait_for(answers, seconds)


def _answer_of(work: Callable[[], _Answer]) -> tuple[_Answer | None, Exception | None]:
    """What it returns, or the TransportException that it raised."""
    try:
        with _transport_errors():
            return work(), None
    except exceptions.TrezorException as error:
        return None, error


def _wait_for(answers: _Answers[_Answer], seconds: float) -> _Answer:
    try:
        answer, fault = answers.get(timeout=seconds)
    except queue.Empty:
        raise transport.Timeout(f"{seconds:g} s") from None
    if fault is not None:
        raise fault
    return cast("_Answer", answer)


def find_device(path: str | None) -> transport.Transport:
    """The one device there is, or the one at a path."""
    begun, missing = time.monotonic(), 0
    while path and missing < _ASKED and time.monotonic() - begun < ANSWER / 2:
        asked = time.monotonic()
        try:
            return _run_within(ANSWER, partial(transport.get_transport, path))
        except exceptions.TrezorException:
            missing += time.monotonic() - asked < _SILENCE
    try:
        every = _run_within(ANSWER, transport.enumerate_devices)
    except exceptions.TrezorException as error:
        raise DeviceError(
            "Trezor:", f"the search for it failed: {error_text(error)};", f"set {_SETTING}", code="device_missing"
        ) from error
    found = [one for one in every if one.get_path().startswith(path or "")]
    if not path and any(one.PATH_PREFIX == "bridge" for one in found):  # which has what is on USB, and holds it
        found = [one for one in found if one.PATH_PREFIX in ("bridge", "udp")]
    if not found:
        where, do = (f"is at {path}", "correct") if path else ("is connected", "set")
        raise DeviceError(
            "Trezor:", f"none {where}", f"plug it in and unlock it, or {do} {_SETTING}", code="device_missing"
        )
    if len(found) > 1:
        names = ", ".join(one.get_path() for one in found)
        raise DeviceError(
            "Trezor:",
            f"{len(found)} are connected ({names})",
            f"unplug the others, or set {_SETTING}, to one",
            code="device_missing",
        )
    return found[0]


@contextlib.contextmanager
def exclusive_use(path: str) -> Iterator[None]:
    """Keep other runs on this machine from talking to the device."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or default) / "bcm"

    def busy() -> None:
        raise InUse(f"Trezor at {path}:", "another run is using it", "wait until that is done, and run it again")

    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(hold_lock(folder / f"{path.replace('/', '_')}.lock", busy))
        except OSError as error:
            raise DeviceError(
                "Trezor:", f"{error.filename or folder}: {error.strerror}", "make it writable", code="io_error"
            ) from error
        yield


def error_text(error: BaseException) -> str:
    """What an error says."""
    return " ".join((str(error) or type(error).__name__).split())
