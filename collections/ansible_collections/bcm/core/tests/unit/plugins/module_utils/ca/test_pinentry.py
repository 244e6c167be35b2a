# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pinentry, as a program that answers, or does not."""

from __future__ import annotations

import os
import pty
import threading
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca import pinentry

SECRET = "100 % à+b"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A pinentry that writes down what it is told, and answers with the file beside it."""
    program = tmp_path / "pinentry"
    program.write_text(
        "#!/bin/sh\n"
        'echo "$*" >"$0.said"\n'
        "echo 'OK Pleased to meet you'\n"
        "while read -r line; do\n"
        '  echo "$line" >>"$0.said"\n'
        '  case $line in GETPIN) exec cat "$0.answer" ;; SETTIMEOUT*) echo ERR 275 unknown ;; *) echo OK ;; esac\n'
        "done\n"
    )
    program.chmod(0o700)
    return program


def answer(program: Path, text: str, seconds: float = 5) -> str:
    program.with_suffix(".answer").write_text(text)
    return pinentry.ask("Passphrase", "100 % sure\nof it", seconds, str(program))


def test_pinentry_returns_the_passphrase(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPG_TTY", "/dev/pts/7")
    assert answer(program, "D 100 %25 à+b\nOK\n") == SECRET
    arguments, *said = program.with_suffix(".said").read_text().splitlines()
    assert arguments == ""
    assert {"SETTIMEOUT 5", "SETDESC 100%20%25%20sure%0Aof%20it", "OPTION ttyname=/dev/pts/7"} < set(said)
    assert answer(program, "OK\n") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ERR 83886179 Operation cancelled <Pinentry>\n", "^Passphrase: cancelled: run it again and type it$"),
        ("ERR 83886142 Timeout <Pinentry>\n", "^Passphrase: was not typed within 5 s: run it again"),
        ("ERR 83918950 Inappropriate ioctl\n", 'says "Inappropriate ioctl": set GPG_TTY to the terminal, or DISPLAY$'),
        ("", "ended without an answer: see whether it works by itself$"),
        (f"ERR {'9' * 5000} no code\n", 'says "no code": set GPG_TTY'),
        ("ERR ² no code\n", 'says "no code": set GPG_TTY'),
    ],
)
def test_errors_of_pinentry_are_raised(program: Path, text: str, said: str) -> None:
    with pytest.raises(BcmError, match=said):
        answer(program, text)


def test_passphrase_that_is_not_typed_in_time_raises(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(program.with_suffix(".answer"))
    monkeypatch.setattr(pinentry, "_GRACE", 0.2)
    with pytest.raises(BcmError, match="was not typed within 0 s"):
        pinentry.ask("Passphrase", "", 0.1, str(program))


def test_a_passphrase_that_is_not_utf8_is_refused(program: Path) -> None:
    with pytest.raises(BcmError, match="is no UTF-8"):
        answer(program, "D %E0\nOK\n")


def test_a_missing_pinentry_raises(tmp_path: Path) -> None:
    with pytest.raises(BcmError, match="^Passphrase: .*none cannot be started: No such file or directory: install"):
        pinentry.ask("Passphrase", "", 1, str(tmp_path / "none"))


def test_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the parent, where a process has none."""
    monkeypatch.delenv("GPG_TTY", raising=False)
    links = {f"/proc/{os.getppid()}/fd/2": "/dev/tty"}
    monkeypatch.setattr(os, "readlink", lambda name: links.get(name, "/dev/null"))
    assert pinentry._terminal() == "/dev/tty"
    links.clear()
    assert pinentry._terminal() is None


def test_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    person, terminal = pty.openpty()
    monkeypatch.setenv("GPG_TTY", os.ttyname(terminal))
    monkeypatch.setenv("TERM", "xterm")

    def type_it() -> None:
        screen = b""
        while b"Passphrase" not in screen:
            screen += os.read(person, 4096)
        os.write(person, b"typed by hand\r")

    typing = threading.Thread(target=type_it, daemon=True)
    typing.start()
    try:
        assert pinentry.ask("Passphrase", "For the root key", 20, "pinentry-curses") == "typed by hand"
    finally:
        os.close(terminal)
        os.close(person)
    typing.join()
