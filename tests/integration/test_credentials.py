# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack that speaks TLS itself and makes the credentials of another one, which gets them in the same run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.integration.conftest import Site
from tests.support import LXD_DIR, PATIENCE, ROOT, Tools

pytestmark = pytest.mark.containers

# Prints the status of an answer to a token, and the serial of the certificate.
_ASK = """
import http.client, ssl, sys
context = ssl.create_default_context(cafile="/etc/bcm/trust/ca-certificates.crt")
connection = http.client.HTTPSConnection(sys.argv[1], 8443, context=context)
connection.connect()
serial = connection.sock.getpeercert()["serialNumber"]
connection.request("GET", "/", headers={"Token": sys.argv[2]})
print(connection.getresponse().status, serial)
"""


class Shop(Site):
    """A data center with the stacks mint and shop, whose files a test may change."""

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.stacks = folder / "stacks"
        shutil.copytree(ROOT / "tests/integration/stacks", self.stacks)
        super().__init__(tools, folder, "minted", stack="mint", bcm_stack_path=[str(self.stacks)])
        # all that can be shown
        tools.environment |= {"ANSIBLE_VERBOSITY": "4", "ANSIBLE_DIFF_ALWAYS": "1"}
        self.shown = ""

    def start(self, stack: str, *flags: str, **more: object) -> dict[str, str]:
        """What a run changed of each host: a number."""
        self.shown = self.run(*flags, stack=stack, **more)
        return dict(re.findall(r"^(\w+) +: ok=.* changed=(\d+) ", self.shown, re.MULTILINE))

    def within(self, instance: str, *argv: str) -> str:
        with Client(str(LXD_DIR / "unix.socket"), project=self.project) as lxd:
            done = lxd_exec.run(lxd, instance, lxd_exec.Command(argv), deadline=PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def permit(self, *permissions: str) -> None:
        path = self.stacks / "shop/meta/stack.yml"
        path.write_text(re.sub(r"may: \[.*\]", f"may: [{', '.join(permissions)}]", path.read_text()))

    @property
    def tokens(self) -> dict[str, dict[str, object]]:
        return json.loads(self.within("mint", "cat", "/var/lib/mint/tokens.json"))

    @property
    def token(self) -> str:
        return self.within("shop", "cat", "/etc/shop/token")

    def ask(self, token: str) -> list[str]:
        """Status of mint's answer to a token, and the serial of its certificate."""
        address = self.within("mint", "hostname", "--all-ip-addresses").split()[0]
        return self.within("mint", "python3", "-c", _ASK, address, token).split()


@pytest.fixture
def site(lxd_tools: Tools, tmp_path: Path) -> Iterator[Shop]:
    site = Shop(Tools(), tmp_path)
    yield site
    site.goes()


def test_credentials_are_made_renewed_and_revoked(site: Shop) -> None:
    # before anything is there, nothing can be asked
    site.start("shop", "--check")

    site.start("shop")
    first = site.token
    assert site.tokens == {"shop/rest": {"may": ["read"], "token": first}}
    assert first not in site.shown
    assert first not in "".join(path.read_text() for path in (site.folder / "secrets").iterdir())
    assert site.ask(first)[0] == "200"
    site.within("mint", "test", "!", "-e", "/etc/systemd/system/tls.service")

    for flags in ((), ("--check",)):
        assert set(site.start("shop", *flags).values()) == {"0"}
        assert first not in site.shown

    # The consumer is not named, and gets what fits its permissions all the same.
    site.permit("read", "write")
    assert site.start("mint", "--check")["mint"] == "1"
    assert site.tokens["shop/rest"]["token"] == first
    site.start("mint")
    second = site.token
    assert site.tokens == {"shop/rest": {"may": ["read", "write"], "token": second}}
    assert (site.ask(first)[0], site.ask(second)[0]) == ("401", "200")
    assert first not in site.shown and second not in site.shown

    site.permit("steal")
    refused = site.attempt(stack="mint")
    message = "credentials.py in instance mint failed: mint: shop asks to steal, and users may read and write"
    assert message in refused.stdout
    # The consumer goes on with what it has.
    assert "Stack shop has no usable credential" not in refused.stdout
    assert second == site.token

    # A renewed certificate is shown by a program that was started with it.
    site.permit("read", "write")
    (_status, serial), started = site.ask(second), site.within("mint", "systemctl", "show", "-PMainPID", "mint")
    site.start("mint", bcm_ca_generation=2)
    assert site.ask(second)[1] != serial
    assert site.within("mint", "systemctl", "show", "-PMainPID", "mint") != started
    assert set(site.start("mint", bcm_ca_generation=2).values()) == {"0"}

    site.run(stack="shop", state="absent")
    assert site.tokens["shop/rest"]["token"] == second
    site.start("mint", bcm_ca_generation=2)
    assert site.tokens == {}
    assert site.ask(second)[0] == "401"
