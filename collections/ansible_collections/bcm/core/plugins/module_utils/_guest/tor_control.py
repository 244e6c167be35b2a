# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client of tor's control protocol (control-spec), and the script that publishes onion services with it.

The script runs where tor runs, so that this file needs nothing but Python's standard library.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_CLIENT_KEY = b"Tor safe cookie authentication controller-to-server hash"
_SERVER_KEY = b"Tor safe cookie authentication server-to-controller hash"
#: what a directory says to a descriptor that is no newer than the one it has, to the second
REJECTED = "REASON=UPLOAD_REJECTED"
_ANSWER = 30.0  # seconds tor has for one reply
_LONGEST = 1 << 16  # bytes of a line
_MOST = 10_000  # lines of a reply
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_COOKIE = re.compile(rf" COOKIEFILE=({_QUOTED.pattern})")
_STATUS = re.compile(r"[0-9]{3}[ +-]")
_PROOF = re.compile(r"AUTHCHALLENGE SERVERHASH=([0-9A-Fa-f]{64}) SERVERNONCE=([0-9A-Fa-f]{64})")


class ControlError(Exception):
    """An error of the control connection; the message begins with what tor did."""


class Stream(Protocol):
    """A connection, such as a socket."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...

    def settimeout(self, seconds: float, /) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Reply:
    """A reply or an event: its status, and its lines, each with the data that came with it."""

    status: int
    lines: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return self.lines[-1][0]

    def values(self) -> dict[str, str]:
        """The lines that are ``key=value``, data instead of an empty value (control-spec, section 3.9)."""
        pairs = [(line.partition("="), data) for line, data in self.lines]
        return {key: data or unquoted(value) for (key, sign, value), data in pairs if sign}


class Control:
    """A session with tor. Raises ControlError; TimeoutError if a deadline passes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._events: list[Reply] = []

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def authenticate(self, cookie: Callable[[str], bytes]) -> None:
        """With what tor offers; ``cookie`` reads the file of a path (control-spec, sections 3.5, 3.21 and 3.24)."""
        offered = self.command("PROTOCOLINFO 1")
        line = next((text for text, _data in offered.lines if text.startswith("AUTH ")), "")
        methods = re.sub(r"^AUTH METHODS=(\S*).*", r"\1", line).split(",")
        if "NULL" in methods:
            self.command("AUTHENTICATE")
            return
        path = _COOKIE.search(line)
        if path is None or not {"SAFECOOKIE", "COOKIE"}.intersection(methods):
            raise ControlError(f"tor offers no cookie on its control socket, but {', '.join(methods)}")
        secret = cookie(unquoted(path[1]))
        self.command(f"AUTHENTICATE {self._proof(secret) if 'SAFECOOKIE' in methods else secret.hex()}")

    def _proof(self, cookie: bytes) -> str:
        """Return the proof of knowing the cookie; tor proves it first, so that only tor receives ours."""
        ours = secrets.token_bytes(32)
        challenge = _PROOF.fullmatch(self.command(f"AUTHCHALLENGE SAFECOOKIE {ours.hex()}").text)
        if challenge is None:
            raise ControlError("what answers to AUTHCHALLENGE does not speak tor's control protocol")
        message = cookie + ours + bytes.fromhex(challenge[2])
        if not hmac.compare_digest(hmac.digest(_SERVER_KEY, message, hashlib.sha256), bytes.fromhex(challenge[1])):
            raise ControlError("the cookie is not the one of the tor that answers")
        return hmac.digest(_CLIENT_KEY, message, hashlib.sha256).hex()

    def command(self, line: str) -> Reply:
        """The reply to a command; events that come before it are kept. Raises ControlError if tor refuses."""
        self._stream.settimeout(_ANSWER)
        self._stream.sendall(f"{line}\r\n".encode())
        end = time.monotonic() + _ANSWER
        while (reply := self._read(end)).status == 650:
            self._events.append(reply)
        if reply.status >= 300:
            raise ControlError(f"tor refuses {line.split()[0]}: {reply.status} {reply.text}")
        return reply

    def getinfo(self, *keys: str) -> dict[str, str]:
        found = self.command(f"GETINFO {' '.join(keys)}").values()
        missing = [key for key in keys if key not in found]
        if missing:
            raise ControlError(f"tor does not tell {' and '.join(missing)}")
        return found

    def getconf(self, key: str) -> list[str]:
        """Return all values of an option, as in torrc."""
        pairs = [text.partition("=") for text, _data in self.command(f"GETCONF {key}").lines]
        return [unquoted(value) for name, sign, value in pairs if sign and name.lower() == key.lower()]

    def setevents(self, *names: str) -> None:
        self.command(" ".join(("SETEVENTS", *names)))

    def event(self, end: float) -> Reply:
        """The next event. Raises TimeoutError at ``end``, a time of time.monotonic()."""
        while True:
            if self._events:
                return self._events.pop(0)
            reply = self._read(end)
            if reply.status == 650:
                return reply

    def reload(self, end: float) -> None:
        """Have tor read its configuration, and wait until it has. Earlier events are lost.

        Needs the event SIGNAL (control-spec, section 4.1.17).
        """
        self.command("SIGNAL RELOAD")
        while not self.event(end).text.startswith("SIGNAL RELOAD"):
            pass

    def _read(self, end: float) -> Reply:
        """One whole reply (control-spec, section 2.3)."""
        lines: list[tuple[str, str]] = []
        count = 0

        def next_line() -> str:
            nonlocal count
            count += 1
            if count > _MOST:
                raise ControlError(f"what answers sends more than {_MOST} lines in one reply")
            return self._line(end)

        while True:
            line = next_line()
            if not _STATUS.match(line):
                raise ControlError(f"what answers does not speak tor's control protocol: {line[:40]!r}")
            data = []
            if line[3] == "+":
                while (more := next_line()) != ".":
                    data.append(more.removeprefix("."))
            lines.append((line[4:], "\n".join(data)))
            if line[3] == " ":
                return Reply(int(line[:3]), tuple(lines))

    def _line(self, end: float) -> str:
        searched = 0
        while (at := self._buffer.find(b"\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 1)
            if searched > _LONGEST:
                raise ControlError(f"what answers sends a line of more than {_LONGEST} bytes")
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("tor did not answer in time")
            self._stream.settimeout(left)
            received = self._stream.recv(65536)
            if not received:
                raise ControlError("tor closed the connection")
            self._buffer += received
        line = self._buffer[:at].decode(errors="replace")
        del self._buffer[: at + 2]
        return line


def unquoted(text: str) -> str:
    """Return the value of a quoted string (control-spec, section 2.1.1), or the text unchanged."""
    found = _QUOTED.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else text


def number(text: str) -> int:
    """A number that tor says. Raises ControlError."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ControlError(f"tor says {text[:40]!r} where a number belongs")
    return int(text)


def connected(path: str) -> Control:
    """Return an authenticated session over a unix socket; try twice, since a tor that restarts has another cookie."""
    try:
        return _connected(path)
    except ControlError:
        return _connected(path)


def _connected(path: str) -> Control:
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.settimeout(_ANSWER)
        stream.connect(path)
        control = Control(stream)
        control.authenticate(lambda name: Path(name).read_bytes())
        return control
    except (FileNotFoundError, ConnectionRefusedError) as error:
        stream.close()
        raise ControlError(f"tor is not running: nothing answers at {error.filename or path}") from error
    except OSError as error:
        stream.close()
        raise ControlError(f"tor's control socket {path} refuses: {error.strerror or error}") from error
    except BaseException:
        stream.close()
        raise


@dataclass
class Published:
    """The services whose descriptors a directory has, and the failures of the others."""

    network: bool
    bootstrap: str = ""
    #: what tor has of what it needs for a descriptor, if some are missing
    state: str = ""
    uploaded: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    #: directories of onion services that tor has, and was not asked for
    foreign: list[str] = field(default_factory=list)


#: of what `main` answers
SHAPE = {
    "network": bool,
    "bootstrap": str,
    "state": str,
    "uploaded": [str],
    "failed": {str: str},
    "unknown": [str],
    "foreign": [str],
}


def publish(
    control: Control, directories: list[str], addresses: list[str], deadline: float, *, reload: bool = True
) -> Published:
    """Reload, see that tor has the ``directories``, and wait until descriptors of all ``addresses`` are uploaded.

    ``deadline`` is in seconds. Without the network tor uploads nothing, and nothing is waited for.
    """
    if reload:
        control.setevents("SIGNAL", "HS_DESC", "STATUS_CLIENT")
        control.reload(time.monotonic() + _ANSWER)
    end = time.monotonic() + deadline
    has = [line.rstrip("/") for line in control.getconf("HiddenServiceDir")]
    result = Published(control.getconf("DisableNetwork") == ["0"])
    result.unknown = [path for path in directories if path not in has]
    result.foreign = [path for path in has if path and path not in directories]
    waiting = {address.removesuffix(".onion") for address in addresses}
    begun = set()
    try:
        while waiting and result.network and not result.unknown:
            kind, action, address, _auth, directory, *rest = [*control.event(end).text.split(), *[""] * 5]
            if kind != "HS_DESC" or address not in waiting:
                continue
            if action == "UPLOAD":
                begun.add((address, directory))
            elif action == "UPLOADED" and (address, directory) in begun:  # or else it is what was there before
                waiting.discard(address)
                result.uploaded.append(f"{address}.onion")
                result.failed.pop(f"{address}.onion", None)
            elif action == "FAILED":
                result.failed[f"{address}.onion"] = " ".join(rest).strip()
                if REJECTED in rest:  # tor does not try again soon
                    waiting.discard(address)
    except TimeoutError:
        result.state = _state(control, waiting)
    result.bootstrap = control.getinfo("status/bootstrap-phase")["status/bootstrap-phase"]
    return result


def _state(control: Control, addresses: Collection[str]) -> str:
    """What tor has of what it needs to upload the descriptors of these addresses (control-spec, section 3.9)."""
    found = control.getinfo("network-liveness", "status/enough-dir-info", "entry-guards", "circuit-status")
    guards = [line for line in found["entry-guards"].splitlines() if "never-connected" not in line]
    answering = sum(bool(re.match(r"\S+ up\b", line)) for line in guards)
    circuits = [line.split() for line in found["circuit-status"].splitlines()]
    own = [words for words in circuits if any(f"REND_QUERY={address}" in words for address in addresses)]
    established = sum("HS_STATE=HSSI_ESTABLISHED" in words for words in own)
    enough = "enough" if found["status/enough-dir-info"] == "1" else "not enough"
    return (
        f"its network is {found['network-liveness']}, it knows {enough} relays, {answering} of {len(guards)} entry "
        f"guards answer, and {established} of {len(own)} introduction circuits are established"
    )


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of the script: the fields of Published, or the failure as ``error``."""
    try:
        with connected(request["socket"]) as control:
            done = publish(
                control, request["directories"], request["addresses"], request["deadline"], reload=request["reload"]
            )
            return vars(done)
    except (ControlError, TimeoutError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"tor broke off: {error.strerror or error}"}


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
