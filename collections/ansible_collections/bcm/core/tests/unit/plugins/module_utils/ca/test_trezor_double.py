# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The device port, driven over real UDP, and the double beside what official emulators answered."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificate
from trezorlib import btc, misc, transport
from trezorlib import exceptions as wire
from trezorlib import messages as m
from trezorlib.client import AppManifest, get_client
from trezorlib.transport import bridge

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca import device_transport, trezor
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity
from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import DeviceError, Trezor
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca import double as doubles
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import MATRIX, Double, Settings

VECTORS = json.loads((Path(__file__).parent / "data/trezor_vectors.json").read_text(encoding="utf-8"))
PASSPHRASE = "dc1 passphrase"
IDENTITY = Identity("dc1.example", 1)
SHOWN = "root g1 3f9a11c2"
ONE, T = Settings(model="T1B1", version=(1, 14, 1)), Settings(model="T2T1", version=(2, 3, 6))
BOTH = {"T1B1-1.14.1": ONE, "T2T1-2.3.6": T}


@pytest.fixture(autouse=True)
def _alone_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("TREZOR_PATH", "BCM_TREZOR_SESSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def plug() -> Iterator[Callable[..., Double]]:
    """Plugs in a device with these settings."""
    plugged = []

    def plug(settings: Settings = ONE, **changes: Any) -> Double:
        double = Double(Settings(**{**vars(settings), "answers": [], "typed": [PASSPHRASE], **changes}))
        plugged.append(double)
        return double.__enter__()

    yield plug
    for double in plugged:
        double.unplug()


class Person:
    """Who types into pinentry, and what they are told."""

    def __init__(self, *typed: str) -> None:
        self.typed, self.asked, self.told = list(typed or [PASSPHRASE]), [], []

    def ask(self, prompt: str, _description: str, _seconds: float) -> str:
        self.asked.append(prompt)
        return self.typed.pop(0) if len(self.typed) > 1 else self.typed[0]


def open_trezor(double: Double, person: Person | None = None, **options: Any) -> Trezor:
    person = person or Person()
    return Trezor(double.path, **{"ask": person.ask, "say": person.told.append, "patience": 1.0, **options})


def shown(double: Double, kind: str = "sign") -> list[list[str]]:
    return [confirmation["screen"] for confirmation in double.confirmations if confirmation["kind"] == kind]


def stranger() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


# --- the double beside the emulators ---------------------------------------------------------------------------------


class Emulated:
    """trezorlib itself on a double, with a session for each passphrase."""

    def __init__(self, double: Double) -> None:
        self.client = get_client(AppManifest("test"), transport.get_transport(double.path))
        self.sessions: dict[str, Any] = {}

    def __getitem__(self, passphrase: str) -> Any:
        if passphrase not in self.sessions:
            self.sessions[passphrase] = self.client.get_session(passphrase)
        return self.sessions[passphrase]

    def sign(self, vector: dict[str, Any], **changes: Any) -> Any:
        fields = {"challenge_visual": "DC1 root", **vector, **changes}
        return misc.sign_identity(
            self[fields["passphrase"]],
            m.IdentityType(**fields["identity"]),
            bytes.fromhex(fields["challenge_hidden"]),
            fields["challenge_visual"],
            fields["curve"],
        )


@pytest.fixture(params=BOTH)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def emulated(plug: Callable[..., Double], model: str) -> Emulated:
    return Emulated(plug(BOTH[model]))


def test_double_opens_the_wallets(emulated: Emulated) -> None:
    found = {passphrase: emulated[passphrase].get_root_fingerprint().hex() for passphrase in VECTORS["passphrases"]}
    assert found == VECTORS["passphrases"]


def test_double_signs_every_vector(emulated: Emulated, model: str) -> None:
    for vector in VECTORS["signatures"]:
        assert doubles.path_of(m.IdentityType(**vector["identity"]), 13) == vector["path"]
        if "failure" in vector:
            with pytest.raises(wire.TrezorFailure, match=f"^{re.escape(vector['failure'][model])}$"):
                emulated.sign(vector)
            continue
        own = vector.get(f"signature_{model.replace('-', '_')}", vector["signature"])
        answer = emulated.sign(vector)
        found = (answer.public_key.hex(), answer.signature.hex(), answer.address)
        assert found == (vector["public_key"], own, vector["address"])


def test_double_has_the_public_nodes(emulated: Emulated) -> None:
    paths = {vector["uri"]: vector["path"] for vector in VECTORS["signatures"]}
    for vector in VECTORS["get_public_node"]:
        curve = vector["curve"]
        answer = btc.get_public_node(emulated[vector["passphrase"]], paths[vector["uri"]], ecdsa_curve_name=curve)
        found = (answer.node.public_key.hex(), answer.root_fingerprint)
        assert found == (vector["public_key"], vector["root_fingerprint"])


def test_double_shares_secrets(emulated: Emulated) -> None:
    for vector in VECTORS["ecdh"]:
        assert vector["uri"] == "gpg://dc1.example"
        identity = m.IdentityType(proto="gpg", host="dc1.example", index=0)
        assert doubles.path_of(identity, 17) == vector["path"]
        session, peer = emulated[vector["passphrase"]], bytes.fromhex(vector["peer_public_key"])
        answer = misc.get_ecdh_session_key(session, identity, peer, vector["curve"])
        assert (answer.session_key.hex(), answer.public_key.hex()) == (vector["session_key"], vector["public_key"])


def test_double_ciphers(emulated: Emulated) -> None:
    for vector in VECTORS["cipher_key_value"]:
        how = (vector["path"], vector["key"])
        asked = {name: vector[name] for name in ("ask_on_encrypt", "ask_on_decrypt")}
        session = emulated[vector["passphrase"]]
        cipher = misc.encrypt_keyvalue(session, *how, bytes.fromhex(vector["plain"]), **asked)
        assert cipher.hex() == vector["cipher"]
        assert misc.decrypt_keyvalue(session, *how, cipher, **asked).hex() == vector["plain"]


def test_double_has_the_limits(emulated: Emulated, model: str) -> None:
    for limit in VECTORS["limits"][model[:4]]:
        identity: dict[str, Any] = {"proto": limit.get("proto", "ssh"), "host": "dc1.example", "index": 0}
        vector = {"passphrase": "", "identity": identity, "curve": limit.get("curve", "nist256p1")}
        if "max_ok" in limit:
            emulated.sign(vector, challenge_hidden="00" * limit["max_ok"])
        if "field" in limit:
            holder = vector if limit["field"] == "challenge_visual" else identity
            holder[limit["field"]] = "/" * limit["len"]
        length = limit.get("fails_at") or limit.get("digest_len") or 32
        fault = limit.get("error", f"TrezorFailure: {limit.get('result', 'ok')}").removeprefix("TrezorFailure: ")
        if fault == "ok":
            emulated.sign(vector, challenge_hidden="00" * length)
        else:
            with pytest.raises(wire.TrezorFailure, match=f"^{re.escape(fault)}$"):
                emulated.sign(vector, challenge_hidden="00" * length)


def test_double_signs_certificates(emulated: Emulated, model: str) -> None:
    for vector in VECTORS["x509"]:
        certificate = load_pem_x509_certificate(vector["pem"].encode())
        assert certificate.tbs_certificate_bytes.hex() == vector["tbs"]
        assert hashlib.sha256(certificate.tbs_certificate_bytes).hexdigest() == vector["challenge_hidden"]
        signature = emulated.sign(vector).signature
        numbers = (int.from_bytes(signature[1:33], "big"), int.from_bytes(signature[33:], "big"))
        assert trezor.encode_dss_signature(*numbers).hex() == vector["signature"]


def test_double_has_the_keys_of_agents(emulated: Emulated) -> None:
    """What trezor-agent and trezor-gpg made of the emulators' answers: the SSH keys, and the OpenPGP fingerprints."""

    def public_key(identity: m.IdentityType, curve: str) -> bytes:
        path = doubles.path_of(identity, 13)
        node = btc.get_public_node(emulated[PASSPHRASE], path, ecdsa_curve_name=curve).node
        assert (
            emulated.sign(
                {"passphrase": PASSPHRASE, "identity": vars(identity), "curve": curve}, challenge_hidden="00" * 32
            ).public_key
            == node.public_key
        )
        return bytes(node.public_key)

    ssh = m.IdentityType(proto="ssh", user="root", host="dc1.example", index=0)
    ed25519, p256 = (base64.b64decode(line.split()[1]) for line in VECTORS["ssh_agent"]["pubkeys"])
    assert ed25519.endswith(public_key(ssh, "ed25519")[1:])
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key(ssh, "nist256p1")).public_numbers()
    assert p256.endswith(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"))

    gpg = m.IdentityType(proto="gpg", user="DC1 Ops <ops", host="dc1.example>", index=0)
    algorithms = {"ed25519": (22, "092b06010401da470f01"), "nist256p1": (19, "082a8648ce3d030107")}
    for curve, fingerprint in VECTORS["gpg_agent"]["fingerprints"].items():
        key = public_key(gpg, curve)
        if curve == "ed25519":
            number = b"\x40" + key[1:]
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key).public_numbers()
            number = b"\x04" + point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
        algorithm, oid = algorithms[curve]
        bits = int.from_bytes(number, "big").bit_length().to_bytes(2, "big")
        packet = b"\x04" + bytes(4) + bytes([algorithm]) + bytes.fromhex(oid) + bits + number
        assert hashlib.sha1(b"\x99" + len(packet).to_bytes(2, "big") + packet).hexdigest().upper() == fingerprint


def test_double_forgets_the_oldest_session(plug: Callable[..., Double]) -> None:
    emulated = Emulated(plug())
    first = emulated[""]
    for number in range(doubles.SESSIONS):
        emulated.client.get_session(f"{number}")
    with pytest.raises(wire.InvalidSessionError):
        first.call(m.GetPublicKey(address_n=[]))


def test_double_as_a_program(tmp_path: Path) -> None:
    settings, log = tmp_path / "settings.json", tmp_path / "log"
    settings.write_text('{"label": "program"}')
    with Double() as free:
        port = free.port
    words = ["--port", str(port), "--settings", str(settings), "--log", str(log)]
    with subprocess.Popen([sys.executable, doubles.__file__, *words]) as program:
        try:
            path = f"udp:127.0.0.1:{port}"
            for _attempt in range(50):
                try:
                    transport.get_transport(path)
                    break
                except transport.TransportException:
                    time.sleep(0.1)
            person = Person()
            with Trezor(path, ask=person.ask, say=person.told.append) as used:
                root = used.root(IDENTITY, None)
                root.sign(b"tbs", SHOWN)
                settings.write_text('{"label": "program", "answers": ["cancel"]}')
                with pytest.raises(DeviceError, match='^Trezor "program": cancelled on the device'):
                    root.sign(b"tbs", SHOWN)
        finally:
            program.terminate()
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["kind"], line["answer"]) for line in said[2:]] == [("sign", "confirm"), ("sign", "cancel")]


# --- the port --------------------------------------------------------------------------------------------------------


def test_signs_as_the_root(plug: Callable[..., Double], model: str) -> None:
    double, person = plug(BOTH[model]), Person()
    with open_trezor(double, person, confirmations=2) as used:
        root = used.root(IDENTITY, None)
        for shown_text in (SHOWN, "inter g1 00000000"):
            root.public_key().verify(root.sign(b"tbs", shown_text), b"tbs", ec.ECDSA(hashes.SHA256()))
    assert root.identity == IDENTITY
    host = ["GPG sign for:", "dc1.example", "user: x509-root", SHOWN, "Do you want to sign in?"]
    own = ["Sign GPG", SHOWN, "x509-root@dc1.example/pki"]
    assert shown(double)[0] == (host if model.startswith("T1") else own)
    assert len(shown(double)) == 2
    assert person.told[-2:] == [
        f'Trezor "double": confirm 1 of 2: "{SHOWN}"',
        'Trezor "double": confirm 2 of 2: "inter g1 00000000"',
    ]
    # one session for all, asked for once, where the model lets it be typed
    assert len(shown(double, "passphrase")) == (2 if model.startswith("T1") else 1)
    assert len(person.asked) == (1 if model.startswith("T1") else 0)
    assert ("press twice" if model.startswith("T1") else "enter the passphrase") in person.told[0]


def test_signs_and_decrypts_for_agents(plug: Callable[..., Double]) -> None:
    # these vectors are of the wallet without passphrase, which the host never opens
    double, person = plug(T, typed=[""]), Person()
    signatures = [
        vector
        for vector in VECTORS["signatures"]
        if vector["identity"]["proto"] in ("gpg", "ssh") and vector["curve"] == "ed25519"
    ]
    with open_trezor(double, person) as used:
        for vector in signatures:
            assert used.public_key(vector["path"], "ed25519").hex() == vector["public_key"]
            challenge = bytes.fromhex(vector["challenge_hidden"])
            signature = used.sign_as(vector["identity"], "ed25519", challenge, "log in")
            assert signature.hex() == vector["signature"][2:]
        for vector in VECTORS["ecdh"]:
            peer = bytes.fromhex(vector["peer_public_key"])
            secret = used.shared_secret({"proto": "gpg", "host": "dc1.example"}, vector["curve"], peer)
            assert secret.hex() == vector["session_key"]
    assert (len(shown(double)), len(shown(double, "ecdh"))) == (4, 2)
    assert person.told[-3:] == [f'Trezor "double": confirm: "{text}"' for text in ("log in", "decrypt", "decrypt")]


def test_the_key_is_that_of_the_path_and_the_generation(plug: Callable[..., Double]) -> None:
    double = plug()
    with open_trezor(double) as used:
        keys = [used.root(Identity(domain, index), None).public_key() for domain in ("a.b", "a.c") for index in (1, 2)]
        vault = [used.vault_secret(domain) for domain in ("a.b", "a.c", "a.b")]
    node = doubles.Node.master(doubles.CURVES["nist256p1"], doubles.seed(double.settings.mnemonic, PASSPHRASE))
    expected = trezor._point(node.at(Identity("a.c", 2).numbers).public_key)
    assert keys[3] == expected
    assert len({key.public_numbers() for key in keys}) == 4
    assert (len(vault[0]), vault[0] == vault[2], vault[0] == vault[1]) == (64, True, False)


def test_ends_its_session(plug: Callable[..., Double], model: str) -> None:
    double = plug(BOTH[model])
    with open_trezor(double) as used:
        used.root(IDENTITY, None).sign(b"tbs", SHOWN)
        assert PASSPHRASE in double.sessions.values()
    assert set(double.sessions.values()) <= {None}


def test_another_process_of_the_run_asks_for_no_passphrase(
    plug: Callable[..., Double], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double, person, kept = plug(), Person(), tmp_path / "run/bcm/session"
    monkeypatch.setenv("BCM_TREZOR_SESSION", str(kept))
    with open_trezor(double, person) as used:
        secret = used.vault_secret("dc1.example")
    assert kept.stat().st_mode & 0o777 == 0o600
    with open_trezor(double, person, kept=kept) as used:
        assert used.vault_secret("dc1.example") == secret
        key = used.root(IDENTITY, None).public_key()
    assert len(person.asked) == 1
    # what was typed once is not good enough for a first root
    with open_trezor(double, person, kept=kept, first=True) as used:
        assert used.root(IDENTITY, None).public_key() == key
    assert len(person.asked) == 3
    open_trezor(double, kept=kept).end()
    assert not kept.exists()
    open_trezor(double, kept=kept).end()
    with open_trezor(double, person, kept=kept) as used:  # the first of another run
        used.root(IDENTITY, key)
    double.unplug()
    double.plug()
    with open_trezor(double, person, kept=kept) as used:  # has forgotten what was kept
        used.root(IDENTITY, key)
    assert len(person.asked) == 5
    double.unplug()
    open_trezor(double, kept=kept).end()
    assert not kept.exists()


def test_end_waits_while_another_process_uses_the_device(
    plug: Callable[..., Double], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double, kept, waited = plug(), tmp_path / "session", threading.Event()
    with open_trezor(double, kept=kept) as used:
        used.root(IDENTITY, None)
    monkeypatch.setattr(trezor.time, "sleep", lambda _seconds: waited.set())
    ending = threading.Thread(target=open_trezor(double, kept=kept).end)
    with device_transport.exclusive_use(double.path):
        ending.start()
        assert waited.wait(120)
        assert kept.exists()
    ending.join(120)
    assert not kept.exists()
    assert PASSPHRASE not in double.sessions.values()


def test_the_end_does_not_wait_for_ever(
    plug: Callable[..., Double], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double, kept = plug(), tmp_path / "session"
    with open_trezor(double, kept=kept) as used:
        used.root(IDENTITY, None)
    monkeypatch.setattr(trezor, "ANSWER", 0.0)
    with device_transport.exclusive_use(double.path):
        open_trezor(double, kept=kept).end()
    assert not kept.exists()


def test_a_wrong_passphrase_is_not_kept(plug: Callable[..., Double], tmp_path: Path) -> None:
    double, kept = plug(), tmp_path / "session"
    with pytest.raises(DeviceError, match="wrong passphrase"), open_trezor(double, kept=kept) as used:
        used.root(IDENTITY, stranger())
    assert not kept.exists()
    assert PASSPHRASE not in double.sessions.values()


def test_the_first_time_the_passphrase_is_asked_for_twice(plug: Callable[..., Double], model: str) -> None:
    double, person = plug(BOTH[model]), Person()
    with open_trezor(double, person, first=True) as used:
        used.root(IDENTITY, None)
    assert len(person.asked) == (2 if model.startswith("T1") else 0)
    assert len(shown(double, "passphrase")) == 2


@pytest.mark.parametrize("always", [False, True])
def test_two_different_passphrases(plug: Callable[..., Double], model: str, always: bool) -> None:
    double = plug(BOTH[model], typed=[PASSPHRASE, "other"], passphrase_always_on_device=always and model[1] == "2")
    person = Person(PASSPHRASE, "other")
    said = '^Trezor "double": the two passphrases differ: run it again'
    with pytest.raises(DeviceError, match=said), open_trezor(double, person, first=True) as used:
        used.root(IDENTITY, None)
    assert set(double.sessions.values()) <= {None}


def test_the_empty_passphrase(plug: Callable[..., Double], model: str) -> None:
    double = plug(BOTH[model], typed=[""])
    said = "the empty passphrase protects nothing"
    with pytest.raises(DeviceError, match=said), open_trezor(double, Person(""), first=True) as used:
        used.root(IDENTITY, None)


def test_a_passphrase_that_no_device_takes(plug: Callable[..., Double]) -> None:
    with pytest.raises(DeviceError, match="passphrases of 50 bytes"), open_trezor(plug(), Person("é" * 26)) as used:
        used.root(IDENTITY, None)


def test_a_locked_device(plug: Callable[..., Double], model: str) -> None:
    double = plug(BOTH[model], locked=True)
    person = Person("".join(str(MATRIX.index(digit) + 1) for digit in "1234"), PASSPHRASE)
    with open_trezor(double, person) as used:
        used.root(IDENTITY, None)
    assert not double.settings.locked


GONE = f'it answers no more while signing "{SHOWN}": unplug it, plug it in and run it again'
FAULTS: dict[str, tuple[Settings, dict[str, Any], str]] = {
    "protection-off": (ONE, {"passphrase_protection": False}, "does not ask for a passphrase: turn that on"),
    "protection-off-while-locked": (T, {"passphrase_protection": False, "locked": True}, "turn that on"),
    "wrong-pin": (ONE, {"locked": True, "pin": "99"}, "wrong PIN while unlocking it: run it again with the right one"),
    "not-unlocked": (T, {"locked": True, "answers": ["hang"]}, "got no answer .* while unlocking it: run it again"),
    "unlocking-cancelled": (T, {"locked": True, "answers": ["cancel"]}, "cancelled on the device while unlocking it"),
    "no-seed": (ONE, {"initialized": False}, "has no seed: set it up, or recover it"),
    "bootloader": (T, {"bootloader": True}, "is in its bootloader: unplug it"),
    "old-one": (ONE, {"version": (1, 12, 0)}, "has firmware 1.12.0, 1.12.1 is needed: update it"),
    "old-t": (T, {"version": (2, 3, 5)}, "has firmware 2.3.5, 2.3.6 is needed: update it"),
    "passphrase-cancelled": (ONE, {"answers": ["cancel"]}, "cancelled on the device while entering the passphrase"),
    "not-typed": (T, {"answers": ["hang"]}, "got no answer on its screen within 0.3 s while entering the pass"),
    "cancelled": (T, {"answers": ["confirm", "cancel"]}, f'cancelled .* signing "{SHOWN}": run it again and confirm'),
    "not-confirmed": (
        T,
        {"answers": ["confirm", "hang"]},
        f'got no answer on its screen within 0.3 s while signing "{SHOWN}"',
    ),
    "unplugged": (T, {"answers": ["confirm", "vanish"]}, GONE),
    "unplugged-inside": (T, {"answers": ["confirm", "truncate"]}, GONE),
    "crashed": (T, {"answers": ["confirm", "deaf"]}, GONE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(plug: Callable[..., Double], monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(device_transport, "ANSWER", 0.5)
    settings, changes, said = FAULTS[fault]
    double = plug(settings, **changes)
    person = Person("1234", PASSPHRASE) if "pin" in changes else Person()
    refused = pytest.raises(DeviceError, match=f'^Trezor "double".*{said}')
    with refused as raised, open_trezor(double, person, patience=0.3) as used:
        used.root(IDENTITY, None).sign(b"tbs", SHOWN)
    assert "\n" not in str(raised.value)
    assert PASSPHRASE not in double.sessions.values() or fault in ("unplugged", "unplugged-inside", "crashed")
    # mended, the next run completes
    double.unplug()
    double.settings = Settings(**{**vars(settings), "answers": [], "typed": [PASSPHRASE]})
    double.plug()
    with open_trezor(double) as used:
        used.root(IDENTITY, None).sign(b"tbs", SHOWN)


@pytest.mark.parametrize("answer", ["cancel", "hang"])
def test_the_same_device_is_usable_at_once(plug: Callable[..., Double], answer: str) -> None:
    double = plug(answers=["confirm", "confirm", answer])
    with open_trezor(double, patience=0.3) as used:
        root = used.root(IDENTITY, None)
        with pytest.raises(DeviceError):
            root.sign(b"tbs", SHOWN)
        root.sign(b"tbs", SHOWN)


def test_unplugged_between_signatures(plug: Callable[..., Double], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_transport, "ANSWER", 0.5)
    double = plug()
    with open_trezor(double) as used:
        root = used.root(IDENTITY, None)
        root.sign(b"tbs", SHOWN)
        double.unplug()
        with pytest.raises(DeviceError, match=f'lost while signing "{SHOWN}"'):
            root.sign(b"tbs", SHOWN)


def test_plugged_in_again_between_signatures(plug: Callable[..., Double]) -> None:
    double = plug()
    with open_trezor(double) as used:
        root = used.root(IDENTITY, None)
        double.unplug()
        double.plug()
        with pytest.raises(DeviceError, match="forgot the session .*: run it again"):
            root.sign(b"tbs", SHOWN)


def test_another_root(plug: Callable[..., Double]) -> None:
    double, other = plug(), plug(mnemonic=" ".join(["abandon"] * 11 + ["about"]), label="other")
    with open_trezor(double) as used:
        pinned = used.root(IDENTITY, None).public_key()
    for device_, person in ((other, Person()), (double, Person("wrong"))):
        with (
            pytest.raises(DeviceError, match="another key than the root of dc1.example: it is the wrong passphrase or"),
            open_trezor(device_, person) as used,
        ):
            used.root(IDENTITY, pinned)
        assert shown(device_) == []
    twin = plug(label="recovered")  # same seed and passphrase
    with open_trezor(twin) as used, open_trezor(double) as first:
        used.root(IDENTITY, pinned)
        assert used.vault_secret("dc1.example") == first.vault_secret("dc1.example")


def test_a_signature_that_is_wrong(plug: Callable[..., Double], monkeypatch: pytest.MonkeyPatch) -> None:
    double = plug()
    with open_trezor(double) as used:
        root = used.root(IDENTITY, None)
        sign = doubles.Node.sign
        monkeypatch.setattr(doubles.Node, "sign", lambda node, digest: sign(node, digest[::-1]))
        with pytest.raises(DeviceError, match="wrongly: it is damaged, or not what it seems"):
            root.sign(b"tbs", SHOWN)
        monkeypatch.setattr(doubles.Node, "sign", sign)
        monkeypatch.setattr(doubles, "path_of", lambda identity, purpose: [0])
        with pytest.raises(DeviceError, match="wrongly"):
            root.sign(b"tbs", SHOWN)


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "enumerate_devices", list)
    with pytest.raises(
        DeviceError, match="^Trezor: none is connected: plug it in and unlock it, or set bcm_ca_device, or TREZOR_PATH"
    ):
        Trezor().__enter__()
    for path in ("udp:127.0.0.1:9", "webusb", "nonsense"):
        with pytest.raises(DeviceError, match=f"^Trezor: none is at {path}: plug it in and unlock it, or correct"):
            Trezor(path).__enter__()


def test_which_device(plug: Callable[..., Double], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = plug(), plug(label="two")
    monkeypatch.setattr(transport, "enumerate_devices", lambda: [transport.get_transport(d.path) for d in (one, two)])
    for path in (None, "udp"):
        with pytest.raises(
            DeviceError, match=rf"^Trezor: 2 are connected \({one.path}, {two.path}\): unplug the others"
        ):
            Trezor(path).__enter__()
    monkeypatch.setenv("TREZOR_PATH", two.path)
    with Trezor() as used:
        assert used.name == 'Trezor "two"'


class Bridge(BaseHTTPRequestHandler):
    """Trezor's bridge as trezord 2.0.34 is, on whose USB is the double at `port`.

    It ends the session of whoever gives a read up, and knows no session that has ended. It reads while others write,
    but not twice at once.
    """

    port = 0
    line: socket.socket
    session: str | None = None
    sessions = 0
    lock, reading = threading.Lock(), threading.Lock()

    def do_POST(self) -> None:
        verb, *rest = self.path.strip("/").split("/")
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, answer = 200, getattr(self, f"_{verb}")(data, *rest)
        except ValueError as error:
            status, answer = 400, json.dumps({"error": str(error)}).encode()
        if answer is not None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_words: object) -> None:
        pass

    def _configure(self, _data: bytes) -> bytes:
        return b'{"version": "2.0.34"}'

    def _enumerate(self, _data: bytes) -> bytes:
        return json.dumps([{"path": "1", "session": self.session}]).encode()

    def _acquire(self, _data: bytes, _path: str, previous: str) -> bytes:
        with self.lock:
            if previous != (self.session or "null"):
                raise ValueError("wrong previous session")
            own = type(self)
            own.line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            own.line.connect(("127.0.0.1", self.port))
            own.sessions += 1
            own.session = str(own.sessions)
            return json.dumps({"session": own.session}).encode()

    def _release(self, _data: bytes, session: str) -> bytes:
        with self.lock:
            self._check(session)
            type(self).session = None
            self.line.close()
        return json.dumps({"session": session}).encode()

    def _check(self, session: str) -> None:
        if session != self.session:
            raise ValueError("session not found")

    def _post(self, data: bytes, session: str) -> bytes:
        self._check(session)
        whole = b"##" + bytes.fromhex(data.decode())
        for start in range(0, len(whole), 63):
            self.line.send((b"?" + whole[start : start + 63]).ljust(64, b"\0"))
        return b""

    def _read(self, _data: bytes, session: str) -> bytes | None:
        if not self.reading.acquire(blocking=False):
            raise ValueError("other call in progress")
        try:
            return self._answer_of_device(session)
        finally:
            self.reading.release()

    def _answer_of_device(self, session: str) -> bytes | None:
        self._check(session)
        ready: list[Any] = []
        while not ready:
            self._check(session)
            ready = select.select([self.line, self.connection], [], [], 0.02)[0]
        if self.connection in ready:
            with contextlib.suppress(ValueError):
                self._release(b"", session)
            return None
        packet = self.line.recv(64)[3:]
        length = 6 + int.from_bytes(packet[2:6], "big")
        while len(packet) < length:
            packet += self.line.recv(64)[1:]
        return packet[:length].hex().encode()


@pytest.fixture
def bridged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Double], None]]:
    """Puts a device behind a bridge."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Bridge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(bridge, "TREZORD_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(Bridge, "session", None)
        yield lambda double: monkeypatch.setattr(Bridge, "port", double.port)
        server.shutdown()


def test_through_the_bridge(plug: Callable[..., Double], bridged: Callable[[Double], None]) -> None:
    double, person = plug(answers=["confirm", "confirm", "confirm", "hang", "cancel"]), Person()
    bridged(double)
    with Trezor("bridge", ask=person.ask, patience=0.5) as used:
        root = used.root(IDENTITY, None)
        root.sign(b"tbs", SHOWN)
        with pytest.raises(DeviceError, match="got no answer on its screen within 0.5 s"):
            root.sign(b"tbs", SHOWN)
        with pytest.raises(DeviceError, match="cancelled on the device"):
            root.sign(b"tbs", SHOWN)
        root.sign(b"tbs", SHOWN)
    assert set(double.sessions.values()) <= {None}
    assert Bridge.session is None


def test_through_the_bridge_a_run_has_one_session(
    plug: Callable[..., Double], bridged: Callable[[Double], None], tmp_path: Path
) -> None:
    double, person = plug(), Person()
    bridged(double)
    kept = tmp_path / "session"
    for _process in range(2):
        with Trezor("bridge", ask=person.ask, kept=kept) as used:
            used.root(IDENTITY, None).sign(b"tbs", SHOWN)
    assert len(person.asked) == 1
    Trezor("bridge", kept=kept).end()
    assert set(double.sessions.values()) <= {None}


@pytest.mark.parametrize("through_bridge", [False, True])
def test_an_interrupt_clears_the_screen(
    plug: Callable[..., Double], bridged: Callable[[Double], None], through_bridge: bool
) -> None:
    double = plug()
    bridged(double)
    pressed = threading.Event()
    double.told = lambda confirmation: pressed.set() if confirmation["kind"] == "sign" else None
    double.settings.answers = ["confirm", "confirm", "hang"]

    def interrupt() -> None:
        pressed.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    path = "bridge" if through_bridge else double.path
    with pytest.raises(KeyboardInterrupt), Trezor(path, ask=Person().ask, patience=10) as used:
        used.root(IDENTITY, None).sign(b"tbs", SHOWN)
    assert double._workflow is None
    assert PASSPHRASE not in double.sessions.values()


def test_an_interrupt_while_a_read_begins_clears_the_screen(
    plug: Callable[..., Double], bridged: Callable[[Double], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that read still gets is not lost to whatever is asked next."""
    double = plug(answers=["confirm", "confirm", "hang"])
    bridged(double)
    begun: list[str] = []

    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            if begun:
                begun.append("one more")
            if len(begun) == 6:  # announced, opened, asked, told to ask the person, acknowledged that, and now it reads
                raise KeyboardInterrupt

    monkeypatch.setattr(device_transport, "threading", SimpleNamespace(Thread=Interrupted, Lock=threading.Lock))
    with pytest.raises(KeyboardInterrupt), Trezor("bridge", ask=Person().ask, patience=10) as used:
        root = used.root(IDENTITY, None)
        used._say = begun.append
        root.sign(b"tbs", SHOWN)
    assert double._workflow is None
    assert PASSPHRASE not in double.sessions.values()


def test_bridge_lists_devices_on_usb(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        def __init__(self, path: str) -> None:
            self.path, self.PATH_PREFIX = path, path.split(":")[0]

        def get_path(self) -> str:
            return self.path

    monkeypatch.setattr(transport, "enumerate_devices", lambda: [Named("webusb:001:1"), Named("bridge:1")])
    assert device_transport.find_device(None).get_path() == "bridge:1"
    assert device_transport.find_device("webusb").get_path() == "webusb:001:1"


def test_one_that_is_slow_to_answer_is_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as slow:
        slow.bind(("127.0.0.1", 0))
        slow.settimeout(10)

        def answer() -> None:
            for reply in (*[None] * 15, b"PONGPONG"):
                _question, caller = slow.recvfrom(64)
                if reply:
                    slow.sendto(reply, caller)

        thread = threading.Thread(target=answer)
        thread.start()
        path = f"udp:127.0.0.1:{slow.getsockname()[1]}"
        assert device_transport.find_device(path).get_path() == path
        thread.join()


def test_two_runs_at_once(plug: Callable[..., Double]) -> None:
    double = plug()
    with open_trezor(double) as used:
        with pytest.raises(DeviceError, match=f"^Trezor at {double.path}: another run is using it: wait"):
            open_trezor(double).__enter__()
        used.root(IDENTITY, None)
    with open_trezor(double) as used:
        used.root(IDENTITY, None)


def test_a_model_with_another_protocol(plug: Callable[..., Double], monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(_double: Double, _message: m.Cancel) -> doubles.Workflow:
        yield from ()
        return m.Failure(code=m.FailureType.InvalidProtocol)

    monkeypatch.setattr(doubles.Double, "_cancel", cancel)
    with pytest.raises(DeviceError, match="THP.*use a Model One"):
        open_trezor(plug()).__enter__()


def test_a_line_that_blocks(plug: Callable[..., Double], monkeypatch: pytest.MonkeyPatch) -> None:
    """As USB may, where trezorlib writes again and again."""
    monkeypatch.setattr(device_transport, "ANSWER", 0.3)
    monkeypatch.setattr(transport.udp.UdpTransport, "write_chunk", lambda self, chunk: time.sleep(3))
    with pytest.raises(DeviceError, match="^Trezor: it answers no more while opening it"):
        open_trezor(plug()).__enter__()


def test_a_domain_that_no_device_takes(plug: Callable[..., Double]) -> None:
    with pytest.raises(DeviceError, match="longer than the 63 bytes"), open_trezor(plug()) as used:
        used.root(Identity("a" * 64, 1), None)


def test_nothing_secret_is_logged(plug: Callable[..., Double], caplog: pytest.LogCaptureFixture) -> None:
    double = plug()
    with caplog.at_level(1, logger=""), open_trezor(double) as used:
        used.vault_secret("dc1.example")
    assert [record for record in caplog.records if record.name.startswith("trezorlib")] == []
    assert logging.getLogger("trezorlib").level == logging.CRITICAL
    assert PASSPHRASE not in "".join(os.environ.values())


def test_without_trezorlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trezor, "exceptions", None)
    with pytest.raises(BcmError, match="install the Python package trezor"):
        Trezor().__enter__()
