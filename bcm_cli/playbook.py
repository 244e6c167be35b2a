# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm stack start`, `stop`, `restart` and `remove`: run site.yml and pass its exit status on."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import amount, harmless
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client, quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError

from . import device_keys, lxd_setup, setup, trezor_session
from .ansible_run import run_playbook
from .connect import connect
from .datacenter import DataCenter, UsageError
from .run_events import run_of
from .stacks import catalogue, checked

_STATES = {"start": "present", "stop": "stopped", "restart": "restarted", "remove": "absent"}
#: variables that a verb sets -> how to set them
_SAID_BY_VERBS = {
    "stack": "the words after the verb say",
    "state": "the verb says",
    "delete_data": "--delete-data says",
    "confirmed_volumes": "the answer to --delete-data says",
}


def change(args: argparse.Namespace) -> int:
    """start, stop, restart, remove."""
    datacenter: DataCenter = args.datacenter
    extra_vars = [_absolute_path(text) for text in args.extra_vars]
    with contextlib.ExitStack() as stack:
        environment: dict[str, str] = {}
        files = [*(f"@{path}" for path in datacenter.variable_files()), *extra_vars]
        encrypted = any(_needs_vault(text, datacenter.name) for text in files)
        if encrypted:
            datacenter.session = environment = stack.enter_context(trezor_session.session(datacenter))
        datacenter.give(_read_extra_vars(datacenter, extra_vars))
        checked(datacenter, args.stacks)
        # stopping and removing need no secrets
        if not encrypted and args.state in ("start", "restart"):
            datacenter.session = environment = stack.enter_context(trezor_session.session(datacenter))
        return _change(args, datacenter, extra_vars, environment)


def _change(
    args: argparse.Namespace, datacenter: DataCenter, extra_vars: list[str], environment: dict[str, str]
) -> int:
    extra: dict[str, object] = {
        "stack": ",".join(args.stacks),
        "state": _STATES[args.state],
        "bcm_datacenter": datacenter.name,
        "chain": datacenter.chain,
    }
    confirms = args.delete_data and not args.check
    if confirms and not (args.yes or sys.stdin.isatty()):
        raise BcmError(
            "--delete-data", "deletes wallets", "run it on a terminal, or add --yes", code="confirmation_needed"
        )
    if args.delete_data:
        extra["delete_data"] = True
    options = [word for text in extra_vars for word in ("-e", text)]
    options += ["--check"] * args.check + ["--diff"] * args.diff
    options += ["-" + "v" * args.verbose] * bool(args.verbose)
    if environment:
        options += ["--vault-id", f"{datacenter.name}@{setup.ROOT / 'bcm-vault-client'}"]
    device_keys.for_endpoint(datacenter, args.yes, environment)
    if not args.check:
        lxd_setup.ready(datacenter, args.yes)
    if confirms:
        extra["confirmed_volumes"] = _confirm(datacenter, args)
    # Ours come last, so that nothing given with -e overrides them.
    options += ["-e", json.dumps(extra)]
    environment = {**environment, "BCM_JSON": str(int(args.json))}
    inventory = f"{datacenter.inventory}/"
    if args.check:
        return run_playbook("site.yml", inventory, options, environment)
    with run_of(datacenter, _STATES[args.state], args.stacks) as run:
        status = run_playbook("site.yml", inventory, options, {**environment, "BCM_OUTCOME": str(run.outcome)})
        run.end(status)
    return status


def _absolute_path(text: str) -> str:
    """Return a value of -e with an absolute path, since the playbook runs in the repository's directory."""
    return f"@{Path(text[1:]).expanduser().absolute()}" if text.startswith("@") else text


def _needs_vault(text: str, vault_id: str) -> bool:
    """Whether a value as of -e is a file in which something may be encrypted with a vault of that name."""
    try:
        content = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else ""
    except (OSError, ValueError):
        return False
    return any(header in content for header in ("$ANSIBLE_VAULT;1.1;", f"$ANSIBLE_VAULT;1.2;AES256;{vault_id}\n"))


def _read_extra_vars(datacenter: DataCenter, extra_vars: list[str]) -> dict[str, Any]:
    """Return the variables of all -e, as ansible-playbook reads them. Raises UsageError."""
    from ansible.errors import AnsibleError
    from ansible.parsing.splitter import parse_kv
    from ansible.parsing.vault import AnsibleVaultError
    from ansible.template import trust_as_template

    given: dict[str, Any] = {}
    loader = datacenter.loader
    for text in extra_vars:
        try:
            if text.startswith("@"):
                found = loader.load_from_file(text[1:], trusted_as_template=True)
            elif text[:1] in ("{", "["):
                found = loader.load(trust_as_template(text))
            else:
                found = parse_kv(trust_as_template(text))
            if "_raw_params" in found:  # words that set nothing
                raise ValueError(found["_raw_params"])
            given.update(found)
        except AnsibleVaultError as error:
            raise UsageError(
                f"-e {text}:",
                f"is encrypted, and its password is not known: {_brief(error)};",
                "set ANSIBLE_VAULT_PASSWORD_FILE or ANSIBLE_VAULT_IDENTITY_LIST, or encrypt it with the vault of the "
                "data center",
                code="wrong_key",
            ) from error
        except (AnsibleError, ValueError, TypeError) as error:
            raise UsageError(
                f"-e {text}:", "not variables", f"write VAR=VALUE, JSON, or @FILE ({_brief(error)})"
            ) from error
    for name, instead in _SAID_BY_VERBS.items():
        if name in given:
            raise UsageError("-e", f"sets {name}, which {instead}", "leave it out")
    return given


def _brief(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _confirm(datacenter: DataCenter, args: argparse.Namespace) -> list[str]:
    """List the volumes that the run will delete, ask for confirmation, and return them as POOL/VOLUME."""
    with connect(datacenter) as client:
        doomed = _doomed_volumes(datacenter, client, args.stacks)
        backups = _backups(datacenter)
        lines = [_described(client, volume, backups.get(volume["name"])) for volume in doomed]
        where = f"data center {datacenter.name} ({datacenter.chain}) at {client.endpoint.name}"
    if not doomed:
        setup.step(f"No volumes will be deleted in {where}")
        return []
    setup.step(f"These volumes will be deleted in {where}, with the coins in them:")
    for line in lines:
        print(f"  {harmless(line)}", file=sys.stderr)
    if not args.yes:
        question = f"Type the name of the data center ({datacenter.name}) to delete them: "
        print(question, end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != datacenter.name:
            raise BcmError("That", "is not its name", "nothing was deleted", code="cancelled")
    return [f"{volume['pool']}/{volume['name']}" for volume in doomed]


def _doomed_volumes(datacenter: DataCenter, client: Client, stacks: list[str]) -> list[dict[str, Any]]:
    """Return the volumes that the plan of this removal deletes, as its resources."""
    from ansible_collections.bcm.core.plugins.module_utils._datacenter.project_state import read_project_state
    from ansible_collections.bcm.core.plugins.module_utils._plan.plan import Planner

    request = datacenter.request(stacks, state="absent", delete_data=True)
    planner = Planner(catalogue(datacenter), request, datacenter.role_variables)
    # removing needs no image names
    plan = planner.plan(lambda site: read_project_state(client, site), lambda *_unused: ("", ""))
    return [item for item in plan.resources if item["kind"] == "storage_volume" and item["state"] == "absent"]


def _backups(datacenter: DataCenter) -> dict[str, str]:
    """Return what a backup of each volume must contain, for those that need one."""
    return {
        names.volume_name(stack.name, key): volume.backup
        for stack in catalogue(datacenter).values()
        for key, volume in stack.volumes.items()
        if volume.backup != "none"
    }


def _described(client: Client, volume: dict[str, Any], backup: str | None) -> str:
    """Describe a volume: its pool, size, used space if known, and what to back up."""
    path = f"/1.0/storage-pools/{quoted(volume['pool'])}/volumes/custom/{quoted(volume['name'])}"
    size = client.get(path, project=volume["project"])["config"].get("size")
    try:
        state = client.find(f"{path}/state", project=volume["project"]) or {}
    except LxdError:  # such as a pool of directories, where LXD counts only with quotas
        state = {}
    used = amount((state.get("usage") or {}).get("used", 0))
    facts = [f"of {size}" if size else "without a limit", f"{used or 'an unknown part'} used"]
    facts += [f"to be backed up: {backup}"] if backup else []
    return f"{volume['name']} in storage pool {volume['pool']}: {', '.join(facts)}"
