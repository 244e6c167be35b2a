# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of services in local networks: connections of this machine, without a certificate and with that of a client.

This machine is outside of the data center: it is the host itself, or another one that may be in a listed network.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal

from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database
from ansible_collections.bcm.core.plugins.module_utils._ca.report import authority_report
from ansible_collections.bcm.core.plugins.module_utils._plan.access import LanAccess, client_name

_SECONDS = 5.0  # for an answer; a server that has let a client in waits for its first word
#: ``foreign``: something else is there, whose certificate is not one of the data center
Outcome = Literal["let in", "refused", "unreachable", "foreign"]


@dataclass(frozen=True)
class LanResult:
    """What became of the probes of one service; ``source`` is the address of this machine with which it connects.

    ``client`` has a certificate that the vault knows the key of, and ``with_certificate`` is None without one.
    """

    access: LanAccess
    source: str
    without_certificate: Outcome
    client: str | None = None
    with_certificate: Outcome | None = None

    @property
    def is_listed(self) -> bool:
        return any(IPv4Address(self.source) in IPv4Network(network) for network in self.access.sources)

    def faults(self) -> list[str]:
        what, found = f"{self.access.stack} at {self.access.place}", self.without_certificate
        if found == "foreign":
            return []
        if not self.is_listed:
            reached = f"{what} can be reached from {self.source}, which is in none of its networks"
            return [] if found == "unreachable" else [reached]
        if found == "unreachable":
            return [f"{what} cannot be reached from {self.source}, which is in its networks"]
        if (found == "let in") != bool(self.access.public):
            why = "refuses a client" if self.access.public else "lets a client in"
            return [f"{what} {why} without a certificate"]
        if self.with_certificate not in (None, "let in"):
            return [f"{what} does not let in {self.client}, who has a certificate: {self.with_certificate}"]
        return []

    def undecided(self) -> list[str]:
        if self.without_certificate != "foreign":
            return []
        return [f"{self.access.place} answers with a certificate that the root of the data center has not signed"]

    def row(self) -> dict[str, Any]:
        return {
            "stack": self.access.stack,
            "address": self.access.place,
            "from": self.source,
            "listed": self.is_listed,
            "without_certificate": self.without_certificate,
            "client": self.client,
            "with_certificate": self.with_certificate,
        }


@dataclass(frozen=True)
class Certificates:
    """The roots, and the certificate and key of one client for each stack that has any, all as PEM."""

    roots: str
    clients: Mapping[str, tuple[str, str, str]]  # stack -> client, chain, key

    @classmethod
    def read(cls, database: Database, keys: Mapping[str, str], access: Sequence[LanAccess], now: Any) -> Certificates:
        clients = {}
        for item in access:
            for name, leaf in database.leaves.items():
                client, key = name.rpartition("@")[0], keys.get(leaf.certificate.key)
                if name == client_name(client, item.stack) and key and database.is_good(leaf.certificate, now):
                    chain = "".join(part.pem for part in database.chain_of(leaf, now))
                    clients[item.stack] = (client, chain, key)
        return cls(authority_report(database, now)["trust"], clients)


def probe_lan(access: Sequence[LanAccess], certificates: Certificates) -> list[LanResult]:
    """Try all services at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(partial(_probe, certificates), access))


def _probe(certificates: Certificates, item: LanAccess) -> LanResult:
    source = _source_address(item)
    without = _connect(item, certificates.roots)
    found = certificates.clients.get(item.stack)
    if without != "refused" or found is None:
        return LanResult(item, source, without)
    client, chain, key = found
    with tempfile.NamedTemporaryFile("w") as pair:
        pair.write(f"{chain}{key}")
        pair.flush()
        return LanResult(item, source, without, client, _connect(item, certificates.roots, Path(pair.name)))


def _source_address(item: LanAccess) -> str:
    """The address of this machine with which it connects; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((item.address, item.port))
        except OSError:  # no way leads there
            return "0.0.0.0"
        return str(probe.getsockname()[0])


def _connect(item: LanAccess, roots: str, pair: Path | None = None) -> Outcome:
    context = ssl.create_default_context(cadata=roots)
    if pair is not None:
        context.load_cert_chain(pair)
    try:
        plain = socket.create_connection((item.address, item.port), _SECONDS)
    except OSError:
        return "unreachable"
    with plain:
        try:
            connection = context.wrap_socket(plain, server_hostname=item.address)
        except ssl.SSLCertVerificationError:
            return "foreign"
        except OSError as error:
            return "unreachable" if isinstance(error, TimeoutError) else "refused"
        with connection:
            try:
                # With TLS 1.3 a server looks at the certificate of a client that is connected already.
                return "let in" if connection.recv(1) else "refused"
            except OSError as error:
                return "let in" if isinstance(error, TimeoutError) else "refused"
