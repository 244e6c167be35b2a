# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible._internal._datatag._tags import TrustedAsTemplate
from ansible.errors import AnsibleActionFail
from ansible.playbook.task import Task
from ansible.template import trust_as_template

from ansible_collections.bcm.core.plugins.module_utils._base import change_count
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.plugin_utils import _action, _lxd_options
from ansible_collections.bcm.core.plugins.plugin_utils._action import RESERVED, BcmAction, plain


class _Echo(BcmAction):
    ARGUMENT_SPEC = {"number": {"type": "int", "default": 1}, "fail": {"type": "bool", "default": False}}

    def perform(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if params["fail"]:
            raise BcmError("Cellar", "is flooded", "pump", code="not_ready")
        return {"params": params, "diff": {"before": "a", "after": "b"}, "modes": (self.check_mode, self.diff_mode)}


class _Talker(_Echo):
    LXD = True
    LXD_WITHOUT = ("target",)

    def perform(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        assert self.client is self.client
        return super().perform(params, task_vars)


def make(kind: type[BcmAction], args: dict[str, Any], *, check: bool = False, diff: bool = False) -> BcmAction:
    task = MagicMock(spec=Task, args=args, async_val=0, check_mode=check, diff=diff, action="bcm.core.test")
    return kind(task, MagicMock(), MagicMock(), MagicMock(), MagicMock())


def test_values_of_ansible_become_plain() -> None:
    tagged = trust_as_template("x")
    value = {"a": [tagged, TrustedAsTemplate().tag(3), (1.5, None, True)], tagged: b"bytes"}
    copied = plain(value)
    assert copied == {"a": ["x", 3, [1.5, None, True]], "x": b"bytes"}
    assert [item.__class__ for item in (*copied, *copied["a"][:2])] == [str, str, str, int]


def test_parameters_are_validated_and_completed() -> None:
    result = make(_Echo, {"number": "7"}).run()
    assert result["params"] == {"number": 7, "fail": False}
    assert result["changed"] is False
    with pytest.raises(AnsibleActionFail, match="Unsupported parameters"):
        make(_Echo, {"nunber": 7}).run()


def test_an_error_is_a_sentence_for_people_and_parts_for_programs() -> None:
    assert make(_Echo, {"fail": True}).run() == {
        "failed": True,
        "changed": False,
        "msg": "Cellar is flooded: pump",
        "error": {"code": "not_ready", "thing": "Cellar", "fault": "is flooded", "remedy": "pump"},
    }


def test_a_traceback_has_no_message_of_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(action: BcmAction, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            int("pass" + "word")
        except ValueError as error:
            raise BcmError("Number", "is none", code="invalid_value") from error
        raise AssertionError

    monkeypatch.setattr(_action._display, "verbosity", 3)
    monkeypatch.setattr(_action._display, "vvv", lambda _text: None)
    monkeypatch.setattr(_Echo, "perform", perform)
    exception = make(_Echo, {}).run()["exception"]
    assert exception.count("Traceback") == 2 and "ValueError" in exception
    assert "password" not in exception


@pytest.mark.parametrize(("verbosity", "is_shown"), [(2, False), (3, True)])
def test_the_traceback_of_an_error_is_shown_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, verbosity: int, is_shown: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(_action._display, "verbosity", verbosity)
    monkeypatch.setattr(_action._display, "vvv", said.append)
    result = make(_Echo, {"fail": True}).run()
    assert ("exception" in result) == is_shown
    if is_shown:
        assert result["exception"].startswith("Traceback (most recent call last):\n")
        assert "in perform" in result["exception"]
    assert "\n".join(said) == result.get("exception", "")


def test_a_failure_says_whether_something_was_changed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(action: BcmAction, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        change_count.note()
        raise BcmError("Cellar is flooded: pump")

    monkeypatch.setattr(_Echo, "perform", perform)
    assert make(_Echo, {}).run()["changed"] is True


def test_modes() -> None:
    assert make(_Echo, {}, check=True, diff=True).run()["modes"] == (True, True)
    assert "diff" in make(_Echo, {}, diff=True).run()
    assert "diff" not in make(_Echo, {}).run()


@pytest.mark.parametrize("fail", [False, True])
def test_one_client_and_it_is_closed(monkeypatch: pytest.MonkeyPatch, fail: bool) -> None:
    client = MagicMock()
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(_lxd_options, "client_from", lambda params: made.append(params) or client)
    make(_Talker, {"endpoint": "/run/x", "fail": fail}).run()
    assert [params["endpoint"] for params in made] == ["/run/x"]
    client.close.assert_called_once_with()


def test_options_of_an_endpoint_are_merged() -> None:
    names = set(_Talker.argument_spec())
    assert names == (set(_lxd_options.LXD_ARGUMENT_SPEC) - {"target"}) | {"number", "fail"}
    assert set(_Echo.argument_spec()) == {"number", "fail"}


@pytest.mark.parametrize("name", ["results", "skipped", "ansible_facts", "rc"])
def test_a_result_has_no_name_that_ansible_gives_a_meaning_to(name: str) -> None:
    class Named(_Echo):
        def perform(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
            return {name: []}

    assert name in RESERVED
    with pytest.raises(AssertionError, match="returns what Ansible gives a meaning to"):
        make(Named, {}).run()
