# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which plays of site.yml run after a host has failed: the real playbooks, and doubles of all that they call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import COLLECTION

# Every action of the collection: it answers what the test says and writes down that it was called.
ACTION = """
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        name = self._task.action.rpartition(".")[2]
        call = [task_vars["inventory_hostname"], name, str(self._templar.template(self._task.args.get("state", "")))]
        with open(task_vars["calls"], "a") as file:
            file.write(json.dumps(call) + "\\n")
        if call == task_vars["fault"]:
            return {"failed": True, "msg": "it is broken"}
        return {**task_vars["answers"].get(name, {}), "_ansible_no_log": bool(self._task.args.get("sensitive"))}
"""
# Roles that do nothing, but for calls by which a stack is certified and verified.
ROLES = {
    "_common": ("install_frame", "egress", "tls", "configure", "verify"),
    "stack": ("install", "configure", "verify"),
}
CONFIGURE = [{"name": "Configure", "bcm.core.lxd_unit": {"instance": "{{ inventory_hostname }}"}}]
CERTIFY = [{"name": "Certify", "bcm.core.lxd_file": {"instance": "{{ inventory_hostname }}"}}]
VERIFY = [{"name": "Verify", "bcm.core.lxd_exec": {"instance": "{{ inventory_hostname }}"}}]
PLAN = {
    "datacenter": "local",
    "chain": "regtest",
    "domain": "local-regtest.bcm",
    "project": "bcm-local-regtest",
    "state": "present",
    "network": {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"},
    "builders": {"name": "local-r-bld"},
    "storage_pool": "default",
    "host": None,
    "ca_provider": "software",
    "vault_id": None,
    "builder_resources": [],
    "resources": [],
    "moves": {"instances": [], "volumes": []},
    "certificates": [],
    "certifiable": {"domains": [], "subnets": []},
    "secrets": {},
    "onions": {"services": [], "known": [], "gateway": "one"},
    "sources": [],
    "exceptions": [],
    "through_tor": [],
    "summary": [],
    "reporters": [],
    "warnings": [],
}


class Site:
    """A collection with the real playbooks, and the stacks ``one`` and ``two``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        collection = folder / "collections/ansible_collections/bcm/core"
        self.role = collection / "roles/stack"
        for part in ("meta", "playbooks", "plugins"):
            shutil.copytree(COLLECTION / part, collection / part, ignore=shutil.ignore_patterns("__pycache__"))
        for action in (collection / "plugins/action").glob("*.py"):
            action.write_text(ACTION)
        (collection / "roles/_common/tasks").mkdir(parents=True)
        for name in ("credentials", "kept_credentials", "left_behind", "needed_credentials"):
            shutil.copy(COLLECTION / f"roles/_common/tasks/{name}.yml", collection / "roles/_common/tasks")
        shutil.copytree(COLLECTION / "roles/_common/vars", collection / "roles/_common/vars")
        for role, files in ROLES.items():
            (collection / f"roles/{role}/tasks").mkdir(parents=True, exist_ok=True)
            for name in files:
                own = {"verify": VERIFY, "configure": CONFIGURE}.get(name, []) if role == "stack" else []
                tasks = CERTIFY if name == "tls" else own
                (collection / f"roles/{role}/tasks/{name}.yml").write_text(yaml.safe_dump(tasks))

    def run(
        self,
        *fault: str,
        proxied: bool = False,
        credentials: dict[str, Any] | None = None,
        verbosity: int = 0,
        check: bool = False,
        onion: str = "",
        others: int = 0,
        own_verify: bool = True,
        then: dict[str, Any] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """What the playbook says if an action fails: host, action, state. All images are missing.

        With ``credentials``, ``two`` gets one for service ``http`` of ``one``, whose program makes these. Without
        ``own_verify``, ``one`` has no tasks of its own for that, and ``then`` is what comes of it.

        If ``proxied``, the downloads of ``three`` come through ``one`` and ``two``, which are baked before it.
        ``onion`` is an onion service of ``one``. There are ``others``, every second one without a configure of its own.
        """
        proxies = ["one", "two"]
        stacks = [*proxies, "three"] if proxied else proxies
        images = [
            {
                "stack": stack, "hash": "0123456789ab", "role": "bcm.core.stack", "role_path": str(self.role),
                "artifact": {"kind": "deb"}, "keys_path": str(self.role / "meta/keys"),
                "has_certificate": False, "downloads": {"proxy": "one"} if stack == "three" else None,
            }
            for stack in stacks
        ]  # fmt: skip
        instances = {
            stack: {
                "stack": stack, "tier": "base", "project": PLAN["project"], "role": "bcm.core.stack", "uplink": None,
                "role_path": str(self.role), "user": stack, "needs_ca": False, "left_behind": [], "address": "10.0.0.2",
                "services": {}, "onions": {}, "web": [], "credentials": [], "makes_credentials": False, "level": 0,
                "own_steps": ["configure", "verify"], "journal": None,
            }
            for stack in (*stacks, *(f"other{number}" for number in range(others)))
        }  # fmt: skip
        for number in range(0, others, 2):
            instances[f"other{number}"]["own_steps"] = ["verify"]
        if credentials is not None:
            consumers = {"two": {"services": ["http"], "permissions": {}}}
            instances["one"] |= {"makes_credentials": True, "consumers": consumers}
            instances["one"]["own_steps"] = ["configure", *(["verify"] if own_verify else [])]
            instances["two"] |= {"credentials": ["one/http/two"], "level": 1, "needs_ca": True}
        proxy = {"stacks": proxies if proxied else [], "resources": []}
        plan = {**PLAN, "stacks": stacks, "images": images, "instances": instances, "download_proxy": proxy}
        plan["has_own_steps"] = True
        if onion:
            instances["one"]["onions"] = {"web": {"name": onion, "port": 80, "listen": 8080, "public": None}}
            plan["onions"] = {"services": [{"name": onion}], "known": ["known"], "gateway": "one"}
        variables = {
            "calls": str(self.calls),
            "fault": list(fault),
            "answers": {
                "claim": {"identity": "x"},
                "plan": {"plan": plan, "outline": {}},
                "preflight": {"lost": []},
                "image": {"missing": images, "fingerprint": "f"},
                "artifact": {"releases": []},
                "lxd_program": {
                    "answer": {**(credentials or {}), "credentials": credentials, "changed": True},
                    **(then or {}),
                },
                "onion_service": {"addresses": {onion: "x.onion"}},
            },
            "ansible_python_interpreter": sys.executable,
        }
        inventory = self.folder / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": {"localhost": None}, "vars": variables}}))
        program = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert program
        self.calls.write_text("")
        return subprocess.run(
            [program, "-i", inventory, *(["--check"] if check else []), "bcm.core.site"],
            cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"), "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_VERBOSITY": str(verbosity)},
        )  # fmt: skip

    @property
    def order(self) -> list[tuple[str, str]]:
        """Who was configured, and who was asked for credentials, in this order."""
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [(host, name) for host, name, _state in calls if name in ("lxd_unit", "lxd_program")]

    def called(self, action: str) -> list[tuple[str, str]]:
        """Who called an action, and the state it asked for."""
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [(host, state) for host, name, state in calls if name == action]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


def builders(*stacks: str) -> list[str]:
    return [f"build-{stack}-01234567" for stack in stacks]


@pytest.mark.parametrize("proxied", [False, True])
def test_all_plays_run_if_nothing_fails(site: Site, proxied: bool) -> None:
    done = site.run(proxied=proxied)
    assert done.returncode == 0, done.stdout
    published = [host for host, state in site.called("image") if state == "published"]
    assert sorted(published) == sorted(builders("one", "two", *(["three"] if proxied else [])))
    assert [host for host, _state in site.called("lxd_apply")] == [
        *builders("one"), *(["one"] if proxied else []), "localhost"
    ]  # fmt: skip
    assert site.called("onion_service") == [("localhost", "")]


@pytest.mark.parametrize("step", ["building", "published"])
def test_nothing_is_deployed_if_an_image_was_not_made(site: Site, step: str) -> None:
    done = site.run(*builders("one"), "image", step, proxied=False)
    assert done.returncode == 2
    assert "Images of one could not be made" in done.stdout
    # The other builder finishes.
    assert (*builders("two"), "published") in site.called("image")
    assert site.called("lxd_apply") == [(*builders("one"), "")]
    assert site.called("onion_service") == []


def test_nothing_is_baked_through_a_proxy_whose_image_was_not_made(site: Site) -> None:
    done = site.run(*builders("two"), "image", "published", proxied=True)
    assert done.returncode == 2
    assert "Images of two could not be made" in done.stdout
    assert site.called("lxd_apply") == [(*builders("one"), "")]


def test_nothing_is_deployed_if_an_image_baked_through_the_proxy_was_not_made(site: Site) -> None:
    done = site.run(*builders("three"), "image", "building", proxied=True)
    assert done.returncode == 2
    assert site.called("lxd_apply") == [(*builders("one"), ""), ("one", "")]


def test_nothing_is_baked_if_the_proxy_of_downloads_does_not_work(site: Site) -> None:
    done = site.run("two", "lxd_exec", "", proxied=True)
    assert done.returncode == 2
    assert "two does not work" in done.stdout
    assert not [host for host, _state in site.called("image") if host in builders("three")]
    assert ("localhost", "") not in site.called("lxd_apply")


def test_consumer_is_configured_once_its_credential_is_made_and_nothing_shows_it(site: Site) -> None:
    done = site.run(credentials={"two": {"http": "made-for-two"}}, verbosity=4)
    assert done.returncode == 0, done.stdout
    assert site.order == [("one", "lxd_unit"), ("one", "lxd_program"), ("two", "lxd_unit")]
    assert "made-for-two" not in done.stdout + done.stderr


def test_consumer_is_prepared_while_its_credential_is_made(site: Site) -> None:
    done = site.run(credentials={"two": {"http": "made-for-two"}})
    assert done.returncode == 0, done.stdout
    assert site.called("lxd_file") == [("two", "")]
    (first,) = (play for play in done.stdout.split("\nPLAY [") if "Certify" in play)
    assert "TASK [bcm.core._common : Make missing credentials" in first


@pytest.mark.parametrize("own_verify", [False, True])
def test_stack_without_own_steps_is_verified_as_its_credentials_are_made(site: Site, own_verify: bool) -> None:
    then = {} if own_verify else {"then_answer": {"notes": ["it works"]}}
    done = site.run(credentials={"two": {"http": "made-for-two"}}, own_verify=own_verify, then=then)
    assert done.returncode == 0, done.stdout
    assert (("one", "") in site.called("lxd_exec"), '"it works"' in done.stdout) == (own_verify, not own_verify)


def test_consumer_gets_its_credential_though_who_made_it_does_not_work(site: Site) -> None:
    credentials = {"two": {"http": "made-for-two"}}
    done = site.run(credentials=credentials, own_verify=False, then={"then_fault": "it is broken"}, verbosity=4)
    assert (done.returncode, "it is broken" in done.stdout) == (2, True)
    assert site.order[-1] == ("two", "lxd_unit")
    assert "made-for-two" not in done.stdout + done.stderr


def test_each_stack_is_configured_before_it_is_verified(site: Site) -> None:
    """Whatever steps others take at the same time."""
    done = site.run(others=16)
    assert done.returncode == 0, done.stdout
    calls = [json.loads(line)[:2] for line in site.calls.read_text().splitlines()]
    for host in ("one", "two", *(f"other{number}" for number in range(1, 16, 2))):
        assert [name for who, name in calls if who == host and name in ("lxd_unit", "lxd_exec")] == [
            "lxd_unit",
            "lxd_exec",
        ]


def test_consumer_of_a_service_that_needs_no_credential_is_configured(site: Site) -> None:
    done = site.run(credentials={"two": {"http": None}})
    assert done.returncode == 0, done.stdout
    assert site.order[-1] == ("two", "lxd_unit")


@pytest.mark.parametrize(
    ("fault", "credentials"),
    [
        (("one", "lxd_program", ""), {"two": {"http": "made-for-two"}}),
        ((), {}),
        ((), {"two": {"https": "made-for-two"}}),
        ((), {"two": {"http": "made for\ntwo"}}),
    ],
)
def test_consumer_without_a_credential_is_not_configured(
    site: Site, fault: tuple[str, ...], credentials: dict[str, dict[str, str | None]]
) -> None:
    done = site.run(*fault, credentials=credentials)
    assert done.returncode == 2
    assert "Stack two has no usable credential one/http/two: one failed, as said above, or" in done.stdout
    # It looks for one that was made before.
    assert site.order == [("one", "lxd_unit"), ("one", "lxd_program"), *([("two", "lxd_program")] if fault else [])]
    # A run goes on unless all stacks of one level have failed, and there is no other.
    assert site.called("onion_service") == [("localhost", "")]


def test_consumer_keeps_a_credential_while_who_made_it_fails(site: Site) -> None:
    """Or is not configured in this run."""
    kept = {"two": {"http": "made-for-two"}, "one/http/two": "made-before"}
    done = site.run("one", "lxd_program", "", credentials=kept, verbosity=4)
    assert done.returncode == 2
    assert site.order[-1] == ("two", "lxd_unit")
    assert "made-before" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("onion", "check", "address"),
    [("new", True, "null"), ("new", False, '"x.onion:80"'), ("known", True, '"x.onion:80"')],
)
def test_report_has_no_address_of_a_key_that_check_mode_did_not_keep(
    site: Site, onion: str, check: bool, address: str
) -> None:
    done = site.run(check=check, onion=onion)
    assert done.returncode == 0, done.stdout
    assert f'"address": {address},' in done.stdout[done.stdout.index("TASK [Show the report]") :]
