# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what the real programs of Core Lightning answer in a data center, for their double.

``recorded`` asks an instance without peers and coins whose wallet is of ``WORDS``. tests/e2e/test_clightning.py
compares that with tests/recordings/clightning.json, or writes it there if BCM_RECORD is set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from tests.e2e.conftest import inside

_CATALOGUE = Catalogue.read()
#: The stacks that use it -> the calls that each needs.
CONSUMERS = {
    name: need.permissions["rune"]
    for name in ("backups", "lightning-charge", "spark", "btcpayserver", "ridethelightning", "collector")
    for _path, stack, need in _CATALOGUE[name].declared_needs()
    if stack == "clightning"
}
#: The same -> what is asked for to make its rune.
WANTED = {
    name: {"restrictions": [[f"method={item}" for item in sorted(calls)], [f"method#bcm {name}"]]}
    for name, calls in CONSUMERS.items()
}

#: Of BIP 39: everybody knows them.
WORDS = "abandon " * 11 + "about"
#: What the role's programs ask.
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("getinfo", {}),
    ("listconfigs", {"config": "proxy"}),
    ("listconfigs", {"config": "always-use-proxy"}),
    ("makesecret", {"string": "scb secret"}),
    ("recoverchannel", {"scb": []}),
)
COMMANDS = ("getinfo", "listfunds", "listpeerchannels", "newaddr p2tr")
_CHANGES = {"index": "updated", "start": 1, "limit": 500}
#: what consumers call, and that does not change: the consumer, the call, its parameters
REST_CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("backups", "getinfo", {}),
    ("backups", "listpeerchannels", {}),
    ("backups", "getemergencyrecoverdata", {}),
    ("spark", "listfunds", {}),
    ("spark", "listpays", {}),
    ("spark", "listpeers", {}),
    ("collector", "listclosedchannels", {}),
    ("collector", "listforwards", _CHANGES),
    ("collector", "listsendpays", _CHANGES),
    ("collector", "waitanyinvoice", {"lastpay_index": 0, "timeout": 0}),
    *(
        ("collector", "wait", {"subsystem": name, "indexname": "updated", "nextvalue": 0})
        for name in ("forwards", "invoices", "sendpays")
    ),
)
#: what Lightning Charge does with an invoice: the name, the call, its parameters
LABEL = "recorded"
INVOICES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("invoice", "invoice", {"amount_msat": "1000", "label": LABEL, "description": "tea"}),
    ("listinvoices", "listinvoices", {"label": LABEL}),
    ("delinvoice", "delinvoice", {"label": LABEL, "status": "unpaid"}),
    ("none", "listinvoices", {"label": LABEL}),
)
DIRECTORY = "/var/lib/clightning/regtest"

# Prints a raw answer of the socket.
_RPC = """
import json, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
request = {"jsonrpc": "2.0", "id": "bcm", "method": sys.argv[2], "params": json.loads(sys.argv[3])}
connection.sendall(json.dumps(request).encode())
answer = b""
while not answer.endswith(b"\\n\\n"):
    answer += connection.recv(65536)
print(json.dumps(answer.decode()))
"""
# Prints status, type and body of REST for each request of method, path, rune and body, on one connection. Of answers to
# polls, it is the sign of life.
_REST = """
import http.client, json, ssl, sys
context = ssl.create_default_context(cafile="/etc/bcm/trust/ca-certificates.crt")
connection = http.client.HTTPSConnection(sys.argv[1], 3010, context=context)
found, session = [], ""
for method, path, rune, body in json.loads(sys.argv[2]):
    headers = {"Content-Type": "text/plain"} if path.startswith("/socket.io") else {}
    while True:
        connection.request(method, path + session, body or None, {**headers, **({"Rune": rune} if rune else {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        if not (method == "GET" and session) or text == "2":
            break
    found.append({"status": answer.status, "type": answer.getheader("Content-Type"), "body": text})
    if text.startswith("0{"):
        session = "&sid=" + json.loads(text[1:])["sid"]
print(json.dumps(found))
"""
# Prints what programs print, all of it, and their exit status.
_RUN = """
import json, subprocess, sys
done = subprocess.run(sys.argv[2:], input=sys.argv[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
print(json.dumps({"status": done.returncode, "output": done.stdout}))
"""
# Prints the bytes of a file, in hexadecimal digits.
_FILE = "import json, pathlib, sys; print(json.dumps(pathlib.Path(sys.argv[1]).read_bytes().hex()))"
# Prints the tables that the role's programs read, as SQL.
_DATABASE = """
import json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
copy = sqlite3.connect(":memory:")
for (table,) in database.execute("SELECT sql FROM sqlite_master WHERE name IN ('blocks', 'vars')"):
    copy.execute(table)
(node,) = database.execute("SELECT blobval FROM vars WHERE name = 'node_id'").fetchone()
copy.execute("INSERT INTO vars (name, blobval) VALUES ('node_id', ?)", [node])
copy.execute("INSERT INTO vars (name, intval) VALUES ('data_version', 1)")
print(json.dumps(list(copy.iterdump())))
"""


def place_of(datacenter: str) -> dict[str, Any]:
    """What is true of this data center only: the height of its chain, and addresses."""
    text = inside(datacenter, "clightning", "cat", "/etc/clightning/config")
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {
        "height": int(inside(datacenter, "bitcoind", "bitcoin-cli", "getblockcount")),
        "onion": lines["announce-addr"].partition(":")[0],
        "address": lines["clnrest-host"],
        "proxy": lines["proxy"],
    }


def moved(recordings: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    """The same recordings as they would be in another place."""
    text, own = json.dumps({**recordings, "place": None}), recordings["place"]
    for name in ("onion", "proxy", "address"):
        text = text.replace(own[name], place[name])
    for blank in ("", " "):
        name = f'\\"blockheight\\":{blank}'
        text = text.replace(f"{name}{own['height']}", f"{name}{place['height']}")
    return {**json.loads(text), "place": place}


def recorded_runes(call: Callable[[str, dict[str, Any]], str]) -> dict[str, Any]:
    """The answers about the rune of each consumer, made and revoked."""

    def shown() -> list[dict[str, Any]]:
        return list(json.loads(call("showrunes", {}))["result"]["runes"])

    runes: dict[str, dict[str, Any]] = {}
    for name, create in WANTED.items():
        runes[name] = {"create": f"createrune {json.dumps(create)}", "created": call("createrune", create)}
    for rune, made in zip(runes.values(), shown(), strict=True):
        revoke = {"start": int(made["unique_id"])}
        rune |= {"made": made, "revoke": f"blacklistrune {json.dumps(revoke)}"}
        rune["answered"] = call("blacklistrune", revoke)
    for rune, revoked in zip(runes.values(), shown(), strict=True):
        rune["revoked"] = revoked
    return runes


def recorded(datacenter: str) -> dict[str, Any]:
    """All that the double answers with."""
    place = place_of(datacenter)

    def ask(program: str, *words: str) -> Any:
        return json.loads(inside(datacenter, "clightning", "python3", "-c", program, *words, deadline=120))

    def run(*words: str, lines: str = "") -> dict[str, Any]:
        return dict(ask(_RUN, lines, *words))

    def call(method: str, params: dict[str, Any]) -> str:
        return str(ask(_RPC, f"{DIRECTORY}/lightning-rpc", method, json.dumps(params)))

    scratch = "/dev/shm/recording"
    table = ask(_DATABASE, f"{DIRECTORY}/lightningd.sqlite3")
    secret = f"{scratch}/hsm_secret"
    run("mkdir", "-p", scratch)
    hsmtool = {
        method: run("lightning-hsmtool", method, secret, lines=f"{WORDS}\n\n" if method == "generatehsm" else "")[
            "output"
        ]
        for method in ("generatehsm", "getsecret", "getnodeid")
    }
    alone = run(
        "lightningd", "--offline", "--bitcoin-cli=/bin/false", f"--lightning-dir={scratch}", "--network=regtest"
    )
    run("rm", "-r", scratch)
    calls = {f"{method} {json.dumps(params)}": call(method, params) for method, params in CALLS}
    runes = recorded_runes(call)
    (revoked,) = ask(
        _REST, place["address"], json.dumps([("POST", "/v1/getinfo", runes["backups"]["made"]["rune"], "{}")])
    )
    # Another one for each, which is valid.
    made = {name: json.loads(call("createrune", create))["result"]["rune"] for name, create in WANTED.items()}
    # Showing a rune that was used says when.
    socket = "/socket.io/?EIO=4&transport=polling"
    asked = [("POST", "/v1/getinfo", "", "{}"), ("POST", "/v1/withdraw", made["backups"], "{}")]
    asked += [
        ("POST", f"/v1/{method}", made[consumer], json.dumps(params) if params else "")
        for consumer, method, params in REST_CALLS
    ]
    charge = made["lightning-charge"]
    asked += [("POST", f"/v1/{method}", charge, json.dumps(params)) for _name, method, params in INVOICES]
    asked += [(method, socket, made["backups"], body) for method, body in (("GET", ""), ("POST", "40"), ("GET", ""))]
    without, not_permitted, *answers, opened, accepted, alive = ask(_REST, place["address"], json.dumps(asked))
    opened["body"] = re.sub(r'"sid":"[^"]+"', '"sid":"recorded"', opened["body"])
    names = (" ".join([method, *filter(None, [params.get("subsystem")])]) for _consumer, method, params in REST_CALLS)
    with_rune = dict(zip(names, answers[: len(REST_CALLS)], strict=True))
    invoices = dict(zip((name for name, *_call in INVOICES), answers[len(REST_CALLS) :], strict=True))
    return {
        "version": run("lightning-cli", "--version")["output"],
        "words": WORDS,
        "secret": secret,
        "place": place,
        "hsmtool": hsmtool,
        "without_bitcoind": alone["status"],
        "rpc": calls,
        "runes": runes,
        "cli": {command: run("lightning-cli", *command.split())["output"] for command in COMMANDS},
        "rest": without,
        "rest_not_permitted": not_permitted,
        "rest_revoked": revoked,
        "rest_with_rune": with_rune,
        "invoices": invoices,
        "notifications": {"opened": opened, "accepted": accepted, "alive": alive},
        "database": table,
        "emergency.recover": ask(_FILE, f"{DIRECTORY}/emergency.recover"),
    }
