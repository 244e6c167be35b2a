# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""shop.py PLACE METHOD PATH BODY [LOGIN [COUNT]]: ask a web server, as often as COUNT says; print statuses and answers.

Eight are asked side by side, and the seconds that all took are printed, too.
"""

import base64
import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

place, method, path, body, login, count = (*sys.argv[1:], *("", "1")[len(sys.argv) - 5 :])
headers = {"Content-Type": "application/json"}
if login.startswith("token "):
    headers["Authorization"] = login
elif login:
    headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"


def ask(_number):
    connection = http.client.HTTPConnection(place, timeout=120)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


started = time.monotonic()
with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(ask, range(int(count))))
print(json.dumps({"answers": answers, "seconds": time.monotonic() - started}))
