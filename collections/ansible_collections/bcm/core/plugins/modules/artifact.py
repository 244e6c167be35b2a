#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Fetch a release, verify it, and unpack it in an instance
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - A release is accepted if its digest is the one that is pinned, and if as many of its signers as the catalogue asks
    for have signed it. Anything else is refused, and nothing is installed.
  - It is kept in a content-addressed store on the controller, so that it is fetched once.
  - Of a signed apt repository, the newest package is taken that is not below the floor. Its lists are accepted if one
    of its signers has signed them, they have not expired, and none that are newer were accepted before.
  - Of an image of a registry, the manifest has the pinned digest, and names all that it is made of by digest.
  - Releases that a package manager fetches, with the same pins, are left to it.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.lxd
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  artifact:
    description: The release, as RV(bcm.core.plan#module:plan) has it for an image.
    type: dict
    required: true
  role_path:
    description: The role of the stack; the keys of its signers lie in C(meta/keys).
    type: path
    required: true
  chain:
    description: The chain. On each but V(regtest), Tor carries downloads unless O(artifact_proxy) says otherwise.
    type: str
    required: true
  downloads:
    description:
      - How the release is fetched if O(artifact_proxy) is not set, as RV(bcm.core.plan#module:plan) has it for an
        image.
      - With a C(carrier), through C(socks) as that instance of O(project) reaches it, by a port of this machine that is
        there as long as it takes.
      - Without one, through the Tor of this machine if it has one, and directly if not.
    type: dict
  instance:
    description: The instance to unpack in.
    type: str
  dest:
    description:
      - The directory to unpack to, in the instance. An image needs one of its own.
      - A package of a repository is put there as C(NAME.deb), for apt to install.
    type: str
  members:
    description:
      - What to unpack of an archive, below its one directory. It keeps its place below O(dest).
      - An image is unpacked as a whole, without what its layers removed of each other. All of it is root's, with mode
        V(0755) or V(0644).
    type: list
    elements: str
  artifact_source:
    description:
      - A directory, or the address of a server, that has releases as C(STACK/VERSION/NAME), and apt repositories below
        C(STACK); they are then not fetched from upstream. C(bcm artifact export) makes such a directory.
    type: str
  artifact_proxy:
    description:
      - A SOCKS proxy, such as V(socks5h://127.0.0.1:9050), or an empty string for none.
      - Without it, what O(downloads) says, or else Tor at V(socks5h://127.0.0.1:9050) on each chain but regtest, and
        none on regtest.
      - An address of a private network is asked directly, since Tor leads to none.
    type: str
  artifact_keys:
    description:
      - More places of OpenPGP keys, asked after O(role_path). A directory, an address with C({fingerprint}) in it, a
        key server as C(hkps://keys.example.org), or V(wkd) for the web key directories of the signers' mail addresses.
    type: list
    elements: str
    default: []
  artifact_store:
    description: The store. Without it, C(bcm/artifacts) in C(XDG_CACHE_HOME) or C(~/.cache).
    type: path
seealso:
  - module: bcm.core.plan
  - module: bcm.core.image
"""

EXAMPLES = r"""
- name: Fetch and verify a release
  bcm.core.artifact:
    artifact: "{{ bcm_image.artifact }}"
    role_path: "{{ bcm_image.role_path }}"
    chain: mainnet

- name: Unpack it in a builder
  bcm.core.artifact:
    artifact: "{{ bcm_image.artifact }}"
    role_path: "{{ bcm_image.role_path }}"
    chain: mainnet
    instance: "{{ inventory_hostname }}"
    dest: /usr/local
    members: [bin/bitcoind, bin/bitcoin-cli]
"""

RETURN = r"""
releases:
  description: What is in the store, none if a package manager fetches it.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the artifact.
      type: str
    version:
      description: Its version.
      type: str
    files:
      description: Names of its files and their digests.
      type: dict
    blobs:
      description: SHA-256 of what an image is made of.
      type: list
      elements: str
    evidence:
      description: Names of sums, signatures and keys, and their SHA-256.
      type: dict
    signers:
      description: Who signed, of those who count.
      type: list
      elements: str
    explained:
      description: Who signed, who did not count and why, in a line.
      type: str
      sample: "achow101, fanquake, hebasto signed, 3 of 19 needed"
"""
