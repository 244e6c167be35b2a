# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links with which programs of people reach this node: `bcm lightning connect-string`.

Each has a macaroon with a root key of its own. They are on the volume, as ``clients/<name>.<number>.json``.
Source: https://github.com/LN-Zap/lndconnect/blob/master/lnd_connect_uri.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any

from bcm_guest.client_links import Refusal, answer_about_links
from bcm_guest.prove import TRUST
from bcm_guest.volume_files import list_files, make_directory, read_file, remove_file, write_file

DIRECTORY = Path("/var/lib/lnd/clients")
READ = ["info:read", "invoices:read", "offchain:read", "onchain:read", "peers:read"]
INVOICES = ["address:read", "address:write", "info:read", "invoices:read", "invoices:write", "onchain:read"]
#: what a person may choose -> what lnd calls that; none can spend coins on chain, or close a channel
PERMISSIONS = {
    "read": READ,
    "invoices": INVOICES,
    "pay": sorted({*READ, *INVOICES, "uri:/routerrpc.Router/SendPaymentV2"}),
}


def lncli(*words: str) -> str:
    """What a command prints. Raises Refusal."""
    done = subprocess.run(["lncli", *words], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refusal(f"lncli {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def read_clients() -> dict[str, tuple[Path, dict[str, str]]]:
    """The file of each client, and what it has: ``may`` and ``macaroon``. Raises OSError."""
    found = ((path, json.loads(read_file(path))) for path in list_files(DIRECTORY, ".json"))
    return {path.name.rpartition(".")[0].rpartition(".")[0]: (path, content) for path, content in found}


def make(name: str, may: str, place: str) -> dict[str, Any]:
    """Make the link of a client, or show it again. Raises Refusal or OSError."""
    clients = read_clients()
    if name in clients:
        content = clients[name][1]
        if content["may"] != may:
            raise Refusal(f"{name} may {content['may']}, not {may}: revoke it first, or choose another name")
    else:
        number = int.from_bytes(hashlib.sha256(f"{name} {may}".encode()).digest()[:6], "big") | 1 << 40
        macaroon = lncli("bakemacaroon", "--root_key_id", str(number), *PERMISSIONS[may])
        content = {"may": may, "macaroon": macaroon}
        make_directory(DIRECTORY)
        write_file(DIRECTORY / f"{name}.{number}.json", json.dumps(content).encode())
    root = Path(TRUST).read_text(encoding="ascii").partition("-----END CERTIFICATE-----")
    certificate = encode(ssl.PEM_cert_to_DER_cert("".join(root[:2])))
    macaroon = encode(bytes.fromhex(content["macaroon"]))
    return {"link": f"lndconnect://{place}?cert={certificate}&macaroon={macaroon}"}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def revoke(name: str) -> dict[str, Any]:
    """Revoke what a client has. Raises Refusal or OSError."""
    clients = read_clients()
    if name not in clients:
        raise Refusal(f"{name} has no link; those that have one: {', '.join(clients) or 'none'}")
    path = clients[name][0]
    # lnd first: a macaroon without its file is never revoked.
    lncli("deletemacaroonid", path.stem.rpartition(".")[2])
    remove_file(path)
    return {}


def main() -> None:
    def clients() -> dict[str, str]:
        return {name: content["may"] for name, (_path, content) in read_clients().items()}

    answer_about_links("lnd", make, revoke, clients)


if __name__ == "__main__":
    main()
