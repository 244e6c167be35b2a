# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""talk.py ADDRESS:PORT...: send over connections, until all are closed."""

import socket
import subprocess
import sys
import time

talking = {target: socket.create_connection(target.split(":"), 5) for target in sys.argv[1:]}
subprocess.run(["systemd-notify", "--ready"], check=True)
while talking:
    time.sleep(0.1)
    for target, connection in list(talking.items()):
        try:
            connection.send(b"x")
        except OSError:
            del talking[target]
