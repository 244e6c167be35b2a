# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables of roles, with the values that the roles will see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.template import trust_as_template
from jinja2 import Environment, TemplateSyntaxError, nodes

from ..module_utils._base.errors import BcmError
from ..module_utils._plan.settings import Place
from ..module_utils._plan.stack import Stack
from ._action import plain

if TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar

#: what the names of facts begin with that only roles have
_OF_ROLES = ("bcm", "ansible_")
#: names in templates that are no variables
FUNCTIONS = ("lookup", "query", "q", "now", "range", "dict", "undef", "omit", "namespace")
#: filters and tests for which a variable need not be defined
_TAKE_UNDEFINED = ("default", "d", "defined", "undefined")


class RoleVariables:
    """Defaults of roles under the variables of the play, templated as the roles themselves will see them."""

    def __init__(
        self,
        templar: Templar,
        loader: DataLoader,
        stacks: Sequence[Stack],
        play_variables: Mapping[str, Any],
        places: Collection[Place] = (),
    ) -> None:
        self.places = places
        variables: dict[str, Any] = {}
        self._of_roles: set[str] = set()
        for stack in stacks:
            variables.update(_read(loader, stack, "defaults/main.yml"))
            self._of_roles.update(_read(loader, stack, "vars/main.yml"))
        self._given = play_variables
        self._variables = {**variables, **play_variables}
        self._templar = templar.copy_with_new_env(available_variables=self._variables)
        self._loader = loader

    @property
    def given(self) -> Collection[str]:
        """The names of the variables of the play, without a role's own, which a play has that included the role."""
        return self._given.keys() - self._of_roles

    def names(self, stack: Stack) -> set[str]:
        """The names of a role's variables that may be set: those with a default, and those that it describes."""
        return {*_read(self._loader, stack, "defaults/main.yml"), *self._options(stack)}

    def value(self, name: str) -> Any:
        if name not in self._variables:
            return None
        return self._templated(lambda: self._templar.template(self._variables[name]), f"variable {name}")

    def check(self, stack: Stack) -> None:
        options = self._options(stack)
        later = _read(self._loader, stack, "vars/main.yml").keys()
        given: dict[str, Any] = {}
        for name in {*options, *(self.names(stack) & self._given.keys())}:
            try:
                given[name] = self.value(name)
            except BcmError:
                # values that depend on what only the role has are left to it
                if name in self._given and not self._depends_on(name, later):
                    raise
        given = {name: value for name, value in given.items() if name in options and value is not None}
        checkable = {name: option for name, option in options.items() if name in given or name not in self._variables}
        checked = ArgumentSpecValidator(checkable).validate(given)
        if checked.error_messages:
            raise BcmError(
                f"Variables of {stack.name}:",
                "; ".join(checked.error_messages),
                "correct the inventory",
                code="invalid_value",
            )

    def _options(self, stack: Stack) -> dict[str, Any]:
        specs = _read(self._loader, stack, "meta/argument_specs.yml").get("argument_specs") or {}
        return {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}

    def _depends_on(self, variable: str, later: Collection[str]) -> bool:
        """Whether templates of a variable use what only its role has, and nothing that is defined nowhere."""
        names: set[str] = set()
        ahead = [variable]
        while ahead:
            name = ahead.pop()
            found = names_in_templates(self._variables.get(name)).difference(names)
            names |= found
            ahead += found.difference({"bcm"})
        of_role = {name for name in names if name in later or name.startswith(_OF_ROLES)}
        return bool(of_role) and names <= {*of_role, *self._variables, *FUNCTIONS}

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


def names_in_templates(value: Any) -> set[str]:
    """The variables that the templates in a value cannot do without."""
    if isinstance(value, Mapping):
        return names_in_templates(list(value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(names_in_templates, value))
    if not isinstance(value, str):
        return set()
    try:
        tree = Environment().parse(value)
    except TemplateSyntaxError:
        return set()
    used, own = ({node.name for node in tree.find_all(nodes.Name) if node.ctx == ctx} for ctx in ("load", "store"))
    optional = {
        node.node.name
        for node in tree.find_all((nodes.Filter, nodes.Test))
        if node.name in _TAKE_UNDEFINED and isinstance(node.node, nodes.Name)
    }
    return used.difference(own, optional)


def _read(loader: DataLoader, stack: Stack, name: str) -> Mapping[str, Any]:
    path = stack.role_path / name
    if not path.is_file():
        return {}
    try:
        # Without a copy of what the loader keeps: nothing here changes it.
        found = loader.load_from_file(str(path), unsafe=True, trusted_as_template=True)
    except AnsibleError as error:
        raise BcmError(path, f"cannot be read: {error}", code="io_error") from error
    if not isinstance(found, Mapping):
        raise BcmError(path, "is not a mapping", "write `variable: value` lines", code="invalid_value")
    return found
