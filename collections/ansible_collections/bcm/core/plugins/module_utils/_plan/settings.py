# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of a data center, ``bcm_*``, and where in an inventory variables are set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._base import names
from .._base.errors import BcmError

PREFIX = "bcm_"
#: settings of a data center
SETTINGS = (
    "bcm_access",
    "bcm_artifact_keys",
    "bcm_artifact_proxy",
    "bcm_artifact_source",
    "bcm_ca_device",
    "bcm_ca_domains",
    "bcm_ca_generation",
    "bcm_ca_issuance",
    "bcm_ca_provider",
    "bcm_ca_subnets",
    "bcm_chain",
    "bcm_client_cert",
    "bcm_client_key",
    "bcm_datacenter",
    "bcm_downloads_through_tor",
    "bcm_endpoint",
    "bcm_exceptions",
    "bcm_host",
    "bcm_image_apt_options",
    "bcm_image_ca_certificates",
    "bcm_image_keyring",
    "bcm_image_mirror",
    "bcm_image_security_mirror",
    "bcm_image_snapshot",
    "bcm_image_sources",
    "bcm_multipass_name",
    "bcm_server_cert",
    "bcm_software_ca_chains",
    "bcm_ssh_identity",
    "bcm_stack_path",
    "bcm_storage_pool",
    "bcm_subnet",
)
#: settings of several lines, and that of a verb, which `bcm config` does not write
_OTHERS = ("bcm_artifacts", "bcm_vault_generation")
#: options of the connection, which each host may have its own of
CONNECTION = (
    "bcm_become_timeout",
    "bcm_client_cert",
    "bcm_client_key",
    "bcm_command_timeout",
    "bcm_endpoint",
    "bcm_lxd_instance",
    "bcm_project",
    "bcm_server_cert",
    "bcm_server_timeout",
)
KNOWN = tuple(sorted({*SETTINGS, *_OTHERS, *CONNECTION}))
#: variables of one run
OF_RUN = (
    "abandoned_identity",
    "allow_below_floor",
    "allow_new_root",
    "confirmed_volumes",
    "delete_data",
    "move_volumes",
)
#: all that a command may name
OF_COMMAND = (*OF_RUN, "chain", "stack", "state")
#: how much the rest of a name is like that of a setting if letters are swapped, missing, doubled or wrong
_SLIP = 0.8
_LEFT_TO_SET = re.compile(r"\{\{ *undef\(hint='([^']*)'\) *\}\}")


@dataclass(frozen=True)
class Place:
    """Where variables are set, such as "host electrs", and for whom: all hosts, or some, perhaps stacks' instances."""

    title: str
    variables: Mapping[str, Any]
    is_everywhere: bool = False
    is_of_instances: bool = False


def check_settings(places: Iterable[Place]) -> list[str]:
    """Return the names of variables that begin as settings do and are none.

    Raises BcmError for one whose name is like a setting's, and for a setting that only instances have.
    """
    unread: set[str] = set()
    for place in places:
        unread.update(check_setting_names(place.variables, f"where it is set ({place.title})"))
        if place.is_of_instances:
            refuse_apart(place, {*KNOWN}.difference(CONNECTION))
    return sorted(unread)


def check_setting_names(given: Iterable[str], where: str = "where it is set") -> list[str]:
    """Return names that begin as settings do and are none. Raises BcmError for one that is like a setting's."""
    ends = {name.removeprefix(PREFIX): name for name in KNOWN}
    unread = []
    for name in sorted(name for name in given if name.startswith(PREFIX) and name not in KNOWN):
        end = names.nearest(name.removeprefix(PREFIX), ends, _SLIP)
        if end is not None:
            raise misspelt(name, ends[end], where)
        unread.append(name)
    return unread


def refuse_apart(place: Place, known: Iterable[str]) -> None:
    """Refuse variables that the plan and the roles would not both read. Raises BcmError."""
    if apart := sorted(set(place.variables).intersection(known)):
        raise BcmError(
            ", ".join(apart),
            f"cannot be set for {place.title} alone, since plan and instances have to agree on it",
            "set it in group_vars/all.yml",
            code="invalid_value",
        )


def hint_of(value: Any) -> str | None:
    """What a value may be that an inventory leaves to be set, as `undef(hint=…)`; None for any other value."""
    found = _LEFT_TO_SET.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def not_set_yet(name: str, hint: str) -> BcmError:
    """Return the error for a variable that an inventory leaves to be set."""
    return BcmError(name, "is not set yet", hint, code="invalid_value")


def misspelt(name: str, meant: str, where: str = "where it is set") -> BcmError:
    """Return the error for a variable whose name is like a known one."""
    return BcmError(
        f'Unknown variable "{name}"',
        remedy=f'did you mean "{meant}"? Correct it {where}, or give it a name that is less like that',
        code="unknown_name",
    )
