# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints: how the controller reaches the REST API of a host.

``unix:///path`` or ``/path``
    a socket of this machine;
``https://host[:8443]``
    a client certificate against a server certificate that is pinned, of a given authority, or publicly trusted;
``ssh://[user@]host[:port][/path/to/socket]``
    the remote unix socket, forwarded through one multiplexed SSH connection, as ``DOCKER_HOST=ssh://`` does it. The
    environment variable BCM_SSH_AGENT may be the path of an agent that has the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from .._base.locks import hold_lock
from .lxd_errors import LxdError, Unreachable

# The order is LXD's own: snap and deb packages of LXD, then Incus.
_SOCKETS = (
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/run/incus/unix.socket",
    "/var/lib/incus/unix.socket",
)
_SSH_PERSIST_SECONDS = 300
# what a person may take to unlock a device that holds the key, and to confirm the login on it
_PERSON_SECONDS = 300


@dataclass(frozen=True)
class Endpoint:
    """A resolved endpoint: ``url`` for requests, ``socket_path`` when it is (or was made) a unix socket.

    ``server_roots``: what is in ``server_cert`` vouches for the server's certificate, and is not that certificate.
    """

    name: str
    url: str
    socket_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    server_cert: str | None = None
    server_roots: bool = False

    @property
    def is_here(self) -> bool:
        """Whether the server runs on this machine."""
        return self.socket_path is not None and not self.name.startswith("ssh://")

    def connect(self, timeout: float) -> socket.socket:
        """A connected stream to the API, for what is not plain HTTP (websockets, SFTP)."""
        if self.socket_path is not None:
            raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            raw.settimeout(timeout)
            raw.connect(self.socket_path)
            return raw
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cafile=self.server_cert if self.server_roots else None)
        pinned = None if self.server_roots else self.server_cert
        if pinned:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert:
            context.load_cert_chain(self.client_cert, self.client_key)
        raw = socket.create_connection((parts.hostname or "", parts.port or 8443), timeout)
        tls = context.wrap_socket(raw, server_hostname=parts.hostname)
        if pinned:
            expected = ssl.PEM_cert_to_DER_cert(Path(pinned).read_text(encoding="utf-8"))
            if tls.getpeercert(binary_form=True) != expected:
                tls.close()
                raise ssl.SSLCertVerificationError("not the pinned certificate")
        return tls


def local_sockets() -> list[str]:
    """The places where a LXD or Incus of this machine may listen, best first.

    LXD_DIR and INCUS_DIR replace the places of the packages: a person who names a directory means no other daemon.
    """
    own = [os.path.join(os.environ[name], "unix.socket") for name in ("LXD_DIR", "INCUS_DIR") if os.environ.get(name)]
    return own or list(_SOCKETS)


def find_local() -> str | None:
    """The path of the first socket that exists on this machine."""
    for path in local_sockets():
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                return path
        except OSError:
            continue
    return None


def resolve(
    endpoint: str | None,
    *,
    client_cert: str | None = None,
    client_key: str | None = None,
    server_cert: str | None = None,
    timeout: float = 30.0,
) -> Endpoint:
    """Turn what a person wrote into an Endpoint; opens the SSH tunnel if there has to be one."""
    if not endpoint:
        found = find_local()
        if found is None:
            raise Unreachable(
                "No LXD or Incus answers on this machine:",
                f"none of its sockets exists ({', '.join(local_sockets())}).",
                "Install LXD, or set bcm_endpoint to a machine that runs it.",
            )
        endpoint = found
    for what, text in (
        ("Endpoint", endpoint), ("client_cert", client_cert), ("client_key", client_key), ("server_cert", server_cert)
    ):  # fmt: skip
        if text and not text.isprintable():
            raise LxdError(f"{what} {ascii(text)}", "holds what is not text", "correct it", code="invalid_value")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as error:
        raise LxdError(f'Endpoint "{endpoint}":', error, code="invalid_value") from error
    if parts.scheme in ("", "unix"):
        return _unix(endpoint, parts.path)
    if parts.scheme == "https":
        if not parts.hostname:
            raise LxdError(f'Endpoint "{endpoint}"', "names no host", "https://host[:port]", code="invalid_value")
        roots = _check_certificates(endpoint, client_cert, client_key, server_cert)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return Endpoint(endpoint, f"https://{host}:{port or 8443}", None, client_cert, client_key, server_cert, roots)
    if parts.scheme == "ssh":
        return _unix(endpoint, _ssh_tunnel(endpoint, timeout))
    raise LxdError(
        f'Endpoint "{endpoint}":',
        f'unknown scheme "{parts.scheme}",',
        "use unix://, https:// or ssh://",
        code="invalid_value",
    )


def _check_certificates(name: str, client_cert: str | None, client_key: str | None, server_cert: str | None) -> bool:
    """Whether the server's certificate is that of an authority. Raises LxdError if it is invalid."""
    if not client_cert:
        raise LxdError(
            f"Endpoint {name}", "needs a client certificate", "set client_cert and client_key", code="invalid_value"
        )
    for option, path in (("client_cert", client_cert), ("client_key", client_key), ("server_cert", server_cert)):
        if path and not os.access(path, os.R_OK):
            raise LxdError(
                f"Endpoint {name}:", f"{option} {path} does not exist, or you may not read it", code="io_error"
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(client_cert, client_key, password="")
    except (OSError, ValueError) as error:
        raise LxdError(
            f"Endpoint {name}:",
            f"{client_cert} is not a certificate in PEM with its unencrypted key",
            code="invalid_value",
        ) from error
    if not server_cert:
        return False
    try:
        found = ssl.create_default_context(cafile=server_cert).cert_store_stats()
    except (OSError, ValueError) as error:
        raise LxdError(
            f"Endpoint {name}:", f"server_cert {server_cert} is not a certificate in PEM", code="invalid_value"
        ) from error
    # with a server's own among them, that is what is meant
    return found["x509"] == found["x509_ca"]


def _unix(name: str, path: str) -> Endpoint:
    return Endpoint(name, "http+unix://" + quote(path, safe=""), path)


def _runtime_dir() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    path = Path(base) / f"bcm-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077:
        raise LxdError(path, "must belong to you alone (mode 0700)", "remove it", code="forbidden")
    return path


def _ssh_tunnel(endpoint: str, timeout: float) -> str:
    """Path of a local socket that reaches the remote one. One SSH master per endpoint, shared by all processes."""
    parts = urlsplit(endpoint)
    if not parts.hostname:
        raise LxdError(
            f'Endpoint "{endpoint}"', "names no host", "ssh://[user@]host[:port][/path/to/socket]", code="invalid_value"
        )
    target = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname
    # A socket's path has at most 107 bytes, so its name is a short hash.
    stem = _runtime_dir() / hashlib.sha256(endpoint.encode()).hexdigest()[:16]
    control, local = f"{stem}.ctl", f"{stem}.sock"
    ssh = ["ssh", "-S", control, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, int(timeout))}"]
    if parts.port:
        ssh += ["-p", str(parts.port)]
    agent = os.environ.get("BCM_SSH_AGENT")
    if agent:
        # It signs the host's key along with the login. One of RSA is too long for a Model One, and unknown to libagent.
        ssh += ["-o", f"IdentityAgent={agent}", "-o", "HostKeyAlgorithms=ssh-ed25519"]

    def run(*options: str, command: Sequence[str] = ()) -> str:
        limit = timeout + 10 + (_PERSON_SECONDS if agent and "-M" in options else 0)
        # A master in the background would keep pipes open, and reading them would never end: files they are.
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            try:
                status = subprocess.run(
                    [*ssh, *options, "--", target, *command],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=errors, timeout=limit, check=False,
                ).returncode  # fmt: skip
            except FileNotFoundError as error:
                raise Unreachable(
                    f"Failed to reach {endpoint}:", "there is no ssh on this machine;", "install it", about=endpoint
                ) from error
            except subprocess.TimeoutExpired as error:
                raise Unreachable(
                    f"Failed to reach {endpoint} by SSH:",
                    f"no answer in {error.timeout:g} s",
                    about=f"{endpoint} by SSH",
                ) from error
            for file in (output, errors):
                file.seek(0)
            if status:
                by_hand = " ".join(["ssh", *(["-p", str(parts.port)] if parts.port else []), target])
                words = errors.read().strip().splitlines() or ["ssh failed"]
                raise Unreachable(
                    f"Failed to reach {endpoint} by SSH:",
                    f"{words[-1]} (try `{by_hand}` by hand)",
                    about=f"{endpoint} by SSH",
                )
            return output.read().strip()

    with hold_lock(Path(f"{stem}.lock")):
        try:
            run("-O", "check")
        except Unreachable:
            # What a master that died has left: ssh would not take its place, and its tunnel would pass for ours.
            for left in (control, local):
                Path(left).unlink(missing_ok=True)
            keep = (f"ControlPersist={_SSH_PERSIST_SECONDS}", "ServerAliveInterval=15", "StreamLocalBindUnlink=yes")
            run("-M", "-f", "-N", *(word for option in keep for word in ("-o", option)))
        else:
            if os.path.exists(local):
                return local
        remote = parts.path.rstrip("/")
        if not remote:
            search = f'for s in {" ".join(_SOCKETS)}; do if [ -S "$s" ]; then echo "$s"; break; fi; done'
            remote = run(command=[search])
            if not remote:
                raise Unreachable(f"{endpoint}:", "no LXD or Incus socket on that machine;", "install LXD there")
        tunnel = ("-L", f"{local}:{remote}")
        with contextlib.suppress(Unreachable):
            run("-O", "cancel", *tunnel)  # a tunnel whose socket is gone would pass for one that is there
        run("-O", "forward", *tunnel)
    return local
