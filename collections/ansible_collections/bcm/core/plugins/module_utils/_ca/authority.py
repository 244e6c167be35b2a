# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authority of one data center: what is missing, about to end or wrong is planned, and then signed and written."""

from __future__ import annotations

import base64
import contextlib
import copy
import secrets
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

from .._base.errors import BcmError
from . import pki
from .authority_files import AuthorityFiles
from .database import Database, Intermediate, Leaf, Root, from_plain
from .signer import Identity, OpenRootKeys, RootKeys, Signer
from .software import SoftwareSigner

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:  # the sanity tests import this file without the library
    pass

#: days
ROOT, INTERMEDIATE, LEAF = 3650, 90, 30
_LONGEST = 36500
# days that revocation lists and the bridge between two roots are good for
_ROOT_LIST, _LIST, _CROSS = 90, 30, 90
# no clock that is right says less
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_NAME_LENGTH = 64  # RFC 5280: of a common name


@dataclass(frozen=True)
class Want:
    """A certificate that has to be: its names as they are compared, and the CSR if its key is elsewhere.

    ``common_name`` None: one in the domain. ``anew`` although it is good; ``kept``: its key is elsewhere and
    stays, no CSR tells it again; ``direct``: the root signs it, whoever signs others.
    """

    name: str
    common_name: str | None
    names: tuple[str, ...]
    usage: tuple[str, ...]
    csr: str | None = None
    pkcs12: bool = False
    anew: bool = False
    kept: bool = False
    direct: bool = False


@dataclass
class Job:
    """Something to be done, what is there before and afterwards, and how often a root key signs for it."""

    run: Callable[[], None]
    before: str
    after: str
    signatures: int = 0


@dataclass
class Outcome:
    """What came of it, or would: ``signed`` is what a person confirmed, if a device was asked.

    ``signatures``: how often a root key signs for it.
    """

    book: Database
    read_keys: Callable[[], Mapping[str, str]]
    changed: bool
    before: list[str]
    after: list[str]
    signed: list[str] = field(default_factory=list)
    signatures: int = 0

    @property
    def keys(self) -> Mapping[str, str]:
        return self.read_keys()


@dataclass
class Authority:
    """The authority over ``scope``, whose first domain names it.

    In check mode nothing is signed and nothing is written. All methods raise BcmError.
    """

    store: AuthorityFiles
    scope: pki.Scope
    provider: str
    opener: OpenRootKeys
    check: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def domain(self) -> str:
        return self.scope.domains[0]

    def book(self, *, without_private: bool = False) -> Database:
        """What there is; ``without_private`` as `AuthorityFiles.read` has it."""
        content = self.store.read(without_private=without_private)
        if self.now < _EPOCH:
            raise BcmError(f"The clock is wrong, it says {_day(self.now)}: set it, and run again")
        if content is None:
            return Database(self.domain, self.provider)
        book, written = from_plain(content, self.store.public)
        if book.domain != self.domain:
            raise BcmError(
                f"{self.store.public} is of another data center, its root is that of {book.domain}, not of "
                f"{self.domain}: give the directory of this one"
            )
        if book.provider != self.provider:
            raise BcmError(
                f"The root of {self.domain} is kept by provider {book.provider}, not {self.provider}: set that one, or "
                f"move {self.store.public} away to begin another authority"
            )
        if written > self.now + pki.SKEW:
            raise BcmError(
                f"The clock is wrong: it says {self.now:%Y-%m-%d %H:%M} UTC, but {self.store.public} was written at "
                f"{written:%Y-%m-%d %H:%M} UTC: set it, and run again"
            )
        return book

    # -- work ---------------------------------------------------------------------------------------------------------

    def everything(
        self,
        wants: Sequence[Want] | Wants,
        *,
        generation: int | None = None,
        allow_new: bool = False,
        compromised: bool = False,
        replace_lost: bool = False,
        direct: bool = False,
        days: int = LEAF,
    ) -> Outcome:
        """Have root, intermediate, certificates and lists, whatever the device has to sign for them in one session.

        ``compromised``: nobody is to trust the roots before a new one.
        """
        return self._perform(
            lambda work: work.plan_root(generation, allow_new, ROOT, compromised),
            lambda work: [] if direct else work.plan_intermediate(replace_lost, INTERMEDIATE),
            lambda work: work.plan_certificates(wants, direct, days),
            lambda work: work.plan_crl({}),
            replace_lost=replace_lost,
        )

    def root(self, generation: int | None, *, allow_new: bool, days: int = ROOT) -> Outcome:
        """Have a root of a generation; the current one, or the first, without it."""
        return self._perform(lambda work: work.plan_root(generation, allow_new, days))

    def intermediate(self, *, replace_lost: bool = False, days: int = INTERMEDIATE) -> Outcome:
        """Have an intermediate that is good for a third of its time."""
        return self._perform(lambda work: work.plan_intermediate(replace_lost, days), replace_lost=replace_lost)

    def certificates(self, wants: Sequence[Want] | Wants, *, direct: bool = False, days: int = LEAF) -> Outcome:
        """Have certificates that are good for a third of their time."""
        return self._perform(lambda work: work.plan_certificates(wants, direct, days))

    def crl(self, revoke: Mapping[int, str]) -> Outcome:
        """Have current revocation lists that hold these serials, each with its reason, and all there were."""
        return self._perform(lambda work: work.plan_crl(revoke))

    def _perform(self, *plans: Plan, replace_lost: bool = False) -> Outcome:
        if replace_lost:
            plans = (_Work.plan_seal, *plans)
        work = _Work(self, self.book(without_private=replace_lost), self.store.keys)
        jobs = work.rehearsed(plans)
        if jobs and not self.check:
            with self.store.locked():  # what another run did meanwhile is not done again
                work = _Work(self, self.book(without_private=replace_lost), self.store.keys)
                jobs = work.run(plans)
        before, after = ([getattr(job, side) for job in jobs] for side in ("before", "after"))
        signatures = sum(job.signatures for job in jobs)
        return Outcome(work.book, lambda: work.keys, bool(jobs), before, after, work.signed, signatures)


#: what has to be done, from the state that there is
Plan = Callable[["_Work"], Sequence[Job]]
#: certificates that are wanted where there are this book and these keys
Wants = Callable[[Database, Container[str]], Sequence[Want]]


class _Work:
    """One task: the book as it was read, and as it becomes."""

    def __init__(self, authority: Authority, book: Database, read_keys: Callable[[], dict[str, str]]) -> None:
        self.authority = authority
        self.book = book
        self._read_keys = read_keys
        self.signed: list[str] = []
        self.now = authority.now
        self.begin = authority.now - pki.SKEW
        self._stack = contextlib.ExitStack()
        self._opened: RootKeys | None = None
        self._signers: dict[int, Signer] = {}
        self._total = 0
        self._rehearses = False

    @cached_property
    def keys(self) -> dict[str, str]:
        """Read when they are needed, since they may be encrypted, and often nothing is to be done."""
        return self._read_keys()

    def rehearsed(self, plans: Sequence[Plan]) -> list[Job]:
        """What would be done: what a plan rests on is made before, with keys that nobody keeps."""
        stage = _Work(self.authority, self.book.copy(), lambda: copy.copy(self.keys))
        stage._rehearses = True
        *others, last = plans
        return [*(job for plan in others for job in stage._carried_out(plan)), *last(stage)]

    def run(self, plans: Sequence[Plan]) -> list[Job]:
        """Do it all, or as much as can be: what was signed before a failure counts."""
        self._total = sum(job.signatures for job in self.rehearsed(plans))
        keys = dict(self.keys)
        self._prune()
        done: list[Job] = []
        try:
            with self._stack:
                for plan in plans:
                    for job in self._carried_out(plan):
                        done.append(job)
        finally:
            if done:
                self.book.forget(self.now)
                changed = None if self.keys == keys else self.keys
                generation = self.book.root.index if self.book.root else 0
                self.authority.store.write(self.book.to_plain(self.now), changed, generation)
        return done

    def _carried_out(self, plan: Plan) -> Iterator[Job]:
        for job in plan(self):
            job.run()
            yield job

    def _prune(self) -> None:
        """Forget keys that nothing needs, as the book was: a run that reads now finds the keys of what it read."""
        book = self.book
        used = {root.key for root in book.roots} | {item.key for item in book.intermediates}
        for leaf in book.leaves.values():
            used |= {pki.key_id(leaf.certificate.public_key()), *_pkcs12(leaf)}
        for name in set(self.keys) - used:
            del self.keys[name]

    def plan_seal(self) -> list[Job]:
        """Have a private file, whose key seals the public one."""
        store = self.authority.store
        return [] if store.private.exists() else [Job(_foretold, "", f"{store.private.name}: a new one")]

    def _end(self, days: int) -> datetime:
        check_days(days)
        return self.now + timedelta(days=days)

    def _key(self, root: Root | None, what: str, index: int) -> ec.EllipticCurvePrivateKey:
        """The key of a root, None: of a new one. It is compared with what is pinned before anything is signed."""
        signer = self._signers.get(index)
        if signer is None and self._rehearses:
            self._signers[index] = signer = SoftwareSigner(Identity(self.authority.domain, index), pki.new_key())
        if signer is None:
            authority = self.authority
            if self._opened is None:
                first = self.book.root is None
                opened = authority.opener(self.keys, authority.store.private, first=first, confirmations=self._total)
                self._opened = self._stack.enter_context(opened)
            pinned = None if root is None else _public(root.certificate)
            signer = self._signers[index] = self._opened.root(Identity(authority.domain, index), pinned)
            if pinned is not None and pki.key_id(signer.public_key()) != pki.key_id(pinned):
                raise BcmError(
                    f"The device has another key than root g{index} of {authority.domain}: connect the device of this "
                    "data center, or type the passphrase of this data center"
                )
        return pki.signing_key(signer, what, self.signed.append)

    def _current(self) -> Root | None:
        """The root, if it is good; None only in check mode, when it would have been made before."""
        root = self.book.root
        if root is None:
            if self.authority.check:
                return None
            raise BcmError(f"There is no root of {self.authority.domain} yet: make it first, with ca_root")
        self._refuse_expired(root)
        return root

    def _refuse_expired(self, root: Root) -> None:
        end = root.certificate.not_valid_after_utc
        if end <= self.now:
            raise BcmError(
                f"Root g{root.index} of {self.authority.domain} has expired on {_day(end)}, "
                f"today is {_day(self.now)}: set the clock if it is wrong, or begin generation {root.index + 1} with "
                "ca_root"
            )

    # -- root ---------------------------------------------------------------------------------------------------------

    def plan_root(self, generation: int | None, allow_new: bool, days: int, compromised: bool = False) -> list[Job]:
        end = self._end(days)
        current = self.book.root
        last = current.index if current else self.authority.store.lost_generation() or 0
        if generation is not None and not 0 < generation < 1 << 32:  # as SLIP-0013 has it
            raise BcmError(f"A root cannot be of generation {generation}: write the next one, {last + 1}")
        wanted = generation or last or 1
        if current and wanted == last:
            self._refuse_expired(current)
            return []
        domain = self.authority.domain
        if current is None:
            self._refuse_forgotten(last, generation)
        if last and wanted != last + 1:
            raise BcmError(f"Generation {wanted} of the root of {domain} cannot follow {last}: write {last + 1}")
        if not allow_new:
            begun = f"generation {wanted} would follow {last}" if current else "it has none yet"
            verb = "rotate" if current else "init"
            raise BcmError(
                f"A new root of {domain} needs your consent, {begun}: type `bcm ca {verb}`, or set allow_new_root for "
                "this once"
            )
        good = current and current.certificate.not_valid_after_utc > self.now and not compromised
        bridged = current if good else None
        after = f"root g{wanted}: {days} days, {Identity(domain, wanted).uri} at {Identity(domain, wanted).path}"
        before = _line(f"root g{last}", current.certificate) if current else ""
        run = partial(self._make_root, wanted, bridged, end, compromised)
        return [Job(run, before, after, 2 if bridged else 1)]

    def _refuse_forgotten(self, last: int, generation: int | None) -> None:
        """The key of a generation is that of before, by which what was revoked and is forgotten would be good again."""
        store, provider = self.authority.store, self.authority.provider
        if last and not generation:
            raise BcmError(
                f"{store.public} is lost, and with it what was revoked: put a copy of it back, or type `bcm ca init`, "
                f"which begins generation {last + 1}, that everybody has to trust anew"
            )
        left = [path.name for path in store.others if path.exists()]
        if left and not store.private.exists() and not generation and provider != "software":
            raise BcmError(
                f"{store.directory} has {' and '.join(left)}, but not what the authority of {self.authority.domain} "
                f"has issued: put {store.public.name} and {store.private.name} back from a backup, or say which "
                "generation begins, one more than any there was (1 if there was none), with "
                "`bcm ca init --generation N`"
            )

    def _make_root(self, index: int, former: Root | None, end: datetime, compromised: bool) -> None:
        domain = self.authority.domain
        if self.book.root:  # whose key tells a mistyped passphrase before a new root rests on it
            self._key(self.book.root, "cross", self.book.root.index)
        key = self._key(None, "root", index)
        made = pki.sign_root(f"{domain} root g{index}", key, self.begin, end)
        cross = None
        if former:
            end = min(self.now + timedelta(days=_CROSS), made.not_valid_after_utc)
            cross = pki.cross_sign(made, former.certificate, self._key(former, "cross", former.index), self.begin, end)
            self.book.register(cross, f"cross g{index}", former.key)
        for root in self.book.roots if compromised else ():
            root.distrusted = True
        self.book.roots.append(Root(index, made, cross))

    # -- intermediate -------------------------------------------------------------------------------------------------

    def plan_intermediate(self, replace_lost: bool, days: int) -> list[Job]:
        end = self._end(days)
        root = self._current()
        found = self.book.issuers(self.now)
        if any(not self._due(i.certificate) and i.key in self.keys and self._fits(i) for i in found):
            return []
        lost = [item for item in found if item.key not in self.keys]
        if lost and not replace_lost:
            raise BcmError(
                f"The key of {pki.common_name(lost[0].certificate)} is not in {self.authority.store.private}: put the "
                "file back from a backup, or set replace_lost to revoke it and to have the root sign another"
            )
        index = root.index if root else 1
        before = _line(f"intermediate g{index}", found[0].certificate) if found else ""
        after = f"intermediate g{index}: {days} days, for {self.authority.scope}"
        run = partial(self._make_intermediate, root, lost, end) if root else _foretold
        return [Job(run, before, after, 1)]

    def _fits(self, item: Intermediate) -> bool:
        return pki.scope_of(item.certificate) == self.authority.scope

    def _make_intermediate(self, root: Root, lost: Sequence[Intermediate], end: datetime) -> None:
        key = pki.new_key()
        identifier = pki.key_id(key.public_key())
        made = pki.sign_intermediate(
            f"{self.authority.domain} g{root.index} {identifier[:8]}",
            key.public_key(),
            root.certificate,
            self._key(root, "inter", root.index),
            self.authority.scope,
            self.begin,
            end,
        )
        self.keys[identifier] = pki.key_pem(key)
        self.book.intermediates.append(Intermediate(root.index, made))
        self.book.register(made, pki.common_name(made), root.key)
        for item in lost:
            self._revoke(item.certificate.serial_number, "cessation_of_operation")

    # -- certificates -------------------------------------------------------------------------------------------------

    def plan_certificates(self, wants: Sequence[Want] | Wants, direct: bool, days: int) -> list[Job]:
        end = self._end(days)
        root = self._current()
        found = [item for item in self.book.issuers(self.now) if item.key in self.keys]
        found.sort(key=lambda item: not self._fits(item))  # there may be one for what was asked for in between
        below = {item.key for item in self.book.issuers(self.now)}
        limits = self.authority.scope
        if found and not self.authority.check:  # when ca_intermediate would have seen to it
            limits = pki.scope_of(found[0].certificate)
        jobs = []
        lacking = False
        for want in wants(self.book, self.keys) if callable(wants) else wants:
            by_root = direct or want.direct
            issuer: Root | Intermediate | None = root if by_root else found[0] if found else None
            allowed = self.authority.scope if by_root else limits
            common_name = want.common_name or self._common_name(want.name)
            for name in (*want.names, *_as_host(want, common_name)):
                if not allowed.covers(name):
                    raise BcmError(
                        f'"{name}" of certificate {want.name} is outside of what may be certified ({allowed}): '
                        "correct it, or add it to domains or subnets and run ca_intermediate again"
                    )
            key = pki.read_csr_key(want.csr, want.name) if want.csr else None
            leaf = self.book.leaves.get(want.name)
            if leaf and want.kept:
                key = leaf.certificate.public_key()
            why = self._fault(want, common_name, key, leaf, {root.key} if by_root and root else below)
            if why:
                lacking = lacking or issuer is None
                before = _leaf_line(want.name, leaf.certificate) if leaf else ""
                names = ", ".join(want.names) or common_name
                after = f"{want.name}: {days} days, {names}, {' and '.join(want.usage)} ({why})"
                run = partial(self._make_leaf, want, common_name, key, issuer, end) if issuer else _foretold
                jobs.append(Job(run, before, after, int(by_root)))
            if want.pkcs12 and (why or not leaf or _pkcs12(leaf)[0] not in self.keys):
                jobs.append(Job(partial(self._make_pkcs12, want), "", f"{want.name}: PKCS#12"))
        if lacking and not self.authority.check:
            lost = next(iter(self.book.issuers(self.now)), None)
            state = f"has no key in {self.authority.store.private}" if lost else "is not there, or has expired"
            raise BcmError(f"The intermediate of {self.authority.domain} {state}: run ca_intermediate first")
        return jobs

    def _common_name(self, name: str) -> str:
        """The common name of a server that has addresses only, for which GnuTLS takes it for a host name.

        So it has to be in the domain: name constraints count for it.
        """
        domain = self.authority.domain
        found = pki.normalize_name(f"{name}.{domain}")
        return found if found and len(found) <= _NAME_LENGTH else domain

    def _fault(self, want: Want, common_name: str, key: Any, leaf: Leaf | None, usable: set[str]) -> str | None:
        """Why a certificate has to be issued."""
        if leaf is None:
            return "new"
        certificate = leaf.certificate
        own = pki.key_id(certificate.public_key())
        faults = {
            "revoked": not self.book.good(certificate, self.now) and certificate.not_valid_after_utc > self.now,
            "asked for": want.anew,
            "due": self._due(certificate),
            "another issuer": leaf.issuer not in usable,
            "other names": sorted(pki.names_of(certificate)) != sorted(want.names)
            or pki.common_name(certificate) != common_name,
            "other usage": pki.usage_of(certificate) != list(want.usage),
            "another key": key is not None and pki.key_id(key) != own,
            "its key is lost": key is None and own not in self.keys,
        }
        return next((why for why, is_so in faults.items() if is_so), None)

    def _make_leaf(self, want: Want, common_name: str, public: Any, issuer: Root | Intermediate, end: datetime) -> None:
        key = None if public else pki.new_key()
        if key:
            public = key.public_key()
            self.keys[pki.key_id(public)] = pki.key_pem(key)
        signing = self._key(issuer, "leaf", issuer.index) if isinstance(issuer, Root) else self._loaded(issuer)
        made = pki.sign_leaf(common_name, want.names, want.usage, public, issuer.certificate, signing, self.begin, end)
        self.book.leaves[want.name] = Leaf(made, issuer.key)
        self.book.register(made, want.name, issuer.key)

    def _make_pkcs12(self, want: Want) -> None:
        if self._rehearses:  # nothing rests on it, and it takes longer than all else
            return
        leaf = self.book.leaves[want.name]
        content, word = _pkcs12(leaf)
        self.keys[word] = secrets.token_urlsafe(24)
        chain = self.book.chain(leaf, self.now)
        made = pki.build_pkcs12(want.name, self.keys[pki.key_id(chain[0].public_key())], chain, self.keys[word])
        self.keys[content] = base64.b64encode(made).decode()

    def _loaded(self, issuer: Intermediate) -> ec.EllipticCurvePrivateKey:
        if self._rehearses and not self.keys.get(issuer.key):  # who foretells may not have opened the vault
            return pki.new_key()
        try:
            return pki.load_key(self.keys[issuer.key])
        except ValueError as error:
            raise BcmError(
                f"{self.authority.store.private} is damaged, the key of {pki.common_name(issuer.certificate)} is none: "
                "put a copy of it back"
            ) from error

    # -- revocation ---------------------------------------------------------------------------------------------------

    def plan_crl(self, revoke: Mapping[int, str]) -> list[Job]:
        jobs = []
        if self._current() is None:
            jobs.append(Job(_foretold, "", f"list of root g1: {_ROOT_LIST} days", 1))
        for number, reason in revoke.items():
            known = self.book.serials.get(number)
            if known is None:
                raise BcmError(
                    f"No certificate with serial {number:x} was issued for {self.authority.domain}, or it has expired: "
                    "ca_info lists them"
                )
            if known.revoked is None:
                line = f"{known.name} {number:x}"
                jobs.append(Job(partial(self._revoke, number, reason), f"{line}: good", f"{line}: revoked, {reason}"))
                self._revoke(number, reason)
        for root in self.book.trusted(self.now):
            if self._stale(root):
                what = f"list of root g{root.index}"
                jobs.append(Job(partial(self._make_list, root, _ROOT_LIST), "", f"{what}: {_ROOT_LIST} days", 1))
        for item in self.book.intermediates:
            if not self.book.good(item.certificate, self.now) or not self._stale(item):
                continue
            if item.key not in self.keys and not self.authority.check:
                name = pki.common_name(item.certificate)
                raise BcmError(
                    f"The key of {name} is not in {self.authority.store.private}, so it cannot list what it revokes: "
                    "put the file back from a backup, or run ca_intermediate with replace_lost"
                )
            what = f"list of intermediate g{item.root}: {_LIST} days"
            jobs.append(Job(partial(self._make_list, item, _LIST), "", what))
        return jobs

    def _revoke(self, number: int, reason: str) -> None:
        known = self.book.serials[number]
        known.revoked = known.revoked or self.now
        known.reason = reason

    def _stale(self, issuer: Root | Intermediate) -> bool:
        """A list that is missing, about to end, or lacks something."""
        found = issuer.crl
        if found is None or found.next_update_utc is None:
            return True
        held = {entry.serial_number for entry in found}
        third = (found.next_update_utc - found.last_update_utc) / 3
        due = found.next_update_utc - self.now <= third
        return due or not held >= set(self.book.revoked(issuer.key))

    def _make_list(self, issuer: Root | Intermediate, days: int) -> None:
        key = self._key(issuer, "crl", issuer.index) if isinstance(issuer, Root) else self._loaded(issuer)
        # seconds, so that it goes up although the list before may be lost
        number = max(0 if issuer.crl is None else pki.crl_number(issuer.crl) + 1, int(self.now.timestamp()))
        revoked = self.book.revoked(issuer.key)
        end = self.now + timedelta(days=days)
        issuer.crl = pki.sign_crl(issuer.certificate, key, revoked, number, self.begin, end)

    def _due(self, certificate: x509.Certificate) -> bool:
        return due(certificate, self.now)


def check_days(days: int) -> None:
    """Raises BcmError for a time that no certificate can be good for."""
    if not 0 < days <= _LONGEST:
        raise BcmError(f"A certificate cannot be good for {days} days: write 1 to {_LONGEST}")


def due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether no more than a third of its time is left."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return end - now <= (end - begin) / 3


def again(name: str, book: Database, keys: Container[str]) -> Want:
    """What there is, wanted once more. ``keys`` are those of the vault: any other is kept where it is."""
    leaf = book.leaves[name]
    certificate = leaf.certificate
    names, usage = (tuple(found(certificate)) for found in (pki.names_of, pki.usage_of))
    kept = pki.key_id(certificate.public_key()) not in keys
    by_root = leaf.issuer in {root.key for root in book.roots}  # some ask for that, such as LXD
    pkcs12 = _pkcs12(leaf)[0] in keys
    common: str | None = pki.common_name(certificate)
    if _has_no_host(names, usage) and not f".{common}".endswith(f".{book.domain}"):  # as it was issued before
        common = None
    return Want(name, common, names, usage, pkcs12=pkcs12, kept=kept, direct=by_root)


def want(
    name: str,
    names: Sequence[str],
    usage: Sequence[str],
    *,
    common_name: str | None = None,
    csr: str | None = None,
    pkcs12: bool = False,
) -> Want:
    """What a person asked for. Raises BcmError for what no certificate can have."""
    found = []
    for text in names:
        normal = pki.normalize_name(text)
        if normal is None:
            raise BcmError(f'"{text}" of certificate {name} is neither a host name nor an address: correct it')
        found.append(normal)
    if not found and "server" in usage:
        raise BcmError(f"Certificate {name} is for a server, but has no names: say by which ones clients call it")
    if csr and pkcs12:
        raise BcmError(
            f"Certificate {name} cannot be had as PKCS#12, whose key is where its CSR is from: leave out one"
        )
    hosts = (text for text in found if len(text) <= _NAME_LENGTH and not pki.parse_address(text))
    common = common_name or (None if _has_no_host(found, usage) else next(hosts, name))
    if common is not None and not 0 < len(common) <= _NAME_LENGTH:
        raise BcmError(f'Certificate {name} cannot be called "{common}": 64 characters are the most')
    ordered = tuple(kind for kind in pki.USAGES if kind in usage)
    return Want(name, common, tuple(dict.fromkeys(found)), ordered, csr, pkcs12)


def _has_no_host(names: Iterable[str], usage: Container[str]) -> bool:
    """Whether it is for a server that has addresses only."""
    return "server" in usage and all(map(pki.parse_address, names))


def _as_host(want: Want, common_name: str) -> list[str]:
    """The common name, if others take it for a host: GnuTLS that of any server without one, OpenSSL what looks so."""
    name = pki.normalize_name(common_name)
    if _has_no_host(want.names, want.usage):
        return [name or common_name]
    return [name] if name and "." in name and all(map(pki.parse_address, want.names)) else []


def _foretold() -> None:
    """What cannot be done yet, and is not, since only check mode foretells it."""


def _pkcs12(leaf: Leaf) -> tuple[str, str]:
    """Where the PKCS#12 of a leaf is kept, and its password."""
    stem = f"pkcs12 {pki.fingerprint(leaf.certificate)}"
    return stem, f"{stem} password"


def _public(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BcmError("A root is on no elliptic curve: it is none of ours")
    return key


def _line(what: str, certificate: x509.Certificate) -> str:
    return f"{what}: until {_day(certificate.not_valid_after_utc)}"


def _leaf_line(name: str, certificate: x509.Certificate) -> str:
    names = ", ".join(pki.names_of(certificate)) or pki.common_name(certificate)
    return f"{_line(name, certificate)}, {names}, {' and '.join(pki.usage_of(certificate))}"


def report(book: Database, now: datetime) -> dict[str, Any]:
    """All that anybody may know of an authority, as results and tables have it."""

    def row(certificate: x509.Certificate) -> dict[str, Any]:
        known = book.serials.get(certificate.serial_number)
        end = certificate.not_valid_after_utc
        return {
            "subject": pki.common_name(certificate),
            "serial": f"{certificate.serial_number:x}",
            "fingerprint": pki.fingerprint(certificate),
            "not_before": certificate.not_valid_before_utc.isoformat(),
            "not_after": end.isoformat(),
            "days_left": (end - now) // timedelta(days=1),
            "revoked": bool(known and known.revoked),
        }

    trusted = book.trusted(now)
    alive = [item for item in book.intermediates if item.certificate.not_valid_after_utc > now]
    issuers: list[Root | Intermediate] = [*trusted, *alive]
    lists = [item.crl for item in issuers if item.crl is not None]
    return {
        "domain": book.domain,
        "provider": book.provider,
        "roots": [
            {
                **row(root.certificate),
                "generation": root.index,
                "uri": book.identity(root).uri,
                "path": book.identity(root).path,
                "key": root.key,
                "trusted": root in trusted,
                "certificate": pki.to_pem(root.certificate),
            }
            for root in book.roots
        ],
        "intermediates": [
            {
                **row(item.certificate),
                "generation": item.root,
                "permitted": str(pki.scope_of(item.certificate)),
                "certificate": pki.to_pem(item.certificate),
            }
            for item in book.intermediates
        ],
        "certificates": [
            {
                "name": name,
                **row(leaf.certificate),
                "names": pki.names_of(leaf.certificate),
                "usage": pki.usage_of(leaf.certificate),
            }
            for name, leaf in book.leaves.items()
        ],
        "trust": "".join(pki.to_pem(root.certificate) for root in trusted),
        "crl": "".join(map(pki.to_pem, lists)),
    }


def key_of(store: AuthorityFiles, name: str) -> str | None:
    """The private key of a certificate, as PEM; None if there is none. Raises BcmError."""
    entry = ((store.read() or {}).get("certificates") or {}).get(name)
    if entry is None:
        return None
    certificate = x509.load_pem_x509_certificate(entry["certificate"].encode())
    return store.keys().get(pki.key_id(certificate.public_key()))


def issued(outcome: Outcome, want: Want, now: datetime, *, private: bool) -> dict[str, Any]:
    """A certificate as the module returns it; in check mode there may be none, and only its name is known."""
    leaf = outcome.book.leaves.get(want.name)
    if leaf is None:
        return {"name": want.name}
    chain = outcome.book.chain(leaf, now)
    result: dict[str, Any] = {
        "name": want.name,
        "certificate": pki.to_pem(chain[0]),
        "chain": "".join(map(pki.to_pem, chain)),
        "serial": f"{chain[0].serial_number:x}",
        "fingerprint": pki.fingerprint(chain[0]),
        "not_after": chain[0].not_valid_after_utc.isoformat(),
    }
    if private and not want.csr:
        content, word = _pkcs12(leaf)
        result["key"] = outcome.keys.get(pki.key_id(chain[0].public_key()))
        if want.pkcs12:
            result |= {"pkcs12": outcome.keys.get(content), "password": outcome.keys.get(word)}
    return result


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
