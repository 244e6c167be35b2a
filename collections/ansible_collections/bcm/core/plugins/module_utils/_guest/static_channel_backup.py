# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Core Lightning's ``emergency.recover``: ``bcm_guest.static_channel_backup``.

A stream of libsodium with one message, `static_chan_backup_with_tlvs`, which has the channels.

Source: plugins/chanbackup.c and common/scb_wire.csv of Core Lightning 26.06.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import struct

_LIBRARY = "libsodium.so.23"
#: of crypto_secretstream_xchacha20poly1305
_HEADER, _MORE = 24, 17
#: type, version, time, number of channels
_START = struct.Struct(">HQIH")
_TYPE = 6137
#: before the address: number, channel_id, node_id; after it: transaction, output, satoshi
_BEFORE, _AFTER = 8 + 32 + 33, 32 + 4 + 8
_ADDRESSES = {1: 4, 2: 16, 3: 10, 4: 35}
_DNS = 5
_PORT = 2


def secret_of(words: str) -> bytes:
    """The secret of the backups of a wallet, by its recovery words (BIP 39, no passphrase): `scb secret` of hsmd."""
    key = hashlib.pbkdf2_hmac("sha512", " ".join(words.split()).encode(), b"mnemonic", 2048)
    for purpose in (b"derived secrets", b"scb secret"):
        # HKDF (RFC 5869) without a salt, and of one block
        extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
        key = hmac.new(extracted, purpose + b"\1", hashlib.sha256).digest()
    return key


def decrypted(content: bytes, secret: bytes) -> bytes:
    """The message in a file. Raises ValueError if it is not of the node with this secret, and OSError."""
    if len(content) < _HEADER + _MORE:
        raise ValueError("it is too short")
    sodium = ctypes.CDLL(_LIBRARY)
    stream = "crypto_secretstream_xchacha20poly1305"
    state = ctypes.create_string_buffer(sodium[f"{stream}_statebytes"]())
    header, sealed = content[:_HEADER], content[_HEADER:]
    message = ctypes.create_string_buffer(len(sealed) - _MORE)
    size = ctypes.c_ulonglong(len(sealed))
    if sodium[f"{stream}_init_pull"](state, header, secret) or sodium[f"{stream}_pull"](
        state, message, None, None, sealed, size, None, ctypes.c_ulonglong(0)
    ):
        raise ValueError("it is not of this node, or damaged")
    return message.raw


def channels(message: bytes) -> list[bytes]:
    """The channels of a message, as `recoverchannel` takes them, without what is known of their state.

    Raises ValueError if it has another form.
    """
    try:
        kind, _version, _time, number = _START.unpack_from(message)
        if kind != _TYPE:
            raise ValueError(f"it is a message {kind}")
        place, found = _START.size, []
        for _channel in range(number):
            begin = place
            place = _after_address(message, place + _BEFORE) + _AFTER
            place += 2 + _number(message, place, 2)  # the type of the channel
            found.append(message[begin:place] + bytes(4))
            place += 4 + _number(message, place, 4)
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError(f"it ends too early, or has an address of another kind: {error!r}") from error
    if place != len(message):
        raise ValueError(f"it has {len(message)} bytes, and its channels end at {place}")
    return found


def _after_address(message: bytes, place: int) -> int:
    kind = message[place]
    if kind == _DNS:
        return place + 2 + message[place + 1] + _PORT
    return place + 1 + _ADDRESSES[kind] + _PORT


def _number(message: bytes, place: int, size: int) -> int:
    if place + size > len(message):
        raise IndexError(place)
    return int.from_bytes(message[place : place + size])
