# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authority of one data center: reads its database, plans what is missing, due or wrong, and has it carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from .._base.errors import BcmError
from . import pki
from .authority_files import AuthorityFiles
from .certificate_request import CertificateRequest, RequestSource
from .database import Database, parse_database
from .issuance_plan import INTERMEDIATE_DAYS, LEAF_DAYS, ROOT_DAYS, Planner, Step
from .issue import Issuance
from .signer import OpenRootKeys

# no clock that is right says less
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)

#: Plans a part of what is asked for.
PlanPart = Callable[[Planner], None]


@dataclass
class Result:
    """The steps that were carried out, or would be in check mode, and the database and private keys afterwards.

    ``signed`` is what root keys signed, as a device shows it: "root g1 3f9a11c2".
    """

    steps: Sequence[Step]
    database: Database
    keys: Mapping[str, str]
    signed: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.steps)

    @property
    def before(self) -> list[str]:
        return [step.before for step in self.steps]

    @property
    def after(self) -> list[str]:
        return [step.after for step in self.steps]

    @property
    def confirmations(self) -> list[str]:
        """What root keys sign, in order, and a person confirms if they are on a device: "root g1"."""
        return [text for step in self.steps for text in step.confirmations]


@dataclass
class Authority:
    """The authority over ``scope``, whose first domain names it.

    In check mode nothing is signed and nothing is written. All methods raise BcmError.
    """

    files: AuthorityFiles
    scope: pki.Scope
    provider: str
    open_keys: OpenRootKeys
    check_mode: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def domain(self) -> str:
        return self.scope.domains[0]

    def read_database(self, *, without_private: bool = False) -> Database:
        """The database, empty before there is a root. ``without_private`` as `AuthorityFiles.read` has it."""
        content = self.files.read(without_private=without_private)
        if self.now < _EARLIEST:
            raise BcmError(
                "The clock", f"is wrong, it says {self.now:%Y-%m-%d}", "set it, and run again", code="clock_wrong"
            )
        if content is None:
            return Database(self.domain, self.provider)
        database, written = parse_database(content, self.files.public)
        if database.domain != self.domain:
            raise BcmError(
                self.files.public,
                f"is of another data center, its root is that of {database.domain}, not of {self.domain}",
                "give the directory of this one",
                code="wrong_key",
            )
        if database.provider != self.provider:
            raise BcmError(
                f"The root of {self.domain}",
                f"is kept by provider {database.provider}, not {self.provider}",
                f"set that one, or move {self.files.public} away to begin another authority",
                code="conflict",
            )
        if written > self.now + pki.SKEW:
            raise BcmError(
                "The clock",
                f"is wrong: it says {self.now:%Y-%m-%d %H:%M} UTC, but {self.files.public} was written at "
                f"{written:%Y-%m-%d %H:%M} UTC",
                "set it, and run again",
                code="clock_wrong",
            )
        return database

    def ensure_all(
        self,
        requests: Sequence[CertificateRequest] | RequestSource,
        *,
        generation: int | None = None,
        allow_new: bool = False,
        compromised: bool = False,
        replace_lost: bool = False,
        direct: bool = False,
        days: int = LEAF_DAYS,
    ) -> Result:
        """Have root, intermediate, certificates and lists, whatever the device has to sign for them in one session.

        ``compromised``: roots before the new one must not be trusted any more.
        """

        def plan(planner: Planner) -> None:
            planner.plan_root(generation, allow_new=allow_new, days=ROOT_DAYS, compromised=compromised)
            if not direct:
                planner.plan_intermediate(replace_lost=replace_lost, days=INTERMEDIATE_DAYS)
            planner.plan_certificates(requests, direct=direct, days=days)
            planner.plan_lists({})

        return self._ensure(plan, replace_lost=replace_lost)

    def ensure_root(self, generation: int | None, *, allow_new: bool, days: int = ROOT_DAYS) -> Result:
        """Have a root of a generation; without it, the current one or the first."""
        return self._ensure(partial(Planner.plan_root, generation=generation, allow_new=allow_new, days=days))

    def ensure_intermediate(self, *, replace_lost: bool = False, days: int = INTERMEDIATE_DAYS) -> Result:
        """Have an intermediate with a third of its time left."""
        plan = partial(Planner.plan_intermediate, replace_lost=replace_lost, days=days)
        return self._ensure(plan, replace_lost=replace_lost)

    def ensure_certificates(
        self, requests: Sequence[CertificateRequest] | RequestSource, *, direct: bool = False, days: int = LEAF_DAYS
    ) -> Result:
        """Have certificates with a third of their time left."""
        return self._ensure(partial(Planner.plan_certificates, requests=requests, direct=direct, days=days))

    def ensure_lists(self, revoke: Mapping[int, str]) -> Result:
        """Have current revocation lists that hold these serials, each with its reason, and all before."""
        return self._ensure(partial(Planner.plan_lists, revoke=revoke))

    def _ensure(self, plan: PlanPart, *, replace_lost: bool = False) -> Result:
        database, steps = self._plan(plan, replace_lost)
        if not steps or self.check_mode:
            return Result(steps, database, self.files.keys())
        with self.files.locked():  # what another run did meanwhile is not done again
            database, steps = self._plan(plan, replace_lost)
            issuance = Issuance(database, self.files, self.open_keys, self.now)
            issuance.carry_out(steps)
        return Result(steps, issuance.database, issuance.keys, issuance.signed)

    def _plan(self, plan: PlanPart, replace_lost: bool) -> tuple[Database, list[Step]]:
        database = self.read_database(without_private=replace_lost)
        keys = self.files.keys()
        planner = Planner(database, keys, self.files, self.scope, self.now, assume=self.check_mode)
        if replace_lost:
            planner.plan_private_file()
        plan(planner)
        return database, planner.steps
