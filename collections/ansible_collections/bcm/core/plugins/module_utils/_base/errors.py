# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one base of all errors whose message is written for a person."""

from __future__ import annotations


class BcmError(Exception):
    """What went wrong, with the thing, the fault and the remedy in the message; carries no secret."""
