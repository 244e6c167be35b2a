# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse what was typed, run it, and report what fails. Standard library only, so that --help works at once."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import json_text, shown

from . import setup, verbs
from .datacenter import DataCenter, UsageError

# All arguments after these are passed to the program unchanged.
_HANDED_ON = ("bitcoin-cli", "electrum-cli", "elements-cli", "lightning-cli", "lncli", "pass", "ssh", "test")
# These work although the selected data center does not exist.
_WITHOUT_DATACENTER = ("config:put", "datacenters:list_all", "datacenters:create", "gates:main", "completion:main")
# These need only Python, and no installed packages.
_WITHOUT_ENVIRONMENT = ("completion:main",)


def make_parser() -> verbs.Parser:
    """Return the parser of the command line; ``shown`` of its result is the parser whose help to show."""
    text = "Bitcoin Cache Machine: a private, self-hosted Bitcoin data center in LXD"
    parser = verbs.Parser(prog="bcm", **verbs.described(text, "bcm stack start electrum"))
    parser.set_defaults(run="", shown=parser, parser=parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {setup.version()}")
    verbs.add_all(verbs.Group(parser))
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line. Prints help and ends the process if there is no verb; raises UsageError."""
    verb = 0
    while verb < len(argv) and argv[verb].startswith("-"):
        verb += 2 if argv[verb] in ("-d", "--datacenter") else 1
    rest: list[str] = []
    if argv[verb : verb + 1] and argv[verb] in _HANDED_ON and argv[verb + 1 :] not in (["--help"], ["-h"]):
        argv, rest = argv[: verb + 1], argv[verb + 1 :]
    elif argv[verb : verb + 1] == ["completion"] and "--" in argv:
        argv, rest = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    defaults = argparse.Namespace(datacenter=None, yes=False, json=False, arguments=rest)
    args = make_parser().parse_args(argv, defaults)
    if not args.run:
        args.shown.print_help()
        sys.exit(0)
    return args


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main(argv: list[str]) -> int:
    """Run a verb and return the exit status: 2 for invalid words, 1 for a failure, 130 for Ctrl-C."""
    try:
        args = parse(argv)
    except UsageError as error:
        return _failed(error, 2, "--json" in argv)

    def work() -> int:
        if args.run not in _WITHOUT_DATACENTER:
            args.datacenter = DataCenter(args.datacenter)
            args.datacenter.ask_password = _own_password
        if args.run not in _WITHOUT_ENVIRONMENT:
            setup.enter("bcm", argv, args.yes)
        module, function = args.run.split(":")
        return int(getattr(importlib.import_module(f"bcm_cli.{module}"), function)(args))

    return report_errors(work, as_json=args.json)


def _own_password(datacenter: DataCenter) -> str:
    """The password of a data center's vault."""
    from .trezor_session import own_password

    return own_password(datacenter)


def report_errors(work: Callable[[], int], *, as_json: bool = False) -> int:
    """Do some work, report what it raises, and return the exit status."""
    # A signal or a closed terminal ends the process as Ctrl-C does, so that everything is closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return work()
    except BcmError as error:
        return _failed(error, 2 if isinstance(error, UsageError) else 1, as_json)
    except KeyboardInterrupt:
        return _failed(BcmError("interrupted", code="interrupted"), 130, as_json)
    except BrokenPipeError:
        # The reader, such as head or less, has ended.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {where.filename}:{where.lineno}:"
        remedy = "This is a fault of bcm: please report it"
        return _failed(BcmError(what, f"{error}.", remedy, code="internal_error"), 1, as_json)


def _failed(error: BcmError, status: int, as_json: bool) -> int:
    """Print an error, also as JSON if that was requested, and return the exit status."""
    message = shown(str(error))
    print(f"bcm: {message}", file=sys.stderr)
    if as_json:
        print(json_text({"failed": True, "errors": [{"message": message, "error": error.parts}]}))
    return status
