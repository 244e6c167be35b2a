# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of hypothesis, and servers that are quiet about clients that hang up."""

from __future__ import annotations

import os
import socketserver
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine, and no folder of its own in the repository.
settings.register_profile("bcm", database=None, derandomize=True, deadline=None)
# Other examples in each run, for who has time: see CONTRIBUTING.md.
_OTHERS = {"derandomize": False, "suppress_health_check": list(HealthCheck)}
settings.register_profile("long", settings.get_profile("bcm"), **_OTHERS)  # type: ignore[arg-type]
settings.load_profile("long" if "BCM_FUZZ" in os.environ else "bcm")


@pytest.fixture(scope="session", autouse=True)
def quiet_servers() -> Iterator[None]:
    """Servers of tests say nothing when a client hangs up, as the tests have it do."""
    report = socketserver.BaseServer.handle_error

    def handle_error(server: socketserver.BaseServer, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            report(server, request, client_address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socketserver.BaseServer, "handle_error", handle_error)
        yield
