# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what Ride The Lightning's server refuses, and how, for its double.

``recorded`` asks the server of a data center, whether it is the real one or the double. tests/e2e/test_clightning.py
compares that with tests/recordings/ridethelightning.json, or writes it there if BCM_RECORD is set.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.e2e.conftest import inside

# Prints status, type and body of each request of method, path, body and whether the form's cookies are sent with it.
_ASK = """
import http.client, json, sys
from http.cookies import SimpleCookie
connection, cookies, found = http.client.HTTPConnection("127.0.0.1", 3000), {}, []
for method, path, body, with_cookies in json.loads(sys.argv[1]):
    headers = {"Content-Type": "application/json"} if body else {}
    if with_cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        headers["X-XSRF-TOKEN"] = cookies.get("XSRF-TOKEN", "")
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    for line in answer.headers.get_all("Set-Cookie", []):
        cookies |= {name: item.value for name, item in SimpleCookie(line).items()}
    found.append([answer.status, answer.getheader("Content-Type"), answer.read().decode()])
print(json.dumps(found))
"""
_LOGIN = json.dumps({"authenticateWith": "PASSWORD", "authenticationValue": "00" * 32, "twoFAToken": ""})
#: what is recorded: the name, the method, the path, the body, and whether the cookies are sent
_REQUESTS = {
    "page": ("GET", "/rtl/login", "", False),
    "not_logged_in": ("GET", "/rtl/api/lnd/getinfo", "", True),
    "forged": ("POST", "/rtl/api/authenticate", _LOGIN, False),
    "wrong_password": ("POST", "/rtl/api/authenticate", _LOGIN, True),
}


def ask(datacenter: str, *requests: tuple[str, str, str, bool]) -> list[list[Any]]:
    """Status, type and body of the answers to requests of a browser without a login."""
    text = inside(datacenter, "ridethelightning", "python3", "-c", _ASK, json.dumps(requests), deadline=120)
    return list(json.loads(text))


def recorded(datacenter: str) -> dict[str, Any]:
    """All that the double refuses; and its page, which is the title of the real one and nothing else."""
    found = dict(zip(_REQUESTS, ask(datacenter, *_REQUESTS.values()), strict=True))
    title = re.findall("<title>.*?</title>", found["page"][2], re.S)
    found["page"][2] = "".join(["<!doctype html>", *title])
    return found
