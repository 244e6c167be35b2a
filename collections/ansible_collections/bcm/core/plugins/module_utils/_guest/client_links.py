# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links with which programs of people reach a node: what those programs share that make them in its instance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any


class Refusal(Exception):
    """What cannot be done, for people."""


def answer_about_links(
    node: str,
    make: Callable[[str, str, str], dict[str, Any]],
    revoke: Callable[[str], dict[str, Any]],
    clients: Callable[[], Mapping[str, str]],
) -> None:
    """Do what is asked for, and print the answer as JSON: make a link, revoke it, or list the clients.

    ``make`` is called with the client, what it may do, and the place to connect to; ``clients`` says what each may.
    Ends the program with a Refusal or OSError.
    """
    request = json.load(sys.stdin)
    try:
        if request["action"] == "make":
            answer = make(request["name"], request["may"], request["place"])
        elif request["action"] == "revoke":
            answer = revoke(request["name"])
        else:
            answer = {"clients": [{"name": name, "may": may} for name, may in clients().items()]}
    except (Refusal, OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"{node}: {error}") from error
    json.dump(answer, sys.stdout)
