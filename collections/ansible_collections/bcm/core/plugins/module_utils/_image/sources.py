# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Debian packages come from, and how: the settings, and the machine's own apt configuration.

Formats: sources.list(5) and its deb822 form, apt.conf(5).
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._base import network
from .._base.errors import BcmError
from . import recipe

_APT = Path("/etc/apt")
_LISTS = Path("/var/lib/apt/lists")
_OPTION = re.compile(r'(?P<name>[A-Za-z][\w:./+-]*) "(?P<value>[^"\n]+)";')
# How packages are reached and which dates are accepted. Never whether signatures count: those of Debian always do.
_REACHES = re.compile(
    r"Acquire::(https?::.+|(Check-Valid-Until|Check-Date|Max-FutureTime|ForceIPv4|ForceIPv6|Queue-Mode|By-Hash)"
    r"|(Retries|(Max|Min)-ValidTime)(::.+)?)",
    re.I,
)
# Files and programs of the machine, which a builder has not.
_OF_MACHINE = re.compile(r".*::(CaInfo|CaPath|CrlFile|IssuerCert|SslCert|SslKey|Proxy-?Auto-?Detect)(::.*)?", re.I)
_PASSWORD = re.compile(r"//[^/\s@]+@")
_PROXY = re.compile(r"Acquire::https?::(.+::)?Proxy\b", re.I)
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+\S+\s*(?P<components>[^#]*)")


@dataclass(frozen=True)
class Mirrors:
    """Addresses of the archive and of its security updates (None: there are none)."""

    archive: str
    security: str | None
    snapshot: bool = False

    @property
    def urls(self) -> list[str]:
        return [self.archive, *([self.security] if self.security else [])]

    def lines(self, keyring: str | None = None) -> list[str]:
        """The one-line sources of the base's suite; ``keyring`` is a path where apt will read them."""
        options = self.options(keyring)
        lines = [f"deb {options}{self.archive} {suite} main" for suite in (recipe.SUITE, f"{recipe.SUITE}-updates")]
        if self.security:
            lines.append(f"deb {options}{self.security} {recipe.SUITE}-security main")
        return lines

    def options(self, keyring: str | None) -> str:
        # The signed date of a snapshot is past by intent.
        given = [*(["check-valid-until=no"] if self.snapshot else []), *([f"signed-by={keyring}"] if keyring else [])]
        return f"[{' '.join(given)}] " if given else ""


#: the archive's onion services, as onion.debian.org lists them
ONION = Mirrors(
    "http://2s4yqjx5ul6okpp3f2gaunr2syex5jgbfpfvhxxbbjwnrsvbk5v3qbid.onion/debian",
    "http://5ajw6aqf3ep7sijnscdzw77t7xq4xjpsy335yb2wiwgouo7yfxtjlmid.onion/debian-security",
)


@dataclass(frozen=True)
class _Source:
    uri: str
    components: tuple[str, ...]
    signed_by: str


def mirrors(
    settings: Mapping[str, Any], apt: Path = _APT, lists: Path = _LISTS, *, through_tor: bool = False
) -> Mirrors | None:
    """The mirrors to use; None leaves them to mmdebstrap, which knows Debian's own.

    With ``through_tor``, the archive's onion services, unless the settings name others.
    Raises BcmError if the settings contradict each other.
    """
    snapshot, archive = settings.get("image_snapshot"), settings.get("image_mirror")
    security = settings.get("image_security_mirror")
    if snapshot and "{snapshot}" not in (archive or ""):
        raise BcmError(
            "image_snapshot",
            f'is "{snapshot}", but image_mirror has no place for it',
            "set image_mirror to the address of an archive of snapshots, with {snapshot} where the date stands",
            code="invalid_value",
        )
    if not archive and through_tor:
        return ONION if security is None else replace(ONION, security=security.rstrip("/") or None)
    if not archive:
        return _of_machine(apt, lists, security)
    if security is None:
        # Mirrors keep the two side by side; a mirror that has only the archive says so by an empty setting.
        security = re.sub(r"/debian(?=/|$)", "/debian-security", archive) if re.search(r"/debian(/|$)", archive) else ""
    archive, security = (re.sub(r"\{snapshot\}", snapshot or "", text).rstrip("/") for text in (archive, security))
    return Mirrors(archive, security or None, snapshot=bool(snapshot))


def check_in_reach_of_tor(settings: Mapping[str, Any]) -> None:
    """Refuse mirrors at addresses of private networks, which Tor cannot reach. Raises BcmError."""
    given = [(name, settings.get(name)) for name in ("image_mirror", "image_security_mirror")]
    given += [("image_sources", source.get("mirror")) for source in settings.get("image_sources") or []]
    for name, uri in given:
        with contextlib.suppress(ValueError):  # a name, or none
            address = ip_address(urlsplit(uri or "").hostname or "")
            if not any(address in IPv4Network(public) for public in network.public()):
                raise BcmError(
                    name,
                    f"has {address}, and Tor leads to no private network",
                    "leave it out, or have all images made without Tor, by setting bcm_downloads_through_tor to false",
                    code="unreachable",
                )


def apt_options(settings: Mapping[str, Any], socks: str | None = None) -> dict[str, str]:
    """Options of apt by name: the machine's own that say how packages are reached, and over them those of the settings.

    With ``socks``, ADDRESS:PORT of a tor, that one is the proxy, and no other. Raises BcmError if the settings have
    something else.
    """
    options = dict(_options_of_machine(_dump()))
    for option in settings.get("image_apt_options") or []:
        name, equals, value = option.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z][\w:./-]*", name) or '"' in value or "\n" in value:
            shown = without_passwords(option)
            raise BcmError(
                "image_apt_options:",
                f'"{shown}" is not an option of apt',
                "write it as Name::Part=value",
                code="invalid_value",
            )
        options = {known: kept for known, kept in options.items() if known.lower() != name.lower()}
        options[name] = value
    if socks is None:
        return options
    others = {name: value for name, value in options.items() if not _PROXY.match(name)}
    return others | {f"Acquire::{scheme}::Proxy": f"socks5h://{socks}" for scheme in ("http", "https")}


def apt_conf(options: Mapping[str, str]) -> str:
    """The options as a file of apt.conf(5). It may hold the password of a proxy."""
    return "".join(f'{name} "{value}";\n' for name, value in options.items())


def loopback(url: str) -> str | None:
    """ADDRESS:PORT of a URL that leads to the machine itself, such as that of a cache of packages; else None."""
    try:
        parts = urlsplit(url)
        host = ip_address("127.0.0.1" if parts.hostname == "localhost" else parts.hostname or "")
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
    except ValueError:  # any other name, or no URL
        return None
    return f"{f'[{host}]' if host.version == 6 else host}:{port}" if host.is_loopback else None


def without_passwords(text: str) -> str:
    """Return a text without the user names and passwords of its URLs."""
    return _PASSWORD.sub("//", text)


def _dump() -> str:
    """The machine's apt configuration, an option a line; empty where there is no apt."""
    try:
        return subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _options_of_machine(dump: str) -> Iterator[tuple[str, str]]:
    for line in dump.splitlines():
        match = _OPTION.fullmatch(line)
        if match and _REACHES.fullmatch(match["name"]) and not _OF_MACHINE.fullmatch(match["name"]):
            yield match["name"], match["value"]


def _of_machine(apt: Path, lists: Path, security: str | None) -> Mirrors | None:
    archives = [source.uri for source in _sources(apt) if _is_debian(source, "/debian", lists)]
    if not archives:
        return None
    if security is None:
        found = [source.uri for source in _sources(apt) if _is_debian(source, "/debian-security", lists)]
        security = found[0] if found else ""
    return Mirrors(archives[0], security.rstrip("/") or None)


def _is_debian(source: _Source, ending: str, lists: Path) -> bool:
    try:
        parts = urlsplit(source.uri)
    except ValueError:  # apt takes it for no address either
        return False
    if parts.scheme not in ("http", "https") or not parts.path.endswith(ending) or "main" not in source.components:
        return False
    # Others end their address like that, too. What apt has read of them tells; else the key that they name.
    name = f"{parts.netloc}{parts.path}".replace("_", "%5f").replace("/", "_")
    for release in sorted(lists.glob(f"{name}_dists_*Release")) if lists.is_dir() else []:
        origin = re.search(r"^Origin:\s*(.*?)\s*$", release.read_text(encoding="utf-8", errors="replace"), re.M)
        return origin is not None and origin[1] == "Debian"
    return not source.signed_by or Path(source.signed_by).name.startswith("debian-archive-")


def _sources(apt: Path) -> Iterator[_Source]:
    """The enabled binary sources of an apt configuration, in apt's order."""
    paths = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for path in paths:
        if path.suffix not in (".list", ".sources"):
            continue
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # absent, or not ours to read
            continue
        yield from (_deb822(text) if path.suffix == ".sources" else _one_line(text))


def _one_line(text: str) -> Iterator[_Source]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match:
            options = dict(item.split("=", 1) for item in (match["options"] or "").split() if "=" in item)
            components = tuple(match["components"].split())
            yield _Source(match["uri"].rstrip("/"), components, options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[_Source]:
    text = re.sub(r"^#.*\n?", "", text, flags=re.M)
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
            elif ":" in line:
                name, _colon, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        for uri in fields.get("uris", "").split():
            yield _Source(uri.rstrip("/"), tuple(fields.get("components", "").split()), fields.get("signed-by", ""))
