# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that bring an authority to what is asked for. They are planned without any key, so a run that only wants to
know what would happen, and what a device would ask to confirm, sees the very steps that are carried out otherwise.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from .._base.errors import BcmError
from . import pki
from .authority_files import AuthorityFiles
from .certificate_request import CertificateRequest, RequestSource
from .database import Certificate, Database, Intermediate, Issuer, Leaf, Root
from .signer import Identity

#: days that certificates are good for
ROOT_DAYS, INTERMEDIATE_DAYS, LEAF_DAYS = 3650, 90, 30
_MOST_DAYS = 36500
# days that revocation lists and the bridge between two roots are good for
_ROOT_LIST_DAYS, _LIST_DAYS, _CROSS_DAYS = 90, 30, 90

#: The signer: the generation of a root, or the key of an intermediate; NEW_KEY is that of one that the plan makes.
IssuerName: TypeAlias = "int | str"
NEW_KEY = "new"


@dataclass(frozen=True)
class Step:
    """``before`` and ``after`` say what it changes. ``confirmations``: what a device asks to confirm, in order."""

    before: str
    after: str
    confirmations: tuple[str, ...] = ()


@dataclass(frozen=True)
class CreatePrivateFile(Step):
    """Make the file whose key seals the public one."""


@dataclass(frozen=True)
class SignRoot(Step):
    """``former`` is the generation that signs it, too. ``compromised``: no root before it is trusted any more."""

    generation: int = 0
    former: int | None = None
    compromised: bool = False
    end: datetime = datetime.max
    cross_end: datetime = datetime.max


@dataclass(frozen=True)
class SignIntermediate(Step):
    """``replaced`` are serials of those whose keys are lost: they are revoked."""

    generation: int = 0
    scope: pki.Scope = pki.Scope((), ())
    replaced: tuple[int, ...] = ()
    end: datetime = datetime.max


@dataclass(frozen=True)
class IssueCertificate(Step):
    """``public_key`` None: a new key is made."""

    name: str = ""
    common_name: str = ""
    names: tuple[str, ...] = ()
    usage: tuple[str, ...] = ()
    public_key: Any = None
    issuer: IssuerName = NEW_KEY
    end: datetime = datetime.max


@dataclass(frozen=True)
class BuildPkcs12(Step):
    name: str = ""


@dataclass(frozen=True)
class Revoke(Step):
    serial: int = 0
    reason: str = "unspecified"


@dataclass(frozen=True)
class SignList(Step):
    issuer: IssuerName = NEW_KEY
    end: datetime = datetime.max


class Planner:
    """Plans steps on a copy of a database, in which each step is as if it were done.

    ``keys`` are those that are there. ``assume``: what a task before would have made is taken as made, as check mode
    needs it. All methods raise BcmError.
    """

    def __init__(
        self,
        database: Database,
        keys: Container[str],
        files: AuthorityFiles,
        scope: pki.Scope,
        now: datetime,
        *,
        assume: bool,
    ) -> None:
        self.steps: list[Step] = []
        self._database = database.copy()
        self._keys, self._files, self._scope, self._now, self._assume = keys, files, scope, now, assume

    # -- private file -------------------------------------------------------------------------------------------------

    def plan_private_file(self) -> None:
        if not self._files.private.exists():
            self.steps.append(CreatePrivateFile("", f"{self._files.private.name}: a new one"))

    # -- root ---------------------------------------------------------------------------------------------------------

    def plan_root(self, generation: int | None, *, allow_new: bool, days: int, compromised: bool = False) -> None:
        """Have the root of a generation; without it, the current one or the first."""
        end = self._end_after(days)
        current = self._database.root
        last = current.index if current else self._files.lost_generation() or 0
        if generation is not None and not 0 < generation < 1 << 32:  # as SLIP-0013 has it
            raise BcmError(
                "A root",
                f"cannot be of generation {generation}",
                f"write the next one, {last + 1}",
                code="invalid_value",
            )
        wanted = generation or last or 1
        if current and wanted == last:
            self._refuse_expired(current)
            return
        if current is None:
            self._refuse_reused_key(last, generation)
        domain = self._database.domain
        if last and wanted != last + 1:
            raise BcmError(
                f"Generation {wanted} of the root of {domain}",
                f"cannot follow {last}",
                f"write {last + 1}",
                code="invalid_value",
            )
        if not allow_new:
            begun = f"generation {wanted} would follow {last}" if current else "it has none yet"
            verb = "rotate" if current else "init"
            raise BcmError(
                f"A new root of {domain}",
                f"needs your consent, {begun}",
                f"type `bcm ca {verb}`, or set allow_new_root for this once",
                code="confirmation_needed",
            )
        is_bridged = current is not None and current.certificate.end > self._now and not compromised
        identity = Identity(domain, wanted)
        step = SignRoot(
            _line(f"root g{last}", current.certificate) if current else "",
            f"root g{wanted}: {days} days, {identity.uri} at {identity.path}",
            (f"root g{wanted}", *([f"cross g{last}"] if is_bridged else ())),
            generation=wanted,
            former=last if is_bridged else None,
            compromised=compromised,
            end=end,
            cross_end=min(self._now + timedelta(days=_CROSS_DAYS), end),
        )
        self.steps.append(step)
        for root in self._database.roots if compromised else ():
            root.distrusted = True
        cross = self._planned(f"cross g{wanted}", step.cross_end) if is_bridged else None
        self._database.roots.append(Root(wanted, self._planned(f"root g{wanted}", end), cross))

    def _refuse_reused_key(self, last: int, generation: int | None) -> None:
        """A generation has the same key again, with which all would be good that was revoked and is forgotten."""
        files, domain = self._files, self._database.domain
        if last and not generation:
            raise BcmError(
                files.public,
                "is lost, and with it what was revoked",
                f"put a copy of it back, or type `bcm ca init`, which begins generation {last + 1}, a new root that "
                "every client has to trust",
                code="data_at_risk",
            )
        left = [path.name for path in files.others if path.exists()]
        if left and not files.private.exists() and not generation and self._database.provider != "software":
            raise BcmError(
                files.directory,
                f"has {' and '.join(left)}, but not what the authority of {domain} has issued",
                f"put {files.public.name} and {files.private.name} back from a backup, or say which generation "
                "begins, one more than any there was (1 if there was none), with `bcm ca init --generation N`",
                code="data_at_risk",
            )

    def _current_root(self) -> Root:
        """The root, if it is good."""
        root = self._database.root
        if root is None:
            if not self._assume:
                raise BcmError(
                    f"There is no root of {self._database.domain} yet",
                    remedy="make it first, with ca_root",
                    code="not_ready",
                    about=f"root of {self._database.domain}",
                )
            root = Root(1, self._planned("root g1", self._now + timedelta(days=ROOT_DAYS)))
            self._database.roots.append(root)
        self._refuse_expired(root)
        return root

    def _refuse_expired(self, root: Root) -> None:
        end = root.certificate.end
        if end <= self._now:
            raise BcmError(
                f"Root g{root.index} of {self._database.domain}",
                f"has expired on {_day(end)}, today is {_day(self._now)}",
                f"set the clock if it is wrong, or begin generation {root.index + 1} with ca_root",
                code="expired",
            )

    # -- intermediate -------------------------------------------------------------------------------------------------

    def plan_intermediate(self, *, replace_lost: bool, days: int) -> None:
        """Have an intermediate that may certify what the scope says, with a third of its time left."""
        end = self._end_after(days)
        root = self._current_root()
        found = self._database.good_intermediates(self._now)
        if any(not i.certificate.is_due(self._now) and self._has_key(i) and self._has_scope(i) for i in found):
            return
        lost = [item for item in found if not self._has_key(item)]
        if lost and not replace_lost:
            raise BcmError(
                f"The key of {lost[0].certificate.common_name}",
                f"is not in {self._files.private}",
                "put the file back from a backup, or set replace_lost to revoke it and to have the root sign another",
                code="data_at_risk",
            )
        step = SignIntermediate(
            _line(f"intermediate g{root.index}", found[0].certificate) if found else "",
            f"intermediate g{root.index}: {days} days, for {self._scope}",
            (f"inter g{root.index}",),
            generation=root.index,
            scope=self._scope,
            replaced=tuple(item.certificate.serial for item in lost),
            end=end,
        )
        self.steps.append(step)
        for serial in step.replaced:
            self._database.revoke(serial, "cessation_of_operation", self._now)
        self._database.intermediates.append(Intermediate(root.index, self._planned(NEW_KEY, end)))

    def _has_key(self, item: Intermediate) -> bool:
        return item.key == NEW_KEY or item.key in self._keys

    def _has_scope(self, item: Intermediate) -> bool:
        return item.key == NEW_KEY or item.certificate.scope == self._scope

    # -- certificates -------------------------------------------------------------------------------------------------

    def plan_certificates(
        self, requests: Sequence[CertificateRequest] | RequestSource, *, direct: bool, days: int
    ) -> None:
        """Have certificates with a third of their time left. ``direct``: the root signs all of them."""
        end = self._end_after(days)
        root = self._current_root()
        intermediates = self._database.good_intermediates(self._now)
        # A wider scope may have been given and taken back since: one of the scope there is comes first.
        usable = sorted(filter(self._has_key, intermediates), key=lambda item: not self._has_scope(item))
        intermediate = next(iter(usable), None)
        permitted = self._scope
        if intermediate and not self._has_scope(intermediate) and not self._assume:
            permitted = intermediate.certificate.scope
        for request in requests(self._database, self._keys) if callable(requests) else requests:
            by_root = direct or request.by_root
            common_name = request.common_name_in(self._database.domain)
            self._refuse_outside(request, common_name, self._scope if by_root else permitted)
            leaf = self._database.leaves.get(request.name)
            key = pki.read_csr_key(request.csr, request.name) if request.csr else None
            if leaf and request.keep_key:
                key = leaf.certificate.content.public_key()
            issuers = {root.key} if by_root else {item.key for item in intermediates}
            reason = self._reason_to_issue(request, common_name, key, leaf, issuers)
            if reason:
                issuer: Issuer | None = root if by_root else intermediate
                if issuer is None and not self._assume:
                    raise self._no_intermediate(bool(intermediates))
                names = ", ".join(request.names) or common_name
                step = IssueCertificate(
                    _leaf_line(request.name, leaf.certificate) if leaf else "",
                    f"{request.name}: {days} days, {names}, {' and '.join(request.usage)} ({reason})",
                    (f"leaf g{root.index}",) if by_root else (),
                    name=request.name,
                    common_name=common_name,
                    names=request.names,
                    usage=request.usage,
                    public_key=key,
                    issuer=_name_of(issuer) if issuer else NEW_KEY,
                    end=end,
                )
                self.steps.append(step)
            if request.pkcs12 and (reason or not leaf or leaf.pkcs12_key not in self._keys):
                self.steps.append(BuildPkcs12("", f"{request.name}: PKCS#12", name=request.name))
            if reason:
                planned = self._planned(request.name, end)
                self._database.leaves[request.name] = Leaf(planned, issuer.key if issuer else NEW_KEY)

    def _refuse_outside(self, request: CertificateRequest, common_name: str, permitted: pki.Scope) -> None:
        for name in request.constrained_names(common_name):
            if not permitted.covers(name):
                raise BcmError(
                    f'"{name}" of certificate {request.name}',
                    f"is outside of what may be certified ({permitted})",
                    "correct it, or allow it: add it to bcm_ca_domains or bcm_ca_subnets of the inventory, or to the "
                    "options domains or subnets",
                    code="not_allowed",
                )

    def _no_intermediate(self, has_lost_key: bool) -> BcmError:
        state = f"has no key in {self._files.private}" if has_lost_key else "is not there, or has expired"
        return BcmError(
            f"The intermediate of {self._database.domain} {state}", remedy="run ca_intermediate first", code="not_ready"
        )

    def _reason_to_issue(
        self, request: CertificateRequest, common_name: str, key: Any, leaf: Leaf | None, issuers: Container[str]
    ) -> str | None:
        """Why a certificate has to be issued; None if the one there is will do."""
        if leaf is None:
            return "new"
        certificate = leaf.certificate
        is_revoked = not self._database.is_good(certificate, self._now) and certificate.end > self._now
        has_other_names = sorted(certificate.names) != sorted(request.names) or certificate.common_name != common_name
        reasons = {
            "revoked": is_revoked,
            "asked for": request.renew,
            "due": certificate.is_due(self._now),
            "another issuer": leaf.issuer not in issuers,
            "other names": has_other_names,
            "other usage": certificate.usage != request.usage,
            "another key": key is not None and pki.key_id(key) != certificate.key,
            "its key is lost": key is None and certificate.key not in self._keys,
        }
        return next((reason for reason, is_so in reasons.items() if is_so), None)

    # -- revocation ---------------------------------------------------------------------------------------------------

    def plan_lists(self, revoke: Mapping[int, str]) -> None:
        """Have current lists that hold these serials, each with its reason, and all that were revoked before."""
        self._current_root()
        for serial, reason in revoke.items():
            known = self._database.serials.get(serial)
            if known is None:
                raise BcmError(
                    f"No certificate with serial {serial:x}",
                    f"was issued for {self._database.domain}, or it has expired",
                    "ca_info lists them",
                    code="not_found",
                )
            if known.revoked is None:
                line = f"{known.name} {serial:x}"
                revoked = f"{line}: revoked, {reason}"
                self.steps.append(Revoke(f"{line}: good", revoked, serial=serial, reason=reason))
                self._database.revoke(serial, reason, self._now)
        for root in self._database.trusted_roots(self._now):
            self._plan_list(root, f"root g{root.index}", _ROOT_LIST_DAYS, f"crl g{root.index}")
        for item in self._database.intermediates:
            if self._database.is_good(item.certificate, self._now):
                self._plan_list(item, f"intermediate g{item.root}", _LIST_DAYS)

    def _plan_list(self, issuer: Issuer, title: str, days: int, *confirmations: str) -> None:
        if not self._database.is_list_due(issuer, self._now):
            return
        if isinstance(issuer, Intermediate) and not self._has_key(issuer) and not self._assume:
            raise BcmError(
                f"The key of {issuer.certificate.common_name}",
                f"is not in {self._files.private}, so it cannot list what it revokes",
                "put the file back from a backup, or run ca_intermediate with replace_lost",
                code="data_at_risk",
            )
        end = self._now + timedelta(days=days)
        after = f"list of {title}: {days} days"
        self.steps.append(SignList("", after, confirmations, issuer=_name_of(issuer), end=end))

    # -- what all of them need ----------------------------------------------------------------------------------------

    def _planned(self, key: str, end: datetime) -> Certificate:
        return Certificate(key, self._now - pki.SKEW, end)

    def _end_after(self, days: int) -> datetime:
        check_days(days)
        return self._now + timedelta(days=days)


def check_days(days: int) -> None:
    """Raises BcmError for a time that no certificate can be good for."""
    if not 0 < days <= _MOST_DAYS:
        raise BcmError(
            "A certificate", f"cannot be good for {days} days", f"write 1 to {_MOST_DAYS}", code="invalid_value"
        )


def _name_of(issuer: Issuer) -> IssuerName:
    return issuer.index if isinstance(issuer, Root) else issuer.key


def _line(title: str, certificate: Certificate) -> str:
    return f"{title}: until {_day(certificate.end)}"


def _leaf_line(name: str, certificate: Certificate) -> str:
    names = ", ".join(certificate.names) or certificate.common_name
    return f"{_line(name, certificate)}, {names}, {' and '.join(certificate.usage)}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
