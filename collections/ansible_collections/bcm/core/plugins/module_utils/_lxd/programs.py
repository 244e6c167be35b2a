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
# What the output of each program ends with; JSON has no such character.
_END = "\0"
# Which of the programs that exclude each other is at work in an instance; only root writes there.
_LOCK = "/run/bcm-program.lock"
# What runs first: it runs each program with its request as its standard input, and finds the libraries they import.
_START = """
import contextlib, fcntl, importlib.util, io, json, sys
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
lock = sent["lock"]
for asked in sent["programs"]:
    sys.stdin = io.StringIO(asked["request"])
    with open(lock, "w") if lock else contextlib.nullcontext() as locked:
        if lock:
            fcntl.flock(locked, fcntl.LOCK_EX)
        try:
            exec(compile(asked["source"], asked["name"], "exec"), {"__name__": "__main__", "__package__": "bcm_guest"})
        except SystemExit as end:
            if end.code:
                raise
    print(end=sent["end"], flush=True)
    lock = None
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
    exclusive: bool = False,
) -> dict[str, Any]:
    """The answer of a program that runs in an instance, as root. See `ask_program_by`."""

    def run(argv: Sequence[str], *, stdin: bytes, deadline: float) -> _exec.ExecResult:
        command = _exec.Command(argv, stdin=stdin, cwd="/", name=program.name)
        return _exec.run(client, instance, command, deadline=deadline)

    return ask_program_by(
        run, instance, program, request, shape=shape, deadline=deadline, sensitive=sensitive, exclusive=exclusive
    )


def ask_program_by(
    run: Run,
    instance: str,
    program: Path,
    request: Mapping[str, Any],
    *,
    shape: Any = dict,
    deadline: float,
    sensitive: bool = False,
    exclusive: bool = False,
) -> dict[str, Any]:
    """The object that a program prints; it reads the request from its standard input.

    The program can import what is in the folder _guest of the collection, as the package ``bcm_guest``. Its answer has
    a shape, as `has_shape` knows them.
    Raises LxdError if it fails, prints anything else, or is not done after ``deadline`` seconds; what it printed is not
    in the message if that is ``sensitive``. One that is ``exclusive`` waits for any other one that is, which a killed
    run may have left at work.
    """
    answers, fault = _ask(run, instance, [(program, request)], shape, deadline, sensitive, exclusive)
    if fault is not None:
        raise fault
    return answers[0]


def ask_programs(
    client: Client,
    instance: str,
    asked: Sequence[tuple[Path, Mapping[str, Any]]],
    *,
    deadline: float,
    sensitive: bool = False,
    exclusive: bool = False,
) -> tuple[list[dict[str, Any]], LxdError | None]:
    """The answers of programs that run in one process, one after another, each with its request; and what failed.

    After a program that fails, no other one runs. ``deadline`` and ``sensitive`` are for all together, ``exclusive``
    is for the first one, as in `ask_program`.
    """

    def run(argv: Sequence[str], *, stdin: bytes, deadline: float) -> _exec.ExecResult:
        command = _exec.Command(argv, stdin=stdin, cwd="/", name=asked[-1][0].name)
        return _exec.run(client, instance, command, deadline=deadline)

    return _ask(run, instance, asked, dict, deadline, sensitive, exclusive)


def _ask(
    run: Run,
    instance: str,
    asked: Sequence[tuple[Path, Mapping[str, Any]]],
    shape: Any,
    deadline: float,
    sensitive: bool,
    exclusive: bool,
) -> tuple[list[dict[str, Any]], LxdError | None]:
    sent = {
        "end": _END,
        "lock": _LOCK if exclusive else None,
        "programs": [
            {"name": program.name, "source": source_of(program), "request": json.dumps(request)}
            for program, request in asked
        ],
        "libraries": {name: source_of(path) for name, path in libraries_of([path for path, _request in asked]).items()},
    }
    ended = run(["python3", "-I", "-c", _START], stdin=json.dumps(sent).encode(), deadline=deadline)
    *outputs, _unfinished = ended.stdout.split(_END.encode())
    answers: list[dict[str, Any]] = []
    for (program, _request), output in zip(asked, outputs, strict=False):
        try:
            answers.append(_answer(f"{program.name} in instance {instance}", output, shape, sensitive))
        except LxdError as fault:
            return answers, fault
    if len(answers) == len(asked):
        return answers, None
    thing = f"{asked[len(answers)][0].name} in instance {instance}"
    errors = ended.stderr.decode(errors="replace").strip()
    lines = errors.splitlines() or [f"exit status {ended.returncode}"]
    # Of a traceback, the last line says what it was.
    message = lines[-1] if lines[0].startswith("Traceback") else errors
    return answers, LxdError(thing, f"failed: {message[-_SHOWN:] or lines[0]}", code="command_failed")


def _answer(thing: str, output: bytes, shape: Any, sensitive: bool) -> dict[str, Any]:
    """What a program printed, as an object. Raises LxdError."""
    printed = json.dumps(output.decode(errors="replace").strip()[:60])
    fault = f"printed {'something' if sensitive else printed}, which is not"
    try:
        answer = read_object(output)
    except ValueError as error:
        remedy = "have it print one and nothing else"
        raise LxdError(thing, f"{fault} a JSON object", remedy, code="damaged") from error
    if not has_shape(answer, shape):
        remedy = "check which processes run as root there, and whether its python3 is that of its package"
        raise LxdError(thing, f"{fault} an answer of that program", remedy, code="damaged")
    return answer
