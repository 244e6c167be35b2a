# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of a data center as its inventory has it: looked at without a device, and at work with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority, Outcome, Want, again
from ansible_collections.bcm.core.plugins.module_utils._ca.book import Book
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Signers
from ansible_collections.bcm.core.plugins.module_utils._ca.store import Store
from ansible_collections.bcm.core.plugins.module_utils._plan.names import datacenter_names, unknown
from ansible_collections.bcm.core.plugins.module_utils._plan.network import subnets
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import authority

from . import device, setup
from .datacenter import DataCenter

if TYPE_CHECKING:
    from ansible_collections.bcm.core.plugins.module_utils._ca.device import Trezor

#: something that an authority does, or in check mode foretells
Step = Callable[[Authority], Outcome]
#: certificates that are wanted of an authority whose vault has these keys
Wanted = Callable[[Authority, Mapping[str, str]], list[Want]]


# -- which authority --------------------------------------------------------------------------------------------------


class _Every(dict[str, str]):
    def __contains__(self, key: object) -> bool:
        return True


class _Public(Store):
    """What is public, as if no key were lost: says what is to be done without the device that opens the vault."""

    def keys(self) -> dict[str, str]:
        return _Every()


def seen(datacenter: DataCenter) -> Authority:
    """The authority as all may see it, in check mode."""
    made = authority(_options(datacenter), datacenter.secrets, True)
    made.store = _Public(made.store.directory, datacenter.chain)
    return made


def _options(datacenter: DataCenter) -> dict[str, Any]:
    chain = datacenter.chain
    own = subnets(datacenter.name, chain, datacenter.variable("bcm_subnet")).network
    return {
        "chain": chain,
        "domain": datacenter_names(datacenter.name, chain).domain,
        "domains": _listed(datacenter, "bcm_ca_domains"),
        "subnets": [str(own), *_listed(datacenter, "bcm_ca_subnets")],
        "provider": datacenter.ca_provider,
        "device": datacenter.ca_device,
        "software_ca_chains": _listed(datacenter, "bcm_software_ca_chains"),
    }


def _listed(datacenter: DataCenter, name: str) -> list[str]:
    value = datacenter.variable(name) or []
    # As Ansible takes it for a list.
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else list(map(str, value))


def is_direct(datacenter: DataCenter) -> bool:
    """Whether the root signs each certificate."""
    issuance = str(datacenter.variable("bcm_ca_issuance") or "intermediate")
    if issuance not in ("intermediate", "direct"):
        raise unknown("issuance", issuance, ("intermediate", "direct"))
    return issuance == "direct"


# -- what is done -----------------------------------------------------------------------------------------------------


class _Device:
    """An `Opener`: the device is opened when the first signature is needed, and stays it for the whole command."""

    def __init__(self, stack: ExitStack, environment: Mapping[str, str]) -> None:
        self.expected = 0
        self._stack, self._path = stack, environment.get("TREZOR_PATH")
        self._kept = Path(environment["BCM_TREZOR_SESSION"])
        self._opened: Trezor | None = None

    def __call__(
        self, keys: object, where: object, *, first: bool, confirmations: int
    ) -> AbstractContextManager[Signers]:
        from ansible_collections.bcm.core.plugins.module_utils._ca.device import Trezor

        if self._opened is None:
            said: dict[str, Any] = {"first": first, "say": setup.step, "confirmations": self.expected}
            self._opened = self._stack.enter_context(Trezor(self._path, kept=self._kept, **said))
        return nullcontext(self._opened)


@contextmanager
def _working(datacenter: DataCenter) -> Iterator[Authority]:
    """The authority with its vault open, and the device at hand."""
    with device.session(datacenter) as environment, ExitStack() as stack:
        vault = device.vault(datacenter, environment)
        made = authority(_options(datacenter), datacenter.secrets, False, vault)
        if made.provider == "trezor":
            made.opener = _Device(stack, environment)
        yield made


def carry_out(datacenter: DataCenter, steps: Sequence[Step], expected: int | None = None) -> list[Outcome]:
    """Do it; ``expected`` confirmations of what is signed are counted on the way, None: as many as it now seems."""
    with _working(datacenter) as made:
        if isinstance(made.opener, _Device):
            made.opener.expected = signatures(made, steps) if expected is None else expected
        return [step(made) for step in steps]


def signatures(made: Authority, steps: Iterable[Step]) -> int:
    """How often the root signs for these; BcmError if one of them cannot be done."""
    return sum(step(replace(made, check=True)).signatures for step in steps)


def lists(made: Authority) -> Outcome:
    """Revocation lists that are current."""
    return made.crl({})


def intermediate(direct: bool, replace_lost: bool = False) -> list[Step]:
    """An intermediate that is good, unless the root signs all by itself."""
    return [] if direct else [lambda made: made.intermediate(replace_lost=replace_lost)]


def certify(wanted: Wanted, direct: bool, days: int | None) -> Step:
    """Certificates that are good."""
    options: dict[str, Any] = {"direct": direct, **({"days": days} if days else {})}
    return lambda made: made.certificates(wanted(made, made.store.keys()), **options)


def present(names: Sequence[str]) -> Wanted:
    """These anew, or without names all that are to be kept up: who was revoked was not meant to come back."""

    def wanted(made: Authority, keys: Mapping[str, str]) -> list[Want]:
        leaves = made.book().leaves
        kept = names or current(made.book())
        return [replace(again(name, leaves[name], keys), anew=bool(names)) for name in kept]

    return wanted


def current(book: Book) -> list[str]:
    """Names of certificates that are not revoked."""
    known = book.serials
    numbers = {name: leaf.certificate.serial_number for name, leaf in book.leaves.items()}
    return [name for name, number in numbers.items() if number not in known or not known[number].revoked]
