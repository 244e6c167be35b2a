# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""world.py ADDRESS PORT...: be a host that accepts connections, and an echo for DNS.

Each connection is closed when the other end closes it, so that the kernels keep nothing of it.
"""

import contextlib
import socket
import socketserver
import sys
import threading


class World(socketserver.ThreadingTCPServer):
    address_family, daemon_threads = socket.AF_INET6, True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Listener(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):
            while self.request.recv(4096):
                pass


for port in sys.argv[2:]:
    threading.Thread(target=World(("::", int(port)), Listener).serve_forever, daemon=True).start()
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    asked, who = names.recvfrom(512)
    names.sendto(asked, who)
