# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints of https: mutual trust by certificates, and everything over it that goes over a socket."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import Command, run
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Forbidden, LxdError, Unreachable
from tests.https import Remote, listening
from tests.support import Tools

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def remote(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with listening(client, tmp_path_factory.mktemp("https")) as found:
        yield found


def test_https_reaches_the_same_server(remote: Remote, client: Client) -> None:
    with remote.client() as over_https:
        assert over_https.server["environment"]["certificate"] == client.server["environment"]["certificate"]
        assert over_https.server["auth"] == "trusted"


def test_commands(remote: Remote, instance: str) -> None:
    with remote.client() as over_https:
        done = run(over_https, instance, Command(["sh", "-c", "cat; echo error >&2; exit 7"], stdin=b"x" * 3_000_000))
        assert (done.returncode, done.stdout, done.stderr) == (7, b"x" * 3_000_000, b"error\n")


def test_files(remote: Remote, instance: str) -> None:
    content = os.urandom(3_000_001)
    with remote.client() as over_https, FileSession(over_https, instance) as files:
        files.write("/root/over-https", content, mode=0o600, uid=0, gid=0)
        assert files.read("/root/over-https", most=len(content)) == content
        files.remove("/root/over-https")
        assert files.lstat("/root/over-https") is None


def test_a_module_with_options_of_the_environment(remote: Remote, instance: str) -> None:
    environment = {
        "BCM_ENDPOINT": remote.url,
        "BCM_CLIENT_CERT": remote.trusted[0],
        "BCM_CLIENT_KEY": remote.trusted[1],
        "BCM_SERVER_CERT": remote.server,
    }
    module = ("ansible", "localhost", "--module-name=bcm.core.lxd_info", f"--args=kind=instance name={instance}")
    assert '"status": "Running"' in Tools(environment).run(*module)


def test_a_server_with_another_certificate_than_the_pinned_one(remote: Remote, instance: str) -> None:
    pin = remote.stranger[0]
    with remote.client(server_cert=pin) as over_https:
        message = f"^{remote.url} is not what it should be: it does not show the certificate pinned in {pin}$"
        for ask in (lambda: over_https.server, lambda: FileSession(over_https, instance), over_https.connect):
            with pytest.raises(Unreachable, match=message):
                ask()


def test_a_server_whose_certificate_this_machine_does_not_trust(remote: Remote) -> None:
    fault = "this machine does not trust its certificate: name it in server_cert"
    message = f"^{remote.url} is not what it should be: {fault}$"
    certificate, key = remote.trusted
    unpinned = Client(remote.url, client_cert=certificate, client_key=key)
    with unpinned as over_https, pytest.raises(Unreachable, match=message):
        over_https.get("/1.0")


def test_without_a_client_certificate(remote: Remote) -> None:
    message = f"^Endpoint {remote.url} needs a client certificate: set client_cert and client_key$"
    with pytest.raises(LxdError, match=message):
        Client(remote.url, server_cert=remote.server)


def test_a_client_certificate_that_the_server_does_not_trust(remote: Remote, instance: str) -> None:
    message = f"^{remote.url} does not trust our client certificate: add it there with a trust token$"
    with remote.client(remote.stranger) as over_https:
        for ask in (
            lambda: over_https.server,
            lambda: over_https.get("/1.0/instances"),
            lambda: run(over_https, instance, Command(["true"])),
            lambda: FileSession(over_https, instance),
        ):
            with pytest.raises(Forbidden, match=message):
                ask()
