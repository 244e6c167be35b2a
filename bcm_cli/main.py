# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse what was typed, run it, and report what fails. Standard library only, so that --help works at once."""

from __future__ import annotations

import argparse
import importlib
import os
import re
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
_HANDED_ON = ("bitcoin-cli", "electrum-cli", "pass", "ssh", "test")
# These work, or choose another, while the data center that is meant does not exist.
_WITHOUT_DATACENTER = ("config:put", "gates:main", "completion:main")
# These need nothing but Python, and wait for nothing to be installed.
_WITHOUT_ENVIRONMENT = ("completion:main",)


def make_parser() -> verbs.Parser:
    """All that may be typed; ``shown`` of the result is the parser whose help belongs to it."""
    text = "Bitcoin Cache Machine: a private, self-hosted Bitcoin data center in LXD"
    parser = verbs.Parser(prog="bcm", **verbs.described(text, "bcm stack start electrum"))
    parser.set_defaults(run="", shown=parser, parser=parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    verbs.add_all(verbs.Group(parser))
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """What was typed; ends the process for help and for mistakes."""
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


def _version() -> str:
    """That of the collection."""
    galaxy = setup.ROOT / "collections/ansible_collections/bcm/core/galaxy.yml"
    found = re.search(r"^version: (\S+)$", galaxy.read_text(encoding="utf-8"), re.M)
    return found[1] if found else "unknown"


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main(argv: list[str]) -> int:
    """Run a verb; its exit status: 2 for what cannot be meant, 1 for what failed, 130 for Ctrl-C."""
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

    return guarded(work, as_json=args.json)


def _own_password(datacenter: DataCenter) -> str:
    """The password of a data center's vault."""
    from .trezor_session import own_password

    return own_password(datacenter)


def guarded(work: Callable[[], int], *, as_json: bool = False) -> int:
    """The exit status of some work, or of what it raises, which is reported."""
    # A signal, or a closed terminal, ends us as Ctrl-C does: everything we opened is closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return work()
    except BcmError as error:
        return _failed(error, 2 if isinstance(error, UsageError) else 1, as_json)
    except KeyboardInterrupt:
        return _failed(BcmError("interrupted", code="interrupted"), 130, as_json)
    except BrokenPipeError:
        # The reader (head, less) has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {where.filename}:{where.lineno}:"
        remedy = "This is a fault of bcm: please report it"
        return _failed(BcmError(what, f"{error}.", remedy, code="internal_error"), 1, as_json)


def _failed(error: BcmError, status: int, as_json: bool) -> int:
    """Print an error for a person, and for a program if one listens; the exit status."""
    message = shown(str(error))
    print(f"bcm: {message}", file=sys.stderr)
    if as_json:
        print(json_text({"failed": True, "errors": [{"message": message, "error": error.parts}]}))
    return status
