# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configures tor in an instance with exactly the desired onion services, and publishes them.

The services that were seen to be published are recorded beside tor's configuration, so that the next run completes one
that was killed. Tor itself uploads a new descriptor for a service that is new, has another client or another proof of
work. In all other cases the service is removed for a moment: otherwise a revoked client could go on using the
introduction points that it knows.
"""

from __future__ import annotations

import json
import posixpath
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .._base.errors import BcmError
from .._base.read import read_object, read_shaped
from .._guest import tor_control
from .._lxd import exec as _exec
from .._lxd.client import Client
from .._lxd.files import FileSession, FilesResult, apply_files
from .services import LAYOUT, Layout, Service, include

DEADLINE = 180.0  # seconds until all services are published, if nobody says otherwise
_SOON = 60.0  # seconds for what waits for nothing
_DIRECTORY = re.compile(r"^\s*HiddenServiceDir\s+(\S+)", re.MULTILINE)
_NOTES = re.compile(r"^\w{3} \d\d [\d:.]+ \[(?:warn|err)\] ", re.MULTILINE)


class Host(Protocol):
    """Where tor runs."""

    name: str
    files: FileSession

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", deadline: float, owner: str | None = None
    ) -> _exec.ExecResult:
        """Run a command, as root or as ``owner``."""


class Instance:
    """An instance of LXD as a `Host`."""

    def __init__(self, client: Client, name: str) -> None:
        self.name, self._client = name, client
        self.files = FileSession(client, name)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", deadline: float, owner: str | None = None
    ) -> _exec.ExecResult:
        user, group = (None, None) if owner is None else (self.files.uid(owner), self.files.gid(owner))
        return _exec.run(self._client, self.name, argv, stdin=stdin, deadline=deadline, cwd="/", user=user, group=group)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *exc: object) -> None:
        self.files.close()


@dataclass
class Deployed:
    """What was done, or in check mode would be. ``network``: whether tor uses it, None if it was not asked."""

    files: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    network: bool | None = None
    changed: bool = False

    def add(self, done: FilesResult) -> list[str]:
        self.files += done.changed
        self.diff += done.diff
        return done.changed


def answered(host: Host, script: str, request: Mapping[str, Any], shape: Any, deadline: float) -> dict[str, Any]:
    """Run a Python script where tor runs, with a request and an answer in JSON. Raises BcmError.

    It has a shape, as `has_shape` knows them, or an ``error``.
    """
    ended = host.run(["python3", "-c", script], stdin=json.dumps(request).encode(), deadline=deadline)
    try:
        answer: dict[str, Any] = read_shaped(ended.stdout, ({"error": str}, shape))
    except ValueError:
        said = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise BcmError(
            f"tor in instance {host.name}",
            f"could not be asked, python3 there ended with {ended.returncode}: {''.join(said)}",
            code="command_failed",
        ) from None
    return answer


def deploy(
    host: Host, services: Iterable[Service], *, check: bool = False, deadline: float, layout: Layout = LAYOUT
) -> Deployed:
    """Configure exactly these services, without parked ones. Raises BcmError.

    ``deadline`` is in seconds until all are published.
    """
    wanted = {service.name: service for service in services if not service.parked}
    work = _Work(host, wanted, check, layout)
    strangers = work.strangers()
    unused = host.files.lstat(layout.include) is None and host.files.lstat(layout.root) is None
    if not wanted and not strangers and unused:
        return Deployed()
    before = work.present()
    is_foreign = bool(strangers or work.foreign())
    work.remove(strangers)
    seen = work.seen()
    proven = {name for name, service in wanted.items() if seen.services.get(name) == service.digest}
    if wanted and proven == set(wanted) and not seen.network and work.ask().network:
        proven = set()  # it has a network by now
    awaited, cut = work.directories(before, proven)
    lines = work.foreseen()
    if (lines or cut) and not check:
        work.write(wanted)
        work.take_away(cut)
    work.leftovers()
    work.done.changed = bool(work.done.files or awaited or is_foreign)
    if work.done.changed and not check:
        work.publish(sorted(awaited), deadline)
        work.record()
    return work.done


@dataclass(frozen=True)
class Seen:
    """The services that were published in the last run, and whether tor had a network then."""

    services: Mapping[str, str]
    network: bool


def seen(files: FileSession, layout: Layout = LAYOUT) -> Seen:
    """Read the record in an instance; empty if it is damaged, so that everything is verified again."""
    if files.lstat(layout.published) is not None:
        try:
            content = read_object(files.read(layout.published))
            return Seen(dict(content["services"]), bool(content["network"]))
        except (KeyError, TypeError, ValueError):
            pass
    return Seen({}, True)


class _Work:
    def __init__(self, host: Host, wanted: Mapping[str, Service], check: bool, layout: Layout) -> None:
        self.host, self.wanted, self.check, self.layout = host, wanted, check, layout
        self.done = Deployed()

    def seen(self) -> Seen:
        return seen(self.host.files, self.layout)

    def present(self) -> dict[str, list[str]]:
        """Return the lines of torrc for each service."""
        if self.host.files.lstat(self.layout.include) is None:
            return {}
        result: dict[str, list[str]] = {}
        for block in self.host.files.read(self.layout.include).decode(errors="replace").split("\n\n"):
            lines = block.strip().splitlines()
            if lines:
                result[lines[0].rpartition("/")[2]] = lines
        return result

    def strangers(self) -> list[str]:
        """What others have put where torrc includes it."""
        layout = self.layout
        return self._others(posixpath.dirname(layout.include), {layout.include, layout.published})

    def remove(self, strangers: Sequence[str]) -> None:
        if strangers and not self.check:
            # so that a run that is killed from here on leaves the next one something to do
            apply_files(self.host.files, [{"path": self.layout.published, "state": "absent"}])
        self.apply([{"path": path, "state": "absent"} for path in strangers])

    def foreign(self) -> list[str]:
        """Directories of services that tor has in memory, and that neither its torrc nor the included lines have."""
        torrc = self.host.files.read(self.layout.torrc) if self.host.files.lstat(self.layout.torrc) is not None else b""
        own = {path.rstrip("/") for path in _DIRECTORY.findall(torrc.decode(errors="replace"))}
        return [path for path in self.ask().foreign if path not in own]

    def apply(self, items: Iterable[Mapping[str, Any]]) -> list[str]:
        return self.done.add(apply_files(self.host.files, items, check=self.check))

    def directories(self, before: Mapping[str, Sequence[str]], proven: set[str]) -> tuple[set[str], set[str]]:
        """Write keys; which services are to be published, and which of them are to be taken away before."""
        layout, awaited, cut = self.layout, set(), set()
        root = {"path": layout.root, "state": "directory", "mode": 0o700, "owner": layout.owner, "group": layout.owner}
        self.apply([root] if self.wanted else [])
        for name, service in self.wanted.items():
            items = service.files(layout)
            revoked = self._others(layout.clients(name), {item["path"] for item in items})
            changed = self.apply([*items, *({"path": path, "state": "absent"} for path in revoked)])
            if not changed and name in proven:
                continue
            awaited.add(name)
            asked = any("PoW" in line for line in before.get(name, ())) != service.pow
            admitted = [path for path in changed if path.startswith(f"{layout.clients(name)}/") and path not in revoked]
            if name in before and (admitted != changed or not (changed or asked)):
                cut.add(name)
        return awaited, cut

    def foreseen(self) -> bool:
        """Whether the lines that torrc includes are others."""
        return bool(self.done.add(apply_files(self.host.files, [self._lines(self.wanted)], check=True)))

    def write(self, names: Iterable[str]) -> None:
        """Write the lines that torrc includes, if tor takes them."""
        layout, files = self.layout, self.host.files
        old = files.read(layout.include) if files.lstat(layout.include) is not None else b""
        item = self._lines(names)
        apply_files(files, [item])
        # a tor that finds a fault when it reloads ends
        argv = ["tor", "--verify-config", "--defaults-torrc", "/dev/null", "-f", layout.torrc]
        tried = self.host.run(argv, deadline=_SOON, owner=layout.owner)
        if tried.returncode:
            apply_files(files, [{**item, "content": old}])
            said = [line for line in tried.stdout.decode(errors="replace").splitlines() if _NOTES.match(line)]
            raise BcmError(
                f"tor in instance {self.host.name}",
                "does not take its configuration, so it keeps the one it had: "
                f"{' '.join(_NOTES.sub('', line) for line in said[:3]) or 'it does not say why'}",
                code="invalid_value",
            )

    def _lines(self, names: Iterable[str]) -> dict[str, Any]:
        layout = self.layout
        content = include((self.wanted[name] for name in sorted(names)), layout).encode()
        return {"path": layout.include, "content": content, "mode": 0o640, "owner": "0", "group": layout.owner}

    def leftovers(self) -> None:
        """Remove the keys of services that nobody wants."""
        wanted = {self.layout.directory(name) for name in self.wanted}
        self.apply([{"path": path, "state": "absent"} for path in self._others(self.layout.root, wanted)])

    def _others(self, directory: str, wanted: set[str]) -> list[str]:
        if self.host.files.lstat(directory) is None:
            return []
        paths = (f"{directory}/{name}" for name in self.host.files.names(directory))
        return [path for path in paths if path not in wanted]

    def ask(self) -> tor_control.Published:
        return self._script([], _SOON, reload=False)

    def take_away(self, names: Collection[str]) -> None:
        """Have tor forget services, which it then takes up as new ones."""
        if names:
            self.write(name for name in self.wanted if name not in names)
            self._script([], _SOON)
            self.write(self.wanted)

    def publish(self, names: Sequence[str], deadline: float) -> None:
        """Have tor read its configuration, and see these services published."""
        end = time.monotonic() + deadline
        said, missing = self._published(names, deadline)
        while rejected := [
            name for name in missing if tor_control.REJECTED in said.failed.get(self._address(name), "")
        ]:
            left = end - time.monotonic()
            if left <= 0:
                break
            self.take_away(rejected)
            said, missing = self._published(missing, left)
        if missing:
            raise _late(self.host.name, missing, said, deadline, self.wanted)
        self.done.published = list(names) if said.network else []

    def _published(self, names: Sequence[str], deadline: float) -> tuple[tor_control.Published, list[str]]:
        said = self._script([self._address(name) for name in names], deadline)
        self.done.network = said.network
        return said, [name for name in names if said.network and self._address(name) not in said.uploaded]

    def _address(self, name: str) -> str:
        return self.wanted[name].key.address

    def record(self) -> None:
        """Keep what is published now, or would be if tor used the network."""
        services = {name: service.digest for name, service in sorted(self.wanted.items())}
        content = json.dumps({"network": self.done.network, "services": services}).encode()
        apply_files(
            self.host.files,
            [{"path": self.layout.published, "content": content, "mode": 0o600, "owner": "0", "group": "0"}],
        )

    def _script(self, addresses: Sequence[str], deadline: float, *, reload: bool = True) -> tor_control.Published:
        present = self.present()
        request = {
            "socket": self.layout.control,
            "directories": [self.layout.directory(name) for name in present],
            "addresses": list(addresses),
            "deadline": deadline,
            "reload": reload,
        }
        script = Path(tor_control.__file__).read_text(encoding="utf-8")
        answer = answered(self.host, script, request, tor_control.SHAPE, deadline + _SOON)
        where = f"instance {self.host.name}"
        if "error" in answer:
            raise BcmError(
                f"In {where} {answer['error']}",
                remedy="see with systemctl status tor whether it runs, and run again; what was written stays",
                code="service_failed",
                about=f"tor in {where}",
            )
        published = tor_control.Published(**{name: answer[name] for name in tor_control.SHAPE})
        if published.unknown:
            raise BcmError(
                f"tor in {where}",
                f"does not read {self.layout.include}",
                f"put the line %include {self.layout.include.rpartition('/')[0]}/*.conf into its torrc, and run again",
                code="invalid_value",
            )
        return published


def _late(
    where: str, missing: Sequence[str], said: tor_control.Published, deadline: float, services: Mapping[str, Service]
) -> BcmError:
    fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', said.bootstrap))
    if fields.get("PROGRESS") != "100":
        phase = tor_control.unquoted(fields.get("SUMMARY", "unknown"))
        warning = f", {tor_control.unquoted(fields['WARNING'])}" if "WARNING" in fields else ""
        return BcmError(
            f"tor in instance {where}",
            f"has not reached its network after {deadline:g} s, it is at {fields.get('PROGRESS', 0)} % "
            f"({phase}{warning})",
            "see that its clock is right, that a firewall lets it out, or give it a bridge; then run again",
            code="timeout",
        )
    reasons = {reason for name in missing if (reason := said.failed.get(services[name].key.address))}
    return BcmError(
        f"tor in instance {where}",
        f"did not upload the descriptors of {', '.join(missing)} within {deadline:g} s"
        f"{' (' + ', '.join(sorted(reasons)) + ')' if reasons else ''}: the network is slow, or its directories refuse "
        "them;",
        "run again, with a longer deadline",
        code="timeout",
    )
