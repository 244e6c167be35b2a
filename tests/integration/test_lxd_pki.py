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
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._ca import pki, software
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request
from ansible_collections.bcm.core.plugins.module_utils._ca.report import certificate_report
from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import claim
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Forbidden, Unreachable
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import Double, Settings
from tests.support import LXD_DIR, ROOT, Tools, own_lxd
from tests.tornet import free_port

pytestmark = pytest.mark.daemon

DIRECTORY = LXD_DIR.with_name(f"{LXD_DIR.name}-pki")
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

    @property
    def authority(self) -> Authority:
        """The authority of the data center, to be used as somebody would use its modules by hand."""
        scope = pki.parse_scope(["home-regtest.bcm"], [])
        return Authority(AuthorityFiles(self.secrets, "regtest"), scope, "software", software.open_keys)

    def issue(self, name: str, usage: str = "client", *names: str, direct: bool = False) -> Path:
        """A certificate, with its key beside it as .key."""
        request = new_request(name, names, [usage])
        result = self.authority.ensure_certificates([request], direct=direct)
        issued = certificate_report(request, result.database, self.authority.now, result.keys)
        path = self.folder / f"{name}.crt"
        path.write_text(issued["certificate"] * 2)
        path.with_suffix(".key").write_text(issued["key"])
        return path

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
    port = free_port()
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
    for task in ("Issue certificates", "Write the key", "Write the certificate of the server", "Trust the client"):
        assert re.search(rf"TASK \[{task}[^\n]*\n(?:(?!TASK)[^\n]*\n)*changed: ", output), task
    for line in (f"core.https_address: 127.0.0.1:{world.port}", "core.trust_ca_certificates: false",
                 "client bcm-home: trusted", "client stranger [0-9a-f]{12}: not trusted any more"):  # fmt: skip
        assert re.search(rf"^\+{line}$", output, re.MULTILINE), line
    assert "PRIVATE KEY" not in output
    assert not list(world.secrets.glob("*"))
    assert files(DIRECTORY) == before
    assert world.restarts() == 0
    assert world.trusted() == ["stranger"]


def test_only_the_client_with_the_certificate_is_trusted(world: World) -> None:
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


def test_second_run_changes_nothing(world: World) -> None:
    assert changes(world.play("--check")) == 0
    assert changes(world.play()) == 0
    assert world.restarts() == 1


def test_certificates_of_services_and_public_ones_are_not_trusted(world: World) -> None:
    world.authority.ensure_intermediate()
    assert not world.trusts(world.issue("electrs", "server", "electrs.home-regtest.bcm"))
    book = json.loads((world.secrets / "regtest.pki.json").read_text())
    del book["certificates"]["lxd-client"]
    public = [*book["roots"], *book["intermediates"], *book["certificates"].values()]
    assert len(public) == 4
    for number, item in enumerate(public):
        path = world.folder / f"forged{number}.crt"
        path.write_text((world.folder / "stranger.crt").read_text() + item["certificate"])
        shutil.copy(world.folder / "stranger.key", path.with_suffix(".key"))
        assert not world.trusts(path)


def test_revoked_certificates_are_refused(world: World) -> None:
    former = world.keep("former")
    laptop = world.issue("laptop", direct=True)
    assert not world.trusts(laptop)
    # whether the root signed it and did not revoke it: later versions of LXD always ask, 5.0 with this setting alone
    world.configure("core.trust_ca_certificates", "true")
    assert world.trusts(laptop)
    leaves = world.authority.read_database().leaves
    serials = [leaves[name].certificate.serial for name in ("laptop", "lxd-client")]
    world.authority.ensure_lists(dict.fromkeys(serials, "unspecified"))
    assert changes(world.play("--check")) > 0
    begun = world.restarts()
    output = world.play()
    assert re.search(r"Verify that the former certificate is refused\][ *]+\nok: ", output)
    assert world.restarts() == begun + 1
    assert world.trusts()
    assert not world.trusts(former)
    world.configure("core.trust_ca_certificates", "true")
    assert not world.trusts(former)
    assert not world.trusts(laptop)


def test_restart_that_failed_is_made_up_for(world: World) -> None:
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


def test_machine_outside_of_the_inventory(world: World) -> None:
    """Only its own certificate is new."""
    shown = world.keep("same").read_bytes()
    elsewhere = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    world.play(lxd_host="box", lxd_endpoint=f"{DIRECTORY}/unix.socket", **elsewhere)
    assert world.keep("same").read_bytes() == shown
    assert world.trusts()


def test_access_goes_on_after_a_rotation(world: World) -> None:
    former = world.keep("former")
    world.authority.ensure_root(2, allow_new=True)
    world.play()
    assert world.trusts()
    assert not world.trusts(former)


def test_name_that_the_authority_may_not_certify_is_refused(world: World) -> None:
    before = files(DIRECTORY)
    message = '"192.0.2.7" of certificate lxd-localhost is outside of what may be certified .*domains or subnets'
    with pytest.raises(pytest.fail.Exception, match=message):
        world.play(lxd_names=["192.0.2.7"])
    assert files(DIRECTORY) == before


def test_another_run_on_the_data_center_keeps_this_one_out(world: World) -> None:
    before, restarts = files(DIRECTORY), world.restarts()
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            with world.local() as client:
                endpoint = {"endpoint": str(DIRECTORY / "unix.socket")}
                claim(client, endpoint, "home", "regtest", world.secrets, run=other.pid)
            message = rf"Data center home \(regtest\) is being changed by [^\n]* \(process {other.pid}\)"
            with pytest.raises(pytest.fail.Exception, match=message):
                world.play(lxd_names=["127.0.0.1", "127.0.0.3"])
        finally:
            other.kill()
    assert files(DIRECTORY) == before
    assert world.restarts() == restarts


def test_missing_lxd_and_cluster_are_refused(world: World) -> None:
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


def test_client_refuses_another_name_of_the_server(world: World) -> None:
    shown = world.secrets / "lxd-client.crt"
    url = f"https://localhost:{world.port}"
    roots = str(world.secrets / "lxd-roots.crt")
    other = Client(url, client_cert=str(shown), client_key=str(shown.with_suffix(".key")), server_cert=roots)
    with other as over_https, pytest.raises(Unreachable, match="does not vouch for its certificate .Hostname mismatch"):
        over_https.get("/1.0")


def test_root_on_a_trezor_signs_all_in_one_session(world: World) -> None:
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
