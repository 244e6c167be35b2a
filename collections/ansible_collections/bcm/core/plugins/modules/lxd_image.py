#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_image
short_description: Manage LXD images
version_added: 0.1.0
description:
  - Imports images from files, copies them from a remote, publishes them from an instance, names them by an alias,
    deletes them.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  name:
    description: The alias by which the image is known.
    type: str
    required: true
  state:
    description: Whether the image should exist. V(absent) deletes the image with all its aliases.
    type: str
    choices: [present, absent]
    default: present
  properties:
    description: Properties of the image. Not changed if not given; if given, they replace all properties.
    type: dict
  public:
    description: Whether clients without a certificate may download it.
    type: bool
  auto_update:
    description: Whether the server looks for newer versions of a copied image.
    type: bool
  source:
    description: The source of a new image. Neither compared nor changed once the alias exists.
    type: dict
    suboptions:
      metadata:
        description: File with the metadata, or with the whole image.
        type: path
      rootfs:
        description: File with the root file system of a split image.
        type: path
      instance:
        description: The instance to publish. It has to be stopped.
        type: str
      compression:
        description: How a published image is compressed, for example V(none), V(gzip) or V(zstd).
        type: str
      server:
        description: Address of the remote. The default is this server itself.
        type: str
      protocol:
        description: Protocol of the remote. V(lxd) is the API of LXD and of Incus; each copies only from its like.
        type: str
        choices: [lxd, simplestreams]
      alias:
        description: Alias of the image at the remote.
        type: str
      fingerprint:
        description: Fingerprint of the image at the remote.
        type: str
      certificate:
        description: Certificate of the remote, in PEM, when it is not publicly trusted.
        type: str
  deadline:
    description: Seconds within which each operation has to finish.
    type: float
    default: 900.0
"""

EXAMPLES = r"""
- name: Import an image from files
  bcm.core.lxd_image:
    name: bcm/base
    source:
      metadata: /var/cache/images/metadata.tar
      rootfs: /var/cache/images/rootfs.squashfs

- name: Publish an instance
  bcm.core.lxd_image:
    name: bcm/tor
    source:
      instance: build-tor
      compression: none
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The image as the API returns it, after the change; in check mode, before it. Null if it does not exist.
  returned: always
  type: dict
"""
