# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of a relay, in the form in which tor keeps them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: relay_identity
short_description: Convert a secret to the key files of a Tor relay
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns the contents of the files in tor's directory C(keys), from a secret C(relay_identity) of a stack.
  - Both keys are secrets. Mark the files they are written to as sensitive.
options:
  _input:
    description: The secret.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Give a relay its RSA key
  bcm.core.lxd_file:
    instance: torrelay
    files:
      - path: /var/lib/tor/keys/secret_id_key
        content: "{{ (bcm_secrets['torrelay/relay_identity'] | bcm.core.relay_identity).rsa }}"
        sensitive: true
"""

RETURN = r"""
_value:
  description:
    - C(ed25519) and C(rsa), the contents of C(ed25519_master_id_secret_key) and C(secret_id_key). The former is binary;
      bytes that are not text are Python's surrogate escapes.
    - C(fingerprint), which is public.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._tor.relay import parse_identity


def relay_identity(secret: t.Any) -> dict[str, str]:
    """Raises AnsibleFilterError if the secret is not that of a relay."""
    try:
        identity = parse_identity(str(secret))
    except BcmError as error:
        raise AnsibleFilterError(shown(str(error))) from None
    return {
        "ed25519": identity.master_file.decode(errors="surrogateescape"),
        "rsa": identity.rsa,
        "fingerprint": identity.fingerprint,
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., dict[str, str]]]:
        return {"relay_identity": relay_identity}
