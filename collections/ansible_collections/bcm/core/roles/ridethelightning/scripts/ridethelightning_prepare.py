# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the configuration to where Ride The Lightning may change it, with the credentials in the forms that it reads."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def prepare(source: Path, folder: Path) -> None:
    """Write configuration and credentials. Raises OSError and ValueError."""
    name = "RTL-Config.json"
    shutil.copyfile(source / name, folder / name)
    for node, credential in json.loads((source / "credentials.json").read_text()).items():
        own = folder / node
        own.mkdir(exist_ok=True)
        if node == "lnd":
            # The name is fixed. What is in it is the macaroon that lnd made for this stack.
            (own / "admin.macaroon").write_bytes(bytes.fromhex(credential))
        else:
            (own / "rune").write_text(f'LIGHTNING_RUNE="{credential}"\n')


if __name__ == "__main__":
    prepare(*map(Path, sys.argv[1:]))
