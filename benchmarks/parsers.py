# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worst input that others may send: four times as much of it takes four times as long, not sixteen."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._artifact import apt, archive, oci, openpgp, sums
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._guest.tor_control import Control, ControlError

from .measure import Bench, Line, interleaved, timed

_TIMES = (1, 2, 4)
# The processor's caches and the garbage collector make a longer input a little dearer for each byte.
_NOISE = 1.5
_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n"


def lines(bench: Bench) -> list[Line]:
    found = []
    for what, (size, make) in _INPUTS.items():
        work = {str(times): make(size * times, bench.folder) for times in _TIMES}
        seconds = interleaved({times: partial(_refused, one) for times, one in work.items()}, bench.repetitions)
        for times in _TIMES[1:]:
            line = f"{what}, {times} times as much"
            found.append(Line(line, seconds[str(times)], f"{times} times once", times * seconds["1"], _NOISE))
    return found


def _refused(work: Callable[[], object]) -> float:
    def attempt() -> None:
        with contextlib.suppress(BcmError, ControlError):
            work()

    return timed(attempt)


def _inrelease(size: int, _folder: Path) -> Callable[[], object]:
    return partial(apt.cleartext, _SIGNED + (b"x\n" + _SIGNATURE) * (size // 32), "InRelease")


def _fields(size: int, _folder: Path) -> Callable[[], object]:
    text = b"Suite: x\nDate: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n" + b" a\n" * (size // 3)
    return partial(apt.promise, text, "x", "InRelease")


def _armour(size: int, _folder: Path) -> Callable[[], object]:
    return partial(openpgp.split, _SIGNATURE * (size // 30))


def _sums(size: int, _folder: Path) -> Callable[[], object]:
    return partial(sums.parse, b"SHA256 (" + b") = " * (size // 4), "SHA256SUMS")


def _whiteouts(members: int, folder: Path) -> Callable[[], object]:
    def layer(path: Path, names: list[str]) -> Path:
        with tarfile.open(path, "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        return path

    numbers = range(members)
    below = layer(folder / f"below-{members}.tar", [f"d/{number}" for number in numbers])
    above = [f"d/e{number}" for number in numbers] + [f"d/.wh.{number}" for number in numbers]
    above += ["d/.wh..wh..opq" for _number in numbers]
    paths = [below, layer(folder / f"above-{members}.tar", above)]

    def grow() -> None:
        oci._Tree("an image").grow(paths)

    return grow


def _deep(members: int, folder: Path) -> Callable[[], object]:
    path = folder / f"deep-{members}.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(members):
            tar.addfile(tarfile.TarInfo("d/" * 100 + str(number)), io.BytesIO())
    return partial(archive.check, path)


class _Stream:
    """A tor that answers with one long line, in pieces."""

    def __init__(self, size: int) -> None:
        self._left = [b"250-" + b'\\"' * 16] + [b'\\"' * 512] * (size // 1024)

    def sendall(self, data: bytes, /) -> None:
        pass

    def recv(self, size: int, /) -> bytes:
        return self._left.pop() if self._left else b""

    def settimeout(self, seconds: float, /) -> None:
        pass

    def close(self) -> None:
        pass


def _control(size: int, _folder: Path) -> Callable[[], object]:
    return lambda: Control(_Stream(size)).getinfo("version")


#: what it is -> how much at once, and what is done with it
_INPUTS: dict[str, tuple[int, Callable[[int, Path], Callable[[], object]]]] = {
    "an InRelease of beginnings of signatures": (1 << 20, _inrelease),
    "a field of an InRelease over many lines": (1 << 20, _fields),
    "signatures of nothing, in armour": (1 << 20, _armour),
    "a line of a list of digests": (1 << 20, _sums),
    "whiteouts in a layer of an image": (1_000, _whiteouts),
    "files in a deep folder of an archive": (1_000, _deep),
    "a line of tor's control port": (1 << 20, _control),
}
