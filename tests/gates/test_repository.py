# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the repository promises of itself: nothing without its test, nothing said twice, nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._lxd.guest_libraries import libraries_of
from tests.support import COLLECTION, ROOT

pytestmark = pytest.mark.quick
TARGETS = COLLECTION / "tests/integration/targets"
SCENARIOS = COLLECTION / "extensions/molecule"
HEADER = """\
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
# spelled apart, so that this file holds none of them
HOSTS = (
    "deb debian org|security debian org|pypi org|pythonhosted org|registry npmjs org|crates io|golang org|"
    "repo1 maven org|repo maven apache org"
).replace(" ", r"\.")
MACHINE = "|".join(("/" + "work/", re.escape(f"{ROOT}/")))


def _names(folder: Path, pattern: str = "*.py") -> set[str]:
    return {path.stem for path in folder.glob(pattern) if not path.stem.startswith("_")}


GROUPS = ("ca", "lxd", "onion")
MODULES = _names(COLLECTION / "plugins/modules")
# that of machines is no stack
ROLES = sorted({path.name for path in (COLLECTION / "roles").glob("[!_]*")} - {"host"})
STACK_FOLDERS = [
    *(COLLECTION / "roles" / role for role in ROLES),
    *sorted(path for path in (ROOT / "docs/examples/stacks").iterdir() if path.is_dir()),
]
STACKS = {path.parts[-3]: yaml.safe_load(path.read_text()) for path in COLLECTION.glob("roles/*/meta/stack.yml")}


def tracked() -> list[Path]:
    """Text files that are in the repository, or will be with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_every_module_has_an_action_and_an_integration_target() -> None:
    kinds = ("connection", "inventory")
    plugins = {f"{kind}_{name}" for kind in kinds for name in _names(COLLECTION / "plugins" / kind)}
    targets = {path.name for path in TARGETS.glob("*") if not path.name.startswith("setup_")}
    assert targets == MODULES | plugins
    assert _names(COLLECTION / "plugins/action") == MODULES


def test_the_action_groups_list_their_modules() -> None:
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())
    groups = {group: sorted(name for name in MODULES if name.startswith(f"{group}_")) for group in GROUPS}
    assert runtime["action_groups"] == groups


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_complete(role: str) -> None:
    folder = COLLECTION / "roles" / role
    wanted = ["README.md", "defaults/main.yml", "vars/main.yml", "scripts/verify.py"]
    wanted += ["meta/argument_specs.yml", "meta/stack.yml"]
    assert [name for name in wanted if not (folder / name).is_file()] == []


@pytest.mark.parametrize("folder", STACK_FOLDERS, ids=lambda folder: folder.name)
def test_defaults_and_argument_specs_of_a_stack_agree(folder: Path) -> None:
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text()) or {}
    options = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    # A template depends on the data center: the description says what it comes to.
    static = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert set(options) == set(defaults)
    assert {name: option["default"] for name, option in options.items() if "default" in option} == static


def test_every_stack_has_a_floor_or_says_why_none_is_known() -> None:
    examples = (ROOT / "docs/examples/stacks").glob("*/meta/stack.yml")
    stacks = {**STACKS, **{path.parts[-3]: yaml.safe_load(path.read_text()) for path in examples}}
    assert [name for name, stack in stacks.items() if not stack["artifact"].keys() & {"floor", "of"}] == []


def test_no_two_libraries_have_the_same_file_name() -> None:
    plugins = COLLECTION / "plugins"
    folders = ("module_utils", "plugin_utils", "callback")
    paths = [path for folder in (*map(plugins.joinpath, folders), ROOT / "bcm_cli") for path in folder.rglob("*.py")]
    names = Counter(path.name for path in paths if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_every_role_has_a_molecule_scenario() -> None:
    """It has the name of the stack."""
    scenarios = {path.parent.name.replace("-", "_") for path in SCENARIOS.glob("*/molecule.yml")} - {"default"}
    assert scenarios == set(ROLES)


def test_readme_says_what_each_stack_is_and_what_its_verify_proves() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]+) \| ([^|]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    table = {name.replace("-", "_"): (description, proof) for name, description, proof in rows}
    assert table == {name: (stack["description"], _proof(name)) for name, stack in STACKS.items()}


def test_readme_says_which_stacks_the_tests_deploy_with_a_double() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.* \| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    doubles = {path.stem.removesuffix("_double") for path in (ROOT / "tests/programs").glob("*_double.*")}
    assert {name.replace("-", "_") for name, said in rows if "a double" in said} == doubles
    assert {said for _name, said in rows if "a double" not in said} == {"the real program"}


def _proof(stack: str) -> str:
    """What the program says that it proves: the first line of its docstring."""
    program = (COLLECTION / "roles" / stack / "scripts/verify.py").read_text()
    return str(ast.get_docstring(ast.parse(program))).partition("\n")[0].removeprefix("Prove ").removesuffix(".")


def test_names_of_tasks_hold_no_template() -> None:
    """A name is templated once for all hosts of a play, so it would show the name of one beside the others."""
    files = [*COLLECTION.glob("playbooks/*.yml"), *COLLECTION.glob("roles/*/tasks/**/*.yml")]
    names = {f"{path}: {name}" for path in files for name in _task_names(yaml.safe_load(path.read_text()))}
    assert len(names) > 50
    assert [name for name in names if "{{" in name] == []


def _task_names(node: object) -> Iterator[str]:
    """The names of plays, blocks and tasks, which are those beside the name of a module or a keyword of a play."""
    if isinstance(node, dict):
        if any("." in str(key) or key in ("hosts", "block") for key in node):
            yield str(node.get("name", ""))
        for key in ("tasks", "block", "rescue", "always"):
            yield from _task_names(node.get(key))
    elif isinstance(node, list):
        for item in node:
            yield from _task_names(item)


def test_python_files_carry_the_licence() -> None:
    texts = {path: path.read_text(errors="replace") for path in tracked()}
    python = {path: text for path, text in texts.items() if path.suffix == ".py" or text.startswith("#!/usr/bin/env p")}
    assert [path for path, text in python.items() if text and HEADER not in text[: len(HEADER) + 30]] == []


def test_programs_of_instances_import_the_standard_library_alone() -> None:
    """An instance has no other but what its role installs, and ``bcm_guest``, with which they are sent."""
    of_roles = {path: set(path.glob("scripts/*.py")) for path in COLLECTION.glob("roles/*")}
    libraries = {path.name: path for path in COLLECTION.glob("plugins/module_utils/_guest/*.py")}
    unused, found = dict(libraries), []
    for role, programs in of_roles.items():
        sent = {path.name for path in libraries_of(programs).values()}
        unused = {name: path for name, path in unused.items() if name not in sent}
        files = [path for name in ("tasks/install.yml", "meta/stack.yml") if (path := role / name).is_file()]
        packages = re.findall(r"\bpython3-([a-z0-9-]+)", "".join(map(Path.read_text, files)))
        known = {name.replace("-", "_") for name in packages} | {program.stem for program in programs}
        every = [*programs, *map(libraries.__getitem__, sent)]
        found += [(path.name, name) for path in every for name in _foreign(path) - known]
    found += [(path.name, name) for path in unused.values() for name in _foreign(path)]
    assert libraries and of_roles
    assert found == []


def _foreign(program: Path) -> set[str]:
    """The packages that a program imports, but the standard library and ``bcm_guest``."""
    imported = set()
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(str(node.module).partition(".")[0])
    return imported - {*sys.stdlib_module_names, "bcm_guest"}


@pytest.mark.parametrize("words", [HOSTS, MACHINE], ids=["registry-hosts", "machine-paths"])
def test_no_file_names_a_registry_or_a_machine(words: str) -> None:
    texts = {path: path.read_text(errors="replace") for path in tracked()}
    assert [f"{path}: {match[0]}" for path, text in texts.items() if (match := re.search(words, text))] == []


def test_the_locks_agree() -> None:
    """requirements-dev.txt holds every pin of requirements.txt, and each has what pyproject.toml asks for."""
    run, dev, build, agent = (
        dict(re.findall(r"^([a-z0-9-]+)==([^ \n]+)", (ROOT / f"requirements{name}.txt").read_text(), re.MULTILINE))
        for name in ("", "-dev", "-build", "-agent")
    )
    assert run.items() <= dev.items()
    assert {name: pin for name, pin in agent.items() if pin != {**agent, **run, **build}[name]} == {}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for group, pins in (("run", run), ("dev", dev), ("build", build), ("agent", agent)):
        wanted = {re.split(r"[<>=]", item)[0].lower() for item in groups[group] if isinstance(item, str)}
        assert wanted <= set(pins)


def _overridden(node: yaml.Node) -> Iterator[str]:
    """Keys that a mapping has beside the same one of an alias that it merges, with their lines."""
    if isinstance(node, yaml.MappingNode):
        own = [key for key, _value in node.value if key.value != "<<"]
        merged = [value for key, value in node.value if key.value == "<<" and isinstance(value, yaml.MappingNode)]
        taken = {key.value for mapping in merged for key, _value in mapping.value}
        yield from (f"{key.start_mark.line + 1}: {key.value}" for key in own if key.value in taken)
        for _key, value in node.value:
            yield from _overridden(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _overridden(value)


def test_no_file_of_tasks_makes_ansible_warn_of_duplicate_keys() -> None:
    """Which it takes an overridden key of an alias for."""
    files = sorted({*COLLECTION.glob("playbooks/**/*.yml"), *COLLECTION.glob("roles/*/tasks/**/*.yml")})
    found = {f"{path}:{key}" for path in files for key in _overridden(yaml.compose(path.read_text()))}
    assert len(files) > 20
    assert not found
