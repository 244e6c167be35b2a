# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names: which ones are valid, and the names of everything in a data center."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .errors import BcmError

#: chain -> its letter in short names
CHAINS = {"mainnet": "m", "testnet3": "3", "testnet4": "4", "signet": "s", "regtest": "r"}

#: the chain whose coins are worthless, and which therefore needs no hardware wallet
TOY_CHAIN = "regtest"

# Bridges are network interfaces, and the kernel allows those 15 characters: "<data center>-<letter>-net".
_DATACENTER = re.compile(r"[a-z]([a-z0-9-]{0,7}[a-z0-9])?")
# A stack is a host name. In groups and variables of Ansible, which allow no hyphens, it has underscores for them.
# "build-<stack>-<8 hex digits>" and "<stack>-<volume>" stay below the 63 characters of a host name.
_STACK = re.compile(r"(?=.{1,32}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")
# names of hosts and groups of Ansible's own, of builders, and of instances that are being replaced
_RESERVED = re.compile(r"localhost|all|ungrouped|build-.*|.*-replaced")
PART = re.compile(r"[a-z][a-z0-9_]{0,23}")


@dataclass(frozen=True)
class Names:
    """The names of one data center on one chain."""

    project: str
    domain: str
    network: str
    uplink: str
    builders: str


def datacenter_names(datacenter: str, chain: str) -> Names:
    """Return the names of a data center on a chain. Raises BcmError for an invalid name or chain."""
    if not _DATACENTER.fullmatch(datacenter):
        raise BcmError(
            f'Data center "{datacenter}"',
            "cannot be called that",
            "use at most 9 lower-case letters, digits and inner hyphens, a letter first (network interfaces carry "
            "the name, and the kernel keeps those short)",
            code="invalid_value",
        )
    if chain not in CHAINS:
        raise unknown("chain", chain, CHAINS)
    stem = f"{datacenter}-{CHAINS[chain]}"
    return Names(
        project=f"bcm-{datacenter}-{chain}",
        domain=f"{datacenter}-{chain}.bcm",
        network=f"{stem}-net",
        uplink=f"{stem}-up",
        builders=f"{stem}-bld",
    )


def ca_provider(chain: str) -> str:
    """Return the default provider of the root key: a hardware wallet where coins have a value."""
    return "software" if chain == TOY_CHAIN else "trezor"


def check_ca(option: str, provider: str, chain: str, software_chains: Collection[str]) -> None:
    """Refuse a root key in a file where coins have a value. Raises BcmError, which names the option."""
    if provider == "software" and chain not in (TOY_CHAIN, *software_chains):
        raise BcmError(
            f"Chain {chain}",
            f"needs a certificate authority on a hardware wallet, {option} is software",
            f"use chain {TOY_CHAIN}, or name {chain} in software_ca_chains to accept keys in a file",
            code="not_allowed",
        )


def stack_fault(name: str) -> str | None:
    """Return the fault in the name of a stack; None if it is valid."""
    if not _STACK.fullmatch(name):
        return "use at most 32 lower-case letters, digits and inner hyphens, a letter first"
    return "the name is taken, choose another one" if _RESERVED.fullmatch(name) else None


def part_fault(name: str) -> str | None:
    """Return the fault in the name of a service, volume or variable part; None if it is valid."""
    if PART.fullmatch(name):
        return None
    return "use at most 24 lower-case letters, digits and underscores, a letter first"


def unknown(what: str, name: str, known: Iterable[str]) -> BcmError:
    """Return the error for an unknown name, with the nearest known one, and all of them."""
    names = list(known)
    name = name[:80]
    near = nearest(name, names)
    hint = f'did you mean "{near}"? ' if near else ""
    remedy = f"{hint}Known {what}s: {', '.join(names) or 'none'}"
    return BcmError(f'Unknown {what} "{name}"', remedy=remedy, code="unknown_name")


#: programs that a person may ask for, and that are no stack: what is wrong with each, and what takes its place
NOT_OFFERED = {
    "zap": (
        "is not offered: nobody maintains Zap since November 2023, and its browser (Electron 9) has known faults "
        "and could not run here with a sandbox of its own",
        "take ridethelightning, which shows and pays with lnd in a window (`bcm open ridethelightning`), or connect a "
        "wallet of yours with `bcm lightning connect-string lnd NAME`",
    )
}


def unknown_stack(name: str, known: Iterable[str]) -> BcmError:
    """Return the error for a name that no stack has: for a program that is not offered, what takes its place."""
    if name in NOT_OFFERED:
        return BcmError(f"Stack {name}", *NOT_OFFERED[name], code="unsupported")
    return unknown("stack", name, known)


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that is most like another one; None if none is, on difflib's scale from 0 to 1."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)


def stack_of(folder: str) -> str:
    """Return the name of the stack of a role's folder, in whose name Ansible allows no hyphen."""
    return folder.replace("_", "-")


def variable_prefix(stack: str) -> str:
    """Return the prefix of a stack's variables."""
    return stack.replace("-", "_")


def volume_name(stack: str, volume: str) -> str:
    return f"{stack}-{volume.replace('_', '-')}"


def image_alias(stack: str, digest: str) -> str:
    return f"bcm/{stack}/{digest[:12]}"
