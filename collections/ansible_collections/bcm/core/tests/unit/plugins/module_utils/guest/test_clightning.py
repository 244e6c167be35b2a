# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.clightning import Lightningd, addresses
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault, Refused


@contextmanager
def answering(directory: Path, *parts: bytes) -> Iterator[list[dict[str, Any]]]:
    """A lightningd that answers one request in several parts; what it was asked."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "lightning-rpc"))
        server.listen()

        def serve() -> None:
            connection, _unused = server.accept()
            with connection:
                asked.append(json.loads(connection.recv(65536)))
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def test_result_may_come_in_parts(tmp_path: Path) -> None:
    with answering(tmp_path, b'{"jsonrpc":"2.0","id":"bcm","res', b'ult":{"a":"b\\n\\n"}}', b"\n\n") as asked:
        assert Lightningd(str(tmp_path)).call("listconfigs", config="proxy") == {"a": "b\n\n"}
    assert asked == [{"jsonrpc": "2.0", "id": "bcm", "method": "listconfigs", "params": {"config": "proxy"}}]


def test_error_is_told_with_its_code(tmp_path: Path) -> None:
    with (
        answering(tmp_path, b'{"id":"bcm","error":{"code":-32601,"message":"Unknown command"}}\n\n'),
        pytest.raises(Refused, match="it answers fly with an error: Unknown command") as refused,
    ):
        Lightningd(str(tmp_path)).call("fly")
    assert refused.value.status == -32601


@pytest.mark.parametrize("parts", [(), (b'{"id":',)])
def test_broken_answer_is_a_fault(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    with answering(tmp_path, *parts), pytest.raises(Fault, match="nothing answers at"):
        Lightningd(str(tmp_path)).info()


def test_missing_socket_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="nothing answers at"):
        Lightningd(str(tmp_path)).info()


def test_addresses_are_those_that_it_announces() -> None:
    assert addresses({"address": [{"type": "torv3", "address": "a.onion", "port": 9735}]}) == ["a.onion:9735"]
    assert addresses({}) == []
