# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a person for a secret through pinentry, so that it is in no argument, environment, variable or log."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from .._base.errors import BcmError
from .._base.read import read_number

#: what Assuan's codes end with, whatever their source
_CODE, _TIMEOUT, _CANCELLED = 0xFFFF, 62, 99
#: seconds between its end of time and ours
_GRACE = 5.0


def ask(prompt: str, description: str, seconds: float, program: str = "pinentry") -> str:
    """What a person types. Raises BcmError if nothing is typed within ``seconds``, or there is no pinentry."""
    terminal = _terminal()
    options = [f"OPTION ttyname={terminal}", f"OPTION ttytype={os.environ.get('TERM') or 'dumb'}"] if terminal else []
    settings = [f"SETTIMEOUT {seconds:.0f}", f"SETDESC {quote(description)}", f"SETPROMPT {quote(prompt)}", *options]
    commands = "".join(f"{line}\n" for line in (*settings, "GETPIN"))
    try:
        # some of them know no time-out of their own
        limit = seconds + _GRACE
        done = subprocess.run([program], input=commands.encode(), capture_output=True, timeout=limit, check=False)
    except OSError as error:
        raise BcmError(
            f"{prompt}:", f"{program} cannot be started: {error.strerror}", "install pinentry", code="missing_program"
        ) from error
    except subprocess.TimeoutExpired:
        raise _nobody(prompt, seconds) from None  # its own text may hold what was typed
    return _answer(done.stdout.splitlines(), 1 + len(settings), prompt, seconds, program)


def _answer(lines: list[bytes], before: int, prompt: str, seconds: float, program: str) -> str:
    """The answer to the last question; ``before`` are those to the greeting and the settings, which may be refused."""
    data = b""
    for line in lines:
        word, _space, rest = line.partition(b" ")
        if word == b"D":
            data += unquote_to_bytes(rest)
        if word not in (b"OK", b"ERR"):
            continue
        if before:
            before -= 1
        elif word == b"OK":
            with contextlib.suppress(UnicodeDecodeError):
                return data.decode()
            raise BcmError(
                f"{prompt}:", "what was typed is no UTF-8", "set the locale of the terminal", code="invalid_value"
            )
        else:
            code, _blank, said = rest.decode(errors="replace").partition(" ")
            fault = 0
            with contextlib.suppress(ValueError):
                fault = read_number(code) & _CODE
            if fault == _TIMEOUT:
                raise _nobody(prompt, seconds)
            if fault == _CANCELLED:
                raise BcmError(f"{prompt}:", "cancelled", "run it again and type it", code="cancelled")
            raise BcmError(
                f"{prompt}:",
                f'{program} says "{said}"',
                "set GPG_TTY to the terminal, or DISPLAY",
                code="command_failed",
            )
    raise BcmError(
        f"{prompt}:", f"{program} ended without an answer", "see whether it works by itself", code="command_failed"
    )


def _nobody(prompt: str, seconds: float) -> BcmError:
    return BcmError(
        f"{prompt}:", f"was not typed within {seconds:.0f} s", "run it again and type it", code="cancelled"
    )


def _terminal() -> str | None:
    """The terminal of the person; Ansible's workers have none, but their parent has."""
    if os.environ.get("GPG_TTY"):
        return os.environ["GPG_TTY"]
    for process in ("self", str(os.getppid())):
        for descriptor in range(3):
            with contextlib.suppress(OSError):
                name = os.readlink(f"/proc/{process}/fd/{descriptor}")
                if name.startswith(("/dev/pts/", "/dev/tty")) and Path(name).exists():
                    return name
    return None
