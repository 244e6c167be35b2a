# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes an LXD server listen, and trust the clients that are named and no others."""

from __future__ import annotations

import base64
import hashlib
import ssl
import typing as t

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import quoted
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction

_TRUE = ("true", "1", "yes", "on")
_TRUST_CA, _ADDRESS = "core.trust_ca_certificates", "core.https_address"


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "clients": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"name": {"type": "str", "required": True}, "certificate": {"type": "str", "required": True}},
        },
        "keep": {"type": "list", "elements": "str", "default": []},
        "https_address": {"type": "str"},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        clients = [(item["name"], _content(item["name"], item["certificate"])) for item in params["clients"]]
        trusted = [item for item in self.client.get("/1.0/certificates", recursion=1, project=False)
                   if item["type"] == "client"]  # fmt: skip
        changes = self._configure(params["https_address"])
        known = {item["fingerprint"] for item in trusted}
        for name, content in clients:
            if content is None or _fingerprint(content) not in known:
                changes.append(f"client {name}: trusted")
                self._add(name, content)
        kept = {*params["keep"], *(_fingerprint(content) for _name, content in clients if content is not None)}
        for item in trusted:
            if item["fingerprint"] not in kept:
                changes.append(f"client {item['name']} {item['fingerprint'][:12]}: not trusted any more")
                self._call("DELETE", f"/1.0/certificates/{quoted(item['fingerprint'])}", None)
        server = self.client.get("/1.0", project=False)
        return {
            "changed": bool(changes),
            "changes": changes,
            "addresses": server["environment"].get("addresses") or [],
            "diff": {"before": "", "after": "".join(f"{line}\n" for line in changes)},
        }

    def _configure(self, address: str | None) -> list[str]:
        found = self.client.get("/1.0", project=False)["config"]
        wanted = {}
        if address and not found.get(_ADDRESS):
            wanted[_ADDRESS] = address
        if str(found.get(_TRUST_CA, "")).lower() in _TRUE:
            wanted[_TRUST_CA] = "false"
        if wanted:
            self._call("PATCH", "/1.0", {"config": wanted})
        return [f"{key}: {value}" for key, value in wanted.items()]

    def _add(self, name: str, content: bytes | None) -> None:
        if content is None:
            if not self.check_mode:
                raise BcmError(f"Client {name}", "has no certificate", "issue it first", code="not_ready")
            return
        body = {"type": "client", "name": name, "certificate": base64.b64encode(content).decode()}
        self._call("POST", "/1.0/certificates", body)

    def _call(self, method: str, path: str, body: dict[str, t.Any] | None) -> None:
        if not self.check_mode:
            self.client.call(method, path, body, what="change the clients that the server trusts", project=False)


def _content(name: str, text: str) -> bytes | None:
    """A certificate in DER; None if it is empty, as in check mode before it is issued."""
    if not text:
        return None
    try:
        return ssl.PEM_cert_to_DER_cert(text.strip())
    except ValueError as error:
        raise BcmError(
            f"The certificate of client {name}", "is not PEM", "give it as ca_authority returns it",
            code="invalid_value",
        ) from error  # fmt: skip


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
