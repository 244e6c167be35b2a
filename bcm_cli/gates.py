# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm test`: everything a contributor and CI run.

Each gate, integration target and molecule scenario is a test of pytest, so that one count is the truth of the whole.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from ansible_collections.bcm.core.plugins.module_utils._base import names

from . import setup
from .datacenter import UsageError

_VENV = setup.ROOT / ".venv-dev"
_CACHE = setup.ROOT / ".cache"
_ROLES = setup.ROOT / "collections/ansible_collections/bcm/core/roles"
#: the parts that run in parallel, each with its own LXD and network
_PARTS = ("containers and not (whole or apart)", "whole", "apart", "not containers")
_FAST = ("not containers and not daemon",)
_NOTHING_SELECTED = 5
#: of a failure that is repeated at the end
_LAST_LINES, _WIDTH = 12, 300
#: the stack to which the gates are limited, if any
STACK = "BCM_TEST_STACK"
_UNIT = "collections/"
_TOR = ("tests/tor/", "tests/integration/", "tests/e2e/", "tests/molecule/")
_CONTAINERS = ("tests/integration/", "tests/e2e/", "tests/molecule/")
#: packages that tests need, by the beginnings of the tests' paths
_NEEDS: dict[tuple[str, ...], tuple[setup.Package, ...]] = {
    ("",): (setup.Package("git", "git", "lists the files the gates read"),),
    (_UNIT, "tests/cli/"): (
        setup.Package("pinentry-curses", "pinentry-curses", "asks for a passphrase as it asks people"),
        setup.Package("openssl", "openssl", "judges certificates as others will"),
        setup.Package("gnutls-bin", "certtool", "judges them, too"),
        setup.Package("golang-go", "go", "judges them, too"),
    ),
    ("tests/cli/", "tests/integration/"): (
        *dict.fromkeys((*setup.SSH_AGENT_PACKAGES, *setup.PASS_PACKAGES)),
        setup.Package("openssh-server", "sshd", "is the machine that the tests log in to"),
        setup.Package("zbar-tools", "zbarimg", "reads a code as a camera does"),
    ),
    _TOR: (
        setup.Package(
            *("tor", "tor", "is the network in which the tests publish onion services"),
            # Debian's would talk to the public network at once
            masked=("tor.service", "tor@default.service"),
        ),
        setup.Package("obfs4proxy", "obfs4proxy", "hides what the tests' bridge is"),
    ),
    _CONTAINERS: (
        *setup.LXD_PACKAGES,
        *setup.IMAGE_PACKAGES,
        setup.Package("slirp4netns", "slirp4netns", "gives the tests a network of their own"),
    ),
    ("tests/cli/", "tests/e2e/"): (
        *setup.WINDOW_PACKAGES,
        *setup.BROWSER_PACKAGES,
        setup.Package("chromium-driver", "chromedriver", "tells the browser what to do"),
        setup.Package("npm", "npm", "fetches what looks for barriers in pages"),
        setup.Package("xvfb", "Xvfb", "is the screen on which the tests draw a window"),
        setup.Package("xdotool", "xdotool", "finds and closes that window"),
        setup.Package("imagemagick", "import", "takes its picture"),
        setup.Package("tesseract-ocr", "tesseract", "reads what stands in it"),
    ),
}


def main(args: argparse.Namespace) -> int:
    """Run the tests; all further arguments are passed to pytest unchanged."""
    options, rest = _parser().parse_known_args(args.arguments)
    os.environ.pop(setup.NEVER_COMPILED, None)  # thousands of processes would each compile all that they load
    setup.virtual_environment(_VENV, setup.ROOT / "requirements-dev.txt", args.yes)
    parts = _FAST if options.fast or options.lint or options.stack else _PARTS
    words = [*rest, *_selection(options)]
    command = [str(_VENV / "bin/python"), "-m", "pytest", "-v", "--tb=short", *words]
    if not {"--collect-only", "--co"}.isdisjoint(rest):
        return subprocess.run(command, cwd=setup.ROOT, check=False).returncode
    setup.packages(_packages(_selected(command, parts)), args.yes)
    return _run(command, parts)


def _selection(options: argparse.Namespace) -> list[str]:
    """Return the arguments with which pytest selects the tests."""
    if options.stack:
        folders = sorted(path.parts[-3] for path in _ROLES.glob("*/meta/stack.yml"))
        folder = names.variable_prefix(options.stack)
        if folder not in folders:
            raise UsageError.of(names.unknown("stack", options.stack, [*map(names.stack_of, folders)]))
        os.environ[STACK] = folder
        # those of its programs, if it has some that others have not
        own = f"tests/scripts/test_{folder}.py"
        files = ["tests/gates", *([own] if (setup.ROOT / own).exists() else [])]
        return [*files, "-k", f"quick or ansible_lint or [{folder}] or test_{folder}.py"]
    if options.lint:
        return ["tests/gates", "-k", "quick"]
    return ["-k", options.only] if options.only else []


def _selected(command: list[str], parts: tuple[str, ...]) -> list[str]:
    """Return the node IDs of the selected tests."""
    marks = " or ".join(f"({part})" for part in parts)
    listed = subprocess.run(
        [*command, "-m", marks, "--collect-only", "-qq"],
        cwd=setup.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return listed.stdout.splitlines()


def _packages(tests: Sequence[str]) -> tuple[setup.Package, ...]:
    """Return the packages that some tests need, each once."""
    needed = (packages for places, packages in _NEEDS.items() if any(test.startswith(places) for test in tests))
    return tuple(dict.fromkeys(package for packages in needed for package in packages))


def _run(command: list[str], parts: tuple[str, ...]) -> int:
    """Run the parts in parallel and return their exit status.

    The output of the first is shown at once, that of the others afterwards, and then all failures.
    """
    _CACHE.mkdir(exist_ok=True)
    for report in _CACHE.glob("tests-*.xml"):
        report.unlink()
    # a shell that starts this in the background has it ignore SIGINT, and some tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        started = []
        for number, marks in enumerate(parts):
            words = [*command, "-m", marks, f"--junitxml={_CACHE}/tests-{number}.xml"]
            log = stack.enter_context((_CACHE / f"tests-{number}.log").open("wb")) if number else None
            own = {**os.environ, "BCM_TEST_PART": str(number)}
            started.append(
                subprocess.Popen(words, cwd=setup.ROOT, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        ended = [process.wait() for process in started]
    for number in range(1, len(parts)):
        print((_CACHE / f"tests-{number}.log").read_text(encoding="utf-8", errors="replace"), flush=True)
    reports = sorted(_CACHE.glob("tests-*.xml"))
    suites = [suite for report in reports for suite in ET.parse(report).getroot().iter("testsuite")]
    print(*_failures(suites), _count(suites, len(parts) - len(reports)), sep="\n", flush=True)
    selected = [status for status in ended if status != _NOTHING_SELECTED]
    return max(selected, default=_NOTHING_SELECTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bcm test", add_help=False, allow_abbrev=False)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--lint", action="store_true")
    parser.add_argument("--stack", metavar="NAME")
    parser.add_argument("--only", metavar="NAME")
    return parser


def _failures(suites: list[ET.Element]) -> Iterator[str]:
    """Yield the failures of all parts and the end of each, together where CI and people look first."""
    for case in (case for suite in suites for case in suite.iter("testcase")):
        for fault in (*case.iter("failure"), *case.iter("error")):
            yield f"\nFAILED {case.get('classname', '')}::{case.get('name')}"
            yield from (f"    {line[:_WIDTH]}" for line in (fault.text or "").rstrip().splitlines()[-_LAST_LINES:])


def _count(suites: list[ET.Element], lost: int) -> str:
    """Return the last line, which CI reads. A part that ended without a report is a failure."""
    total, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    passed = total - failures - errors - skipped
    return f"{passed} passed, {failures + errors + lost} failed" + (f", {skipped} skipped" if skipped else "")
