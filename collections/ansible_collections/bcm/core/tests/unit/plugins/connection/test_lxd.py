# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection plugin's pure parts; the rest is the integration target connection_lxd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import shell_loader

from ansible_collections.bcm.core.plugins.connection import lxd
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError


class Become:
    """As much of a become plugin as is asked."""

    name = "sudo"

    def check_success(self, output: bytes) -> bool:
        return b"SUCCESS" in output

    def check_password_prompt(self, output: bytes) -> bool:
        return b"password:" in output

    def get_option(self, name: str) -> str:
        return "pw"


def test_password_is_given_once_and_only_when_asked() -> None:
    answer = lxd._Password(Become())
    assert answer(b"", b"") is None
    assert answer(b"", b"password:") == b"pw\n"
    assert answer(b"", b"password:") is None
    assert answer(b"SUCCESS\n", b"password:") == b""


def test_no_password_is_sent_without_a_prompt() -> None:
    assert lxd._Password(Become())(b"SUCCESS\n", b"") == b""


def test_second_prompt_means_a_wrong_password() -> None:
    answer = lxd._Password(Become())
    answer(b"", b"password:")
    with pytest.raises(AnsibleAuthenticationFailure, match="Incorrect sudo password") as caught:
        answer(b"", b"password: Sorry, try again.\npassword:")
    assert "pw" not in str(caught.value)


def test_file_is_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lxd, "_CHUNK", 4)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert list(lxd._chunks(str(tmp_path / "file"))) == [b"0123", b"4567", b"89"]


def test_lost_shell_makes_the_host_unreachable_and_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        closed = False

        def run(self, command: str, **options: Any) -> Any:
            raise LxdError("the shell ended")

        def close(self) -> None:
            self.closed = True

    options = {**dict.fromkeys(lxd._ENDPOINT_OPTIONS), "instance": "one", "remote_user": "root"}
    options |= {"become_timeout": 1.0, "command_timeout": 1.0}
    connection = lxd.Connection(PlayContext(), shell=shell_loader.get("sh"))
    monkeypatch.setattr(connection, "get_option", options.__getitem__)
    lost = Lost()
    connection._session, connection._connected = lost, True
    connection._session_of = (None,) * len(lxd._ENDPOINT_OPTIONS) + ("one", "root")
    with pytest.raises(AnsibleConnectionFailure, match="the shell ended"):
        connection.exec_command("true")
    assert lost.closed
    assert not connection.connected
