# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of NBXplorer, written from its documentation and source (2.6.7).

It reads the configuration that the real one reads, runs its migrations first, connects to bitcoind as a peer and by
RPC, makes the calls that the real one makes, reads the real blocks and mempool, and answers the part of the API that
BTCPay Server needs here. What the real one would refuse, it refuses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import struct
import sys
import threading
import time
import traceback
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from postgres_wire import Database, DatabaseError, literal

_MAGIC = {"mainnet": "f9beb4d9", "testnet": "0b110907", "signet": "0a03cf40", "regtest": "fabfb5da"}
_FOLDERS = {"mainnet": "Main", "testnet": "TestNet", "signet": "Signet", "regtest": "RegTest"}
_PREFIXES = {"mainnet": "bc", "testnet": "tb", "signet": "tb", "regtest": "bcrt"}
#: the calls that it makes with no more than what follows from a transaction or block
_CALLS = (
    *("estimatesmartfee", "getbestblockhash", "getblockchaininfo", "getblockfrompeer", "getblockhash"),
    *("getblockheader", "getindexinfo", "getmempoolentry", "getmempoolinfo", "getnetworkinfo", "getpeerinfo"),
    *("getrawtransaction", "gettxout", "gettxoutproof", "scantxoutset", "sendrawtransaction", "testmempoolaccept"),
    *("utxoupdatepsbt", "validateaddress", "verifytxoutproof"),
)
_MIGRATIONS = {
    "001.Migrations": "CREATE TABLE nbxv1_migrations (script_name TEXT NOT NULL PRIMARY KEY,"
    " executed_at timestamptz DEFAULT CURRENT_TIMESTAMP)",
    "002.Model": "CREATE TABLE blks (code TEXT NOT NULL, blk_id TEXT NOT NULL, height BIGINT, confirmed BOOLEAN,"
    " PRIMARY KEY (code, blk_id));"
    "CREATE TABLE descriptors (code TEXT NOT NULL, descriptor TEXT NOT NULL, next_idx BIGINT, gap BIGINT,"
    " PRIMARY KEY (code, descriptor));"
    "CREATE TABLE descriptors_scripts (code TEXT NOT NULL, descriptor TEXT NOT NULL, idx BIGINT, script TEXT NOT NULL,"
    " addr TEXT NOT NULL, PRIMARY KEY (code, descriptor, idx));"
    "CREATE TABLE outs (code TEXT NOT NULL, tx_id TEXT NOT NULL, idx BIGINT, script TEXT NOT NULL, value BIGINT,"
    " blk_height BIGINT, PRIMARY KEY (code, tx_id, idx))",
}
_GAP = 30


class ConfigException(Exception):
    """What the real one calls an exception that ends it, or its try to connect."""


def log(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def own_version() -> str:
    """That of the image which it is in."""
    return (Path(__file__).parent / "version").read_text()


def read_configuration(argv: list[str]) -> dict[str, str]:
    """Command line, then the file; a dot in a name may be left out. Raises ConfigException."""
    given = dict(word.removeprefix("--").split("=", 1) for word in argv)
    path = Path(given["conf"])
    if not path.is_file():
        raise ConfigException(f"The configuration file {path} does not exist")
    found = {}
    for line in path.read_text().splitlines():
        if line.strip() and line[0] not in "#;/[":
            key, separator, value = line.partition("=")
            if not separator:
                raise ConfigException(f"Unrecognized line format: '{line}'")
            if key.strip().lower() in found:
                raise ConfigException(f"A duplicate key '{key}' was found")
            found[key.strip().lower()] = value.strip()
    return {**found, **given}


class Node:
    """bitcoind, by RPC."""

    def __init__(self, configuration: dict[str, str]) -> None:
        place = urlsplit(configuration["btc.rpc.url"])
        self._place = (place.hostname or "", place.port or 0)
        login = f"{configuration['btc.rpc.user']}:{configuration['btc.rpc.password']}"
        self._headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}

    def ask(self, method: str, *params: Any, is_tried: bool = False) -> Any:
        """Result of a call; what a call answers that is only tried does not matter. Raises ConfigException."""
        connection = HTTPConnection(*self._place, timeout=60)
        try:
            body = json.dumps({"id": 1, "method": method, "params": params})
            connection.request("POST", "/", body, self._headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            raise ConfigException(f"Error connecting to RPC server {error}") from error
        finally:
            connection.close()
        if answer.status in (401, 403):
            raise ConfigException(f"bitcoind answers {method} with status {answer.status}")
        found = json.loads(text)
        if found.get("error") and not is_tried:
            raise ConfigException(f"bitcoind answers {method} with {found['error']}")
        return found.get("result")

    def test(self) -> None:
        """All calls that it may make later. Raises ConfigException."""
        self.ask("getblockchaininfo")
        for method in _CALLS:
            self.ask(method, "random", is_tried=True)
        if self.ask("getnetworkinfo")["version"] < 240000:
            raise ConfigException("The minimum node version required is 240000")


class Peer:
    """A connection with bitcoind as a peer."""

    def __init__(self, endpoint: str, magic: str) -> None:
        host, port = endpoint.rsplit(":", 1)
        self._magic = bytes.fromhex(magic)
        self._socket = socket.create_connection((host, int(port)), 30)
        self.agent = f"NBXplorer-{secrets.randbits(62)}"
        address = bytes(26)
        agent = self.agent.encode()
        body = struct.pack("<iQq", 70016, 0, int(time.time())) + address * 2 + secrets.token_bytes(8)
        self.send("version", body + bytes([len(agent)]) + agent + struct.pack("<i?", 0, True))
        wanted = {"version", "verack"}
        while wanted:
            command, _body = self.receive()
            wanted.discard(command)
            if command == "version":
                self.send("verack")
        self._socket.settimeout(None)
        self.send("sendheaders")

    def close(self) -> None:
        self._socket.close()

    def send(self, command: str, body: bytes = b"") -> None:
        head = self._magic + command.encode().ljust(12, b"\0") + struct.pack("<I", len(body)) + sha256d(body)[:4]
        self._socket.sendall(head + body)

    def receive(self) -> tuple[str, bytes]:
        """The next message; a ping is answered. Raises OSError."""
        head = self._read(24)
        if head[:4] != self._magic:
            raise OSError("the peer is on another chain")
        body = self._read(struct.unpack("<I", head[16:20])[0])
        command = head[4:16].rstrip(b"\0").decode()
        if command == "ping":
            self.send("pong", body)
        return command, body

    def _read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            part = self._socket.recv(count - len(found))
            if not part:
                raise OSError("the peer hung up")
            found += part
        return bytes(found)


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class Reader:
    """Reads what a peer sends."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def count(self) -> int:
        first = self.number(1)
        return first if first < 0xFD else self.number({0xFD: 2, 0xFE: 4, 0xFF: 8}[first])

    def transaction(self) -> tuple[str, list[tuple[str, int]]]:
        """Its id, and script and value of each output."""
        start = self.at
        version, body = self.take(4), b""
        has_witness = self.data[self.at : self.at + 2] == b"\0\1"
        if has_witness:
            self.at += 2
        start = self.at
        inputs = self.count()
        for _unused in range(inputs):
            self.take(36)
            self.take(self.count())
            self.take(4)
        outputs = []
        for _unused in range(self.count()):
            value = self.number(8)
            outputs.append((self.take(self.count()).hex(), value))
        body = self.data[start : self.at]
        if has_witness:
            for _unused in range(inputs):
                for _item in range(self.count()):
                    self.take(self.count())
        return sha256d(version + body + self.take(4))[::-1].hex(), outputs


# -- addresses of wallets ---------------------------------------------------------------------------------------------

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
_Point = tuple[int, int]
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def added(a: _Point | None, b: _Point | None) -> _Point | None:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if a[1] != b[1]:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, _P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def multiplied(factor: int, point: _Point | None = _G) -> _Point | None:
    found = None
    while factor:
        if factor & 1:
            found = added(found, point)
        point = added(point, point)
        factor >>= 1
    return found


def read_key(text: str) -> tuple[bytes, bytes]:
    """Chain code and public key of an extended public key. Raises ValueError."""
    number = 0
    for letter in text:
        number = number * 58 + _BASE58.index(letter)
    data = number.to_bytes(82, "big")
    if sha256d(data[:78])[:4] != data[78:] or data[45] not in (2, 3):
        raise ValueError("Invalid derivation scheme")
    return data[13:45], data[45:78]


def derived(chain: bytes, key: bytes, index: int) -> tuple[bytes, bytes]:
    """A child of an extended public key."""
    digest = hmac.digest(chain, key + struct.pack(">I", index), "sha512")
    x = int.from_bytes(key[1:], "big")
    y = pow(x**3 + 7, (_P + 1) // 4, _P)
    parent = (x, y if y % 2 == key[0] % 2 else _P - y)
    child = added(multiplied(int.from_bytes(digest[:32], "big")), parent)
    if child is None:
        raise ValueError("there is no such key")
    return digest[32:], bytes([2 + child[1] % 2]) + child[0].to_bytes(32, "big")


def address_of(program: bytes, prefix: str) -> str:
    """The address of a witness program of version 0 (BIP 173)."""
    bits = "".join(f"{byte:08b}" for byte in program)
    values = [0, *(int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5))]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = 1
    for value in (*expanded, *values, *[0] * 6):
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for at, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> at & 1 else 0
    check ^= 1
    values += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return f"{prefix}1{''.join(_BECH32[value] for value in values)}"


# -- the explorer ------------------------------------------------------------------------------------------------------


class Explorer:
    """What it knows, and what it does to learn it."""

    def __init__(self, configuration: dict[str, str]) -> None:
        self.network = configuration["network"]
        self.configuration = configuration
        self.database = Database(configuration["postgres"])
        self.node = Node(configuration)
        self.folder = Path(configuration["datadir"]) / _FOLDERS[self.network]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ready = self.folder / "btc_fully_synched"
        self.state, self.height, self.tip = "NotStarted", -1, ""
        self.scripts: set[str] = set()
        self.chains: dict[str, tuple[bytes, bytes]] = {}

    def migrate(self) -> None:
        try:
            done = {row[0] for row in self.database.query("SELECT script_name FROM nbxv1_migrations")}
        except DatabaseError as error:
            if error.code != "42P01":
                raise
            done = set()
        for name, script in _MIGRATIONS.items():
            if name not in done:
                log(f"Execute script {name}...")
                self.database.query(f"{script}; INSERT INTO nbxv1_migrations VALUES ({literal(name)})")
        rows = self.database.query("SELECT script FROM descriptors_scripts")
        self.scripts = {str(row[0]) for row in rows}

    def run(self) -> None:
        delay = 0
        while True:
            try:
                self.index()
            except (ConfigException, OSError, DatabaseError) as error:
                log(f"Unhandled exception in the indexer, retrying in {delay} seconds: {error}")
            except Exception:
                log(traceback.format_exc())
                os._exit(1)
            self.state = "NotStarted"
            self.ready.unlink(missing_ok=True)
            time.sleep(delay)
            delay = min(delay + 1, 5)

    def index(self) -> None:
        peer = Peer(self.configuration["btc.node.endpoint"], _MAGIC[self.network])
        try:
            log("Handshaked")
            self.node.test()
            own = [item for item in self.node.ask("getpeerinfo") if item["subver"].strip("/") == peer.agent]
            if not own or "noban" not in own[0]["permissions"]:
                raise ConfigException("Your NBXplorer server is not whitelisted by your node")
            log("NBXplorer is correctly whitelisted by the node")
            chain = self.node.ask("getblockchaininfo")
            while chain["initialblockdownload"] and chain["headers"]:
                self.state = "CoreSynching"
                time.sleep(1)
                chain = self.node.ask("getblockchaininfo")
            self.state = "NBXplorerSynching"
            self.locate()
            self.ask_headers(peer)
            self.update()
            while True:
                self.hear(peer, *peer.receive())
        finally:
            peer.close()

    def locate(self) -> None:
        """Where it left off, or where bitcoind is. Raises ConfigException."""
        rows = self.database.query("SELECT blk_id, height FROM blks ORDER BY height DESC LIMIT 1")
        if rows and rows[0][1] is not None:
            self.tip, self.height = str(rows[0][0]), int(rows[0][1])
            return
        start = int(self.configuration.get("btc.startheight", -1))
        self.tip = self.node.ask("getbestblockhash") if start < 0 else self.node.ask("getblockhash", start)
        self.height = int(self.node.ask("getblockheader", self.tip)["height"])

    def ask_headers(self, peer: Peer) -> None:
        locator = [bytes.fromhex(self.tip)[::-1]]
        body = struct.pack("<i", 70016) + bytes([len(locator)]) + b"".join(locator) + bytes(32)
        peer.send("getheaders", body)

    def hear(self, peer: Peer, command: str, body: bytes) -> None:
        reader = Reader(body)
        if command == "headers":
            hashes = []
            for _unused in range(reader.count()):
                hashes.append(sha256d(reader.take(80)))
                reader.count()
            for at in range(0, len(hashes), 10):
                self.ask_items(peer, 2, hashes[at : at + 10])
        elif command == "inv":
            items = [(reader.number(4), reader.take(32)) for _unused in range(reader.count())]
            self.ask_items(peer, 1, [item for kind, item in items if kind & 0xFF in (1, 5)])
            if any(kind & 0xFF == 2 for kind, _item in items):
                self.ask_headers(peer)
        elif command == "block":
            self.keep_block(sha256d(body[:80])[::-1].hex(), Reader(body[80:]))
        elif command == "tx":
            self.keep_transaction(reader, None)

    def ask_items(self, peer: Peer, kind: int, hashes: list[bytes]) -> None:
        if hashes:
            items = b"".join(struct.pack("<I", kind | 1 << 30) + item for item in hashes)
            count = bytes([len(hashes)]) if len(hashes) < 0xFD else b"\xfd" + struct.pack("<H", len(hashes))
            peer.send("getdata", count + items)

    def keep_block(self, name: str, reader: Reader) -> None:
        height = int(self.node.ask("getblockheader", name)["height"])
        for _unused in range(reader.count()):
            self.keep_transaction(reader, height)
        self.database.query(
            f"INSERT INTO blks VALUES ('BTC', {literal(name)}, {height}, TRUE) ON CONFLICT DO NOTHING"
        )  # fmt: skip
        self.tip, self.height = name, height
        self.update()

    def keep_transaction(self, reader: Reader, height: int | None) -> None:
        name, outputs = reader.transaction()
        for index, (script, value) in enumerate(outputs):
            if script in self.scripts:
                at = literal(height)
                self.database.query(
                    f"INSERT INTO outs VALUES ('BTC', {literal(name)}, {index}, {literal(script)}, {value}, {at})"
                    f" ON CONFLICT (code, tx_id, idx) DO UPDATE SET blk_height = {at}"
                )

    def update(self) -> None:
        chain = self.node.ask("getblockchaininfo")
        self.state = "Ready" if chain["headers"] - self.height < 6 else "NBXplorerSynching"
        if self.state == "Ready":
            self.ready.write_text(str(int(time.time())))

    # -- what it answers ----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "isFullySynched": False,
            "networkType": self.network.capitalize(),
            "cryptoCode": "BTC",
            "version": own_version(),
            "instanceName": "",
            "syncHeight": None if self.height < 0 else self.height,
            "chainHeight": 0,
        }
        if self.state == "NotStarted":
            return found
        try:
            chain = self.node.ask("getblockchaininfo")
        except ConfigException:
            return found
        is_downloading = chain["initialblockdownload"] and chain["headers"]
        is_synched = not is_downloading and chain["headers"] - chain["blocks"] <= 6
        found["chainHeight"] = chain["headers"]
        found["bitcoinStatus"] = {key: chain[key] for key in ("blocks", "headers")} | {"isSynched": is_synched}
        found["isFullySynched"] = is_synched and self.state == "Ready" and chain["headers"] - self.height < 3
        return found

    def track(self, scheme: str) -> None:
        """Follow a wallet of P2WPKH. Raises ValueError."""
        self.receiving(scheme)
        rows = self.database.query(f"SELECT gap FROM descriptors WHERE descriptor = {literal(scheme)}")
        if not rows:
            self.database.query(f"INSERT INTO descriptors VALUES ('BTC', {literal(scheme)}, 0, 0)")
        self.grow(scheme)

    def receiving(self, scheme: str) -> tuple[bytes, bytes]:
        """The key of which addresses are derived. Raises ValueError."""
        if scheme not in self.chains:
            self.chains[scheme] = derived(*read_key(scheme), 0)
        return self.chains[scheme]

    def grow(self, scheme: str) -> None:
        """Have ready the addresses that may be used next."""
        where = f"descriptor = {literal(scheme)}"
        ((next_index, gap),) = self.database.query(f"SELECT next_idx, gap FROM descriptors WHERE {where}")
        for index in range(int(gap or 0), int(next_index or 0) + _GAP):
            _chain, own = derived(*self.receiving(scheme), index)
            program = hashlib.new("ripemd160", hashlib.sha256(own).digest()).digest()
            script, address = f"0014{program.hex()}", address_of(program, _PREFIXES[self.network])
            self.scripts.add(script)
            self.database.query(
                f"INSERT INTO descriptors_scripts VALUES ('BTC', {literal(scheme)}, {index}, {literal(script)},"
                f" {literal(address)}) ON CONFLICT DO NOTHING; UPDATE descriptors SET gap = {index + 1} WHERE {where}"
            )

    def unused(self, scheme: str) -> dict[str, Any]:
        """The next address, which is reserved. Raises KeyError if the wallet is not tracked."""
        where = f"descriptor = {literal(scheme)}"
        rows = self.database.query(
            f"UPDATE descriptors SET next_idx = next_idx + 1 WHERE {where} RETURNING next_idx - 1"
        )  # fmt: skip
        if not rows:
            raise KeyError(scheme)
        index = int(rows[0][0] or 0)
        self.grow(scheme)
        ((script, address),) = self.database.query(
            f"SELECT script, addr FROM descriptors_scripts WHERE {where} AND idx = {index}"
        )
        return {"scriptPubKey": script, "address": address, "keyPath": f"0/{index}", "feature": "Deposit"}

    def utxos(self, scheme: str) -> dict[str, Any]:
        rows = self.database.query(
            "SELECT o.tx_id, o.idx, o.script, o.value, o.blk_height, s.addr FROM outs o JOIN descriptors_scripts s"
            f" ON s.script = o.script WHERE s.descriptor = {literal(scheme)}"
        )
        found: dict[str, list[dict[str, Any]]] = {"confirmed": [], "unconfirmed": []}
        for name, index, script, value, height, address in rows:
            confirmations = 0 if height is None else self.height - int(height) + 1
            found["confirmed" if confirmations else "unconfirmed"].append({
                "transactionHash": name, "index": int(index or 0), "scriptPubKey": script, "address": address,
                "value": int(value or 0), "confirmations": confirmations,
            })  # fmt: skip
        return {kind: {"utxOs": items} for kind, items in found.items()}


class Handler(BaseHTTPRequestHandler):
    """Its API, as far as it is needed."""

    protocol_version = "HTTP/1.1"
    explorer: Explorer

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def respond(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        steps = [unquote(step) for step in urlsplit(self.path).path.strip("/").split("/")]
        if [step.lower() for step in steps[:3]] != ["v1", "cryptos", "btc"]:
            self.answer(404, {"code": "not-found"})
            return
        try:
            match (self.command, *steps[3:]):
                case ("GET", "status"):
                    self.answer(200, self.explorer.status())
                case ("POST", "derivations", scheme):
                    self.answer(200, self.explorer.track(scheme))
                case ("GET", "derivations", scheme, "addresses", "unused"):
                    self.answer(200, self.explorer.unused(scheme))
                case ("GET", "derivations", scheme, "utxos"):
                    self.answer(200, self.explorer.utxos(scheme))
                case _unknown:
                    self.answer(404, {"code": "not-found"})
        except (ValueError, KeyError) as error:
            self.answer(400, {"code": "invalid-derivation", "message": str(error)})
        except (DatabaseError, OSError) as error:
            self.answer(500, {"code": "internal", "message": str(error)})

    do_GET = do_POST = respond

    def log_message(self, *args: Any) -> None:
        pass


def main() -> None:
    log(f"NBXplorer version {own_version()}")
    try:
        configuration = read_configuration(sys.argv[1:])
        if configuration.get("network") not in _MAGIC:
            raise ConfigException(f"Invalid network parameter '{configuration.get('network')}'")
        if configuration.get("noauth") != "1" or configuration.get("nowarmup") != "1":
            raise ConfigException("The double keeps no cookie, and mines no blocks")
        explorer = Explorer(configuration)
    except (ConfigException, ValueError, KeyError) as error:
        # As the real one, it says why, and ends with success.
        log(f"Configuration: {error}")
        return
    explorer.migrate()
    threading.Thread(target=explorer.run, daemon=True).start()
    Handler.explorer = explorer
    server = ThreadingHTTPServer((configuration["bind"], int(configuration["port"])), Handler)
    log(f"Now listening on: http://{configuration['bind']}:{configuration['port']}")
    server.serve_forever()


if __name__ == "__main__":
    main()
