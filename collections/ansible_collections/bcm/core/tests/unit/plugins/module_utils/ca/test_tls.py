# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Server and client who show each other what was issued: without sockets, but with Python's own TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request

from .conftest import DOMAIN, Lab

HOST = f"electrs.{DOMAIN}"


@pytest.fixture
def live(make: Callable[..., Lab]) -> Lab:
    """An authority of today, since TLS looks at the clock."""
    lab = make(now=datetime.now(UTC).replace(microsecond=0)).bootstrap()
    lab.issue(new_request("electrs", [HOST], ["server"]), new_request("wallet", [], ["client"]))
    lab.authority.ensure_lists({})
    return lab


class Peers:
    """A server that wants certificates and looks for revoked ones, and a client that trusts the roots it is given."""

    def __init__(self, lab: Lab, place: Path) -> None:
        self.lab, self.place = lab, place
        self.trust = lab.report()["trust"]

    def _context(self, purpose: ssl.Purpose, one: dict[str, Any] | None, trust: str) -> ssl.SSLContext:
        context = ssl.create_default_context(purpose, cadata=trust)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if one:
            path = self.place / "pem"
            path.write_text(one["key"] + one["chain"], encoding="ascii")
            context.load_cert_chain(path)
        return context

    def meet(self, client: dict[str, Any] | None, host: str = HOST) -> None:
        server = self.lab.one(new_request("electrs", [HOST], ["server"]))
        server_side = self._context(ssl.Purpose.CLIENT_AUTH, server, self.lab.report()["trust"])
        server_side.verify_mode = ssl.CERT_REQUIRED
        path = self.place / "crl"
        path.write_text(self.lab.report()["crl"], encoding="ascii")
        server_side.load_verify_locations(path)
        server_side.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        client_side = self._context(ssl.Purpose.SERVER_AUTH, client, self.trust)
        ends = [
            client_side.wrap_bio(back, there, server_hostname=host),
            server_side.wrap_bio(there, back, server_side=True),
        ]
        for _turn in range(3):
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        ends[1].write(b"hello")
        assert ends[0].read() == b"hello"


@pytest.fixture
def peers(live: Lab, tmp_path: Path) -> Peers:
    return Peers(live, tmp_path)


def _wallet(lab: Lab) -> dict[str, Any]:
    return lab.one(new_request("wallet", [], ["client"]))


def test_a_client_with_a_certificate_is_let_in(live: Lab, peers: Peers) -> None:
    peers.meet(_wallet(live))


def test_a_client_without_a_certificate_is_refused(peers: Peers) -> None:
    with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
        peers.meet(None)


def test_a_client_with_a_revoked_certificate_is_refused(live: Lab, peers: Peers) -> None:
    wallet = _wallet(live)
    live.authority.ensure_lists({int(wallet["serial"], 16): "key_compromise"})
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        peers.meet(wallet)


def test_a_server_of_another_name_is_not_trusted(live: Lab, peers: Peers) -> None:
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        peers.meet(_wallet(live), f"lxd.{DOMAIN}")


def test_clients_of_the_old_root_stay_connected(live: Lab, peers: Peers) -> None:
    wallet = _wallet(live)
    live.authority.ensure_root(2, allow_new=True)
    live.authority.ensure_intermediate()
    live.authority.ensure_lists({})
    peers.meet(wallet)
    assert peers.trust != live.report()["trust"]
