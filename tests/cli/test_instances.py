# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verbs over instances: real ones of the base image, with programs in them that say how they were called."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.cli.conftest import PROJECT, Checkout, changing, inside
from tests.support import LXD_DIR

pytestmark = pytest.mark.containers

ECHO = r"""#!/usr/bin/python3
import json, os, sys
if sys.argv[1:2] == ["exit"]:
    sys.stderr.write("error: refused\n")
    sys.exit(int(sys.argv[2]))
if sys.argv[1:2] == ["bytes"]:
    sys.stdout.buffer.write(bytes(range(256)) * 1000)
    sys.exit()
if sys.stdin.isatty():
    print("ready", flush=True)
stdin = sys.stdin.read()
print(json.dumps({"arguments": sys.argv[1:], "stdin": stdin, "name": os.path.basename(sys.argv[0])}))
"""
UNIT = """
[Service]
ExecStart=sh -c 'for i in 1 2 3 4 5; do echo line $$i; done; exec sleep infinity'
"""
# until some `sleep 60` runs
SLEEPS = "until grep -qzx [6]0 /proc/[0-9]*/cmdline; do sleep 0.1; done"


@pytest.fixture(scope="module")
def bcm(deployed: Checkout) -> Checkout:
    for name, program in (("bitcoind", "bitcoin-cli"), ("electrum", "electrum-cli")):
        inside(name, f"cat >/usr/local/bin/{program}; chmod +x /usr/local/bin/{program}", ECHO.encode())
    inside("bitcoind", "mkdir -p /var/lib/bcm/units; touch /var/lib/bcm/units/bitcoind.digest")
    inside("bitcoind", "cat >/etc/systemd/system/bitcoind.service; systemctl start bitcoind", UNIT.encode())
    return deployed


WORDS = ["-named", "send", "--yes", "", "a b", "$HOME", "käse", "--", "-d", "x", "*", '"']


@pytest.mark.parametrize("program", ["bitcoin-cli", "electrum-cli"])
def test_words_reach_the_program_unchanged(bcm: Checkout, program: str) -> None:
    done = bcm.bcm(program, *WORDS, stdin=b"kept")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"arguments": WORDS, "stdin": "", "name": program}


@pytest.mark.parametrize("told", [["-stdin", "x"], ["payto", "-"]])
def test_program_that_asks_for_it_gets_standard_input(bcm: Checkout, told: list[str]) -> None:
    done = bcm.bcm("bitcoin-cli", *told, stdin=b"one\ntwo")
    assert json.loads(done.stdout)["stdin"] == "one\ntwo"


def test_exit_status_and_errors_are_passed_on(bcm: Checkout) -> None:
    done = bcm.bcm("bitcoin-cli", "exit", "28")
    assert (done.returncode, done.stdout, done.stderr) == (28, "", "error: refused\n")


def test_output_that_is_not_text_is_passed_on(bcm: Checkout) -> None:
    assert bcm.bcm("bitcoin-cli", "bytes").stdout.encode(errors="surrogateescape") == bytes(range(256)) * 1000


def test_command_starts_with_little_work(bcm: Checkout) -> None:
    """Counted in the machine's work, which other work on it does not lengthen."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert bcm.bcm("bitcoin-cli", "getblockcount").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1.2


def test_program_reads_from_the_terminal(bcm: Checkout) -> None:
    terminal = bcm.terminal("bitcoin-cli", "-stdinwalletpassphrase", "walletpassphrase")
    terminal.reads("ready")
    terminal.types("secret\n\x04")
    assert '"stdin": "secret\\n"' in terminal.reads("}")
    assert terminal.ends() == 0


def test_last_output_of_a_command_is_read(bcm: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """LXD 5.0 loses them two times in a hundred if the command just ends."""
    reading, writing = os.pipe()
    with (
        os.fdopen(reading) as stdin,
        os.fdopen(writing, "w"),
        (tmp_path / "heard").open("w+") as stdout,
        Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as client,
    ):
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stdout", stdout)
        command = lxd_exec.Command(["sh", "-c", "echo last; exit 3"])
        ended = [lxd_exec.interactive(client, "bitcoind", command) for _time in range(200)]
        stdout.seek(0)
        heard = stdout.read()
    assert (heard.count("last"), set(ended)) == (200, {3})


def test_logs_are_shown(bcm: Checkout) -> None:
    done = bcm.bcm("logs", "bitcoind", "-n", "3")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["line 3", "line 4", "line 5"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", lines[0])


def test_logs_are_followed(bcm: Checkout) -> None:
    terminal = bcm.terminal("logs", "bitcoind", "-f", "-n", "1")
    terminal.reads("line 5")
    inside("bitcoind", "systemctl restart bitcoind")
    terminal.reads("line 4")
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert "Traceback" not in terminal.output
    inside("bitcoind", "while readlink /proc/[0-9]*/exe | grep -q journalctl; do sleep 0.1; done")


def test_shell_runs_on_the_terminal(bcm: Checkout) -> None:
    terminal = bcm.terminal("shell", "bitcoind")
    terminal.reads("#")
    # Split, so that the echo of what was typed is not taken for the answer.
    terminal.types("echo $USER-$HOME-$(host''name)\n")
    terminal.reads("root-/root-bitcoind")
    terminal.types("sleep 60\n")
    inside("bitcoind", SLEEPS)
    terminal.types("\x03")
    terminal.types("echo al''ive $?\n")
    terminal.reads("alive 130")
    terminal.types("exit 7\n")
    assert terminal.ends() == 7


def test_shell_reads_commands_from_a_pipe(bcm: Checkout) -> None:
    done = bcm.bcm("shell", "bitcoind", stdin=b"echo pi''ped; exit 3\n")
    assert "piped" in done.stdout
    assert done.returncode == 3


def test_status(bcm: Checkout) -> None:
    done = bcm.bcm("stack", "status", "--json")
    assert done.returncode == 0, done.stderr
    stacks = {row["stack"]: row for row in json.loads(done.stdout)["stacks"]}
    assert list(stacks) == ["bitcoind", "electrum"]
    assert (stacks["bitcoind"]["status"], stacks["bitcoind"]["units"]) == ("running", {"bitcoind": "active"})
    shown = bcm.bcm("stack", "status").stdout
    assert re.search(r"^bitcoind +running +- .*bitcoind active$", shown, re.M)


def test_status_of_units_that_are_not_in_order(bcm: Checkout) -> None:
    inside("bitcoind", "systemctl kill -s KILL bitcoind; until systemctl is-failed -q bitcoind; do sleep 0.1; done")
    done = bcm.bcm("stack", "status", "bitcoind", "tor", "--json")
    assert done.returncode == 3
    rows = json.loads(done.stdout)["stacks"]
    assert [(row["stack"], row["status"]) for row in rows] == [("bitcoind", "failed"), ("tor", "not deployed")]
    inside("bitcoind", "systemctl restart bitcoind")


def test_missing_instance_is_reported(bcm: Checkout) -> None:
    for words in (("logs", "tor"), ("shell", "tor")):
        done = bcm.bcm(*words)
        assert done.returncode == 1
        assert 'Instance "tor" does not exist in project bcm-local-regtest' in done.stderr


def test_nothing_is_deployed(bcm: Checkout) -> None:
    bcm.bcm("config", "set", "chain=signet")
    try:
        shown = bcm.bcm("stack", "status")
        told = json.loads(bcm.bcm("stack", "status", "--json").stdout)
        nothing = {"stacks": [], "exceptions": [], "through_tor": [], "renewal": None, "uncounted": None}
        assert (shown.returncode, told) == (0, nothing)
        assert "Nothing is deployed in data center local (signet)" in shown.stdout
    finally:
        bcm.bcm("config", "set", "chain=regtest")


def test_data_center_is_described(bcm: Checkout) -> None:
    facts = json.loads(bcm.bcm("info", "--json").stdout)
    assert (facts["datacenter"], facts["chain"], facts["project"]) == ("local", "regtest", "bcm-local-regtest")
    assert facts["server"].startswith(("lxd ", "incus "))
    assert facts["stacks"] == ["bitcoind", "electrum"]
    assert "default (" in facts["storage_pool"]
    assert "inventories/local/secrets" in bcm.bcm("info").stdout


def test_data_center_is_described_without_lxd(checkout: Checkout) -> None:
    checkout.bcm("config", "set", "endpoint=/tmp/no-such-socket")
    done = checkout.bcm("info")
    assert done.returncode == 0
    assert re.search(r"^server +does not answer: ", done.stdout, re.M)


def test_images_are_listed_and_pruned(bcm: Checkout) -> None:
    listed = json.loads(bcm.bcm("image", "list", "--json").stdout)
    base = next(image for image in listed if image["stack"] == "base" and image["endpoint_size"])
    assert sorted(base["used_by"]) == ["bcm-local-regtest/bitcoind", "bcm-local-regtest/electrum"]
    assert re.search(rf"^bcm/base/{base['hash'][:12]} .* MB", bcm.bcm("image", "list").stdout, re.M)
    pruned = json.loads(bcm.bcm("image", "prune", "--json").stdout)
    assert pruned["endpoint"] == []


@pytest.mark.parametrize("datacenter", ["local", "other"])
def test_images_are_not_pruned_while_a_data_center_of_the_endpoint_is_changed(bcm: Checkout, datacenter: str) -> None:
    with changing(datacenter):
        done = bcm.bcm("image", "prune")
    assert done.returncode == 1
    assert done.stderr.startswith(f"bcm: Data center {datacenter} (regtest) is being changed by ")


def test_control_c_ends_the_program(bcm: Checkout) -> None:
    inside("bitcoind", "mv /usr/local/bin/bitcoin-cli /root; ln -s /bin/sleep /usr/local/bin/bitcoin-cli")
    try:
        terminal = bcm.terminal("bitcoin-cli", "60")
        inside("bitcoind", SLEEPS)
        terminal.types("\x03")
        assert terminal.ends() == 128 + signal.SIGINT
        assert terminal.output.strip().endswith("bcm: interrupted")
    finally:
        inside("bitcoind", "mv /root/bitcoin-cli /usr/local/bin/bitcoin-cli")
