# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables of roles, with the values that the roles will see."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.template import trust_as_template

from ..module_utils._base.errors import BcmError
from ..module_utils._plan.stack import Stack
from ._action import plain

if TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar


class RoleVariables:
    """Defaults of roles under the variables of the play, templated as the roles themselves will see them."""

    def __init__(
        self, templar: Templar, loader: DataLoader, stacks: Sequence[Stack], play_variables: Mapping[str, Any]
    ) -> None:
        variables: dict[str, Any] = {}
        for stack in stacks:
            variables.update(_read(loader, stack, "defaults/main.yml"))
        self._variables = {**variables, **play_variables}
        self._templar = templar.copy_with_new_env(available_variables=self._variables)
        self._loader = loader

    def value(self, name: str) -> Any:
        if name not in self._variables:
            return None
        return self._templated(lambda: self._templar.template(self._variables[name]), f"variable {name}")

    def check(self, stack: Stack) -> None:
        specs = _read(self._loader, stack, "meta/argument_specs.yml").get("argument_specs") or {}
        options = {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}
        given: dict[str, Any] = {}
        for name in options:
            # values that depend on facts which the plan does not have are left to the role
            with contextlib.suppress(BcmError):
                given[name] = self.value(name)
        given = {name: value for name, value in given.items() if value is not None}
        checkable = {name: option for name, option in options.items() if name in given or name not in self._variables}
        checked = ArgumentSpecValidator(checkable).validate(given)
        if checked.error_messages:
            raise BcmError(
                f"Variables of {stack.name}:",
                "; ".join(checked.error_messages),
                "correct the inventory",
                code="invalid_value",
            )

    def holds(self, condition: str) -> bool:
        return bool(
            self._templated(lambda: self._templar.evaluate_conditional(trust_as_template(condition)), condition)
        )

    def text(self, template: str) -> str:
        return str(self._templated(lambda: self._templar.template(trust_as_template(template)), template))

    def _templated(self, evaluate: Callable[[], Any], what: str) -> Any:
        try:
            return plain(evaluate())
        except AnsibleError as error:
            raise BcmError(what, f"cannot be evaluated: {error}", code="invalid_value") from error


def _read(loader: DataLoader, stack: Stack, name: str) -> Mapping[str, Any]:
    path = stack.role_path / name
    if not path.is_file():
        return {}
    try:
        found = loader.load_from_file(str(path), trusted_as_template=True)
    except AnsibleError as error:
        raise BcmError(path, f"cannot be read: {error}", code="io_error") from error
    if not isinstance(found, Mapping):
        raise BcmError(path, "is not a mapping", "write `variable: value` lines", code="invalid_value")
    return found
