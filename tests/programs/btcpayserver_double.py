# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of BTCPay Server, written from the documentation of its API (Greenfield) and its source (2.4.1).

It reads the configuration that the real one reads, keeps users, stores and invoices in PostgreSQL, has its addresses
made and watched by NBXplorer and its invoices by lnd or Core Lightning, and answers a part of the API, and pages. What
the real one would refuse, it refuses: users who are not the administrator's, keys without the permission, too many
logins.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import html
import json
import os
import secrets
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from nbxplorer_double import ConfigException, log, own_version, read_configuration
from postgres_wire import Database, DatabaseError, literal

_FOLDERS = {"mainnet": "Main", "testnet": "TestNet", "signet": "Signet", "regtest": "RegTest"}
_INTERNAL = "Internal Node"
#: of its sources of rates, the one that the double knows
_EXCHANGE = "api.kraken.com"
_ADMINISTRATOR = "ServerAdmin"
#: seconds in which a new account may log in as often as it likes; then so many logins in a minute, and so many at once
_NEW, _RATE, _BURST = 300, 5, 3
#: the page of an invoice asks what became of it
_LOOK = """
<script>
setInterval(async () => {
  const found = await (await fetch(location.pathname + "/status")).json();
  document.getElementById("status").textContent = found.status;
}, 500);
</script>
"""
_MIGRATIONS = {
    "20170913_Init": 'CREATE TABLE "AspNetUsers" (id TEXT PRIMARY KEY, email TEXT UNIQUE, hash TEXT, roles TEXT,'
    " created BIGINT);"
    "CREATE TABLE keys (id TEXT PRIMARY KEY, label TEXT, permissions TEXT);"
    "CREATE TABLE stores (id TEXT PRIMARY KEY, name TEXT, methods TEXT);"
    "CREATE TABLE invoices (id TEXT PRIMARY KEY, store TEXT, amount TEXT, status TEXT, archived BOOLEAN DEFAULT FALSE,"
    " created BIGINT, bolt11 TEXT, hash TEXT, address TEXT);"
    "CREATE INDEX ON invoices (hash); CREATE INDEX ON invoices (address);"
    "CREATE TABLE settings (id TEXT PRIMARY KEY, value TEXT)",
    "20201108_Webhooks": "CREATE TABLE webhooks (id TEXT PRIMARY KEY, store TEXT, url TEXT, secret TEXT);"
    "CREATE TABLE deliveries (id TEXT PRIMARY KEY, webhook TEXT, status TEXT, error TEXT)",
}


class Refusal(Exception):
    """What the API answers in the place of a result."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Client:
    """HTTP to a service; TLS is verified with the roots that .NET finds."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        place = urlsplit(url)
        self._place, self._headers = (place.hostname or "", place.port), headers
        if place.scheme != "https":
            raise ConfigException(f"{url} is not encrypted")
        self._context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])

    def open(self, timeout: float) -> HTTPConnection:
        return HTTPSConnection(*self._place, timeout=timeout, context=self._context)

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Any:
        """The answer as JSON. Raises OSError, also for a status that is not 200."""
        connection = self.open(timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, self._headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise OSError(f"{method} {path} has status {answer.status}: {text[:200]!r}")
            return json.loads(text)
        except HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def lines(self, path: str) -> Iterator[Any]:
        """The objects that a stream has. Raises OSError."""
        connection = self.open(3600)
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"GET {path} has status {answer.status}")
            while line := answer.readline():
                yield json.loads(line)
        except HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()


def public_trust() -> ssl.SSLContext:
    """What .NET trusts: the file and the folder that the environment names, whose files need no names of hashes."""
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    for path in sorted(Path(os.environ["SSL_CERT_DIR"]).glob("*")) if "SSL_CERT_DIR" in os.environ else ():
        context.load_verify_locations(path)
    return context


def way_to(url: str, onions: str) -> socket.socket:
    """A connection to a web server by the proxy that .NET takes, to an onion address by ``onions``. Raises OSError."""
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    if host in os.environ.get("NO_PROXY", "").split(","):
        return socket.create_connection((host, port), 30)
    proxy = urlsplit(f"socks5://{onions}" if host.endswith(".onion") else os.environ["ALL_PROXY"])
    connection = socket.create_connection((proxy.hostname, proxy.port), 60)
    if proxy.scheme == "socks5":
        named = b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")
        with connection.makefile("rwb") as stream:
            for message, length in ((b"\x05\x01\x00", 2), (named, 10)):
                stream.write(message)
                stream.flush()
                if (answer := stream.read(length))[1:2] != b"\x00":
                    raise OSError(f"SOCKS server failed to connect to {host}: {answer.hex()}")
    return public_trust().wrap_socket(connection, server_hostname=host) if place.scheme == "https" else connection


class Lnd:
    """lnd, by its REST API."""

    #: what is shown to who may use the node
    shown: ClassVar = {
        "info": "/v1/getinfo", "balance": "/v1/balance/channels", "channels": "/v1/channels",
        "payments": "/v1/payments",
    }  # fmt: skip

    def __init__(self, words: dict[str, str]) -> None:
        bytes.fromhex(words["macaroon"])
        self._client = Client(words["server"], {"Grpc-Metadata-macaroon": words["macaroon"]})

    def look(self, what: str) -> Any:
        return self._client.ask("GET", self.shown[what])

    def pay(self, bolt11: str) -> Any:
        return self._client.ask("POST", "/v1/channels/transactions", {"payment_request": bolt11})

    def make(self, amount: str) -> tuple[str, str]:
        """An invoice and its hash, for so many thousandths of a satoshi. Raises OSError."""
        made = self._client.ask("POST", "/v1/invoices", {"value_msat": amount, "expiry": "900"}, 5)
        return made["payment_request"], base64.b64decode(made["r_hash"]).hex()

    def settled(self, last: int) -> Iterator[tuple[str, int]]:
        """The hashes of invoices that are paid, each with its number; those after the last one that is known."""
        for item in self._client.lines(f"/v1/invoices/subscribe?settle_index={last}"):
            invoice = item.get("result") or {}
            if invoice.get("state") == "SETTLED":
                yield base64.b64decode(invoice["r_hash"]).hex(), int(invoice["settle_index"])


class Clightning:
    """Core Lightning, by its unix socket, as the library BTCPayServer.Lightning uses it."""

    shown: ClassVar = {
        "info": "getinfo", "balance": "listfunds", "channels": "listpeerchannels", "payments": "listpays"
    }  # fmt: skip
    #: in the place of the number of the last payment: only those that come from now on
    _NONE = 99999999999

    def __init__(self, words: dict[str, str]) -> None:
        self._path = urlsplit(words["server"]).path
        if not words["server"].startswith("unix:///"):
            raise ConfigException("The key 'server' should be a path to the 'lightning-rpc' unix socket")

    def _call(self, method: str, *params: Any, timeout: float | None = 30) -> Any:
        """The result of a call, for which there is a connection. Raises OSError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(self._path)
            connection.sendall(json.dumps({"id": 0, "jsonrpc": "2.0", "method": method, "params": params}).encode())
            text = b""
            while more := connection.recv(1 << 16):
                text += more
                with contextlib.suppress(ValueError):
                    answer = json.loads(text)
                    break
            else:
                raise OSError(f"{method}: the socket was closed")
        if "error" in answer:
            raise OSError(answer["error"]["message"])
        return answer["result"]

    def look(self, what: str) -> Any:
        return self._call(self.shown[what])

    def pay(self, bolt11: str) -> Any:
        return self._call("pay", bolt11, None, None, None, None, None, None, None, None, None, None)

    def make(self, amount: str) -> tuple[str, str]:
        label = secrets.token_hex(20)
        made = self._call("invoice", amount, label, "", 900, None, None, False, timeout=5)
        (there,) = self._call("listinvoices", label)["invoices"]
        if there["label"] != label or there["status"] != "unpaid":
            raise OSError(f"the node has another invoice: {there}")
        return made["bolt11"], made["payment_hash"]

    def settled(self, last: int) -> Iterator[tuple[str, int]]:
        for invoice in self._call("listinvoices")["invoices"]:
            if invoice["status"] == "paid" and invoice["pay_index"] > last:
                yield invoice["payment_hash"], invoice["pay_index"]
        index = self._NONE
        while True:
            invoice = self._call("waitanyinvoice", index, timeout=None)
            index = invoice["pay_index"]
            yield invoice["payment_hash"], index


_NODES: dict[str, tuple[type[Lnd | Clightning], set[str]]] = {
    "lnd-rest": (Lnd, {"type", "server", "macaroon"}),
    "clightning": (Clightning, {"type", "server"}),
}


def read_node(text: str) -> Lnd | Clightning:
    """The node that a connection string says. Raises ConfigException."""
    words = dict(part.split("=", 1) for part in text.split(";"))
    if words.get("type") not in _NODES:
        raise ConfigException(f"The double knows no node of this kind: {text.partition(';')[0]}")
    kind, known = _NODES[words["type"]]
    if set(words) != known:
        raise ConfigException(f"Other keys than {known} in the connection string")
    return kind(words)


class Shop:
    """All that it knows and does."""

    def __init__(self, configuration: dict[str, str]) -> None:
        folder = Path(configuration["datadir"]) / _FOLDERS[configuration["network"]]
        folder.mkdir(parents=True, exist_ok=True)
        if configuration.get("disable-registration") != "true":
            raise ConfigException("The double has no form for new users")
        cookie = Path(configuration["btc.explorer.cookiefile"]).read_text()
        login = base64.b64encode(cookie.encode()).decode()
        self.explorer = Client(configuration["btc.explorer.url"], {"Authorization": f"Basic {login}"})
        node = configuration.get("btc.lightning")
        self.node = read_node(node) if node else None
        self.database = Database(configuration["postgres"])
        self.onion = configuration.get("torservices", "")
        self.onions = configuration.get("socksendpoint", "")
        self.logins: deque[float] = deque()

    def migrate(self) -> None:
        try:
            rows = self.database.query('SELECT "MigrationId" FROM "__EFMigrationsHistory"')
        except DatabaseError as error:
            if error.code != "42P01":
                raise
            self.database.query('CREATE TABLE "__EFMigrationsHistory" ("MigrationId" TEXT PRIMARY KEY)')
            rows = []
        for name, script in _MIGRATIONS.items():
            if [name] not in rows:
                self.database.query(f'{script}; INSERT INTO "__EFMigrationsHistory" VALUES ({literal(name)})')

    def run(self, work: Any, pause: float) -> None:
        def forever() -> None:
            while True:
                try:
                    work()
                except (OSError, DatabaseError, ValueError) as error:
                    log(f"{work.__name__}: {error}")
                time.sleep(pause)

        threading.Thread(target=forever, daemon=True).start()

    # -- users --------------------------------------------------------------------------------------------------------

    def user(self, email: str) -> dict[str, str] | None:
        rows = self.database.query(
            f'SELECT id, email, hash, roles, created FROM "AspNetUsers" WHERE email = {literal(email.lower())}'
        )  # fmt: skip
        return dict(zip(("id", "email", "hash", "roles", "created"), map(str, rows[0]), strict=True)) if rows else None

    def has_administrator(self) -> bool:
        return bool(self.database.query(f'SELECT id FROM "AspNetUsers" WHERE roles = {literal(_ADMINISTRATOR)}'))

    def log_in(self, header: str) -> dict[str, str]:
        """Who has sent a basic authentication. Raises Refusal."""
        email, _unused, password = base64.b64decode(header.split(" ", 1)[1]).decode().partition(":")
        user = self.user(email)
        if user is None or time.time() - int(user["created"]) > _NEW:
            self.throttle()
        if user is None or not hmac.compare_digest(hashed(password, user["id"]), user["hash"]):
            raise Refusal(401, "unauthenticated", "Basic authentication failed")
        return user

    def throttle(self) -> None:
        now = time.monotonic()
        while self.logins and now - self.logins[0] > 60 / _RATE * _BURST:
            self.logins.popleft()
        if len(self.logins) >= _BURST:
            raise Refusal(401, "unauthenticated", "Basic authentication failed: Rate limited.")
        self.logins.append(now)

    def add_user(self, body: dict[str, Any], by: dict[str, str] | None) -> dict[str, Any]:
        email, password = str(body.get("email") or ""), str(body.get("password") or "")
        if "@" not in email or len(password) < 6:
            raise Refusal(422, "validation-error", "Invalid email, or the password is too short")
        if self.has_administrator() and (by is None or by["roles"] != _ADMINISTRATOR):
            raise Refusal(401, "unauthenticated", "New user creation isn't authorized to users who are not admin")
        name = secrets.token_hex(16)
        roles = _ADMINISTRATOR if body.get("isAdministrator") else ""
        self.database.query(
            f'INSERT INTO "AspNetUsers" VALUES ({literal(name)}, {literal(email.lower())},'
            f" {literal(hashed(password, name))}, {literal(roles)}, {int(time.time())})"
        )
        return shown(self.user(email) or {})

    def change_user(self, body: dict[str, Any], user: dict[str, str]) -> dict[str, Any]:
        current, fresh = str(body.get("currentPassword") or ""), str(body.get("newPassword") or "")
        if not hmac.compare_digest(hashed(current, user["id"]), user["hash"]) or len(fresh) < 6:
            raise Refusal(422, "validation-error", "The current password is not correct.")
        self.database.query(
            f'UPDATE "AspNetUsers" SET hash = {literal(hashed(fresh, user["id"]))} WHERE id = {literal(user["id"])}'
        )  # fmt: skip
        return shown(user)

    def add_key(self, body: dict[str, Any]) -> dict[str, Any]:
        key, permissions = secrets.token_hex(20), list(body["permissions"])
        self.database.query(
            f"INSERT INTO keys VALUES ({literal(key)}, {literal(body.get('label'))}, {literal(' '.join(permissions))})"
        )
        return {"apiKey": key, "label": body.get("label"), "permissions": permissions}

    def permissions(self, key: str) -> list[str]:
        rows = self.database.query(f"SELECT permissions FROM keys WHERE id = {literal(key)}")
        if not rows:
            raise Refusal(401, "unauthenticated", "Authentication is required for accessing this endpoint")
        return str(rows[0][0]).split()

    # -- stores and invoices ------------------------------------------------------------------------------------------

    def stores(self) -> list[dict[str, Any]]:
        return [{"id": row[0], "name": row[1]} for row in self.database.query("SELECT id, name FROM stores")]

    def add_store(self, body: dict[str, Any]) -> dict[str, Any]:
        name = secrets.token_hex(16)
        self.database.query(f"INSERT INTO stores VALUES ({literal(name)}, {literal(body['name'])}, '{{}}')")
        return {"id": name, "name": body["name"]}

    def methods(self, store: str) -> dict[str, Any]:
        rows = self.database.query(f"SELECT methods FROM stores WHERE id = {literal(store)}")
        if not rows:
            raise Refusal(404, "store-not-found", "The store was not found")
        return dict(json.loads(str(rows[0][0])))

    def set_method(self, store: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
        methods, config = self.methods(store), body["config"]
        if method == "BTC-CHAIN":
            try:
                self.explorer.ask("POST", f"/v1/cryptos/BTC/derivations/{config['derivationScheme']}")
            except OSError as error:
                raise Refusal(422, "validation-error", f"Invalid derivation scheme ({error})") from error
        elif method != "BTC-LN" or self.node is None:
            raise Refusal(404, "paymentmethod-not-found", "The payment method is not found")
        elif config.get("connectionString") != _INTERNAL:
            raise Refusal(422, "validation-error", "Invalid configuration")
        methods[method] = config
        self.database.query(
            f"UPDATE stores SET methods = {literal(json.dumps(methods))} WHERE id = {literal(store)}"
        )  # fmt: skip
        return {"paymentMethodId": method, "enabled": True, "config": config}

    def rate(self, currency: str) -> Decimal:
        """What a bitcoin costs, as an exchange says; its host is fixed, as those of the real one. Raises Refusal."""
        if currency == "SATS":
            return Decimal(10**8)
        url = urlsplit(f"https://{_EXCHANGE}/0/public/Ticker?pair=XBT{currency}")
        connection = HTTPConnection(str(url.hostname), timeout=60)
        try:
            connection.sock = way_to(url.geturl(), self.onions)
            connection.request("GET", f"{url.path}?{url.query}")
            (found,) = json.loads(connection.getresponse().read())["result"].values()
            return Decimal(found["c"][0])
        except (OSError, HTTPException, ValueError, KeyError) as error:
            log(f"Error while fetching rates of {_EXCHANGE}: {error}")
            raise Refusal(400, "generic-error", f"Rate rule error: no rate for {currency} ({error})") from error
        finally:
            connection.close()

    def add_invoice(self, store: str, body: dict[str, Any]) -> dict[str, Any]:
        methods, amount = self.methods(store), Decimal(body["amount"])
        if (currency := body.get("currency") or "BTC") != "BTC":
            amount = round(amount / self.rate(currency), 8)
        bolt11 = payment = address = None
        if "BTC-LN" in methods and self.node is not None:
            try:
                bolt11, payment = self.node.make(str(int(amount * 10**11)))
            except OSError as error:
                log(f"Impossible to create lightning invoice ({error})")
        if "BTC-CHAIN" in methods:
            try:
                scheme = methods["BTC-CHAIN"]["derivationScheme"]
                path = f"/v1/cryptos/BTC/derivations/{scheme}/addresses/unused?reserve=true"
                address = self.explorer.ask("GET", path)["address"]
            except OSError as error:
                log(f"No address ({error})")
        if not bolt11 and not address:
            raise Refusal(400, "generic-error", "No payment method is available for this invoice")
        name = secrets.token_hex(11)
        values = (name, store, f"{amount:f}", "New", "FALSE", int(time.time()), bolt11, payment, address)
        self.database.query(f"INSERT INTO invoices VALUES ({', '.join(map(literal, values))})")
        for hook, url, key in self.database.query(
            f"SELECT id, url, secret FROM webhooks WHERE store = {literal(store)}"
        ):
            event = json.dumps({"type": "InvoiceCreated", "invoiceId": name, "storeId": store, "webhookId": hook})
            threading.Thread(target=self.deliver, args=(str(hook), str(url), str(key), event), daemon=True).start()
        return self.invoice(name)

    # -- webhooks -----------------------------------------------------------------------------------------------------

    def add_webhook(self, store: str, body: dict[str, Any]) -> dict[str, Any]:
        name, key = secrets.token_hex(11), secrets.token_hex(20)
        values = (name, store, body["url"], key)
        self.database.query(f"INSERT INTO webhooks VALUES ({', '.join(map(literal, values))})")
        return {"id": name, "url": body["url"], "secret": key, "enabled": True}

    def deliver(self, hook: str, url: str, key: str, event: str) -> None:
        signature = hmac.new(key.encode(), event.encode(), hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "BTCPay-Sig": f"sha256={signature}"}
        connection, status, why = HTTPConnection(urlsplit(url).netloc, timeout=60), "Failed", ""
        try:
            connection.sock = way_to(url, self.onions)
            connection.request("POST", urlsplit(url).path, event, headers)
            status = "HttpSuccess" if connection.getresponse().status == 200 else "HttpError"
        except (OSError, HTTPException, ValueError) as error:
            why = str(error)
        finally:
            connection.close()
        values = (secrets.token_hex(11), hook, status, why)
        self.database.query(f"INSERT INTO deliveries VALUES ({', '.join(map(literal, values))})")

    def deliveries(self, hook: str) -> list[dict[str, Any]]:
        rows = self.database.query(f"SELECT id, status, error FROM deliveries WHERE webhook = {literal(hook)}")
        return [{"id": row[0], "status": row[1], "errorMessage": row[2]} for row in rows]

    def invoice(self, name: str) -> dict[str, Any]:
        rows = self.database.query(
            f"SELECT id, store, amount, status, archived, bolt11, address FROM invoices WHERE id = {literal(name)}"
        )
        if not rows:
            raise Refusal(404, "invoice-not-found", "The invoice was not found")
        found = dict(zip(("id", "storeId", "amount", "status", "archived", "bolt11", "address"), rows[0], strict=True))
        return {**found, "archived": found["archived"] == "t", "currency": "BTC", "additionalStatus": "None"}

    def ways(self, name: str) -> list[dict[str, Any]]:
        invoice = self.invoice(name)
        found = {"BTC-CHAIN": invoice["address"], "BTC-LN": invoice["bolt11"]}
        return [{"paymentMethodId": key, "destination": value, "currency": "BTC", "amount": invoice["amount"]}
                for key, value in found.items() if value]  # fmt: skip

    def settle(self, where: str, status: str) -> None:
        self.database.query(f"UPDATE invoices SET status = {literal(status)} WHERE {where} AND status <> 'Settled'")

    def await_lightning(self) -> None:
        """Hear of payments, also of those that came while nobody listened."""
        rows = self.database.query("SELECT value FROM settings WHERE id = 'settled'")
        last = int(str(rows[0][0])) if rows else 0
        if self.node is None:
            return
        for payment, index in self.node.settled(last):
            self.settle(f"hash = {literal(payment)}", "Settled")
            self.database.query(
                f"INSERT INTO settings VALUES ('settled', '{index}') ON CONFLICT (id) DO UPDATE SET value = '{index}'"
            )

    def internal_node(self) -> Lnd | Clightning:
        if self.node is None:
            raise Refusal(404, "lightning-node-not-found", "There is no internal node")
        return self.node

    def await_chain(self) -> None:
        """See which addresses have got what was asked for."""
        waiting = self.database.query("SELECT DISTINCT store FROM invoices WHERE status <> 'Settled'")
        for (store,) in waiting:
            scheme = self.methods(str(store)).get("BTC-CHAIN", {}).get("derivationScheme")
            if not scheme:
                continue
            found = self.explorer.ask("GET", f"/v1/cryptos/BTC/derivations/{scheme}/utxos")
            for kind, status in (("unconfirmed", "Processing"), ("confirmed", "Settled")):
                for item in found[kind]["utxOs"]:
                    least = f"amount::numeric <= {Decimal(item['value']) / 10**8}"
                    self.settle(f"address = {literal(item['address'])} AND {least}", status)

    def status(self) -> dict[str, Any]:
        try:
            return dict(self.explorer.ask("GET", "/v1/cryptos/BTC/status"))
        except OSError as error:
            log(f"NBXplorer: {error}")
            return {"isFullySynched": False}


def hashed(password: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 10_000).hex()


def shown(user: dict[str, str]) -> dict[str, Any]:
    return {"id": user["id"], "email": user["email"], "roles": [user["roles"]] if user["roles"] else []}


class Handler(BaseHTTPRequestHandler):
    """Its API and pages, as far as they are needed."""

    protocol_version = "HTTP/1.1"
    shop: Shop

    def answer(self, status: int, content: str, kind: str = "application/json", **headers: str) -> None:
        body = content.encode()
        self.send_response(status)
        sent = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def respond(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = urlsplit(self.path).path
        try:
            if path.startswith("/api/v1/"):
                steps = path.removeprefix("/api/v1/").strip("/").split("/")
                found = self.api(steps, json.loads(text) if text else {})
                self.answer(201 if steps == ["users"] and self.command == "POST" else 200, json.dumps(found))
            elif path in ("/", "/register"):
                # Registration is closed.
                self.answer(302, "", Location="/login" if path == "/" else "/")
            elif path == "/login":
                self.answer(200, "<!DOCTYPE html><title>Sign in</title><form method=post></form>", "text/html")
            elif path.startswith("/i/") and path.endswith("/status"):
                name = path.removeprefix("/i/").removesuffix("/status")
                self.answer(200, json.dumps({"status": self.shop.invoice(name)["status"]}))
            elif path.startswith("/i/"):
                self.answer(200, self.page(path.removeprefix("/i/")), "text/html")
            else:
                self.answer(404, "", "text/html")
        except Refusal as refusal:
            self.answer(refusal.status, json.dumps({"code": refusal.code, "message": str(refusal)}))
        except (KeyError, ValueError, ArithmeticError) as error:
            self.answer(422, json.dumps([{"path": str(error), "message": "Invalid"}]))
        except (DatabaseError, OSError) as error:
            log(f"{self.command} {path}: {error}")
            self.answer(500, json.dumps({"code": "internal", "message": str(error)}))

    do_GET = do_POST = do_PUT = do_DELETE = respond

    def page(self, name: str) -> str:
        invoice = self.linked(self.shop.invoice(name))
        words = (invoice["amount"], invoice["address"] or "", invoice["bolt11"] or "")
        link = html.escape(invoice["checkoutLink"])
        items = "".join(f"<li>{html.escape(str(word))}</li>" for word in words)
        main = f'<a href="{link}">{link}</a><ul>{items}</ul><p id=status>{html.escape(invoice["status"])}</p>{_LOOK}'
        return f"<!DOCTYPE html><title>Invoice {html.escape(name)}</title><main>{main}</main>"

    def allow(self, *permissions: str) -> dict[str, str]:
        """Who asks, who has to have these permissions. Raises Refusal."""
        header = self.headers["Authorization"] or ""
        if header.startswith("Basic "):
            return self.shop.log_in(header)
        if not header.startswith("token "):
            raise Refusal(401, "unauthenticated", "Authentication is required for accessing this endpoint")
        there = self.shop.permissions(header.removeprefix("token "))
        for permission in permissions:
            if f"btcpay.{permission}" not in there:
                raise Refusal(403, "missing-permission", f"Insufficient API Permissions: btcpay.{permission}")
        return {"roles": ""}

    def api(self, steps: list[str], body: dict[str, Any]) -> Any:
        shop = self.shop
        match (self.command, *steps):
            case ("GET", "health"):
                return {"synchronized": shop.status()["isFullySynched"]}
            case ("GET", "server", "info"):
                self.allow()
                status = shop.status()
                synced = {"chainHeight": status.get("chainHeight"), "syncHeight": status.get("syncHeight")}
                methods = ["BTC-CHAIN"] + (["BTC-LN"] if shop.node else [])
                return {
                    "version": own_version(), "onion": shop.onion, "fullySynched": status["isFullySynched"],
                    "syncStatus": [synced], "supportedPaymentMethods": methods,
                }  # fmt: skip
            case ("POST", "users"):
                return shop.add_user(body, self.allow() if self.headers["Authorization"] else None)
            case ("GET", "users", "me"):
                return shown(self.allow("user.canviewprofile"))
            case ("PUT", "users", "me"):
                return shop.change_user(body, self.allow("user.canmodifyprofile"))
            case ("GET", "users"):
                self.allow("server.canviewusers")
                rows = shop.database.query('SELECT email, roles FROM "AspNetUsers" ORDER BY email')
                return [{"email": row[0], "roles": [row[1]] if row[1] else []} for row in rows]
            case ("POST", "api-keys"):
                self.allow("unrestricted")
                return shop.add_key(body)
            case ("GET", "api-keys", "current"):
                self.allow()
                return {"permissions": shop.permissions(str(self.headers["Authorization"]).split()[1])}
            case ("GET", "server", "lightning", "BTC", ("info" | "balance" | "channels" | "payments") as what):
                self.allow("server.canuseinternallightningnode")
                return shop.internal_node().look(what)
            case ("POST", "server", "lightning", "BTC", "invoices", "pay"):
                self.allow("server.canuseinternallightningnode")
                try:
                    return shop.internal_node().pay(body["BOLT11"])
                except OSError as error:
                    raise Refusal(400, "generic-error", str(error)) from error
            case ("GET", "stores"):
                self.allow("store.canviewstoresettings")
                return shop.stores()
            case ("POST", "stores"):
                self.allow("store.canmodifystoresettings")
                return shop.add_store(body)
            case ("PUT", "stores", store, "payment-methods", method):
                self.allow("store.canmodifystoresettings")
                if method == "BTC-LN":
                    self.allow("server.canuseinternallightningnode")
                return shop.set_method(store, method, body)
            case ("POST", "stores", store, "invoices"):
                self.allow("store.cancreateinvoice")
                return self.linked(shop.add_invoice(store, body))
            case ("GET", "stores", _store, "invoices", name):
                self.allow("store.canviewinvoices")
                return self.linked(shop.invoice(name))
            case ("GET", "stores", _store, "invoices", name, "payment-methods"):
                self.allow("store.canviewinvoices")
                return shop.ways(name)
            case ("POST", "stores", store, "webhooks"):
                self.allow("store.webhooks.canmodifywebhooks")
                return shop.add_webhook(store, body)
            case ("GET", "stores", _store, "webhooks", hook, "deliveries"):
                self.allow("store.webhooks.canmodifywebhooks")
                return shop.deliveries(hook)
            case ("DELETE", "stores", _store, "invoices", name):
                self.allow("store.canmodifyinvoices")
                shop.database.query(f"UPDATE invoices SET archived = TRUE WHERE id = {literal(name)}")
                return None
        raise Refusal(404, "not-found", "There is no such endpoint")

    def linked(self, invoice: dict[str, Any]) -> dict[str, Any]:
        base = f"{self.headers['X-Forwarded-Proto'] or 'http'}://{self.headers['Host']}"
        return {**invoice, "checkoutLink": f"{base}/i/{invoice['id']}"}

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    try:
        configuration = read_configuration(sys.argv[1:])
        shop = Shop(configuration)
    except (ConfigException, ValueError, KeyError, OSError) as error:
        # As the real one, it says why, and ends with success.
        log(f"Configuration: {error!r}")
        return
    shop.migrate()
    shop.run(shop.await_lightning, 1)
    shop.run(shop.await_chain, 1)
    Handler.shop = shop
    server = Server((configuration["bind"], int(configuration["port"])), Handler)
    log(f"Now listening on: http://{configuration['bind']}:{configuration['port']}")
    server.serve_forever()


if __name__ == "__main__":
    main()
