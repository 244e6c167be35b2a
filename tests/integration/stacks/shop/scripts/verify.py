# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that mint lets shop in with the token that it has."""

import json
from pathlib import Path

from bcm_guest.prove import Fault, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    token = Path("/etc/shop/token").read_text()
    if token != stack.secret("mint", "rest"):
        raise Fault("it has another token than it was given")
    status, text = http_request(stack.need("mint", "rest"), headers={"Token": token})
    if status != 200:
        raise Fault(f"mint answers with status {status}")
    return Report({"may": json.loads(text)}, [f"may {', '.join(json.loads(text))}"])


prove(look)
