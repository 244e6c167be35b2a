# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Images of stacks, named by what went into them
version_added: 0.1.0
author: Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Makes the base image, starts builders on it, publishes them, and brings images that exist from the controller's
    disk to where they are missing.
  - An image is named by a hash of all that went into it, so one that exists is never made again. All data centers of
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
      - V(present) brings O(images) that the endpoint lacks from the disk, and returns those that have to be baked. If
        there are any, the base image is made first, unless it exists. Builders of runs that ended too early are
        removed.
      - V(building) starts the builder of O(image) in O(project), with everything that apt needs. Install tasks then
        run in it.
      - V(published) checks the version of what is installed in the builder of O(image), cleans and stops the builder,
        makes the image of it and deletes it.
      - V(pruned) removes images that no instance was made from and that are not in O(images).
      - V(listed) returns all images and changes nothing.
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
    description: Whether V(present) sees to the base image even if nothing is to be baked.
    type: bool
    default: false
  network:
    description:
      - The network of the builder, with a way to the archive.
      - A builder whose C(downloads) come through Tor has the interface that the plan says instead.
    type: str
  storage_pool:
    description: The storage pool of the builder.
    type: str
    default: default
  cache_path:
    description: The directory with the copies on disk.
    type: path
  older_than:
    description: Days for which a copy on disk has to have been unused for V(pruned) to remove it.
    type: float
    default: 30.0
seealso:
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: Bring images to the endpoint
  bcm.core.image:
    images: "{{ plan.images }}"
  register: images

- name: Start a builder for each that is missing
  bcm.core.image:
    state: building
    project: "{{ plan.project }}"
    image: "{{ item }}"
    network: "{{ plan.uplink.name }}"
  loop: "{{ images.missing }}"

- name: Make the image of a builder in which the stack is installed
  bcm.core.image:
    state: published
    project: "{{ plan.project }}"
    image: "{{ item }}"
  loop: "{{ images.missing }}"

- name: Remove what nobody uses
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
  description: Aliases of the images that came from the disk.
  returned: state=present
  type: list
  elements: str
builder:
  description: Name of the instance that became the builder.
  returned: state=building, not in check mode
  type: str
  sample: build-electrs-137874bd
version:
  description: What the installed program says its version is.
  returned: state=published, not in check mode
  type: str
  sample: 0.11.1
fingerprint:
  description: The image's fingerprint.
  returned: state=published, not in check mode
  type: str
images:
  description: All images at the endpoint and on the disk.
  returned: state=listed
  type: list
  elements: dict
  contains:
    hash:
      description: Hash of all that went into the image.
      type: str
    stack:
      description: The stack, or V(base).
      type: str
    version:
      description: The version of what is installed.
      type: str
    endpoint_size:
      description: Size at the endpoint in bytes; 0 if it is not there.
      type: int
    cache_size:
      description: Size on the disk in bytes; 0 if it is not there.
      type: int
    used_by:
      description: Instances made from it, as project/name.
      type: list
      elements: str
endpoint:
  description: Images removed from the endpoint.
  returned: state=pruned
  type: list
  elements: str
  sample: [bcm/electrs/137874bdd242]
cache:
  description: Images removed from the disk.
  returned: state=pruned
  type: list
  elements: str
freed:
  description: How many bytes they took.
  returned: state=pruned
  type: int
"""
