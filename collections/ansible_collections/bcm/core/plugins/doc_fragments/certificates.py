# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The options of certificates that are asked for: C(bcm.core.certificates)."""

    DOCUMENTATION = r"""
options:
  certificates:
    description: The certificates.
    type: list
    elements: dict
    suboptions:
      name:
        description: Its name here.
        type: str
        required: true
      common_name:
        description:
          - The common name. Without it, the first host name, or O(certificates[].name).
          - A server with addresses only has one in the domain, O(certificates[].name) below it if that is a host name.
            Another one has to be there, too, since some clients take it for a host.
        type: str
      names:
        description: Host names and addresses. A server needs one.
        type: list
        elements: str
        default: []
      usage:
        description: What it is for.
        type: list
        elements: str
        choices: [server, client]
        default: [server]
      csr:
        description: A CSR, as PEM. Its public key is certified; nothing else in it counts.
        type: str
      pkcs12:
        description: Have it as PKCS#12, too, with a random password.
        type: bool
        default: false
  issuance:
    description: The signer. With V(direct) it is the root, which asks for a confirmation of each.
    type: str
    choices: [intermediate, direct]
    default: intermediate
"""
