# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the page of what runs have found and what answers now, once or, with the word `always`, again and again."""

from __future__ import annotations

import html
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bcm_guest.volume_files import read_file, write_file
from portal_now import look_now

FOLDER = Path("/var/lib/portal")
STATE, PAGE = FOLDER / "state.json", FOLDER / "page/index.html"
_PAUSE = 15.0  # seconds between two looks
_OLD = timedelta(days=1)
_DUE = timedelta(days=10)  # before its end a certificate is renewed by a run
_DAY = len("2026-11-29")
_TIME = "%Y-%m-%d %H:%M UTC"
_ROOT = "/root."  # what paths of the root certificate begin with

#: how a system is told to trust the root
INSTRUCTIONS = {
    "Debian, Ubuntu": "copy <code>root.crt</code> to <code>/usr/local/share/ca-certificates/</code> and run "
    "<code>update-ca-certificates</code>",
    "Fedora": "copy <code>root.crt</code> to <code>/etc/pki/ca-trust/source/anchors/</code> and run "
    "<code>update-ca-trust</code>",
    "Firefox, Tor Browser": "Settings, Privacy and Security, View Certificates, Authorities, Import",
    "Windows": "open <code>root.crt</code>, Install Certificate, Local Machine, Trusted Root Certification "
    "Authorities",
    "macOS": "open <code>root.crt</code> in Keychain Access, and trust it for SSL",
    "iPhone, iPad": "open <code>root.mobileconfig</code> in Safari, install the profile in Settings, then turn it on "
    "in General, About, Certificate Trust Settings",
    "Android": "Settings, Security, Encryption and credentials, Install a certificate, CA certificate, "
    "<code>root.crt</code>",
}


def page(known: Mapping[str, Any], answers: Mapping[str, str], now: datetime) -> str:
    """The page of what `report.py` keeps, and `look_now` answers, as HTML; what comes from elsewhere is text in it."""
    sent, state = known["run"], known["stacks"]
    report = sent["report"]
    title = f"{report['data_center']} on {report['chain']}"
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        '<link rel="stylesheet" href="/style.css">',
        "</head>",
        "<body>",
        "<header>",
        f"<h1>Data center {_text(title)}</h1>",
        f"<p>As of {_text(sent['time'])}, when the last run ended, {_ago(sent['time'], now)}. Ages, and what is said "
        "to be so now, are of the minute in which you load this page; all else is what the last run of each stack has "
        "found, and is marked as old after 24 hours.</p>",
        *_next_run(sent, state, now),
        "</header>",
        "<main>",
        *_warnings(report["warnings"]),
        "<h2>Stacks</h2>",
        '<ul class="stacks">',
        *(
            line
            for stack in sent["stacks"]
            for line in _stack(stack, state.get(stack["stack"], {}), answers.get(stack["stack"]), sent, now)
        ),
        "</ul>",
        *_backups(sent, state, now),
        *_onions(sent),
        *_root(sent),
        *_exceptions(report["exceptions"], report["through_tor"]),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return html.escape(str(value))


def _link(url: str, text: str) -> str:
    return f'<a href="{_text(url)}">{_text(text)}</a>'


def _warnings(warnings: Iterable[str]) -> Iterator[str]:
    lines = [f"<li>{_text(warning)}</li>" for warning in warnings]
    if lines:
        yield from ["<h2>Warnings of the last run</h2>", "<ul>", *lines, "</ul>"]


def _next_run(sent: Mapping[str, Any], state: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """By when a run has to renew certificates and lists, since nobody else has the key that signs them."""
    ends = [(known["certificate"], name) for name, known in state.items() if "certificate" in known]
    ends += [(sent["lists_end"], sent["stack"])] if sent["lists_end"] else []
    if ends:
        end, name = min(ends)
        marked = _marked(f"by {end[:_DAY]}, {_left(end, now)}", is_old=_is_due(end, now))
        run = f"<code>bcm stack start {_text(name)}</code>"
        yield f"<p>Certificates are renewed by runs, the next of which has to be {marked}: {run}</p>"


def _is_due(end: str, now: datetime) -> bool:
    return datetime.fromisoformat(end) - now < _DUE


def _left(end: str, now: datetime) -> str:
    """How long something is valid yet."""
    moment = datetime.fromisoformat(end)
    return f"{_span(moment - now)} left" if moment > now else f"ended {_span(now - moment)} ago"


def _marked(text: str, *, is_old: bool) -> str:
    return f'<span class="old">{_text(text)}</span>' if is_old else _text(text)


def _seen(as_of: str, now: datetime) -> str:
    old = now - _read(as_of) >= _OLD
    return _marked(f"{as_of}, {_ago(as_of, now)}{': old' if old else ''}", is_old=old)


def _stack(
    stack: Mapping[str, Any], known: Mapping[str, Any], answer: str | None, sent: Mapping[str, Any], now: datetime
) -> Iterator[str]:
    """The lines of a stack. ``answer`` is what it says now, empty if it does not; None if it is not asked."""
    name = stack["stack"]
    status = known.get("status")
    as_of = known.get("as_of", sent["time"])
    is_old = now - _read(as_of) >= _OLD
    is_down = status not in ("running", None)
    if is_down:
        answer = None  # nobody expects one
    health = "bad" if is_down or answer == "" else "old" if is_old else "good"
    end = known.get("certificate")
    state = f"{status}, when it was last seen" if is_old else status
    facts = {
        "Now": _answered(answer, name, now) if answer is not None else "",
        "State": f'<span class="{health}">{_text(state)}</span>' if status else "not seen by a run yet",
        "Version": _text(known.get("version") or ""),
        "At least": _text(" or ".join(stack["floor"])),
        "Verified": _text("; ".join(known.get("notes", ()))),
        "Certificate": _marked(f"until {end[:_DAY]}, {_left(end, now)}", is_old=_is_due(end, now)) if end else "",
        "Seen": _seen(as_of, now) if status else "",
    }
    yield from ["<li>", f"<h3>{_text(name)}</h3>", f"<p>{_text(stack['description'])}</p>"]
    for place in stack["web"]:
        if name == sent["stack"] and place["path"].startswith(_ROOT):
            continue
        yield f"<p>{_link(place['url'], place['title'])}, by <code>bcm open {_text(name)}</code></p>"
        yield from (f"<p>{_link(url, place['title'] + ' ' + way)}</p>" for way, url in _ways(place, sent))
    yield "<dl>"
    yield from (f"<dt>{label}</dt><dd>{value}</dd>" for label, value in facts.items() if value)
    yield from ["</dl>", "</li>"]


def _answered(answer: str, name: str, now: datetime) -> str:
    at = f"at {now.strftime('%H:%M UTC')}"
    if answer:
        return f'<span class="good">{_text(answer)}</span> {at}'
    return f'<span class="bad">does not answer</span> {at}: see <code>bcm logs {_text(name)}</code>'


def _ways(place: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How a page is reached from elsewhere, and its URL there."""
    if place["lan"]:
        yield "in the local network", place["lan"]
    address = sent["addresses"].get(place["onion"])
    if address:
        yield "through Tor", _onion_url(address, place)


def _onion_url(address: str, place: Mapping[str, Any]) -> str:
    port = "" if place["onion_port"] == 80 else f":{place['onion_port']}"
    return f"http://{address}{port}{place['path']}"


def _backups(sent: Mapping[str, Any], state: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """A line for each copy: of what it is, where, and how old it is."""
    yield "<h2>Backups</h2>"
    lines = [
        f"<dt>{_text(item['of'])}</dt>"
        f"<dd>{_text(item['at'])}, made {_text(_moment(item['made']))}, {_age(item['made'], now)} old; "
        f"seen {_seen(state[stack['stack']]['as_of'], now)}</dd>"
        for stack in sent["stacks"]
        for item in state.get(stack["stack"], {}).get("backups", ())
    ]
    if not lines:
        yield "<p>No run has seen a copy of channels or databases.</p>"
        return
    yield from ["<dl>", *lines, "</dl>"]


def _moment(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime(_TIME)


def _age(text: str, now: datetime) -> str:
    """How old something is, in the largest unit that fits: ``3 days``."""
    return _span(now - datetime.fromisoformat(text))


def _ago(text: str, now: datetime) -> str:
    """How long ago a run ended: ``3 days ago``."""
    return f"{_span(now - _read(text))} ago"


def _read(text: str) -> datetime:
    """The time that a run has sent."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _span(passed: timedelta) -> str:
    for unit, size in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if (count := passed // size) > 0:
            return f"{count} {unit}{'s' * (count != 1)}"
    return "0 minutes"


def _onions(sent: Mapping[str, Any]) -> Iterator[str]:
    found = [
        (stack["stack"], onion, sent["addresses"][onion["name"]])
        for stack in sent["stacks"]
        for onion in stack["onions"]
        if onion["name"] in sent["addresses"]
    ]
    if not found:
        return
    yield "<h2>Onion addresses</h2>"
    yield "<p>Unless it says that it is public, a client needs a key: <code>bcm access grant NAME STACK</code>.</p>"
    for name, onion, address in found:
        place = f"{address}:{onion['port']}"
        who = f"public: {onion['public']}" if onion["public"] else "with a key"
        yield f"<details><summary>{_text(name)} {_text(onion['service'])} ({_text(who)})</summary>"
        yield f"<p><code>{_text(place)}</code></p>"
        yield from _code(sent["codes"].get(place), f"Onion address of {name} {onion['service']}")
        yield "</details>"


def _code(code: Mapping[str, Any] | None, what: str) -> Iterator[str]:
    if code:
        size = int(code["size"])
        path = "".join(sign for sign in str(code["path"]) if sign in "Mhvz -0123456789")
        yield f'<svg role="img" aria-label="QR code: {_text(what)}" viewBox="0 0 {size} {size}">'
        yield f'<path d="{path}"/></svg>'


def _root(sent: Mapping[str, Any]) -> Iterator[str]:
    roots = [root for root in sent["roots"] if root["trusted"]]
    yield "<h2>Root certificate</h2>"
    for root in roots:
        yield f"<p>{_text(root['subject'])}, until {_text(root['not_after'][:_DAY])}. Compare its SHA-256 with "
        yield f"<code>bcm ca show</code> before you trust it: <code>{_text(root['fingerprint'])}</code></p>"
    yield f"<p>{_link('/root.crt', 'root.crt')} for programs, {_link('/root.mobileconfig', 'root.mobileconfig')} "
    yield "for iPhone and iPad. A phone that reaches this page gets them by these codes.</p>"
    own = next((stack for stack in sent["stacks"] if stack["stack"] == sent["stack"]), {"web": []})
    for place in own["web"]:
        for way, url in _ways(place, sent) if place["path"].startswith(_ROOT) else ():
            yield f"<details><summary>{_text(place['title'])} {_text(way)}</summary>"
            yield f"<p><code>{_text(url)}</code></p>"
            yield from _code(sent["codes"].get(url), f"{place['title']} {way}")
            yield "</details>"
    yield "<dl>"
    yield from (f"<dt>{system}</dt><dd>{text}</dd>" for system, text in INSTRUCTIONS.items())
    yield "</dl>"


def _exceptions(exceptions: Iterable[Mapping[str, Any]], asked: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    lines = [
        f"<li>{_text(item['stack'])} reaches {_text(item['to'])} {_text(item['protocol'])} {_text(item['port'] or '')} "
        f"without Tor: {_text(item['why'])}</li>"
        for item in exceptions
    ]
    yield "<h2>Exceptions</h2>"
    if not lines:
        yield "<p>Nothing leaves but through Tor.</p>"
    lines += [
        f"<li>{_text(item['stack'])} reaches {_text(item['to'])} through Tor: {_text(item['why'])}</li>"
        for item in asked
    ]
    yield from ["<ul>", *lines, "</ul>"] if lines else []


def main() -> None:
    while True:
        # Without it, no run has ended yet.
        if STATE.exists():
            known = json.loads(read_file(STATE))
            answers = look_now(known["run"]["stacks"])
            write_file(PAGE, page(known, answers, datetime.now(UTC)).encode(), 0o644)
        if sys.argv[1:] != ["always"]:
            return
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
