# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_trust
short_description: Make an LXD server trust certain clients and no others
version_added: 0.1.0
description:
  - Adds the certificates of clients to those that the server trusts, and removes all other clients.
  - Turns C(core.trust_ca_certificates) off. With it, LXD trusts whatever its authority has signed.
  - Certificates of other types, such as those for metrics, are left alone.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  clients:
    description: The clients to trust.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the server calls it, if it is new.
        type: str
        required: true
      certificate:
        description: Its certificate, as PEM. In check mode it may be empty, for one that is to be issued yet.
        type: str
        required: true
  keep:
    description: SHA-256 fingerprints of other clients that stay if they are trusted, in hexadecimal.
    type: list
    elements: str
    default: []
  https_address:
    description: Where the server listens, if it does not listen yet.
    type: str
"""

EXAMPLES = r"""
- name: Trust one client, and all others that the authority has certified
  bcm.core.lxd_trust:
    endpoint: ssh://root@box
    https_address: "[::]:8443"
    clients:
      - name: bcm-home
        certificate: "{{ issued.certificates[0].certificate }}"
    keep: "{{ authority.certificates | map(attribute='fingerprint') }}"
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, one line for each.
  returned: success
  type: list
  elements: str
  sample: ["client bcm-home: trusted"]
addresses:
  description: Where the server listens.
  returned: success
  type: list
  elements: str
  sample: ["192.0.2.1:8443"]
"""
