# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs: what may be typed, and what carries it out. Standard library only, so that --help works at once."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import json_text, shown

from . import completion, setup
from .datacenter import DataCenter, UsageError

# What follows these is not ours to read: it goes to the program as it stands.
_HANDED_ON = ("bitcoin-cli", "electrum-cli", "pass", "ssh", "test")
# These work, or choose another, while the data center that is meant does not exist.
_WITHOUT_DATACENTER = ("config:put", "gates:main", "completion:main")
# These need nothing but Python, and wait for nothing to be installed.
_WITHOUT_ENVIRONMENT = ("completion:main",)


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, with the nearest words, in place of the usage."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest)
            raise argparse.ArgumentError(None, str(names.unknown(what, value, action.choices)))

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.", remedy=f"`{self.prog} --help` shows what there is")


def make_parser() -> _Parser:
    """All that may be typed; ``shown`` of the result is the parser whose help belongs to it."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-d", "--datacenter", metavar="NAME", help="the data center meant, a folder of inventories/")
    common.add_argument("-y", "--yes", action="store_true", help="agree to every question (for machines)")
    json = _Parser(add_help=False)
    json.add_argument("--json", action="store_true", help="answer in JSON on stdout")

    def described(text: str, example: str, *parents: _Parser) -> dict[str, Any]:
        return {
            "parents": [common, *parents],
            "description": text[0].upper() + text[1:] + ".",
            "epilog": f"example:\n  {example}",
            "allow_abbrev": False,
            "formatter_class": argparse.RawDescriptionHelpFormatter,
        }

    def verb(group: Any, name: str, run: str, text: str, example: str, *parents: _Parser) -> _Parser:
        parser: _Parser = group.add_parser(name, help=text, **described(text, example, *parents))
        parser.set_defaults(run=run, shown=parser)
        return parser

    def group(parser: _Parser) -> Any:
        return parser.add_subparsers(metavar="verb")

    text = "Bitcoin Cache Machine: a private, self-hosted Bitcoin data center in LXD"
    top = _Parser(prog="bcm", **described(text, "bcm stack start electrum"))
    top.set_defaults(run="", shown=top)
    top.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    verbs = group(top)

    stack = group(verb(verbs, "stack", "", "start, stop, look at and remove stacks", "bcm stack status"))
    verb(stack, "list", "status:list_stacks", "list the stacks there are", "bcm stack list", json)
    status = verb(stack, "status", "status:status", "say how the stacks are", "bcm stack status electrum", json)
    status.add_argument("stacks", nargs="*", metavar="STACK", help="the stacks asked about (all that are deployed)")
    for name, text in (
        ("start", "deploy stacks, with all that they need, and prove that they work"),
        ("stop", "stop stacks, those that need them, and what nobody needs any more"),
        ("restart", "restart stacks"),
        ("remove", "remove stacks, those that need them, and what nobody needs any more; volumes stay"),
    ):
        change = verb(stack, name, "playbook:change", text, f"bcm stack {name} electrum", json)
        change.set_defaults(state=name, delete_data=False)
        change.add_argument("stacks", nargs="+", metavar="STACK")
        change.add_argument("-e", "--extra-vars", action="append", default=[], metavar="VAR=VALUE",
                            help="a variable for the playbook, such as bitcoind_prune=550")  # fmt: skip
        change.add_argument("--check", action="store_true", help="say what would be done and touch nothing")
        change.add_argument("--diff", action="store_true", help="show each difference")
        change.add_argument("-v", "--verbose", action="count", default=0, help="show each task (-vvv: all of Ansible)")
        if name == "remove":
            change.add_argument("--delete-data", action="store_true", help="delete the volumes too, coins and all")

    info = verb(verbs, "info", "status:info", "say what this data center is and where things lie", "bcm info", json)
    info.add_argument("--bill-of-materials", action="store_true", help="all that runs, in CycloneDX JSON")
    config = group(verb(verbs, "config", "", "read and write the settings of a data center", "bcm config get"))
    get = verb(config, "get", "config:get", "show settings", "bcm config get chain", json)
    get.add_argument("keys", nargs="*", metavar="KEY", help="chain, datacenter, endpoint … (all that are set)")
    put = verb(config, "set", "config:put", "write settings; comments in the file stay", "bcm config set chain=signet")
    put.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="datacenter=NAME chooses the one that is meant")

    for name, stack_name in (("bitcoin-cli", "bitcoind"), ("electrum-cli", "electrum")):
        text = f"ask {stack_name}; all that follows goes to it as it stands"
        verb(verbs, name, "instance:program", text, f"bcm {name} help").set_defaults(program=name, stack=stack_name)
    logs = verb(verbs, "logs", "instance:logs", "show what a stack's services logged", "bcm logs bitcoind -f")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as more comes, until Ctrl-C")
    logs.add_argument("-n", "--lines", type=int, default=100, metavar="N", help="how many lines (100)")
    shell = verb(verbs, "shell", "instance:shell", "open a shell in a stack's instance", "bcm shell electrs")
    window = verb(verbs, "open", "window:show", "open a stack's window on this screen", "bcm open electrum")
    for parser in (logs, shell, window):
        parser.add_argument("stack", metavar="STACK")

    text = "log in to a machine with the key on the Trezor; all that follows goes to ssh as it stands"
    ssh = verb(verbs, "ssh", "device_keys:ssh", text, "bcm ssh root@box uptime")
    ssh.add_argument("--public-key", action="store_true", help="print the line for authorized_keys of [USER@]HOST")
    verb(verbs, "pass", "device_keys:password", "keep passwords that only the Trezor opens, with pass", "bcm pass ls")
    gpg = group(verb(verbs, "gpg", "", "sign and decrypt with the OpenPGP key on the Trezor", "bcm gpg export"))
    init = verb(
        gpg, "init", "device_keys:gpg_init", "make the data center's key", 'bcm gpg init "Ann <ann@office.example>"'
    )
    init.add_argument("user_id", metavar="NAME <MAIL>", help="with the same words, the same device makes the same key")
    verb(gpg, "export", "device_keys:gpg_export", "print the public key", "bcm gpg export")
    text = "run a program whose gpg has the key"
    program = verb(gpg, "run", "device_keys:gpg_run", text, "bcm gpg run gpg --sign file")
    program.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="gpg and its options, bash, git …")

    image = group(verb(verbs, "image", "", "look after the images", "bcm image list"))
    verb(image, "list", "image:show", "list the images at the endpoint and on disk", "bcm image list", json)
    prune = verb(image, "prune", "image:prune", "delete images that no instance uses", "bcm image prune", json)

    artifact = group(verb(verbs, "artifact", "", "look after the releases of stacks", "bcm artifact list"))
    verb(
        artifact, "list", "artifact:show", "list what stacks are made of, and who signed it", "bcm artifact list", json
    )
    for name, run, text, example in (
        ("fetch", "fetch", "fetch and verify what stacks, and all that they need, are made of", "fetch bitcoind"),
        ("verify", "verify", "verify again what is in the store, as of today", "verify"),
        ("export", "export", "copy that, with all that proves it, to a folder", "export /media/disk"),
        ("import", "take", "take it from such a folder, and verify it again", "import /media/disk"),
        ("repin", "repin", "pin another version, as its signers signed it (for maintainers)", "repin bitcoind 31.2"),
    ):
        module = "repin" if name == "repin" else "artifact"
        work = verb(artifact, name, f"{module}:{run}", text, f"bcm artifact {example}", *[json] * (name != "repin"))
        if name in ("export", "import"):
            work.add_argument("folder", metavar="FOLDER", help="it has files as STACK/VERSION/NAME")
        if name == "repin":
            work.add_argument("stack", metavar="STACK")
            work.add_argument("version", metavar="VERSION")
            work.add_argument(
                "--source", dest="catalogue_source", metavar="NAME", help="which of its sources (the first)"
            )
            work.add_argument("--allow-below-floor", action="store_true", help="accept a version with known faults")
        else:
            work.add_argument("stacks", nargs="*", metavar="STACK", help="the stacks meant (all)")
        if name in ("fetch", "export"):
            work.add_argument("--source", metavar="PLACE", help="a folder or address in place of upstream")
            work.add_argument("--all-architectures", action="store_true", help="not only for this machine's")
        work.add_argument("--proxy", metavar="URL", help="a SOCKS proxy, socks5h://HOST:PORT; empty for none")
        work.add_argument("--keys", action="append", metavar="PLACE", help="where to look for OpenPGP keys, too")
    clean = verb(artifact, "prune", "artifact:prune", "delete what no stack names any more", "bcm artifact prune", json)
    for parser, what in ((prune, "keep copies on disk that were used"), (clean, "keep what came")):
        parser.add_argument(
            "--older-than", type=float, default=30.0, metavar="DAYS", help=f"{what} in so many days (30)"
        )

    secret = group(verb(verbs, "secret", "", "look at and change secrets, such as passwords", "bcm secret list"))
    verb(secret, "list", "secret:names", "list secrets, and the stacks that know them", "bcm secret list", json)
    shown = verb(secret, "show", "secret:show", "print a secret", "bcm secret show bitcoind/rpc/electrs")
    shown.add_argument("name", metavar="NAME")
    rotate = verb(
        secret, "rotate", "secret:rotate", "make new values for secrets", "bcm secret rotate bitcoind/rpc/electrs"
    )
    rotate.add_argument("names", nargs="+", metavar="NAME")
    verb(secret, "rekey", "secret:rekey", "have the vault use another password", "bcm secret rekey")
    verb(secret, "edit", "secret:edit", "change secrets with the editor of VISUAL or EDITOR", "bcm secret edit")

    ca = group(verb(verbs, "ca", "", "look after the certificates and who signs them", "bcm ca show"))
    init = verb(ca, "init", "ca:init", "make the root, its intermediate and their lists", "bcm ca init", json)
    text = "the generation of the root, one more than any there was, if the files of an authority are lost"
    init.add_argument("--generation", type=int, metavar="N", help=text)
    shown = verb(ca, "show", "ca:show", "show the root to compare, and what rests on it", "bcm ca show", json)
    shown.add_argument("certificate", nargs="?", metavar="NAME", help="one certificate in detail")
    listed = verb(ca, "list", "ca:list_all", "list the certificates", "bcm ca list --all", json)
    listed.add_argument("--all", action="store_true", help="those too that were replaced or revoked")
    text, example = "issue a certificate for who is no stack", "bcm ca issue laptop --usage client --out laptop"
    issue = verb(ca, "issue", "ca:issue", text, example, json)
    issue.add_argument("certificate", metavar="NAME", help="what it is called, and its files are")
    issue.add_argument("--name", dest="names", action="append", default=[], metavar="HOST_OR_ADDRESS",
                       help="by which clients call it")  # fmt: skip
    issue.add_argument("--usage", action="append", choices=("server", "client"), help="what it is for (server)")
    issue.add_argument("--csr", metavar="FILE", help="certify the key of this request, which stays where it is")
    issue.add_argument("--pkcs12", action="store_true", help="also as PKCS#12, with its password beside it")
    issue.add_argument("--out", metavar="FOLDER", required=True, help="where the files go")
    issue.add_argument("--force", action="store_true", help="replace a key that is there by another")
    renew = verb(ca, "renew", "ca:renew", "make certificates anew, or all that is due", "bcm ca renew laptop", json)
    renew.add_argument("certificates", nargs="*", metavar="NAME", help="these, although they are good")
    renew.add_argument("--replace-lost", action="store_true", help="revoke an intermediate whose key is lost")
    for parser in (issue, renew):
        parser.add_argument("--days", type=int, metavar="N", help="how long they are good, at most (30)")
    revoke = verb(ca, "revoke", "ca:revoke", "have a certificate refused from now on", "bcm ca revoke laptop", json)
    revoke.add_argument("certificate", metavar="NAME|SERIAL", help="all that bear a name, or the one of a serial")
    revoke.add_argument("--reason", default="unspecified", help="key_compromise, superseded … (unspecified)")
    rotate = verb(ca, "rotate", "ca:rotate", "begin the next generation of the root", "bcm ca rotate", json)
    text = "nobody is to trust the roots before: they do not sign the new one"
    rotate.add_argument("--compromised", action="store_true", help=text)
    exported = verb(ca, "export", "ca:export", "write the root for who has to trust it", "bcm ca export ~/root", json)
    exported.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="where the files go (here)")

    onion = group(verb(verbs, "onion", "", "look after the onion services and who reaches them", "bcm onion list"))
    verb(onion, "list", "onion:list_all", "list the onion services, and who may reach them", "bcm onion list", json)
    shown = verb(onion, "show", "onion:show", "say how a service is reached", "bcm onion show electrs-electrum", json)
    shown.add_argument("service", metavar="SERVICE", help="as `bcm onion list` calls it, such as electrs-electrum")
    text, example = "make a key with which somebody reaches a service, or show it again", "alice electrs-electrum"
    admit = verb(onion, "authorize", "onion:authorize", text, f"bcm onion authorize {example}", json)
    text = "take a key away; all clients of the service are disconnected for some seconds"
    expel = verb(onion, "revoke", "onion:revoke", text, "bcm onion revoke alice", json)
    for parser, which in ((admit, "the only one that has clients"), (expel, "all that have such a client")):
        parser.add_argument("client", metavar="NAME", help="whose key it is, as you call the person")
        parser.add_argument("service", nargs="?", metavar="SERVICE", help=f"which service ({which})")
    admit.add_argument("--output", metavar="FILE", help="write the key to a new file, instead of showing it")
    for parser in (exported, shown, admit):
        parser.add_argument("--no-qr", action="store_true", help="no QR code on the terminal")

    verb(verbs, "privacy", "privacy:prove", "try what leaves the data center, and say it", "bcm privacy", json)

    text = "print what has a shell complete the words of bcm"
    complete = verb(verbs, "completion", "completion:main", text, "bcm completion bash")
    complete.add_argument("shell", choices=completion.SHELLS, metavar="SHELL", help=" or ".join(completion.SHELLS))
    complete.set_defaults(parser=top)

    test = verb(verbs, "test", "gates:main", "run all that a contributor and CI run", "bcm test --fast")
    test.add_argument("--fast", action="store_true", help="only what needs no containers")
    test.add_argument("--only", metavar="NAME", help="only what has this in its name")
    return top


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
        if args.run not in _WITHOUT_ENVIRONMENT:
            setup.enter("bcm", argv, args.yes)
        module, function = args.run.split(":")
        return int(getattr(importlib.import_module(f"bcm_cli.{module}"), function)(args))

    return guarded(work, as_json=args.json)


def guarded(work: Callable[[], int], *, as_json: bool = False) -> int:
    """The exit status of some work, or of what it raises, which is reported."""
    # Whoever ends us, or closes our terminal, ends us as Ctrl-C does: what we opened is closed.
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
