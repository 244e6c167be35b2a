# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents for ssh and gpg with keys on the device: libagent's protocols over the collection's device transport.

libagent's own transport writes secrets to its log, changes the passphrase that was typed ("%", non-ASCII letters),
opens the wallet without a passphrase when none is typed, waits for ever, and fails after the device was unplugged.

Runs in the virtual environment that has libagent, started by device_keys.py. It prints one line of JSON, an answer or a
fault, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from libagent import formats, gpg, server, ssh, util
from libagent.device import interface
from libagent.gpg import agent as gpg_agent
from libagent.gpg import keyring
from libagent.ssh import protocol as ssh_protocol

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca import pinentry
from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import PATIENCE, Trezor

from . import setup

# On P-256, a user ID could be chosen that gives the key of a root, and a signed mail could be a signed certificate.
_CURVE = "ed25519"
# As in stock trezor-gpg: the same seed, passphrase and user ID give the same key, to the last byte.
_CREATED = 0
#: GPG_ERR_CANCELED of gpg-agent
_CANCELLED = b"ERR 67108963 Operation cancelled <bcm>"


class Device(interface.Device):
    """libagent's device. It is opened for each answer, so that others may use it in between and it may be replugged.

    All of it happens in the main thread (`work`), which a signal can interrupt: the screen is cleared then.
    """

    def __init__(self, session: Path, first: bool = False) -> None:
        super().__init__()
        self.ui = self
        self.options_getter: Callable[[], list[bytes]] = list
        self._kept = Path(os.environ.get("BCM_TREZOR_SESSION") or session)
        self._own, self._first = self._kept == session, first
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()

    def connect(self) -> Device:
        return self

    def close(self) -> None:
        pass

    def pubkey(self, identity: Any, ecdh: bool = False) -> Any:
        curve = identity.get_curve_name(ecdh=ecdh)
        found = self._do(lambda trezor: trezor.public_key(identity.get_bip32_address(ecdh=ecdh), curve))
        return formats.decompress_pubkey(found, identity.curve_name)

    def sign(self, identity: Any, blob: bytes) -> bytes:
        named = dict(identity.items())
        shown = {"ssh": "log in", "gpg": "sign"}[named["proto"]]
        return bytes(self._do(lambda trezor: trezor.sign_as(named, identity.get_curve_name(), blob, shown)))

    def ecdh(self, identity: Any, pubkey: bytes) -> bytes:
        named, curve = dict(identity.items()), identity.get_curve_name(ecdh=True)
        return bytes(self._do(lambda trezor: trezor.shared_secret(named, curve, pubkey)))

    def get_passphrase(self, prompt: str) -> str:
        """Ask for the passphrase of `gpg --symmetric`, which does not involve the device."""
        return str(self.work(lambda: pinentry.ask(prompt.rstrip(":"), "", PATIENCE)))

    def forget(self) -> None:
        """End the session; the next answer asks for the passphrase."""
        self.work(self._trezor().end)

    def end(self) -> None:
        """End the session, unless a whole run shares it. Runs in the main thread."""
        if self._own:
            self._trezor().end()

    def work(self, job: Callable[[], Any]) -> Any:
        """Run a function in the main thread and return its result."""
        if threading.current_thread() is threading.main_thread():
            return job()
        future: Future[Any] = Future()
        self._jobs.put((job, future))
        return future.result()

    def run(self) -> None:
        """Run the functions that threads submit, until a signal arrives."""
        while True:
            job, future = self._jobs.get()
            try:
                future.set_result(job())
            except Exception as error:
                future.set_exception(error)

    def _trezor(self) -> Trezor:
        return Trezor(first=self._first, say=_say, kept=self._kept)

    def _do(self, job: Callable[[Trezor], Any]) -> Any:
        def opened() -> Any:
            with self._trezor() as trezor:
                return job(trezor)

        return self.work(opened)


# -- ssh --------------------------------------------------------------------------------------------------------------


def _ssh_key(session: Path, who: str) -> None:
    device = Device(session, first=True)
    with contextlib.closing(_Ending(device)):
        (line,) = ssh.client.Client(device).export_public_keys([_ssh_identity(who)])
        _answer(key=line.strip())


def _ssh_agent(session: Path, who: str, line: str, path: str) -> None:
    """Serve one key at a path, until the end."""
    device = Device(session)

    def talk(caller: socket.socket) -> None:
        handler = _Ssh(_Pinned(lambda: ssh.client.Client(device), [_ssh_identity(who)], [line]))
        with contextlib.suppress(EOFError):
            while True:
                util.send(caller, handler.handle(util.read_frame(caller)))

    _serve(device, path, talk)


def _ssh_identity(who: str) -> Any:
    return interface.Identity(f"ssh://{who}", _CURVE)


class _Pinned(ssh.JustInTimeConnection):
    """A key whose public half is known, so listing it needs no device. No other key signs."""

    def sign(self, blob: bytes, identity: Any) -> bytes:
        client = self.conn_factory()
        (line,) = client.export_public_keys([identity])
        if line.split()[:2] != self.public_keys()[0].split()[:2]:
            client.device.forget()
            raise _wrong_key(f"the SSH key of {identity.identity_dict['host']}")
        return bytes(client.sign_ssh_challenge(blob, identity))


class _Ssh(ssh_protocol.Handler):
    def sign_message(self, buf: Any) -> Any:
        try:
            return super().sign_message(buf)
        except BcmError as error:
            _say(str(error))
            return ssh_protocol.failure()


# -- gpg --------------------------------------------------------------------------------------------------------------


def _gpg_key(session: Path, user_id: str) -> None:
    device = Device(session, first=True)
    wanted = argparse.Namespace(user_id=user_id, ecdsa_curve=_CURVE, time=_CREATED, subkey=False)
    with contextlib.closing(_Ending(device)):
        fingerprints, armored = gpg.export_public_key(lambda: device, wanted)
        _answer(fingerprint=fingerprints[0], key=armored)


def _gpg_agent(session: Path, fingerprint: str) -> None:
    """Serve the key of GNUPGHOME where gpg looks for its agent, until the end."""
    device = Device(session)
    own = keyring.export_public_key(fingerprint)
    # where sockets are in /run, gpg-agent would have created their directory
    subprocess.run(["gpgconf", "--create-socketdir"], capture_output=True, check=False)

    def talk(caller: socket.socket) -> None:
        try:
            _Gpg(device, own).handle(caller)
        except gpg_agent.AgentStop:
            device.forget()

    _serve(device, os.fsdecode(keyring.get_agent_sock_path()), talk)


class _Gpg(gpg_agent.Handler):
    def __init__(self, device: Device, own: bytes) -> None:
        super().__init__(device, own)
        self.handlers[b"AGENT_ID"] = lambda caller, _words: keyring.sendline(caller, b"D bcm")

    def handle_option(self, *_words: bytes) -> None:
        """Pinentry finds the terminal by itself; without one, `pass` has gpg say "ttyname=not a tty"."""

    def have_key(self, conn: socket.socket, *keygrips: bytes) -> None:
        """Answer from public keys alone: listing keys, and other people's keys, need no device."""
        ours = set(gpg_agent.decode.iter_keygrips(self.pubkey_bytes))
        if keygrips[0].startswith(b"--list"):
            keyring.sendline(conn, b"D " + util.assuan_serialize(b"".join(ours)))
        elif not ours & {bytes.fromhex(keygrip.decode()) for keygrip in keygrips}:
            raise gpg_agent.AgentError(b"ERR 67108881 No secret key <bcm>")

    def get_identity(self, keygrip: bytes) -> Any:
        """Return the identity, after the device has proved that it has exactly this key."""
        try:
            # do not use the cached answer: the passphrase may be mistyped the next time
            return gpg_agent.Handler.get_identity.__wrapped__(self, keygrip)
        except KeyError:
            self.client.device.forget()
            raise _wrong_key("the OpenPGP key of this data center") from None

    def pksign(self, conn: socket.socket) -> None:
        with _device_errors():
            super().pksign(conn)

    def pkdecrypt(self, conn: socket.socket) -> None:
        with _device_errors():
            super().pkdecrypt(conn)


@contextlib.contextmanager
def _device_errors() -> Any:
    """gpg knows only error numbers; the terminal gets the message."""
    try:
        yield
    except BcmError as error:
        _say(str(error))
        raise gpg_agent.AgentError(_CANCELLED) from error


# -- both -------------------------------------------------------------------------------------------------------------


class _Ending:
    """A device's session as a context: closing it ends the session."""

    def __init__(self, device: Device) -> None:
        self.close = device.end


def _serve(device: Device, path: str, talk: Callable[[socket.socket], None]) -> None:
    def one(caller: socket.socket) -> None:
        with caller:
            try:
                talk(caller)
            except Exception as error:  # libagent raises exceptions of any type for requests it does not understand
                _say(str(error) if isinstance(error, BcmError) else f"The agent hung up on a program: {error!r}")

    def accept(listening: socket.socket) -> None:
        while True:
            # each in a thread: in a pipe of two programs, one keeps its connection while the other needs an answer
            threading.Thread(target=one, args=listening.accept()[:1], daemon=True).start()

    with contextlib.closing(_Ending(device)), contextlib.ExitStack() as stack:
        try:
            listening = stack.enter_context(server.unix_domain_socket_server(path))
            os.chmod(path, 0o600)
        except OSError as error:
            raise BcmError(
                "The agent", f"cannot listen at {path}: {error}", "choose a shorter path for it", code="io_error"
            ) from error
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        _answer(ready=True)
        device.run()


def _wrong_key(key: str) -> BcmError:
    return BcmError(
        "the Trezor with this passphrase",
        f"has another key than {key}: it is the wrong passphrase or another device;",
        "nothing was signed or decrypted, run it again with the right ones",
        code="wrong_key",
    )


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # of a terminal that is closed
        print(f"bcm: {text}", file=sys.stderr, flush=True)


def _answer(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


def _watch(main_thread: int) -> None:
    while os.read(0, 4096):
        pass
    while True:  # a signal that comes just before the main thread begins to wait does not wake it
        signal.pthread_kill(main_thread, signal.SIGTERM)
        time.sleep(0.1)


def main(words: list[str]) -> None:
    logging.disable()  # libagent logs what it signs, and keys of messages
    signal.signal(signal.SIGTERM, _end)
    # Ctrl-C is for the program that needs the agent; ours ends with it, or goes on
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    threading.Thread(target=_watch, args=(threading.get_ident(),), daemon=True).start()
    commands: dict[str, Callable[..., None]] = {
        "ssh-key": _ssh_key,
        "ssh-agent": _ssh_agent,
        "gpg-key": _gpg_key,
        "gpg-agent": _gpg_agent,
    }
    with setup.private_folder() as folder:
        try:
            commands[words[0]](Path(folder) / "session", *words[1:])
        except BcmError as error:
            _answer(fault=error.sent)


if __name__ == "__main__":
    main(sys.argv[1:])
