# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the portal, from a connection to its last byte: in its instance, and as `bcm open` reaches it."""

from __future__ import annotations

import json
import socket
import ssl
from statistics import median

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.forward import forwarded

from .datacenter import deployed
from .measure import Bench, BenchError, Line, timed

_NAME = "bench-p"
_PORT = 8443
_COUNT = 30
_MOST = 100_000
#: Runs in the instance: the seconds of each fetch, and the bytes of the page.
_FETCH = """
import http.client, json, ssl, sys, time
context, found = ssl.create_default_context(cafile="/etc/bcm/trust/ca-certificates.crt"), []
for number in range(int(sys.argv[3])):
    begun = time.perf_counter()
    connection = http.client.HTTPSConnection(sys.argv[1], int(sys.argv[2]), context=context)
    connection.request("GET", "/")
    answer = connection.getresponse()
    page = answer.read()
    connection.close()
    found.append(time.perf_counter() - begun)
print(json.dumps([answer.status, len(page), found]))
"""


def lines(bench: Bench) -> list[Line]:
    project = datacenter_names(_NAME, "regtest").project
    with deployed(bench, _NAME, stack="electrum,portal"), bench.client_of(project) as client:
        address = client.get("/1.0/instances/portal")["devices"]["eth0"]["ipv4.address"]
        return [*_inside(client, address), _through_the_api(client, address)]


def _inside(client: Client, address: str) -> list[Line]:
    command = lxd_exec.Command(["python3", "-c", _FETCH, address, str(_PORT), str(_COUNT)])
    done = lxd_exec.run(client, "portal", command, deadline=60)
    if done.returncode:
        raise BenchError(done.stderr.decode())
    status, size, seconds = json.loads(done.stdout)
    if status != 200 or size > _MOST:
        raise BenchError(f"The portal answers with {status} and {size} bytes")
    work = f"the portal's page of a data center with five stacks, {size / 1000:.1f} kB, by TLS"
    return [Line(work, median(seconds), at_most=0.2)]


def _through_the_api(client: Client, address: str) -> Line:
    """As the browser of `bcm open`: each connection is a command in the instance."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the time is the same
    with forwarded(client, "portal", f"{address}:{_PORT}") as port:

        def fetch() -> None:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            if b" 200 OK" not in answer[:15]:
                raise BenchError(f"The portal answers: {answer[:80]!r}")

        seconds = [timed(fetch) for _number in range(_COUNT)]
    return Line("the same as `bcm open` reaches it", median(seconds), at_most=0.2)
