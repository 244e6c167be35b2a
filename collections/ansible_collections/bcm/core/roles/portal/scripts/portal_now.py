# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How stacks are now: whether those answer that the portal reaches, and how high they are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from bcm_guest.prove import Endpoint, Fault, electrum, http_request, json_rpc
from bcm_guest.volume_files import read_file

#: ``needs`` of the plan, and the ``password`` for bitcoind
ASKED = Path("/etc/portal/asked.json")
USER = "portal"
_PATIENCE = 3.0  # seconds for all of them, who are asked at once
_SERVER_ERROR = 500  # what a page answers whose program is gone, from here on


def look_now(stacks: list[Mapping[str, Any]], patience: float = _PATIENCE) -> dict[str, str]:
    """What those of the stacks say now that can be asked, by name; an empty text if one does not answer in time.

    ``stacks`` as in what a run sends.
    """
    asked = json.loads(read_file(ASKED))
    paths = {stack["stack"]: page["path"] for stack in stacks for page in stack["web"][:1]}
    known = {stack["stack"] for stack in stacks}
    answers: dict[str, str] = {name: "" for name, services in asked["needs"].items() if services and name in known}
    threads = [
        Thread(target=_ask, args=(answers, name, asked, paths.get(name, "/")), daemon=True) for name in list(answers)
    ]
    end = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _ask(answers: dict[str, str], name: str, asked: Mapping[str, Any], path: str) -> None:
    """Write what a stack says, if it answers."""
    ((service, used),) = asked["needs"][name].items()
    question = _QUESTIONS.get(service, _page)
    try:
        answers[name] = question(Endpoint.of(used), asked["password"], path)
    except (Fault, OSError, ValueError, LookupError):
        pass  # which is what its empty answer says


def _blocks_of_node(place: Endpoint, password: str, _path: str) -> str:
    return f"height {int(json_rpc(place, 'getblockcount', credentials=f'{USER}:{password}'))}"


def _blocks_of_index(place: Endpoint, _password: str, _path: str) -> str:
    (tip,) = electrum(place, ("blockchain.headers.subscribe", []))
    return f"height {int(tip['height'])}"


def _page(place: Endpoint, _password: str, path: str) -> str:
    status, _body = http_request(place, path=path)
    if status >= _SERVER_ERROR:
        raise Fault(f"its page is answered with {status}")
    return "answers"


_QUESTIONS: dict[str, Callable[[Endpoint, str, str], str]] = {"rpc": _blocks_of_node, "electrum": _blocks_of_index}
