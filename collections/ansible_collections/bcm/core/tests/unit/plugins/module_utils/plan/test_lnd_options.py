# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of lnd's options an inventory may set: those that neither announce, nor listen, nor leave Tor."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def check(**variables: Any) -> None:
    stack = Catalogue.read([])["lnd"]
    loader = DataLoader()
    check_assertions([stack], RoleVariables(Templar(loader), loader, [stack], variables))


@pytest.mark.parametrize(
    "option",
    [
        "bitcoin.timelockdelta",
        "protocol.wumbo-channels",
        "max-commit-fee-rate-anchors",
        "routerrpc.apriori.hopprob",
        "wtclient.sweep-fee-rate",
        "accept-keysend",
        "chan-enable-timeout",
    ],
)
def test_harmless_options_may_be_set(option: str) -> None:
    check(lnd_options={option: 1})


@pytest.mark.parametrize(
    "option",
    [
        "externalip",
        "externalhosts",
        "RawExternalIPs",
        "nat",
        "listen",
        "rpclisten",
        "restlisten",
        "restcors",
        "no-macaroons",
        "NoMacaroons",
        "tor.active",
        "Tor.Active",
        "tor.dns",
        "nobootstrap",
        "tor.skip-proxy-for-clearnet-targets",
        "SkipProxyForClearNetTargets",
        "fee.url",
        "feeurl",
        "b",
        "datadir",
        "lnddir",
        "letsencryptdomain",
        "bitcoin.dnsseed",
        "bitcoin.node",
        "bitcoind.rpchost",
        "neutrino.connect",
        "db.backend",
        "db.postgres.dsn",
        "backupfilepath",
        "tlscertpath",
        "wallet-unlock-allow-create",
        "wtclient.active",
        "watchtower.externalip",
        "remotesigner.enable",
        "prometheus.enable",
        "profile",
        " nat",
        "nat ",
        "accept-keysend\nnat",
        "accept-keysend\n",
        "accept-keysend=1\r\nnat",
        "bitcoin.timelockdelta ",
    ],
)
def test_dangerous_options_are_refused(option: str) -> None:
    with pytest.raises(BcmError, match="is not one of those that may be set"):
        check(lnd_options={option: 1})


@pytest.mark.parametrize("value", ["90\nnat=true", ["90", "91\rnat=true"]])
def test_values_with_line_breaks_are_refused(value: object) -> None:
    with pytest.raises(BcmError, match="has a line break"):
        check(lnd_options={"bitcoin.timelockdelta": value})


@pytest.mark.parametrize("alias", ["é" * 17, "x" * 33, "a\nnat=true", '"ann'])
def test_alias_has_32_bytes_on_one_line(alias: str) -> None:
    check(lnd_alias="é" * 16)
    with pytest.raises(BcmError, match="lnd_alias has a line break, begins with a quotation mark, or is longer"):
        check(lnd_alias=alias)


@pytest.mark.parametrize("color", ["3399ff", "#3399f", "#3399ff\n", "blue"])
def test_color_is_in_hexadecimal_digits(color: str) -> None:
    with pytest.raises(BcmError, match="is no colour as #3399ff"):
        check(lnd_color=color)


@pytest.mark.parametrize(
    "tower",
    ["", "03" * 33, f"{'03' * 33}@192.0.2.1:1", f"{'05' * 33}@{'a' * 56}.onion:9911", f"{'03' * 33}@{'a' * 56}.onion"],
)
def test_watchtowers_are_keys_at_onion_addresses(tower: str) -> None:
    check(lnd_watchtowers=[f"{'03' * 33}@{'a' * 56}.onion:9911"])
    with pytest.raises(BcmError, match="is not the key of a watchtower and its onion"):
        check(lnd_watchtowers=[tower])
