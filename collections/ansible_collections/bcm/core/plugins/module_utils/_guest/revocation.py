# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the programs share that revoke credentials of consumers: ``bcm_guest.revocation``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable

from .prove import Fault


def revoke_credentials(name: str, revoke: Callable[[list[str]], Iterable[str]]) -> None:
    """Have what consumers of the stack ``name`` have revoked, and print as JSON which of them had anything.

    The function is called with the consumers. Ends the program with the Fault or OSError that it raises.
    """
    request = json.load(sys.stdin)
    try:
        revoked = sorted(set(revoke(request["consumers"])))
    except (Fault, OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"{name}: {error}") from error
    json.dump({"revoked": revoked}, sys.stdout)
