# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm lightning restore`: a node that lost its volume, from its words and the newest that there is of its channels."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.disk import disk_errors
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import unknown
from ansible_collections.bcm.core.plugins.module_utils._base.read import has_shape, read_object
from ansible_collections.bcm.core.plugins.module_utils._base.text import harmless
from ansible_collections.bcm.core.plugins.module_utils._datacenter import backup_keys, secrets_file
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack

from . import backup, playbook, setup, trezor_session
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer
from .stacks import checked
from .status import deployed

_DEADLINE = 300.0
#: what a copy says, besides channels whose fields may be missing
_SHAPE = {
    "datacenter": str, "chain": str, "stack": str, "node": str, "created": str, "backup": str, "sha256": str,
    "channels": [dict],
}  # fmt: skip
_CLOSED = "closed by the peer, yours less fees on chain"
_SQLITE = b"SQLite format 3\0"
# of bbolt: at this offset in its first page
_BOLT, _BOLT_OFFSET = bytes.fromhex("edda0ced"), 16


@dataclass(frozen=True)
class Copy:
    """A copy that was decrypted and checked, and where it comes from."""

    place: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Replica:
    """What the second volume of a node has that keeps a replica of its database."""

    exists: bool
    #: why it cannot be used
    fault: str | None
    #: by their points
    channels: Mapping[str, Mapping[str, Any]]
    #: whether there is a channel backup beside it
    has_backup: bool


def restore(args: argparse.Namespace) -> int:
    """Make a node's wallet again, with its channels if it can, after showing what happens to each."""
    datacenter: DataCenter = args.datacenter
    stack = checked(datacenter, [args.stack])[args.stack]
    check_restorable(datacenter, stack)
    secrets = _secrets(datacenter)
    if f"{stack.name}/recovery_words" not in secrets:
        raise BcmError(
            f"Data center {datacenter.name}",
            f"has no recovery words of {stack.name}",
            "put the newest copy of its secrets back, or add them with `bcm secret edit` as "
            f"{stack.name}/recovery_words",
            code="data_at_risk",
        )
    faults: list[str] = []
    sealed = _sealed(args, datacenter, stack, faults)
    found = [_checked(datacenter, stack, secrets, place, content) for place, content in sealed]
    newest = max(found, key=lambda copy: str(copy.content["created"])) if found else None
    replica = _replica(args, datacenter, stack, secrets)
    if replica is None and newest is None:
        raise _nothing_found(stack, faults)
    variables: dict[str, Any] = {f"{stack.prefix}_restore": True}
    if replica is not None and replica.exists and _is_newest(replica, newest):
        setup.step(f"The replica of {stack.name}'s database is there. Its channels:")
        answer([_fate({"point": point, **channel}, "stays open") for point, channel in replica.channels.items()], False)
    elif newest is not None:
        variables[f"{stack.prefix}_restore_backup"] = newest.content["backup"]
        setup.step(f"Channels of {stack.name} at {newest.content['created']}, from {newest.place}:")
        answer([_fate(channel, _CLOSED) for channel in newest.content["channels"]], False)
        _warn()
    elif replica is not None and replica.has_backup and not replica.exists:
        setup.step("No copy was found, and no replica. The channels in the channel backup on the second volume:")
        _warn()
    elif replica is not None and replica.exists:
        raise BcmError(
            f"Stack {stack.name}", replica.fault or "has an old replica",
            "name a file or a target with --from, and have the channels closed", code="data_at_risk",
        )  # fmt: skip
    else:
        raise _nothing_found(stack, faults)
    setup.confirm(f"Restore {stack.name}?", args.yes, "Nothing was restored")
    with setup.private_folder() as folder:
        path = folder / "restore.json"
        path.write_text(json.dumps(variables), encoding="utf-8")
        return _start(args, stack.name, f"@{path}")


def _warn() -> None:
    setup.step(
        "All of them are closed. What was yours comes back on chain, less fees, once the other node is there. "
        "Coins in a channel with a node that never comes back are lost"
    )


def _nothing_found(stack: Stack, faults: list[str]) -> BcmError:
    return BcmError(
        f"No copy of the channels of {stack.name}",
        f"was found: {'; '.join(faults) or 'there is no target'}",
        "name a file with --from. Without one, the recovery words bring back what is on chain, and channels are "
        f"lost: `bcm stack start {stack.name} -e {stack.prefix}_restore=true`",
        code="not_found",
    )


def _replica(
    args: argparse.Namespace, datacenter: DataCenter, stack: Stack, secrets: Mapping[str, str]
) -> Replica | None:
    """Return what the second volume has; None if the node keeps no replica. Raises BcmError for a node at work."""
    program = stack.role_path / "scripts/replica.py"
    if not program.exists():
        return None
    if not _is_running(datacenter, stack.name):
        setup.step(f"{stack.name} is started, to look at its second volume; it refuses to work without its wallet")
        _start(args, stack.name)
    shape = {
        "has_database": bool, "is_restoring": bool, "has_replica": bool, "has_backup": bool, "channels": {str: dict},
    }  # fmt: skip
    with connect(datacenter) as client:
        request = {"node": secrets.get(f"{stack.name}/public_key", "")}
        found = ask_program(client, stack.name, program, request, shape=shape, deadline=_DEADLINE)
    if found["has_database"] and not found["is_restoring"]:
        raise BcmError(
            f"Stack {stack.name}",
            "has its database on its volume, so there is nothing to restore",
            f"if it does not work, see `bcm logs {stack.name}`",
            code="data_at_risk",
        )
    fault = found.get("fault")
    exists = found["has_replica"] and not found["is_restoring"]
    return Replica(exists, harmless(fault) if isinstance(fault, str) else None, found["channels"], found["has_backup"])


def _is_newest(replica: Replica, copy: Copy | None) -> bool:
    """Whether a replica can be used: it is whole, and has all that a copy knows of. It says why not."""
    fault = replica.fault
    for channel in copy.content["channels"] if copy is not None and not fault else ():
        point, payments = str(channel.get("point")), channel.get("payments", 0)
        own = replica.channels.get(point)
        if own is None:
            fault = f"it lacks the channel {harmless(point)}"
        elif isinstance(payments, int) and payments > int(own.get("payments") or 0):
            fault = f"channel {harmless(point)} has had {own.get('payments')} payments in it, and {payments} in reality"
        if fault:
            fault = f"The replica is older than the copy of {copy.content['created']}: {fault}" if copy else fault
            break
    if fault:
        setup.step(f"{fault}. With an old database, the other sides could take all coins, so it is not used")
    return not fault


def _is_running(datacenter: DataCenter, name: str) -> bool:
    with connect(datacenter) as client:
        instance = deployed(client).get(name)
    return instance is not None and instance["status"] == "Running"


def check_restorable(datacenter: DataCenter, stack: Stack) -> None:
    """Raises UsageError if a stack has no channels."""
    if f"{stack.prefix}_restore_backup" not in datacenter.role_variables([stack]).names(stack):
        raise UsageError(f"Stack {stack.name}", "has no channels to restore", "name a Lightning node, such as lnd")


def _secrets(datacenter: DataCenter) -> dict[str, str]:
    path = datacenter.secrets / f"{datacenter.chain}.json"
    with trezor_session.session(datacenter) as environment:
        return secrets_file.read_secrets(path, trezor_session.vault(datacenter, environment))


def _start(args: argparse.Namespace, stack: str, *extra_vars: str) -> int:
    common = {"datacenter": args.datacenter, "yes": args.yes, "json": False, "check": False, "diff": False}
    run = {"state": "start", "stacks": [stack], "delete_data": False, "verbose": 0, "extra_vars": list(extra_vars)}
    return playbook.change(argparse.Namespace(**common, **run))


def _sealed(
    args: argparse.Namespace, datacenter: DataCenter, stack: Stack, faults: list[str]
) -> list[tuple[str, bytes]]:
    """Return the newest copy of each place that has one, or of the one that was named. Raises BcmError."""
    declared = datacenter.variable("backups_targets") or {}
    if args.origin and args.origin not in declared:
        path = Path(args.origin).expanduser()
        if not path.exists() and "/" not in args.origin:
            raise UsageError.of(unknown("target", args.origin, sorted(declared)))
        with disk_errors(f"File {path}"):
            return [(str(path), path.read_bytes())]
    own = backup.folders(datacenter)
    wanted = [args.origin] if args.origin else list(declared)
    found = [item for name in wanted if name in own for item in _in_folder(datacenter, stack, own[name])]
    if own and not found:
        faults.append("the folders of this machine have no copy")
    remote = [name for name in wanted if name not in own]
    if remote or not args.origin:
        found += _remote(args, datacenter, stack, remote, faults)
    if args.origin and not found:
        raise _nothing_found(stack, faults)
    return found


def _in_folder(datacenter: DataCenter, stack: Stack, folder: Path) -> list[tuple[str, bytes]]:
    with disk_errors(f"Folder {folder}"):
        names = backup.copies_in(folder, backup.beginning_of(datacenter, stack.name))
        return [(str(folder / names[-1]), (folder / names[-1]).read_bytes())] if names else []


def _remote(
    args: argparse.Namespace, datacenter: DataCenter, stack: Stack, wanted: list[str], faults: list[str]
) -> list[tuple[str, bytes]]:
    """Return the copies at servers, which only the instance reaches, and those of the instance itself."""
    is_running = _is_running(datacenter, backup.STACK)
    if not is_running and not wanted:
        return []
    # It may have failed because of another node that has no wallet either.
    ended = 0 if is_running else _start(args, backup.STACK)
    request = {"verb": "newest", "stack": stack.name, "targets": wanted}
    try:
        with connect(datacenter) as client:
            answered = backup.ask(datacenter, client, request, shape={"targets": {str: {str: str}}}, deadline=_DEADLINE)
    except LxdError as error:
        reason = f"the run that starts it ended with {ended}" if ended else str(error)
        raise BcmError(
            f"Stack {backup.STACK}", f"cannot be asked for copies: {reason}",
            "if it waits for a node that has no wallet, remove that first (`bcm stack remove NODE`; volumes are kept), "
            "and restore again", code="not_ready",
        ) from error  # fmt: skip
    copies = []
    for name, item in answered["targets"].items():
        if "content" in item and (name or not args.origin):
            copies.append((f"target {name}" if name else f"the volume of {backup.STACK}", _decoded(item["content"])))
        elif name:
            setup.step(f"Target {name}: {harmless(item.get('fault', 'no answer'))}")
            faults.append(f"target {name}: {harmless(item.get('fault', 'no answer'))}")
    return copies


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BcmError(f"Instance {backup.STACK}", "sent a copy that is damaged", code="damaged") from error


def _checked(
    datacenter: DataCenter, stack: Stack, secrets: Mapping[str, str], place: str, sealed: bytes
) -> Copy:
    """Decrypt a copy, and compare it with the data center and the node. Raises BcmError."""
    if sealed.startswith(_SQLITE) or sealed[_BOLT_OFFSET:].startswith(_BOLT):
        raise BcmError(
            place,
            "is a database of a node. An old one has former states of channels: publishing one lets the other side "
            "take all coins in the channel",
            "never put one back; name a copy that the stack backups made",
            code="data_at_risk",
        )
    key = backup.needed_secret(secrets, f"{backup.STACK}/sealing_key")
    try:
        content = read_object(backup_keys.decrypt(key, sealed))
        if not has_shape(content, _SHAPE):
            raise ValueError("it is not what the stack backups writes")
        digest = hashlib.sha256(base64.b64decode(str(content["backup"]), validate=True)).hexdigest()
        if digest != content["sha256"]:
            raise ValueError("its digest is another one")
    except ValueError as error:
        raise BcmError(place, f"is damaged: {error}", "use another copy", code="damaged") from error
    except BcmError as error:
        raise error.within(place) from error
    is_of = (content["datacenter"], content["chain"], content["stack"])
    if is_of != (datacenter.name, datacenter.chain, stack.name):
        raise BcmError(
            place, f"is of {' '.join(map(str, is_of))}, not of {datacenter.name} {datacenter.chain} {stack.name}",
            "use a copy of this node", code="wrong_key",
        )  # fmt: skip
    node = secrets.get(f"{stack.name}/public_key", content["node"])
    if content["node"] != node:
        raise BcmError(
            place, f"is of node {content['node']}, not of {node}", "use a copy of this node", code="wrong_key"
        )
    return Copy(place, content)


def _fate(channel: Mapping[str, Any], fate: str) -> dict[str, Any]:
    """What becomes of a channel."""
    peer = channel.get("peer") or channel.get("public_key") or "a node that is not known"
    local = channel.get("local")
    is_empty = fate == _CLOSED and local == 0
    return {
        "peer": peer,
        "channel": channel.get("point"),
        "capacity": channel.get("capacity"),
        "yours": local,
        "what happens": "nothing of yours was in it" if is_empty else fate,
    }
