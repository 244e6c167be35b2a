# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of a data center: a random number, kept beside its secrets, which its endpoint remembers.

The project at the endpoint also lists the files of secrets that the data center was created with, so that none is
silently created again, and how new its certificates were, so that no older ones are taken for the newest.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._base import names
from .._base.disk import disk_errors, make_private_directory, write_files
from .._base.errors import BcmError
from .._ca.authority_files import AuthorityFiles
from .._lxd import lease
from .._lxd.resources import AUTHORITY_MARK
from .._tor.services_file import ServicesFile as Onions

if TYPE_CHECKING:
    from .._lxd.client import Client

IDENTITY_MARK, KEPT_MARK, ONIONS_MARK = "user.bcm.identity", "user.bcm.kept", "user.bcm.onions"
#: the names of its secrets
SECRETS_MARK = "user.bcm.secrets"
_IDENTITY = re.compile(r"[0-9a-f]{32}")
#: what `AuthorityFiles.issued` returns, as a mark
_ISSUED = re.compile(r"[0-9]{1,10}\.[0-9]{1,18}")
_SHORT = 8


def identity_of(datacenter: str, chain: str, directory: Path) -> Identity:
    """Return the identity of a data center whose secrets are in a directory."""
    return Identity(directory, chain, f"Data center {datacenter} ({chain})")


def lock_name(project: str) -> str:
    """The name of the lock of the data center with a project."""
    return f"{project}-lock"


def claim(
    client: Client,
    options: Mapping[str, Any],
    datacenter: str,
    chain: str,
    directory: Path,
    *,
    run: int | None,
    abandoned: str | None = None,
) -> str:
    """Hold the lock of a data center while the process ``run`` lives, if given, and return its identity.

    ``options`` are those of ``client``. Raises BcmError if another run holds the lock, or if the data center was
    created with other secrets.
    """
    identity = identity_of(datacenter, chain, directory)
    project = names.datacenter_names(datacenter, chain).project

    def known() -> str:
        found = client.find(f"/1.0/projects/{project}", project=None) or {"config": {}}
        return identity.known(found["config"], abandoned, client.endpoint.name)

    result = known()
    if run is not None:
        lease.hold(client, options, lock_name(project), identity.title, run)
        known()  # the run that held it until now may have created the data center
    return result


def record_authority(client: Client, datacenter: str, chain: str, directory: Path, *, check: bool) -> bool:
    """Have the project of a data center remember how new its certificates are; whether that is a change.

    Nothing is written in check mode. Raises BcmError.
    """
    mark = _authority_mark(directory, chain)
    path = _project_path(datacenter, chain)
    found = client.find(path, project=None)
    changed = found is not None and not mark.items() <= found["config"].items()
    if changed and not check:
        # LXD 5.0 refuses a PATCH of a project that is not empty, since it misses the features in it.
        body, etag = client.read(path, project=None)
        body = {"description": body.get("description", ""), "config": {**body["config"], **mark}}
        client.call("PUT", path, body, what="record how new the certificates are", project=None, etag=etag)
    return changed


def has_project(client: Client, datacenter: str, chain: str) -> bool:
    """Whether a data center has a project, which is what remembers its identity and how new its certificates are."""
    return client.find(_project_path(datacenter, chain), project=None) is not None


def is_saved(client: Client, datacenter: str, chain: str, directory: Path, *, identity: str) -> bool:
    """Whether this controller has kept the identity, and the project remembers how new the certificates are."""
    found = client.find(_project_path(datacenter, chain), project=None)
    is_recorded = found is not None and _authority_mark(directory, chain).items() <= found["config"].items()
    return is_recorded and identity_of(datacenter, chain, directory).read() == identity


def _project_path(datacenter: str, chain: str) -> str:
    return f"/1.0/projects/{names.datacenter_names(datacenter, chain).project}"


def _authority_mark(directory: Path, chain: str) -> dict[str, str]:
    """What a project says of how new the certificates are; empty if none were issued."""
    issued = AuthorityFiles(directory, chain).issued()
    return {} if issued is None else {AUTHORITY_MARK: ".".join(map(str, issued))}


class Identity:
    """The identity of the data center of a title, such as "Data center local (regtest)", on a chain."""

    def __init__(self, directory: Path, chain: str, title: str) -> None:
        self.path = directory / f"{chain}.identity"
        self.title = title
        certificates = self._authority = AuthorityFiles(directory, chain)
        #: what is kept -> its file
        self._files = {
            "secrets": directory / f"{chain}.json",
            "certificates": certificates.public,
            "keys": certificates.private,
            "onions": Onions(directory, chain).path,
        }

    def read(self) -> str | None:
        """Return the stored identity; None if there is none. Raises BcmError."""
        try:
            text = self.path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BcmError(self.path, f"cannot be read: {error}", "put a copy of it back", code="io_error") from error
        if not _IDENTITY.fullmatch(text):
            raise BcmError(self.path, "is damaged, it holds no identity", "put a copy of it back", code="damaged")
        return text

    def known(self, marks: Mapping[str, str], abandoned: str | None, where: str) -> str:
        """Return the identity for a run on a project with these marks: the stored one, or a new one. Raises BcmError.

        ``abandoned`` is the beginning of the identity that the user gives up, with all its secrets.
        """
        own, other = self.read(), marks.get(IDENTITY_MARK)
        if other and abandoned:
            if len(abandoned) < _SHORT or not other.startswith(abandoned):
                raise BcmError(
                    "abandoned_identity",
                    f"is {abandoned}, but the identity of {self.title} at {where} begins with {other[:_SHORT]}",
                    "nothing was changed, correct it or leave it out",
                    code="invalid_value",
                )
            return secrets.token_hex(16) if own in (None, other) else own
        if other and own != other:
            has = f"has that of another one, {own[:_SHORT]}" if own else "has none"
            raise self._fault(where, f"its identity there is {other[:_SHORT]}, and {self.path} {has}", other)
        kept = marks.get(KEPT_MARK, "").split(",")
        gone = [str(path) for name, path in self._files.items() if name in kept and not path.exists()]
        if other and gone:
            raise self._fault(where, f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone", other)
        if other:
            self._check_authority(marks.get(AUTHORITY_MARK, ""), where)
        return own or secrets.token_hex(16)

    def keep(self, identity: str) -> None:
        """Write it, over one that was given up. Raises BcmError."""
        with disk_errors(f"Identity in {self.path.parent}"):
            make_private_directory(self.path.parent)
            write_files((self.path, f"{identity}\n", 0o600))

    def _check_authority(self, mark: str, where: str) -> None:
        """Refuse certificates that are older than those that the endpoint was given. Raises BcmError."""
        if not _ISSUED.fullmatch(mark):
            return
        generation, count = map(int, mark.split("."))
        own = self._authority.issued() or (0, 0)
        if own < (generation, count):
            raise BcmError(
                self._authority.public,
                f"is older than what {self.title} at {where} was given last (generation {own[0]}, written {own[1]} "
                f"times, there {count if own[0] == generation else f'generation {generation}'}), so what was revoked "
                "since would be good again",
                f"put the newest copies of it and of {self._authority.private.name} back. If there are none, type "
                f"`bcm ca rotate` until generation {generation + 1} begins, and revoke again what is to be revoked. "
                "Nothing was changed",
                code="data_at_risk",
            )

    def _fault(self, where: str, fault: str, identity: str) -> BcmError:
        return BcmError(
            self.title,
            f"exists at {where} with other secrets than those here: {fault}.",
            f"Copy the folder {self.path.parent} from the machine that has it, or restore it from a backup; or give "
            "the data center another name. To give up for ever its onion addresses, its root and its passwords, add "
            f"-e abandoned_identity={identity[:_SHORT]}. Nothing was changed",
            code="data_at_risk",
        )
