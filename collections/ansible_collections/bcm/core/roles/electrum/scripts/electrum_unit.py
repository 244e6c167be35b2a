# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: what the unit electrum does before the program starts, and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bcm_guest.prove import Fault, has_main_process_ended, json_rpc
from bcm_guest.volume_files import write_file

# Without these, the program would ask its user, or fetch something from the internet.
SETTINGS = {
    "auto_connect": False,
    "check_updates": False,
    "dont_show_testnet_warning": True,
    "enable_proxy": False,
    "oneserver": True,
    "use_exchange_rate": False,
}


def directory() -> Path:
    return Path(os.environ["ELECTRUM_DIRECTORY"])


def wallet() -> Path:
    return directory() / "wallets/default_wallet"


def prepare() -> None:
    """Before the program starts: its settings, and a wallet if one is wanted."""
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    config = directory() / "config"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    if any(settings.get(key) != value for key, value in SETTINGS.items()):
        write_file(config, json.dumps({**settings, **SETTINGS}, indent=4, sort_keys=True).encode())
    # An empty file says that the server has to be certified by a root that is trusted. Without it, the program would
    # trust the first certificate that it gets.
    pinned = directory() / "certs" / os.environ["ELECTRUM_SERVER"]
    pinned.parent.mkdir(mode=0o700, exist_ok=True)
    pinned.write_bytes(b"")
    if os.environ["ELECTRUM_CREATE"] == "yes" and not wallet().exists():
        # It prints the seed, which must not be in the journal; electrum-cli getseed shows it.
        command = ["electrum", *os.environ["ELECTRUM_ARGUMENTS"].split(), "--offline", "create"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def call(method: str, **params: Any) -> Any:
    settings = json.loads((directory() / "config").read_text(encoding="utf-8"))
    credentials = f"{settings['rpcuser']}:{settings['rpcpassword']}"
    return json_rpc(str(directory() / "daemon_rpc_socket"), method, params, credentials)


def load() -> None:
    """After the program has started: wait until it answers, and have it follow the wallet."""
    deadline = time.monotonic() + 60
    while True:
        try:
            call("ping")
            break
        except (Fault, OSError, KeyError, ValueError):
            if time.monotonic() > deadline or has_main_process_ended():
                sys.exit("electrum does not answer on its socket")
            time.sleep(0.1)
    if wallet().exists():
        try:
            call("load_wallet", wallet_path=str(wallet()))
        except Fault as fault:
            # An encrypted wallet waits for its password.
            print(f"The wallet is not loaded ({fault}): use electrum-cli load_wallet --password")


if __name__ == "__main__":
    {"prepare": prepare, "load": load}[sys.argv[1]]()
