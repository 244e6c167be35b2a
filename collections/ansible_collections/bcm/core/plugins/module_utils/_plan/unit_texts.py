# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd units of a stack, from its part of the plan (`bcm`) and the few facts that its role declares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from .._base import names
from .._base.errors import BcmError
from .._lxd.guest_libraries import libraries_of

#: the first line of every file that Ansible writes
_HEAD = "# Ansible managed\n"
_UNITS = Path("/etc/systemd/system")
_PROGRAMS = "/usr/local/lib"

#: of a unit; docs/stacks.md says what each means
_OF_UNIT = (
    "after",
    "before",
    "command",
    "description",
    "environment",
    "manual",
    "programs",
    "sandbox",
    "service",
    "stopped",
    "type",
    "unit",
    "wait_for",
)
_OF_SANDBOX = ("addresses", "anywhere", "calls", "families", "loosen", "write")

_SANDBOX = {
    "PrivateTmp": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "PrivateDevices": "yes",
    "RemoveIPC": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "NoNewPrivileges": "yes",
    "PrivateUsers": "yes",
    "CapabilityBoundingSet": "",
    "RestrictSUIDSGID": "yes",
    "RestrictRealtime": "yes",
    "RestrictNamespaces": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


class Facts(TypedDict):
    """What is read here of `bcm`."""

    stack: str
    description: str
    user: str
    role_path: str
    address: str
    volumes: Mapping[str, Mapping[str, str]]
    needs: Mapping[str, Mapping[str, Mapping[str, Any]]]
    consumers: Mapping[str, Mapping[str, Any]]
    journals: Mapping[str, Mapping[str, Any]]
    exceptions: Sequence[Mapping[str, str]]
    uplink: Mapping[str, Any] | None
    needs_ca: bool
    has_certificate: bool


def of_stack(
    bcm: Facts, units: Mapping[str, Mapping[str, Any]], secrets: Mapping[str, str], common: Path
) -> list[dict[str, Any]]:
    """Return ``files`` as the module `lxd_unit` takes them: directories of volumes, units, programs.

    ``secrets`` are those that the stack is given, by name; ``common`` is the folder of the role `_common`. Raises
    BcmError if a unit has an unknown key, or no command.
    """
    for name, unit in units.items():
        _check(f"Unit {name} of stack {bcm['stack']}", unit, _OF_UNIT)
        if not unit.get("command"):
            raise BcmError(
                f"Unit {name} of stack {bcm['stack']}", "has no command", "add one", code="invalid_definition"
            )
    return [*_directories(bcm), *_unit_files(bcm, units), *_programs(bcm, units, secrets, common)]


def sandbox(bcm: Facts, needs: Mapping[str, Any]) -> str:
    """The drop-in with the sandbox of a unit; ``needs`` is what its program needs beyond it.

    ``write``: paths it writes to; nothing else but its own /tmp is writable. ``calls``: system calls beyond those of
    @system-service. ``families``: address families beyond AF_UNIX, AF_INET and AF_INET6. ``anywhere``: it may talk to
    any address (tor alone). ``addresses``: networks that it may talk to, in place of those that the plan says.
    ``loosen``: directives to replace. Raises BcmError if there is another key.
    """
    _check(f"The sandbox of stack {bcm['stack']}", needs, _OF_SANDBOX)
    lines = [f"{name}={value}" for name, value in {**_SANDBOX, **needs.get("loosen", {})}.items()]
    # A share of the instance's own limits: the rest is for its systemd, and for a person who investigates.
    lines += ["MemoryMax=90%", "TasksMax=80%"]
    lines += [f"ReadWritePaths={path}" for path in needs.get("write", ())]
    lines.append(" ".join(["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", *needs.get("families", ())]))
    if bcm["needs_ca"]:
        # Whichever TLS library it uses finds the data center's root there, and no other root.
        lines += [
            "BindReadOnlyPaths=/etc/bcm/trust:/etc/ssl/certs",
            "Environment=SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ]
    if bcm["has_certificate"]:
        lines.append("SupplementaryGroups=tls")  # the group that may read the key of its certificate
    lines += [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallFilter=~add_key kcmp keyctl mbind move_pages name_to_handle_at personality process_vm_readv"
        " process_vm_writev",
        "SystemCallFilter=~request_key setns unshare userfaultfd",
        *(f"SystemCallFilter={call}" for call in needs.get("calls", ())),
        "SystemCallErrorNumber=EPERM",  # programs lower their own priority, and continue if they may not
    ]
    if not needs.get("anywhere"):
        # Where the kernel's control groups allow it, systemd repeats here what the network's ACL enforces everywhere.
        addresses = needs["addresses"] if "addresses" in needs else sorted(_addresses(bcm))
        lines += ["IPAddressDeny=any", "IPAddressAllow=localhost", f"IPAddressAllow={' '.join(addresses)}"]
    return _text("[Service]", *lines)


def _addresses(bcm: Facts) -> set[str]:
    needed = (service["address"] for services in (bcm.get("needs") or {}).values() for service in services.values())
    consumers = (consumer["address"] for consumer in (bcm.get("consumers") or {}).values())
    journals = (journal["address"] for journal in (bcm.get("journals") or {}).values())
    exceptions = (exception["to"] for exception in bcm.get("exceptions") or ())
    return {bcm["address"], *needed, *consumers, *journals, *exceptions}


def _directories(bcm: Facts) -> Iterator[dict[str, Any]]:
    if bcm["uplink"] is None:
        # of an exception that is no longer in the inventory
        for path in ("/etc/systemd/network/05-uplink.network", "/var/lib/bcm/files/uplink.digest"):
            yield {"path": path, "state": "absent"}
    for volume in bcm["volumes"].values():
        yield {"path": volume["path"], "state": "directory", "mode": "0700", **_own(bcm)}


def _unit_files(bcm: Facts, units: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    paths = [volume["path"] for volume in bcm["volumes"].values()]
    for name, unit in units.items():
        path = _UNITS / f"{name}.service"
        yield {"path": str(path), "content": _unit(bcm, name, unit)}
        needs = {"write": paths, **unit.get("sandbox", {})}
        yield {"path": f"{path}.d/10-sandbox.conf", "content": sandbox(bcm, needs)}


def _unit(bcm: Facts, name: str, unit: Mapping[str, Any]) -> str:
    uplink = bcm["uplink"]
    after, binds = "network-online.target", []
    if uplink is not None and uplink["user"] is not None:
        after += " egress.service"
        # It runs only while the rules of the packet filter are loaded.
        binds = ["BindsTo=egress.service"]
    lines = [
        "[Unit]",
        f"Description={unit.get('description', bcm['description'])}",
        "Wants=network-online.target",
        f"After={after}",
        *binds,
        "StartLimitIntervalSec=0",
        *_directives(unit.get("unit")),
        "",
        "[Service]",
        f"Type={unit.get('type', 'exec')}",
        *(["NotifyAccess=all"] if unit.get("type") == "notify" else []),
        f"User={bcm['user']}",
        f"Group={bcm['user']}",
        *(f'Environment="{key}={_escaped(value)}"' for key, value in (unit.get("environment") or {}).items()),
        *(_owned(bcm["user"], volume["path"]) for volume in bcm["volumes"].values()),
    ]
    if unit.get("wait_for"):
        lines += [f"ExecStartPre=python3 {_PROGRAMS}/bcm_wait.py {name}", "TimeoutStartSec=infinity"]
    lines += [
        *(f"ExecStartPre={command}" for command in unit.get("before") or ()),
        f"ExecStart={unit['command']}",
        *(f"ExecStartPost={command}" for command in unit.get("after") or ()),
        "Restart=on-failure",
        "RestartSec=1",
        *_directives(unit.get("service")),
    ]
    if not unit.get("manual"):
        lines += ["", "[Install]", "WantedBy=multi-user.target"]
    return _text(*lines)


def _owned(user: str, path: str) -> str:
    """An image may give the user another number than an earlier one did."""
    others = f"( ! -user {user} -o ! -group {user} )"
    return f"ExecStartPre=+find {path} -xdev {others} -execdir chown --no-dereference {user}: {{}} +"


def _programs(
    bcm: Facts, units: Mapping[str, Mapping[str, Any]], secrets: Mapping[str, str], common: Path
) -> Iterator[dict[str, Any]]:
    waits = {
        name: {key: _waited_for(bcm, key, call, secrets) for key, call in unit["wait_for"].items()}
        for name, unit in units.items()
        if unit.get("wait_for") and not unit.get("stopped")
    }
    programs = dict.fromkeys(program for unit in units.values() for program in unit.get("programs") or ())
    sources = [Path(bcm["role_path"]) / "scripts" / program for program in programs]
    sources += [common / "scripts/bcm_wait.py"] if waits else []
    for source in sources:
        yield {"path": f"{_PROGRAMS}/{source.name}", "src": str(source)}
    for library in libraries_of(sources).values():
        yield {"path": f"{_PROGRAMS}/bcm_guest/{library.name}", "src": str(library)}
    if waits:
        content = json.dumps(waits)
        yield {"path": "/etc/bcm/wait.json", "content": content, "mode": "0600", "sensitive": True, **_own(bcm)}


def _waited_for(bcm: Facts, key: str, call: str | None, secrets: Mapping[str, str]) -> dict[str, Any]:
    stack, service = key.split("/")
    secret = secrets.get(f"{key}/{bcm['stack']}") or ""
    return {**bcm["needs"][stack][service], "call": call, "credentials": f"{bcm['stack']}:{secret}"}


def _own(bcm: Facts) -> dict[str, str]:
    return {"owner": bcm["user"], "group": bcm["user"]}


def _directives(section: Mapping[str, Any] | None) -> list[str]:
    return [f"{key}={value}" for key, value in (section or {}).items()]


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def _text(*lines: str) -> str:
    return _HEAD + "\n".join(lines) + "\n"


def _check(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise names.unknown("key", str(key), known).within(what)
