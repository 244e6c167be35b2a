#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: claim
short_description: Claim a data center for a run
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Takes the lock of a data center at its endpoint, until the process of C(ansible-playbook) ends, however it ends.
    While another run holds the lock, on this controller or on another one, it is refused with a message that names that
    run. The lock of a controller that vanished expires after a minute. In check mode, the lock is not taken.
  - Refuses a data center that exists at the endpoint with secrets other than those of the controller, or whose secrets
    are missing on the controller. Nothing is overwritten then.
  - Refuses certificates on the controller that are older than those which the data center was given last, such as those
    of an older backup, since what was revoked since then would be good again.
  - With O(identity), it only writes the identity beside the secrets, and has the project of the data center, if it
    exists, remember how new the certificates on the controller are.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.lxd.endpoint
attributes:
  check_mode:
    support: full
    details:
      - The lock is not taken, and no identity is written.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  datacenter:
    description: The data center's name, at most 9 lower-case letters, digits and inner hyphens.
    type: str
    required: true
  chain:
    description: The chain, one of V(mainnet), V(testnet3), V(testnet4), V(signet) and V(regtest).
    type: str
    required: true
  abandoned_identity:
    description:
      - The identity that the data center has at the endpoint, or at least its first 8 digits, to give up all secrets
        that belong to it. Its onion addresses, its root and its passwords are then replaced by new ones.
    type: str
  identity:
    description: An identity that this module returned, to be written to the file C(<chain>.identity).
    type: str
  directory:
    description: The directory of the secrets. The default is C(secrets) beside the first file of the inventory.
    type: path
seealso:
  - module: bcm.core.plan
  - module: bcm.core.secrets
"""

EXAMPLES = r"""
- name: Claim the data center
  bcm.core.claim:
    datacenter: local
    chain: regtest
  register: claimed

- name: Keep its identity
  bcm.core.claim:
    datacenter: local
    chain: regtest
    identity: "{{ claimed.identity }}"
"""

RETURN = r"""
identity:
  description: The identity of the data center, a random number of 32 hexadecimal digits. It is new if the data center
    had none.
  returned: success
  type: str
  sample: 5f1c0e9a2b7d4c3e8f6a1b2c3d4e5f60
saved:
  description: Whether it was saved before, and the project remembers how new the certificates are.
  returned: without O(identity)
  type: bool
recorded:
  description: Whether there is a project, which remembers how new the certificates are.
  returned: with O(identity)
  type: bool
"""
