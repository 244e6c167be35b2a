# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a tor in good health does not say. What it does say is proved on a network of real ones, in tests/tor."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import tor_control
from ansible_collections.bcm.core.plugins.module_utils._guest.tor_control import Control, ControlError, Reply

COOKIE = bytes(range(32))
NONCE = bytes(32)
A, B = "a" * 56, "b" * 56
Answer = Callable[[str], str]


class Peer:
    """A tor that says what it is told to, as long as somebody is connected."""

    def __init__(self, directory: Path, answers: dict[str, str | Answer]) -> None:
        self.path, self.cookie = directory / "control", directory / "cookie"
        self.cookie.write_bytes(COOKIE)
        offer = f'250-PROTOCOLINFO 1\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="{self.cookie}"\n250 OK\n'
        self._answers = {"PROTOCOLINFO": offer, "AUTHCHALLENGE": self.challenge, "AUTHENTICATE": "250 OK\n", **answers}
        self.said: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def challenge(self, line: str) -> str:
        message = COOKIE + bytes.fromhex(line.split()[2]) + NONCE
        key = b"Tor safe cookie authentication server-to-controller hash"
        digest = hmac.new(key, message, hashlib.sha256).hexdigest().upper()
        return f"250 AUTHCHALLENGE SERVERHASH={digest} SERVERNONCE={NONCE.hex()}\n"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                with connection, connection.makefile("r", newline="\r\n") as lines:
                    for line in lines:
                        self.said.append(line.strip())
                        answer = self._answers.get(line.split()[0], "510 Unrecognized command\n")
                        if answer == "":
                            break
                        text = answer if isinstance(answer, str) else answer(line)
                        connection.sendall(text.replace("\n", "\r\n").encode())


@pytest.fixture
def directory() -> Iterator[Path]:
    # short: the path of a unix socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="bcm-") as name:
        yield Path(name)


def session(text: str) -> Control:
    """A session in which tor has said this already, and closed."""
    ours, theirs = socket.socketpair()
    theirs.sendall(text.replace("\n", "\r\n").encode())
    theirs.shutdown(socket.SHUT_WR)
    peers.append(theirs)
    return Control(ours)


peers: list[socket.socket] = []


def test_replies_of_many_lines_with_events_between() -> None:
    said = (
        "650 HS_DESC UPLOAD a\n"
        '250-version="0.4 \\"x\\""\n250+config-text=\nLog notice\n..dotted\n.\n250-empty=\n250 OK\n650-CIRC 1\n650 x\n'
    )
    tor = session(said)
    assert tor.getinfo("version", "config-text", "empty") == {
        "version": '0.4 "x"',
        "config-text": "Log notice\n.dotted",
        "empty": "",
    }
    end = time.monotonic() + 5
    assert tor.event(end).text == "HS_DESC UPLOAD a"
    assert tor.event(end) == Reply(650, (("CIRC 1", ""), ("x", "")))


def test_options_that_are_there_more_than_once() -> None:
    tor = session('250-HiddenServiceDir=/a\n250-hiddenservicedir="/b c"\n250 DisableNetwork\n')
    assert tor.getconf("HiddenServiceDir") == ["/a", "/b c"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("552 Unrecognized option\n", "^tor refuses GETINFO: 552 Unrecognized option"),
        ("SSH-2.0-OpenSSH\n", "^what answers does not speak tor's control protocol: 'SSH-2.0"),
        ("250-half\n", "^tor closed the connection"),
    ],
)
def test_malformed_answers_are_refused(said: str, message: str) -> None:
    with pytest.raises(ControlError, match=message):
        session(said).getinfo("x")


def test_a_deadline_passes() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(TimeoutError):
        Control(ours).event(time.monotonic() + 0.05)


def test_the_cookie_is_never_sent(directory: Path) -> None:
    peer = Peer(directory, {})
    tor_control.connected(str(peer.path)).close()
    assert peer.said[-1].startswith("AUTHENTICATE ")
    assert COOKIE.hex() not in " ".join(peer.said)


def test_a_cookie_that_changed(directory: Path) -> None:
    peer = Peer(directory, {})
    peer.cookie.write_bytes(b"x" * 32)
    with pytest.raises(ControlError, match="^the cookie is not the one of the tor that answers"):
        tor_control.connected(str(peer.path))
    # it was tried twice, and a tor that was restarted meanwhile would have been believed
    assert sum(line.startswith("PROTOCOLINFO") for line in peer.said) == 2
    assert not any(line.startswith("AUTHENTICATE") for line in peer.said)


def test_a_cookie_that_changes_meanwhile(directory: Path) -> None:
    peer = Peer(directory, {})

    def challenge(line: str) -> str:
        answer = peer.challenge(line)
        peer.cookie.write_bytes(COOKIE)
        return answer

    peer._answers["AUTHCHALLENGE"] = challenge
    peer.cookie.write_bytes(b"x" * 32)
    tor_control.connected(str(peer.path)).close()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"AUTHENTICATE": "515 Authentication failed\n"}, "^tor refuses AUTHENTICATE: 515 Authentication failed"),
        (
            {"PROTOCOLINFO": "250-AUTH METHODS=HASHEDPASSWORD\n250 OK\n"},
            "^tor offers no cookie on its control socket, but HASHEDPASSWORD",
        ),
        ({"PROTOCOLINFO": ""}, "^tor closed the connection"),
    ],
)
def test_a_socket_that_refuses(directory: Path, answers: dict[str, str | Answer], message: str) -> None:
    with pytest.raises(ControlError, match=message):
        tor_control.connected(str(Peer(directory, answers).path))


def test_tor_is_not_running(directory: Path) -> None:
    path = directory / "control"
    with pytest.raises(ControlError, match=r"^tor is not running: nothing answers at .*/control"):
        tor_control.connected(str(path))
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with pytest.raises(ControlError, match=r"^tor is not running: nothing answers at .*/control"):
        tor_control.connected(str(path))


def test_a_socket_that_cannot_be_used(directory: Path) -> None:
    peer = Peer(directory, {})
    with pytest.raises(ControlError, match=r"^tor's control socket .*/cookie/control refuses: Not a directory"):
        tor_control.connected(f"{peer.cookie}/control")


def published(*events: str, deadline: float = 5) -> tor_control.Published:
    """What is found if tor says these events after it has read its configuration."""
    said = ["250 OK", "250 OK", f"650 HS_DESC UPLOAD {A} UNKNOWN $early", "650 SIGNAL RELOAD"]
    said += ["250 HiddenServiceDir=/o/a/", "250 DisableNetwork=0", *(f"650 {event}" for event in events)]
    said += ['250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"', "250 OK"]
    with session("".join(f"{line}\n" for line in said)) as tor:
        return tor_control.publish(tor, ["/o/a"], [f"{A}.onion", f"{B}.onion"], deadline)


def test_only_an_upload_that_began_after_the_change_counts() -> None:
    done = published(
        f"HS_DESC UPLOADED {A} UNKNOWN $early",
        f"HS_DESC UPLOAD {A} UNKNOWN $one",
        f"HS_DESC FAILED {A} UNKNOWN $two id REASON=UNEXPECTED",
        f"HS_DESC UPLOADED {A} UNKNOWN $two",
        "STATUS_CLIENT NOTICE CIRCUIT_ESTABLISHED",
        f"HS_DESC UPLOADED {A} UNKNOWN $one",
        f"HS_DESC UPLOAD {B} UNKNOWN $one id HSDIR_INDEX=1",
        f"HS_DESC FAILED {B} UNKNOWN $one id REASON=UPLOAD_REJECTED",
    )
    assert done.uploaded == [f"{A}.onion"]
    assert done.failed == {f"{B}.onion": "id REASON=UPLOAD_REJECTED"}
    assert (done.network, done.unknown) == (True, [])


def test_the_answer_of_the_script(directory: Path) -> None:
    request = {"socket": str(directory / "none"), "directories": [], "addresses": [], "deadline": 1, "reload": True}
    assert tor_control.main(request)["error"].startswith("tor is not running")
    ended = Peer(directory, {"SETEVENTS": "250 OK\n", "SIGNAL": ""})
    assert tor_control.main({**request, "socket": str(ended.path)}) == {"error": "tor closed the connection"}


class Stream:
    """A stream that has this to say, and then hangs up."""

    def __init__(self, said: bytes) -> None:
        self._left = said

    def sendall(self, data: bytes, /) -> None:
        pass

    def recv(self, size: int, /) -> bytes:
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def settimeout(self, seconds: float, /) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"250-" + b"x" * 10_000_000, "what answers sends a line of more than 65536 bytes"),
        (b"250-x\r\n" * 1_000_000, "what answers sends more than 10000 lines in one reply"),
        (b"250+x=\r\n" + b"y\r\n" * 1_000_000, "what answers sends more than 10000 lines in one reply"),
        ("٢٥٠ OK\r\n".encode(), "what answers does not speak tor's control protocol: '٢٥٠ OK'"),
        (b"250 OK\r\n", "tor does not tell version"),
    ],
    ids=["line", "lines", "data", "digits", "nothing"],
)
def test_odd_answers(said: bytes, fault: str) -> None:
    with pytest.raises(ControlError, match=f"^{fault}$"):
        Control(Stream(said)).getinfo("version")


@pytest.mark.parametrize("answer", ["", "SERVERHASH=00 SERVERNONCE=0", f"SERVERHASH={'0' * 64} SERVERNONCE=x"])
def test_odd_proofs(answer: str) -> None:
    offer = '250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/x"\r\n250 OK\r\n'
    with pytest.raises(ControlError, match="what answers to AUTHCHALLENGE does not speak tor's control protocol"):
        Control(Stream(f"{offer}250 AUTHCHALLENGE {answer}\r\n".encode())).authenticate(lambda _path: COOKIE)


@pytest.mark.parametrize("text", ["", "-1", "1 ", "1\n", "٣", "9" * 5000])
def test_malformed_numbers_are_refused(text: str) -> None:
    with pytest.raises(ControlError, match="where a number belongs"):
        tor_control.number(text)
