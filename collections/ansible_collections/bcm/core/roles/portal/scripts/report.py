# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance at the end of each run: keep what the run has found, and prove that the page of it is served.

What an earlier run has found of other stacks stays, with its time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bcm_guest.apple_profile import root_profile
from bcm_guest.prove import TRUST, Endpoint, Fault, http_request
from bcm_guest.volume_files import make_directory, read_file, write_file

FOLDER = Path("/var/lib/portal")
STATE, PAGE = FOLDER / "state.json", FOLDER / "page"
#: bytes that the page may have at most
MOST = 100_000
_PATIENCE = 10.0  # seconds until the page is served; it takes milliseconds


def merged(former: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """What is known now: ``run``, of the data center, and ``stacks``, of each that is there, from its last run."""
    return {"run": _of_run(former.get("run", {}), sent), "stacks": _of_stacks(former.get("stacks", {}), sent)}


def _of_run(former: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """A run that only stops stacks asks neither the authority nor tor, and sends nothing of theirs."""
    kept = {key: sent[key] or former.get(key) or sent[key] for key in ("roots", "lists_end")}
    return {**sent, **kept, **{key: {**former.get(key, {}), **sent[key]} for key in ("addresses", "codes")}}


def _of_stacks(former: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    certificates = {item["name"]: item["not_after"] for item in sent["certificates"]}
    reported = {item["stack"]: item for item in sent["report"]["stacks"]}
    found = {}
    for stack in sent["stacks"]:
        name = stack["stack"]
        known = dict(former.get(name, {}))
        if name in reported:
            item = reported[name]
            known |= {"status": item["status"], "version": item["version"], "notes": item["verified"]}
            known |= {"as_of": sent["time"], "backups": item["facts"].get("backups", [])}
        if name in certificates:
            known["certificate"] = certificates[name]
        found[name] = known
    return found


def _former() -> dict[str, Any]:
    try:
        found = json.loads(read_file(STATE))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _served(place: Endpoint, of_time: str) -> int:
    """Wait until the page of the run at that time is served, and return its bytes. Ends the program if it is not."""
    end = time.monotonic() + _PATIENCE
    while True:
        fault = "another page is served than that of this run"
        try:
            text = read_file(PAGE / "index.html").decode()
            if of_time in text and http_request(place) == (200, text):
                return len(text.encode())
        except (Fault, OSError) as error:
            fault = str(error)
        if time.monotonic() > end:
            sys.exit(f"portal: {fault}; see `bcm logs portal`")
        time.sleep(0.1)


def main() -> None:
    sent: dict[str, Any] = json.load(sys.stdin)
    roots = Path(TRUST).read_text(encoding="ascii")
    make_directory(PAGE, 0o755)
    for path, content in (
        (STATE, json.dumps(merged(_former(), sent)).encode()),
        (PAGE / "root.crt", roots.encode()),
        (PAGE / "root.mobileconfig", root_profile(sent["report"]["data_center"], roots)),
    ):
        write_file(path, content, 0o644)
    # It makes the page before it has started.
    subprocess.run(["systemctl", "restart", "portal-page"], check=True)
    own = next(stack for stack in sent["stacks"] if stack["stack"] == sent["stack"])
    place = urlsplit(own["web"][0]["url"])
    size = _served(Endpoint(str(place.hostname), int(place.port or 0), tls=True), sent["time"])
    if size > MOST:
        sys.exit(f"portal: the page has {size} bytes, more than {MOST}")
    print(json.dumps({"size": size}))


if __name__ == "__main__":
    main()
