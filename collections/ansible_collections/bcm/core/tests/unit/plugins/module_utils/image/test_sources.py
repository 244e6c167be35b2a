# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._image.sources import (
    Mirrors,
    apt_conf,
    apt_options,
    check_in_reach_of_tor,
    loopback,
    mirrors,
)
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.image.conftest import Machine

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
def test_unusable_stanzas_are_ignored(apt: Path, stanza: str) -> None:
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
    given = {"image_apt_options": ["Acquire::Check-Valid-Until=false", "Acquire::http::Proxy=http://192.0.2.1:1"]}
    assert apt_conf(apt_options(given)) == (
        'Acquire::Check-Valid-Until "false";\nAcquire::http::Proxy "http://192.0.2.1:1";\n'
    )


DUMP = """\
APT "";
APT::Architecture "amd64";
APT::Authentication::TrustCDROM "0";
APT::Get::AllowUnauthenticated "true";
Acquire "";
Acquire::AllowInsecureRepositories "1";
Acquire::AllowDowngradeToInsecureRepositories "1";
Acquire::AllowWeakRepositories "1";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Max-ValidTime "";
Acquire::Max-ValidTime::Debian "864000";
Acquire::Retries "7";
Acquire::ForceIPv4 "true";
Acquire::http "";
Acquire::http::Proxy "http://192.0.2.1:3142/";
Acquire::http::Proxy::deb.example.org "DIRECT";
Acquire::http::Proxy-Auto-Detect "/usr/local/bin/detect";
Acquire::http::Timeout "10";
Acquire::https::Verify-Peer "true";
Acquire::https::CaInfo "/etc/own.pem";
Acquire::https::deb.example.org::SslKey "/etc/own.key";
Acquire::Languages "";
Acquire::Languages:: "none";
Acquire::IndexTargets::deb::Packages::Optional "0";
Acquire::GzipIndexes "true";
DPkg::Post-Invoke:: "rm -rf /var/cache/apt || true";
Dir::Etc::sourcelist "/elsewhere";
"""


def test_options_of_the_machine_for_downloads_are_used(machine: Machine) -> None:
    machine.set(DUMP)
    assert apt_options({}) == {
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Check-Date": "false",
        "Acquire::Max-ValidTime::Debian": "864000",
        "Acquire::Retries": "7",
        "Acquire::ForceIPv4": "true",
        "Acquire::http::Proxy": "http://192.0.2.1:3142/",
        "Acquire::http::Proxy::deb.example.org": "DIRECT",
        "Acquire::http::Timeout": "10",
        "Acquire::https::Verify-Peer": "true",
    }
    over = apt_options({"image_apt_options": ["acquire::HTTP::proxy=DIRECT"]})
    assert (over["acquire::HTTP::proxy"], "Acquire::http::Proxy" in over) == ("DIRECT", False)


def test_a_machine_without_apt_has_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert apt_options({}) == {}


def test_through_tor_debian_is_reached_at_its_onion_services(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    onions = mirrors({}, apt, through_tor=True)
    assert onions is not None and onions.security is not None
    assert [urlsplit(uri).hostname or "" for uri in (onions.archive, onions.security)] == [
        "2s4yqjx5ul6okpp3f2gaunr2syex5jgbfpfvhxxbbjwnrsvbk5v3qbid.onion",
        "5ajw6aqf3ep7sijnscdzw77t7xq4xjpsy335yb2wiwgouo7yfxtjlmid.onion",
    ]
    # the machine's own do not count, what a person says does
    assert mirrors({"image_security_mirror": ""}, apt, through_tor=True) == Mirrors(onions.archive, None)
    told = {"image_mirror": "http://192.0.2.5/own"}
    assert mirrors(told, apt, through_tor=True) == Mirrors("http://192.0.2.5/own", None)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"image_mirror": "http://192.168.1.5/debian"}, "image_mirror has 192.168.1.5, and Tor leads to no private"),
        ({"image_mirror": "http://[fd00::1]:80/debian"}, "image_mirror has fd00::1"),
        ({"image_security_mirror": "http://127.0.0.1:3142/s"}, "image_security_mirror has 127.0.0.1"),
        ({"image_sources": [{"suite": "x", "mirror": "http://10.1.2.3/own"}]}, "image_sources has 10.1.2.3"),
    ],
)
def test_mirrors_where_tor_does_not_lead(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BcmError, match=re.escape(complaint)):
        check_in_reach_of_tor(settings)


def test_mirrors_where_tor_leads() -> None:
    check_in_reach_of_tor({"image_mirror": "http://mirror.example.org/debian", "image_security_mirror": ""})
    check_in_reach_of_tor({"image_mirror": "http://192.0.2.5/debian", "image_sources": [{"suite": "x"}]})


def test_tor_is_the_only_proxy_of_builders_without_another_route() -> None:
    given = ["Acquire::Check-Valid-Until=false", "Acquire::http::Proxy=http://192.0.2.1:1"]
    given += ["Acquire::https::Proxy::deb.example.org=DIRECT", "acquire::HTTP::proxy-auto-detect=/bin/x"]
    assert apt_options({"image_apt_options": given}, "10.80.16.9:9050") == {
        "Acquire::Check-Valid-Until": "false",
        "Acquire::http::Proxy": "socks5h://10.80.16.9:9050",
        "Acquire::https::Proxy": "socks5h://10.80.16.9:9050",
    }


@pytest.mark.parametrize("option", ["Acquire::Check-Valid-Until", 'A="b"', "=b", 'A "b"; B=c', "A=b\nB=c"])
def test_malformed_apt_options_are_refused(option: str) -> None:
    with pytest.raises(BcmError, match="Name::Part=value"):
        apt_options({"image_apt_options": [option]})


def test_an_option_that_is_refused_does_not_show_its_password() -> None:
    with pytest.raises(BcmError, match=r'"Acquire::http::Proxy http://192.0.2.1" is not an option') as refused:
        apt_options({"image_apt_options": ["Acquire::http::Proxy http://me:secret@192.0.2.1"]})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "at"),
    [
        ("http://localhost:3142/", "127.0.0.1:3142"),
        ("http://me:secret@127.0.0.1:3142", "127.0.0.1:3142"),
        ("http://127.0.1.9/debian", "127.0.1.9:80"),
        ("https://[::1]/debian", "[::1]:443"),
        ("socks5h://127.0.0.1:9050", "127.0.0.1:9050"),
        ("http://192.0.2.1:3142", None),
        ("http://cache.example.org", None),
        ("http://127.0.0.1:x", None),
        ("DIRECT", None),
        ("false", None),
        ("", None),
    ],
)
def test_loopback_urls_are_recognized(url: str, at: str | None) -> None:
    assert loopback(url) == at
