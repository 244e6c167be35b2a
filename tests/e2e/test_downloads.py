# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A first deployment, from empty caches, whose downloads come through the data center's tor."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._image.sources import mirrors
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests import tornet
from tests.capture import Capture, capturing
from tests.e2e.conftest import Person, inside
from tests.support import LXD_DIR, RELAYS, until

pytestmark = [pytest.mark.containers, pytest.mark.apart]

NAME = "fetch"
BRIDGES = tuple(f"{NAME}-r-{bridge}" for bridge in ("net", "up", "bld"))
# A documentation address at which nobody is.
ELSEWHERE = "198.51.100.9"
TABLE = "bcm-test-downloads"
# What a builder tries past tor.
PORTS = (80, 443, 53, 9001)

# It is made of one of each: a release that the controller fetches, packages of Debian, a wheel, a Go module, and a jar.
STACK: Mapping[str, str] = {
    "meta/stack.yml": """
schema: 1
description: Something that is fetched
tier: web
chains: [regtest]
artifact:
  version_command: [head, -n, "3", /usr/local/share/NEWS]
  sources:
    release:
      kind: archive
      name: hello
      licence: GPL-3.0-or-later
      version: "2.10"
      files:
        x86_64: &file
          url: ARCHIVE/pool/main/h/hello/hello_{version}.orig.tar.gz
          sha256: 31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b
        aarch64: *file
""",
    "files/jars.txt": """\
org.slf4j:slf4j-api:1.7.36 sha256:d3ef575e3e4979678dc01bf1dcce51021493b4d11fb7f1be8ad982877c16a1c0
""",
    "files/requirements.txt": """
six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254
""",
    "files/past_tor.py": f"""
import socket, subprocess, sys
gateway = sys.argv[1]
subprocess.run(["ip", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink"], check=True)
try:
    for port in {PORTS}:
        try:
            socket.create_connection(("{ELSEWHERE}", port), 5)
        except ConnectionRefusedError:
            continue
        sys.exit(f"nobody refused a connection to port {{port}} past tor")
    try:
        sys.exit(f"a name was looked up: {{socket.getaddrinfo('example.org', 80)}}")
    except socket.gaierror:
        pass
finally:
    subprocess.run(["ip", "route", "delete", "default"], check=True)
""",
    "tasks/install.yml": """
- name: Restart tor while packages are fetched
  bcm.core.lxd_exec:
    instance: tor
    argv:
      - sh
      - -c
      - systemctl stop tor;
        systemd-run --quiet --on-active=4s --timer-property=AccuracySec=100ms systemctl start tor
- name: Create the folder that Java needs
  ansible.builtin.file: {path: /usr/share/man/man1, state: directory, mode: "0755"}
- name: Fetch packages of Debian
  ansible.builtin.include_role:
    name: bcm.core._common
    tasks_from: install
  vars:
    _common_packages: [python3-venv, golang-1.26-go/trixie-backports, default-jre-headless, ivy]
- name: Fetch a wheel
  ansible.builtin.include_role:
    name: bcm.core._common
    tasks_from: install_wheels
  vars:
    _common_lock: "{{ bcm_image.role_path }}/files/requirements.txt"
    _common_dest: /opt/fetcher
    _common_build: /var/tmp/fetcher
- name: Fetch a Go module, and build it
  ansible.builtin.include_role:
    name: bcm.core._common
    tasks_from: install_go
  vars:
    _common_build: /var/tmp/module
    _common_go:
      name: filippo.io/age
      version: "1.2.1"
      go:
        sum: h1:X0TZjehAZylOIj4DubWYU1vWQxv9bJpo+Uu2/LGhi1o=
        packages: [./cmd/age-keygen]
        tags: []
        variables: []
- name: Fetch a jar
  ansible.builtin.include_role:
    name: bcm.core._common
    tasks_from: maven
  vars:
    _common_lock: "{{ bcm_image.role_path }}/files/jars.txt"
    _common_dest: /opt/jars
    _common_build: /var/tmp/jars
- name: Bring the release
  bcm.core.artifact:
    instance: "{{ inventory_hostname }}"
    dest: /usr/local/share
    members: [NEWS]
- name: Try to get past tor
  ansible.builtin.script:
    cmd: "{{ bcm_image.role_path }}/files/past_tor.py {{ hostvars.localhost.bcm_planned.plan.network.gateway }}"
    executable: python3
""",
    "tasks/configure.yml": "[]",
    "tasks/verify.yml": "[]",
}


@dataclass(frozen=True)
class Fetched:
    """What left the machine until tor's image was there, and from then on."""

    capture: Capture
    relays: tornet.TorNetwork
    before: Counter[str]
    network: IPv4Network  # the data center's own
    earlier: int  # packets of this machine to web servers, until that moment
    direct: int  # those from then on
    exits: int  # those of the relays

    def strange(self) -> Counter[str]:
        """What left the data center since tor's image was there, for anything but a relay."""
        later = self.capture.seen() - self.before
        return Counter({packet: count for packet, count in later.items() if not self._expected(packet)})

    def _expected(self, packet: str) -> bool:
        if packet == "arp" or not packet.startswith(("tcp ", "udp ")):
            return packet == "arp"
        to = ip_address(packet.split()[2].rpartition(":")[0])
        relay = packet.startswith("tcp ") and str(to) == RELAYS
        return relay or to in self.network or str(to) == "255.255.255.255"  # who asks for a lease


def nft(*words: str, script: str | None = None) -> str:
    return subprocess.run(["nft", *words], input=script, capture_output=True, text=True, check=True).stdout


def counted(counter: str) -> int:
    found = json.loads(nft("--json", "list", "counter", "ip", TABLE, counter))
    return int(next(item["counter"]["packets"] for item in found["nftables"] if "counter" in item))


@pytest.fixture(scope="module")
def exits(relays: tornet.TorNetwork) -> Iterator[tornet.TorNetwork]:
    """The relays lead to the world; by their address they are told from all else of this machine."""
    nft("-f", "-", script=f"""
table ip {TABLE} {{
    counter exits {{ }}
    counter direct {{ }}
    chain nat {{
        type nat hook postrouting priority srcnat;
        ip saddr {RELAYS} ip daddr != {RELAYS} masquerade
    }}
    chain output {{
        type filter hook output priority filter;
        oifname "lo" accept
        ip daddr {RELAYS} accept
        tcp dport {{ 80, 443 }} ip saddr {RELAYS} counter name exits accept
        tcp dport {{ 80, 443 }} counter name direct
    }}
}}
""")  # fmt: skip
    yield relays
    nft("delete", "table", "ip", TABLE)


def settings(person: Person, folder: Path, relays: tornet.TorNetwork) -> dict[str, Any]:
    found = mirrors({})
    assert found is not None
    for name, content in STACK.items():
        (folder / "stacks/fetcher" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stacks/fetcher" / name).write_text(content.replace("ARCHIVE", found.archive))
    return {
        "tor_network": True,
        "tor_lines": relays.lines,
        "bcm_downloads_through_tor": True,
        # There are no onion services of Debian in this network.
        "bcm_image_mirror": found.archive,
        # It changes nothing but the names of all images, which are nowhere yet.
        "bcm_image_sources": [
            {"suite": "trixie-updates", "components": ["main", "contrib"]},
            {"suite": "trixie-backports"},
        ],
        "bcm_stack_path": [str(folder / "stacks")],
    }


@pytest.fixture(scope="module")
def fetched(person: Person, exits: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetched]:
    folder = tmp_path_factory.mktemp("fetched")
    person.datacenter(NAME)
    with person.settings(NAME).open("a") as file:
        file.writelines(f"{key}: {json.dumps(value)}\n" for key, value in settings(person, folder, exits).items())
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    seen: list[tuple[Counter[str], int, int]] = []
    with capturing(*BRIDGES) as capture:
        made = threading.Thread(target=lambda: seen.append(_at_tor(capture, _images())), daemon=True)
        made.start()
        try:
            said = json.loads(person.succeeds("-d", NAME, "stack", "start", "fetcher", "--json", **own))
            assert {"fetcher": "2.10"}.items() <= {item["stack"]: item["version"] for item in said["stacks"]}.items()
            made.join(0)
            assert seen, "tor's image was not seen to be made"
            before, direct, used = seen[0]
            network = IPv4Network(said["network"])
            yield Fetched(capture, exits, before, network, direct, counted("direct") - direct, counted("exits") - used)
        finally:
            person.succeeds("-d", NAME, "stack", "remove", "tor", "fetcher", "--delete-data")


def _images() -> set[str]:
    with Client(str(LXD_DIR / "unix.socket"), project="default") as lxd:
        return {item["name"] for item in lxd.get("/1.0/images/aliases", recursion=1)}


def _at_tor(capture: Capture, known: set[str]) -> tuple[Counter[str], int, int]:
    """What was seen when there is an image of tor that was not known."""
    while not any(alias.startswith("bcm/tor/") for alias in _images() - known):
        time.sleep(0.2)
    return capture.seen(), counted("direct"), counted("exits")


def test_nothing_but_relays_is_contacted_once_tor_is_there(fetched: Fetched) -> None:
    """What a builder tried past tor was seen, too. It ends at the host, which is tried in the builder itself."""
    tried = {packet for packet in fetched.strange() if packet.split()[2].startswith(f"{ELSEWHERE}:")}
    assert {int(packet.rpartition(":")[2]) for packet in tried} == set(PORTS)
    assert set(fetched.strange()) == tried
    assert fetched.direct == 0, "this machine fetched something past tor"
    assert fetched.exits > 100, "the exits fetched nothing"


def test_capture_shows_the_downloads_before_tor_runs(fetched: Fetched) -> None:
    """Debian's base, and packages of tor: without this, what was not seen would prove nothing."""
    assert fetched.earlier > 100
    assert any(re.fullmatch(r"tcp \S+ \S+:80", packet) for packet in fetched.before), fetched.before


def test_capture_would_show_any_other_packet(fetched: Fetched) -> None:
    connect = f"import socket; socket.create_connection(('{ELSEWHERE}', 80), 2)"
    before = fetched.strange()
    inside(NAME, "tor", "sh", "-c", f'runuser -u debian-tor -- python3 -c "{connect}" || true')
    until(lambda: any(f"{ELSEWHERE}:80" in packet for packet in fetched.strange() - before), "the packet")


def test_no_builder_keeps_an_open_connection(fetched: Fetched) -> None:
    with Client(str(LXD_DIR / "unix.socket"), project="default") as lxd:
        rules = lxd.get(f"/1.0/network-acls/{NAME}-r-net")["egress"]
        networks = [item["name"] for item in lxd.get("/1.0/networks", recursion=1)]
    assert [rule["description"] for rule in rules if "Builder" in rule["description"]] == []
    assert f"{NAME}-r-bld" not in networks
