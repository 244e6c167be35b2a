#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_program
short_description: Run a program of Python in an LXD instance, JSON in, JSON out
version_added: 0.1.0
description:
  - Runs a program of the controller in an instance, as root, with the instance's own Python. It needs nothing there but
    the standard library, and leaves nothing behind.
  - The program reads O(request) as JSON from its standard input and prints one JSON object. It may import
    from the package C(bcm_guest), which is C(plugins/module_utils/_guest) of the collection. Its C(prove) has the loop
    with a deadline, JSON-RPC over HTTP, the Electrum protocol, and HTTP over a unix socket.
  - The task fails if the program ends with another exit status than 0, or prints anything else. The message has what it
    wrote to its standard error.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.group_lxd
attributes:
  check_mode:
    support: full
    details:
      - The program runs in check mode, too. One that changes something has to be told by O(request).
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - It counts as no change; use C(changed_when) for a program that changes something.
options:
  instance:
    description: The name of the instance, which has to run.
    type: str
    required: true
  program:
    description: The path of the program on the controller.
    type: path
    required: true
  request:
    description: What the program reads, as one JSON object. Never shown.
    type: dict
    default: {}
  then:
    description:
      - A program that runs after that one, unless it fails, in the same process. That takes half the time of two tasks.
      - If it fails, the task does not, since the answer of the first one counts nevertheless; see RV(then_fault).
    type: dict
    suboptions:
      program:
        description: The path of the program on the controller.
        type: path
        required: true
      request:
        description: What the program reads, as one JSON object. Never shown.
        type: dict
        default: {}
  sensitive:
    description:
      - Whether an answer has secrets. All is hidden from logs then, and messages do not quote what the program printed.
      - What it writes to its standard error is shown if it fails.
    type: bool
    default: false
  exclusive:
    description:
      - Whether the program waits until no other one with this is at work in the instance, for instance one that a run
        which was killed has left. It is for programs that change something. O(then) excludes none.
    type: bool
    default: false
  deadline:
    description: Seconds that the programs have. They are killed when these are over.
    type: float
    default: 600.0
"""

EXAMPLES = r"""
- name: Count the peers of bitcoind
  bcm.core.lxd_program:
    project: bcm-home-regtest
    instance: bitcoind
    program: "{{ playbook_dir }}/count_peers.py"
    request: {network: onion}
  register: counted

- name: Show how many there are
  ansible.builtin.debug:
    msg: "{{ counted.answer.peers }} peers"
"""

RETURN = r"""
answer:
  description: What the program printed.
  returned: success
  type: dict
  sample: {"peers": 8}
then_answer:
  description: What the program of O(then) printed.
  returned: success, with O(then), unless that failed
  type: dict
  sample: {"height": 101}
then_fault:
  description: Why the program of O(then) failed.
  returned: when it failed
  type: str
  sample: "verify.py in instance lnd failed: lnd: its height is 100, bitcoind's is 101"
"""
