# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Trezor: one at a time, one session for a run, a deadline on every wait, and each fault one message.

What it signs and derives: SLIP-0011 (CipherKeyValue), SLIP-0013 (SignIdentity), SLIP-0017 (GetECDHSessionKey).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._base.errors import BcmError
from .._base.read import read_shaped
from . import pinentry
from .device_transport import ANSWER, DeviceError, InUse, TimedTransport, error_text, exclusive_use, find_device

# At its more talkative levels it logs session ids, which open a wallet, and whole messages. Faults are raised anyway.
logging.getLogger("trezorlib").setLevel(logging.CRITICAL)
try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from trezorlib import exceptions, messages, protocol_v1, transport
    from trezorlib.client import MAX_PASSPHRASE_LENGTH, MAX_PIN_LENGTH, AppManifest, PassphraseSetting
except ImportError:  # the sanity tests import this file without the libraries
    exceptions = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from .signer import Identity

_Answer = TypeVar("_Answer")

#: seconds that a person may take to answer
PATIENCE = 120.0
#: Oldest firmware of the Model One and of all others. The One takes 512 bytes to sign since then, the others say since
#: then which wallet a session opened.
FLOORS = {"T1B1": (1, 12, 1)}
FLOOR = (2, 3, 6)
_CURVE = "nist256p1"
#: SLIP-0011, m/10016'/0
_CIPHER_PATH = [10016 | 1 << 31, 0]
#: the Model One's buffer, and what a device is replaced by may be one
_HOST_LENGTH = 63
#: of a session that is kept for the next process of a run
_KEPT = {"path": str, "id": str, "first": bool}


class Trezor:
    """A context in which this run has the device to itself; `RootKeys`. All methods raise DeviceError.

    ``path`` says which, as trezorlib does ("webusb", "udp:127.0.0.1:21324"), or TREZOR_PATH does. ``first`` asks for
    the passphrase twice, since nothing is known yet that tells a mistyped one. ``say`` tells the person what is on
    the screen, "1 of 2" if ``confirmations`` are expected. ``patience`` is how many seconds a person may take.
    ``kept``, or BCM_TREZOR_SESSION, is a file that hands the session to the next process of the run, which then asks
    for no passphrase; whoever ends the run calls `end`.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        first: bool = False,
        say: Callable[[str], None] = lambda text: None,
        ask: Callable[[str, str, float], str] = pinentry.ask,
        patience: float = PATIENCE,
        confirmations: int = 0,
        kept: Path | None = None,
    ) -> None:
        self.name = "Trezor"
        self._path = path or os.environ.get("TREZOR_PATH")
        self._first, self._say, self._ask, self._patience = first, say, ask, patience
        self._expected, self._asked = confirmations, 0
        handed = kept or os.environ.get("BCM_TREZOR_SESSION")
        self._kept = Path(handed) if handed else None
        self._stack = contextlib.ExitStack()
        self._opened: protocol_v1.SessionV1 | None = None
        self._lost = False

    def __enter__(self) -> Trezor:
        if exceptions is None:
            raise DeviceError("A Trezor", "cannot be used", "install the Python package trezor", code="missing_program")
        with contextlib.ExitStack() as stack:
            found = find_device(self._path)
            stack.enter_context(exclusive_use(found.get_path()))
            self._line = TimedTransport(found, self._patience)
            with self._doing("opening it"):
                stack.enter_context(self._line)
                self._connect()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_details: object) -> None:
        with self._stack:
            if kind is not None and not issubclass(kind, Exception):
                self._withdraw()
            if self._opened is not None and (self._lost or self._kept is None):
                self._forget()

    def root(self, identity: Identity, pinned: ec.EllipticCurvePublicKey | None) -> Root:
        """The root key of a data center; ``pinned`` is what it has to be, None for a new one."""
        if len(identity.domain.encode()) > _HOST_LENGTH:
            raise DeviceError(
                identity.domain,
                f"is longer than the {_HOST_LENGTH} bytes that a Trezor takes",
                "choose a shorter one",
                code="invalid_value",
            )
        asked = messages.GetPublicKey(address_n=identity.numbers, ecdsa_curve_name=_CURVE)
        answer = self._call("reading the root's public key", asked, messages.PublicKey)
        root = Root(self, identity, _point(answer.node.public_key))
        if pinned is not None and root.public_key() != pinned:
            self._forget()
            raise DeviceError(
                f"{self.name} with this passphrase",
                f"has another key than the root of {identity.domain}",
                "it is the wrong passphrase or another device; nothing was signed, run it again with the right ones",
                code="wrong_key",
            )
        return root

    def vault_secret(self, domain: str, generation: int = 1) -> str:
        """The password of a data center's vault, the same for ever from the same seed and passphrase. One confirmation.

        A wrong passphrase gives another one, so ask for the root first if it is known.
        """
        self._session()  # which asks for more than this
        key = f"bcm vault {domain}" if generation == 1 else f"bcm vault {domain} {generation}"
        self._announce(key)
        asked = messages.CipherKeyValue(
            address_n=_CIPHER_PATH,
            key=key,
            value=bytes(32),
            encrypt=True,
            ask_on_encrypt=True,
            ask_on_decrypt=True,
        )
        return str(self._call(f"opening the vault of {domain}", asked, messages.CipheredKeyValue).value.hex())

    def public_key(self, numbers: list[int], curve: str) -> bytes:
        """The public key at a path, 33 bytes. No confirmation."""
        asked = messages.GetPublicKey(address_n=numbers, ecdsa_curve_name=curve)
        return bytes(self._call("reading a public key", asked, messages.PublicKey).node.public_key)

    def sign_as(self, identity: Mapping[str, Any], curve: str, challenge: bytes, shown: str) -> bytes:
        """64 bytes, of a SLIP-0013 identity whose protocol the device knows (ssh, gpg). One confirmation."""
        return bytes(self._sign(messages.IdentityType(**identity), curve, challenge, shown).signature[1:])

    def shared_secret(self, identity: Mapping[str, Any], curve: str, peer: bytes) -> bytes:
        """The point that ECDH of an identity (SLIP-0017) and a peer's public key gives. One confirmation."""
        asked = messages.GetECDHSessionKey(
            identity=messages.IdentityType(**identity), peer_public_key=peer, ecdsa_curve_name=curve
        )
        self._session()
        self._announce("decrypt")
        return bytes(self._call("decrypting", asked, messages.ECDHSessionKey).session_key)

    def end(self) -> None:
        """End the session that was kept; no device is needed if there is none. Not to be called inside the context."""
        deadline = time.monotonic() + ANSWER
        while self._kept is not None and self._kept.exists():
            try:
                with self:
                    self._opened = self._resumed()
                    self._forget()
            except InUse:  # by a process of this run that was interrupted, too
                if time.monotonic() > deadline:
                    self._kept.unlink(missing_ok=True)
                time.sleep(0.05)
            except DeviceError:  # without power it has forgotten the session by itself
                self._kept.unlink(missing_ok=True)

    # --- from here on private, but for Root ---

    def _connect(self) -> None:
        line = cast("transport.Transport", self._line)
        if not protocol_v1.probe(line):
            raise DeviceError(
                "Trezor:",
                "this model speaks a protocol (THP) that is not supported yet",
                "use a Model One, Model T, Safe 3 or Safe 5",
                code="unsupported",
            )
        app = AppManifest("bcm", button_callback=self._button, pin_callback=self._pin)
        self._client = protocol_v1.TrezorClientV1(app=app, transport=line, model=None, mapping=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old firmware, which is refused below
            features = self._client.features
        self.name = f'Trezor "{features.label or features.device_id}"'
        floor = FLOORS.get(features.internal_model or "", FLOORS["T1B1"] if features.major_version == 1 else FLOOR)
        if features.bootloader_mode:
            raise DeviceError(self.name, "is in its bootloader", "unplug it, and plug it in without touching it")
        if self._client.version < floor:
            found, wanted = (".".join(map(str, version)) for version in (self._client.version, floor))
            raise DeviceError(
                self.name,
                f"has firmware {found}, {wanted} is needed",
                "update it with Trezor Suite",
                code="unsupported",
            )
        if not features.initialized:
            raise DeviceError(self.name, "has no seed", "set it up, or recover it, with Trezor Suite", code="not_ready")

    def _session(self) -> protocol_v1.SessionV1:
        if self._opened is None:
            with self._doing("unlocking it"):
                self._client.ensure_unlocked()
            if not self._client.features.passphrase_protection:
                raise DeviceError(
                    self.name,
                    "does not ask for a passphrase",
                    "turn that on, with `trezorctl set passphrase on` or Trezor Suite",
                    code="not_ready",
                )
            self._opened = self._resumed()
        if self._opened is None:
            with self._doing("entering the passphrase"):
                self._opened = self._fresh()
            self._keep(self._opened)
        return self._opened

    def _fresh(self) -> protocol_v1.SessionV1:
        if messages.Capability.PassphraseEntry not in self._client.features.capabilities:
            passphrase = self._typed()
            self._say(f"{self.name}: press twice on its screen, to use a passphrase and this one")
            return self._client.get_session(passphrase)
        self._say(f"{self.name}: enter the passphrase on its screen")
        session = self._client.get_session(PassphraseSetting.ON_DEVICE)
        if self._first:
            try:
                self._check_typed_on_device(session)
            except BaseException:
                self._opened = session  # to be ended
                raise
        return session

    def _typed(self) -> str:
        asked = [f"Passphrase of {self.name}", "The same passphrase again"][: 1 + self._first]
        given = {
            unicodedata.normalize("NFKD", self._ask(prompt, f"{prompt}, for the data center's keys", self._patience))
            for prompt in asked
        }
        if len(given) > 1:
            raise DeviceError(
                f"{self.name}:",
                "the two passphrases differ",
                "run it again and type the same twice",
                code="invalid_value",
            )
        passphrase = given.pop()
        if len(passphrase.encode()) > MAX_PASSPHRASE_LENGTH:
            raise DeviceError(
                f"{self.name}:",
                f"it takes passphrases of {MAX_PASSPHRASE_LENGTH} bytes",
                "choose a shorter one",
                code="invalid_value",
            )
        if not passphrase:
            raise self._empty()
        return passphrase

    def _check_typed_on_device(self, session: protocol_v1.SessionV1) -> None:
        """Whether it was the same twice, and not empty: the host never sees it, but what it opens."""
        self._say(f"{self.name}: enter the same passphrase again")
        with contextlib.closing(self._client.get_session(PassphraseSetting.ON_DEVICE)) as again:
            if again.get_root_fingerprint() != session.get_root_fingerprint():
                raise DeviceError(
                    f"{self.name}:",
                    "the two passphrases differ",
                    "run it again and enter the same twice",
                    code="invalid_value",
                )
        if self._client.features.passphrase_always_on_device:
            return  # then the host cannot open the wallet without passphrase to compare
        with contextlib.closing(self._client.get_session(PassphraseSetting.STANDARD_WALLET)) as standard:
            if standard.get_root_fingerprint() == session.get_root_fingerprint():
                raise self._empty()

    def _empty(self) -> DeviceError:
        return DeviceError(
            f"{self.name}:",
            "the empty passphrase protects nothing",
            "run it again with another one",
            code="invalid_value",
        )

    def _button(self, _request: messages.ButtonRequest) -> None:
        self._line.asks_person = True

    def _pin(self, _request: messages.PinMatrixRequest) -> str:
        places = "\n\n7 8 9\n4 5 6\n1 2 3"
        hint = f"{self.name} shows the digits in a grid: type for each digit of the PIN the number of its place{places}"
        pin = self._ask(f"PIN of {self.name}", hint, self._patience)
        if not 1 <= len(pin) <= MAX_PIN_LENGTH or set(pin) - set("123456789"):
            raise DeviceError(
                f"{self.name}:",
                "that is no PIN",
                "run it again and type the numbers of the places",
                code="invalid_value",
            )
        return pin

    def _sign(
        self, identity: messages.IdentityType, curve: str, challenge: bytes, shown: str
    ) -> messages.SignedIdentity:
        asked = messages.SignIdentity(
            identity=identity, challenge_hidden=challenge, challenge_visual=shown, ecdsa_curve_name=curve
        )
        self._session()
        self._announce(shown)
        return self._call(f'signing "{shown}"', asked, messages.SignedIdentity)

    def _announce(self, shown: str) -> None:
        self._asked += 1
        count = f" {self._asked} of {self._expected}" if self._expected else ""
        self._say(f'{self.name}: confirm{count}: "{shown}"')

    def _call(self, what: str, message: Any, answer: type[_Answer]) -> _Answer:
        session = self._session()
        with self._doing(what):
            return cast("_Answer", session.call(message, expect=cast("Any", answer)))

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        """Say of a fault what it was that failed, and leave the screen of the device as it was."""
        try:
            yield
        except BcmError:
            self._withdraw()
            raise
        except exceptions.Cancelled as error:
            raise DeviceError(
                f"{self.name}:", f"cancelled on the device while {what}", "run it again and confirm", code="cancelled"
            ) from error
        except transport.Timeout as error:
            if self._line.asks_person:
                self._withdraw()  # finds out whether it was the person or the device that said nothing
            else:
                self._lost = True
            if self._lost:
                raise DeviceError(
                    f"{self.name}:", f"it answers no more while {what}", "unplug it, plug it in and run it again"
                ) from error
            raise DeviceError(
                f"{self.name}:",
                f"got no answer on its screen within {self._patience:g} s while {what}",
                "run it again and look at it",
                code="cancelled",
            ) from error
        except transport.DeviceIsBusy as error:
            raise DeviceError(
                f"{self.name}:", "another program is using it", "close that, and run it again", code="busy"
            ) from error
        except transport.TransportException as error:
            self._lost = True
            raise DeviceError(
                f"{self.name}:",
                f"lost while {what} ({error_text(error)})",
                "plug it in and run it again; if it is plugged in, install Trezor's udev rules",
            ) from error
        except exceptions.InvalidSessionError as error:
            self._lost = True
            raise DeviceError(f"{self.name}:", f"it forgot the session while {what}", "run it again") from error
        except exceptions.PinException as error:
            raise DeviceError(
                f"{self.name}:", f"wrong PIN while {what}", "run it again with the right one", code="wrong_key"
            ) from error
        except (exceptions.TrezorException, KeyError, ValueError, EOFError) as error:
            raise DeviceError(
                f"{self.name}:", f"refused while {what}: {error_text(error)};", "update its firmware"
            ) from error

    def _withdraw(self) -> None:
        """Take back what is on the screen."""
        self._line.asks_person = False
        try:
            protocol_v1.probe(cast("transport.Transport", self._line))
        except exceptions.TrezorException:
            self._lost = True

    # --- the session of the run ---

    def _resumed(self) -> protocol_v1.SessionV1 | None:
        """The session that another process of this run left, if the device still knows it."""
        try:
            kept = read_shaped(self._kept.read_text(encoding="ascii"), _KEPT) if self._kept else {}
            if kept.get("path") != self._line.path or self._first > kept["first"]:
                return None
            session = protocol_v1.SessionV1(self._client, id=bytes.fromhex(kept["id"]))
            with self._doing("resuming its session"):
                try:
                    session.initialize()
                except exceptions.InvalidSessionError:
                    return None
            return session
        except (OSError, ValueError, KeyError):
            return None

    def _keep(self, session: protocol_v1.SessionV1) -> None:
        if self._kept is None or session.id is None:
            return
        try:
            self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._kept.unlink(missing_ok=True)
            descriptor = os.open(self._kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump({"path": self._line.path, "id": session.id.hex(), "first": self._first}, file)
        except OSError as error:
            raise DeviceError(
                f"The session of {self.name}", f"cannot be kept at {self._kept}: {error.strerror}", code="io_error"
            ) from error

    def _forget(self) -> None:
        session, self._opened = self._opened, None
        if session is not None and not self._lost:
            session.close()
        if self._kept is not None:
            self._kept.unlink(missing_ok=True)


class Root:
    """A root key on a device, as a Signer."""

    def __init__(self, device: Trezor, identity: Identity, key: ec.EllipticCurvePublicKey) -> None:
        self.identity = identity
        self._device, self._key = device, key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key

    def sign(self, tbs: bytes, shown: str) -> bytes:
        """As `Signer.sign` has it. The text on the screen is ours: what is signed is the digest alone."""
        user, host = self.identity.uri.removeprefix("gpg://").removesuffix("/pki").split("@")
        slip13 = messages.IdentityType(proto="gpg", user=user, host=host, path="/pki", index=self.identity.index)
        answer = self._device._sign(slip13, _CURVE, hashlib.sha256(tbs).digest(), shown)
        numbers = (int.from_bytes(answer.signature[start : start + 32], "big") for start in (1, 33))
        signature = encode_dss_signature(*numbers)
        try:
            if _point(answer.public_key) != self._key:
                raise InvalidSignature
            self._key.verify(signature, tbs, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError) as error:
            raise DeviceError(
                self._device.name, f'signed "{shown}" wrongly: it is damaged, or not what it seems;', "use another one"
            ) from error
        return signature


def _point(encoded: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded)
