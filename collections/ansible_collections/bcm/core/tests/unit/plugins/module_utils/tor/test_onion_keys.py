# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._tor import onion_keys

# RFC 8032, section 7.1, tests 1 to 3
ED25519 = {
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60": (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    ),
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb": (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    ),
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7": (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    ),
}
FIRST = bytes.fromhex(next(iter(ED25519)))
# tor's own unit tests (test_hs_common.c) have the address of the first
ADDRESS = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid.onion"
# RFC 7748, section 6.1
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(("seed", "public"), ED25519.items())
def test_keys_of_seeds(seed: str, public: str) -> None:
    key = onion_keys.new_key(bytes.fromhex(seed))
    assert key.public.hex() == public
    assert onion_keys.parse_key(key.text, "a") == key


def test_the_address_of_a_key() -> None:
    key = onion_keys.new_key(FIRST)
    assert key.address == ADDRESS
    assert onion_keys.public_of(ADDRESS, "a") == key.public


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_keys_are_those_that_the_library_computes(seed: bytes) -> None:
    key = onion_keys.new_key(seed)
    assert onion_keys.parse_key(base64_of(key.secret_file), "a") == key
    assert onion_keys.check_files("a", key.secret_file, key.public_file, f"{key.address}\n") == key


def test_a_key_is_not_shown() -> None:
    key, client = onion_keys.new_key(FIRST), onion_keys.new_client(FIRST)
    assert base64_of(key.secret)[:20] not in f"{key!r}"
    assert client.text[:20] not in f"{client!r}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("§", "is not Base64"),
        (base64_of(b"-----BEGIN RSA PRIVATE KEY-----"), "is malformed, it is no such file of tor's, version 3"),
        (base64_of(onion_keys.new_key(FIRST).public_file), "is malformed, it is a public key"),
        (base64_of(onion_keys.new_key(FIRST).secret_file[:-1]), "is malformed, it has 63 bytes instead of 64"),
        (f"ED25519-V3:{base64_of(FIRST)}", "is malformed, it has 32 bytes instead of 64"),
        (f"ED25519-V3:{base64_of(b'1' * 64)}", "is foreign"),
    ],
)
def test_invalid_keys_are_refused(text: str, message: str) -> None:
    with pytest.raises(BcmError, match=f"^The key of service web {message}"):
        onion_keys.parse_key(text, "service web")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        # tor's own unit tests (test_hs_common.c, test_validate_address)
        ("blah", "it is not 56 letters"),
        ("l5satjgud6gucryazcyvyvhuxhr74u6ygigiuyixe3a6ysis67ororad", "its checksum is wrong"),
        ("btojiu7nu5y5iwut64eufevogqdw4wmqzugnoluw232r4t3ecsfv37ad", "its checksum is wrong"),
        ("????????????????????????????????????????????????????????", "its version is not 3"),
        (ADDRESS.replace("id.onion", "ie.onion"), "its version is not 3"),
        (ADDRESS.replace("25nj", "35nj"), "its checksum is wrong"),
    ],
)
def test_invalid_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(BcmError, match=f"is not an onion address of service web: {message}"):
        onion_keys.public_of(address, "service web")


def test_a_key_of_another_address() -> None:
    key, other = onion_keys.new_key(FIRST), onion_keys.new_key()
    onion_keys.check_address(key, ADDRESS.upper().replace(".ONION", ""), "web")
    with pytest.raises(BcmError, match=f"^The key of web is that of {ADDRESS}, not of {other.address}"):
        onion_keys.check_address(key, other.address, "web")
    with pytest.raises(BcmError, match=r"^The public and the secret key of web do not belong together"):
        onion_keys.check_files("web", key.secret_file, other.public_file, key.address)
    with pytest.raises(BcmError, match=r"^The key of web is that of"):
        onion_keys.check_files("web", key.secret_file, key.public_file, other.address)


def test_keys_of_clients() -> None:
    client = onion_keys.new_client(bytes.fromhex(ALICE))
    assert client.public.hex() == ALICE_PUBLIC
    line = client.client_line(ADDRESS)
    assert line == f"{ADDRESS[:56]}:descriptor:x25519:{client.text}\n"
    assert onion_keys.parse_client(line.rsplit(":", 1)[1], "alice") == client
    kind, encoded = client.service_line.rsplit(":", 1)
    assert kind == "descriptor:x25519"
    assert base64.b32decode(f"{encoded.strip()}====") == client.public
    for text in ("abc", client.text[:-2], "1" * 52):
        with pytest.raises(BcmError, match=r"^The key of client alice is not an x25519 key in Base32"):
            onion_keys.parse_client(text, "client alice")
