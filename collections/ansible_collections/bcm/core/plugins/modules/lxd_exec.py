#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_exec
short_description: Run commands in LXD instances
version_added: 0.1.0
description:
  - Runs one command, or several in order up to the first that fails, over the API.
  - A command is over when it ends itself. What it leaves running goes on, and what that writes later is not read.
  - A command that writes more than 16 MiB to one output is killed.
  - Needs C(setpriv) in the instance (Debian has it in C(util-linux)).
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
      - Commands that are unnecessary, and those that only read, are told from the others. Only the latter are run.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - As far as O(creates), O(unless) and O(changed) say so.
options:
  instance:
    description: The name of the instance, which has to run.
    type: str
    required: true
  argv:
    description: A command and its arguments; no shell takes part.
    type: list
    elements: str
  unless:
    description:
      - A command that only reads. Its success makes O(argv) unnecessary.
      - It is run in check mode too.
    type: list
    elements: str
  creates:
    description: An absolute path whose existence makes O(argv) unnecessary.
    type: path
  stdin:
    description: What it reads on its standard input. Never shown.
    type: str
  environment:
    description: Variables of its environment, over those of the keyword C(environment) of the task and its play.
    type: dict
  user:
    description:
      - The user that runs it, with all its groups and with C(HOME) and C(USER) set. V(root) if not given.
    type: str
  group:
    description: The group it runs as, instead of the user's own.
    type: str
  chdir:
    description:
      - Where it runs, an absolute path. If not given, the home of V(root), or V(/) with O(user).
      - It is not run if that is no directory.
    type: path
  changed:
    description: V(false) says that it only reads. It then counts as no change, and is run in check mode too.
    type: bool
    default: true
  accept:
    description: Exit statuses that are no failure.
    type: list
    elements: int
    default: [0]
  sensitive:
    description: Keep O(argv) out of results and messages. What the command writes is still returned.
    type: bool
    default: false
  progress:
    description:
      - How far the command is, by what it writes. That is shown while it runs, and such lines are in no result.
      - A carriage return ends a line, too.
    type: dict
    suboptions:
      pattern:
        description: A regular expression that such a line fits.
        type: str
        required: true
      words:
        description: What is shown, with the groups of the expression as C(\1).
        type: str
        required: true
  commands:
    description: Several commands, instead of one with the options above.
    type: list
    elements: dict
    suboptions:
      argv:
        description: A command and its arguments.
        type: list
        elements: str
        required: true
      unless:
        description:
          - A command that only reads. Its success makes this one unnecessary.
          - It is run in check mode too.
        type: list
        elements: str
      creates:
        description: An absolute path whose existence makes this one unnecessary.
        type: path
      stdin:
        description: What it reads on its standard input. Never shown.
        type: str
      environment:
        description: Variables of its environment, over those of the keyword C(environment) of the task and its play.
        type: dict
      user:
        description:
          - The user that runs it, with all its groups and with C(HOME) and C(USER) set. V(root) if not given.
        type: str
      group:
        description: The group it runs as, instead of the user's own.
        type: str
      chdir:
        description:
          - Where it runs, an absolute path. If not given, the home of V(root), or V(/) with O(commands[].user).
          - It is not run if that is no directory.
        type: path
      changed:
        description: V(false) says that it only reads. It then counts as no change, and is run in check mode too.
        type: bool
        default: true
      accept:
        description: Exit statuses that are no failure.
        type: list
        elements: int
        default: [0]
      sensitive:
        description: Keep O(commands[].argv) out of results and messages. What the command writes is still returned.
        type: bool
        default: false
      progress:
        description:
          - How far the command is, by what it writes. That is shown while it runs, and such lines are in no result.
          - A carriage return ends a line, too.
        type: dict
        suboptions:
          pattern:
            description: A regular expression that such a line fits.
            type: str
            required: true
          words:
            description: What is shown, with the groups of the expression as C(\1).
            type: str
            required: true
  deadline:
    description: Seconds that each command has. It is killed when they are over.
    type: float
    default: 600.0
"""

EXAMPLES = r"""
- name: A wallet, unless there is one
  bcm.core.lxd_exec:
    project: bcm-home-regtest
    instance: bitcoind
    argv: [bitcoin-cli, createwallet, savings]
    creates: /var/lib/bitcoind/regtest/wallets/savings

- name: What it knows of the chain
  bcm.core.lxd_exec:
    project: bcm-home-regtest
    instance: bitcoind
    argv: [bitcoin-cli, getblockchaininfo]
    changed: false
  register: chain

- name: Several at once
  bcm.core.lxd_exec:
    instance: web
    commands:
      - argv: [adduser, --system, web]
        unless: [id, web]
      - argv: [./configure]
        chdir: /srv/web
        user: web
"""

RETURN = r"""
commands:
  description: What became of each command, in order; those after a failure are missing.
  returned: always
  type: list
  elements: dict
  contains:
    argv:
      description: The command, unless it is sensitive.
      type: list
      elements: str
    executed:
      description: Whether it was run. It was not if it was unnecessary or, in check mode, if it would change something.
      type: bool
    rc:
      description: Its exit status, if it was run.
      type: int
    stdout:
      description: What it wrote, if it was run.
      type: str
    stderr:
      description: What it wrote to its standard error, if it was run.
      type: str
"""
