# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of an instance, running or stopped: the SFTP service of the API (``/instances/<name>/sftp``).

One session serves any number of files; a stat costs 0.12 ms. paramiko speaks the protocol.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .._base import change_count
from .._base.read import read_id, read_object
from . import exec as _exec
from .client import Client, quoted
from .lxd_errors import DeadlineExceeded, LxdError, TooMuchOutput

try:
    from paramiko.sftp_client import SFTPClient
    from paramiko.ssh_exception import SSHException
except ImportError:  # the sanity tests import this file without the libraries
    pass


if TYPE_CHECKING:
    from paramiko import Channel

_CHUNK = 256 * 1024
# bytes of a file of an instance that is read for what it says
_MOST = 2**20
# bytes of a file that are shown as they are
_MOST_SHOWN = 256 * 1024
_MOST_LINKS = 40  # that the kernel follows (path_resolution(7))
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_SOON = 30.0  # seconds for what takes milliseconds
_PATIENCE, _PAUSE = 5.0, 0.1  # seconds for a session that is not served, and until the next try


# what a file is to hold: bytes, or a file of the controller
Content: TypeAlias = "bytes | Path"


def _pieces(content: Content) -> Iterator[bytes]:
    if not isinstance(content, Path):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def digest_of(content: Content) -> bytes:
    """SHA-256 of what a file is to hold."""
    return _digest(_pieces(content))


def _digest(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


class _Channel:
    """What paramiko wants of a transport. Not a socket to it, or it would select() on TLS, which can hold data back."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    def send(self, data: bytes) -> int:
        return self._raw.send(data)

    def recv(self, size: int) -> bytes:
        return self._raw.recv(size)

    def close(self) -> None:
        self._raw.close()

    def get_name(self) -> str:
        return "lxd"


class FileSession:
    """A session on the files of an instance, as its root. Paths are absolute, ids and modes those of the instance."""

    def __init__(self, client: Client, instance: str) -> None:
        self.instance = instance
        self._client = client
        self._ids: dict[str, dict[str, int]] = {}
        end = time.monotonic() + _PATIENCE
        while True:
            raw = self._connect()
            try:
                self.sftp = SFTPClient(cast("Channel", _Channel(raw)))
                return
            except (SSHException, OSError) as error:
                raw.close()
                # After the last session, LXD ends the process that serves them; a new one may still be given that.
                if time.monotonic() > end:
                    raise LxdError(
                        f"Failed to open the files of instance {instance}:",
                        error,
                        code="server_error",
                        about=f"instance {instance}",
                    ) from error
            time.sleep(_PAUSE)

    def _connect(self) -> socket.socket:
        """A connection to the SFTP service of the instance. Raises LxdError."""
        raw = self._client.connect()
        path = f"/1.0/instances/{quoted(self.instance)}/sftp?project={quoted(self._client.project)}"
        request = f"GET {path} HTTP/1.1\r\nHost: lxd\r\nUpgrade: sftp\r\nConnection: Upgrade\r\n\r\n"
        raw.sendall(request.encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = raw.recv(1)
            if not byte:
                break
            head += byte
        status, _rest, fields = head.decode("latin-1").partition("\r\n")
        if " 101 " not in status:
            raw.settimeout(1.0)
            with contextlib.suppress(OSError):
                head += raw.recv(64 * 1024)
            raw.close()
            if " 403 " in status:
                self._client.check_trust()
            if " 404 " in status:
                raise self._client.no_instance(self.instance)
            raise LxdError(
                f"Failed to open the files of instance {self.instance}:",
                _error_in(head) or status or "closed",
                code="server_error",
                about=f"instance {self.instance}",
            )
        raw.settimeout(self._client.timeout)
        return raw

    def close(self) -> None:
        self.sftp.close()

    def __enter__(self) -> FileSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def lstat(self, path: str) -> Any | None:
        """Attributes (st_mode, st_uid, st_gid, st_size, st_mtime) of a path itself, None if it does not exist."""
        try:
            return self.sftp.lstat(path)
        except FileNotFoundError:
            return None

    def read(self, path: str, *, most: int = _MOST) -> bytes:
        """The content of a regular file, for what it says. Raises TooMuchOutput if it is longer than ``most`` bytes."""
        content = bytearray()
        for chunk in self.chunks(path):
            content += chunk
            if len(content) > most:
                raise TooMuchOutput(f"{path} in instance {self.instance}", f"is longer than {most} bytes")
        return bytes(content)

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of a regular file, in pieces; it has a minute and a second for each MiB of its size."""
        # a pipe or a device would be opened by LXD, and nothing might ever come from it
        if not stat.S_ISREG((found := self.sftp.stat(path)).st_mode or 0):
            raise LxdError(f"{path} in instance {self.instance}", "is not a file", code="conflict")
        end = time.monotonic() + 60 + (found.st_size or 0) / 2**20
        with self.sftp.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
                if time.monotonic() > end:
                    raise DeadlineExceeded(f"{path} in instance {self.instance}", "could not be read in time")

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted. Raises LxdError for a name that SFTP cannot carry."""
        try:
            return sorted(self.sftp.listdir(directory))
        except UnicodeDecodeError as error:
            raise LxdError(
                f"{directory} in instance {self.instance}",
                f"holds a file whose name is not UTF-8 ({error.object!r}), and nothing of ours has such a name",
                "see what it is, and remove it there",
                code="conflict",
            ) from error

    def uid(self, name: str | int) -> int:
        return self._id("/etc/passwd", "user", name)

    def gid(self, name: str | int) -> int:
        return self._id("/etc/group", "group", name)

    def _id(self, database: str, what: str, name: str | int) -> int:
        number = name if isinstance(name, int) else read_id(name)
        if number is not None:
            return number
        name = str(name)
        if database not in self._ids:
            lines = self.read(database).decode(errors="replace").splitlines()
            fields = (line.split(":") for line in lines)
            numbers = ((f[0], read_id(f[2])) for f in fields if len(f) > 2)
            self._ids[database] = {key: found for key, found in numbers if found is not None}
        if name not in self._ids[database]:
            raise LxdError(f"Instance {self.instance}", f'has no {what} "{name}"', code="not_found")
        return self._ids[database][name]

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, path: str, content: Content, *, mode: int, uid: int, gid: int) -> None:
        """Replace a file in one step: no reader ever sees a part of it, or the content under a wider mode."""
        temporary = posixpath.join(posixpath.dirname(path), f".bcm-{secrets.token_hex(6)}")
        try:
            with self.sftp.open(temporary, "wbx") as file:
                file.chmod(0o600)
                # Not pipelined: paramiko then loses the error of a disk that is full.
                for piece in _pieces(content):
                    file.write(piece)
            self.sftp.chown(temporary, uid, gid)
            self.chmod(temporary, mode)
            self.sftp.posix_rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.sftp.remove(temporary)
            raise

    def chmod(self, path: str, mode: int) -> None:
        """Set a mode. Set-id and sticky bits, which LXD's SFTP drops, are set by chmod in the instance."""
        self.sftp.chmod(path, mode)
        if mode & _SPECIAL and stat.S_IMODE(self.sftp.lstat(path).st_mode or 0) != mode:
            command = _exec.Command(["chmod", f"{mode:04o}", path], cwd="/")
            done = _exec.run(self._client, self.instance, command, deadline=_SOON)
            if done.returncode:
                reason = done.stderr.decode(errors="replace").strip()
                raise LxdError(
                    f"Failed to set the mode of {path} in instance {self.instance}:",
                    reason,
                    code="io_error",
                    about=f"{path} in instance {self.instance}",
                )

    def make_parents(self, path: str) -> None:
        """Make the directories above a path that are missing, as root's and for all to read."""
        parent = posixpath.dirname(path)
        if self.lstat(parent) is None:
            self.make_parents(parent)
            self.sftp.mkdir(parent, 0o755)
            self.sftp.chmod(parent, 0o755)  # whatever the server's umask is

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a directory with all that is in it, however deep that is."""
        ahead = [path]
        while ahead:
            found = self.lstat(ahead[-1])
            if found is None:
                ahead.pop()
            elif not stat.S_ISDIR(found.st_mode):
                self.sftp.remove(ahead.pop())
            elif names := self.names(ahead[-1]):
                ahead += [posixpath.join(ahead[-1], name) for name in names]
            else:
                self.sftp.rmdir(ahead.pop())


@dataclass
class FilesResult:
    """The result of ``apply_files``. ``digest`` is of all desired files: contents, modes, owners, targets."""

    digest: str
    changed: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)


def apply_files(session: FileSession, files: Iterable[Mapping[str, Any]], *, check: bool = False) -> FilesResult:
    """Make files, directories and links be as they are wanted, in the order given; change only what differs.

    Each item: ``path``; ``state`` file, directory, link or absent; ``content`` of a file (bytes, or the Path of a file
    of the controller), ``target`` of a link; ``mode`` (int), ``owner``, ``group`` (names or ids) of files and
    directories, None to leave alone (what is new is 0644 or 0755 root:root); ``sensitive`` keeps the content out of the
    diff; ``exclusive`` removes from a directory what none of the items is. Missing directories above are made. A file
    takes the place of a link; a directory may be a link to one that root, or the directory's future owner, has made.
    """
    digest = hashlib.sha256()
    result = FilesResult("")
    files = list(files)
    for item in files:
        # a missing user or group is found before anything is written
        _owner(session.uid, item.get("owner"), 0)
        _owner(session.gid, item.get("group"), 0)
    for item in files:
        wanted = {key: item.get(key) for key in ("path", "state", "target", "mode", "owner", "group")}
        digest.update(json.dumps(wanted, sort_keys=True).encode() + digest_of(item.get("content") or b""))
    for item in [*files, *_foreign_files(session, files)]:
        try:
            before, after = _apply_one(session, item, item.get("content") or b"", check)
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "the connection was lost"
            raise LxdError(
                f"Failed to write {item['path']} in instance {session.instance}:",
                reason,
                code="io_error",
                about=f"{item['path']} in instance {session.instance}",
            ) from error
        if before != after:
            if not check:
                change_count.note()
            result.changed.append(item["path"])
            result.diff.append(
                {"before_header": item["path"], "after_header": item["path"], "before": before, "after": after}
            )
    result.digest = digest.hexdigest()
    return result


def _foreign_files(session: FileSession, files: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Return the files in exclusive directories that are not among the items."""
    for directory in (item["path"] for item in files if item.get("exclusive")):
        wanted = {item["path"].removeprefix(f"{directory}/").partition("/")[0] for item in files
                  if item.get("state") != "absent" and item["path"].startswith(f"{directory}/")}  # fmt: skip
        there = session.names(directory) if session.lstat(directory) is not None else []
        yield from ({"path": f"{directory}/{name}", "state": "absent"} for name in there if name not in wanted)


def _apply_one(session: FileSession, item: Mapping[str, Any], content: Content, check: bool) -> tuple[str, str]:
    """Bring one path to its wanted state; descriptions of what was and what is to be, equal if nothing is done."""
    path, state = item["path"], item.get("state") or "file"
    found = session.lstat(path)
    if state == "absent":
        if found is None:
            return "", ""
        if not check:
            session.remove(path)
        return _describe(found, "") + "\n", ""

    if state == "directory" and found is not None and stat.S_ISLNK(found.st_mode):
        path, found = _linked_directory(session, path, found, item.get("owner"))
    if found is not None and (kind := _kind(found)) != state and kind in ("directory", "file"):
        raise LxdError(
            f"{path} in instance {session.instance}",
            f"is a {kind}, a {state} is wanted",
            "remove it first",
            code="conflict",
        )
    if state == "link":
        return _apply_link(session, path, item["target"], found, check)

    kept = found if found is not None and _kind(found) == state else None
    mode = item.get("mode")
    if mode is None:
        mode = stat.S_IMODE(kept.st_mode) if kept else {"file": 0o644, "directory": 0o755}[state]
    uid = _owner(session.uid, item.get("owner"), kept.st_uid if kept else 0)
    gid = _owner(session.gid, item.get("group"), kept.st_gid if kept else 0)
    same_content = kept is not None and (state == "directory" or _holds(session, path, kept, content))
    if kept and same_content and (stat.S_IMODE(kept.st_mode), kept.st_uid, kept.st_gid) == (mode, uid, gid):
        return "", ""

    before = _describe(found, "") + "\n" if found else ""
    after = f"{state} {mode:04o} {uid}:{gid}\n"
    if not same_content and state == "file":
        if item.get("sensitive"):
            before, after = before + "(content not shown)\n", after + "(other content, not shown)\n"
        else:
            before += _shown(lambda: session.chunks(path), kept.st_size or 0) if kept else ""
            after += _shown(lambda: _pieces(content), _size(content))
    if check:
        return before, after

    if found is None:
        session.make_parents(path)
    if state == "file" and not same_content:
        session.write(path, content, mode=mode, uid=uid, gid=gid)  # its rename replaces whatever is there
        return before, after
    if not kept:
        session.remove(path)
        session.sftp.mkdir(path, 0o700)
    session.sftp.chown(path, uid, gid)
    session.chmod(path, mode)  # after chown, which clears set-id bits
    return before, after


def _linked_directory(session: FileSession, path: str, link: Any, owner: str | int | None) -> tuple[str, Any]:
    """Return where a link leads that is in the place of a directory, and what is there.

    A service may own the directory that the link is in, and must not choose what is given to it.
    """
    real, found = path, link
    for _link in range(_MOST_LINKS):
        if found.st_uid not in (0, _owner(session.uid, owner, 0)):
            raise LxdError(
                f"{real} in instance {session.instance}",
                f"is a link that user {found.st_uid} has made, a directory is wanted",
                "remove it first",
                code="conflict",
            )
        # LXD's SFTP follows no links when it is asked for a real path
        real = posixpath.join(posixpath.dirname(real), session.sftp.readlink(real) or "")
        found = session.lstat(real)
        if found is None or not stat.S_ISLNK(found.st_mode):
            break
    if found is None or stat.S_ISLNK(found.st_mode):
        raise LxdError(
            f"{path} in instance {session.instance}", "is a link that leads nowhere", "remove it first", code="conflict"
        )
    return real, found


def _holds(session: FileSession, path: str, found: Any, content: Content) -> bool:
    """Whether a file has a content; a file of another size is not read."""
    return (found.st_size or 0) == _size(content) and _digest(session.chunks(path)) == digest_of(content)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _apply_link(session: FileSession, path: str, target: str, found: Any | None, check: bool) -> tuple[str, str]:
    old_target = session.sftp.readlink(path) or "" if found is not None and stat.S_ISLNK(found.st_mode) else ""
    if old_target == target:
        return "", ""
    if not check:
        if found is None:
            session.make_parents(path)
        else:
            session.remove(path)
        session.sftp.symlink(target, path)
    return _describe(found, old_target) + "\n" if found else "", f"link -> {target}\n"


def _owner(resolve: Any, wanted: str | int | None, present: int) -> int:
    return present if wanted is None else resolve(wanted)


def _kind(attributes: Any) -> str:
    for kind, holds in (("link", stat.S_ISLNK), ("directory", stat.S_ISDIR), ("file", stat.S_ISREG)):
        if holds(attributes.st_mode):
            return kind
    return "special file"


def _describe(attributes: Any, target: str) -> str:
    if stat.S_ISLNK(attributes.st_mode):
        return f"link -> {target}" if target else "link"
    return f"{_kind(attributes)} {stat.S_IMODE(attributes.st_mode):04o} {attributes.st_uid}:{attributes.st_gid}"


def _shown(pieces: Callable[[], Iterable[bytes]], size: int) -> str:
    """A content in a diff: text if it is short; of what is long, nothing is read."""
    if size > _MOST_SHOWN:
        return f"(long, {size} bytes)\n"
    content = b"".join(pieces())
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"(binary, {size} bytes, SHA-256 {hashlib.sha256(content).hexdigest()})\n"


def _error_in(head: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, IndexError):
        return str(read_object(head.split(b"\r\n\r\n", 1)[1])["error"])
    return ""
