# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm stack status` says of certificates; tests/cli/test_instances.py has instances."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bcm_cli import status
from bcm_cli.datacenter import DataCenter

NOW = datetime(2026, 11, 29, 16, tzinfo=UTC)
CERTIFICATES = [
    {"name": "portal", "not_after": "2026-12-29T15:00:00+00:00"},
    {"name": "electrs", "not_after": "2026-12-20T15:00:00+00:00"},
    {"name": "laptop", "not_after": "2026-12-01T15:00:00+00:00"},
]


@pytest.mark.parametrize(
    ("instances", "lists_end", "renewal"),
    [
        (["portal", "electrs"], "2026-12-25T15:00:00+00:00", ("2026-12-20T15:00:00+00:00", 20, "electrs")),
        (["portal"], "2026-12-25T15:00:00+00:00", ("2026-12-25T15:00:00+00:00", 25, "portal")),
        (["portal"], "", ("2026-12-29T15:00:00+00:00", 29, "portal")),
        (["bitcoind"], "2026-12-25T15:00:00+00:00", None),
        ([], "", None),
    ],
)  # fmt: skip
def test_first_end_of_a_certificate_or_a_list_needs_a_run(
    monkeypatch: pytest.MonkeyPatch, instances: list[str], lists_end: str, renewal: tuple[str, int, str] | None
) -> None:
    report = {"certificates": CERTIFICATES, "lists_end": lists_end}
    authority = SimpleNamespace(read_database=lambda: None, now=NOW)
    monkeypatch.setattr(status.ca_session, "read_only", lambda _datacenter: authority)
    monkeypatch.setattr(status, "authority_report", lambda *_given: report)
    found = status.find_renewal(DataCenter("local"), instances)
    assert found == (renewal and dict(zip(("end", "days_left", "stack"), renewal, strict=True)))


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (10, "Certificates are renewed by runs, the next of which has to be by 2026-12-20"),
        (9, "Warning: certificates end on 2026-12-20"),
        (-1, "Warning: certificates have ended on 2026-12-20"),
    ],
)
def test_end_of_a_certificate_is_warned_of_in_time(left: int, said: str) -> None:
    renewal: dict[str, Any] = {"end": CERTIFICATES[1]["not_after"], "days_left": left, "stack": "electrs"}
    assert status._due(renewal) == said
