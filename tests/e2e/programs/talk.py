# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""talk.py ADDRESS:PORT...: send over connections now and then, until all are closed."""

import select
import socket
import subprocess
import sys

# The host's refusals, for which `bcm privacy` waits, have to come between two packets: see docs/privacy.md.
PAUSE = 5  # seconds

talking = [socket.create_connection(target.split(":"), 5) for target in sys.argv[1:]]
ends = select.poll()
for connection in talking:
    ends.register(connection, 0)  # a connection that was ended is reported all the same
subprocess.run(["systemd-notify", "--ready"], check=True)
while talking:
    ended = {descriptor for descriptor, _event in ends.poll(PAUSE * 1000)}
    for connection in list(talking):
        try:
            if connection.fileno() in ended:
                raise ConnectionAbortedError
            connection.send(b"x")
        except OSError:
            ends.unregister(connection)
            talking.remove(connection)
