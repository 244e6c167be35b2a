# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that the page says how high the chain is."""

from __future__ import annotations

import json
import sys
import time
import urllib.request


def main() -> None:
    expected = json.load(sys.stdin)
    deadline = time.monotonic() + expected["deadline"]
    while True:
        try:
            with urllib.request.urlopen(expected["page"], timeout=10) as answer:
                text = answer.read().decode()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"hello: {expected['page']} does not answer: {error}")
            time.sleep(0.2)
    if not text.startswith(expected["greeting"]):
        sys.exit(f"hello: the page says {text.strip()}")
    print(json.dumps({"notes": [text.strip()], "warnings": []}))


main()
