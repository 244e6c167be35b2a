#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Download a release, verify it, and unpack it in an instance
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - A release is accepted if its digest is the pinned one, and if at least as many of its signers as the catalogue
    requires have signed it. Anything else is refused, and nothing is installed.
  - It is kept in a content-addressed store on the controller, so that it is downloaded once.
  - From a signed apt repository, the newest package that is not below the floor is taken. Its lists are accepted if one
    of its signers has signed them, they have not expired, and no newer ones were accepted before.
  - The manifest of a registry's image has the pinned digest, and names all its parts by digest.
  - Releases that a package manager downloads, with the same pins, are left to it.
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
  keys_path:
    description: The directory of the OpenPGP keys of its signers, as RV(bcm.core.plan#module:plan) has it for an image.
    type: path
    required: true
  chain:
    description: The chain. On every chain except V(regtest), downloads go through Tor unless O(artifact_proxy) says
      otherwise.
    type: str
    required: true
  downloads:
    description:
      - How the release is downloaded if O(artifact_proxy) is not set, as RV(bcm.core.plan#module:plan) has it for an
        image.
      - With a C(proxy), through C(socks) as that instance of O(project) reaches it, by a port of this machine that is
        there as long as it takes.
      - Without one, through the tor of this machine if it runs one, otherwise directly.
    type: dict
  instance:
    description: The instance to unpack in.
    type: str
  dest:
    description:
      - The directory to unpack to, in the instance. An image needs one of its own.
      - A package of a repository is written there as C(NAME.deb), for apt to install.
    type: str
  members:
    description:
      - The paths to unpack from an archive, relative to its top directory. They keep their relative paths below
        O(dest).
      - Of an image, the files and folders to unpack, with what is below these; all of it if this is left out. Files
        that a later layer removes are not there.
      - All files belong to root, with mode V(0755) or V(0644).
    type: list
    elements: str
  artifact_source:
    description:
      - A directory, or the address of a server, that has releases as C(STACK/VERSION/NAME), and apt repositories below
        C(STACK); they are then not downloaded from upstream. C(bcm artifact export) writes such a directory.
    type: str
  artifact_proxy:
    description:
      - A SOCKS proxy, such as V(socks5h://127.0.0.1:9050), or an empty string for none.
      - The default is what O(downloads) says, otherwise Tor at V(socks5h://127.0.0.1:9050) on every chain except
        regtest, and none on regtest.
      - An address of a private network is connected to directly, since Tor cannot reach it.
    type: str
  artifact_keys:
    description:
      - More sources of OpenPGP keys, tried after O(keys_path). A directory, an address with C({fingerprint}) in it, a
        key server such as C(hkps://keys.example.org), or V(wkd) for the web key directories of the signers' mail
        addresses.
    type: list
    elements: str
    default: []
  artifact_store:
    description: The store. The default is C(bcm/artifacts) in C(XDG_CACHE_HOME) or C(~/.cache).
    type: path
seealso:
  - module: bcm.core.plan
  - module: bcm.core.image
"""

EXAMPLES = r"""
- name: Fetch and verify a release
  bcm.core.artifact:
    artifact: "{{ bcm_image.artifact }}"
    keys_path: "{{ bcm_image.keys_path }}"
    chain: mainnet

- name: Unpack it in a builder
  bcm.core.artifact:
    artifact: "{{ bcm_image.artifact }}"
    keys_path: "{{ bcm_image.keys_path }}"
    chain: mainnet
    instance: "{{ inventory_hostname }}"
    dest: /usr/local
    members: [bin/bitcoind, bin/bitcoin-cli]
"""

RETURN = r"""
releases:
  description: The releases in the store; empty if a package manager downloads them.
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
      description: SHA-256 of the parts of an image.
      type: list
      elements: str
    evidence:
      description: Names of sums, signatures and keys, with their SHA-256.
      type: dict
    signers:
      description: The signers whose signatures count.
      type: list
      elements: str
    explained:
      description: One line that says who signed, whose signature does not count, and why.
      type: str
      sample: "achow101, fanquake, hebasto signed, 3 of 19 needed"
"""
