# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nginx says with the pages of Lightning Charge."""

from __future__ import annotations

import re

from tests.support import COLLECTION


def test_pages_for_customers_may_load_nothing_from_elsewhere() -> None:
    """Their style would ask for fonts."""
    text = (COLLECTION / "roles/lightning_charge/templates/nginx.conf.j2").read_text()
    (block,) = re.findall(r"location ~ \^/\(checkout\|static\)/ \{(.*?)\n        \}", text, re.S)
    (policy,) = re.findall(r'add_header Content-Security-Policy "(.*)" always;', block)
    sources = {source for directive in policy.split("; ") for source in directive.split()[1:]}
    assert "default-src 'self'" in policy and sources == {"'self'", "'unsafe-inline'", "data:"}
