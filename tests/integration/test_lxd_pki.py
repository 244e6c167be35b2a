# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook lxd_pki: LXD and those who talk to it show certificates of the data center. One test goes on from the
one before it, as days do.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import Forbidden, Unreachable
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import Double, Settings
from tests.support import ROOT, Tools, own_lxd

pytestmark = pytest.mark.daemon

DIRECTORY = Path("/tmp/bcm-pki-lxd")
RESTART = """#!/bin/sh -e
# as systemd does it
echo restart >> {folder}/restarts
export LXD_DIR={directory}
pid=$(lxc query /1.0 | sed -n 's/.*"server_pid": \\([0-9]*\\).*/\\1/p')
kill "$pid"
while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
exec setsid --fork lxd --group root --logfile "$LXD_DIR/bcm.log" < /dev/null > /dev/null 2>&1
"""


@dataclass(frozen=True)
class World:
    """A LXD of its own, and the inventory of a data center whose playbook is run."""

    tools: Tools
    folder: Path
    port: int

    @property
    def inventory(self) -> Path:
        return self.folder / "home"

    @property
    def secrets(self) -> Path:
        return self.inventory / "secrets"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def play(self, *options: str, **variables: Any) -> str:
        more = ("--extra-vars", json.dumps(variables)) if variables else ()
        playbook = ROOT / "playbooks/lxd_pki.yml"
        return self.tools.run("ansible-playbook", "--inventory", self.inventory, *options, *more, playbook)

    def module(self, name: str, **options: Any) -> dict[str, Any]:
        """A module of the authority, as somebody would use it by hand."""
        authority = {"chain": "regtest", "domain": "home-regtest.bcm", "provider": "software", **options}
        words = ("--inventory", self.inventory, f"--module-name=bcm.core.{name}", f"--args={json.dumps(authority)}")
        output = self.tools.run("ansible", "localhost", *words)
        return json.loads(output[output.index("{") :])

    def issue(self, name: str, **options: Any) -> Path:
        """The certificate of a client, with its key beside it as .key."""
        wanted = {"name": name, "usage": ["client"], **options.pop("certificate", {})}
        self.module("ca_certificate", certificates=[wanted], **options)
        book, keys = (json.loads((self.secrets / f"regtest.{kind}.json").read_text()) for kind in ("pki", "keys"))
        path = self.folder / f"{name}.crt"
        path.write_text(book["certificates"][name]["certificate"] * 2)
        for key in keys["keys"].values():
            path.with_suffix(".key").write_text(key)
            try:
                ssl.create_default_context().load_cert_chain(path, path.with_suffix(".key"))
            except ssl.SSLError:
                continue
            return path
        raise AssertionError("its key is not there")

    def keep(self, name: str) -> Path:
        """A copy of what our client shows now."""
        for kind in ("crt", "key"):
            shutil.copy(self.secrets / f"lxd-client.{kind}", self.folder / f"{name}.{kind}")
        return self.folder / f"{name}.crt"

    def client(self, shown: Path | None = None) -> Client:
        shown = shown or self.secrets / "lxd-client.crt"
        return Client(
            self.url,
            client_cert=str(shown),
            client_key=str(shown.with_suffix(".key")),
            server_cert=str(self.secrets / "lxd-roots.crt"),
        )

    def trusts(self, shown: Path | None = None) -> bool:
        with self.client(shown) as over_https:
            try:
                return bool(over_https.server["config"])
            except Forbidden:
                return False

    def restarts(self) -> int:
        path = self.folder / "restarts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def local(self) -> Client:
        return Client(f"unix://{DIRECTORY}/unix.socket")

    def configure(self, key: str, value: str) -> None:
        with self.local() as client:
            client.call("PATCH", "/1.0", {"config": {key: value}}, what=f"set {key}", project=None)

    def trust(self, certificate: Path) -> None:
        body = "".join(certificate.read_text().splitlines()[1:-1])
        with self.local() as client:
            wanted = {"type": "client", "name": certificate.stem, "certificate": body}
            client.call("POST", "/1.0/certificates", wanted, what="trust a certificate", project=None)

    def trusted(self) -> list[str]:
        with self.local() as client:
            return [item["name"] for item in client.get("/1.0/certificates", recursion=1, project=None)]


def changes(output: str) -> int:
    return sum(map(int, re.findall(r"changed=(\d+)", output)))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """LXD as somebody left it: it trusts a stranger's own certificate, and all that any authority would sign."""
    folder = tmp_path_factory.mktemp("pki")
    with socket.socket() as raw:
        raw.bind(("127.0.0.1", 0))
        port = raw.getsockname()[1]
    restart = folder / "restart"
    restart.write_text(RESTART.format(folder=folder, directory=DIRECTORY))
    restart.chmod(0o755)
    (folder / "home/group_vars").mkdir(parents=True)
    hosts = ROOT / "inventories/local/hosts.yml"
    shutil.copy(hosts, folder / "home/hosts.yml")
    said = {
        "bcm_datacenter": "home",
        "bcm_ca_subnets": ["127.0.0.0/8"],
        "lxd_directory": str(DIRECTORY),
        "lxd_names": ["127.0.0.1"],
        "lxd_https_address": f"127.0.0.1:{port}",
        "lxd_restart_command": str(restart),
    }
    (folder / "home/group_vars/all.yml").write_text(yaml.safe_dump(said))
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made = ["-subj", "/CN=stranger", "-keyout", folder / "stranger.key", "-out", folder / "stranger.crt"]
    subprocess.run([*make, *made], check=True)
    with own_lxd(DIRECTORY) as tools:
        world = World(tools, folder, port)
        world.configure("core.trust_ca_certificates", "true")
        world.trust(folder / "stranger.crt")
        yield world


def test_check_mode_changes_nothing(world: World) -> None:
    before = files(DIRECTORY)
    output = world.play("--check", "--diff")
    for task in ("Have the root", "Give it its key", "Have it listen", "Trust the client", "Trust no client that"):
        assert re.search(rf"TASK \[{task}[^\n]*\n(?:(?!TASK)[^\n]*\n)*changed: ", output), task
    assert "PRIVATE KEY" not in output
    assert not list(world.secrets.glob("*"))
    assert files(DIRECTORY) == before
    assert world.restarts() == 0
    assert world.trusted() == ["stranger"]


def test_who_shows_the_certificate_is_trusted_and_nobody_else(world: World) -> None:
    output = world.play("-vvv")
    assert "PRIVATE KEY" not in output
    ours = (world.secrets / "lxd-client.crt").read_text().splitlines()[1]
    assert ours not in output  # LXD 5.0 takes it for its own proof
    assert world.restarts() == 1
    assert world.trusts()
    assert not world.trusts(world.folder / "stranger.crt")
    assert world.trusted() == ["bcm-home"]
    assert {path.name: path.stat().st_mode & 0o777 for path in world.secrets.glob("lxd-client.*")} == {
        "lxd-client.crt": 0o600,
        "lxd-client.key": 0o600,
    }
    context = ssl.create_default_context(cafile=world.secrets / "lxd-roots.crt")
    connection = http.client.HTTPSConnection("127.0.0.1", world.port, context=context, timeout=10)
    connection.request("GET", "/1.0/instances")
    assert connection.getresponse().status == 403


def test_once_more_nothing_changes(world: World) -> None:
    assert changes(world.play("--check")) == 0
    assert changes(world.play()) == 0
    assert world.restarts() == 1


def test_certificates_of_services_and_public_ones_open_nothing(world: World) -> None:
    world.module("ca_intermediate")
    service = {"usage": ["server"], "names": ["electrs.home-regtest.bcm"]}
    assert not world.trusts(world.issue("electrs", certificate=service))
    book = json.loads((world.secrets / "regtest.pki.json").read_text())
    del book["certificates"]["lxd-client"]
    public = [*book["roots"], *book["intermediates"], *book["certificates"].values()]
    assert len(public) == 4
    for number, item in enumerate(public):
        path = world.folder / f"forged{number}.crt"
        path.write_text((world.folder / "stranger.crt").read_text() + item["certificate"])
        shutil.copy(world.folder / "stranger.key", path.with_suffix(".key"))
        assert not world.trusts(path)


def test_what_was_revoked_is_refused(world: World) -> None:
    former = world.keep("former")
    laptop = world.issue("laptop", issuance="direct")
    assert not world.trusts(laptop)
    # whether the root signed it and did not revoke it: later versions of LXD always ask, 5.0 with this setting alone
    world.configure("core.trust_ca_certificates", "true")
    assert world.trusts(laptop)
    serials = {item["name"]: item["serial"] for item in world.module("ca_info")["certificates"]}
    world.module("ca_crl", revoke=[{"serial": serials[name]} for name in ("laptop", "lxd-client")])
    assert changes(world.play("--check")) > 0
    begun = world.restarts()
    output = world.play()
    assert re.search(r"The certificate that was used before is refused\][ *]+\nok: ", output)
    assert world.restarts() == begun + 1
    assert world.trusts()
    assert not world.trusts(former)
    world.configure("core.trust_ca_certificates", "true")
    assert not world.trusts(former)
    assert not world.trusts(laptop)


def test_a_run_that_was_killed_before_the_restart_is_made_good(world: World) -> None:
    """And a server that shows another certificate is known by its root."""
    roots = (world.secrets / "lxd-roots.crt").read_bytes()
    begun = world.restarts()
    with world.client() as over_https:
        before = over_https.server["environment"]["certificate_fingerprint"]
    names = ["127.0.0.1", "127.0.0.2"]
    with pytest.raises(pytest.fail.Exception, match="Restart LXD"):
        world.play(lxd_names=names, lxd_restart_command="false")
    with world.client() as over_https:
        assert over_https.server["environment"]["certificate_fingerprint"] == before
    world.play(lxd_names=names)
    assert world.restarts() == begun + 1
    with world.client() as over_https:
        assert over_https.server["environment"]["certificate_fingerprint"] != before
        assert over_https.server["config"].get("core.trust_ca_certificates") in (None, False, "false")
    assert (world.secrets / "lxd-roots.crt").read_bytes() == roots


def test_a_machine_that_the_inventory_does_not_know(world: World) -> None:
    """Only its own certificate is new."""
    shown = world.keep("same").read_bytes()
    world.play(lxd_host="box", ansible_connection="local", ansible_python_interpreter=sys.executable)
    assert world.keep("same").read_bytes() == shown
    assert world.trusts()


def test_who_rotates_the_root_goes_on(world: World) -> None:
    former = world.keep("former")
    world.module("ca_root", generation=2, allow_new_root=True)
    world.play()
    assert world.trusts()
    assert not world.trusts(former)


def test_a_name_that_the_authority_may_not_certify(world: World) -> None:
    before = files(DIRECTORY)
    message = '"192.0.2.7" of certificate lxd-localhost is outside of what may be certified .*domains or subnets'
    with pytest.raises(pytest.fail.Exception, match=message):
        world.play(lxd_names=["192.0.2.7"])
    assert files(DIRECTORY) == before


def test_where_there_is_no_lxd_or_a_cluster(world: World) -> None:
    for prepare, message in (
        ((), "localhost: there is no LXD in .*: install it, or give lxd_directory"),
        (("server.key", "cluster.crt"), "localhost: its LXD is in a cluster, .*: use ssh:// for it"),
    ):
        folder = world.folder / "elsewhere"
        folder.mkdir(exist_ok=True)
        for name in prepare:
            (folder / name).touch()
        with pytest.raises(pytest.fail.Exception, match=message):
            world.play(lxd_directory=str(folder))


def test_a_client_that_calls_the_server_by_another_name(world: World) -> None:
    shown = world.secrets / "lxd-client.crt"
    url = f"https://localhost:{world.port}"
    roots = str(world.secrets / "lxd-roots.crt")
    other = Client(url, client_cert=str(shown), client_key=str(shown.with_suffix(".key")), server_cert=roots)
    with other as over_https, pytest.raises(Unreachable, match="does not vouch for its certificate .Hostname mismatch"):
        over_https.get("/1.0")


def test_the_root_may_be_on_a_trezor(world: World) -> None:
    password = world.folder / "password"
    password.write_text("what the device would derive")
    with Double(Settings(model="T2T1", version=(2, 3, 6))) as double:
        told = {"chain": "testnet4", "bcm_ca_device": double.path, "allow_new_root": True}
        world.play("--vault-id", f"home@{password}", **told)
        signed = [item["screen"][1].split()[0] for item in double.confirmations if item["kind"] == "sign"]
        assert signed == ["root", "leaf", "leaf", "crl"]
        assert world.trusts()
        assert changes(world.play("--vault-id", f"home@{password}", **told)) == 0
        assert len([item for item in double.confirmations if item["kind"] == "sign"]) == 4
    assert (world.secrets / "testnet4.keys.json").read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;home")
