# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tools of the field, each over the whole repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bcm_cli.gates import STACK
from tests.support import COLLECTION, ROOT, Tools

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# what ansible-test of the locked ansible-core looks for before it downloads pip's own installer
GET_PIP = Path.home() / ".ansible/test/cache/get_pip_24_2.py"


@pytest.mark.quick
def test_yamllint(tools: Tools) -> None:
    tools.run("yamllint", "--strict", ".")


@pytest.mark.quick
def test_ruff(tools: Tools) -> None:
    tools.run("ruff", "check", "--no-cache", ".")


def test_import_linter() -> None:
    # it does not look for packages in mypy_path
    tools = Tools({"PYTHONPATH": str(COLLECTION.parents[2])})
    tools.run("lint-imports", "--no-cache", "--no-logo")


@pytest.mark.quick
def test_shellcheck(tools: Tools) -> None:
    tools.run("shellcheck", *_shell_scripts())


@pytest.mark.quick
def test_antsibull_changelog(tools: Tools) -> None:
    tools.run("antsibull-changelog", "lint", cwd=COLLECTION)


def test_antsibull_docs(tools: Tools) -> None:
    tools.run(
        *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck"),
        *("--validate-collection-refs=self", "."),
        cwd=COLLECTION,
    )


def test_mypy(tools: Tools) -> None:
    folders = (COLLECTION / "plugins/module_utils", COLLECTION / "plugins/plugin_utils", "bcm_cli")
    tools.run("mypy", "--scripts-are-modules", *folders, "bcm", "bcm-vault-client")


def test_ansible_lint(tools: Tools) -> None:
    beside = COLLECTION / "tests/output/beside"  # as of an integration target that runs at the same time
    beside.mkdir(parents=True, exist_ok=True)
    (beside / "broken.yml").write_text("- hosts: {{")
    try:
        stack = os.environ.get(STACK)
        tools.run("ansible-lint", "--strict", *([COLLECTION / "roles" / stack] if stack else []))
    finally:
        shutil.rmtree(beside)


def test_ansible_test_sanity(tools: Tools) -> None:
    GET_PIP.parent.mkdir(parents=True, exist_ok=True)
    GET_PIP.write_text("import ensurepip; ensurepip.bootstrap()\n")
    output = tools.run("ansible-test", "sanity", "--python", PYTHON, "--color=no", cwd=COLLECTION)
    skipped = [line for line in output.splitlines() if "kipping" in line or "not found" in line]
    if skipped:
        pytest.fail("\n".join(skipped), pytrace=False)


def test_galaxy_importer(tools: Tools, tmp_path: Path) -> None:
    tools.run("ansible-galaxy", "collection", "build", "--output-path", tmp_path, cwd=COLLECTION)
    (tarball,) = tmp_path.glob("bcm-core-*.tar.gz")
    importer = Tools({"GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "0"})  # a gate of its own, above
    output = importer.run(sys.executable, "-m", "galaxy_importer.main", tarball, cwd=tmp_path)
    warnings = [line for line in output.splitlines() if line.startswith(("WARNING", "ERROR"))]
    if warnings:
        pytest.fail("\n".join(warnings), pytrace=False)


def _shell_scripts() -> list[str]:
    shebang = r"^#!.*\b(ba|da)?sh\b"
    found = subprocess.run(
        ["git", "grep", "-lIE", shebang, "--", ":!*.j2"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in found.stdout.split() if (ROOT / name).read_text().startswith("#!")]
