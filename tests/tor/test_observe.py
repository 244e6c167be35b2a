# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm privacy` says of a tor, and of its onion services, on a real Tor network."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._tor.observe import observe_tor
from tests.tor.test_network import Machine, service, target  # noqa: F401  a fixture
from tests.tornet import TorNetwork, free_port


def test_circuits_and_reachable_services_are_reported(tor_network: TorNetwork, target: str) -> None:  # noqa: F811
    port = free_port()
    machine = Machine(tor_network, "looked", f"SocksPort {port} ExtendedErrors")
    lines = machine.tor.torrc.read_text().replace("SocksPort 0\n", "")
    machine.tor.torrc.write_text(lines)
    machine.tor.start()
    machine.tor.bootstrapped()
    services = {
        "web": service("web", target, "alice", "bob"),
        "empty": service("empty", target),
        "public": service("public", target, authorization=False),
        "broken": service("broken", f"127.0.0.1:{free_port()}", authorization=False),
        "exposed": service("exposed", target, authorization=False),
    }
    machine.deploy(*services.values())
    # kept as one with clients, and published as one for everybody
    services["exposed"] = dataclasses.replace(services["exposed"], authorization=True)
    services["lost"] = service("lost", target, "alice")

    # twice: the key that tor was given is forgotten
    for _number in range(2):
        found = observe_tor(machine, ("127.0.0.1", port), services.values(), layout=machine.layout)
        assert (found["network"], found["bootstrap"]) == (True, "100 % (Done)")
        assert min(found["read"], found["written"], found["circuits"]) > 0
        assert all(guard.startswith("127.0.0.1:") for guard in found["guards"])
        assert found["guards"]
        ends = {item["service"]: (item["state"], item["fault"]) for item in found["services"]}
        assert ends == {
            "web": ("refuses without a key, answers with one", None),
            "empty": ("refuses without a key; no client has one", None),
            "public": ("answers all clients", None),
            "broken": ("does not answer", "does not answer: what is behind it does not answer, or tor cannot connect"),
            "exposed": ("OPEN to all clients", "answers without a key"),
            "lost": (
                "does not answer",
                "does not refuse those without a key, as it should: no directory has its descriptor",
            ),
        }
    machine.tor.stop()
    with pytest.raises(BcmError, match=r"^In instance tor tor is not running: nothing answers at .*/control: see"):
        observe_tor(machine, ("127.0.0.1", port), (), layout=machine.layout)


def test_tor_without_its_network_is_reported(tor_network: TorNetwork, target: str) -> None:  # noqa: F811
    machine = Machine(tor_network, "unlooked", "DisableNetwork 1")
    machine.tor.start()
    machine.tor.control().close()
    web = service("web", target, "alice")
    machine.deploy(web)
    found = observe_tor(machine, ("127.0.0.1", 9), [web], layout=machine.layout)
    assert (found["network"], found["faults"]) == (False, [])
    with contextlib.closing(machine.tor.control()) as session:
        added = session.command("ADD_ONION NEW:ED25519-V3 Flags=DiscardPK,Detach Port=80,127.0.0.1:9")
    rogue = next(line for line, _data in added.lines if "ServiceID" in line).partition("=")[2]
    faults = observe_tor(machine, ("127.0.0.1", 9), [web], layout=machine.layout)["faults"]
    assert faults == [f"it has the onion service {rogue}.onion, which a program added: restart tor to end it"]
    assert [item["state"] for item in found["services"]] == ["not published: tor does not use the network"]
    machine.tor.stop()
