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
  - Runs one command, or several in order until one fails, over the API.
  - A command is finished when its own process ends. Processes that it leaves in the background continue, and their
    later output is not read.
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
      - Runs only commands that read (C(changed=false) and C(unless)), and reports which others would be run.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Depends on O(creates), O(unless) and O(changed).
options:
  instance:
    description: The name of the instance, which has to be running.
    type: str
    required: true
  argv: &argv
    description: A command and its arguments; no shell is involved.
    type: list
    elements: str
  unless: &unless
    description:
      - A command that only reads. Its success makes the command unnecessary.
      - It is also run in check mode.
    type: list
    elements: str
  creates: &creates
    description: An absolute path whose existence makes the command unnecessary.
    type: path
  stdin: &stdin
    description: The text for its standard input. Never shown.
    type: str
  environment: &environment
    description: Environment variables, which override those of the keyword C(environment) of the task and its play.
    type: dict
  user: &user
    description:
      - The user that runs it, with all its groups and with C(HOME) and C(USER) set. The default is V(root).
    type: str
  group: &group
    description: The group it runs as, instead of the user's own.
    type: str
  chdir: &chdir
    description:
      - The working directory, an absolute path. The default is the home of V(root), or V(/) if a user is given.
      - If it is not a directory, the command is not run, and the task fails.
    type: path
  changed: &changed
    description: V(false) says that it only reads. It then does not count as a change, and is also run in check mode.
    type: bool
    default: true
  accept: &accept
    description: Exit statuses that are not failures.
    type: list
    elements: int
    default: [0]
  sensitive: &sensitive
    description: Keep the command and its arguments out of results and messages. Its output is still returned.
    type: bool
    default: false
  progress: &progress
    description:
      - Shows progress from the lines of output that match a pattern. Such lines are left out of the result.
      - A carriage return also ends a line.
    type: dict
    suboptions:
      pattern:
        description: A regular expression that matches such a line.
        type: str
        required: true
      words:
        description:
          - The text to show, with the groups of the expression as C(\1).
          - C({count}) stands for the number of lines of this output that have matched.
        type: str
        required: true
  commands:
    description: Several commands, instead of one with the options above, which each of them has.
    type: list
    elements: dict
    suboptions:
      argv:
        <<: *argv
        required: true
      unless: *unless
      creates: *creates
      stdin: *stdin
      environment: *environment
      user: *user
      group: *group
      chdir: *chdir
      changed: *changed
      accept: *accept
      sensitive: *sensitive
      progress: *progress
  deadline:
    description: Seconds after which each command is killed.
    type: float
    default: 600.0
"""

EXAMPLES = r"""
- name: Create a wallet unless it exists
  bcm.core.lxd_exec:
    project: bcm-home-regtest
    instance: bitcoind
    argv: [bitcoin-cli, createwallet, savings]
    creates: /var/lib/bitcoind/regtest/wallets/savings

- name: Read the state of the chain
  bcm.core.lxd_exec:
    project: bcm-home-regtest
    instance: bitcoind
    argv: [bitcoin-cli, getblockchaininfo]
    changed: false
  register: chain

- name: Run several commands
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
  description: The result of each command, in order; those after a failure are missing.
  returned: always
  type: list
  elements: dict
  contains:
    argv:
      description: The command, unless it is sensitive.
      type: list
      elements: str
    executed:
      description: Whether it was run. V(false) if it was unnecessary or, in check mode, if it would change something.
      type: bool
    rc:
      description: Its exit status, if it was run.
      type: int
    stdout:
      description: Its standard output, if it was run.
      type: str
    stderr:
      description: Its standard error, if it was run.
      type: str
"""
