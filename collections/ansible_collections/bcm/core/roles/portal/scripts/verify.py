# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that portal answers over TLS, changes nothing and serves no other file."""

import time

from bcm_guest.prove import Fault, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    service = stack.service("http")
    status, style = http_request(service, "GET", "/style.css")
    if status != 200 or "color-scheme" not in style:
        raise Fault(f"it answers {status} in place of its style sheet")
    for method, path, expected in (("POST", "/", 403), ("GET", "/../state.json", 400), ("GET", "/state.json", 404)):
        status, _body = http_request(service, method, path)
        if status != expected:
            raise Fault(f"it answers {method} {path} with {status}, not {expected}")
    begun = time.monotonic()
    status, page = http_request(service, "GET", "/")
    milliseconds = round((time.monotonic() - begun) * 1000)
    # a run writes the page when everything has been verified
    if status != 200:
        return Report({"size": 0}, ["the page comes at the end of this run"])
    size = len(page.encode())
    return Report({"size": size, "milliseconds": milliseconds}, [f"page of {size / 1000:.0f} kB in {milliseconds} ms"])


prove(look)
