# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The electrum stack in its wanted state: site.yml, and a playbook of the usual means that holds the same."""

from __future__ import annotations

import json
from typing import Any

import yaml

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue

from .datacenter import deployed, site
from .measure import ROOT, Bench, Line, Run, interleaved

_NAME = "bench-a"
ROLES = ROOT / "collections/ansible_collections/bcm/core/roles"


def lines(bench: Bench) -> list[Line]:
    with deployed(bench, _NAME):
        _write_peer(bench)
        variants = {
            "ours": lambda: site(bench, _NAME).unchanged().seconds,
            "peer": lambda: _peer(bench).unchanged().seconds,
        }
        found = interleaved(variants, bench.repetitions)
    work = "`site.yml -e stack=electrum`, nothing to do, verified"
    return [Line(work, found["ours"], "the same by `community.general`, not verified", found["peer"], 1 / 5)]


def _peer(bench: Bench) -> Run:
    return bench.playbook("peer/site.yml", inventory=bench.folder / "peer/hosts.json", config=ROOT / "ansible.cfg")


def _write_peer(bench: Bench) -> None:
    """The inventory of the peer: what the roles say, with contents as they are in the instances."""
    project = datacenter_names(_NAME, "regtest").project
    with_project = bench.client_of(project)
    hosts = {}
    for instance in with_project.get("/1.0/instances", recursion=1):
        name = instance["name"]
        unit = unit_options(name)
        folder = bench.folder / "peer" / name
        folder.mkdir(parents=True)
        with FileSession(with_project, name) as session:
            shared = [item for item in shared_files() if session.lstat(item["path"])]
            unit["files"] = [*shared, *unit["files"]]
            there = {item["path"] for item in shared}
            own = [{"name": name} for name in ("tls", "egress") if f"/etc/systemd/system/{name}.service" in there]
            unit["units"] += own
            for number, item in enumerate(unit["files"]):
                if item.get("state", "file") == "file":
                    item["src"] = str(folder / str(number))
                    (folder / str(number)).write_bytes(session.read(item["path"]))
        config = {k: v for k, v in instance["config"].items() if not k.startswith(("volatile.", "image."))}
        hosts[name] = {
            "peer_files": unit["files"],
            "peer_units": [unit["name"] for unit in unit["units"]],
            "peer_instance": {
                "config": config,
                "devices": instance["devices"],
                "profiles": instance["profiles"],
                "source": {"type": "image", "fingerprint": instance["config"]["volatile.base_image"]},
            },
        }
    inventory = {"instances": {"hosts": hosts, "vars": {"peer_project": project, "ansible_lxd_project": project}}}
    (bench.folder / "peer/hosts.json").write_text(json.dumps(inventory, indent=2), encoding="utf-8")


def shared_files() -> list[dict[str, Any]]:
    """The files that site.yml writes for TLS and for what leaves, but for the contents."""
    files = list(yaml.safe_load((ROLES / "_common/vars/main.yml").read_text(encoding="utf-8"))["_common_certificate"])
    for name, groups in (("tls", ("trust", "own", "proxy")), ("egress", ("routes", "rules"))):
        task = yaml.safe_load((ROLES / f"_common/tasks/{name}.yml").read_text(encoding="utf-8"))[0]
        files += [item for group in groups for item in task["vars"][group]]
    return [{key: value for key, value in item.items() if key != "content"} for item in files]


def unit_options(name: str) -> dict[str, Any]:
    """What `_common/tasks/configure.yml` gives lxd_unit for a stack, but for contents and whether these are shown."""
    stack = Catalogue.read()[name]
    variables = yaml.safe_load((ROLES / stack.role_path.name / "vars/main.yml").read_text(encoding="utf-8"))
    prefix = name.replace("-", "_")
    units = variables[f"{prefix}_units"]
    own = {"owner": stack.user, "group": stack.user}
    files = [{"path": item.path, "state": "directory", "mode": "0700", **own} for item in stack.volumes.values()]
    for unit in units:
        files.append({"path": f"/etc/systemd/system/{unit}.service"})
        files.append({"path": f"/etc/systemd/system/{unit}.service.d/10-sandbox.conf"})
    programs = {program for unit in units.values() for program in unit.get("programs", ())}
    waiting = any("wait_for" in unit for unit in units.values())
    programs |= {"bcm_wait.py"} if waiting else set()
    files += [{"path": f"/usr/local/lib/{program}"} for program in sorted(programs)]
    if programs:
        files.append({"path": "/usr/local/lib/bcm_guest/prove.py"})
    if waiting:
        files.append({"path": "/etc/bcm/wait.json", "mode": "0600", **own})
    files += variables[f"{prefix}_files"]
    return {
        "files": [{key: item[key] for key in item if key not in ("content", "sensitive")} for item in files],
        "units": [{"name": unit} for unit, facts in units.items() if not facts.get("manual")],
    }
