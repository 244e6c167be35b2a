# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell completion, computed from the argument parser itself, so that the two cannot differ.

Standard library only, and no virtual environment: the Tab key waits for it, and must not install anything.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ansible_collections.bcm.core.plugins.module_utils._base import names

from . import datacenter, setup

_ROLES = setup.ROOT / "collections/ansible_collections/bcm/core/roles"

# The shell asks the very command that is typed, such as ~/bcm or ./bcm. Where bcm knows no words, there are file names.
_SCRIPTS = {
    "bash": """\
_bcm() {
    mapfile -t COMPREPLY < <(
        "${COMP_WORDS[0]/#\\~/$HOME}" completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null
    )
}
complete -o default -F _bcm bcm
""",
    "zsh": """\
_bcm() {
    local -a found
    found=("${(@f)$("${words[1]/#\\~/$HOME}" completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
compdef _bcm bcm
""",
}
SHELLS = tuple(_SCRIPTS)


def main(args: argparse.Namespace) -> int:
    """Print the script for a shell; with words typed so far after ``--``, print the candidates for the last one."""
    if not args.arguments:
        print(_SCRIPTS[args.shell], end="")
        return 0
    for word in candidates(args.parser, args.arguments):
        print(word)
    return 0


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Return the candidates for the last word: verbs, options, choices, names of stacks and data centers."""
    *typed, current = words or [""]
    place = _Place(parser)
    for word in typed:
        place.advance(word)
    return [word for word in place.known(current) if word.startswith(current)]


class _Place:
    """The position of the next word in the grammar of a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._value_of: argparse.Action | None = None
        self._options: dict[str, argparse.Action] = {}
        self._positionals: list[argparse.Action] = []
        self._enter(parser)

    def advance(self, word: str) -> None:
        """Advance by one complete word."""
        if self._value_of:
            self._value_of = None
        elif word.startswith("-"):
            action = self._options.get(word)
            self._value_of = action if action and action.nargs != 0 else None
        elif self._positionals:
            action = self._positionals[0]
            if isinstance(action, argparse._SubParsersAction):
                if word in action.choices:
                    self._enter(action.choices[word])
                else:
                    self._positionals = []
            elif action.nargs in (None, "?"):
                del self._positionals[0]

    def known(self, current: str) -> list[str]:
        """Return all words that are valid here; none where any word is."""
        if self._value_of:
            return _values(self._value_of)
        if current.startswith("-"):
            return sorted(self._options)
        return _values(self._positionals[0]) if self._positionals else []

    def _enter(self, parser: argparse.ArgumentParser) -> None:
        actions = parser._actions
        self._options = {word: action for action in actions for word in action.option_strings}
        self._positionals = [action for action in actions if not action.option_strings]


def _values(action: argparse.Action) -> list[str]:
    if action.choices is not None:
        return list(action.choices)
    if action.dest in ("stack", "stacks"):
        return sorted(names.stack_of(path.parent.parent.name) for path in _ROLES.glob("*/meta/stack.yml"))
    if action.dest in ("datacenter", "like"):
        return datacenter.names()
    return []
