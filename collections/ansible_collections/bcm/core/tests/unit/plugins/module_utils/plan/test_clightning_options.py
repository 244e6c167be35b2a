# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of lightningd's options an inventory may set: those that neither announce, nor listen, nor leave Tor."""

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
    stack = Catalogue.read([])["clightning"]
    loader = DataLoader()
    check_assertions([stack], RoleVariables(Templar(loader), loader, [stack], variables))


@pytest.mark.parametrize(("source", "end"), [("release", "26.06.7"), ("arm64", "26.06.7-arm64")])
def test_digests_of_each_architecture_are_signed_in_a_file_of_their_own(source: str, end: str) -> None:
    found = Catalogue.read([])["clightning"].artifact.release("clightning", source, {})
    assert found.signed and found.signed.sums and found.signed.sums.endswith(f"/SHA256SUMS-v{end}")
    assert found.signed.signatures == (f"{found.signed.sums}.asc",)


@pytest.mark.parametrize(
    "option",
    ["cltv-delta", "min-emergency-msat", "autoclean-paidinvoices-age", "xpay-slow-mode", "disable-mpp"],
)
def test_harmless_options_may_be_set(option: str) -> None:
    check(clightning_options={option: 1})


@pytest.mark.parametrize(
    "option",
    [
        "addr",
        "announce-addr",
        "announce-addr-dns",
        "announce-addr-discovered",
        "autolisten",
        "bind-addr",
        "always-use-proxy",
        "proxy",
        "tor-service-password",
        "bitcoin-cli",
        "bitcoin-rpcconnect",
        "bkpr-currency",
        "clear-plugins",
        "clnrest-host",
        "clnrest-certs",
        "conf",
        "include other.conf",
        "currencyrate-add-source",
        "daemon",
        "developer",
        "dev-bitcoind-poll",
        "exposesecret-passphrase",
        "grpc-host",
        "important-plugin",
        "plugin",
        "plugin-dir",
        "lightning-dir",
        "log-file",
        "network",
        "offline",
        "recover",
        "rpc-file",
        "rpc-file-mode",
        "subdaemon",
        "wallet",
        "wss-bind-addr",
        "experimental-lsps2-service",
        " addr",
        "cltv-delta ",
        "cltv-delta\n",
        "cltv-delta=1\naddr",
        "CLTV-DELTA",
    ],
)
def test_dangerous_options_are_refused(option: str) -> None:
    with pytest.raises(BcmError, match="is not one of those that may be set"):
        check(clightning_options={option: 1})


@pytest.mark.parametrize("value", ["90\nplugin=/tmp/x", ["90", "91\rplugin=/tmp/x"]])
def test_values_with_line_breaks_are_refused(value: object) -> None:
    with pytest.raises(BcmError, match="has a line break"):
        check(clightning_options={"cltv-delta": value})


@pytest.mark.parametrize("alias", ["é" * 17, "x" * 33, "a\nplugin=/tmp/x"])
def test_alias_has_32_bytes_on_one_line(alias: str) -> None:
    check(clightning_alias="é" * 16)
    with pytest.raises(BcmError, match="clightning_alias has a line break, or is longer than the 32 bytes"):
        check(clightning_alias=alias)


@pytest.mark.parametrize("color", ["3399ff", "#3399f", "#3399ff\n", "blue"])
def test_color_is_in_hexadecimal_digits(color: str) -> None:
    with pytest.raises(BcmError, match="is no colour as #3399ff"):
        check(clightning_color=color)
