# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verbs that work in one instance: its programs, its journal, a shell."""

from __future__ import annotations

import argparse
import sys

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client

from .connect import connect
from .output import Lines, sink
from .stacks import checked

# The units that a stack's role manages leave their stamps there; electrum-window belongs to electrum.
_JOURNAL = """
set -- "$@" --no-pager --output=short-iso
for stamp in /var/lib/bcm/units/*.digest; do
  unit=${stamp##*/}
  set -- "$@" --unit="${unit%.digest}" --unit="${unit%.digest}-*"
done
exec journalctl "$@"
"""


def program(args: argparse.Namespace) -> int:
    """Run the command of a stack, such as bitcoin-cli, with all arguments; returns its exit status."""
    # The programs read standard input only with these options; otherwise it stays that of the caller.
    reads_input = any(word.startswith("-stdin") or word == "-" for word in args.arguments)
    with connect(args.datacenter) as client:
        if reads_input and sys.stdin.isatty():
            return lxd_exec.interactive(client, args.stack, lxd_exec.Command([args.program, *args.arguments]))
        stdin = sys.stdin.buffer.read() if reads_input else b""
        return _piped(client, args.stack, [args.program, *args.arguments], stdin)


def logs(args: argparse.Namespace) -> int:
    """Show the journal of a stack's own units, and of its window, which has no stamp."""
    checked(args.datacenter, [args.stack])
    options = [f"--lines={args.lines}", f"--unit={args.stack}-window.service", *["--follow"] * args.follow]
    command = ["sh", "-c", _JOURNAL, "sh", *options]
    with connect(args.datacenter) as client:
        if not args.follow:
            return _piped(client, args.stack, command, as_text=True)
        # text in the journal must not control the terminal
        plain = {"SYSTEMD_COLORS": "0"}
        shown = lxd_exec.Command(command, environment=plain)
        return lxd_exec.interactive(client, args.stack, shown, show=Lines("\r\n"))


def shell(args: argparse.Namespace) -> int:
    """Open a login shell of root on this terminal; without a terminal, it reads standard input."""
    checked(args.datacenter, [args.stack])
    environment = {"HOME": "/root", "USER": "root", "LANG": "C.UTF-8"}
    with connect(args.datacenter) as client:
        if sys.stdin.isatty():
            command = lxd_exec.Command(["bash", "-l"], environment=environment, cwd="/root")
            return lxd_exec.interactive(client, args.stack, command)
        return _piped(client, args.stack, ["bash", "-l"], sys.stdin.buffer.read())


def _piped(client: Client, instance: str, command: list[str], stdin: bytes = b"", *, as_text: bool = False) -> int:
    sinks = (sink(sys.stdout, as_text=as_text), sink(sys.stderr, as_text=as_text))
    result = lxd_exec.run(client, instance, lxd_exec.Command(command, stdin=stdin), sinks=sinks)
    for stream in sinks:
        stream.flush()
    return result.returncode
