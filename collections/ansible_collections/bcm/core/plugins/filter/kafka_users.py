# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of Kafka for programs outside of the data center."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kafka_users
short_description: Make the users of programs that read events from elsewhere
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns the user of Kafka of each program in the variable C(kafka_clients), and its password.
  - A password is derived from one secret and the name of the program, so that no other one has it.
positional: secret
options:
  _input:
    description: The names of the programs.
    type: list
    elements: str
    required: true
  secret:
    description: The secret. Another one makes other passwords.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the users
  ansible.builtin.debug:
    msg: "{{ kafka_clients | bcm.core.kafka_users(bcm_secrets['kafka/clients']) | list }}"
"""

RETURN = r"""
_value:
  description: The password of each user.
  type: dict
  sample: {client_alice: 2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90}
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.module_utils._guest.kafka import client_login


def kafka_users(clients: t.Any, secret: t.Any) -> dict[str, str]:
    if not isinstance(secret, str) or not secret:
        raise AnsibleFilterError("kafka_users needs a secret that is not empty")
    return dict(client_login(str(name), secret) for name in clients)


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"kafka_users": kafka_users}
