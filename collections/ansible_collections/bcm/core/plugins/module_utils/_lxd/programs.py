# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of Python that run in an instance: one JSON object in, one JSON object out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._base.read import read_object
from . import exec as _exec
from .client import Client
from .errors import LxdError

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
exec(compile(sent["program"], sent["name"], "exec"), {"__name__": "__main__"})
"""


def ask_program(
    client: Client,
    instance: str,
    name: str,
    program: str,
    request: Mapping[str, Any],
    *,
    libraries: Mapping[str, str] | None = None,
    deadline: float,
) -> dict[str, Any]:
    """The object that a program prints; it reads the request from its standard input.

    ``program`` and ``libraries`` are sources; it imports these from the package ``bcm_guest``, by their names. Messages
    call it ``name``.
    Raises LxdError if it fails, prints anything else, or is not done after ``deadline`` seconds.
    """
    sent = {"name": name, "program": program, "libraries": dict(libraries or {}), "request": json.dumps(request)}
    argv = ["python3", "-I", "-c", _START]
    stdin = json.dumps(sent).encode()
    ended = _exec.run(client, instance, _exec.Command(argv, stdin=stdin, cwd="/", name=name), deadline=deadline)
    printed, errors = (data.decode(errors="replace").strip() for data in (ended.stdout, ended.stderr))
    if ended.returncode:
        lines = errors.splitlines() or [f"exit status {ended.returncode}"]
        # Of a traceback, the last line says what it was.
        said = lines[-1] if lines[0].startswith("Traceback") else errors
        fault = f"failed: {said[-_SHOWN:] or lines[0]}"
        raise LxdError(f"{name} in instance {instance}", fault, code="command_failed")
    try:
        return read_object(ended.stdout)
    except ValueError as error:
        raise LxdError(
            f"{name} in instance {instance}",
            f"printed {json.dumps(printed[:60])}, which is not a JSON object",
            remedy="have it print one and nothing else",
            code="damaged",
        ) from error
