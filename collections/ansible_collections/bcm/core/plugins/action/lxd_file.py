# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_file."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession, apply_files
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction
from ansible_collections.bcm.core.plugins.plugin_utils._files_option import FILES_ARGUMENT, wanted_files


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "instance": {"type": "str", "required": True},
        "files": FILES_ARGUMENT,
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        files = wanted_files(params["files"], functools.partial(self._find_needle, "files"))
        with FileSession(self.client, params["instance"]) as session:
            done = apply_files(session, files, check=self.check_mode)
        return {"changed": bool(done.changed), "files": done.changed, "digest": done.digest, "diff": done.diff}
