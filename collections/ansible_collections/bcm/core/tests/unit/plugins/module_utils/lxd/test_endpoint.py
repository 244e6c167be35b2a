# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints: what a person may write, and what is found on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import endpoint
from ansible_collections.bcm.core.plugins.module_utils._lxd.endpoint import find_local, resolve
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError, Unreachable

Pairs = dict[str, tuple[Path, Path]]


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without LXD."""
    monkeypatch.setattr(endpoint, "_SOCKETS", ("/nonexistent/lxd/unix.socket", "/nonexistent/incus/unix.socket"))
    for name in ("LXD_DIR", "INCUS_DIR"):
        monkeypatch.delenv(name, raising=False)


def listen(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind(str(path))
    return str(path)


@pytest.mark.parametrize("written", ["/run/lxd/unix.socket", "unix:///run/lxd/unix.socket"])
def test_a_socket_is_a_path_or_a_url(written: str) -> None:
    found = resolve(written)
    assert (found.name, found.socket_path) == (written, "/run/lxd/unix.socket")
    assert found.url == "http+unix://%2Frun%2Flxd%2Funix.socket"


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://box", "https://box:8443"),
        ("https://box:9443/", "https://box:9443"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:8443"),
    ],
)
def test_https_has_a_port_by_default(written: str, url: str, certificates: Pairs) -> None:
    certificate, key = certificates["client"]
    found = resolve(written, client_cert=str(certificate), client_key=str(key))
    assert (found.url, found.socket_path, found.client_cert) == (url, None, str(certificate))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("ftp://box", 'Endpoint "ftp://box": unknown scheme "ftp", use unix://, https:// or ssh://'),
        ("https://box:port", 'Endpoint "https://box:port": Port could not be cast to integer value as \'port\''),
        ("https://", 'Endpoint "https://" names no host: https://host[:port]'),
        ("ssh:///run/lxd.socket", 'Endpoint "ssh:///run/lxd.socket" names no host: ssh://[user@]host[:port]'),
        ("https://box", "Endpoint https://box needs a client certificate: set client_cert and client_key"),
    ],
)
def test_a_wrong_endpoint_is_named_with_its_fault(written: str, message: str) -> None:
    with pytest.raises(LxdError) as caught:
        resolve(written)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_cert": "/no"}, "client_cert /no does not exist, or you may not read it"),
        ({"client_key": "/no"}, "client_key /no does not exist, or you may not read it"),
        ({"server_cert": "/no"}, "server_cert /no does not exist, or you may not read it"),
        ({"server_cert": __file__}, f"server_cert {__file__} is not a certificate in PEM"),
        ({"client_cert": __file__}, f"{__file__} is not a certificate in PEM with its unencrypted key"),
        ({"client_key": __file__}, "client.crt is not a certificate in PEM with its unencrypted key"),
        ({"client_key": None}, "client.crt is not a certificate in PEM with its unencrypted key"),
    ],
)
def test_malformed_certificates_are_refused(options: dict[str, str | None], message: str, certificates: Pairs) -> None:
    certificate, key = certificates["client"]
    wanted: dict[str, str | None] = {"client_cert": str(certificate), "client_key": str(key), **options}
    with pytest.raises(LxdError) as caught:
        resolve("https://box", **wanted)  # type: ignore[arg-type]
    assert str(caught.value).startswith("Endpoint https://box: ")
    assert str(caught.value).endswith(message)


@pytest.mark.usefixtures("nothing_here")
def test_message_about_a_missing_lxd_has_a_remedy() -> None:
    assert find_local() is None
    with pytest.raises(Unreachable) as caught:
        resolve(None)
    assert str(caught.value) == (
        "No LXD or Incus answers on this machine: none of its sockets exists "
        "(/nonexistent/lxd/unix.socket, /nonexistent/incus/unix.socket). "
        "Install LXD, or set bcm_endpoint to a machine that runs it."
    )


@pytest.mark.usefixtures("nothing_here")
def test_the_first_socket_that_exists_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_socket = tmp_path / "a/unix.socket"
    no_socket.parent.mkdir()
    no_socket.touch()
    first, second = listen(tmp_path / "b/unix.socket"), listen(tmp_path / "c/unix.socket")
    monkeypatch.setattr(endpoint, "_SOCKETS", (str(no_socket), first, second))
    assert find_local() == first
    assert resolve(None).socket_path == first


@pytest.mark.usefixtures("nothing_here")
@pytest.mark.parametrize("name", ["LXD_DIR", "INCUS_DIR"])
def test_a_directory_in_the_environment_excludes_all_other_daemons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(endpoint, "_SOCKETS", (listen(tmp_path / "system/unix.socket"),))
    monkeypatch.setenv(name, str(tmp_path / "own"))
    assert find_local() is None
    with pytest.raises(Unreachable, match=r"none of its sockets exists \(.*/own/unix.socket\)\."):
        resolve(None)
    own = listen(tmp_path / "own/unix.socket")
    assert find_local() == own


def test_the_places_of_the_packages_are_known() -> None:
    snap, deb, run, incus = endpoint._SOCKETS
    assert "snap" in snap and deb == "/var/lib/lxd/unix.socket"
    assert (run, incus) == ("/run/incus/unix.socket", "/var/lib/incus/unix.socket")


def test_a_directory_for_tunnels_that_others_can_enter_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    mine = endpoint._runtime_dir()
    assert mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o755)
    with pytest.raises(LxdError, match="must belong to you alone"):
        resolve("ssh://box")


def test_without_ssh_the_message_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable, match="Failed to reach ssh://box: there is no ssh on this machine; install it"):
        resolve("ssh://box")


def test_a_host_is_never_taken_for_an_option_of_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(Unreachable, match="Failed to reach"):
        resolve(f"ssh://-oProxyCommand=touch${{IFS}}{proof}", timeout=5.0)
    assert not proof.exists()
