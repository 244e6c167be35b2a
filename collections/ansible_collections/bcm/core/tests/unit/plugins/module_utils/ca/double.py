# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Trezor in software: speaks wire protocol v1 over UDP to trezorlib's own transport, as the emulators do.

``python3 double.py --port 21324 --settings settings.json --log confirmations.jsonl`` runs it for other programs. The
settings are the fields of `Settings`; the file is read again when it changes. Each line of the log is a confirmation.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
import threading
import unicodedata
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from trezorlib import messages as m
from trezorlib import tools
from trezorlib.mapping import DEFAULT_MAPPING
from trezorlib.protobuf import MessageType

HARDENED = 1 << 31
#: position of the keypad -> digit shown there, on the model without a keypad of its own
MATRIX = "319642875"
#: how many sessions a device remembers
SESSIONS = 10
CHUNK = 64

Workflow = Generator[MessageType, MessageType, MessageType]


@dataclass
class Settings:
    """What kind of device it is and what the person in front of it does."""

    #: T1B1 (Model One) or T2T1 (Model T)
    model: str = "T1B1"
    version: tuple[int, int, int] = (1, 14, 1)
    mnemonic: str = " ".join(["all"] * 12)
    label: str = "double"
    initialized: bool = True
    bootloader: bool = False
    passphrase_protection: bool = True
    passphrase_always_on_device: bool = False
    #: what the person types when the device asks for a passphrase; the last one again and again
    typed: list[str] = field(default_factory=lambda: ["dc1 passphrase"])
    pin: str = "1234"
    locked: bool = False
    #: what becomes of each confirmation in turn, and "confirm" when there are no more: cancel; hang (nobody is there);
    #: vanish (unplugged); truncate (unplugged in the middle of its answer); deaf (answers nothing any more)
    answers: list[str] = field(default_factory=list)


class Refused(Exception):
    """The device answers with a failure."""

    def __init__(self, code: m.FailureType, message: str) -> None:
        super().__init__(message)
        self.failure = m.Failure(code=code, message=message)


class _Gone(Exception):
    """The cable is out."""


# --- keys: SLIP-0010, SLIP-0013, RFC 6979 --------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A name that trezorlib knows and the key of SLIP-0010's HMAC; the rest for curves of Weierstrass' form only."""

    name: str
    seed: bytes
    kind: Callable[[], ec.EllipticCurve] | None = None
    p: int = 0
    a: int = 0
    n: int = 0


CURVES = {
    curve.name: curve
    for curve in (
        Curve(
            "secp256k1",
            b"Bitcoin seed",
            ec.SECP256K1,
            2**256 - 2**32 - 977,
            0,
            0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
        ),
        Curve(
            "nist256p1",
            b"Nist256p1 seed",
            ec.SECP256R1,
            2**256 - 2**224 + 2**192 + 2**96 - 1,
            -3,
            0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        ),
        Curve("ed25519", b"ed25519 seed"),
        Curve("curve25519", b"curve25519 seed"),
    )
}


@dataclass(frozen=True)
class Node:
    """A private key of the tree, and where it is."""

    curve: Curve
    key: bytes
    chain_code: bytes
    depth: int = 0
    parent: bytes = bytes(4)
    number: int = 0

    @classmethod
    def master(cls, curve: Curve, seed: bytes) -> Node:
        digest = hmac.digest(curve.seed, seed, "sha512")
        return cls(curve, digest[:32], digest[32:])

    def at(self, path: list[int]) -> Node:
        node = self
        for number in path:
            node = node.child(number)
        return node

    def child(self, number: int) -> Node:
        data = b"\0" + self.key if number & HARDENED else self.public_key
        digest = hmac.digest(self.chain_code, data + struct.pack(">I", number), "sha512")
        key = digest[:32]
        if self.curve.n:
            key = ((int.from_bytes(key, "big") + int.from_bytes(self.key, "big")) % self.curve.n).to_bytes(32, "big")
        return Node(self.curve, key, digest[32:], self.depth + 1, self.fingerprint, number)

    @property
    def public_key(self) -> bytes:
        """33 bytes; those of Edwards' and Montgomery's curves begin with 0."""
        if self.curve.name == "ed25519":
            return b"\0" + ed25519.Ed25519PrivateKey.from_private_bytes(self.key).public_key().public_bytes_raw()
        if self.curve.name == "curve25519":
            return b"\0" + x25519.X25519PrivateKey.from_private_bytes(self.key).public_key().public_bytes_raw()
        return _times_generator(self.curve, int.from_bytes(self.key, "big")).public_bytes(
            Encoding.X962, PublicFormat.CompressedPoint
        )

    @property
    def fingerprint(self) -> bytes:
        return tools.hash_160(self.public_key)[:4]

    def sign(self, digest: bytes) -> tuple[int, bytes]:
        """Recovery id and r, s; Ed25519 has no recovery id."""
        if self.curve.name == "ed25519":
            return 0, ed25519.Ed25519PrivateKey.from_private_bytes(self.key).sign(digest)
        n, secret, hashed = self.curve.n, int.from_bytes(self.key, "big"), int.from_bytes(digest, "big")
        nonce = _rfc6979(self.key, (hashed % n).to_bytes(32, "big"), n)
        point = _times_generator(self.curve, nonce).public_numbers()
        r, parity = point.x % n, point.y & 1
        s = pow(nonce, -1, n) * (hashed + r * secret) % n
        if s > n // 2:
            s, parity = n - s, parity ^ 1
        return parity, r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def shared(self, peer: bytes) -> bytes:
        """The ECDH secret as the device gives it away: a whole point."""
        if self.curve.name == "curve25519":
            own = x25519.X25519PrivateKey.from_private_bytes(self.key)
            return b"\x04" + own.exchange(x25519.X25519PublicKey.from_public_bytes(peer[1:]))
        assert self.curve.kind is not None
        point = ec.EllipticCurvePublicKey.from_encoded_point(self.curve.kind(), peer).public_numbers()
        x, y = _times(self.curve, int.from_bytes(self.key, "big"), (point.x, point.y))
        return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def _times_generator(curve: Curve, scalar: int) -> ec.EllipticCurvePublicKey:
    assert curve.kind is not None
    return ec.derive_private_key(scalar, curve.kind()).public_key()


def _times(curve: Curve, scalar: int, point: tuple[int, int]) -> tuple[int, int]:
    """Double and add, since `cryptography` gives the x of a shared point only; the scalar is below the order."""
    result = point
    for bit in bin(scalar)[3:]:
        result = _add(curve, result, result)
        if bit == "1":
            result = _add(curve, result, point)
    return result


def _add(curve: Curve, one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    if one == two:
        slope = (3 * one[0] ** 2 + curve.a) * pow(2 * one[1], -1, curve.p) % curve.p
    else:
        slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, curve.p) % curve.p
    x = (slope**2 - one[0] - two[0]) % curve.p
    return x, (slope * (one[0] - x) - one[1]) % curve.p


def _rfc6979(key: bytes, digest: bytes, order: int) -> int:
    k, v = bytes(32), b"\1" * 32
    for byte in b"\0\1":
        k = hmac.digest(k, v + bytes([byte]) + key + digest, "sha256")
        v = hmac.digest(k, v, "sha256")
    while True:
        v = hmac.digest(k, v, "sha256")
        if 0 < int.from_bytes(v, "big") < order:
            return int.from_bytes(v, "big")
        k = hmac.digest(k, v + b"\0", "sha256")
        v = hmac.digest(k, v, "sha256")


@lru_cache
def seed(mnemonic: str, passphrase: str) -> bytes:
    words, salt = (unicodedata.normalize("NFKD", text).encode() for text in (mnemonic, f"mnemonic{passphrase}"))
    return hashlib.pbkdf2_hmac("sha512", words, salt, 2048)


def uri(identity: m.IdentityType) -> str:
    text = f"{identity.proto}://" if identity.proto else ""
    text += f"{identity.user}@" if identity.user else ""
    text += identity.host or ""
    text += f":{identity.port}" if identity.port else ""
    return text + (identity.path or "")


def path_of(identity: m.IdentityType, purpose: int) -> list[int]:
    digest = hashlib.sha256(struct.pack("<I", identity.index or 0) + uri(identity).encode()).digest()
    return [purpose | HARDENED, *(number | HARDENED for number in struct.unpack("<4I", digest[:16]))]


# --- the device ------------------------------------------------------------------------------------------------------


class Double:
    """One device at a port of UDP on this machine; `confirmations` is what it showed and what came of it."""

    def __init__(self, settings: Settings | None = None, port: int = 0) -> None:
        self.settings = settings or Settings()
        self.confirmations: list[dict[str, Any]] = []
        self.sessions: dict[bytes, str | None] = {}
        self.port = port
        self.before: Callable[[], None] = lambda: None
        self.told: Callable[[dict[str, Any]], None] = self.confirmations.append
        self._session: bytes | None = None
        self._workflow: Workflow | None = None
        self._deaf = self._truncate = False
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def path(self) -> str:
        return f"udp:127.0.0.1:{self.port}"

    def __enter__(self) -> Double:
        self.plug()
        return self

    def __exit__(self, *_details: object) -> None:
        self.unplug()

    def plug(self) -> None:
        """Connect it; what it held in memory is gone."""
        self.sessions.clear()
        self._session = self._workflow = None
        self._deaf = self._truncate = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=[self._socket], daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Pull the cable, if nobody did yet."""
        self._socket = None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.sendto(b"", ("127.0.0.1", self.port))  # closing a socket does not wake whoever waits for a packet
        self.wait()

    def wait(self) -> None:
        """Until somebody pulls the cable."""
        if self._thread is not None:
            self._thread.join()

    def _serve(self, plugged: socket.socket) -> None:
        with plugged, contextlib.suppress(_Gone):
            while plugged is self._socket:
                self._packet(plugged)

    def _received(self, plugged: socket.socket) -> tuple[bytes, Any]:
        """The next packet; a bridge asks before each one whether anybody is there."""
        packet, caller = plugged.recvfrom(CHUNK)
        while packet == b"PINGPING":
            if not self._deaf:
                plugged.sendto(b"PONGPONG", caller)
            packet, caller = plugged.recvfrom(CHUNK)
        return packet, caller

    def _packet(self, plugged: socket.socket) -> None:
        packet, caller = self._received(plugged)
        if not packet.startswith(b"?##"):
            return
        kind, length = struct.unpack(">HL", packet[3:9])
        data = packet[9:]
        while len(data) < length:
            more, _caller = self._received(plugged)
            if not more:
                return
            data += more[1:]
        self.before()
        reply = self._deaf or self._answer(DEFAULT_MAPPING.decode(kind, data[:length]))
        if isinstance(reply, MessageType):
            kind, data = DEFAULT_MAPPING.encode(reply)
            whole = b"##" + struct.pack(">HL", kind, len(data)) + data
            for start in range(0, len(whole), CHUNK - 1):
                plugged.sendto((b"?" + whole[start : start + CHUNK - 1]).ljust(CHUNK, b"\0"), caller)
                if self._truncate:
                    raise _Gone

    def _answer(self, message: MessageType) -> MessageType | None:
        if isinstance(message, (m.Cancel, m.Initialize)) and self._workflow is not None:
            self._workflow.close()
            self._workflow = None
        try:
            if self._workflow is None:
                self._workflow = self._start(message)
                reply = next(self._workflow)
            else:
                reply = self._workflow.send(message)
        except StopIteration as finished:
            reply, self._workflow = finished.value, None
        except Refused as refused:
            reply, self._workflow = refused.failure, None
        # a workflow that waits for somebody who is not there answers nothing, and only Cancel ends it
        return reply if reply is not _SILENCE else None

    def _start(self, message: MessageType) -> Workflow:
        handlers: dict[type[MessageType], Callable[[Any], Workflow]] = {
            m.Initialize: self._initialize,
            m.GetFeatures: self._features,
            m.Cancel: self._cancel,
            m.Ping: self._ping,
            m.EndSession: self._end_session,
            m.LockDevice: self._lock,
            m.ApplyFlags: self._apply_flags,
            m.GetPublicKey: self._public_key,
            m.SignIdentity: self._sign_identity,
            m.GetECDHSessionKey: self._ecdh,
            m.CipherKeyValue: self._cipher,
        }
        handler = handlers.get(type(message))
        if handler is None:
            raise Refused(m.FailureType.UnexpectedMessage, "Unexpected message")
        if self.settings.model == "T1B1":
            _limits(message)
        return handler(message)

    # --- what it does without its keys ---

    def _initialize(self, message: m.Initialize) -> Workflow:
        wanted = message.session_id
        if wanted is None or wanted not in self.sessions:
            while len(self.sessions) >= SESSIONS:
                del self.sessions[next(iter(self.sessions))]
            wanted = os.urandom(32)
            self.sessions[wanted] = None
        self._session = wanted
        return (yield from self._features(message))

    def _features(self, _message: MessageType) -> Workflow:
        yield from ()
        settings = self.settings
        capabilities = [m.Capability.Bitcoin, m.Capability.Crypto]
        features = m.Features(
            vendor="trezor.io",
            major_version=settings.version[0],
            minor_version=settings.version[1],
            patch_version=settings.version[2],
            bootloader_mode=settings.bootloader or None,
            device_id=hashlib.sha256(f"{settings.label} {settings.mnemonic}".encode()).hexdigest()[:24].upper(),
            label=settings.label,
            initialized=settings.initialized,
            model={"T1B1": "1", "T2T1": "T"}[settings.model],
            internal_model=settings.model,
            pin_protection=bool(settings.pin),
            unlocked=not settings.locked,
            capabilities=capabilities + [m.Capability.PassphraseEntry] * (settings.model != "T1B1"),
            session_id=self._session,
        )
        if not settings.locked:  # private until then
            features.passphrase_protection = settings.passphrase_protection
            features.passphrase_always_on_device = settings.passphrase_always_on_device
        return features

    def _cancel(self, _message: m.Cancel) -> Workflow:
        yield from ()
        raise Refused(m.FailureType.ActionCancelled, "Aborted")

    def _ping(self, message: m.Ping) -> Workflow:
        if message.button_protection:
            yield from self._confirm("ping", [message.message or ""])
        return m.Success(message=message.message or "")

    def _end_session(self, _message: m.EndSession) -> Workflow:
        yield from ()
        if self._session is not None:
            self.sessions.pop(self._session, None)
            self._session = None
        return m.Success(message="Session ended")

    def _lock(self, _message: m.LockDevice) -> Workflow:
        yield from ()
        self.settings.locked = bool(self.settings.pin)
        return m.Success(message="Session cleared")

    def _apply_flags(self, _message: m.ApplyFlags) -> Workflow:
        yield from self._unlock()
        return m.Success(message="Flags applied")

    # --- what it asks the person ---

    def _confirm(self, kind: str, screen: list[str], code: m.ButtonRequestType = m.ButtonRequestType.Other) -> Workflow:
        acknowledged = yield m.ButtonRequest(code=code)
        if not isinstance(acknowledged, m.ButtonAck):
            raise Refused(m.FailureType.UnexpectedMessage, "Unexpected message")
        answer = self.settings.answers.pop(0) if self.settings.answers else "confirm"
        self.told({"kind": kind, "screen": screen, "answer": answer})
        if answer == "cancel":
            raise Refused(m.FailureType.ActionCancelled, "Action cancelled by user")
        if answer == "vanish":
            raise _Gone
        self._truncate, self._deaf = answer == "truncate", answer == "deaf"
        while answer in ("hang", "deaf"):
            yield _SILENCE
        return acknowledged

    def _unlock(self) -> Workflow:
        if not self.settings.initialized:
            raise Refused(m.FailureType.NotInitialized, "Device not initialized")
        if not self.settings.locked:
            return _SILENCE
        if self.settings.model == "T1B1":
            entered = yield m.PinMatrixRequest(type=m.PinMatrixRequestType.Current)
            if not isinstance(entered, m.PinMatrixAck):
                raise Refused(m.FailureType.UnexpectedMessage, "Unexpected message")
            if "".join(MATRIX[int(place) - 1] for place in entered.pin) != self.settings.pin:
                raise Refused(m.FailureType.PinInvalid, "PIN invalid")
        else:
            yield from self._confirm("pin", ["Enter PIN"], m.ButtonRequestType.PinEntry)
        self.settings.locked = False
        return _SILENCE

    def _passphrase(self) -> Generator[MessageType, MessageType, str]:
        """That of the session, asked for when it is first needed."""
        if self._session is None:
            raise Refused(m.FailureType.InvalidSession, "Invalid session")
        known = self.sessions[self._session]
        if known is None:
            known = (yield from self._ask_passphrase()) if self.settings.passphrase_protection else ""
            self.sessions[self._session] = known
        return known

    def _ask_passphrase(self) -> Generator[MessageType, MessageType, str]:
        own_keys = self.settings.model != "T1B1"
        if not (own_keys and self.settings.passphrase_always_on_device):
            given = yield m.PassphraseRequest()
            if not isinstance(given, m.PassphraseAck):
                raise Refused(m.FailureType.UnexpectedMessage, "Unexpected message")
            if not (own_keys and given.on_device):
                passphrase = given.passphrase
                if passphrase is None or len(passphrase.encode()) > 50:
                    raise Refused(m.FailureType.DataError, "Invalid passphrase")
                for text in ("Access hidden wallet?", "Use this passphrase?") if passphrase else ():
                    yield from self._confirm("passphrase", [text])
                return passphrase
        yield from self._confirm("passphrase", ["Enter passphrase"], m.ButtonRequestType.PassphraseEntry)
        typed = self.settings.typed
        return typed.pop(0) if len(typed) > 1 else typed[0]

    # --- what it does with its keys ---

    def _node(self, curve: str | None, path: list[int]) -> Generator[MessageType, MessageType, Node]:
        yield from self._unlock()
        passphrase = yield from self._passphrase()
        return Node.master(CURVES[curve or "secp256k1"], seed(self.settings.mnemonic, passphrase)).at(path)

    def _public_key(self, message: m.GetPublicKey) -> Workflow:
        node = yield from self._node(message.ecdsa_curve_name, message.address_n)
        root = yield from self._node(message.ecdsa_curve_name, [])
        if message.show_display:
            yield from self._confirm("public_key", [node.public_key.hex()], m.ButtonRequestType.PublicKey)
        serialized = struct.pack(">IB4sI", 0x0488B21E, node.depth, node.parent, node.number)
        return m.PublicKey(
            node=m.HDNodeType(
                depth=node.depth,
                fingerprint=int.from_bytes(node.parent, "big"),
                child_num=node.number,
                chain_code=node.chain_code,
                public_key=node.public_key,
            ),
            xpub=tools.b58check_encode(serialized + node.chain_code + node.public_key),
            root_fingerprint=int.from_bytes(root.fingerprint, "big"),
        )

    def _sign_identity(self, message: m.SignIdentity) -> Workflow:
        identity, curve = message.identity, message.ecdsa_curve_name or "secp256k1"
        hidden, visual = message.challenge_hidden or b"", message.challenge_visual or ""
        node = yield from self._node(curve, path_of(identity, 13))
        yield from self._confirm("sign", self._screen(identity, visual))
        weierstrass = bool(node.curve.n)
        known = identity.proto in ("gpg", "ssh", "signify")
        if known and weierstrass and (identity.proto == "signify" or (identity.proto == "gpg" and len(hidden) != 32)):
            if self.settings.model == "T1B1":
                raise Refused(m.FailureType.ProcessError, "fsm_msg_crypto.h:170:Error signing identity")
            raise Refused(m.FailureType.FirmwareError, "Firmware error")
        if not known:
            both = hashlib.sha256(hidden).digest() + hashlib.sha256(visual.encode()).digest()
            data = tools.btc_hash(b"\x18Bitcoin Signed Message:\n" + tools.compact_size(len(both)) + both)
        else:
            data = hashlib.sha256(hidden).digest() if weierstrass and identity.proto == "ssh" else hidden
        parity, signature = node.sign(data)
        # of a compressed key, as Bitcoin's signed messages have it; the One says so of Ed25519 too
        prefix = 0 if known or not (weierstrass or self.settings.model == "T1B1") else 31 + parity
        return m.SignedIdentity(
            address=tools.public_key_to_bc_address(node.public_key, 0) if curve == "secp256k1" else None,
            public_key=node.public_key,
            signature=bytes([prefix]) + signature,
        )

    def _screen(self, identity: m.IdentityType, visual: str) -> list[str]:
        host = (identity.host or "") + (f":{identity.port}" if identity.port else "")
        user, kind = identity.user or "", (identity.proto or "").upper()
        if self.settings.model == "T1B1":
            who = [f"user: {user}"] if user else []
            return [f"{kind} sign for:", host, *who, visual[:21], "Do you want to sign in?"]
        return [f"Sign {kind}", visual, (f"{user}@" if user else "") + host + (identity.path or "")]

    def _ecdh(self, message: m.GetECDHSessionKey) -> Workflow:
        node = yield from self._node(message.ecdsa_curve_name, path_of(message.identity, 17))
        yield from self._confirm("ecdh", ["Decrypt", uri(message.identity)])
        return m.ECDHSessionKey(session_key=node.shared(message.peer_public_key), public_key=node.public_key)

    def _cipher(self, message: m.CipherKeyValue) -> Workflow:
        """SLIP-0011."""
        node = yield from self._node("secp256k1", message.address_n)
        if len(message.value) % 16:
            raise Refused(m.FailureType.DataError, "Value length must be a multiple of 16")
        asked = message.ask_on_encrypt if message.encrypt else message.ask_on_decrypt
        if asked:
            yield from self._confirm("cipher", ["Encrypt value" if message.encrypt else "Decrypt value", message.key])
        how = f"E{int(bool(message.ask_on_encrypt))}D{int(bool(message.ask_on_decrypt))}"
        derived = hmac.digest(node.key, (message.key + how).encode(), "sha512")
        cipher = Cipher(algorithms.AES(derived[:32]), modes.CBC(message.iv or derived[32:48]))
        worker = cipher.encryptor() if message.encrypt else cipher.decryptor()
        return m.CipheredKeyValue(value=worker.update(message.value) + worker.finalize())


#: no answer at all
_SILENCE = m.Success(message="")

_LIMITS = {"proto": 8, "user": 63, "host": 63, "port": 5, "path": 255, "challenge_visual": 255}


def _limits(message: MessageType) -> None:
    """The fixed buffers of the Model One."""
    if isinstance(message, (m.SignIdentity, m.GetECDHSessionKey)):
        for holder in (message.identity, message):
            for name, most in _LIMITS.items():
                if len((getattr(holder, name, None) or "").encode()) > most:
                    raise Refused(m.FailureType.DataError, "messages.c:232:string overflow")
    if isinstance(message, m.SignIdentity) and len(message.challenge_hidden or b"") > 512:
        raise Refused(m.FailureType.DataError, "messages.c:232:bytes overflow")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="A Trezor in software, for tests.")
    parser.add_argument("--port", type=int, default=21324)
    parser.add_argument("--settings", type=Path, help="JSON, read again when it changes")
    parser.add_argument("--log", type=Path, help="where each confirmation becomes a line of JSON")
    options = parser.parse_args(arguments)
    double = Double(port=options.port)
    stamp = 0

    def refresh() -> None:
        nonlocal stamp
        if options.settings and options.settings.stat().st_mtime_ns != stamp:
            stamp = options.settings.stat().st_mtime_ns
            content = json.loads(options.settings.read_text(encoding="utf-8"))
            double.settings = replace(Settings(), **content)

    def told(confirmation: dict[str, Any]) -> None:
        if options.log:
            with open(options.log, "a", encoding="utf-8") as log:
                log.write(json.dumps(confirmation) + "\n")

    double.before, double.told = refresh, told
    double.plug()
    double.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
