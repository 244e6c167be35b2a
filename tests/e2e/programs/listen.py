# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""listen.py PORT...: listen on the ports that are free, so that a port that is not reached was blocked."""

import socket
import subprocess
import sys
import time

sockets = []
for port in sys.argv[1:]:
    try:
        sockets.append(socket.create_server(("", int(port))))
    except OSError:
        pass
subprocess.run(["systemd-notify", "--ready"], check=True)
time.sleep(600)
