# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Bake, publish, import and prune images of stacks
version_added: 0.1.0
author: Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Makes the base image, starts builders from it, publishes them, and imports cached images from the controller's disk.
  - An image is named by a hash of everything it is made of, so an existing one is never made again. All data centers of
    an endpoint share them (LXD's default project).
  - Copies are kept on the controller's disk, below E(XDG_CACHE_HOME) or C(~/.cache), in C(bcm/images).
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.image
  - bcm.core.image.making
  - bcm.core.lxd
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - V(building) and V(published) are two steps of making an image that is missing; after them, V(present) has
        nothing to do.
options:
  state:
    description:
      - V(present) imports O(images) that the endpoint lacks from the disk cache, and returns those that have to be
        baked. If there are any, the base image is made first, unless it exists. Builders left by interrupted runs are
        removed.
      - V(building) starts the builder of O(image) in O(project), and configures apt in it. The install tasks then run
        in it. If another run on this controller is baking the same image, this waits for it and imports what it has
        made.
      - V(published) checks the installed version in the builder of O(image), cleans and stops the builder, publishes it
        as the image and deletes it.
      - V(pruned) deletes images that no instance was created from and that are not in O(images).
      - V(listed) lists all images and changes nothing.
    type: str
    choices: [present, building, published, pruned, listed]
    default: present
  images:
    description: Images of a plan, as M(bcm.core.plan) returns them.
    type: list
    elements: dict
    default: []
  image:
    description: One of them, for V(building) and V(published).
    type: dict
  base:
    description: Whether V(present) makes the base image even if nothing has to be baked.
    type: bool
    default: false
  network:
    description:
      - The network of the builder, with a route to the package archive.
      - A builder whose C(downloads) come through Tor has the interface that the plan says instead.
    type: str
  storage_pool:
    description: The storage pool of the builder.
    type: str
    default: default
  cache_path:
    description: The directory of the disk cache.
    type: path
  older_than:
    description: V(pruned) deletes copies in the disk cache that were not used for this number of days.
    type: float
    default: 30.0
seealso:
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: Import cached images
  bcm.core.image:
    images: "{{ plan.images }}"
  register: images

- name: Start a builder for each missing image
  bcm.core.image:
    state: building
    project: "{{ plan.project }}"
    image: "{{ item }}"
    network: "{{ plan.uplink.name }}"
  loop: "{{ images.missing }}"

- name: Publish each builder in which the stack is installed
  bcm.core.image:
    state: published
    project: "{{ plan.project }}"
    image: "{{ item }}"
  loop: "{{ images.missing }}"

- name: Delete unused images
  bcm.core.image:
    state: pruned
    images: "{{ plan.images }}"
"""

RETURN = r"""
base:
  description: Alias of the base image.
  returned: state=present
  type: str
  sample: bcm/base/666ac535130e
missing:
  description: The images of O(images) that have to be baked.
  returned: state=present
  type: list
  elements: dict
imported:
  description: Aliases of the images that were imported from the disk cache.
  returned: state=present
  type: list
  elements: str
builder:
  description: Name of the builder; empty if another run has baked the image.
  returned: state=building, not in check mode
  type: str
  sample: build-electrs-137874bd
version:
  description: The version that the installed program reports.
  returned: state=published, not in check mode
  type: str
  sample: 0.11.1
fingerprint:
  description: The image's fingerprint.
  returned: state=published, not in check mode
  type: str
images:
  description: All images at the endpoint and in the disk cache.
  returned: state=listed
  type: list
  elements: dict
  contains:
    hash:
      description: Hash of everything the image is made of.
      type: str
    stack:
      description: The stack, or V(base).
      type: str
    version:
      description: The version of the installed software.
      type: str
    endpoint_size:
      description: Size at the endpoint in bytes; 0 if it is not there.
      type: int
    cache_size:
      description: Size in the disk cache in bytes; 0 if it is not there.
      type: int
    used_by:
      description: Instances created from it, as project/name.
      type: list
      elements: str
endpoint:
  description: Images deleted at the endpoint.
  returned: state=pruned
  type: list
  elements: str
  sample: [bcm/electrs/137874bdd242]
cache:
  description: Images deleted from the disk cache.
  returned: state=pruned
  type: list
  elements: str
freed:
  description: The number of bytes freed.
  returned: state=pruned
  type: int
"""
