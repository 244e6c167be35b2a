# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts: fetches and verifies a release, and unpacks it in an instance."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.utils.display import Display

from ansible_collections.bcm.core.plugins.module_utils._artifact import archive
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import from_plain
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction
from ansible_collections.bcm.core.plugins.plugin_utils._artifact_options import ARTIFACT_SPEC, artifacts


class ActionModule(BcmAction):
    LXD = True
    LXD_WITHOUT = ("target",)
    ARGUMENT_SPEC = {
        **ARTIFACT_SPEC,
        "artifact": {"type": "dict", "required": True},
        "role_path": {"type": "path", "required": True},
        "chain": {"type": "str", "required": True},
        "instance": {"type": "str"},
        "dest": {"type": "str"},
        "members": {"type": "list", "elements": "str"},
    }
    CONSTRAINTS = {"required_together": [("instance", "dest", "members")]}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        release = from_plain(params["artifact"])
        found = artifacts(params, params["chain"], Display().display)
        told = found.present([(release, Path(params["role_path"]) / "meta/keys")], check=self.check_mode)
        result: dict[str, t.Any] = {"changed": any(item["changed"] for item in told), "releases": told}
        if params["instance"] and all("files" in item for item in told):
            path = found.path(release, *release.files)
            with FileSession(self.client, params["instance"]) as session:
                result["changed"] |= _unpack(session, path, params["members"], params["dest"], self.check_mode)
        return result


def _unpack(session: FileSession, path: Path, members: t.Sequence[str], directory: str, check: bool) -> bool:
    """Write members of an archive, as root's, below a directory of an instance; whether any was not there yet."""
    changed = False
    for name, mode, content in archive.read(path, members):
        place = f"{directory.rstrip('/')}/{name}"
        if session.lstat(place) is not None and session.read(place) == content:
            continue
        changed = True
        if not check:
            session.make_parents(place)
            session.write(place, content, mode=mode, uid=0, gid=0)
    return changed
