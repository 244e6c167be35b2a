# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm open` for stacks with pages: a browser that reaches these pages and nothing else, with a profile of its own."""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request
from ansible_collections.bcm.core.plugins.module_utils._ca.report import authority_report, certificate_report
from ansible_collections.bcm.core.plugins.module_utils._lxd.forward import Destination, socks_proxy

from . import ca_session, setup
from .connect import connect
from .datacenter import DataCenter
from .stacks import pages
from .status import deployed

if TYPE_CHECKING:
    from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
    from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue

#: The name of the certificate that its browser shows where one is asked for. `bcm ca issue` gives none of that name.
_CERTIFICATE = "bcm:open"
_PEM_END = "-----END CERTIFICATE-----\n"
_OPTIONS = (
    # All goes through the proxy, names included, and what does not is not resolved.
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-quic",
    # It would ask its makers for updates and lists, which the proxy refuses.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    # or else it asks for the key ring of the desktop
    "--password-store=basic",
)


def show(args: argparse.Namespace, known: Catalogue) -> int:
    """Open the first page of a stack, and wait until the browser is closed."""
    datacenter: DataCenter = args.datacenter
    setup.packages(setup.BROWSER_PACKAGES, args.yes)
    browser = next(path for name in setup.BROWSERS.split("|") if (path := setup.which(name)))
    with connect(datacenter) as client:
        url, destinations = _destinations(client, datacenter, known, args.stack)
        with socks_proxy(client, destinations) as port, tempfile.TemporaryDirectory(prefix="bcm-browser-") as home:
            if url.startswith("https:"):
                _trust(datacenter, Path(home))
                if any(known[args.stack].services[page.service].tls == "mutual" for page in known[args.stack].web):
                    _authenticate(datacenter, Path(home))
            setup.step(f"{args.stack} opens in a browser; this ends when the browser is closed")
            options = [f"--proxy-server=socks5://127.0.0.1:{port}", f"--user-data-dir={home}/profile", *_OPTIONS]
            ended = subprocess.run([browser, *options, url], env=_environment(home), check=False).returncode
    if ended:
        raise BcmError(browser, f"ended with {ended}", "see its lines above", code="command_failed")
    return 0


def _destinations(
    client: Client, datacenter: DataCenter, known: Catalogue, stack: str
) -> tuple[str, Mapping[tuple[str, int], Destination]]:
    """The URL of the stack's first page, and all that the browser may reach: the pages of all stacks that run."""
    instances, chain = deployed(client), datacenter.chain
    if stack not in instances or instances[stack]["status"] != "Running":
        raise BcmError(f"Instance {stack}", "does not run", f"`bcm stack start {stack}`", code="not_ready")
    domain = datacenter_names(datacenter.name, chain).domain
    found: dict[tuple[str, int], Destination] = {}
    for name, instance in instances.items():
        address = instance["devices"].get("eth0", {}).get("ipv4.address")
        if name not in known or instance["status"] != "Running" or not address:
            continue
        services = (known[name].services[page.service] for page in known[name].web)
        for port in (service.ports[chain] for service in services if chain in service.ports and not service.host_port):
            for host in (address, f"{name}.{domain}"):
                found[host, port] = Destination(name, f"{address}:{port}")
    there = pages(known[stack], instances[stack]["devices"]["eth0"]["ipv4.address"], chain)
    if not there:
        raise BcmError(f"Stack {stack}", f"has no page on {chain}", code="unsupported")
    return there[0]["url"], found


def _trust(datacenter: DataCenter, home: Path) -> None:
    """Make the database of certificates of the profile, with the roots of the data center."""
    authority = ca_session.read_only(datacenter)
    roots: str = authority_report(authority.read_database(), authority.now)["trust"]
    # where Chromium looks, below the home directory, for roots that its user has added
    folder = home / ".pki/nssdb"
    folder.mkdir(parents=True)
    _nss("certutil", "-N", "-d", f"sql:{folder}", "--empty-password")
    for number, part in enumerate(filter(str.strip, roots.split(_PEM_END))):
        pem = f"{part}{_PEM_END}"
        name = f"{datacenter.project}-{number}"
        _nss("certutil", "-A", "-d", f"sql:{folder}", "-n", name, "-t", "C,,", "-a", stdin=pem)


def _authenticate(datacenter: DataCenter, home: Path) -> None:
    """Put a certificate of a client into the database of the profile, for pages that ask for one."""
    request = new_request(_CERTIFICATE, [], ["client"], pkcs12=True)
    work = partial(Authority.ensure_all, requests=[request], direct=ca_session.is_direct(datacenter))
    result = ca_session.change_authority(datacenter, work)
    issued = certificate_report(request, result.database, ca_session.read_only(datacenter).now, result.keys)
    files = {"client.p12": base64.b64decode(issued["pkcs12"]), "client.password": issued["password"].encode()}
    for name, content in files.items():
        (home / name).touch(mode=0o600)
        (home / name).write_bytes(content)
    folder = f"sql:{home / '.pki/nssdb'}"
    _nss("pk12util", "-i", f"{home}/client.p12", "-d", folder, "-w", f"{home}/client.password", "-K", "")
    for name in files:
        (home / name).unlink()


def _nss(program: str, *words: str, stdin: str = "") -> None:
    done = subprocess.run([program, *words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BcmError(program, f"failed: {(done.stderr or done.stdout).strip()}", code="command_failed")


def _environment(home: str) -> dict[str, str]:
    """The environment of the browser, whose home is the profile's: nothing of the person's own is read or written."""
    folders = {"XDG_CONFIG_HOME": f"{home}/config", "XDG_CACHE_HOME": f"{home}/cache", "XDG_DATA_HOME": f"{home}/data"}
    display = {"XAUTHORITY": os.path.expanduser("~/.Xauthority")} if "DISPLAY" in os.environ else {}
    return {**display, **os.environ, **folders, "HOME": home}
