# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts: fetches and verifies a release, and unpacks it in an instance."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

from ansible.utils.display import Display

from ansible_collections.bcm.core.plugins.module_utils._artifact import archive, oci
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifact_settings import (
    ARTIFACT_SPEC,
    TOR,
    artifacts,
    is_listening,
)
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import Artifacts
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Release, from_plain
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession, apply_files
from ansible_collections.bcm.core.plugins.module_utils._lxd.forward import forwarded
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        **ARTIFACT_SPEC,
        "artifact": {"type": "dict", "required": True},
        "keys_path": {"type": "path", "required": True},
        "chain": {"type": "str", "required": True},
        "downloads": {"type": "dict"},
        "instance": {"type": "str"},
        "dest": {"type": "str"},
        "members": {"type": "list", "elements": "str"},
    }
    CONSTRAINTS = {"required_together": [("instance", "dest")], "required_by": {"members": "instance"}}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        release = from_plain(params["artifact"])
        _check(release, params)
        with self._way(params["downloads"], params["artifact_proxy"]) as proxy:
            found = artifacts({**params, "artifact_proxy": proxy}, params["chain"], Display().display)
            records = found.present([(release, Path(params["keys_path"]))], check=self.check_mode)
        result: dict[str, t.Any] = {"changed": any(item["changed"] for item in records), "releases": records}
        if params["instance"] and all("files" in item for item in records):
            files = _files(found, release, params["members"], params["dest"].rstrip("/"))
            with FileSession(self.client, params["instance"]) as session:
                result["changed"] |= bool(apply_files(session, files, check=self.check_mode).changed)
        return result

    @contextlib.contextmanager
    def _way(self, downloads: dict[str, t.Any] | None, proxy: str | None) -> t.Iterator[str | None]:
        """Return the proxy of the options, or the one that the plan chose for the image's downloads."""
        if downloads is None or proxy is not None:
            yield proxy
        elif downloads["proxy"] is None:
            # Only this machine may have a tor at this point.
            yield TOR if is_listening(TOR) else ""
        else:
            with forwarded(self.client, downloads["proxy"], downloads["socks"]) as port:
                yield f"socks5h://127.0.0.1:{port}"


def _check(release: Release, params: dict[str, t.Any]) -> None:
    if not params["instance"]:
        return
    if len(release.architectures) != 1:
        raise BcmError(
            release.name,
            "has no one file to unpack",
            "leave instance out, or give one that the plan has",
            code="invalid_value",
        )
    if release.kind == "archive" and not params["members"]:
        raise BcmError("members", "is not set", f"say what of {release.name} to unpack", code="invalid_value")
    if release.kind == "apt" and params["members"]:
        raise BcmError(
            "members",
            f"is set, but {release.name} is a package, it is put there as a whole",
            "leave it out",
            code="invalid_value",
        )
    if release.kind == "oci" and not params["dest"].strip("/"):
        raise BcmError(
            "dest",
            f"is /, but {release.name} is an image, with a root of its own",
            "name a directory for it",
            code="invalid_value",
        )


def _files(
    found: Artifacts, release: Release, members: t.Sequence[str], directory: str
) -> t.Iterator[dict[str, t.Any]]:
    """What is unpacked below a directory, as root's, one at a time."""
    own = {"owner": 0, "group": 0, "sensitive": True}  # the difference would show bytes only
    (architecture,) = release.architectures
    if release.kind == "oci":
        kinds = {"folder": "directory"}
        for member, content in oci.read(found.layers(release, architecture), release, members or ()):
            item = {"path": f"{directory}/{member.name}", "state": kinds.get(member.kind, member.kind), **own}
            yield {**item, "mode": member.mode, "content": content, "target": member.target}
        return
    if release.kind == "apt":
        content = found.path(release, architecture).read_bytes()
        yield {"path": f"{directory}/{release.name}.deb", "mode": 0o644, "content": content, **own}
        return
    for name, mode, content in archive.read(found.path(release, architecture), members):
        yield {"path": f"{directory}/{name}", "mode": mode, "content": content, **own}
