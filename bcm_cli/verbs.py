# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs and their arguments, one function for each group. Standard library only, so that --help works at once.

A verb names the function that runs it as "module:function" of bcm_cli, which is imported when the verb runs.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any, NoReturn

from ansible_collections.bcm.core.plugins.module_utils._base import names

from . import completion
from .datacenter import UsageError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest words, in place of the usage."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = str(action.metavar or action.dest)
            raise argparse.ArgumentError(None, str(names.unknown(what, value, action.choices)))

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.", remedy=f"`{self.prog} --help` shows what there is")


class Group:
    """The verbs below a word, such as those of `bcm stack`; with no words before them, those of bcm itself."""

    def __init__(self, parser: Parser, words: str = "bcm") -> None:
        self._verbs = parser.add_subparsers(metavar="verb")
        self._words = words

    def verb(self, name: str, run: str, text: str, example: str = "", *, json: bool = False) -> Parser:
        """Add a verb that ``run`` carries out; ``example`` is what follows its name in the example of its help."""
        parser: Parser = self._verbs.add_parser(
            name, help=text, **described(text, f"{self._words} {name} {example}".rstrip(), json=json)
        )
        parser.set_defaults(run=run, shown=parser)
        return parser

    def group(self, name: str, text: str, example: str) -> Group:
        """Add a word that has verbs of its own."""
        return Group(self.verb(name, "", text, example), f"{self._words} {name}")


def described(text: str, example: str, *, json: bool = False) -> dict[str, Any]:
    """Add the options of every verb, and a help with an example."""
    return {
        "parents": [_common(), *[_json()] * json],
        "description": text[0].upper() + text[1:] + ".",
        "epilog": f"example:\n  {example}",
        "allow_abbrev": False,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


@functools.cache
def _common() -> Parser:
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("-d", "--datacenter", metavar="NAME", help="the data center, a folder of inventories/")
    parser.add_argument("-y", "--yes", action="store_true", help="answer yes to every question (for scripts)")
    return parser


@functools.cache
def _json() -> Parser:
    parser = Parser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    return parser


def add_all(bcm: Group) -> None:
    """Add every verb, in the order in which `bcm --help` lists them."""
    _stack(bcm.group("stack", "start, stop, inspect and remove stacks", "status"))
    info = bcm.verb("info", "status:info", "show this data center and where its files are", json=True)
    info.add_argument("--bill-of-materials", action="store_true", help="all software that runs, in CycloneDX JSON")
    _datacenter(bcm.group("datacenter", "list data centers, and create another one", "list"))
    _host(bcm.group("host", "prepare machines for data centers", "prepare debian@192.0.2.10"))
    _config(bcm.group("config", "read and change the settings of a data center", "get"))
    _instances(bcm)
    _lightning(bcm.group("lightning", "show Lightning nodes, and try them on regtest", "status"))
    _backup(bcm.group("backup", "show the copies of channel backups, and the keys that they need", "status"))
    _events(bcm.group("events", "show what happens in the stacks, as events of the stack kafka", "list"))
    _device_keys(bcm)
    _image(bcm.group("image", "list and prune images", "list"))
    _artifact(bcm.group("artifact", "fetch, verify and copy the releases that stacks are made of", "list"))
    _secret(bcm.group("secret", "show and change secrets, such as passwords", "list"))
    _ca(bcm.group("ca", "manage the certificate authority and its certificates", "show"))
    _access(bcm.group("access", "say from where stacks are reached, and by whom", "list"))
    _onion(bcm.group("onion", "manage onion services and their clients", "list"))
    bcm.verb("privacy", "privacy:check_privacy", "probe what can leave the data center, and report it", json=True)
    text = "print the completion script for a shell"
    complete = bcm.verb("completion", "completion:main", text, "bash")
    complete.add_argument("shell", choices=completion.SHELLS, metavar="SHELL", help=" or ".join(completion.SHELLS))
    _test(bcm)


def _stack(stack: Group) -> None:
    stack.verb("list", "status:list_stacks", "list the known stacks", json=True)
    status = stack.verb("status", "status:status", "show the state of stacks", "electrum", json=True)
    status.add_argument("stacks", nargs="*", metavar="STACK", help="the stacks to show (all that are deployed)")
    for name, text in (
        ("start", "deploy stacks and all that they need, and verify that they work"),
        ("stop", "stop stacks, everything that depends on them, and what is no longer needed"),
        ("restart", "restart stacks"),
        ("remove", "remove stacks, everything that depends on them, and what is no longer needed; volumes are kept"),
    ):
        change = stack.verb(name, "playbook:change", text, "electrum", json=True)
        change.set_defaults(state=name, delete_data=False)
        change.add_argument("stacks", nargs="+", metavar="STACK")
        change.add_argument("-e", "--extra-vars", action="append", default=[], metavar="VAR=VALUE",
                            help="a variable for the playbook, such as bitcoind_prune=550")  # fmt: skip
        change.add_argument("--check", action="store_true", help="show what would be done, and change nothing")
        change.add_argument("--diff", action="store_true", help="show each difference")
        change.add_argument("-v", "--verbose", action="count", default=0,
                            help="show each task (-vvv: all output of Ansible, with tracebacks)")  # fmt: skip
        if name == "remove":
            change.add_argument("--delete-data", action="store_true", help="delete the volumes, too, with all coins")


def _datacenter(datacenter: Group) -> None:
    datacenter.verb("list", "datacenters:list_all", "list the data centers, folders of inventories/", json=True)
    text = "create a data center like another one"
    create = datacenter.verb("create", "datacenters:create", text, "office --like ssh", json=True)
    create.add_argument("name", metavar="NAME", help="its name, and that of its folder")
    create.add_argument("--like", default="local", metavar="NAME", help="the one whose settings it gets (local)")


def _host(host: Group) -> None:
    text = "prepare a bare machine with Debian or Ubuntu over SSH: shows what would change, and asks"
    prepare = host.verb("prepare", "hosts:prepare", text, "debian@192.0.2.10")
    prepare.add_argument("host", metavar="[USER@]ADDRESS[:PORT]", help="who logs in there, and becomes root")
    prepare.add_argument("--daemon", choices=("lxd", "incus"), help="what to install (LXD; on Ubuntu Incus)")
    prepare.add_argument("--device", metavar="PATH", help="a block device without data, for the storage pool (a file)")
    prepare.add_argument("--shared", action="store_true", help="use a daemon that others use, too")
    prepare.add_argument("--check", action="store_true", help="show what would be done, and change nothing")
    prepare.add_argument("--diff", action="store_true", help="show each difference")
    prepare.add_argument("-e", "--extra-vars", action="append", default=[], metavar="VAR=VALUE",
                         help="a variable of the machine, such as host_open_ports=[9735]")  # fmt: skip
    text = "show the machines of the endpoint, what is free on them, and which instances are where"
    host.verb("status", "members:status", text, json=True)
    text = "have a prepared machine join the cluster of the endpoint, which is formed if need be: shows it, and asks"
    add = host.verb("add", "cluster:add", text, "debian@192.0.2.11")
    add.add_argument("host", metavar="[USER@]ADDRESS[:PORT]|ENDPOINT", help="who logs in there; or its unix:// socket")
    add.add_argument("--name", metavar="NAME", help="its name in the cluster (its host name)")
    text = "move the instances of a member to others: shows what moves and what stops, and asks"
    drain = host.verb("drain", "cluster:drain", text, "two")
    text = "bring back what `drain` moved or stopped: shows what returns, and asks"
    restore = host.verb("restore", "cluster:restore", text, "two")
    text = "have a member leave the cluster, if no instance and no volume is on it"
    remove = host.verb("remove", "cluster:remove", text, "two")
    remove.add_argument("--lost", action="store_true",
                        help="give up one that does not answer: shows what is lost with it, and asks")  # fmt: skip
    for parser in (drain, restore, remove):
        parser.add_argument("name", metavar="NAME", help="the name of the member")
    text = "make a virtual machine with multipass, and prepare it"
    launch = host.verb("launch", "hosts:launch", text, "box --cpus 4 --memory 8G --disk 100G")
    launch.add_argument("--cpus", type=int, default=2, metavar="N", help="the number of its processors (2)")
    launch.add_argument("--memory", default="4G", metavar="SIZE", help="its memory (4G)")
    launch.add_argument("--disk", default="40G", metavar="SIZE", help="its disk (40G)")
    stop = host.verb("stop", "hosts:stop", "stop a virtual machine of multipass", "box")
    delete = host.verb("delete", "hosts:delete", "delete a virtual machine of multipass with all that is on it", "box")
    for parser in (launch, stop, delete):
        parser.add_argument("name", metavar="NAME", help="the name of the machine")


def _config(config: Group) -> None:
    get = config.verb("get", "config:get", "show settings", "chain", json=True)
    get.add_argument("keys", nargs="*", metavar="KEY", help="chain, datacenter, endpoint … (all that are set)")
    put = config.verb("set", "config:put", "change settings; comments in the file are kept", "chain=signet")
    put.add_argument("settings", nargs="+", metavar="KEY=VALUE", help="datacenter=NAME selects a data center")


def _instances(bcm: Group) -> None:
    programs = {"bitcoin-cli": "bitcoind", "electrum-cli": "electrum", "elements-cli": "liquid"}
    programs |= {"lightning-cli": "clightning", "lncli": "lnd"}
    for name, stack in programs.items():
        text = f"send a command to {stack}; all that follows is passed on unchanged"
        bcm.verb(name, "instance:program", text, "help").set_defaults(program=name, stack=stack)
    logs = bcm.verb("logs", "instance:logs", "show the logs of a stack's services", "bitcoind -f")
    logs.add_argument("-f", "--follow", action="store_true", help="show new lines as they come, until Ctrl-C")
    logs.add_argument("-n", "--lines", type=int, default=100, metavar="N", help="the number of lines (100)")
    shell = bcm.verb("shell", "instance:shell", "open a shell in a stack's instance", "electrs")
    text = "open a stack's window on this screen, or its page in a browser"
    window = bcm.verb("open", "window:show", text, "electrum")
    for parser in (logs, shell, window):
        parser.add_argument("stack", metavar="STACK")


def _lightning(lightning: Group) -> None:
    lightning.verb("status", "lightning:status", "show the nodes, their coins and their channels", json=True)
    fund = lightning.verb("fund", "lightning:fund", "mine coins for a node, on regtest", "lnd")
    fund.add_argument("stack", nargs="?", metavar="STACK", help="whose coins (the only node that is deployed)")
    text = "make a link with which a program of yours reaches a node through Tor; without a name, list the links"
    link = lightning.verb("connect-string", "lightning:connect_string", text, "lnd phone --may pay", json=True)
    link.add_argument("stack", metavar="STACK")
    link.add_argument("client", nargs="?", metavar="NAME", help="whose link it is; the same name shows it again")
    link.add_argument("--may", choices=("read", "invoices", "pay"), default="read",
                      help="what it may do: read (the default), make invoices, or pay as well")  # fmt: skip
    link.add_argument("--revoke", action="store_true", help="revoke the link")
    _no_qr(link)
    text = "have the watchtower of another data center guard the channels of this one"
    guard = lightning.verb("guard", "lightning:guard", text, "office", json=True)
    guard.add_argument("tower", metavar="DATACENTER", help="whose watchtower it is")
    text = "restore a node that lost its volume, with its channels if there is a replica of them"
    again = lightning.verb("restore", "lightning_restore:restore", text, "lnd")
    again.add_argument("stack", metavar="STACK")
    again.add_argument("--from", dest="origin", metavar="TARGET|FILE", help="where the copy of its channels is (the "
                       "newest of all targets)")  # fmt: skip


def _backup(backup: Group) -> None:
    backup.verb("status", "backup:status", "show where the copies are, and whether they are the newest", json=True)
    backup.verb("follow", "backup:follow", "copy each new backup to folders of this machine, until Ctrl-C")
    backup.verb("key", "backup:key", "print the line for authorized_keys of SSH servers that get copies")
    backup.verb("identity", "backup:identity", "print the key with which age decrypts copies")


def _events(events: Group) -> None:
    events.verb("list", "events:list_topics", "list the topics, and how many events they have", json=True)
    show = events.verb("show", "events:show", "show what an event of a topic has", "bitcoind.block", json=True)
    show.add_argument("topic", metavar="TOPIC")
    text = "print the newest events of a topic, and those that come, until Ctrl-C"
    tail = events.verb("tail", "events:tail", text, "bitcoind.block", json=True)
    tail.add_argument("topic", metavar="TOPIC")
    tail.add_argument("--newest", type=int, default=10, metavar="COUNT", help="how many of those that are there (10)")
    tail.add_argument("--stop", action="store_true", help="end after these")
    text = "answer a question in SQL of the events that are kept; without one, list the tables"
    ask = events.verb("query", "event_query:query", text, '"SELECT * FROM forwarding_income"', json=True)
    ask.add_argument("sql", nargs="?", metavar="SELECT", help="a question as SQLite understands it")
    ask.add_argument("--follow", action="store_true", help="print what comes new in the answer, until Ctrl-C")
    text = "let a program in a local network read topics"
    admit = events.verb("grant", "event_clients:grant", text, "alice --read 'bitcoind.*' --out alice", json=True)
    text = "take a program its rights, and revoke its certificate"
    expel = events.verb("revoke", "event_clients:revoke", text, "alice", json=True)
    for parser in (admit, expel):
        parser.add_argument("client", metavar="NAME", help="the name of the program")
    admit.add_argument("--read", action="append", required=True, metavar="TOPIC", help="a topic, or STACK.* for all")
    admit.add_argument("--out", required=True, metavar="FOLDER", help="for its certificate and its options")
    _force(admit)


def _device_keys(bcm: Group) -> None:
    text = "log in to a machine with the key on the Trezor; all that follows is passed to ssh unchanged"
    ssh = bcm.verb("ssh", "device_keys:ssh", text, "root@box uptime")
    ssh.add_argument("--public-key", action="store_true", help="print the line for authorized_keys of [USER@]HOST")
    bcm.verb("pass", "device_keys:password", "run pass with passwords that only the Trezor decrypts", "ls")
    gpg = bcm.group("gpg", "sign and decrypt with the OpenPGP key on the Trezor", "export")
    init = gpg.verb("init", "device_keys:gpg_init", "create the data center's key", '"Ann <ann@office.example>"')
    init.add_argument("user_id", metavar="NAME <MAIL>", help="the same device and user ID give the same key again")
    gpg.verb("export", "device_keys:gpg_export", "print the public key")
    program = gpg.verb("run", "device_keys:gpg_run", "run a program whose gpg has the key", "gpg --sign file")
    program.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="gpg and its options, bash, git …")


def _image(image: Group) -> None:
    image.verb("list", "image:show", "list the images at the endpoint and in the disk cache", json=True)
    prune = image.verb("prune", "image:prune", "delete images that no instance uses", json=True)
    _older_than(prune, "keep copies in the disk cache that were used")


def _older_than(parser: Parser, what: str) -> None:
    parser.add_argument("--older-than", type=float, default=30.0, metavar="DAYS",
                        help=f"{what} within so many days (30)")  # fmt: skip


def _artifact(artifact: Group) -> None:
    artifact.verb("list", "artifact:show", "list the releases that stacks are made of, and their signers", json=True)
    text = "fetch and verify the releases of stacks and of all that they need"
    fetch = artifact.verb("fetch", "artifact:fetch", text, "bitcoind", json=True)
    verify = artifact.verb("verify", "artifact:verify", "verify the releases in the store again", json=True)
    text = "copy releases, with all that proves them, to a folder"
    export = artifact.verb("export", "artifact:export", text, "/media/disk", json=True)
    text = "copy releases from a folder into the store, and verify them"
    take = artifact.verb("import", "artifact:import_folder", text, "/media/disk", json=True)
    text = "pin another version, once its signatures are verified (for maintainers)"
    repin = artifact.verb("repin", "repin:repin", text, "bitcoind 31.2")
    for parser in (export, take):
        parser.add_argument("folder", metavar="FOLDER", help="has files as STACK/VERSION/NAME")
    repin.add_argument("stack", metavar="STACK")
    repin.add_argument("version", metavar="VERSION")
    repin.add_argument("--source", dest="catalogue_source", metavar="NAME", help="one of its sources (the first)")
    repin.add_argument("--allow-below-floor", action="store_true", help="accept a version with known faults")
    for parser in (fetch, verify, export, take):
        parser.add_argument("stacks", nargs="*", metavar="STACK", help="the stacks (all)")
    for parser in (fetch, export):
        parser.add_argument("--source", metavar="PLACE", help="a folder or address in place of upstream")
        parser.add_argument("--all-architectures", action="store_true", help="not only those of this machine")
    for parser in (fetch, verify, export, take, repin):
        parser.add_argument("--proxy", metavar="URL", help="a SOCKS proxy, socks5h://HOST:PORT; empty for none")
        parser.add_argument("--keys", action="append", metavar="PLACE", help="another place to look for OpenPGP keys")
    prune = artifact.verb("prune", "artifact:prune", "delete what no stack names any more", json=True)
    _older_than(prune, "keep what was fetched")


def _secret(secret: Group) -> None:
    secret.verb("list", "secret:names", "list secrets, and the stacks that know them", json=True)
    shown = secret.verb("show", "secret:show", "print a secret", "bitcoind/rpc/electrs")
    shown.add_argument("name", metavar="NAME")
    rotate = secret.verb("rotate", "secret:rotate", "replace secrets by new ones", "bitcoind/rpc/electrs")
    rotate.add_argument("names", nargs="+", metavar="NAME")
    secret.verb("rekey", "secret:rekey", "encrypt the vault with a new password")
    secret.verb("edit", "secret:edit", "edit secrets with the editor of VISUAL or EDITOR")


def _ca(ca: Group) -> None:
    init = ca.verb("init", "ca:init", "create the root, its intermediate and their revocation lists", json=True)
    init.add_argument("--generation", type=int, metavar="N", help="the generation of the root, if the files of the "
                      "authority are lost: one more than the last one")  # fmt: skip
    shown = ca.verb("show", "ca:show", "show the root, with its fingerprints, and its certificates", json=True)
    shown.add_argument("certificate", nargs="?", metavar="NAME", help="one certificate in detail")
    listed = ca.verb("list", "ca:list_all", "list the certificates", "--all", json=True)
    listed.add_argument("--all", action="store_true", help="include those that were replaced or revoked")
    _ca_issue(ca)
    renew = ca.verb("renew", "ca:renew", "renew certificates, or all that are due", "laptop", json=True)
    renew.add_argument("certificates", nargs="*", metavar="NAME", help="the certificates (all that are due)")
    renew.add_argument("--replace-lost", action="store_true", help="revoke and replace an intermediate without its key")
    _days(renew)
    revoke = ca.verb("revoke", "ca:revoke", "revoke a certificate", "laptop", json=True)
    revoke.add_argument("certificate", metavar="NAME|SERIAL", help="all of a name, or the one with a serial")
    revoke.add_argument("--reason", default="unspecified", help="key_compromise, superseded … (unspecified)")
    rotate = ca.verb("rotate", "ca:rotate", "begin the next generation of the root", json=True)
    rotate.add_argument("--compromised", action="store_true", help="do not let the former root sign the new one")
    exported = ca.verb("export", "ca:export", "write the root to files, for clients to trust", "~/root", json=True)
    exported.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="where to write them (here)")
    _no_qr(exported)


def _ca_issue(ca: Group) -> None:
    text = "issue a certificate for something other than a stack"
    issue = ca.verb("issue", "ca:issue", text, "laptop --usage client --out laptop", json=True)
    issue.add_argument("certificate", metavar="NAME", help="the name of the certificate and of its files")
    issue.add_argument("--name", dest="names", action="append", default=[], metavar="HOST_OR_ADDRESS",
                       help="a name or an address by which clients connect")  # fmt: skip
    issue.add_argument("--usage", action="append", choices=("server", "client"), help="what it is for (server)")
    issue.add_argument("--csr", metavar="FILE", help="certify the key of this request, which stays where it is")
    issue.add_argument("--pkcs12", action="store_true", help="write a PKCS#12 file, too, with its password beside it")
    issue.add_argument("--out", metavar="FOLDER", required=True, help="where to write the files")
    _force(issue)
    _days(issue)


def _days(parser: Parser) -> None:
    parser.add_argument("--days", type=int, metavar="N", help="how long certificates are valid, at most (30)")


def _force(parser: Parser) -> None:
    parser.add_argument("--force", action="store_true", help="replace the key of an existing file")


def _no_qr(parser: Parser) -> None:
    parser.add_argument("--no-qr", action="store_true", help="print no QR code")


def _access(access: Group) -> None:
    access.verb("list", "client_access:list_all", "list how stacks are reached, and the clients that may", json=True)
    text = "give a client the key of a stack's onion service, or a certificate for local networks"
    admit = access.verb("grant", "client_access:grant", text, "alice portal", json=True)
    text = "revoke what a client was given"
    expel = access.verb("revoke", "client_access:revoke", text, "alice portal", json=True)
    for parser in (admit, expel):
        parser.add_argument("client", metavar="NAME", help="the name of the client")
        parser.add_argument("stack", metavar="STACK")
        parser.add_argument("--by", choices=("lan", "onion"), help="the way (the only one that there is)")
    admit.add_argument("--out", metavar="PLACE", help="the folder for the certificate, or a new file for the key")
    _force(admit)
    _no_qr(admit)


def _onion(onion: Group) -> None:
    onion.verb("list", "onion:list_all", "list the onion services and their clients", json=True)
    shown = onion.verb("show", "onion:show", "show how to reach an onion service", "electrs-electrum", json=True)
    shown.add_argument("service", metavar="SERVICE", help="its name in `bcm onion list`, such as electrs-electrum")
    text = "create the key with which a client reaches a service, or show it again"
    admit = onion.verb("authorize", "onion:authorize", text, "alice electrs-electrum", json=True)
    text = "revoke a client's key; all clients of the service are disconnected for some seconds"
    expel = onion.verb("revoke", "onion:revoke", text, "alice", json=True)
    for parser, which in ((admit, "the only one with clients"), (expel, "all with such a client")):
        parser.add_argument("client", metavar="NAME", help="the name of the client")
        parser.add_argument("service", nargs="?", metavar="SERVICE", help=f"the service ({which})")
    admit.add_argument("--output", metavar="FILE", help="write the key to a new file instead of showing it")
    for parser in (shown, admit):
        _no_qr(parser)


def _test(bcm: Group) -> None:
    test = bcm.verb("test", "gates:main", "run the tests; further options are passed to pytest", "--fast")
    test.add_argument("--lint", action="store_true", help="only gates that take seconds, such as yamllint and ruff")
    test.add_argument("--stack", metavar="NAME", help="only gates and tests of a stack that need no containers")
    test.add_argument("--fast", action="store_true", help="only tests that need no containers")
    test.add_argument("--only", metavar="NAME", help="only tests with this in their name")
