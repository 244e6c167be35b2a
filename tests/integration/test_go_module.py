# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack whose program is a module of the Go registry, built in its builder."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.integration.conftest import Site
from tests.support import LXD_DIR, PATIENCE, Tools

pytestmark = pytest.mark.containers

SUM = "h1:X0TZjehAZylOIj4DubWYU1vWQxv9bJpo+Uu2/LGhi1o="
WRONG = SUM.replace("X0TZ", "X0TY")
STACK: dict[str, Any] = {
    "schema": 1,
    "description": "Encrypts files",
    "tier": "web",
    "chains": ["regtest"],
    "artifact": {
        "version_command": ["age", "--version"],
        "floor": {"none": "it is a small one of many"},
        "sources": {
            "module": {
                "kind": "go",
                "name": "filippo.io/age",
                "licence": "BSD-3-Clause",
                "version": "1.2.1",
                "sum": SUM,
                "packages": ["./cmd/age", "./cmd/age-keygen"],
                # the second makes its image another one than that which an earlier run has baked
                "variables": ["main.Version=v{version}", f"main.Run={secrets.token_hex(4)}"],
            }
        },
    },
}


@pytest.fixture
def site(lxd_tools: Tools, tmp_path: Path) -> Iterator[Site]:
    role = tmp_path / "stacks/keeper"
    for name, content in {"meta/stack.yml": STACK, "tasks/configure.yml": [], "tasks/verify.yml": []}.items():
        (role / name).parent.mkdir(parents=True, exist_ok=True)
        (role / name).write_text(yaml.safe_dump(content))
    site = Site(lxd_tools, tmp_path, "gotest", stack="keeper", bcm_stack_path=[str(tmp_path / "stacks")])
    yield site
    site.goes()


def test_commands_of_a_module_are_built_if_its_sum_is_the_pinned_one(site: Site) -> None:
    refused = site.attempt(bcm_artifacts={"keeper": {"sum": WRONG}})
    assert refused.returncode
    assert f"filippo.io/age 1.2.1 is refused: pinned is the sum {WRONG}, the registry gave {SUM}" in refused.stdout

    output = site.run()
    # Go names packages in batches; what the last one of them ends with is chance
    assert re.search(r"package \d+ of 183\b", output), output
    with Client(str(LXD_DIR / "unix.socket"), project=site.project) as lxd:
        made_of = json.loads(lxd.get("/1.0/instances/keeper")["config"]["image.bcm.artifact"])

        def shown(*argv: str) -> str:
            return lxd_exec.run(lxd, "keeper", lxd_exec.Command(argv), deadline=PATIENCE).stdout.decode()

        # stamped by the linker; without that it does not know its version
        assert shown("age", "--version") == "v1.2.1\n"
        assert shown("age-keygen", "--version") == "v1.2.1\n"
        assert shown("find", "/usr/lib/go-1.26", "/root", "/var/tmp", "-name", "*go*") == "", "the build is still there"
    assert {"kind": "go", "name": "filippo.io/age", "version": "1.2.1", "digest": SUM}.items() <= made_of.items()
