# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""start, stop, restart, remove: how the playbook is run. Here it is one that writes down what it was given."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.endpoint import Endpoint
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from bcm_cli import lxd_setup, main, playbook
from bcm_cli.connect import connect
from bcm_cli.datacenter import DataCenter, UsageError
from tests.cli.conftest import PROJECT, Checkout, Terminal
from tests.support import LXD_DIR, Tools

GIVEN = (
    "stack", "state", "delete_data", "confirmed_volumes", "chain", "bcm_datacenter",
    "ansible_check_mode", "inventory_dir", "ansible_diff_mode", "word",
)  # fmt: skip
SITE = [
    {
        "name": "Plan",
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"bcm_report": {"chain": "regtest"}},
        "tasks": [
            {
                "name": "Write down",
                "ansible.builtin.copy": {
                    "dest": "{{ playbook_dir }}/given.json",
                    "content": "{{ dict(names | zip(names | map('extract', vars) | map('default', none))) | to_json }}",
                },
                "vars": {"names": list(GIVEN)},
                "check_mode": False,
            },
            {"name": "Boom", "ansible.builtin.fail": {"msg": "it is broken"}, "when": "boom is defined"},
            {"name": "Sleep", "ansible.builtin.command": "sleep 60", "when": "slow is defined"},
            {"name": "Say", "ansible.builtin.debug": {"var": "bcm_report"}},
        ],
    }
]  # fmt: skip


@pytest.fixture(scope="module")
def site(deployed: Checkout) -> Checkout:
    (deployed.home / "site.yml").write_text(yaml.safe_dump(SITE))
    return deployed


@pytest.fixture(autouse=True)
def nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "site" in request.fixturenames:
        assert running_playbooks(request.getfixturevalue("site")) == []


def running_playbooks(checkout: Checkout) -> list[int]:
    """Processes of Ansible that work for a checkout."""
    mine = f"{checkout.home}/inventories/".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if mine in words and b"ansible-playbook" in words:
            found.append(int(path.parent.name))
    return found


def given(checkout: Checkout) -> dict[str, object]:
    file = checkout.home / "given.json"
    read: dict[str, object] = json.loads(file.read_text())
    file.unlink()
    return read


@pytest.mark.containers
@pytest.mark.parametrize(
    ("verb", "state"), [("start", "present"), ("stop", "stopped"), ("restart", "restarted"), ("remove", "absent")]
)
def test_playbook_gets_variables_and_options(site: Checkout, verb: str, state: str) -> None:
    done = site.bcm("stack", verb, "electrum", "tor", "-e", "chain=regtest word='two words'")
    assert done.returncode == 0, done.stderr
    read = given(site)
    assert (read["stack"], read["state"], read["delete_data"]) == ("electrum,tor", state, None)
    assert (read["bcm_datacenter"], read["chain"], read["word"]) == ("local", "regtest", "two words")
    assert read["inventory_dir"] == str(site.home / "inventories/local")
    assert "nothing changed" not in done.stdout.splitlines()[-1]
    assert done.stderr == ""


#: variable -> another value than the verb and the data center mean, what is said of it
OTHERS = {
    "bcm_datacenter": ("two", "bcm_datacenter is given as two, but data center local (regtest) is meant"),
    "chain": ("signet", "chain is given as signet, but data center local (regtest) is meant"),
    "bcm_chain": ("mainnet", "bcm_chain is given as mainnet, but data center local (regtest) is meant"),
    "stack": ("electrs", "-e sets stack, which the words after the verb say"),
    "state": ("present", "-e sets state, which the verb says"),
    "delete_data": ("true", "-e sets delete_data, which --delete-data says"),
    "confirmed_volumes": ("default/tor-data", "-e sets confirmed_volumes, which the answer to --delete-data says"),
}
#: how somebody may write it
FORMS = {
    "words": ["{name}={value}"],
    "more words": ["a=1 {name}='{value}' b='2 3'"],
    "several": ["a=1", "b=2 {name}={value}", "c=3"],
    "JSON": ['{{"{name}": "{value}"}}'],
    "YAML": ["{{a: 1, {name}: {value}}}"],
    "template": ["b={value}", '{{"{name}": "{{{{ b }}}}"}}'],
}


def refused(*words: str) -> str:
    """What is said of a command that is refused before anything is looked at."""

    def ready(_datacenter: DataCenter, _yes: bool) -> None:
        pytest.fail("it was not refused")

    args = main.parse(["stack", *words])
    args.datacenter = DataCenter("local")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError) as caught:
        patch.setattr(lxd_setup, "ready", ready)
        playbook.change(args)
    return str(caught.value)


@pytest.mark.parametrize("name", OTHERS)
def test_variables_that_contradict_the_verb_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, said = OTHERS[name]
    for form, texts in FORMS.items():
        options = [word for text in texts for word in ("-e", text.format(name=name, value=value))]
        assert said in refused("stop", "tor", *options), form
    (tmp_path / "more.yml").write_text(f"---\n{name}: {value}\n")
    monkeypatch.chdir(tmp_path)
    for file in ("more.yml", "./more.yml", str(tmp_path / "more.yml")):
        assert said in refused("stop", "tor", "-e", f"@{file}"), file
    for verb in (
        ["start", "tor"],
        ["restart", "tor"],
        ["remove", "tor", "--yes"],
        ["remove", "tor", "-y", "--delete-data"],
    ):
        assert said in refused(*verb, "-e", f"{name}={value}"), verb


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@no-such-file", "-e @{home}/no-such-file: not variables: write VAR=VALUE, JSON, or @FILE ("),
        ("{a: [", "-e {a: [: not variables"),
        ("[1, 2]", "-e [1, 2]: not variables"),
        ("word", "-e word: not variables"),
        ("/etc/hostname", "-e /etc/hostname: not variables"),
    ],
)
def test_words_that_are_not_variables_are_refused(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said.replace("{home}", str(tmp_path)) in refused("start", "tor", "-e", text)


@pytest.mark.parametrize("name", ["site", "lxd_pki"])
def test_setting_with_an_undefined_variable_ends_the_run(checkout: Checkout, name: str) -> None:
    with checkout.settings().open("a") as file:
        file.write("bcm_ca_domains: '{{ typo }}'\nbcm_ca_subnets: ['{{ bcm_ca_domains }}']\n")
        file.write("bcm_ca_device: '{{ typo | default(omit) }}'\n")
    done = checkout.runs("ansible-playbook", f"bcm.core.{name}", "-i", "inventories/local", "-e", "stack=tor")
    assert done.returncode == 2, done.stdout
    assert "bcm_ca_domains, bcm_ca_subnets uses a variable that is not defined" in done.stdout
    assert "bcm_ca_device" not in done.stdout


@pytest.mark.parametrize("name", ["site", "lxd_pki"])
@pytest.mark.parametrize("file", ["group_vars/all.yml", "group_vars/stack_electrs.yml", "host_vars/electrs.yml"])
def test_misspelt_setting_ends_the_run(checkout: Checkout, name: str, file: str) -> None:
    path = checkout.settings().parent.parent / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as settings:
        settings.write("bcm_storage_pol: fast\n")
    done = checkout.runs("ansible-playbook", f"bcm.core.{name}", "-i", "inventories/local", "-e", "stack=tor")
    assert done.returncode == 2, done.stdout
    assert 'Unknown variable "bcm_storage_pol": did you mean "bcm_storage_pool"?' in done.stdout.replace("\\", "")


@pytest.mark.parametrize("verb", ["start", "stop", "remove"])
def test_misspelt_setting_is_refused_before_anything_is_installed(checkout: Checkout, verb: str) -> None:
    with checkout.settings().open("a") as settings:
        settings.write("bcm_endpiont: https://192.0.2.1:8443\n")
    for more in ([], ["-e", "bcm_chian=signet"]):
        done = checkout.bcm("--yes", "stack", verb, "tor", *more)
        assert done.returncode == 1
        name, meant = ("bcm_chian", "bcm_chain") if more else ("bcm_endpiont", "bcm_endpoint")
        assert f'Unknown variable "{name}": did you mean "{meant}"?' in done.stderr


@pytest.mark.containers
def test_exit_status_and_message_of_the_playbook_are_passed_on(site: Checkout) -> None:
    done = site.bcm("stack", "start", "tor", "-e", "boom=1")
    assert done.returncode == 2
    assert "Failed: Boom: it is broken" in done.stdout
    given(site)


@pytest.mark.containers
def test_failure_is_json(site: Checkout) -> None:
    done = site.bcm("stack", "start", "tor", "--json")
    assert json.loads(done.stdout) == {"chain": "regtest"}
    assert "Done: " in done.stderr
    given(site)


def test_check_mode_needs_no_lxd_and_starts_none(checkout: Checkout) -> None:
    (checkout.home / "site.yml").write_text(yaml.safe_dump(SITE))
    done = checkout.bcm("stack", "remove", "tor", "--check", "--diff", "--delete-data")
    assert done.returncode == 0, done.stderr
    read = given(checkout)
    assert (read["ansible_check_mode"], read["ansible_diff_mode"], read["delete_data"]) == (True, True, True)
    assert not Path(checkout.environment["LXD_DIR"]).exists()


def test_missing_lxd_is_not_installed_without_consent(checkout: Checkout, tmp_path: Path) -> None:
    """On a machine whose PATH has Python and apt, and nothing else."""
    for program, target in (("python3", sys.executable), ("env", "/usr/bin/env"), ("apt-get", "/bin/true")):
        (tmp_path / program).symlink_to(os.path.realpath(target))
    done = checkout.bcm("stack", "start", "electrum", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "missing: lxd, which runs the containers" in done.stderr
    assert re.search(r"either type `sudo .*install.* lxd.*`, or run this again with --yes", done.stderr)


def test_endpoint_that_does_not_answer_is_reported(checkout: Checkout) -> None:
    checkout.bcm("config", "set", "endpoint=/tmp/no-such-socket")
    done = checkout.bcm("stack", "start", "electrum", "--yes")
    assert done.returncode == 1
    assert "/tmp/no-such-socket" in done.stderr
    assert not Path(checkout.environment["LXD_DIR"]).exists()


@pytest.mark.containers
def test_lxd_is_started_and_initialised_once(lxd_tools: Tools, capsys: pytest.CaptureFixture[str]) -> None:
    with connect(DataCenter("local"), "default") as client:
        assert [pool["name"] for pool in client.get("/1.0/storage-pools", recursion=1)] == ["default"]
    capsys.readouterr()
    lxd_setup.ready(DataCenter("local"), yes=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.containers
def test_started_daemon_contacts_no_other_machine(lxd_tools: Tools) -> None:
    """Of what it does at start, its log tells how it ended: at the proxy, before a name was looked up."""
    with connect(DataCenter("local"), "default") as client:
        config = client.server["config"]
        assert lxd_setup.calls_out(client) == []
    assert {key: config[key] for key in lxd_setup.QUIET} == lxd_setup.QUIET
    tried = [line for line in (LXD_DIR / "bcm.log").read_text().splitlines() if "instance types" in line]
    assert tried
    assert [line for line in tried if "connection refused" not in line or "lookup" in line] == []


SNAP, PACKAGE, INCUS = "/var/snap/lxd/common/lxd", "/var/lib/lxd", "/var/lib/incus"


def found_daemon(name: str, place: str, **config: str) -> list[str]:
    """What is said of a daemon, by its name and its directory, or the URL of its endpoint."""
    url = place if "://" in place else f"{place}/unix.socket"
    path = f"{place}/unix.socket" if "://" not in place else "/run/tunnel" if place.startswith("ssh://") else None
    server = {"config": config, "environment": {"server": name}}
    client = types.SimpleNamespace(server=server, endpoint=Endpoint(url, url, path))
    return lxd_setup.calls_out(client)  # type: ignore[arg-type]


@pytest.fixture
def usual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LXD_DIR", "INCUS_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "place", "asked", "command"),
    [
        ("lxd", PACKAGE, "images.lxd.canonical.com (earlier ", "`lxc config set {}` ends"),
        ("lxd", SNAP, "images.lxd.canonical.com (earlier ", "`lxc config set {}` ends"),
        ("incus", INCUS, "images.linuxcontainers.org for ", "`incus config set {}` ends"),
        ("lxd", "/srv/lxd", "images.lxd.", "`LXD_SOCKET=/srv/lxd/unix.socket lxc config set {}` ends"),
        ("incus", "/srv/incus", "images.linux", "`INCUS_SOCKET=/srv/incus/unix.socket incus config set {}` ends"),
        ("lxd", "https://192.0.2.1:8443", "images.lxd.", "`lxc config set {}`, on that machine, ends"),
        ("lxd", f"ssh://box{SNAP}", "images.lxd.", "`lxc config set {}`, on that machine, ends"),
    ],
)
@pytest.mark.parametrize("proxy", ["", "http://192.0.2.1:3128"])
def test_daemon_that_was_found_asks_outside(
    usual_places: None, name: str, place: str, asked: str, command: str, proxy: str
) -> None:
    said = found_daemon(name, place, **({"core.proxy_https": proxy} if proxy else {}))[-1]
    assert said.startswith(f"{name} itself asks {asked}")
    assert command.format(" ".join(f"{key}={value}" for key, value in lxd_setup.QUIET.items())) in said
    assert (f"through the proxy {proxy}" if proxy else "from the address of the host") in said


def test_snap_is_updated_from_the_address_of_the_host(usual_places: None) -> None:
    quiet, loud = found_daemon("lxd", SNAP, **lxd_setup.QUIET), found_daemon("lxd", SNAP)
    assert len(loud) == 2
    assert quiet == loud[:1]
    assert "`sudo snap refresh --hold lxd`" in quiet[0]


@pytest.mark.parametrize(("name", "place"), [("lxd", PACKAGE), ("incus", INCUS), ("lxd", f"ssh://box{SNAP}")])
def test_daemon_that_is_configured_to_contact_no_other_machine(usual_places: None, name: str, place: str) -> None:
    assert found_daemon(name, place, **lxd_setup.QUIET) == []


@pytest.mark.containers
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_missing_permission_on_the_socket_is_reported(lxd_tools: Tools) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(lxd_setup.BcmError, match=rf"Permission denied on {LXD_DIR}/unix.socket: join the group"):
            lxd_setup._answers()
    finally:
        os.seteuid(0)


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


def sleeping(site: Checkout) -> Terminal:
    terminal = site.terminal("stack", "start", "tor", "-e", "slow=1")
    while terminal.reads_seconds("Plan: Sleep") == 0:
        pass
    return terminal


@pytest.mark.containers
def test_control_c_ends_the_playbook(site: Checkout) -> None:
    terminal = sleeping(site)
    terminal.types("\x03")
    assert terminal.ends() == 130
    lines = re.split(r"\r\x1b\[K|\n", terminal.output)
    said = [line for line in lines if line not in ("", "^C") and "Sleep" not in line]
    assert said == ["bcm: interrupted; the same command continues from there"]


@pytest.mark.containers
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_to_the_command_alone_ends_the_playbook(site: Checkout, number: int, status: int) -> None:
    terminal = sleeping(site)
    os.kill(terminal.pid, number)
    assert terminal.ends() == status
    assert "bcm: interrupted" in terminal.output


@pytest.mark.containers
def test_control_c_before_the_playbook_starts_nothing(site: Checkout, volume: str) -> None:
    terminal = site.terminal("stack", "remove", "tor", "--delete-data")
    terminal.reads("to delete them: ")
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert terminal.output.strip().endswith("bcm: interrupted")


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def volume(site: Checkout) -> Iterator[str]:
    """One with something in it."""
    with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as client:
        path = "/1.0/storage-pools/default/volumes/custom"
        config = {"size": "64MiB", "user.bcm.datacenter": "local", "user.bcm.chain": "regtest"}
        client.call("POST", path, {"name": "tor-data", "config": config}, what="make a volume")
        yield "tor-data"
        client.call("DELETE", f"{path}/tor-data", what="delete the volume")


def test_contents_of_backups_are_listed_before_deletion() -> None:
    backups = playbook._backups(DataCenter("local"))
    assert "wallets" in backups["bitcoind-data"]
    assert not {"tor-data", "electrs-data"} & backups.keys()
    client = types.SimpleNamespace(
        get=lambda *_path, **_more: {"config": {"size": "2GiB"}}, find=lambda *_path, **_more: {}
    )
    volume = {"pool": "default", "name": "bitcoind-data", "project": "p"}
    for backup, end in (("wallets", ", to be backed up: wallets"), (None, "used")):
        assert playbook._described(client, volume, backup).endswith(end)  # type: ignore[arg-type]


def test_volume_of_unknown_use_is_described() -> None:
    """In a pool of directories, LXD counts only with quotas."""

    def find(*_path: str, **_more: str) -> None:
        raise LxdError("Not supported")

    client = types.SimpleNamespace(get=lambda *_path, **_more: {"config": {}}, find=find)
    described = playbook._described(client, {"pool": "default", "name": "tor-data", "project": "p"}, None)  # type: ignore[arg-type]
    assert described == "tor-data in storage pool default: without a limit, an unknown part used"


@pytest.mark.containers
def test_data_is_deleted_after_its_name_was_typed(site: Checkout, volume: str) -> None:
    (site.home / "given.json").unlink(missing_ok=True)
    terminal = site.terminal("stack", "remove", "tor", "--delete-data")
    asked = terminal.reads("Type the name of the data center (local) to delete them: ")
    where = f"data center local (regtest) at {LXD_DIR}/unix.socket"
    assert f"These volumes will be deleted in {where}, with the coins in them:" in asked
    assert re.search(r"^  tor-data in storage pool default: of 64MiB, .* used$", asked, re.M)
    terminal.types("yes\n")
    assert terminal.ends() == 1
    assert "That is not its name: nothing was deleted" in terminal.output
    assert not (site.home / "given.json").exists()
    terminal = site.terminal("stack", "remove", "tor", "--delete-data")
    terminal.reads("to delete them: ")
    terminal.types("local\n")
    assert terminal.ends() == 0
    read = given(site)
    assert (read["delete_data"], read["confirmed_volumes"]) == (True, ["default/tor-data"])


@pytest.mark.containers
def test_data_is_deleted_with_yes(site: Checkout, volume: str) -> None:
    refused = site.bcm("stack", "remove", "tor", "--delete-data")
    assert refused.returncode == 1
    assert "--delete-data deletes wallets: run it on a terminal, or add --yes" in refused.stderr
    done = site.bcm("stack", "remove", "tor", "--delete-data", "--yes")
    assert done.returncode == 0
    assert "  tor-data in storage pool default: of 64MiB" in done.stderr
    assert given(site)["confirmed_volumes"] == ["default/tor-data"]


@pytest.mark.containers
def test_removal_without_volumes_asks_nothing(site: Checkout) -> None:
    done = site.bcm("stack", "remove", "tor", "--delete-data", "--yes")
    assert done.returncode == 0
    assert "No volumes will be deleted in data center local (regtest)" in done.stderr
    assert given(site)["confirmed_volumes"] == []
