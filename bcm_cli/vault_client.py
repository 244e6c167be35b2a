# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's client script for the vaults of data centers: it gets the password from the device."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal

from . import setup
from .datacenter import DataCenter, UsageError
from .main import report_errors

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    """Print the password of a vault; exit status 2, as Ansible has it, if there is no vault of that name."""
    parser = argparse.ArgumentParser(
        prog="bcm-vault-client",
        description="Print the password of a data center's vault, which its Trezor derives.",
        epilog="example:\n  ansible-playbook -i inventories/home --vault-id home@bcm-vault-client site.yml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--vault-id", required=True, metavar="NAME", help="the data center, a folder of inventories/")
    name = parser.parse_args(argv).vault_id

    def work() -> int:
        datacenter = DataCenter(name)
        setup.enter("bcm-vault-client", argv)
        # They may name this program, which Ansible would start again to read the inventory.
        for variable in ("ANSIBLE_VAULT_IDENTITY_LIST", "ANSIBLE_VAULT_PASSWORD_FILE"):
            os.environ.pop(variable, None)
        from .trezor_session import SESSION, password

        if SESSION in os.environ:  # bcm runs Ansible and has already chosen both
            datacenter.give({"bcm_ca_provider": "trezor", "bcm_ca_device": os.environ.get("TREZOR_PATH")})
        if datacenter.ca_provider != "trezor":
            raise UsageError(
                f"Data center {name}",
                "has no vault, because bcm_ca_provider is not trezor",
                "leave out --vault-id",
                code="unsupported",
            )
        # When interrupted, Ansible does not end its clients, and this one would keep the device open.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        print(password(datacenter, _say))
        return 0

    return report_errors(work)


def _say(text: str) -> None:
    """Write to the terminal, since Ansible captures standard error."""
    try:
        with open("/dev/tty", "w", encoding="utf-8") as terminal:
            print(f"bcm: {text}", file=terminal)
    except OSError:
        setup.step(text)
