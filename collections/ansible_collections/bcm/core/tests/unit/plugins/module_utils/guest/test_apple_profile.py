# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What phones and computers of Apple find in a profile."""

from __future__ import annotations

import plistlib
import ssl
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._guest.apple_profile import client_profile, root_profile

ROOTS = (b"\x30\x82first", b"\x30\x82second")
PEM = "".join(ssl.DER_cert_to_PEM_cert(content) for content in ROOTS)
PLACES = ("PayloadUUID", "PayloadIdentifier")


def parts(profile: bytes) -> list[dict[str, Any]]:
    """The profile and its payloads, each with an identity of its own."""
    found = plistlib.loads(profile)
    every = [found, *found["PayloadContent"]]
    for place in PLACES:
        assert len({item[place] for item in every}) == len(every)
    return every


def test_profile_has_the_roots() -> None:
    whole, *payloads = parts(root_profile("home", PEM))
    assert whole["PayloadType"] == "Configuration"
    assert [item["PayloadContent"] for item in payloads] == list(ROOTS)
    assert {item["PayloadType"] for item in payloads} == {"com.apple.security.root"}


def test_profile_of_a_client_has_its_certificate_and_the_roots() -> None:
    _whole, *payloads, own = parts(client_profile("home", PEM, "alice@portal", b"archive", "word"))
    assert [item["PayloadContent"] for item in payloads] == list(ROOTS)
    assert (own["PayloadType"], own["PayloadContent"], own["Password"]) == (
        "com.apple.security.pkcs12", b"archive", "word",
    )  # fmt: skip


def test_same_input_makes_the_same_bytes() -> None:
    assert root_profile("home", PEM) == root_profile("home", PEM)


def test_profiles_of_two_clients_and_the_root_do_not_replace_each_other() -> None:
    profiles = [client_profile("home", PEM, name, b"archive", "word") for name in ("alice@portal", "bob@portal")]
    found = [item[PLACES[1]] for profile in (*profiles, root_profile("home", PEM)) for item in parts(profile)]
    assert len(set(found)) == len(found)
