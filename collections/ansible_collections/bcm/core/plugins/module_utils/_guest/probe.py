# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in an instance, as root: makes attempts to connect, as root and as the users of its services, and reports the
outcome of each packet. Standard library only.

An error number does not distinguish a refusal by the host from one by the other side, but the packets do: all that pass
the instance's network devices are captured meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: a name that never leads anywhere (RFC 6761, section 6.5)
NAME = "bcm-privacy.example"
_UNITS = Path("/var/lib/bcm/units")
_IPV4, _IPV6, _ALL = 0x0800, 0x86DD, 0x0003
_DHCP_CLIENT = 68
_OUTGOING = 4  # PACKET_OUTGOING
_DRAIN = 0.1  # seconds for answers to the last packets
# A kernel sends one refusal per second and address (icmp_ratelimit of icmp(7)), after six in a row, and a limited
# number in all (icmp_msgs_per_sec). So attempts without an answer are repeated, as long as that decides some of them.
_PAUSE, _SILENT = 1.1, 4
#: How many refusals of the control packet, sent in turn with attempts that get no answer, show that the host would have
#: refused one of these, too; and for how many seconds this is repeated.
_CONTROLS, _BUDGET = 5, 30.0

Attempt = dict[str, Any]
Outcome = dict[str, Any]


def query() -> bytes:
    """Return a DNS query for the address of that name (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split("."))
    return struct.pack("!6H", 0xBC11, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def users() -> dict[str, int]:
    """Return root and the users of the stack's own units, with their ids."""
    units = [path.name.removesuffix(".digest") for path in sorted(_UNITS.glob("*.digest"))]
    found = {"root": 0}
    if units:
        argv = ["systemctl", "show", "--property=User", "--value", *units]
        for name in filter(None, subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()):
            found[name] = pwd.getpwnam(name).pw_uid
    return found


def _sockets(path: str, state: str) -> list[tuple[str, int, str, int]]:
    """Return local address and port, and remote address and port, from the kernel's list of sockets."""
    found = []
    lines = Path(path).read_text(encoding="ascii").splitlines()[1:] if os.path.exists(path) else []
    for fields in map(str.split, lines):
        if fields[3] != state:
            continue
        (local, port), (remote, far_port) = (text.split(":") for text in fields[1:3])
        found.append((_address(local), int(port, 16), _address(remote), int(far_port, 16)))
    return found


def _address(text: str) -> str:
    raw = b"".join(struct.pack("=I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8))
    if len(raw) == 16:
        raw = raw[12:] if raw.startswith(b"\0" * 10 + b"\xff\xff") else raw
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listening() -> list[int]:
    """Return the TCP ports that other machines could reach."""
    every = [*_sockets("/proc/net/tcp", "0A"), *_sockets("/proc/net/tcp6", "0A")]
    return sorted({port for address, port, *_to in every if not address.startswith("127.") and address != "::1"})


def listening_udp() -> list[int]:
    """Return the UDP ports that other machines could reach, except that of the DHCP client."""
    every = [*_sockets("/proc/net/udp", "07"), *_sockets("/proc/net/udp6", "07")]
    others = {port for address, port, *_to in every if not address.startswith("127.") and address != "::1"}
    return sorted(others - {_DHCP_CLIENT})


def connections() -> list[tuple[str, int, str, int]]:
    """Return local address and port, and remote address and port, of established connections."""
    every = [*_sockets("/proc/net/tcp", "01"), *_sockets("/proc/net/tcp6", "01")]
    return [item for item in every if not item[0].startswith("127.") and item[0] != "::1"]


def rules() -> dict[str, int] | None:
    """Return the counters of the egress firewall; None if it is not loaded."""
    try:
        done = subprocess.run(["nft", "-j", "list", "table", "inet", "bcm"], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    items = json.loads(done.stdout)["nftables"] if done.returncode == 0 else None
    return items and {item["counter"]["name"]: item["counter"]["packets"] for item in items if "counter" in item}


def ipv6() -> list[str]:
    """Return the IPv6 addresses of network devices, except loopback."""
    path = Path("/proc/net/if_inet6")
    fields = [line.split() for line in path.read_text(encoding="ascii").splitlines()] if path.exists() else []
    return [f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(item[0]))} on {item[5]}" for item in fields
            if item[5] != "lo"]  # fmt: skip


# -- attempts ----------------------------------------------------------------------------------------------------------


def attempt(items: list[Attempt], seconds: float) -> list[tuple[int, int]]:
    """Make all attempts at once; return the local port of each, and the error number with which it ended, or 0."""
    poll = select.poll()
    found: list[tuple[int, int]] = []
    waiting: dict[int, tuple[int, socket.socket]] = {}
    kept = []
    for number, item in enumerate(items):
        family = socket.AF_INET6 if ":" in item["to"] else socket.AF_INET
        kind = socket.SOCK_STREAM if item["protocol"] == "tcp" else socket.SOCK_DGRAM
        connection = socket.socket(family, kind)
        kept.append(connection)
        connection.setblocking(False)
        status = connection.connect_ex((item["to"], item["port"]))
        if status == 0 and kind == socket.SOCK_DGRAM:
            try:
                connection.send(query())
                status = errno.EINPROGRESS
            except OSError as error:
                status = error.errno or errno.EIO
        found.append((connection.getsockname()[1], 0 if status == errno.EINPROGRESS else status))
        if status == errno.EINPROGRESS:
            waiting[connection.fileno()] = number, connection
            poll.register(connection, select.POLLOUT if kind == socket.SOCK_STREAM else select.POLLIN)
    end = time.monotonic() + seconds
    while waiting and (left := end - time.monotonic()) > 0:
        for descriptor, _event in poll.poll(left * 1000):
            poll.unregister(descriptor)
            number, connection = waiting.pop(descriptor)
            found[number] = found[number][0], connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return [(port, errno.ETIMEDOUT if number in {at for at, _socket in waiting.values()} else status)
            for number, (port, status) in enumerate(found)]  # fmt: skip


def as_user(uid: int, gid: int, items: list[Attempt], seconds: float) -> tuple[int, int]:
    """Start a process of a user that makes the attempts; return its id, and the pipe to which it writes the results."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            with os.fdopen(write, "w") as out:
                json.dump(attempt(items, seconds), out)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    return child, read


def forged(item: Attempt, port: int) -> bytes:
    """Return a frame to the host by a device, past the routes and the rules of the instance."""
    device = item["device"]
    own_mac = Path(f"/sys/class/net/{device}/address").read_text(encoding="ascii").strip()
    source, target = socket.inet_aton(_own(device)), socket.inet_aton(item["to"])
    if item["protocol"] == "tcp":
        number = 6
        body = struct.pack("!HHIIBBHHH", port, item["port"], 1, 0, 5 << 4, 2, 1024, 0, 0)
    else:
        number = 17
        body = struct.pack("!HHHH", port, item["port"], 8 + len(query()), 0) + query()
    pseudo = source + target + struct.pack("!BBH", 0, number, len(body))
    offset = 16 if number == 6 else 6
    body = body[:offset] + struct.pack("!H", checksum(pseudo + body)) + body[offset + 2 :]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, number, 0) + source + target
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return bytes.fromhex((item["mac"] + own_mac).replace(":", "")) + struct.pack("!H", _IPV4) + head + body


def _own(device: str) -> str:
    """Return the IPv4 address of a device (SIOCGIFADDR)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, 0x8915, struct.pack("256s", device.encode()))
    return socket.inet_ntoa(answer[20:24])


def checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# -- outcomes ----------------------------------------------------------------------------------------------------------


class Watch:
    """Capture the packets that pass the network devices of the instance."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**23)
        self._socket.setblocking(False)
        #: (protocol, other address, other port, local port) -> outcome
        self.outcomes: dict[tuple[str, str, int, int], dict[str, Any]] = {}

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> None:
        while True:
            try:
                data, (device, kind, direction, *_rest) = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            if device == "lo":
                continue
            if kind == _IPV6 and len(data) >= 44:
                self._transport(data[6], data[40:], socket.inet_ntop(socket.AF_INET6, data[8:24]),
                                socket.inet_ntop(socket.AF_INET6, data[24:40]), direction, device)  # fmt: skip
            elif kind == _IPV4 and len(data) >= 24:
                length = (data[0] & 15) * 4
                self._transport(data[9], data[length:], socket.inet_ntoa(data[12:16]),
                                socket.inet_ntoa(data[16:20]), direction, device)  # fmt: skip

    def _transport(self, number: int, data: bytes, source: str, target: str, direction: int, device: str) -> None:
        protocol = {6: "tcp", 17: "udp"}.get(number)
        if protocol and len(data) >= 4:
            near, far = struct.unpack("!HH", data[:4])
            if direction == _OUTGOING:
                self._note(protocol, target, far, near, {"state": "sent", "on": device})
            elif protocol == "tcp" and len(data) >= 14:
                if data[13] & 4:
                    self._note(protocol, source, near, far, {"state": "closed"})
                elif data[13] & 18 == 18:
                    self._note(protocol, source, near, far, {"state": "open"})
            elif protocol == "udp":
                code = data[11] & 15 if len(data) > 11 else 0  # RFC 1035, section 4.1.1
                self._note(protocol, source, near, far, {"state": "answered", "code": code})
        elif number == 1 and direction != _OUTGOING and data[:1] == b"\x03" and len(data) >= 36:
            inner = data[8:]
            rest = inner[(inner[0] & 15) * 4 :]
            about = {6: "tcp", 17: "udp"}.get(inner[9])
            if about and len(rest) >= 4:
                near, far = struct.unpack("!HH", rest[:4])
                to = socket.inet_ntoa(inner[16:20])
                # the other side itself answers so for a closed UDP port; for a TCP port it would not use ICMP
                state = "closed" if about == "udp" and source == to and data[1] == 3 else "rejected"
                self._note(about, to, far, near, {"state": state, "by": source})

    def _note(self, protocol: str, other: str, port: int, local: int, what: dict[str, Any]) -> None:
        key = (protocol, other, port, local)
        if key not in self.outcomes or self.outcomes[key]["state"] == "sent":
            self.outcomes[key] = what


def _key(item: Attempt, port: int) -> tuple[str, str, int, int]:
    return item["protocol"], item["to"], item["port"], port


def outcome_of(item: Attempt, port: int, status: int, watch: Watch) -> Outcome:
    """Return the outcome of an attempt from a local port that ended with an error number."""
    unsent = {"state": "not_sent", "why": os.strerror(status) if status else "nothing was sent"}
    return watch.outcomes.get(_key(item, port), unsent)


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Return the outcomes of ``attempts``, by ``users``, and of ``forged``; without attempts, observe the instance.

    ``forged`` are sent directly on a device. ``controls`` has for each device a forged packet that the host refuses.
    """
    if "attempts" not in request:
        found = {"users": users(), "listening": listening(), "listening_udp": listening_udp()}
        return {**found, "connections": connections(), "ipv6": ipv6(), "rules": rules()}
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    trials = [Trial(None, item) for item in request["forged"]]
    by_user = {
        name: [Trial(name, item) if item["but_as"] != name else None for item in request["attempts"]]
        for name in request["users"]
    }
    trials += [trial for some in by_user.values() for trial in some if trial]
    Trials(request, trials).run()
    return {
        "forged": [trial.outcome for trial in trials if trial.user is None],
        "users": {name: [trial.outcome if trial else {} for trial in some] for name, some in by_user.items()},
    }


class Trial:
    """An attempt by a user, or without one a packet sent directly on a device; and its outcome."""

    def __init__(self, user: str | None, item: Attempt) -> None:
        self.user, self.item = user, item
        self.outcome: Outcome = {}

    @property
    def is_pending(self) -> bool:
        """Whether there was no answer yet where one is expected."""
        return not self.outcome or (
            self.outcome["state"] == "sent" and bool(self.item.get("refused") or self.item.get("needed"))
        )


class Trials:
    """All attempts, repeated until they are decided or get no more answers."""

    def __init__(self, request: dict[str, Any], trials: list[Trial]) -> None:
        self._ids: dict[str, int] = request["users"]
        self._controls: dict[str, Attempt] = request["controls"]
        self._seconds: float = request["seconds"]
        self._trials = trials
        self._watch = Watch()
        # Random ports, since the host may still remember earlier connections.
        self._ports = iter(random.sample(range(20000, 32000), 10000))

    def run(self) -> None:
        # The others use up refusals of the host, too, and do not need them: they come last.
        awaited = [trial for trial in self._trials if trial.item["refused"]]
        for trials in (awaited, [trial for trial in self._trials if not trial.item["refused"]]):
            self._decide(trials)

    def _decide(self, trials: list[Trial]) -> None:
        seconds, silent = self._seconds, 0
        while trials and silent < _SILENT:
            self._try_once(trials, seconds)
            left = [trial for trial in trials if trial.is_pending]
            silent = silent + 1 if len(left) == len(trials) else 0
            trials, seconds = left, _PAUSE
        by_device: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.item["refused"]:
                by_device.setdefault(trial.outcome["on"], []).append(trial)
        end = time.monotonic() + _BUDGET
        for device, some in by_device.items():
            self._compare(some, self._controls.get(device), end)

    def _compare(self, trials: list[Trial], item: Attempt | None, end: float) -> None:
        """Repeat attempts in turn with the control packet: an instance may use up the host's refusals.

        They are repeated at once, since whichever of them the host refuses first gets the one refusal there is: if the
        control gets all and they get none, it refuses none of them.
        """
        refusals = 0
        while item and trials and refusals < _CONTROLS and time.monotonic() < end:
            control = Trial(None, item)
            self._try_once([control], _PAUSE)
            if control.outcome["state"] == "rejected":
                refusals += 1
                time.sleep(_PAUSE)
            self._try_once(trials, _PAUSE)
            left = [trial for trial in trials if trial.is_pending]
            trials, refusals = left, refusals if len(left) == len(trials) else 0
        if refusals < _CONTROLS:
            for trial in trials:
                trial.outcome = {**trial.outcome, "state": "undecided"}

    def _try_once(self, trials: list[Trial], seconds: float) -> None:
        """Make the attempts at once, for some seconds or until all are decided."""
        ports = {trial: self._forge(trial) for trial in trials if trial.user is None}
        started = {}
        for name, uid in self._ids.items():
            items = [trial.item for trial in trials if trial.user == name]
            if items:
                started[name] = as_user(uid, uid and pwd.getpwuid(uid).pw_gid, items, seconds)
        output = _collect_output([pipe for _child, pipe in started.values()], self._watch, seconds + 10)
        for name, (child, pipe) in started.items():
            os.waitpid(child, 0)
            own = [trial for trial in trials if trial.user == name]
            for trial, (port, status) in zip(own, json.loads(output[pipe]), strict=True):
                trial.outcome = outcome_of(trial.item, port, status, self._watch)
        end = time.monotonic() + (0 if started else seconds)
        while True:
            self._watch.read()
            for trial, port in ports.items():
                if port:
                    sent_by = {"state": "sent", "on": trial.item["device"]}
                    trial.outcome = self._watch.outcomes.get(_key(trial.item, port), sent_by)
            left = end - time.monotonic()
            if left <= 0 or not any(trial.is_pending for trial in ports):
                break
            select.select([self._watch.fileno()], [], [], left)

    def _forge(self, trial: Trial) -> int | None:
        """Send a packet directly on a device; return its source port, None if it cannot be sent."""
        port = next(self._ports)
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind((trial.item["device"], 0))
                raw.send(forged(trial.item, port))
        except OSError as error:  # the device is down, or has no address
            trial.outcome = {"state": "not_sent", "why": error.strerror}
            return None
        return port


def _collect_output(pipes: list[int], watch: Watch, seconds: float) -> dict[int, bytes]:
    """Return the output of processes, read until they end, while packets are captured."""
    output = dict.fromkeys(pipes, b"")
    waiting, end = set(pipes), time.monotonic() + seconds
    while waiting and time.monotonic() < end:
        ready = select.select([watch.fileno(), *waiting], [], [], 1)[0]
        watch.read()
        for pipe in waiting.intersection(ready):
            data = os.read(pipe, 65536)
            output[pipe] += data
            if not data:
                waiting.discard(pipe)
                os.close(pipe)
    time.sleep(_DRAIN)
    watch.read()
    return output


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
