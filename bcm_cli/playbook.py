# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes a data center: a run of site.yml, its exit status passed on."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import IO, Any

from ansible_collections.bcm.core.plugins.module_utils._errors import BcmError

from . import device, identity, lxd, setup
from .catalogue import checked
from .datacenter import DataCenter, UsageError

_STATES = {"start": "present", "stop": "stopped", "restart": "restarted", "remove": "absent"}
_AWAITED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}


def change(args: argparse.Namespace) -> int:
    """start, stop, restart, remove."""
    datacenter: DataCenter = args.datacenter
    datacenter.given = _given(args.extra_vars)
    checked(datacenter, args.stacks)
    extra: dict[str, object] = {"stack": ",".join(args.stacks), "state": _STATES[args.state]}
    if args.delete_data:
        extra["delete_data"] = True
    if args.delete_data and not args.check:
        _confirm(datacenter, args)
    options = [word for value in args.extra_vars for word in ("-e", value)]
    options += ["--check"] * args.check + ["--diff"] * args.diff
    options += ["-" + "v" * args.verbose] * bool(args.verbose)
    # Ours come last, so that nothing given with -e says otherwise.
    options += ["-e", json.dumps(extra)]
    # What goes down needs no secrets.
    vaulted = args.state in ("start", "restart")
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(device.session(datacenter)) if vaulted else {}
        if environment:
            options += ["--vault-id", f"{datacenter.name}@{setup.ROOT / 'bcm-vault-client'}"]
        identity.for_endpoint(datacenter, args.yes, environment)
        if not args.check:
            lxd.ready(datacenter, args.yes)
        return _run(datacenter, options, args.json, environment)


def _given(extra_vars: list[str]) -> dict[str, Any]:
    """What -e says, but for what files say. Raises BcmError."""
    from ansible.errors import AnsibleError
    from ansible.parsing.splitter import parse_kv
    from ansible.parsing.utils.yaml import from_yaml

    given: dict[str, Any] = {}
    for text in extra_vars:
        try:
            if text[:1] != "@":
                given.update(from_yaml(text) if text[:1] in ("{", "[") else parse_kv(text))
        except (AnsibleError, ValueError, TypeError) as error:
            raise UsageError(f"-e {text}: no variables: write VAR=VALUE, or JSON") from error
    return given


def _confirm(datacenter: DataCenter, args: argparse.Namespace) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise BcmError("--delete-data deletes wallets: run it on a terminal, or add --yes")
    print(
        f"The volumes of {', '.join(args.stacks)} and of what needs them will be gone, with the coins in them.\n"
        f"Type the name of the data center ({datacenter.name}) to delete them: ",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip
    if sys.stdin.readline().strip() != datacenter.name:
        raise BcmError("That is not its name: nothing was deleted")


def _run(datacenter: DataCenter, options: list[str], as_json: bool, more: dict[str, str]) -> int:
    program = str(setup.VENV / "bin" / "ansible-playbook")
    environment = {
        **os.environ,
        **more,
        "ANSIBLE_CONFIG": str(setup.ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "bcm.core.progress",
        "PATH": f"{setup.VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "BCM_JSON": str(int(as_json)),
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    child = subprocess.Popen(
        [program, "site.yml", "-i", f"{datacenter.inventory}/", *options],
        cwd=setup.ROOT, env=environment, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED),
    )  # fmt: skip
    assert child.stderr is not None
    words = threading.Thread(target=_pass_on, args=(child.stderr,))
    words.start()
    interrupted = 0
    while child.poll() is None:
        received = signal.sigwaitinfo(_AWAITED)
        if received.si_signo != signal.SIGCHLD:
            interrupted = received.si_signo
            # The terminal sends Ctrl-C to the whole group; what a process sent to us alone (si_code <= 0), we hand on.
            if received.si_code <= 0:
                child.send_signal(signal.SIGINT)
    words.join()
    if interrupted:
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}bcm: interrupted; the same command carries on from there", file=sys.stderr)
        return 128 + interrupted
    return child.returncode


def _pass_on(stream: IO[bytes]) -> None:
    """Ansible's words, but for its own remark on Ctrl-C: there is ours."""
    for line in stream:
        if b"User interrupted execution" not in line:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
