# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of bridges as people are given them, and as they come out of their hands."""

from __future__ import annotations

import pytest

from ansible_collections.bcm.core.plugins.module_utils._tor.bridges import faults

FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
OBFS4 = f"obfs4 192.0.2.1:443 {FINGERPRINT} cert={'a/+' * 23}b iat-mode=0"
SNOWFLAKE = (
    f"snowflake 192.0.2.3:80 {FINGERPRINT} fingerprint={FINGERPRINT} url=https://broker.example/ "
    "front=www.example.com ice=stun:stun.example.org:3478,stun:203.0.113.1:3478 utls-imitate=random"
)
HOSTS = {"www.example.com": "198.51.100.1", "stun.example.org": "198.51.100.3"}


@pytest.mark.parametrize("line", ["192.0.2.1:443", f"192.0.2.1:443 {FINGERPRINT}", OBFS4, SNOWFLAKE])
def test_valid_bridge_lines_are_accepted(line: str) -> None:
    assert faults([line], HOSTS) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "words with one space between them"),
        (f"{OBFS4} ", "words with one space between them"),
        (f"{OBFS4}\nControlPort 9051", "words with one space between them"),
        (f"{OBFS4} #x", "without quotes and comments"),
        (f"Bridge {OBFS4}", 'the transport "Bridge" is none of obfs4, snowflake'),
        ("meek_lite 192.0.2.1:80 url=https://a.example", 'the transport "meek_lite" is none of'),
        ("obfs4", "ADDRESS:PORT is missing"),
        (OBFS4.replace(":443", ""), "ADDRESS:PORT is missing"),
        (OBFS4.replace(":443", ":70000"), "ADDRESS:PORT is missing"),
        (OBFS4.replace("192.0.2.1", "[2001:db8::1]"), "its address is of IPv6, which does not leave a data center"),
        (OBFS4.replace("192.0.2.1", "bridge.example"), "its address is no IPv4 address"),
        (OBFS4.replace("0123", "123", 1), "its fingerprint has not 40 hex digits"),
        (OBFS4.replace(" iat-mode=0", ""), "obfs4 needs cert= with 70 characters, and iat-mode="),
        (OBFS4.replace("b iat", " iat"), "obfs4 needs cert= with 70 characters"),
        (f"{OBFS4} more", "only KEY=VALUE may follow"),
        ("192.0.2.1:443 iat-mode=0", "a bridge without a transport takes no KEY=VALUE"),
        (SNOWFLAKE.replace(" url=", " uri="), "snowflake needs url= of a broker and ice= with STUN servers"),
        (SNOWFLAKE.replace("front=", "fronts="), "Debian's snowflake knows no fronts="),
        (SNOWFLAKE.replace("stun:203", "turn:203"), '"turn:203.0.113.1:3478" of ice= is not stun:HOST:PORT'),
    ],
)
def test_invalid_bridge_lines_are_refused(line: str, said: str) -> None:
    (fault,) = faults([OBFS4, line], HOSTS)
    assert fault.startswith("line 2 of tor_bridges: ") and said in fault


def test_names_that_snowflake_needs() -> None:
    def missing(line: str) -> str:
        (fault,) = faults([line], {})
        return fault.removeprefix("line 1 of tor_bridges: tor_hosts has no address of ").partition(", and")[0]

    assert missing(SNOWFLAKE) == "www.example.com, stun.example.org"
    direct = SNOWFLAKE.replace("front=www.example.com ", "")
    assert missing(direct) == "broker.example, stun.example.org"
    assert missing(f"{direct} ampcache=https://cache.example/") == "cache.example, stun.example.org"


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({"www": "192.0.2.1"}, 'tor_hosts: "www" is not a name of a host'),
        ({"a.example b": "192.0.2.1"}, "is not a name of a host"),
        ({"a.example": "b.example"}, 'tor_hosts: "b.example" is no IPv4 address'),
        ({"a.example": "2001:db8::1"}, "is no IPv4 address"),
    ],
)
def test_invalid_hosts_are_refused(hosts: dict[str, str], said: str) -> None:
    (fault,) = faults([], hosts)
    assert said in fault
