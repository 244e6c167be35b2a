# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar, trust_as_template

from ansible_collections.bcm.core.plugins.action.plan import ActionModule
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import Artifacts
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Pin, Release
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter.project_state import out_of_reach, read_project_state
from ansible_collections.bcm.core.plugins.module_utils._plan import catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.limits import Host
from ansible_collections.bcm.core.plugins.module_utils._plan.request import (
    Deployed,
    ProjectState,
    Request,
    Site,
    Volume,
)
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


class FakeClient:
    """Answers GET from a mapping of project:path to metadata; counts what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.endpoint = SimpleNamespace(name="/run/x")
        self.server = {"environment": {"kernel_architecture": "x86_64"}}

    def find(self, path: str, *, project: Any = True, **_params: Any) -> Any:
        self.asked.append(path)
        return self.answers.get(path)

    def get(self, path: str, *, project: Any = True, **_params: Any) -> Any:
        self.asked.append(path)
        return self.answers[path]

    def close(self) -> None:
        self.asked.append("closed")


MARKS = {"user.bcm.datacenter": "local", "user.bcm.chain": "regtest"}
PROJECT = {"name": "bcm-local-regtest", "config": {"user.bcm.datacenter": "local"}}


def _instance(name: str, status: str = "Running", **config: str) -> dict[str, Any]:
    marks = {f"user.bcm.{key}": value for key, value in config.items()}
    return {"name": name, "status": status, "config": marks, "created_at": "2026-01-01T00:00:00Z"}


ENDPOINT = {
    "/1.0/projects/bcm-local-regtest": PROJECT,
    "/1.0/instances": [
        _instance("tor", stack="tor", requested="false"),
        _instance("web", "Stopped", stack="web", requested="true"),
        _instance("build-web-01234567", builder="me:1:2"),
        _instance("guest"),
        _instance("tor-replaced", "Stopped", stack="tor", replaced="{}"),
    ],
    "/1.0/storage-pools": [{"name": "default"}, {"name": "fast"}],
    "/1.0/storage-pools/default/volumes/custom": [
        {"name": "tor-data", "config": MARKS},
        {"name": "tor-data/before", "config": MARKS},
        {"name": "guest", "config": {"user.bcm.datacenter": "local"}},
    ],
    "/1.0/storage-pools/fast/volumes/custom": [
        {"name": "tor-data", "config": {**MARKS, "user.bcm.moved_to": "default"}}
    ],
}


def _debian(package: str) -> dict[str, str]:
    return {"kind": "deb", "name": package, "licence": "MIT"}


@pytest.fixture
def roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stacks with defaults, in place of the collection's."""
    documents: dict[str, dict[str, Any]] = {
        "tor": {"services": {"socks": {"protocol": "tcp", "port": 9050}}, "volumes": {}},
        "web": {
            "needs": {"tor": ["socks"]},
            "assertions": [{"that": "web_workers | int <= 8", "fail_msg": "it has 8 threads; set web_workers"}],
            "image": {"variables": ["web_version"]},
        },
    }
    for name, document in documents.items():
        (tmp_path / name / "meta").mkdir(parents=True)
        (tmp_path / name / "defaults").mkdir()
        common = {"schema": 1, "description": name, "tier": "web", "chains": ["regtest"]}
        text = yaml.safe_dump({"artifact": {"sources": {"debian": _debian(name)}}, **common, **document})
        (tmp_path / name / "meta/stack.yml").write_text(text, encoding="utf-8")
    defaults = "web_major: 2\nweb_version: '{{ web_major }}.1'\nweb_workers: 4\nweb_chain: '{{ bcm.chain }}'\n"
    (tmp_path / "web/defaults/main.yml").write_text(defaults, encoding="utf-8")
    monkeypatch.setattr(catalogue, "ROLES", tmp_path)
    return tmp_path


def _variables(roles: Path, **play: Any) -> RoleVariables:
    loader = DataLoader()
    stacks = list(catalogue.Catalogue.read(roles=roles).values())
    return RoleVariables(Templar(loader=loader, variables={}), loader, stacks, play)


def test_own_variables_of_a_role_that_was_included_are_not_given(roles: Path) -> None:
    (roles / "web/vars").mkdir()
    (roles / "web/vars/main.yml").write_text("web_files: []\n", encoding="utf-8")
    assert set(_variables(roles, web_files=[], web_workers=4).given) == {"web_workers"}


# -- sources ---------------------------------------------------------------------------------------------------------


def test_an_image_that_is_there_needs_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    ways = Artifacts(ContentStore(tmp_path / "store"), Downloader(), said.append, source=str(tmp_path / "none"))
    pin = Pin("https://example.org/x-1.tar.gz", "sha256", "1" * 64)
    release = Release("web", "release", "archive", "x", "MIT", "1", {"x86_64": pin})
    image = {"fingerprint": "f", "size": 1, "created_at": "", "properties": {"bcm.hash": "a" * 64}}
    fault = out_of_reach(FakeClient({"/1.0/images": [image]}), ways)  # type: ignore[arg-type]
    assert fault(release, "a" * 64) is None
    assert fault(release, "b" * 64) == f"{tmp_path}/none/web/1/x-1.tar.gz is not there"
    assert said == [f"web: its source release is out of reach: {tmp_path}/none/web/1/x-1.tar.gz is not there"]


# -- variables ---------------------------------------------------------------------------------------------------------


def test_defaults_are_templated_and_plain(roles: Path) -> None:
    variables = _variables(roles)
    assert variables.value("web_version") == "2.1"
    assert variables.value("web_version").__class__ is str
    assert variables.value("nobody_sets_this") is None


def test_the_play_goes_over_defaults(roles: Path) -> None:
    variables = _variables(roles, web_major=3, web_workers=trust_as_template("{{ 5 + 5 }}"))
    assert variables.value("web_version") == "3.1"
    assert variables.value("web_workers") == 10
    assert variables.holds("web_workers | int > 8")
    assert not _variables(roles).holds("web_workers | int > 8")


@pytest.mark.parametrize("expression", ["web_worker > 8", "web_workers >", "web_workers"])
def test_an_invalid_expression_is_refused(roles: Path, expression: str) -> None:
    with pytest.raises(BcmError, match=r"cannot be evaluated: "):
        _variables(roles).holds(expression)


@pytest.mark.parametrize(("text", "complaint"), [("- a\n", "is not a mapping"), ("a: [\n", "cannot be read")])
def test_defaults_that_are_not_a_mapping_are_refused(roles: Path, text: str, complaint: str) -> None:
    (roles / "tor/defaults/main.yml").write_text(text, encoding="utf-8")
    with pytest.raises(BcmError, match=f"tor/defaults/main.yml {complaint}"):
        _variables(roles)


SPECS = """
argument_specs:
  install: {options: {web_version: {type: str}}}
  configure:
    options:
      web_workers: {type: int}
      web_color: {type: str, choices: [red, green]}
      web_key: {type: str, required: true}
      web_page: {type: dict, options: {title: {type: str, required: true}}}
"""


@pytest.mark.parametrize(
    ("play", "complaint"),
    [
        ({"web_key": "x"}, None),
        ({"web_key": "x", "web_workers": "7", "web_color": "red", "web_page": {"title": "x"}}, None),
        ({"web_key": trust_as_template("{{ bcm.address }}")}, None),
        ({}, "Variables of web: missing required arguments: web_key: correct the inventory"),
        ({"web_key": "x", "web_workers": "many"}, "web_workers.* unable to convert to int.*: correct the inventory"),
        ({"web_key": "x", "web_color": "blue"}, "value of web_color must be one of: red, green, got: blue"),
        ({"web_key": "x", "web_page": {}}, "missing required arguments: title found in web_page"),
    ],
)
def test_variables_are_what_the_role_says(roles: Path, play: dict[str, Any], complaint: str | None) -> None:
    (roles / "web/meta/argument_specs.yml").write_text(SPECS, encoding="utf-8")
    variables = _variables(roles, **play)
    stack = catalogue.Catalogue.read(roles=roles)["web"]
    if complaint is None:
        variables.check(stack)
    else:
        with pytest.raises(BcmError, match=complaint):
            variables.check(stack)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("{{ typo }}", "variable web_color cannot be evaluated: 'typo' is undefined"),
        ("{{ web_majr }}-{{ bcm.address }}", "variable web_color cannot be evaluated: "),
        ("{{ bcm.address", "variable web_color cannot be evaluated: "),
        ("{{ helper }}", "variable web_color cannot be evaluated: "),
        ("{{ typo | default('red') }}", None),
        ("{{ typo | default(bcm.address) }}", None),
        ("{{ bcm.address if typo is defined else bcm.gateway }}", None),
        ("{{ [bcm.address] | map('split', '.') | map('first') | join }}", None),
        ("{% for part in bcm.address %}{{ part }}{% endfor %}", None),
        ("{{ lookup('ansible.builtin.env', bcm.address) }}", None),
        ("{{ web_internal }}", None),
        ("{{ ansible_facts.kernel }}", None),
    ],
)
def test_undefined_variables_in_templates_are_refused(roles: Path, value: str, complaint: str | None) -> None:
    (roles / "web/meta/argument_specs.yml").write_text(
        "argument_specs: {main: {options: {web_color: {type: raw}}}}", encoding="utf-8"
    )
    (roles / "web/vars").mkdir()
    (roles / "web/vars/main.yml").write_text("web_internal: 7\n", encoding="utf-8")
    play = {"web_color": {"of": [trust_as_template(value)]}, "helper": trust_as_template("{{ bcm.address ~ typo }}")}
    variables = _variables(roles, bcm={"chain": "regtest"}, **play)
    stack = catalogue.Catalogue.read(roles=roles)["web"]
    if complaint is None:
        variables.check(stack)
    else:
        with pytest.raises(BcmError, match=complaint):
            variables.check(stack)


def test_names_of_variables_are_those_of_the_role_and_of_the_play(roles: Path) -> None:
    (roles / "web/meta/argument_specs.yml").write_text(SPECS, encoding="utf-8")
    variables = _variables(roles, web_colour="red", elsewhere=1)
    assert set(variables.given) == {"web_colour", "elsewhere"}
    known = variables.names(catalogue.Catalogue.read(roles=roles)["web"])
    assert known == {"web_major", "web_version", "web_workers", "web_chain", "web_color", "web_key", "web_page"}


# -- what is there -----------------------------------------------------------------------------------------------------


def _site(roles: Path, state: str = "present") -> Site:
    return Site(catalogue.Catalogue.read(roles=roles), Request(["web"], "regtest", "local", state=state))


def test_state_of_a_missing_project_is_empty(roles: Path) -> None:
    client = FakeClient({})
    assert read_project_state(client, _site(roles)) == ProjectState()
    assert client.asked == ["/1.0/projects/bcm-local-regtest", "/1.0/resources"]


def test_memory_and_processors_of_the_host_are_read(roles: Path) -> None:
    client = FakeClient({"/1.0/resources": {"memory": {"total": 2**33}, "cpu": {"total": 4}}})
    assert read_project_state(client, _site(roles)).host == Host(memory=2**33, processors=4)


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        ({}, ((), (), ())),
        ({"user.bcm.identity": "a1"}, ((), (), ())),
        (
            {
                "user.bcm.identity": "a1",
                "user.bcm.kept": "keys,onions",
                "user.bcm.onions": "a-web,b-web",
                "user.bcm.secrets": "a/b,c/d",
            },
            (["keys", "onions"], ["a-web", "b-web"], ["a/b", "c/d"]),
        ),
        (
            {
                "user.bcm.identity": "b2",
                "user.bcm.kept": "keys,onions",
                "user.bcm.onions": "a-web",
                "user.bcm.secrets": "a/b",
            },
            ((), (), ()),
        ),
    ],
)
def test_files_of_another_identity_are_not_recorded_as_present(roles: Path, marks: dict[str, str], kept: Any) -> None:
    project = {**ENDPOINT["/1.0/projects/bcm-local-regtest"]}
    project["config"] = {**project["config"], **marks}
    request = Request(["web"], "regtest", "local", identity="a1")
    site = Site(catalogue.Catalogue.read(roles=roles), request)
    found = read_project_state(FakeClient({**ENDPOINT, "/1.0/projects/bcm-local-regtest": project}), site)
    assert (found.kept, found.onions, found.secrets) == kept


def test_deployed_stacks_builders_and_volumes_are_read(roles: Path) -> None:
    found = read_project_state(FakeClient(ENDPOINT), _site(roles))
    assert found == ProjectState(
        stacks={
            "tor": Deployed(requested=False, running=True),
            "web": Deployed(requested=True, running=False),
        },
        builders=["build-web-01234567"],
        left_builders=["build-web-01234567"],
        foreign_instances=["guest"],
        volumes=[
            Volume("default", "tor-data"),
            Volume("default", "guest", ("user.bcm.chain=regtest",)),
            Volume("fast", "tor-data", moved_to="default"),
        ],
    )


def test_a_stack_whose_replacement_was_killed_is_there(roles: Path) -> None:
    aside = _instance("tor-replaced", "Stopped", stack="tor", replaced="{}")
    found = read_project_state(FakeClient({**ENDPOINT, "/1.0/instances": [aside]}), _site(roles))
    assert (found.stacks, found.foreign_instances) == ({"tor": Deployed(requested=False, running=False)}, [])


def test_project_of_another_owner_is_refused(roles: Path) -> None:
    with pytest.raises(BcmError, match="Project bcm-local-regtest exists on /run/x but was not made by BCM: rename it"):
        read_project_state(FakeClient({"/1.0/projects/bcm-local-regtest": {"config": {}}}), _site(roles))


# -- the action --------------------------------------------------------------------------------------------------------


def _run(client: FakeClient, task_vars: dict[str, Any] | None = None, **args: Any) -> dict[str, Any]:
    args = {"stacks": "web", "datacenter": "local", "chain": "regtest", **args}
    task = MagicMock(spec=Task, args=args, async_val=0, check_mode=False, diff=False, action="bcm.core.plan")
    loader = DataLoader()
    action = ActionModule(task, MagicMock(), MagicMock(), loader, Templar(loader=loader, variables={}))
    action._client = client
    return action.run(task_vars=task_vars or {})


def test_a_plan(roles: Path) -> None:
    client = FakeClient(ENDPOINT)
    result = _run(client)
    assert result["changed"] is False and result["warnings"] == []
    plan = result["plan"]
    assert plan["stacks"] == ["tor", "web"] and plan["requested"] == ["web"]
    assert plan["instances"]["web"]["artifact"]["source"] == "debian"
    assert plan["instances"]["web"]["role_path"] == str(roles / "web")
    assert client.asked[-1] == "closed"


def test_the_images_name_follows_the_variables_and_nothing_else(roles: Path) -> None:
    aliases = [
        _run(FakeClient({}), task_vars)["plan"]["images"][1]["alias"]
        for task_vars in ({}, {"web_workers": 2}, {"web_version": "2.1"}, {"web_version": "2.2"})
    ]
    assert aliases[0] == aliases[1] == aliases[2] != aliases[3]
    assert (
        aliases[0]
        == _run(FakeClient({}), {"web_version": "9"}, variables={"web_version": "2.1"})["plan"]["images"][1]["alias"]
    )


@pytest.mark.parametrize(
    ("args", "task_vars", "complaint"),
    [
        ({"stacks": "wb"}, {}, 'Unknown stack "wb": did you mean "web"?'),
        ({"stacks": ""}, {}, "No stack is named"),
        ({"chain": "signet", "software_ca_chains": ["signet"]}, {}, "Stack tor, which web cannot do without,"),
        ({}, {"web_workers": 9}, "Stack web requires web_workers | int <= 8: it has 8 threads; set web_workers"),
        ({"subnet": "10.0.0.0/8"}, {}, 'Subnet "10.0.0.0/8" has prefix /8'),
        ({"stack_path": ["/nowhere"]}, {}, "/nowhere in bcm_stack_path is not a directory"),
        ({}, {"web_wrkers": 9}, 'Unknown variable "web_wrkers": did you mean "web_workers"?'),
        ({}, {"tor_memry": "1GiB"}, 'Unknown variable "tor_memry": did you mean "tor_memory"?'),
        ({}, {"bcm_artifacts": trust_as_template("{{ nobody }}")}, "variable bcm_artifacts cannot be evaluated: "),
    ],
)
def test_bad_input_ends_before_the_endpoint_is_asked(
    roles: Path, args: dict[str, Any], task_vars: dict[str, Any], complaint: str
) -> None:
    client = FakeClient(ENDPOINT)
    result = _run(client, task_vars, **args)
    assert result["failed"] and complaint in result["msg"]
    assert client.asked == ["closed"]
