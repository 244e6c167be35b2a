# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""This machine in place of an instance: commands are real processes, their streams real websockets, as of LXD."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd import streams

_BINARY, _TEXT, _CLOSE = (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_CLOSE)


def _socket(end: socket.socket) -> Any:
    """A websocket that needs no handshake."""
    made = websocket.WebSocket()
    made.sock, made.connected = end, True
    return made


class Instance:
    """A client whose instance is this machine; ``chunk`` is how many bytes LXD passes on at a time."""

    timeout = 5.0
    chunk = 7

    def __init__(self) -> None:
        self.ended = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []

    def wait(self, *_args: Any, **_kwargs: Any) -> dict[str, int]:
        return {"return": self.ended}

    def start(self, _client: Any, _instance: str, command: lxd_exec.Command) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        environment, argv = {**os.environ, **command.environment}, command.argv
        self.processes.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment))
        return self.processes[-1]

    def connect(self, _client: Any, process: Any, stack: contextlib.ExitStack) -> dict[str, Any]:
        pairs = {name: socket.socketpair() for name in ("0", "1", "2", "control")}
        ends = {name: _socket(ours) for name, (ours, _theirs) in pairs.items()}
        for ours, _theirs in pairs.values():
            stack.callback(ours.close)
            ours.settimeout(self.timeout)
        theirs = {name: _socket(theirs) for name, (_ours, theirs) in pairs.items()}
        for work in (self._feeds, self._controls, self._reaps):
            self._run(work, process, theirs)
        for name, file in (("1", process.stdout), ("2", process.stderr)):
            self._run(self._reads, file, theirs[name])
        return ends

    def _run(self, work: Any, *args: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def _feeds(self, process: Any, theirs: dict[str, Any]) -> None:
        with contextlib.suppress(*streams.BROKEN), process.stdin:
            while (frame := theirs["0"].recv_frame()).opcode == _BINARY:
                process.stdin.write(frame.data)

    def _reads(self, file: Any, theirs: Any) -> None:
        with contextlib.suppress(*streams.BROKEN), file:
            while data := file.read(self.chunk):
                theirs.send_binary(data)
            theirs.send("")

    def _controls(self, process: Any, theirs: dict[str, Any]) -> None:
        with contextlib.suppress(*streams.BROKEN):
            while (frame := theirs["control"].recv_frame()).opcode == _TEXT:
                process.send_signal(json.loads(frame.data)["signal"])

    def _reaps(self, process: Any, theirs: dict[str, Any]) -> None:
        """LXD closes this stream when the command ends, and the others when nobody holds them any more."""
        process.wait()
        with contextlib.suppress(*streams.BROKEN):
            theirs["control"].send(b"", _CLOSE)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def as_instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    """Everything that is run in an instance is run here."""
    instance = Instance()
    monkeypatch.setattr(lxd_exec, "start", instance.start)
    monkeypatch.setattr(streams, "connect", instance.connect)
    try:
        yield instance
    finally:
        instance.close()
