# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import itertools

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError


def test_names_of_a_data_center() -> None:
    assert names.datacenter_names("local", "regtest") == names.Names(
        project="bcm-local-regtest",
        domain="local-regtest.bcm",
        network="local-r-net",
        uplink="local-r-up",
        builders="local-r-bld",
    )


def test_interfaces_of_the_longest_name_fit_the_kernel() -> None:
    longest = names.datacenter_names("a23456789", "mainnet")
    assert max(map(len, (longest.network, longest.uplink, longest.builders))) == 15


def test_no_two_data_centers_share_a_name() -> None:
    made = [names.datacenter_names(*pair) for pair in itertools.product(["a", "a-r", "a-m-r", "r"], names.CHAINS)]
    everything = [name for one in made for name in dataclasses.astuple(one)]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("name", ["", "a234567890", "Home", "9lives", "-a", "a-", "a_b", "höhle", "a b", "../x"])
def test_invalid_names_of_data_centers_are_refused(name: str) -> None:
    with pytest.raises(BcmError, match=r'^Data center ".*" cannot be called that: use at most 9 '):
        names.datacenter_names(name, "regtest")


def test_unknown_chain_names_the_nearest() -> None:
    with pytest.raises(BcmError) as caught:
        names.datacenter_names("local", "mainet")
    assert str(caught.value) == (
        'Unknown chain "mainet": did you mean "mainnet"? Known chains: mainnet, testnet3, testnet4, signet, regtest'
    )


def test_nothing_is_near() -> None:
    assert str(names.unknown("stack", "xyz", ["tor"])) == 'Unknown stack "xyz": Known stacks: tor'


def test_program_that_is_not_offered_names_what_takes_its_place() -> None:
    error = names.unknown_stack("zap", ["ridethelightning"])
    assert error.code == "unsupported"
    assert str(error).startswith("Stack zap is not offered: nobody maintains Zap since November 2023")
    assert "`bcm open ridethelightning`" in str(error)
    assert str(names.unknown_stack("zab", ["tor"])) == 'Unknown stack "zab": Known stacks: tor'


@pytest.mark.parametrize("name", ["electrs", "a", "x" * 32, "c3po"])
def test_names_of_stacks(name: str) -> None:
    assert names.stack_fault(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "x" * 33, "my--stack", "-my", "my-", "my_stack", "Tor", "1st", "localhost", "all", "build-x", "tor-replaced"],
)
def test_invalid_names_of_stacks_are_refused(name: str) -> None:
    assert names.stack_fault(name) is not None


def test_the_longest_names_fit_a_host_name() -> None:
    assert len(f"build-{'x' * 32}-01234567") <= 63
    assert len(names.volume_name("x" * 32, "y" * 24)) <= 63


def test_volume_and_image_names() -> None:
    assert names.volume_name("electrs", "block_index") == "electrs-block-index"
    assert names.image_alias("electrs", "0123456789abcdef") == "bcm/electrs/0123456789ab"
