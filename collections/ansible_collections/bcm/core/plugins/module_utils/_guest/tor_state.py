# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What proves a tor, client or relay: imported by the verify programs of the stacks that run one.

Runs in the instance, with Python's standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .prove import Endpoint, Fault
from .tor_control import ControlError, connected

_BOOTSTRAP = "status/bootstrap-phase"


def state(
    settings: Mapping[str, str | None], network: bool, port: Endpoint, *, socks: bool = False, asked: Sequence[str] = ()
) -> dict[str, str]:
    """What tor says to GETINFO with the keys ``asked``, if its settings are those, and its network is on or off.

    With the network, ``port`` answers, too; as a SOCKS proxy does, if ``socks``. Raises Fault.
    """
    settings = {**settings, "DisableNetwork": "0" if network else "1"}
    try:
        with connected("/run/tor/control") as control:
            found = {key: "\n".join(control.getconf(key)) or None for key in settings}
            values = control.getinfo(_BOOTSTRAP, *asked)
    except (ControlError, OSError) as error:
        raise Fault(f"its control socket does not answer: {error}") from error
    for key, value in settings.items():
        if found[key] != value:
            raise Fault(f"{key} is {found[key]} instead of {value}")
    # With DisableNetwork tor opens its control socket alone.
    if _answers(port, socks) != network:
        what = f"its {'SOCKS ' * socks}port {port}"
        raise Fault(f"{what} {'is closed' if network else 'is open, but its network is off'}")
    if network and "PROGRESS=100" not in values[_BOOTSTRAP]:
        raise Fault(
            f"it has not reached the Tor network: {values[_BOOTSTRAP]}; see that the host's clock is right and that a "
            "firewall lets it out, or give it a bridge (tor_bridges)"
        )
    return values


def _answers(port: Endpoint, socks: bool) -> bool:
    """Return whether a SOCKS proxy listens there, and answers the greeting of RFC 1928, section 3."""
    try:
        with port.connect() as connection:
            if not socks:
                return True
            connection.sendall(b"\x05\x01\x00")
            return connection.recv(2) == b"\x05\x00"
    except OSError:
        return False
