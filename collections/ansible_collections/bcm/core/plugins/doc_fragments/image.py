# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What images are made from: C(bcm.core.image) is what their names depend on, C(bcm.core.image.making) the rest."""

    # Twins of plugin_utils/_image_options.py
    DOCUMENTATION = r"""
options:
  image_snapshot:
    description:
      - The date of the archive's snapshot that base and packages come from, as the archive of snapshots writes it
        (C(20261101T000000Z)). Two machines then make the same images.
      - It stands for C({snapshot}) in O(bcm.core.image#module:image_mirror), which has to have that.
      - Without it, images are made from what the archive has on the day.
    type: str
  image_sources:
    description:
      - More sources of packages for installing stacks, beside the suites that their C(stack.yml) names. Nothing comes
        from them unless a role asks for a package of theirs by name, or such a package needs it.
    type: list
    elements: dict
    default: []
    suboptions:
      suite:
        description: The suite, such as V(trixie-backports).
        type: str
        required: true
      components:
        description: The components.
        type: list
        elements: str
        default: [main]
      mirror:
        description: The address of the archive, if it is not the base's.
        type: str
      keyring:
        description: File with the OpenPGP keys that vouch for the archive, if they are not Debian's.
        type: path
  image_keyring:
    description:
      - File with the OpenPGP keys that vouch for Debian's archive. Without it, those of C(debian-archive-keyring).
    type: path
"""

    MAKING = r"""
options:
  image_mirror:
    description:
      - The address of Debian's archive, ending in C(/debian).
      - Without it, the Debian mirror of the machine's own apt configuration is used, and Debian's own if there is
        none.
    type: str
  image_security_mirror:
    description:
      - The address of the archive with the security updates; empty if there is none.
      - Without it, it is taken to be beside O(image_mirror), or found as that one is.
    type: str
  image_apt_options:
    description:
      - Options of apt while images are made, as on its command line (C(Acquire::http::Proxy=http://192.0.2.1:3142)),
        over those of the machine's own apt that say how packages are reached. They are in no finished image.
    type: list
    elements: str
    default: []
  image_ca_certificates:
    description:
      - Files with CA certificates, in PEM, that builders trust besides the usual ones. They are in no finished image.
      - Without it, those that were added to this machine (C(/usr/local/share/ca-certificates)); an empty list means
        none.
    type: list
    elements: path
"""
