# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the input to a connection, and what comes through the connection to the output.

Arguments: the address and the port to connect to. Ends with the connection.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def carry(there: socket.socket) -> None:
    threading.Thread(target=_send, args=(there,), daemon=True).start()
    while data := there.recv(65536):
        while data:
            data = data[os.write(1, data) :]


def _send(there: socket.socket) -> None:
    while data := os.read(0, 65536):
        there.sendall(data)
    there.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    carry(socket.create_connection((sys.argv[1], int(sys.argv[2]))))
