# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base image: Debian by mmdebstrap, as the two files of an LXD split image."""

from __future__ import annotations

import getpass
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._base.errors import BcmError
from . import recipe
from .sources import apt_conf, apt_options, mirrors, without_passwords

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# LXD's names of architectures and Debian's
_DEBIAN_ARCHITECTURES = {
    "aarch64": "arm64",
    "armv7l": "armhf",
    "i686": "i386",
    "ppc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "x86_64": "amd64",
}
#: where apt has the machine's options while the base is made; after what mmdebstrap itself writes
_OPTIONS = "/etc/apt/apt.conf.d/99zz-bcm"
_FORGET = (
    f'rm -f "$1{_OPTIONS}" && cd "$1/etc" && rm -f apt/apt.conf.d/99mmdebstrap dpkg/dpkg.cfg.d/99mmdebstrap hostname '
    ".resolv.conf.systemd-resolved.bak"
)
_STAGES = ("downloading", "extracting", "installing", "creating")


def build(
    settings: Mapping[str, Any],
    architecture: str,
    properties: Mapping[str, str],
    directory: Path,
    notify: Callable[[str], None],
) -> dict[str, str]:
    """Make the base image in ``directory``; returns the names of its files by part (metadata, rootfs).

    ``notify`` gets one line per stage. Raises BcmError if a program or a permission is missing, or mmdebstrap fails.
    """
    _check_tools(settings)
    started = time.monotonic()
    ours = directory / "ours.tar"
    ours.write_bytes(archive(recipe.FILES, recipe.LINKS))
    # The URL of a proxy may contain a password, which must not be on a command line.
    options = directory / "apt.conf"
    options.touch(mode=0o600)
    options.write_text(apt_conf(apt_options(settings)), encoding="utf-8")
    _run(_command(settings, architecture, ours, options, directory / "rootfs.tar.zst"), notify)
    ours.unlink()
    options.unlink()
    _write_metadata(directory / "metadata.tar", architecture, properties)
    seconds = time.monotonic() - started
    notify(f"base image: Debian {recipe.SUITE} by mmdebstrap, {seconds:.0f} s")
    return {"metadata": "metadata.tar", "rootfs": "rootfs.tar.zst"}


def fingerprint(directory: Path, files: Mapping[str, str]) -> str:
    """What LXD calls a split image: the SHA-256 of its metadata followed by its root file system."""
    digest = hashlib.sha256()
    for part in ("metadata", "rootfs"):
        with open(directory / files[part], "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def archive(files: Mapping[str, tuple[int, str | bytes]], links: Mapping[str, str] | None = None) -> bytes:
    """A tar of root's files, path -> (mode, content), and symbolic links, path -> target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (mode, content) in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.mode, info.size = mode, len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


def _check_tools(settings: Mapping[str, Any]) -> None:
    missing = [name for name in ("mmdebstrap", "zstd") if shutil.which(name) is None]
    if missing:
        raise BcmError(
            "Base image:",
            f"{' and '.join(missing)} not found",
            f"`sudo apt install {' '.join(missing)}`",
            code="missing_program",
        )
    keyring = Path(settings.get("image_keyring") or _KEYRING).expanduser()
    if not keyring.is_file():
        remedy = "set image_keyring" if settings.get("image_keyring") else "`sudo apt install debian-archive-keyring`"
        raise BcmError(
            "Base image:",
            f"the keyring {keyring}, which vouches for Debian's packages, is missing",
            remedy,
            code="missing_program",
        )
    if os.geteuid() == 0:
        return
    if shutil.which("newuidmap") is None:
        raise BcmError(
            "Base image:",
            "newuidmap not found, without it only root can make one",
            "`sudo apt install uidmap`",
            code="missing_program",
        )
    user = getpass.getuser()
    for name in ("/etc/subuid", "/etc/subgid"):
        if not _has_range(Path(name), user):
            raise BcmError(
                "Base image:",
                f"user {user} has no range in {name}, without it only root can make one",
                f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`",
                code="missing_program",
            )


def _has_range(path: Path, user: str) -> bool:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in (user, str(os.getuid())) and line.count(":") == 2 for line in lines)


def _command(settings: Mapping[str, Any], architecture: str, ours: Path, options: Path, target: Path) -> list[str]:
    if architecture not in _DEBIAN_ARCHITECTURES:
        raise BcmError(
            "Base image:", f"there is no Debian {recipe.SUITE} for the architecture {architecture}", code="unsupported"
        )
    keyring = str(Path(settings["image_keyring"]).expanduser()) if settings.get("image_keyring") else None
    found = mirrors(settings)
    return [
        # The worker that waits for it may be killed: mmdebstrap then ends, and cleans up, too.
        *("setpriv", "--pdeathsig", "TERM", "--"),
        "mmdebstrap",
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--format=tar",
        f"--architectures={_DEBIAN_ARCHITECTURES[architecture]}",
        f"--include={','.join(recipe.PACKAGES)}",
        *([f"--keyring={keyring}"] if keyring else []),
        *(f"--dpkgopt=path-exclude={path}" for path in recipe.EXCLUDED_PATHS),
        *(f"--dpkgopt=path-include={path}" for path in recipe.INCLUDED_PATHS),
        f"--setup-hook=upload {shlex.quote(str(options))} {_OPTIONS}",
        # Otherwise it would also remove ours at the end.
        "--skip=chroot/policy-rc.d",
        f"--customize-hook=tar-in {shlex.quote(str(ours))} /",
        f'--customize-hook=chroot "$1" systemctl --quiet enable {" ".join(recipe.ENABLED_UNITS)}',
        # files of the machine on which it was made: options, name, resolver
        f"--customize-hook={_FORGET}",
        recipe.SUITE,
        str(target),
        *(found.lines() if found else []),
    ]


def _run(command: list[str], notify: Callable[[str], None]) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        try:
            for line in process.stderr or ():
                lines.append(line.strip())
                stage = line.removeprefix("I: ").strip()
                if stage != line.strip() and stage.startswith(_STAGES):
                    notify(f"base image: {stage.rstrip('.')}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        complaints = [line for line in lines if line.startswith(("E:", "Err:", "W:", "dpkg:"))] or lines
        raise BcmError(
            "Base image:",
            f"mmdebstrap failed (status {process.returncode}): "
            f"{without_passwords('; '.join(complaints[-6:])) or 'it said nothing'}",
            code="command_failed",
        )


def _write_metadata(path: Path, architecture: str, properties: Mapping[str, str]) -> None:
    files: dict[str, tuple[int, str | bytes]] = {}
    templates = {}
    for target, content in recipe.TEMPLATES.items():
        name = f"{Path(target).name}.tpl"
        files[f"templates/{name}"] = (0o644, content)
        templates[target] = {"when": ["create", "copy"], "template": name}
    metadata = {
        "architecture": architecture,
        "creation_date": int(time.time()),
        "properties": dict(properties),
        "templates": templates,
    }
    # JSON is YAML.
    files["metadata.yaml"] = (0o644, json.dumps(metadata, indent=2) + "\n")
    path.write_bytes(archive(files))
