# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the ledger writes rows and reads them."""

import os
import subprocess

from bcm_guest.prove import Fault, Report, Stack, prove

_ROW = "CREATE TABLE IF NOT EXISTS started (at timestamptz DEFAULT now()); INSERT INTO started DEFAULT VALUES;"


def look(stack: Stack) -> Report:
    command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "service=ledger", "-c", f"{_ROW} SELECT count(*) FROM started"]
    environment = {**os.environ, "HOME": "/root"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise Fault(done.stderr.strip())
    return Report({"rows": int(done.stdout.split()[-1])})


prove(look)
