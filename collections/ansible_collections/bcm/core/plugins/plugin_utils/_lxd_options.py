# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that LXD plugins share, and the client made from them. Mirrors the doc fragment bcm.core.lxd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import env_fallback

from ..module_utils._lxd.client import Client

LXD_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "endpoint": {"type": "str", "fallback": (env_fallback, ["BCM_ENDPOINT"])},
    "project": {"type": "str", "default": "default", "fallback": (env_fallback, ["BCM_PROJECT"])},
    "target": {"type": "str"},
    "client_cert": {"type": "path", "fallback": (env_fallback, ["BCM_CLIENT_CERT"])},
    "client_key": {"type": "path", "no_log": False, "fallback": (env_fallback, ["BCM_CLIENT_KEY"])},
    "server_cert": {"type": "path", "fallback": (env_fallback, ["BCM_SERVER_CERT"])},
    "timeout": {"type": "float", "default": 30.0},
}


def client_from(params: Mapping[str, Any]) -> Client:
    """The client these options ask for. Errors as of Client."""
    names = ("project", "client_cert", "client_key", "server_cert", "timeout")
    return Client(params["endpoint"], **{name: params[name] for name in names if params.get(name) is not None})
