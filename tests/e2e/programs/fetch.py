# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fetch.py SOURCE HOST PORT PATH ROOT [CERTIFICATE KEY]: print an answer as it came, or what came instead."""

import socket
import ssl
import sys

source, host, port, path, root, *own = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
if own:
    context.load_cert_chain(*own)
data = b""
try:
    plain = socket.create_connection((host, int(port)), 5, (source, 0))
    with context.wrap_socket(plain, server_hostname=host) as tls:
        tls.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        while more := tls.recv(65536):
            data += more
    print(data.decode() or "closed")
except ssl.SSLError as error:
    print("closed" if "EOF" in str(error) else f"TLS: {error.reason}")
except ConnectionResetError:
    print("closed")
except OSError as error:
    print(f"unreachable: {error}")
