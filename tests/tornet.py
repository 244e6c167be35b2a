# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Tor network of one's own: four authorities that are relays and exits as well, and any number of others.

It knows no other authorities, so that nothing of it ever talks to the public network. For a look around:
`PYTHONPATH=collections:. python -m tests.tornet`, which says what a torrc needs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import socks

from ansible_collections.bcm.core.plugins.module_utils._guest.tor_control import Control, ControlError, connected

#: what tor's SOCKS port says of a descriptor that it cannot decrypt: it needs a key, or another one (proposal 304)
NO_KEY, WRONG_KEY = "0xf4", "0xf5"
#: and if it has tried all that it knows, as on a busy machine (RFC 1928)
GAVE_UP = "0x01"

_AUTHORITIES = 4
#: ports that are taken, or will be
_GIVEN: set[int] = set()
_PATIENCE = 300.0  # seconds for what takes less than 10
_ENDING = 60.0  # seconds for an end that takes 1
_STRANGERS = 3
# cbtdisabled: circuits take milliseconds here, and a tor that learns to give up after some loses them to any other load
_RELAY = """\
AssumeReachable 1
ContactInfo nobody@bcm.test
ExitRelay 1
ExitPolicy accept *:*
ExitPolicyRejectPrivate 0
ServerDNSAllowBrokenConfig 1
ServerDNSDetectHijacking 0
ServerDNSTestAddresses
SocksPort 0
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
TestingMinExitFlagThreshold 0
ConsensusParams cbtdisabled=1
"""


class TorNetworkError(Exception):
    """A tor did not do what it was told; the message has what it said."""


class Tor:
    """A tor that runs, in a directory of its own."""

    def __init__(self, directory: Path, lines: Iterable[str]) -> None:
        self.directory = directory
        self.torrc = directory / "torrc"
        self.log = directory / "log"
        directory.mkdir(mode=0o700, exist_ok=True)
        common = [
            f"DataDirectory {directory / 'data'}",
            f"ControlSocket {directory / 'control'}",
            "CookieAuthentication 1",
            f"CookieAuthFile {directory / 'cookie'}",
            f"Log notice file {self.log}",
            "RunAsDaemon 0",
        ]
        self.torrc.write_text("".join(f"{line}\n" for line in (*common, *lines)))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # without our own authorities it would go to the public ones
        assert "TestingTorNetwork 1\n" in self.torrc.read_text()
        assert "DirAuthority " in self.torrc.read_text()
        self.process = subprocess.Popen(
            ["tor", "--defaults-torrc", "/dev/null", "-f", self.torrc, "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Have it end. A relay that is told so while it begins to work may not, which is not what is tested."""
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_PATIENCE)
            self.process = None

    def control(self, within: float = _PATIENCE) -> Control:
        """A session, as soon as tor answers."""
        end = time.monotonic() + within
        while True:
            try:
                return connected(str(self.directory / "control"))
            except ControlError as error:
                if time.monotonic() > end or self.process is None or self.process.poll() is not None:
                    raise TorNetworkError(f"{error}\n{self.said()}") from error
                time.sleep(0.05)

    def bootstrapped(self, within: float = _PATIENCE) -> None:
        """Wait until it has reached the network."""
        with self.control() as control:
            control.setevents("STATUS_CLIENT")
            phase = control.getinfo("status/bootstrap-phase")["status/bootstrap-phase"]
            end = time.monotonic() + within
            try:
                while "PROGRESS=100" not in phase:
                    phase = control.event(end).text
            except TimeoutError:
                raise TorNetworkError(f"{self.directory.name} is at: {phase}\n{self.said()}") from None

    def said(self) -> str:
        return "".join(self.log.read_text().splitlines(keepends=True)[-30:]) if self.log.exists() else ""


class TorNetwork:
    """The authorities, and those who use them. ``lines`` are what a torrc needs to be part of it.

    What goes to a relay arrives ``delay`` seconds later, and so does what it answers.
    """

    def __init__(self, directory: Path, addresses: Sequence[str] = ("127.0.0.1",), delay: float = 0.0) -> None:
        self.directory = directory
        self.delay = delay
        self.tors: list[Tor] = []
        places = [addresses[number % len(addresses)] for number in range(_AUTHORITIES)]
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(self._authority, range(_AUTHORITIES), places))
        self.lines = ["TestingTorNetwork 1", *(line for _tor, line in made)]
        for tor, _line in made:
            with tor.torrc.open("a") as torrc:
                torrc.writelines(f"{line}\n" for line in self.lines)
            tor.start()
        self.tors += [tor for tor, _line in made]

    def _authority(self, number: int, address: str) -> tuple[Tor, str]:
        orport, dirport = free_port(address), free_port(address)
        directory = self.directory / f"authority{number}"
        own = [f"Nickname authority{number}", f"Address {address}"]
        own += [f"DirPort {address}:{dirport}", *_RELAY.splitlines()]
        if not ip_address(address).is_loopback:
            # What an exit fetches is told by it from what this machine does.
            own.append(f"OutboundBindAddressExit {address}")
        if self.delay:
            port = free_port(address)
            own += [f"ORPort {address}:{orport} NoListen", f"ORPort {address}:{port} NoAdvertise"]
            _far_away(address, orport, port, self.delay)
        else:
            own.append(f"ORPort {address}:{orport}")
        tor = Tor(directory, own)
        keys = directory / "data/keys"
        keys.mkdir(mode=0o700, parents=True)
        (directory / "data").chmod(0o700)
        _run("tor-gencert", "--create-identity-key", "-m", "12", "-a", f"{address}:{dirport}", "--passphrase-fd", "0",
             cwd=keys, text="nobody needs it\n")  # fmt: skip
        ident = re.search(r"^fingerprint (\w+)", (keys / "authority_certificate").read_text(), re.MULTILINE)
        # an authority needs other ones to be valid, though it will not be started with this one
        listed = ["--TestingTorNetwork", "1", "--DirAuthority", f"x orport=1 v3ident={'0' * 40} {address}:1 {'0' * 40}"]
        shown = _run("tor", "--defaults-torrc", "/dev/null", "-f", str(tor.torrc), *listed, "--list-fingerprint")
        fingerprint = shown.split("\n")[-2].split(" ", 1)[1].replace(" ", "")
        assert ident is not None
        trusted = f"authority{number} orport={orport} no-v2 v3ident={ident[1]} {address}:{dirport} {fingerprint}"
        return tor, f"DirAuthority {trusted}"

    def tor(self, name: str, *lines: str) -> Tor:
        """Another tor that uses this network, not yet started."""
        tor = Tor(self.directory / name, [*self.lines, "Address 127.0.0.1", *lines])
        self.tors.append(tor)
        return tor

    def listed(self, fingerprint: str, but: str = "", within: float = _PATIENCE) -> tuple[str, str]:
        """A relay's line in the consensus, as soon as there is one other than ``but`` and it runs; its descriptor."""
        key, said = f"ns/id/{fingerprint}", ""
        end = time.monotonic() + within
        with self.tors[0].control() as control:
            while time.monotonic() < end:
                try:
                    said = control.getinfo(key)[key]
                except ControlError as error:
                    said = str(error)
                lines = {line[:1]: line for line in said.splitlines()}
                if "Running" in lines.get("s", "") and lines["r"] != but:
                    key = f"desc/id/{fingerprint}"
                    return lines["r"], control.getinfo(key)[key]
                time.sleep(0.2)
        raise TorNetworkError(f"the consensus does not have of {fingerprint} what it should: {said}")

    def complete(self, within: float = _PATIENCE) -> None:
        """Wait until each authority has a consensus that lists all of them. A client keeps an earlier one for long."""
        end = time.monotonic() + within
        for tor in self.tors[:_AUTHORITIES]:
            with tor.control() as control:
                while (listed := _running(control)) < _AUTHORITIES:
                    if time.monotonic() > end:
                        raise TorNetworkError(f"the consensus has {listed} of {_AUTHORITIES} relays\n{tor.said()}")
                    time.sleep(0.1)

    def stop(self) -> None:
        for tor in reversed(self.tors):
            if tor.process is not None:
                # an authority that is asked politely waits for its clients
                tor.process.kill()
                tor.stop()


class Client:
    """A tor with a SOCKS port, and the keys it was given."""

    def __init__(self, network: TorNetwork, name: str, *lines: str) -> None:
        # tests that share a network need not know each other's names
        own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=network.directory))
        given = own / "keys"
        given.mkdir(mode=0o700)
        for number, line in enumerate(lines):
            (given / f"{number}.auth_private").write_text(line)
        self.port = free_port()
        # Browsers ask their makers, too, whatever they are told: that does not become a relay's traffic.
        port = f"SocksPort {self.port} ExtendedErrors OnionTrafficOnly"
        self.tor = network.tor(own.name, port, f"ClientOnionAuthDir {given}")
        self.tor.start()

    def connected(self, address: str, port: int = 80, within: float = _PATIENCE) -> socks.socksocket:
        """A connection to a service. Raises socks.ProxyError."""
        connection = socks.socksocket()
        connection.set_proxy(socks.SOCKS5, "127.0.0.1", self.port, rdns=True)
        connection.settimeout(within)
        try:
            connection.connect((address, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def get(self, address: str, port: int = 80, say: bytes = b"", tries: int = 3) -> bytes:
        """What the service says; a tor that gives up or says nothing is asked again. Raises socks.ProxyError."""
        try:
            with self.connected(address, port) as connection:
                connection.sendall(say)
                return connection.recv(100)
        except socks.ProxyError as error:
            if not any(said in str(error) for said in ("timed out", GAVE_UP)) or tries == 1:
                raise
            return self.get(address, port, say, tries - 1)


def refusal(network: TorNetwork, address: str, port: int = 80, *keys: str) -> str:
    """Why a service is not there for somebody new: what his tor answers.

    It may be that a tor says nothing for long, as if the network were not there; then it is somebody else's turn.
    """
    said = ""
    for _attempt in range(_STRANGERS):
        stranger = Client(network, "stranger", *keys)
        stranger.tor.bootstrapped()
        try:
            stranger.connected(address, port, within=45).close()
        except socks.ProxyError as error:
            said = str(error)
            if "timed out" not in said:
                return said
        else:
            return "was let in"
    return said


class Bridge:
    """A bridge of obfs4. ``line`` is what its users are given; it is in no list of the network."""

    def __init__(self, network: TorNetwork, name: str, address: str = "127.0.0.1") -> None:
        self.port = free_port(address)
        tor = network.tor(
            name,
            "BridgeRelay 1",
            "ExitRelay 0",
            "AssumeReachable 1",
            "PublishServerDescriptor 0",
            "SocksPort 0",
            "ContactInfo nobody@bcm.test",
            f"ORPort {address}:{free_port(address)}",
            "ServerTransportPlugin obfs4 exec /usr/bin/obfs4proxy",
            f"ServerTransportListenAddr obfs4 {address}:{self.port}",
            "ExtORPort auto",
        )
        tor.start()
        tor.bootstrapped()
        self.fingerprint = (tor.directory / "data/fingerprint").read_text().split()[1]
        told = (tor.directory / "data/pt_state/obfs4_bridgeline.txt").read_text()
        arguments = re.search(r"cert=\S+ iat-mode=\d", told)
        assert arguments is not None
        self.line = f"obfs4 {address}:{self.port} {self.fingerprint} {arguments[0]}"


def _running(control: Control) -> int:
    """The number of relays that run, as a tor's consensus says."""
    try:
        return len(re.findall(r"^s .*\bRunning\b", control.getinfo("ns/all")["ns/all"], re.MULTILINE))
    except ControlError:
        return 0


def _far_away(address: str, port: int, to: int, delay: float) -> None:
    """Carry what comes to a port to another one, as if there were a long way between; until the process ends."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(address, to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    async def serve() -> None:
        async with await asyncio.start_server(connected, address, port) as server:
            await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()


@contextlib.contextmanager
def running(addresses: Sequence[str] = ("127.0.0.1",), delay: float = 0.0) -> Iterator[TorNetwork]:
    """A network that a client has reached, and that is gone afterwards."""
    # short: the path of a unix socket has at most 107 bytes
    directory = Path(tempfile.mkdtemp(prefix="bcm-tor-"))
    network = None
    try:
        network = TorNetwork(directory, addresses, delay)
        network.complete()
        client = network.tor("first", "SocksPort 0")
        client.start()
        client.bootstrapped()
        client.stop(signal.SIGKILL)
        yield network
    finally:
        if network is not None:
            network.stop()
        shutil.rmtree(directory, ignore_errors=True)


def free_port(address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port where nothing listens: none that was given before, or that the kernel may give to a connection."""
    for port in random.sample(range(20_000, 32_768), 1000):
        with socket.socket(type=kind) as listener, contextlib.suppress(OSError):
            if port not in _GIVEN:
                listener.bind((address, port))
                _GIVEN.add(port)
                return port
    raise TorNetworkError(f"no port of {address} is free")


def _run(*argv: str, cwd: Path | None = None, text: str | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, input=text, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except FileNotFoundError:
        raise TorNetworkError(f"{argv[0]} is missing: install the package tor; nothing of it has to run") from None
    if done.returncode:
        raise TorNetworkError(f"{done.stdout}{done.stderr}\n{argv[0]} ended with {done.returncode}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.tornet", description="A Tor network, until it is interrupted"
    )
    parser.add_argument("--address", action="append", help="where its relays listen (default: 127.0.0.1)")
    begun = time.monotonic()
    with running(parser.parse_args().address or ["127.0.0.1"]) as network:
        print(f"# up after {time.monotonic() - begun:.0f} s; give this to tor, and end it with Ctrl-C")
        print("\n".join(network.lines), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
