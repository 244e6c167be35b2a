# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._image.sources import Mirrors, apt_options, mirrors

DEB822 = """\
# a comment
Types: deb deb-src
# http://192.0.2.9/archive/debian
URIs: http://192.0.2.1/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://192.0.2.1/debian-security
Suites: bookworm-security
Components: main contrib
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "etc/sources.list.d").mkdir(parents=True)
    return tmp_path / "etc"


def found(apt: Path, settings: dict[str, str | None] | None = None) -> Mirrors | None:
    return mirrors(settings or {}, apt, apt / "lists")


def test_deb822(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    assert found(apt) == Mirrors("http://192.0.2.1/debian", "http://192.0.2.1/debian-security")


def test_one_line(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://192.0.2.8/debian trixie main\n"
        "deb-src http://192.0.2.7/debian trixie main\n"
        "deb [arch=amd64 signed-by=/x/debian-archive-keyring.gpg] https://192.0.2.2/debian trixie main #\n"
        "deb http://192.0.2.3/debian-security trixie-security main non-free-firmware\n"
    )
    assert found(apt) == Mirrors("https://192.0.2.2/debian", "http://192.0.2.3/debian-security")


@pytest.mark.parametrize(
    "line",
    [
        "deb https://192.0.2.1/ubuntu noble main",
        "deb [signed-by=/etc/apt/keyrings/docker.asc] https://192.0.2.1/linux/debian bookworm main",
        "deb https://192.0.2.1/linux/debian bookworm stable",
        "deb cdrom:[Debian 13]/debian trixie main",
        "deb file:/srv/debian trixie main",
        "deb",
    ],
)
def test_others_are_not_debian(apt: Path, line: str) -> None:
    (apt / "sources.list").write_text(f"{line}\n")
    assert found(apt) is None


@pytest.mark.parametrize(
    "stanza", ["Enabled: no", "Types: deb-src", "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----"]
)
def test_stanzas_that_do_not_count(apt: Path, stanza: str) -> None:
    text = "Types: deb\nURIs: http://192.0.2.1/debian\nSuites: trixie\nComponents: main\n"
    (apt / "sources.list.d/x.sources").write_text(f"{text}{stanza}\n")
    assert found(apt) is None


@pytest.mark.parametrize(("origin", "counts"), [("Debian", True), ("Raspberry Pi Foundation", False)])
def test_origin_that_apt_has_read_decides(apt: Path, origin: str, counts: bool) -> None:
    (apt / "sources.list").write_text("deb [signed-by=/x/any.gpg] http://192.0.2.1/my_own/debian trixie main\n")
    (apt / "lists").mkdir()
    (apt / "lists/192.0.2.1_my%5fown_debian_dists_trixie_InRelease").write_text(f"Hash: SHA256\nOrigin: {origin}\n")
    assert (found(apt) is not None) is counts


def test_files_that_apt_does_not_read(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources.save").write_text(DEB822)
    assert found(apt) is None


def test_a_machine_without_apt(tmp_path: Path) -> None:
    assert mirrors({}, tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"image_mirror": "http://192.0.2.5/debian/"},
            Mirrors("http://192.0.2.5/debian", "http://192.0.2.5/debian-security"),
        ),
        (
            {"image_mirror": "http://192.0.2.5/debian", "image_security_mirror": ""},
            Mirrors("http://192.0.2.5/debian", None),
        ),
        ({"image_mirror": "http://192.0.2.5/own"}, Mirrors("http://192.0.2.5/own", None)),
        (
            {"image_mirror": "http://192.0.2.5/debian/{snapshot}", "image_snapshot": "20261101T000000Z"},
            Mirrors(
                "http://192.0.2.5/debian/20261101T000000Z", "http://192.0.2.5/debian-security/20261101T000000Z", True
            ),
        ),
        ({"image_security_mirror": "http://192.0.2.6/s/"}, Mirrors("http://192.0.2.1/debian", "http://192.0.2.6/s")),
    ],
)
def test_settings_come_first(apt: Path, settings: dict[str, str | None], expected: Mirrors) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    assert found(apt, settings) == expected


def test_snapshot_without_a_place_for_it(apt: Path) -> None:
    with pytest.raises(BcmError, match=r"image_mirror has no place for it.*\{snapshot\}"):
        found(apt, {"image_snapshot": "20261101T000000Z", "image_mirror": "http://192.0.2.5/debian"})


def test_lines() -> None:
    assert Mirrors("http://192.0.2.1/debian", None).lines() == [
        "deb http://192.0.2.1/debian trixie main",
        "deb http://192.0.2.1/debian trixie-updates main",
    ]
    assert (
        Mirrors("a", "s", snapshot=True).lines("/k")[2]
        == "deb [check-valid-until=no signed-by=/k] s trixie-security main"
    )


def test_apt_options() -> None:
    assert apt_options(
        {"image_apt_options": ["Acquire::Check-Valid-Until=false", "Acquire::http::Proxy=http://192.0.2.1:1"]}
    ) == [
        'Acquire::Check-Valid-Until "false"',
        'Acquire::http::Proxy "http://192.0.2.1:1"',
    ]


@pytest.mark.parametrize("option", ["Acquire::Check-Valid-Until", 'A="b"', "=b", 'A "b"; B=c'])
def test_apt_options_that_are_none(option: str) -> None:
    with pytest.raises(BcmError, match="Name::Part=value"):
        apt_options({"image_apt_options": [option]})
