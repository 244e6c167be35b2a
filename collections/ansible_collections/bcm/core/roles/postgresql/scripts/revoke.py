# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoke the passwords of consumers, by their names: `bcm secret rotate`. The next run makes others."""

from __future__ import annotations

from bcm_guest.postgresql import PASSWORDS, ask, literal, quoted
from bcm_guest.revocation import revoke_credentials
from bcm_guest.volume_files import list_files, remove_file


def revoke(consumers: list[str]) -> list[str]:
    """Revoke what these consumers have, and return those of them that had anything. Raises Fault and OSError."""
    found = sorted({path.name for path in list_files(PASSWORDS, "")} & set(consumers))
    for name in found:
        ask(f"ALTER ROLE {quoted(name)} PASSWORD NULL")
        remove_file(PASSWORDS / name)
        ask(f"SELECT FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {literal(name)})")
    return found


def main() -> None:
    revoke_credentials("postgresql", revoke)


if __name__ == "__main__":
    main()
