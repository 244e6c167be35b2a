# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each kind of Lightning node has to be copied, and how it tells of changes: ``bcm_guest.channel_backups``."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .prove import Endpoint, Fault, Waiting

#: A node that opens no channel for so long is asked in any case.
QUIET = 120.0  # seconds
# From the request for news until the node has heard it, at most.
_BEGINNING = 2.0  # seconds


@dataclass(frozen=True)
class Backup:
    """What brings the coins in channels back, encrypted by the node itself."""

    #: the public key of the node
    node: str
    #: the channels in it, each as the transaction that opened it, and the output
    points: list[str]
    #: in Base64
    content: str


class Node:
    """A Lightning node, by its REST API."""

    def __init__(self, place: Endpoint, credential: str) -> None:
        self.place = place
        self.credential = credential
        self._kept: http.client.HTTPConnection | None = None

    def listen(self, changed: Callable[[], None]) -> None:
        """Call at each change, until the connection ends. Raises OSError, HTTPException, Fault."""
        raise NotImplementedError

    def read(self) -> Backup:
        """The newest backup. Raises Fault; Waiting if the node is not at work yet."""
        raise NotImplementedError

    def channels(self) -> dict[str, dict[str, Any]]:
        """What is known of channels by their points, for people who restore them, and to compare. Raises Fault."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection on which it was asked."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _connected(self) -> http.client.HTTPConnection:
        found = http.client.HTTPConnection(self.place.address, self.place.port)
        found.sock = self.place.connect()
        return found

    def _stream(self) -> http.client.HTTPConnection:
        """A connection on which it sends news."""
        stream = self._connected()
        stream.sock.settimeout(QUIET)
        return stream

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: str = "") -> tuple[int, str]:
        """Status and body of an answer, on a connection that stays until `close`. Raises Fault."""
        try:
            if self._kept is None:
                self._kept = self._connected()
            self._kept.request(method, path, body or None, dict(headers))
            answer = self._kept.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Fault(f"nothing answers at {self.place}: {error!r}") from error


class Lnd(Node):
    """lnd tells of each change itself (SubscribeChannelBackups)."""

    @property
    def _headers(self) -> dict[str, str]:
        return {"Grpc-Metadata-macaroon": self.credential}

    def listen(self, changed: Callable[[], None]) -> None:
        stream = self._stream()
        try:
            stream.request("GET", "/v1/channels/backup/subscribe", headers=self._headers)
            # What changed before lnd heard that is found by these looks.
            changed()
            threading.Timer(_BEGINNING, changed).start()
            answer = stream.getresponse()
            while answer.readline():
                changed()
        finally:
            stream.close()

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What lnd answers; with a body, it is sent. Raises Fault."""
        status, text = self._request("POST" if body else "GET", path, self._headers, json.dumps(body) if body else "")
        if status != 200:
            raise Fault(f"lnd answers {path} with status {status}: {text[:200].strip()}")
        return dict(json.loads(text))

    def read(self) -> Backup:
        state = self._ask("/v1/state")["state"]
        if state != "SERVER_ACTIVE":
            waits = "it waits for blocks" if state == "RPC_ACTIVE" else f"its wallet is not open yet ({state})"
            raise Waiting(waits)
        backup = self._ask("/v1/channels/backup")["multi_chan_backup"]
        node = self._ask("/v1/getinfo")["identity_pubkey"]
        return Backup(node, sorted(map(_lnd_point, backup["chan_points"])), backup["multi_chan_backup"])

    def channels(self) -> dict[str, dict[str, Any]]:
        opened = self._ask("/v1/channels?peer_alias_lookup=true")["channels"]
        found = {
            item["channel_point"]: {"peer": item.get("peer_alias", ""), "public_key": item["remote_pubkey"]}
            | _lnd_amounts(item)
            for item in opened
        }
        for waiting in self._ask("/v1/channels/pending")["pending_open_channels"]:
            item = waiting["channel"]
            found[item["channel_point"]] = {"peer": "", "public_key": item["remote_node_pub"]} | _lnd_amounts(item)
        return found


def _lnd_amounts(item: Mapping[str, Any]) -> dict[str, int]:
    return {"capacity": int(item["capacity"]), "local": int(item["local_balance"])}


def _lnd_point(found: Mapping[str, Any]) -> str:
    transaction = found.get("funding_txid_str") or base64.b64decode(found["funding_txid_bytes"])[::-1].hex()
    return f"{transaction}:{found.get('output_index', 0)}"


class Clightning(Node):
    """Core Lightning sends all its notifications to clients of clnrest that may hear them, by Socket.IO.

    Its channel backup is the file emergency.recover. It is written after the notification, and holds all channels.
    Source: https://socket.io/docs/v4/engine-io-protocol/, with long polling alone.
    """

    _PATH = "/socket.io/?EIO=4&transport=polling"
    _NEWS = "channel_state_changed"
    # Of packets: the kinds of the first digits, and what is between two of them.
    _OPEN, _PING, _PONG, _CONNECT, _REFUSED, _END = "0", "2", "3", "40", "44", "\x1e"
    # From the notification until the file is there.
    _WRITING = 0.3  # seconds
    # States of a channel that the backup holds, and that is not closed on chain yet.
    _SAVED = frozenset({
        "CHANNELD_AWAITING_LOCKIN", "DUALOPEND_AWAITING_LOCKIN", "CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE",
        "CHANNELD_SHUTTING_DOWN", "CLOSINGD_SIGEXCHANGE", "CLOSINGD_COMPLETE", "AWAITING_UNILATERAL",
        "FUNDING_SPEND_SEEN",
    })  # fmt: skip

    def listen(self, changed: Callable[[], None]) -> None:
        stream = self._stream()
        try:
            opened = self._exchange(stream, "GET", self._PATH)
            path = f"{self._PATH}&sid={json.loads(opened.removeprefix(self._OPEN))['sid']}"
            self._exchange(stream, "POST", path, self._CONNECT)
            # As with lnd.
            changed()
            threading.Timer(_BEGINNING, changed).start()
            while True:
                for packet in self._exchange(stream, "GET", path).split(self._END):
                    if packet.startswith(self._REFUSED):
                        raise Fault(f"clightning refuses its notifications: {packet[2:200]}")
                    if packet == self._PING:
                        self._exchange(stream, "POST", path, self._PONG)
                    elif self._NEWS in packet:
                        changed()
                        threading.Timer(self._WRITING, changed).start()
        finally:
            stream.close()

    def _exchange(self, stream: http.client.HTTPConnection, method: str, path: str, body: str = "") -> str:
        headers = {"Rune": self.credential, "Content-Type": "text/plain;charset=UTF-8"}
        stream.request(method, path, body or None, headers)
        answer = stream.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status != 200:
            raise Fault(f"clightning answers {method} of its notifications with status {answer.status}: {text[:200]}")
        return text

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        headers = {"Rune": self.credential, "Content-Type": "application/json"}
        status, text = self._request("POST", f"/v1/{method}", headers, json.dumps(parameters) if parameters else "")
        if status != 201:
            raise Fault(f"clightning answers {method} with status {status}: {text[:200].strip()}")
        return dict(json.loads(text))

    def read(self) -> Backup:
        saved = self._ask("getemergencyrecoverdata")
        held = set(saved["backed_up_channel_ids"])
        channels = [item for item in self._ask("listpeerchannels")["channels"] if item["state"] in self._SAVED]
        if missing := [point_of(item) for item in channels if item["channel_id"] not in held]:
            raise Fault(f"its channel backup lacks {', '.join(missing)}")
        node = self._ask("getinfo")["id"]
        content = base64.b64encode(bytes.fromhex(saved["filedata"])).decode()
        return Backup(node, sorted(map(point_of, channels)), content)

    def channels(self) -> dict[str, dict[str, Any]]:
        found = self._ask("listpeerchannels")["channels"]
        return {
            point_of(item): {
                "peer": "",
                "public_key": item["peer_id"],
                "capacity": item["total_msat"] // 1000,
                "local": item["to_us_msat"] // 1000,
                "payments": payments_of(item),
            }
            for item in found
            if "funding_txid" in item
        }


def point_of(channel: Mapping[str, Any]) -> str:
    """A channel of Core Lightning as lnd writes it."""
    return f"{channel['funding_txid']}:{channel['funding_outnum']}"


def payments_of(channel: Mapping[str, Any]) -> int:
    """How many payments a channel of Core Lightning has had: a database with fewer of them is an old one."""
    return int(channel.get("in_payments_offered", 0)) + int(channel.get("out_payments_offered", 0))


#: stack -> its kind of node; meta/stack.yml of the stack backups has what it needs of each
NODES: dict[str, type[Node]] = {"clightning": Clightning, "lnd": Lnd}
