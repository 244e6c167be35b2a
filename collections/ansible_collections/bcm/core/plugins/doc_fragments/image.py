# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """C(bcm.core.image) has the options that the names of images depend on, C(bcm.core.image.making) the others."""

    # The same as in module_utils/_image/image_settings.py; a test compares them.
    DOCUMENTATION = r"""
options:
  image_snapshot:
    description:
      - The date of the archive's snapshot for base and packages, as the snapshot archive writes it
        (C(20261101T000000Z)). Two machines then make the same images.
      - It replaces C({snapshot}) in O(bcm.core.image#module:image_mirror), which has to contain that.
      - Without it, images are made from the current state of the archive.
    type: str
  image_sources:
    description:
      - More package sources for installing stacks, in addition to the suites that their C(stack.yml) names. A package
        is taken from them only if a role names it, or if such a package depends on it.
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
        description: File with the OpenPGP keys that sign the archive, if they are not Debian's.
        type: path
  image_keyring:
    description:
      - File with the OpenPGP keys that sign Debian's archive. The default is the keyring of C(debian-archive-keyring).
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
      - The address of the archive with the security updates; an empty string for none.
      - The default is the one beside O(image_mirror), or found in the same way.
    type: str
  image_apt_options:
    description:
      - Options of apt while images are made, as on its command line (C(Acquire::http::Proxy=http://192.0.2.1:3142)).
        They override those of the machine's own apt configuration that say how packages are downloaded. No finished
        image contains them.
    type: list
    elements: str
    default: []
  image_ca_certificates:
    description:
      - Files with CA certificates, in PEM, that builders trust in addition to the usual ones. No finished image
        contains them.
      - The default is those that were added to this machine (C(/usr/local/share/ca-certificates)); an empty list means
        none.
    type: list
    elements: path
"""
