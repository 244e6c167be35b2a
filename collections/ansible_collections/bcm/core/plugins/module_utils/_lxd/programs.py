# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of Python that run in an instance: one JSON object in, one JSON object out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from .._base.read import has_shape, read_object
from . import exec as _exec
from .client import Client
from .guest_libraries import libraries_of, source_of
from .lxd_errors import LxdError

_SHOWN = 2000
# What runs first: it runs the program with the request as its standard input, and finds the libraries it imports.
_START = """
import importlib.util, io, json, sys
sent = json.load(sys.stdin)

class Libraries:
    def find_spec(self, name, path=None, target=None):
        package, _dot, library = name.partition(".")
        if package != "bcm_guest" or library and library not in sent["libraries"]:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=not library)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        library = module.__name__.partition(".")[2]
        if library:
            exec(compile(sent["libraries"][library], module.__name__, "exec"), module.__dict__)

sys.meta_path.append(Libraries())
sys.stdin = io.StringIO(sent["request"])
exec(compile(sent["program"], sent["name"], "exec"), {"__name__": "__main__", "__package__": "bcm_guest"})
"""


class Run(Protocol):
    """Runs a command where the program shall run."""

    def __call__(self, argv: Sequence[str], *, stdin: bytes, deadline: float) -> _exec.ExecResult: ...


def ask_program(
    client: Client,
    instance: str,
    program: Path,
    request: Mapping[str, Any],
    *,
    shape: Any = dict,
    deadline: float,
    sensitive: bool = False,
) -> dict[str, Any]:
    """The answer of a program that runs in an instance, as root. See `ask_program_by`."""

    def run(argv: Sequence[str], *, stdin: bytes, deadline: float) -> _exec.ExecResult:
        command = _exec.Command(argv, stdin=stdin, cwd="/", name=program.name)
        return _exec.run(client, instance, command, deadline=deadline)

    return ask_program_by(run, instance, program, request, shape=shape, deadline=deadline, sensitive=sensitive)


def ask_program_by(
    run: Run,
    instance: str,
    program: Path,
    request: Mapping[str, Any],
    *,
    shape: Any = dict,
    deadline: float,
    sensitive: bool = False,
) -> dict[str, Any]:
    """The object that a program prints; it reads the request from its standard input.

    The program can import what is in the folder _guest of the collection, as the package ``bcm_guest``. Its answer has
    a shape, as `has_shape` knows them.
    Raises LxdError if it fails, prints anything else, or is not done after ``deadline`` seconds; what it printed is not
    in the message if that is ``sensitive``.
    """
    sent = {
        "name": program.name,
        "program": source_of(program),
        "libraries": {name: source_of(path) for name, path in libraries_of([program]).items()},
        "request": json.dumps(request),
    }
    ended = run(["python3", "-I", "-c", _START], stdin=json.dumps(sent).encode(), deadline=deadline)
    thing = f"{program.name} in instance {instance}"
    printed, errors = (data.decode(errors="replace").strip() for data in (ended.stdout, ended.stderr))
    if ended.returncode:
        lines = errors.splitlines() or [f"exit status {ended.returncode}"]
        # Of a traceback, the last line says what it was.
        message = lines[-1] if lines[0].startswith("Traceback") else errors
        raise LxdError(thing, f"failed: {message[-_SHOWN:] or lines[0]}", code="command_failed")
    fault = f"printed {'something' if sensitive else json.dumps(printed[:60])}, which is not"
    try:
        answer = read_object(ended.stdout)
    except ValueError as error:
        remedy = "have it print one and nothing else"
        raise LxdError(thing, f"{fault} a JSON object", remedy, code="damaged") from error
    if not has_shape(answer, shape):
        remedy = "check which processes run as root there, and whether its python3 is that of its package"
        raise LxdError(thing, f"{fault} an answer of that program", remedy, code="damaged")
    return answer
