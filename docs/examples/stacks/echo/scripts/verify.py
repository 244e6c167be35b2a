# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that echo answers over TLS with what it was sent, and only to those who have the token."""

from pathlib import Path

from bcm_guest.prove import Fault, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    answers = [http_request(stack.service("http"), "POST", body="hello", credentials=f"echo:{token}")
               for token in (stack.secrets["echo/token"], "guessed")]  # fmt: skip
    if answers != [(200, "hello"), (401, "")]:
        raise Fault(f"it answers {answers}")
    count = int(Path("/var/lib/echo/count").read_text())
    return Report({"count": count}, [f"{count} requests"])


prove(look)
