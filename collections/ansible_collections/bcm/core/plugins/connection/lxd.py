# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: lxd
author: Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
short_description: Run tasks in LXD and Incus instances through the REST API
version_added: 0.1.0
description:
  - Runs commands and copies files over the REST API of LXD or Incus. It needs neither an SSH server in the instance nor
    the program C(lxc) on the controller.
  - One shell per task and host runs in the instance and receives all commands and files of that task, so a command
    costs about a millisecond.
  - The endpoint may be a unix socket, C(https://) or C(ssh://), so instances on other machines are reached in the same
    way.
extends_documentation_fragment:
  - bcm.core.lxd.plugin
options:
  instance:
    description:
      - Name of the instance.
      - Ansible itself sets C(ansible_host) to the name of the host that a task is delegated to. Where it holds an
        address, set C(bcm_lxd_instance).
    type: str
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: bcm_lxd_instance
  remote_user:
    description:
      - User of the instance that runs the commands, with all its groups.
      - A user other than V(root) needs C(setpriv) in the instance (Debian has it in C(util-linux)).
    type: str
    default: root
    env:
      - name: ANSIBLE_REMOTE_USER
    ini:
      - section: defaults
        key: remote_user
    keyword:
      - name: remote_user
    vars:
      - name: ansible_user
  pipelining:
    description:
      - Pass modules directly to the interpreter, without a file.
      - Unlike with other connections, this is the default.
    type: bool
    default: true
    env:
      - name: ANSIBLE_PIPELINING
    ini:
      - section: defaults
        key: pipelining
      - section: connection
        key: pipelining
    vars:
      - name: ansible_pipelining
  become_timeout:
    description: Seconds that C(become) may take to ask for its password and to accept it.
    type: float
    default: 30.0
    vars:
      - name: bcm_become_timeout
  command_timeout:
    description:
      - Seconds that a command, or the transfer of a file, may take. Commands that build software take long.
    type: float
    default: 7200.0
    vars:
      - name: bcm_command_timeout
notes:
  - A command may write at most 64 MiB to each output. If it writes more, the host becomes unreachable.
  - The instance has to be running. If it is missing or stopped, or the endpoint does not answer, the host is
    unreachable, and the message says which it was.
  - An instance needs C(sh) and C(dd); all of Debian, Ubuntu, Fedora and Alpine have them.
  - Processes that a command leaves in the background continue, but their later output is not read.
  - Become methods that insist on a terminal (C(machinectl)) do not work.
seealso:
  - plugin: bcm.core.lxd
    plugin_type: inventory
"""

EXAMPLES = r"""
# An inventory of its own for one instance. The inventory plugin bcm.core.lxd sets all of this by itself.
all:
  hosts:
    tor:
  vars:
    ansible_connection: bcm.core.lxd
    bcm_endpoint: ssh://root@node1.example
    bcm_project: bcm-local-regtest
"""

import os
import shlex
import typing as t

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase

from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._lxd import shell as _shell
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.plugin_utils._lxd_options import client_from

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult

_CHUNK = 1024 * 1024
_MOST = 64 * 1024 * 1024

_ENDPOINT_OPTIONS = ("endpoint", "project", "client_cert", "client_key", "server_cert", "server_timeout")

# A worker talks to several instances when tasks are delegated in a loop. Sockets are not shared with a parent process.
_clients: dict[tuple[t.Any, ...], Client] = {}


class Connection(ConnectionBase):
    """Commands and files of one instance."""

    transport = "bcm.core.lxd"
    has_pipelining = True
    has_tty = False
    default_user = "root"

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._session: _shell.Shell | None = None
        self._session_of: tuple[t.Any, ...] = ()

    @property
    def _instance(self) -> str:
        return self.get_option("instance")

    def _client(self) -> Client:
        options = {name: self.get_option(name) for name in _ENDPOINT_OPTIONS}
        options["timeout"] = options.pop("server_timeout")
        key = (os.getpid(), *options.values())
        if key not in _clients:
            _clients[key] = client_from(options)
        return _clients[key]

    def _connect(self) -> Connection:
        # The items of a loop share the connection, and may differ in all of these.
        wanted = tuple(self.get_option(name) for name in (*_ENDPOINT_OPTIONS, "instance", "remote_user"))
        if wanted != self._session_of:
            self.close()
        if self._session is None:
            user = self.get_option("remote_user") or "root"
            self._display.vvv(f"ESTABLISH LXD CONNECTION FOR USER: {user}", host=self._instance)
            try:
                client = self._client()
                entry = None if user == "root" else _shell.find_user(client, self._instance, user)
                self._session = _shell.Shell(client, self._instance, user=entry)
            except LxdError as error:  # its message is whole; Ansible would append those of what caused it
                raise AnsibleConnectionFailure(shown(str(error))) from None
            self._session_of = wanted
            self._connected = True
        return self

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        self._connected = False

    def reset(self) -> None:
        self.close()

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        self._display.vvv(f"EXEC {to_text(cmd)}", host=self._instance)
        prompting = sudoable and self.become is not None and self.become.expect_prompt()
        result = self._run(
            to_text(cmd, errors="surrogateescape"),
            stdin=[to_bytes(in_data)] if in_data else [],
            converse=_Password(self.become) if prompting else None,
            patience=self.get_option("become_timeout"),
        )
        if result.returncode and sudoable and self.become and not self.become.check_success(result.stdout):
            if self.become.check_incorrect_password(result.stderr):
                raise AnsibleAuthenticationFailure(f"Incorrect {self.become.name} password")
            if self.become.check_missing_password(result.stderr):
                raise AnsibleAuthenticationFailure(f"Missing {self.become.name} password")
        return result.returncode, result.stdout, result.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        self._display.vvv(f"PUT {in_path} TO {out_path}", host=self._instance)
        if not os.path.isfile(to_bytes(in_path, errors="surrogate_or_strict")):
            raise AnsibleFileNotFound(f"{in_path} is not a file of the controller")
        result = self._run(f"cat >{shlex.quote(out_path)}", stdin=_chunks(in_path))
        if result.returncode:
            raise AnsibleError(
                shown(f"Failed to write {out_path} in instance {self._instance}: {to_text(result.stderr).strip()}")
            )

    def fetch_file(self, in_path: str, out_path: str) -> None:
        self._display.vvv(f"FETCH {in_path} TO {out_path}", host=self._instance)
        with open(to_bytes(out_path, errors="surrogate_or_strict"), "wb") as sink:
            result = self._run(f"cat <{shlex.quote(in_path)}", sink=sink)
        if result.returncode:
            raise AnsibleError(
                shown(f"Failed to read {in_path} in instance {self._instance}: {to_text(result.stderr).strip()}")
            )

    def _run(self, command: str, **options: t.Any) -> ExecResult:
        self._connect()
        try:
            seconds = self.get_option("command_timeout")
            return t.cast(_shell.Shell, self._session).run(command, deadline=seconds, most=_MOST, **options)
        except BaseException as error:
            self.close()
            if isinstance(error, LxdError):
                raise AnsibleConnectionFailure(shown(str(error))) from None
            raise


class _Password:
    """Answers the one prompt of a become plugin, and knows when it is through."""

    def __init__(self, become: t.Any) -> None:
        self._become = become
        self._answered: tuple[int, int] | None = None

    def __call__(self, stdout: bytes, stderr: bytes) -> bytes | None:
        if self._become.check_success(stdout):
            return b""
        seen = self._answered or (0, 0)
        if any(self._become.check_password_prompt(text) for text in (stdout[seen[0] :], stderr[seen[1] :])):
            if self._answered:
                raise AnsibleAuthenticationFailure(f"Incorrect {self._become.name} password")
            self._answered = (len(stdout), len(stderr))
            return to_bytes(self._become.get_option("become_pass")) + b"\n"
        return None


def _chunks(path: str) -> Iterator[bytes]:
    with open(to_bytes(path, errors="surrogate_or_strict"), "rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
