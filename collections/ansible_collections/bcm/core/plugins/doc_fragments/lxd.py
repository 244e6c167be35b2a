# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that every plugin talking to LXD or Incus shares."""

from __future__ import annotations

_ENDPOINT = r"""
  endpoint:
    description:
      - How the controller reaches the REST API of LXD or Incus.
      - C(unix:///path/to/socket) or just the path, C(https://host:8443) with O(client_cert) and O(client_key), or
        C(ssh://[user@]host[:port][/path/to/socket]), the remote socket through one multiplexed SSH connection.
      - The default is the socket of this machine, below E(LXD_DIR) or E(INCUS_DIR) if one of them is set, otherwise
        where LXD's snap, LXD's deb package or Incus create it.
      - If unset, E(BCM_ENDPOINT) is used.
    type: str
  client_cert:
    description:
      - File with the client certificate, in PEM, for C(https://).
      - If unset, E(BCM_CLIENT_CERT) is used.
    type: path
  client_key:
    description:
      - File with the key of O(client_cert), in PEM.
      - If unset, E(BCM_CLIENT_KEY) is used.
    type: path
  server_cert:
    description:
      - File with the server's certificate, in PEM, which is pinned by its fingerprint; or with the certificate of an
        authority that has signed the server's for the name in O(endpoint).
      - Without it, this machine has to trust the server's certificate.
      - If unset, E(BCM_SERVER_CERT) is used.
    type: path
  timeout:
    description: Seconds within which an answer of the server has to begin.
    type: float
    default: 30.0
"""

_PROJECT = r"""
  project:
    description:
      - The LXD project.
      - If unset, E(BCM_PROJECT) is used.
    type: str
    default: default
  target:
    description: The member of a cluster on which new resources are created.
    type: str
"""

_NOTES = r"""
notes:
  - Runs on the controller. It needs nothing installed on hosts or in instances.
"""


class ModuleDocFragment:
    """C(bcm.core.lxd); C(bcm.core.lxd.endpoint) without project and cluster member; C(bcm.core.lxd.plugin)."""

    # The same as in plugin_utils/_lxd_options.py. Annotated, since ansible-test expects a literal without that.
    DOCUMENTATION: str = f"options:{_ENDPOINT}{_PROJECT}{_NOTES}"
    ENDPOINT: str = f"options:{_ENDPOINT}{_NOTES}"

    # For connection and inventory, whose options come from the environment and from variables by themselves.
    PLUGIN = r"""
options:
  endpoint:
    description:
      - How the controller reaches the REST API of LXD or Incus.
      - C(unix:///path/to/socket) or just the path, C(https://host:8443) with O(client_cert) and O(client_key), or
        C(ssh://[user@]host[:port][/path/to/socket]), the remote socket through one multiplexed SSH connection.
      - The default is the socket of this machine, below E(LXD_DIR) or E(INCUS_DIR) if one of them is set, otherwise
        where LXD's snap, LXD's deb package or Incus create it.
    type: str
    env:
      - name: BCM_ENDPOINT
    vars:
      - name: bcm_endpoint
  project:
    description: The LXD project.
    type: str
    default: default
    env:
      - name: BCM_PROJECT
    vars:
      - name: bcm_project
  client_cert:
    description: File with the client certificate, in PEM, for C(https://).
    type: path
    env:
      - name: BCM_CLIENT_CERT
    vars:
      - name: bcm_client_cert
  client_key:
    description: File with the key of O(client_cert), in PEM.
    type: path
    env:
      - name: BCM_CLIENT_KEY
    vars:
      - name: bcm_client_key
  server_cert:
    description:
      - File with the server's certificate, in PEM, which is pinned by its fingerprint; or with the certificate of an
        authority that has signed the server's for the name in O(endpoint).
      - Without it, this machine has to trust the server's certificate.
    type: path
    env:
      - name: BCM_SERVER_CERT
    vars:
      - name: bcm_server_cert
  server_timeout:
    description: Seconds within which an answer of the server has to begin.
    type: float
    default: 30.0
    vars:
      - name: bcm_server_timeout
"""
