# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has UDP connections to the ports of an address until it is killed."""

import signal
import socket
import sys

sockets = []
for port in sys.argv[2:]:
    connection = socket.socket(type=socket.SOCK_DGRAM)
    connection.connect((sys.argv[1], int(port)))
    sockets.append(connection)
signal.pause()
