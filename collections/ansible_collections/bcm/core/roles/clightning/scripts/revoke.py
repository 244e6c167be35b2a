# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoke the runes of consumers, by their names: `bcm secret rotate`. The next run makes others."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from bcm_guest.revocation import revoke_credentials


def lightning_cli(*words: str) -> dict[str, Any]:
    """Answer of a command. Raises OSError."""
    done = subprocess.run(["lightning-cli", *words], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise OSError(f"lightning-cli {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return dict(json.loads(done.stdout))


def consumer_of(rune: dict[str, Any]) -> str | None:
    """The consumer in the comment that credentials.py puts at the end of a rune."""
    comment = rune["restrictions"][-1]["alternatives"][0] if rune["restrictions"] else {"condition": ""}
    return str(comment["value"].removeprefix("bcm ")) if comment["condition"] == "#" else None


def revoke(consumers: list[str]) -> list[str]:
    """Revoke what these consumers have, and return those of them that had anything. Raises OSError."""
    found = []
    for rune in lightning_cli("showrunes")["runes"]:
        consumer = consumer_of(rune)
        if consumer in consumers and not rune.get("blacklisted"):
            lightning_cli("blacklistrune", rune["unique_id"])
            found.append(consumer)
    return found


def main() -> None:
    revoke_credentials("clightning", revoke)


if __name__ == "__main__":
    main()
