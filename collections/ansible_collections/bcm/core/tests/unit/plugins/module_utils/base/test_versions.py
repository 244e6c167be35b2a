# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.versions import FOUND, order, satisfies


def floor(*versions: str) -> dict[str, object]:
    return {"versions": list(versions), "why": "faults"}


@pytest.mark.parametrize(
    ("version", "floors", "good"),
    [
        ("31.1", ["31.1", "30.3", "29.4"], True),
        ("31.0", ["31.1", "30.3", "29.4"], False),
        ("32", ["31.1", "30.3", "29.4"], True),
        ("30.3.1", ["31.1", "30.3", "29.4"], True),
        ("30.2.9", ["31.1", "30.3", "29.4"], False),
        ("29.4.knots20260508", ["31.1", "30.3", "29.4"], True),
        ("29.3.knots20260508", ["31.1", "30.3", "29.4"], False),
        ("28.99", ["31.1", "30.3", "29.4"], False),
        ("v0.11.1", ["0.11.1"], True),
        ("0.11", ["0.11.1"], False),
        ("0.9.10", ["0.9.9"], True),
        ("31.0.0", ["31"], True),
        ("31", ["31.0.0"], True),
        ("0.4.8.22", ["0.4.9.5", "0.4.8.22"], True),
        ("0.4.9.4", ["0.4.9.5", "0.4.8.22"], False),
        ("0.4.7.99", ["0.4.9.5", "0.4.8.22"], False),
        ("0.21.2", ["31.1", "0.21.2", "0.20.5"], True),
        ("0.21.1", ["31.1", "0.21.2", "0.20.5"], False),
        ("31.1rc2", ["31.1"], False),
        ("v31.1-rc2", ["31.1", "30.3"], False),
        ("31.2rc1", ["31.1"], True),
        ("31.1.0~rc1", ["31.1"], False),
        ("0.4.9.14~rc1", ["0.4.9.14", "0.4.8.30"], False),
        ("0.4.9.14-rc", ["0.4.9.14"], False),
        ("0.4.9.14-alpha-dev", ["0.4.9.14"], False),
        ("4.8.0b1", ["4.8.0"], False),
        ("4.8.0.dev3", ["4.8.0"], False),
        ("4.8.0+dfsg", ["4.8.0"], True),
        ("31.1.0-a1b2c3d4e5f6", ["31.1"], True),
        ("31.1rc2", ["31.1rc2"], True),
        ("31.1rc1", ["31.1rc2"], False),
        ("31.1rc10", ["31.1rc2"], True),
        ("31.1", ["31.1rc2"], True),
        ("0.21.3-beta", ["0.21.3-beta"], True),
        ("0.21.2-beta", ["0.21.3-beta"], False),
        ("0.22.0-beta", ["0.21.3-beta"], True),
        ("0.21.3-beta.rc1", ["0.21.3-beta"], False),
        ("0.21.3-beta-rc1", ["0.21.3-beta"], False),
        ("0.21.4-beta.rc1", ["0.21.3-beta"], True),
        ("0.21.3-beta.rc2", ["0.21.3-beta.rc1"], True),
        ("0.21.3-beta", ["0.21.3-beta.rc1"], True),
        ("0.21.3-beta", ["0.21.3"], False),
        ("0.21.3-beta.1", ["0.21.3-beta"], True),
    ],
)
def test_satisfies(version: str, floors: list[str], good: bool) -> None:
    assert satisfies(version, floor(*floors)) is good


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("lnd version 0.21.3-beta commit=v0.21.3-beta", "0.21.3-beta"),
        ("lnd version 0.21.3-beta.rc1 commit=v0.21.3-beta.rc1-2-gabc", "0.21.3-beta.rc1"),
        ("Bitcoin Core daemon version v31.1rc2", "31.1rc2"),
        ("Tor version 0.4.9.14-alpha-dev (git-1a2b)", "0.4.9.14-alpha-dev"),
        ("electrs 4.8.0b1.", "4.8.0b1"),
        ("v31.1.0-a1b2c3d4e5f6", "31.1.0"),
    ],
)
def test_version_in_the_output_of_a_program(output: str, version: str) -> None:
    found = FOUND.search(output)
    assert found and found.group() == version


@pytest.mark.parametrize("version", ["latest", "", "31.1\n", "٣١.١", "1" * 5000, "31.1 or so"])
def test_invalid_versions_are_refused(version: str) -> None:
    with pytest.raises(BcmError, match="is not a version"):
        satisfies(version, floor("1"))


@pytest.mark.parametrize("version", ["", "1:0\n", "1" * 5000, "1.0/2"])
def test_versions_without_an_order_are_refused(version: str) -> None:
    with pytest.raises(BcmError, match="is not a version"):
        order(version)
