# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of onion services share: options, what is kept of services and clients, what an instance gets."""

from __future__ import annotations

import contextlib
import typing as t
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..module_utils._base import names
from ..module_utils._base.errors import BcmError
from ..module_utils._tor.deploy import Deployed, Host, Instance, deploy
from ..module_utils._tor.onion_keys import OnionKey, check_address, new_client, new_key, parse_key
from ..module_utils._tor.services import Service, check_keys, check_name, check_once, parse_ports
from ..module_utils._tor.services_file import Store
from ._action import BcmAction, secrets_directory
from .ansible_vault import of_run

ONION_ARGUMENT_SPEC: dict[str, t.Any] = {
    "chain": {"type": "str", "required": True, "choices": list(names.CHAINS)},
    "instance": {"type": "str", "default": "tor"},
    "directory": {"type": "path"},
    "vault_id": {"type": "str"},
}
DEADLINE_ARGUMENT: dict[str, t.Any] = {"type": "float", "default": 180.0}

Services = dict[str, Service]


class OnionAction(BcmAction):
    """An action on the onion services of a data center: write `work`."""

    LXD = True
    OWN_SPEC: t.ClassVar[dict[str, t.Any]] = {}

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**super().argument_spec(), **ONION_ARGUMENT_SPEC, **cls.OWN_SPEC}

    @abstractmethod
    def work(self, store: Store, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the work and return the result."""

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = Path(params["directory"] or secrets_directory(task_vars))
        vault = of_run(params["vault_id"])
        return self.work(Store(directory, params["chain"], vault=vault, owner=params["project"]), params)


class OnionChange(OnionAction):
    """An action that changes them: write `wanted` and `told`."""

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**super().argument_spec(), "deadline": DEADLINE_ARGUMENT}

    @abstractmethod
    def wanted(self, present: Services, params: dict[str, t.Any]) -> Services:
        """All services as they are to be, made of those there are. Raises BcmError."""

    @abstractmethod
    def told(self, wanted: Services, params: dict[str, t.Any]) -> dict[str, t.Any]:
        """What the module returns of its own."""

    def work(self, store: Store, params: dict[str, t.Any]) -> dict[str, t.Any]:
        if self.check_mode:
            return self._change(store, params)
        with store.locked():
            return self._change(store, params)

    def _change(self, store: Store, params: dict[str, t.Any]) -> dict[str, t.Any]:
        present = store.read()
        wanted = self.wanted(present, params)
        check_keys(wanted.values())
        kept = wanted == present
        with contextlib.ExitStack() as stack:
            host = None
            if params.get("publish", True):
                host = stack.enter_context(Instance(self.client, params["instance"]))
            done = brought_about(host, store, present, wanted, check=self.check_mode, deadline=params["deadline"])
        sides = [
            "".join(f"{service.summary()}\n" for _name, service in sorted(services.items()))
            for services in (present, wanted)
        ]
        header = {"before_header": str(store.path), "after_header": str(store.path)}
        own = [] if sides[0] == sides[1] else [{**header, "before": sides[0], "after": sides[1]}]
        return {
            "changed": done.changed or not kept,
            "diff": [*own, *done.diff],
            "files": done.files,
            "published": done.published,
            "network": done.network,
            "path": str(store.path),
            **self.told(wanted, params),
        }


def brought_about(
    host: Host | None, store: Store, present: Services, wanted: Services, *, check: bool = False, deadline: float
) -> Deployed:
    """Keep the services that are wanted, and have tor, if given, have them; needs the store's lock but to check."""
    # the keys are kept before tor has them
    if wanted != present and not check:
        store.write(wanted.values())
    return deploy(host, wanted.values(), check=check, deadline=deadline) if host else Deployed()


def check_known(present: Services, items: t.Sequence[Mapping[str, t.Any]], known: Iterable[str]) -> None:
    """Refuse to make another key for a service that has one somewhere. Raises BcmError."""
    wanted = {item["name"] for item in items if item["state"] == "present" and not item["key"]}
    gone = sorted(wanted.intersection(known).difference(present))
    if gone:
        raise BcmError(
            f"The keys of {', '.join(gone)}",
            "are gone from the file of onion services, and others would have other addresses",
            "put a newer copy of the file back, give the keys, or give the old addresses up with the identity of the "
            "data center (abandoned_identity)",
            code="data_at_risk",
        )


def reconciled(present: Services, items: t.Sequence[Mapping[str, t.Any]], *, exclusive: bool = False) -> Services:
    """All services, as the items of onion_service have them; others parked if those are exclusive. Raises BcmError."""
    check_once("Onion service", (item["name"] for item in items))
    result = {name: replace(service, parked=exclusive or service.parked) for name, service in present.items()}
    for item in items:
        name = item["name"]
        check_name("Onion service", name)
        if item["state"] == "absent":
            result.pop(name, None)
            continue
        before = present.get(name)
        result[name] = Service(
            name=name,
            key=_key(item, before),
            ports=parse_ports(name, item["ports"] or []),
            authorization=item["authorization"],
            pow=item["pow"],
            intro_defense=item["intro_defense"],
            max_streams=_streams(name, item["max_streams"]),
            clients=before.clients if before else {},
        )
    return result


def with_clients(service: Service, clients: Iterable[str], *, present: bool) -> Service:
    """A service with clients, or without them. Raises BcmError."""
    clients = list(clients)
    check_once("Client", clients)
    for client in clients:
        check_name("Client", client)
    if present and not service.authorization:
        raise BcmError(
            f"Onion service {service.name}",
            "is for everybody and has no clients",
            "have it with authorization first",
            code="invalid_value",
        )
    rest = {name: key for name, key in service.clients.items() if present or name not in clients}
    made = {name: new_client() for name in clients if present and name not in rest}
    return Service(**{**vars(service), "clients": {**rest, **made}})


def _key(item: Mapping[str, t.Any], before: Service | None) -> OnionKey:
    what = f"onion service {item['name']}"
    given = parse_key(item["key"], what) if item["key"] else None
    if before and given and before.key != given:
        raise BcmError(
            what.capitalize(),
            f"has another key, that of {before.key.address}",
            "remove the service first if that address may be lost, or give no key",
            code="data_at_risk",
        )
    key = before.key if before else given
    if item["address"]:
        if key is None:
            raise BcmError(
                f"There is no key of {what}, so it cannot have {item['address']}",
                remedy="give the key, too",
                code="invalid_value",
                about=what,
            )
        check_address(key, item["address"], what)
    return key or new_key()


def _streams(name: str, count: int) -> int:
    if 0 <= count <= 65535:
        return count
    raise BcmError(
        f"Onion service {name}:",
        f"max_streams is {count}",
        "give 1 to 65535, or 0 for as many as may be",
        code="invalid_value",
    )
