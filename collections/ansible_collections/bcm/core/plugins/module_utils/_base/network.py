# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Subnets and addresses of a data center: the same in every run, on every controller."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from itertools import islice

from .errors import BcmError

_PREFIX = 20
# Derived subnets come from the upper half of 10.0.0.0/9, where home networks, VPNs and container engines seldom are.
_POOL = IPv4Network("10.64.0.0/10")
_PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))
# RFC 6890, without the documentation networks: no host has such an address, and the tests use them as the outside
_NOT_PUBLIC = (
    *_PRIVATE,
    *map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "192.0.0.0/24",
            "198.18.0.0/15",
            "224.0.0.0/3",
        ),
    ),
)


@dataclass(frozen=True)
class Subnets:
    """The instances' network (/21), the uplink network and that of builders (/24) of a data center on a chain."""

    network: IPv4Network
    uplink: IPv4Network
    builders: IPv4Network


def gateway(subnet: IPv4Network) -> IPv4Address:
    """The host's own address on a bridge."""
    return subnet[1]


def with_prefix(subnet: IPv4Network) -> str:
    """The gateway as LXD's ``ipv4.address`` wants it."""
    return f"{gateway(subnet)}/{subnet.prefixlen}"


def subnets(datacenter: str, chain: str, subnet: str | None) -> Subnets:
    """Split the configured /20, or one derived from the names. Raises BcmError for an unusable subnet."""
    whole = _given(subnet) if subnet else _derived(datacenter, chain)
    lower, upper = whole.subnets(new_prefix=_PREFIX + 1)
    uplink, builders = islice(upper.subnets(new_prefix=24), 2)
    return Subnets(network=lower, uplink=uplink, builders=builders)


def builders(network: IPv4Network) -> IPv4Network:
    """The last /24 of a data center's network, for builders that have no way out but through one of its stacks."""
    return list(network.subnets(new_prefix=24))[-1]


@functools.cache
def public() -> tuple[str, ...]:
    """Return all addresses that are neither private nor link-local: those of the public internet."""
    left = [IPv4Network("0.0.0.0/0")]
    for taken in _NOT_PUBLIC:
        left = [
            part
            for network in left
            for part in (network.address_exclude(taken) if taken.subnet_of(network) else (network,))
        ]
    return tuple(str(network) for network in collapse_addresses(left))


def addresses(
    subnet: IPv4Network,
    names: Iterable[str],
    seed: Callable[[str], str] = lambda name: name,
    others: Collection[IPv4Address] = (),
) -> dict[str, IPv4Address]:
    """Return an address for each name: the hash of its seed, or the next free one if two hashes collide.

    ``others`` are addresses of the subnet that are taken already.
    """
    first, count = 2, subnet.num_addresses - 3
    found: dict[str, IPv4Address] = {}
    for name in sorted(names):
        slot = _number(seed(name)) % count
        while subnet[first + slot] in {*others, *found.values()}:
            slot = (slot + 1) % count
        found[name] = subnet[first + slot]
    return found


def _derived(datacenter: str, chain: str) -> IPv4Network:
    step = 2 ** (32 - _PREFIX)
    slot = _number(f"{datacenter}/{chain}") % (_POOL.num_addresses // step)
    return IPv4Network((int(_POOL.network_address) + slot * step, _PREFIX))


def _given(subnet: str) -> IPv4Network:
    remedy = f"give a private IPv4 network with prefix /{_PREFIX}, such as 10.80.16.0/{_PREFIX}, or none at all"
    try:
        network = IPv4Network(subnet)
    except ValueError as error:
        raise BcmError(f'Subnet "{subnet}"', f"is no IPv4 network ({error})", remedy, code="invalid_value") from error
    if network.prefixlen != _PREFIX:
        raise BcmError(f'Subnet "{subnet}"', f"has prefix /{network.prefixlen}", remedy, code="invalid_value")
    if not any(network.subnet_of(private) for private in _PRIVATE):
        raise BcmError(f'Subnet "{subnet}"', "is not private", remedy, code="invalid_value")
    return network


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
