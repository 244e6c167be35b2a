# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the TLS proxy of a stack is told."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.support import COLLECTION

_TEMPLATES = COLLECTION / "roles/_common/templates"
SERVED = {
    "http": {"listen": "127.0.0.1", "port": 3000, "tls": "server", "grpc": False, "lan": None},
    "rpc": {"listen": "127.0.0.1", "port": 3001, "tls": "mutual", "grpc": True, "lan": {"public": None}},
}


def render(*pages: str) -> str:
    """The configuration of a stack with the services above, of which these are pages for browsers."""
    web = [{"service": service} for service in pages]
    onions = {"http": {"listen": 3080}}
    bcm: dict[str, Any] = {
        "stack": "shop", "address": "10.0.0.2", "web": web, "onions": onions, "uplink": {"address": "10.0.1.2"},
    }  # fmt: skip
    # As Ansible reads templates.
    environment = Environment(trim_blocks=True, undefined=StrictUndefined, loader=FileSystemLoader(_TEMPLATES))
    return environment.get_template("nginx.conf.j2").render(bcm=bcm, served=SERVED, ansible_managed="managed")


def ways(text: str) -> list[tuple[str, str]]:
    """Where each server listens, and what it passes connections to."""
    return re.findall(r"listen ([^; ]+)(?: ssl)?;.*?proxy_pass ([^;]+);", text, re.S)


def test_pages_pass_a_policy_on_each_way_in_and_nothing_else_does() -> None:
    text = render("http", "http", "window")
    assert ways(text) == [
        ("10.0.0.2:3000", "unix:/run/tls/http.sock"),
        ("10.0.0.2:3080", "unix:/run/tls/http.sock"),
        ("10.0.0.2:3001", "127.0.0.1:3001"),
        ("10.0.1.2:3001", "$granted_rpc"),
        ("unix:/run/tls/http.sock", "http://127.0.0.1:3000"),
    ]
    assert '"~^CN=[A-Za-z0-9._-]+@shop$" 127.0.0.1:3001;' in text
    assert "unix:/run/tls/http.sock;" in render("http") and "\n\n\n" not in text


def test_clients_with_a_granted_certificate_get_the_policy_too() -> None:
    assert '"~^CN=[A-Za-z0-9._-]+@shop$" unix:/run/tls/rpc.sock;' in render("rpc")


def test_policy_forbids_what_is_elsewhere() -> None:
    (policy,) = re.findall(r'add_header Content-Security-Policy "(.*)" always;', render("http"))
    sources = {source for directive in policy.split("; ") for source in directive.split()[1:]}
    assert policy.startswith("default-src 'self' ")
    assert sources == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}


def test_request_without_a_host_is_passed_on_with_one() -> None:
    """Browsers always name one; programs that speak HTTP/1.0 need not."""
    text = render("http")
    assert "proxy_set_header Host $named_host;" in text and '"" localhost;' in text


def test_program_that_is_not_there_is_not_answered_for() -> None:
    """What a program refuses is final for verification, that nothing answers is not."""
    text = render("http")
    assert "error_page 502 504 @unanswered;" in text
    assert re.search(r"location @unanswered \{\s+return 444;\s+\}", text)


def test_stack_without_pages_has_no_server_of_http() -> None:
    assert "http {" not in render()


def test_program_that_speaks_grpc_is_shown_the_certificate_of_its_stack() -> None:
    """On each way in; clients of gRPC insist on HTTP/2."""
    servers = [part.partition("}")[0] for part in render().split("server {")[1:]]
    for server in servers:
        is_grpc = ":3001 ssl;" in server
        assert ("ssl_alpn h2;" in server, "proxy_ssl on;" in server) == (is_grpc, is_grpc)
        assert ("ssl_crl /etc/bcm/tls/revoked.pem;" in server) == is_grpc
    assert sum("proxy_ssl on;" in server for server in servers) == 2
