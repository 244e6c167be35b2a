# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base import network
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError


def test_a_given_subnet_is_split() -> None:
    assert network.subnets("local", "regtest", "10.80.16.0/20") == network.Subnets(
        network=IPv4Network("10.80.16.0/21"),
        uplink=IPv4Network("10.80.24.0/24"),
        builders=IPv4Network("10.80.25.0/24"),
    )


def test_derived_subnets_are_private_stable_and_apart() -> None:
    local = network.subnets("local", "regtest", None)
    assert local == network.subnets("local", "regtest", None)
    assert local.network.subnet_of(IPv4Network("10.64.0.0/10"))
    assert not local.network.overlaps(local.uplink)
    others = {network.subnets("local", chain, None).network for chain in ("mainnet", "testnet4", "signet", "regtest")}
    assert len(others) == 4


@pytest.mark.parametrize(
    ("subnet", "fault"),
    [
        ("10.80.16.0/24", "has prefix /24"),
        ("10.80.17.0/20", "is no IPv4 network"),
        ("10.80.16.0", "has prefix /32"),
        ("8.8.0.0/20", "is not private"),
        ("100.64.0.0/20", "is not private"),
        ("fd00::/20", "is no IPv4 network"),
        ("home", "is no IPv4 network"),
    ],
)
def test_bad_subnets(subnet: str, fault: str) -> None:
    with pytest.raises(BcmError) as caught:
        network.subnets("local", "regtest", subnet)
    message = str(caught.value)
    assert message.startswith(f'Subnet "{subnet}" {fault}')
    assert "such as 10.80.16.0/20" in message


def test_the_public_internet_excludes_private_networks() -> None:
    world = [IPv4Network(part) for part in network.public()]

    def reached(address: str) -> bool:
        return any(IPv4Address(address) in part for part in world)

    assert all(map(reached, ("1.1.1.1", "9.255.255.255", "11.0.0.0", "172.32.0.0", "192.0.2.1", "203.0.113.9")))
    near = "0.0.0.1 10.0.0.1 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.168.1.1 224.0.0.251"
    assert not any(map(reached, (*near.split(), "255.255.255.255")))


def test_addresses_are_stable_distinct_and_inside() -> None:
    subnet = IPv4Network("10.80.16.0/21")
    names = [f"stack{number}" for number in range(200)]
    given = network.addresses(subnet, names)
    assert given == network.addresses(subnet, reversed(names))
    assert len(set(given.values())) == 200
    reserved = {subnet.network_address, network.gateway(subnet), subnet.broadcast_address}
    assert all(address in subnet and address not in reserved for address in given.values())


def test_an_address_seldom_depends_on_the_other_stacks() -> None:
    subnet = IPv4Network("10.80.16.0/21")
    few, many = network.addresses(subnet, ["tor", "electrs"]), network.addresses(subnet, ["tor", "electrs", "lnd"])
    assert {name: many[name] for name in few} == few


def test_a_full_subnet_is_filled_to_the_last_address() -> None:
    subnet = IPv4Network("10.0.0.0/28")
    given = network.addresses(subnet, [f"s{number}" for number in range(13)])
    assert sorted(given.values()) == [IPv4Address("10.0.0.2") + number for number in range(13)]
