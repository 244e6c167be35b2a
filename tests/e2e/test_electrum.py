# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a clone to a wallet with a balance, as a person gets there."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.e2e.conftest import INSTANCES, Person, inside, ours, reported
from tests.support import PATIENCE, ROOT, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

PAGE = "import urllib.request as r; print(r.urlopen('http://{}:8080/').read().decode())"
CRATE = "712559c6c6fa94bca189bdb41e4a1d2bd3922521c6e1fbb6735e427c1945dd03"


def test_first_command_brings_up_the_stack(started: dict[str, Any]) -> None:
    assert set(started) == set(INSTANCES)
    assert set(ours("local")["instance"]) == set(INSTANCES)


def test_second_run_changes_nothing_and_takes_seconds(person: Person, started: dict[str, Any]) -> None:
    """Of the processor: how long that takes is a matter of what else this machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = person.succeeds("stack", "start", "electrum")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert output.rstrip().endswith("nothing changed")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30


def test_check_mode_says_that_nothing_would_change(person: Person, started: dict[str, Any]) -> None:
    output = person.succeeds("stack", "start", "electrum", "--check", "--diff")
    assert output.rstrip().endswith("nothing would change")


@pytest.fixture(scope="module")
def coins(person: Person, started: dict[str, Any]) -> None:
    """A hundred blocks mined to an address of the wallet, so that the first coins may be spent."""
    address = person.succeeds("electrum-cli", "createnewaddress").strip()
    before = int(person.succeeds("bitcoin-cli", "getblockcount"))
    assert len(json.loads(person.succeeds("bitcoin-cli", "generatetoaddress", "100", address))) == 100
    assert int(person.succeeds("bitcoin-cli", "getblockcount")) == before + 100


@pytest.mark.usefixtures("coins")
def test_mined_coins_show_in_the_wallet(person: Person) -> None:
    def balance() -> str:
        return str(json.loads(person.succeeds("electrum-cli", "getbalance")).get("confirmed"))

    until(lambda: balance() == "50", "a confirmed balance of 50")


def test_package_of_another_suite_brings_no_libraries_of_it(started: dict[str, Any]) -> None:
    versions = {inside("local", name, "dpkg-query", "--show", "--showformat=${Version}", "libc6") for name in INSTANCES}
    assert len(versions) == 1


def test_status_logs_and_info(person: Person, started: dict[str, Any]) -> None:
    status = reported(person.succeeds("stack", "status", "--json"))
    assert {name: item["units"][name] for name, item in status.items()} == dict.fromkeys(INSTANCES, "active")
    assert person.succeeds("logs", "bitcoind", "-n", "5")
    info = json.loads(person.succeeds("info", "--json"))
    assert (info["datacenter"], info["chain"]) == ("local", "regtest")


@pytest.fixture
def screen(person: Person) -> Iterator[str]:
    """A screen of its own, with an authority file as a desktop has one."""
    authority = person.home / "Xauthority"
    subprocess.run(["xauth", "-q", "-f", str(authority), "add", ":77", ".", "0123456789abcdef" * 2], check=True)
    server = subprocess.Popen(
        ["Xvfb", ":77", "-noreset", "-screen", "0", "1000x640x24", "-auth", str(authority)], stderr=subprocess.DEVNULL
    )
    until(lambda: Path("/tmp/.X11-unix/X77").exists(), "Xvfb's socket")
    yield str(authority)
    server.terminate()
    server.wait()


def test_bill_of_materials(person: Person, started: dict[str, Any]) -> None:
    bill = json.loads(person.succeeds("info", "--bill-of-materials"))
    assert bill["bomFormat"] == "CycloneDX"
    found = {item["name"]: item for item in bill["components"]}
    assert set(found) == {*(f"bcm/{name}" for name in INSTANCES), "tor", "bitcoin-knots", "electrs", "electrum"}
    electrs = found["electrs"]
    assert electrs["version"] == "0.11.1" and electrs["purl"].startswith("pkg:cargo/electrs@0.11.1")
    assert electrs["hashes"] == [{"alg": "SHA-256", "content": CRATE}]
    assert electrs["licenses"] == [{"license": {"id": "MIT"}}]
    packages = {item["name"]: item for item in found["bcm/tor"]["components"]}
    assert unquote(packages["tor"]["purl"]).startswith(f"pkg:deb/debian/tor@{packages['tor']['version']}?arch=")


def test_stacks_of_the_documentation_are_deployed(person: Person, started: dict[str, Any]) -> None:
    with person.settings("local").open("a") as settings:
        settings.write(f"bcm_stack_path: [{person.home}/docs/examples/stacks]\n")
    found = reported(person.succeeds("stack", "start", "hello", "echo", "--json"))
    assert set(found) == {"tor", "bitcoind", "electrs", "hello", "echo"}
    page = inside("local", "hello", "python3", "-c", PAGE.format(found["hello"]["address"]))
    assert page == f"Hello, the chain is {inside('local', 'bitcoind', 'bitcoin-cli', 'getblockcount')} blocks high."
    url = f"http://{found['hello']['address']}:8080/"
    assert found["hello"]["web"] == [{"title": "Height of the chain", "url": url}]
    assert f"hello: Height of the chain is at {url}" in person.succeeds("stack", "status", "hello")
    assert found["echo"]["verified"] == ["1 requests"]
    assert found["echo"]["onions"][0]["address"].endswith(".onion:80")
    # Each run verifies the stack with one more request, and the volume keeps their number.
    again = person.succeeds("stack", "start", "hello", "echo")
    assert again.rstrip().endswith("nothing changed")
    assert "2 requests" in again
    person.succeeds("stack", "remove", "hello", "echo")
    assert sorted(ours("local")["instance"]) == sorted(INSTANCES)


@pytest.mark.usefixtures("coins")
def test_window_of_the_wallet(person: Person, screen: str, request: pytest.FixtureRequest) -> None:
    """The wallet's window is drawn on this machine's screen; `--picture` keeps the photograph for the README."""
    environment = {**person.environment, "DISPLAY": ":77", "XAUTHORITY": screen}
    opened = subprocess.Popen(person.command("open", "electrum"), cwd=person.home, env=environment)

    def windows() -> list[str]:
        found = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", "Electrum"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return found.stdout.split()

    try:
        until(lambda: bool(windows()), "the window of Electrum")
        picture = person.home / "electrum.png"

        def balance_shown() -> bool:
            subprocess.run(["import", "-window", "root", str(picture)], env=environment, check=True)
            enlarged = subprocess.run(
                ["convert", str(picture), "-resize", "200%", "png:-"], capture_output=True, check=True
            )
            read = subprocess.run(
                ["tesseract", "-", "-"], input=enlarged.stdout, capture_output=True, check=True
            ).stdout
            return "Balance: 5000000" in read.decode()

        # A hundred coinbases of 50 BTC, in its unit mBTC, most of them still maturing.
        until(balance_shown, "a window with the balance in it")
        keep = request.config.getoption("--picture")
        if keep:
            shutil.copy(picture, ROOT / keep)
    finally:
        for window in windows():
            subprocess.run(["xdotool", "windowkill", window], env=environment, check=False)
        opened.terminate()
        opened.wait(PATIENCE)
    devices = inside("local", "electrum", "sh", "-c", "ls /tmp/.X11-unix 2>/dev/null || true")
    assert "X77" not in devices, "the way to the screen stayed open after the window was closed"
