# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be typed: help of every verb, mistakes, words handed on."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from bcm_cli import completion, main, stacks, status
from tests.cli.conftest import Checkout
from tests.support import PATIENCE, ROOT


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child.prog.removeprefix("bcm "), child
                yield from _verbs(child)


VERBS = dict(_verbs(main.make_parser()))


def test_all_verbs_exist() -> None:
    stack = [f"stack {verb}" for verb in ("list", "status", "start", "stop", "restart", "remove")]
    config = ["config get", "config set"]
    datacenter = ["datacenter list", "datacenter create"]
    image = ["image list", "image prune"]
    artifact = [f"artifact {verb}" for verb in ("list", "fetch", "verify", "prune", "export", "import", "repin")]
    ca = [f"ca {verb}" for verb in ("init", "show", "list", "issue", "renew", "revoke", "rotate", "export")]
    secret = [f"secret {verb}" for verb in ("list", "show", "rotate", "rekey", "edit")]
    onion = [f"onion {verb}" for verb in ("list", "show", "authorize", "revoke")]
    lightning = [f"lightning {verb}" for verb in ("status", "fund", "connect-string", "guard", "restore")]
    backup = [f"backup {verb}" for verb in ("status", "follow", "key", "identity")]
    events = [f"events {verb}" for verb in ("list", "show", "grant", "revoke", "tail", "query")]
    access = [f"access {verb}" for verb in ("list", "grant", "revoke")]
    gpg = ["gpg init", "gpg export", "gpg run"]
    plain = [
        "info",
        "bitcoin-cli",
        "electrum-cli",
        "elements-cli",
        "lightning-cli",
        "lncli",
        "logs",
        "shell",
        "open",
        "ssh",
        "pass",
        "privacy",
        "completion",
        "test",
    ]
    groups = {"stack": stack, "config": config, "image": image, "artifact": artifact, "ca": ca, "secret": secret}
    groups |= {"gpg": gpg, "lightning": lightning, "onion": onion, "backup": backup, "access": access}
    host = [f"host {verb}" for verb in ("prepare", "status", "add", "drain", "restore", "remove")]
    host += [f"host {verb}" for verb in ("launch", "stop", "delete")]
    groups |= {"datacenter": datacenter, "host": host}
    groups |= {"events": events}
    assert set(VERBS) == {*groups, *(verb for verbs in groups.values() for verb in verbs), *plain}


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.parse([*verb.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    example = shown.partition("example:\n")[2].strip()
    assert example.startswith(f"bcm {verb}")
    assert main.parse(shlex.split(example)[1:]).run


@pytest.mark.parametrize("verb", [verb for verb, parser in VERBS.items() if parser.get_default("run")])
def test_every_verb_names_a_function(verb: str) -> None:
    module, function = VERBS[verb].get_default("run").split(":")
    assert callable(getattr(importlib.import_module(f"bcm_cli.{module}"), function))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("stak", 'Unknown verb "stak": did you mean "stack"?'),
        ("stack strt electrum", 'Unknown verb "strt": did you mean "start"?'),
        ("stack start", "required: STACK"),
        ("stack start electrum --force", "unrecognized arguments: --force"),
        ("ca issue laptop", "required: --out"),
        ("ca issue laptop --usage clint --out .", 'Unknown usage "clint": did you mean "client"?'),
        ("logs bitcoind -n many", "invalid int value: 'many'"),
    ],
)
def test_invalid_words_end_with_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words.split()) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")


def test_invalid_words_are_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["stack", "list", "--json", "--force"]) == 2
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["message"].startswith("unrecognized arguments: --force. ")
    assert error["error"]["code"] == "usage"


@pytest.mark.parametrize("words", ["", "stack", "ca", "-d office onion", "--yes"])
def test_group_without_a_verb_shows_its_help(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.parse(words.split())
    shown = capsys.readouterr()
    assert (ended.value.code, shown.err) == (0, "")
    with pytest.raises(SystemExit):
        main.parse([*words.split(), "--help"])
    assert shown.out == capsys.readouterr().out


def test_the_version_is_that_of_the_collection(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.parse(["--version"])
    galaxy = yaml.safe_load((ROOT / "collections/ansible_collections/bcm/core/galaxy.yml").read_text())
    assert (ended.value.code, capsys.readouterr().out) == (0, f"bcm {galaxy['version']}\n")


def test_words_of_another_program_are_passed_on_unchanged() -> None:
    words = ["-rpcwait", "--yes", "-d", "x", "--", "", "a b", "--help"]
    args = main.parse(["-d", "office", "bitcoin-cli", *words])
    assert (args.arguments, args.datacenter, args.yes) == (words, "office", False)


def test_stack_may_have_the_name_of_a_verb() -> None:
    assert main.parse(["stack", "start", "test"]).stacks == ["test"]


@pytest.mark.parametrize(
    "words", ["-d office -y stack start electrum", "stack start electrum --yes --datacenter office"]
)
def test_options_of_all_verbs_stand_before_or_behind(words: str) -> None:
    args = main.parse(words.split())
    assert (args.datacenter, args.yes, args.stacks) == ("office", True, ["electrum"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-d", "locl", "info"), 'Unknown data center "locl": did you mean "local"?'),
        (("stack", "start", "electrun"), 'Unknown stack "electrun": did you mean "electrum"?'),
        (("stack", "status", "bitcoin"), 'Unknown stack "bitcoin": did you mean "bitcoind"?'),
        (("logs", "electr"), 'Unknown stack "electr"'),
        (("stack", "start", "zap"), "Stack zap is not offered: nobody maintains Zap since November 2023"),
        (("open", "zap"), "take ridethelightning, which shows and pays with lnd in a window"),
        (("shell", "tr"), 'Unknown stack "tr"'),
        (("open", "tor"), "Stack tor has no window and no page; these have: btcpayserver, electrum"),
        (("lightning", "fund", "lndd"), 'Unknown stack "lndd": did you mean "lnd"?'),
        (("lightning", "fund", "tor"), "Stack tor is no Lightning node; these are: clightning, lnd"),
        (("artifact", "fetch", "bitcoin"), 'Unknown stack "bitcoin": did you mean "bitcoind"?'),
        (("artifact", "import", "nowhere"), "nowhere is not a folder"),
        (("artifact", "repin", "bitcoind", "31.2", "--source", "git"), 'Unknown source of bitcoind "git"'),
        (("artifact", "repin", "bitcoind", "next"), '"next" is not a version'),
        (("config", "set", "chain=regtst"), 'Unknown chain "regtst": did you mean "regtest"?'),
        (("config", "set", "chian=regtest"), 'Unknown setting "chian": did you mean "chain"?'),
        (("config", "get", "chian"), 'Unknown setting "chian": did you mean "chain"?'),
    ],
)
def test_unknown_words_end_with_status_2(checkout: Checkout, words: tuple[str, ...], said: str) -> None:
    done = checkout.bcm(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("-d", "locl", "info"), 2, "unknown_name"),
        (("stack", "status", "electrun"), 2, "unknown_name"),
        (("ca", "list"), 1, "not_ready"),
    ],
)
def test_failures_are_json_for_programs(checkout: Checkout, words: tuple[str, ...], status: int, code: str) -> None:
    done = checkout.bcm(*words, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["failed"]) == (status, True)
    assert [error["error"]["code"] for error in answer["errors"]] == [code]
    assert done.stderr == f"bcm: {answer['errors'][0]['message']}\n"


def test_no_traceback_reaches_a_person(checkout: Checkout) -> None:
    (checkout.home / "bcm_cli" / "status.py").write_text("1 / 0\n")
    done = checkout.bcm("info")
    assert done.returncode == 1
    assert "ZeroDivisionError in " in done.stderr
    assert "Traceback" not in done.stderr
    (error,) = json.loads(checkout.bcm("info", "--json").stdout)["errors"]
    assert error["error"]["code"] == "internal_error"


def test_closed_pipe_is_not_an_error(checkout: Checkout) -> None:
    command = ["bash", "-c", f"set -o pipefail; {checkout.home}/bcm stack list --json | true"]
    done = subprocess.run(command, env=checkout.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_old_python_is_refused_with_a_remedy(checkout: Checkout) -> None:
    script = f"""
import sys
sys.version_info, sys.version = (3, 9, 2), "3.9.2 (main)"
exec(compile(open({str(checkout.home / "bcm")!r}).read(), "bcm", "exec"), {{"__file__": "bcm", "__name__": "__main__"}})
"""
    done = subprocess.run(["python3", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "bcm: Python 3.9.2 is too old: install Python 3.11 and type `python3.11 bcm …`"


# -- completion -------------------------------------------------------------------------------------------------------

PARSER = main.make_parser()
STACKS = [
    "backups",
    "bitcoind",
    "btcpayserver",
    "clightning",
    "collector",
    "electrs",
    "electrum",
    "esplora",
    "joinmarket",
    "kafka",
    "lightning-charge",
    "liquid",
    "lnd",
    "nbxplorer",
    "portal",
    "postgresql",
    "ridethelightning",
    "spark",
    "tor",
    "torrelay",
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_is_completed(verb: str) -> None:
    *before, last = verb.split()
    assert last in completion.candidates(PARSER, [*before, last[:1]])
    assert last in completion.candidates(PARSER, ["-d", "local", "--yes", *before, ""])
    options = [word for action in VERBS[verb]._actions for word in action.option_strings]
    assert completion.candidates(PARSER, [*before, last, "-"]) == sorted(options)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["stack"]),
        (["stack", "start", "elec"], ["electrs", "electrum"]),
        (["stack", "start", "tor", "--check", ""], STACKS),
        (["stack", "start", "tor", "-e", ""], []),
        (["stack", "start", "tor", "-e", "a=1", "bi"], ["bitcoind"]),
        (["logs", "tor", ""], []),
        (["-d", "lo"], ["local"]),
        (["stack", "status", "--datacenter", "lo"], ["local"]),
        (["datacenter", "create", "office", "--like", "lo"], ["local"]),
        (["ca", "issue", "x", "--usage", ""], ["server", "client"]),
        (["completion", ""], ["bash", "zsh"]),
        (["stck", ""], []),
        (["bitcoin-cli", "get"], []),
        ([], sorted({verb.split()[0] for verb in VERBS}, key=list(dict.fromkeys(v.split()[0] for v in VERBS)).index)),
    ],
)
def test_next_words_are_completed(words: list[str], found: list[str]) -> None:
    assert completion.candidates(PARSER, words) == found


def test_bash_completes_words(checkout: Checkout) -> None:
    """Without the virtual environment, which is not made for that."""
    (checkout.home / ".venv").unlink()
    script = """
        source <(./bcm completion bash); complete -p bcm
        COMP_WORDS=(./bcm stack start torr); COMP_CWORD=3; _bcm; echo "${COMPREPLY[@]}"
        COMP_WORDS=("~/bcm" -d loc); COMP_CWORD=2; _bcm; echo "${COMPREPLY[@]}"
        COMP_WORDS=(./bcm logs tor x); COMP_CWORD=3; _bcm; echo "${#COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout.home, env={**checkout.environment, "HOME": str(checkout.home)},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["complete -o default -F _bcm bcm", "torrelay", "local", "0"], done.stderr
    assert not (checkout.home / ".venv").exists()


def test_instance_that_is_being_replaced_is_not_its_stack() -> None:
    config = {"user.bcm.stack": "tor"}
    found = [{"name": "tor", "config": config}, {"name": "tor-replaced", "config": config}, {"name": "x", "config": {}}]
    client = SimpleNamespace(get=lambda *_path, **_query: found)
    assert status.deployed(client) == {"tor": found[0]}  # type: ignore[arg-type]


@pytest.fixture
def with_examples(checkout: Checkout, tmp_path: Path) -> Checkout:
    shutil.copytree(ROOT / "docs/examples/stacks", tmp_path / "my-stacks")
    with checkout.settings().open("a") as settings:
        settings.write("bcm_stack_path: [~/my-stacks]\n")
    return checkout


def test_stack_path_may_be_below_the_home_folder(with_examples: Checkout, tmp_path: Path) -> None:
    done = with_examples.bcm("stack", "list", HOME=str(tmp_path))
    assert "echo " in done.stdout, done.stderr


def test_pages_have_a_url_at_the_address_of_the_instance() -> None:
    hello = Catalogue.read([ROOT / "docs/examples/stacks"])["hello"]
    page = {"title": "Height of the chain", "url": "http://192.0.2.7:8080/"}
    assert stacks.pages(hello, "192.0.2.7", "regtest") == [page]
    assert stacks.pages(hello, "192.0.2.7", "unknown") == []
