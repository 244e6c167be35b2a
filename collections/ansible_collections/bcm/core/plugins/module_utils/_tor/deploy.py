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
from .._base.read import read_object
from .._guest import tor_control
from .._lxd import exec as _exec
from .._lxd.client import Client
from .._lxd.files import FileSession, FilesResult, apply_files
from .._lxd.programs import ask_program_by
from .services import LAYOUT, Layout, Service, include

DEADLINE = 600.0  # seconds until all services are published, by default
#: seconds of one try. A relay that failed as introduction point of a service is none of it for 5 minutes
#: (INTRO_CIRC_RETRY_PERIOD of tor), but of a service that was away for a moment.
_TRY = 150.0
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
        command = _exec.Command(argv, stdin=stdin, cwd="/", user=user, group=group)
        return _exec.run(self._client, self.name, command, deadline=deadline)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *exc: object) -> None:
        self.files.close()


@dataclass
class DeployResult:
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


def ask_tor(host: Host, program: str, request: Mapping[str, Any], shape: Any, deadline: float) -> dict[str, Any]:
    """The answer of a program in the folder _guest that asks tor. Raises BcmError, also for what tor refuses."""
    path = Path(tor_control.__file__).with_name(program)
    answer = ask_program_by(host.run, host.name, path, request, shape=({"error": str}, shape), deadline=deadline)
    if "error" in answer:
        raise BcmError(
            f"In instance {host.name} {answer['error']}",
            remedy="see with systemctl status tor whether it runs, and run again; what was written stays",
            code="service_failed",
            about=f"tor in instance {host.name}",
        )
    return answer


def deploy(
    host: Host,
    services: Iterable[Service],
    *,
    check: bool = False,
    deadline: float,
    network: bool | None = None,
    layout: Layout = LAYOUT,
    one_try: float = _TRY,
) -> DeployResult:
    """Configure exactly these services, without parked ones. Raises BcmError.

    ``deadline`` is in seconds until all are published, in tries of ``one_try`` each. ``network`` is whether tor uses
    the network; it is asked if that is None.
    """
    wanted = {service.name: service for service in services if not service.parked}
    work = _Deployment(host, wanted, check, layout)
    foreign_files = work.foreign_files()
    is_untouched = host.files.lstat(layout.include) is None and host.files.lstat(layout.root) is None
    if not wanted and not foreign_files and is_untouched:
        return DeployResult()
    lines_before = work.read_lines()
    has_foreign = bool(foreign_files or work.foreign_directories())
    work.remove_foreign_files(foreign_files)
    recorded = read_published(host.files, layout)
    published = {name for name, service in wanted.items() if recorded.services.get(name) == service.digest}
    if wanted and published == set(wanted) and not recorded.network:
        has_network = work.query().network if network is None else network
        if has_network:  # by now
            published = set()
    to_publish, to_withdraw = work.write_directories(lines_before, published)
    lines_differ = work.lines_differ()
    if (lines_differ or to_withdraw) and not check:
        work.write_lines(wanted)
        work.withdraw(to_withdraw)
    work.remove_unwanted_directories()
    work.result.changed = bool(work.result.files or to_publish or has_foreign)
    if work.result.changed and not check:
        work.publish(sorted(to_publish), deadline, one_try)
        work.record_published()
    return work.result


@dataclass(frozen=True)
class PublishedState:
    """The services that were published in the last run, and whether tor had a network then."""

    services: Mapping[str, str]
    network: bool


def read_published(files: FileSession, layout: Layout = LAYOUT) -> PublishedState:
    """Read the record in an instance; empty if it is damaged, so that everything is verified again."""
    if files.lstat(layout.published) is not None:
        try:
            content = read_object(files.read(layout.published))
            return PublishedState(dict(content["services"]), bool(content["network"]))
        except (KeyError, TypeError, ValueError):
            pass
    return PublishedState({}, True)


class _Deployment:
    def __init__(self, host: Host, wanted: Mapping[str, Service], check: bool, layout: Layout) -> None:
        self.host, self.wanted, self.check, self.layout = host, wanted, check, layout
        self.result = DeployResult()

    def read_lines(self) -> dict[str, list[str]]:
        """Return the lines of torrc for each service."""
        if self.host.files.lstat(self.layout.include) is None:
            return {}
        result: dict[str, list[str]] = {}
        for block in self.host.files.read(self.layout.include).decode(errors="replace").split("\n\n"):
            lines = block.strip().splitlines()
            if lines:
                result[lines[0].rpartition("/")[2]] = lines
        return result

    def foreign_files(self) -> list[str]:
        """Files of others in the folder that torrc includes."""
        layout = self.layout
        return self._others(posixpath.dirname(layout.include), {layout.include, layout.published})

    def remove_foreign_files(self, paths: Sequence[str]) -> None:
        if paths and not self.check:
            # so that a run that is killed from here on leaves the next one something to do
            apply_files(self.host.files, [{"path": self.layout.published, "state": "absent"}])
        self.apply_files([{"path": path, "state": "absent"} for path in paths])

    def foreign_directories(self) -> list[str]:
        """Directories of services that tor has in memory, and that neither its torrc nor the included lines have."""
        torrc = self.host.files.read(self.layout.torrc) if self.host.files.lstat(self.layout.torrc) is not None else b""
        own = {path.rstrip("/") for path in _DIRECTORY.findall(torrc.decode(errors="replace"))}
        return [path for path in self.query().foreign if path not in own]

    def apply_files(self, items: Iterable[Mapping[str, Any]]) -> list[str]:
        return self.result.add(apply_files(self.host.files, items, check=self.check))

    def write_directories(
        self, lines_before: Mapping[str, Sequence[str]], published: set[str]
    ) -> tuple[set[str], set[str]]:
        """Write keys. Returns the services to publish, and those of them to withdraw before."""
        layout, to_publish, to_withdraw = self.layout, set(), set()
        root = {"path": layout.root, "state": "directory", "mode": 0o700, "owner": layout.owner, "group": layout.owner}
        self.apply_files([root] if self.wanted else [])
        for name, service in self.wanted.items():
            items = service.files(layout)
            revoked = self._others(layout.clients(name), {item["path"] for item in items})
            changed = self.apply_files([*items, *({"path": path, "state": "absent"} for path in revoked)])
            if not changed and name in published:
                continue
            to_publish.add(name)
            pow_differs = any("PoW" in line for line in lines_before.get(name, ())) != service.pow
            admitted = [path for path in changed if path.startswith(f"{layout.clients(name)}/") and path not in revoked]
            if name in lines_before and (admitted != changed or not (changed or pow_differs)):
                to_withdraw.add(name)
        return to_publish, to_withdraw

    def lines_differ(self) -> bool:
        """Whether the lines that torrc includes have to change; the diff shows how."""
        return bool(self.result.add(apply_files(self.host.files, [self._lines(self.wanted)], check=True)))

    def write_lines(self, names: Iterable[str]) -> None:
        """Write the lines that torrc includes, if tor takes them."""
        layout, files = self.layout, self.host.files
        old = files.read(layout.include) if files.lstat(layout.include) is not None else b""
        item = self._lines(names)
        apply_files(files, [item])
        # a tor that finds a fault when it reloads ends
        argv = ["tor", "--verify-config", "--defaults-torrc", "/dev/null", "-f", layout.torrc]
        checked = self.host.run(argv, deadline=_SOON, owner=layout.owner)
        if checked.returncode:
            apply_files(files, [{**item, "content": old}])
            faults = [line for line in checked.stdout.decode(errors="replace").splitlines() if _NOTES.match(line)]
            raise BcmError(
                f"tor in instance {self.host.name}",
                "does not take its configuration, so it keeps the one it had: "
                f"{' '.join(_NOTES.sub('', line) for line in faults[:3]) or 'it does not say why'}",
                code="invalid_value",
            )

    def _lines(self, names: Iterable[str]) -> dict[str, Any]:
        layout = self.layout
        content = include((self.wanted[name] for name in sorted(names)), layout).encode()
        return {"path": layout.include, "content": content, "mode": 0o640, "owner": "0", "group": layout.owner}

    def remove_unwanted_directories(self) -> None:
        """Remove the keys of services that are not wanted."""
        wanted = {self.layout.directory(name) for name in self.wanted}
        self.apply_files([{"path": path, "state": "absent"} for path in self._others(self.layout.root, wanted)])

    def _others(self, directory: str, wanted: set[str]) -> list[str]:
        if self.host.files.lstat(directory) is None:
            return []
        paths = (f"{directory}/{name}" for name in self.host.files.names(directory))
        return [path for path in paths if path not in wanted]

    def query(self) -> tor_control.Published:
        return self._run_guest([], _SOON, reload=False)

    def withdraw(self, names: Collection[str]) -> None:
        """Have tor forget services, which it then takes up as new ones."""
        if names:
            self.write_lines(name for name in self.wanted if name not in names)
            self._run_guest([], _SOON)
            self.write_lines(self.wanted)

    def publish(self, names: Sequence[str], deadline: float, one_try: float) -> None:
        """Have tor read its configuration, and see these services published."""
        end = time.monotonic() + deadline
        answer, missing = self._publish_once(names, min(deadline, one_try))
        while missing and (left := end - time.monotonic()) > 0:
            self.withdraw(missing)
            answer, missing = self._publish_once(missing, min(left, one_try))
        if missing:
            raise _late_message(self.host.name, missing, answer, deadline, self.wanted)
        self.result.published = list(names) if answer.network else []

    def _publish_once(self, names: Sequence[str], deadline: float) -> tuple[tor_control.Published, list[str]]:
        answer = self._run_guest([self._address(name) for name in names], deadline)
        self.result.network = answer.network
        return answer, [name for name in names if answer.network and self._address(name) not in answer.uploaded]

    def _address(self, name: str) -> str:
        return self.wanted[name].key.address

    def record_published(self) -> None:
        """Keep what is published now, or would be if tor used the network."""
        services = {name: service.digest for name, service in sorted(self.wanted.items())}
        content = json.dumps({"network": self.result.network, "services": services}).encode()
        apply_files(
            self.host.files,
            [{"path": self.layout.published, "content": content, "mode": 0o600, "owner": "0", "group": "0"}],
        )

    def _run_guest(self, addresses: Sequence[str], deadline: float, *, reload: bool = True) -> tor_control.Published:
        lines = self.read_lines()
        request = {
            "socket": self.layout.control,
            "directories": [self.layout.directory(name) for name in lines],
            "addresses": list(addresses),
            "deadline": deadline,
            "reload": reload,
        }
        answer = ask_tor(self.host, "tor_control.py", request, tor_control.SHAPE, deadline + _SOON)
        published = tor_control.Published(**{name: answer[name] for name in tor_control.SHAPE})
        if published.unknown:
            raise BcmError(
                f"tor in instance {self.host.name}",
                f"does not read {self.layout.include}",
                f"put the line %include {self.layout.include.rpartition('/')[0]}/*.conf into its torrc, and run again",
                code="invalid_value",
            )
        return published


def _late_message(
    where: str, missing: Sequence[str], answer: tor_control.Published, deadline: float, services: Mapping[str, Service]
) -> BcmError:
    fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', answer.bootstrap))
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
    reasons = {reason for name in missing if (reason := answer.failed.get(services[name].key.address))}
    return BcmError(
        f"tor in instance {where}",
        f"did not upload the descriptors of {', '.join(missing)} within {deadline:g} s"
        f"{' (' + ', '.join(sorted(reasons)) + ')' if reasons else ''}: "
        f"{answer.state or 'its directories refuse them'};",
        "run again; if it stays so, see that the clock is right and the network good, or give a longer deadline",
        code="timeout",
    )
