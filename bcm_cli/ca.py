# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority of a data center: made, looked at, and what it issues, by hand."""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.bcm.core.plugins.module_utils._base.disk import put
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import unknown
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import (
    LEAF,
    Authority,
    Outcome,
    Want,
    Wants,
    again,
    check_days,
    issued,
    report,
    want,
)
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database, Leaf, Root
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity

from . import ca_session, ca_tables, setup
from .ca_tables import day
from .datacenter import DataCenter, UsageError
from .output import answer, say
from .stacks import catalogue

#: path -> content and mode
Files = Mapping[Path, tuple[str | bytes, int]]

# It becomes the name of files.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OWN = "root"
_TRUST = """
Firefox    Settings, Privacy & Security, View Certificates, Authorities, Import: {stem}.crt
Chromium   Settings, Privacy and security, Security, Manage certificates, Import: {stem}.crt, as trusted
Electrum   copy {stem}.crt to certs/HOST in its folder (~/.electrum, or CHAIN in it), HOST being the server's name
Android    Settings, search for "CA certificate", Install anyway: {stem}.cer
iOS        open {stem}.cer; Settings, General: install it in VPN & Device Management, trust it in About
"""


# -- verbs ------------------------------------------------------------------------------------------------------------


def init(args: argparse.Namespace) -> int:
    """The first root, its intermediate and their lists; nothing if they are there.

    If what was issued is lost, it is the root of the next generation.
    """
    datacenter: DataCenter = args.datacenter
    seen, direct = ca_session.seen(datacenter), ca_session.is_direct(datacenter)
    book = seen.book()
    if book.root:
        _good_root(book, seen)
    if book.root and args.generation not in (None, book.root.index):
        raise UsageError(
            seen.domain,
            f"has root g{book.root.index} already",
            "`bcm ca rotate` begins the next generation",
            code="conflict",
        )
    if book.root and book.root.crl is not None and (direct or book.issuers(seen.now)):
        setup.step(f"{seen.domain} has its authority already: nothing was changed")
        return _summary(args, seen)

    def work(authority: Authority) -> Outcome:
        lost = authority.store.lost_generation()
        generation = args.generation or (lost + 1 if lost else None)
        return authority.everything((), generation=generation, allow_new=True, direct=direct)

    foretold, lost = work(seen), seen.store.lost_generation()
    where = "on the Trezor" if seen.provider == "trezor" else f"its key in {seen.store.private}"
    if lost is None and not args.generation:
        setup.step(f"{seen.store.public} is lost: the root is going to be the next after what the vault knows, {where}")
    else:
        identity = Identity(seen.domain, book.root.index if book.root else args.generation or (lost or 0) + 1)
        setup.step(f"The root of {seen.domain} is going to be {identity.uri}, at {identity.path}, {where}")
    if book.root is None and lost == 0 and not args.generation and seen.provider == "trezor":
        setup.step("If it had a root before, put its files back, or add --generation N, one more than any it had")
    setup.step(f"Below it may be certified: {seen.scope}")
    _announce(datacenter, foretold, " twice, since nothing tells a mistyped one yet" * (book.root is None))
    setup.agreed("Make the authority?", args.yes, "Nothing was made")
    return _summary(args, seen, ca_session.carry_out(datacenter, work))


def show(args: argparse.Namespace) -> int:
    """The authority, or one certificate; all of it is public."""
    seen = ca_session.seen(args.datacenter)
    book = seen.book()
    root = _there(book, seen)
    if args.certificate:
        _leaf(book, args.certificate)
        facts = ca_tables.detail(book, args.certificate, seen.now)
        return answer(facts if args.json else {key: facts[key] for key in facts if key != "chain"}, args.json)
    found = book.issuers(seen.now)
    permitted = str(pki.scope_of(found[0].certificate) if found else seen.scope)
    if args.json:
        return answer({"permitted": permitted, **report(book, seen.now)}, True)
    rows = [*ca_tables.rows(book, seen.now), *ca_tables.list_rows(book, seen.now)]
    listed = [{"subject": row["name"], **{key: row[key] for key in ("purpose", "end", "days_left")}} for row in rows]
    facts = {"domain": seen.domain, "provider": seen.provider, **ca_tables.root_facts(book, root, False)}
    return answer({**facts, "permitted": permitted, "issued": ca_tables.for_people(listed)}, False)


def list_all(args: argparse.Namespace) -> int:
    """Every certificate there is; with --all, those that were replaced or revoked, too."""
    seen = ca_session.seen(args.datacenter)
    book = seen.book()
    _there(book, seen)
    rows = ca_tables.rows(book, seen.now, args.all)
    return answer({"certificates": rows} if args.json else ca_tables.for_people(rows), args.json)


def issue(args: argparse.Namespace) -> int:
    """A certificate for who is no stack, with all that it is used with, in a folder."""
    datacenter: DataCenter = args.datacenter
    _check_name(args.certificate, datacenter)
    seen, direct = ca_session.seen(datacenter), ca_session.is_direct(datacenter)
    book = seen.book()
    _good_root(book, seen)
    asked = _wanted(args, seen, args.certificate in book.leaves)
    folder = _folder(args.out)
    days = args.days or LEAF
    suffixes = [".key", *[".p12"] * args.pkcs12]
    if not args.csr and not args.force and seen.certificates(asked, direct=direct, days=days).changed:
        _refuse([path for suffix in suffixes if (path := folder / f"{args.certificate}{suffix}").exists()])
    work = partial(Authority.everything, wants=asked, direct=direct, days=days)
    _announce(datacenter, work(seen))
    outcome = ca_session.carry_out(datacenter, work)
    (item,) = asked(outcome.book, outcome.keys)
    one = issued(outcome, item, seen.now, private=True)
    trust = report(outcome.book, seen.now)["trust"]
    private: dict[str, str | bytes] = {}
    if one.get("key"):
        private[".key"] = one["key"]
    else:
        setup.step(f"The key of {item.name} is where its CSR is from: no {item.name}.key is written")
    if item.pkcs12:
        private |= {".p12": base64.b64decode(one["pkcs12"]), ".p12.password": f"{one['password']}\n"}
    # Keys first: who is killed in between has one without its certificate, and not the other way round.
    placed: Files = {folder / f"{item.name}{suffix}": (content, 0o600) for suffix, content in private.items()}
    if not args.force:
        _refuse([path for path, (content, _mode) in placed.items() if _is_other(path, content)])
    placed = {**placed, folder / f"{item.name}.crt": (one["chain"], 0o644), folder / f"{_OWN}.crt": (trust, 0o644)}
    _write(placed)
    facts = {key: one[key] for key in ("name", "serial", "fingerprint", "not_after")}
    return answer({**facts, **_placed(placed, args)}, args.json)


def renew(args: argparse.Namespace) -> int:
    """Certificates anew although they are not due; without names, all that is due."""
    datacenter: DataCenter = args.datacenter
    seen, direct = ca_session.seen(datacenter), ca_session.is_direct(datacenter)
    book = seen.book()
    _good_root(book, seen)
    for name in args.certificates:
        _leaf(book, name)
    _check_days(args.days)
    wanted = ca_session.present(tuple(dict.fromkeys(args.certificates)))
    lost, days = args.replace_lost, args.days or LEAF
    work = partial(Authority.everything, wants=wanted, replace_lost=lost, direct=direct, days=days)
    foretold = work(seen)
    if not args.replace_lost and not foretold.changed:
        setup.step("Nothing is due: nothing was changed")
        return _done(args)
    _announce(datacenter, foretold, unless=", unless a key is lost" * args.replace_lost)
    outcome = ca_session.carry_out(datacenter, work)
    if any(leaf != book.leaves.get(name) for name, leaf in outcome.book.leaves.items()):
        setup.step("Stacks get theirs with `bcm stack start STACK`; `bcm ca issue NAME --out FOLDER` writes any other")
    return _done(args, outcome)


def revoke(args: argparse.Namespace) -> int:
    """Certificates that nobody is to accept any more; the lists are made anew."""
    datacenter: DataCenter = args.datacenter
    seen = ca_session.seen(datacenter)
    book = seen.book()
    _good_root(book, seen)
    reason = args.reason.replace("-", "_")
    if reason not in pki.REASONS:
        raise UsageError.of(unknown("reason", args.reason, pki.REASONS))
    meant = _meant(book, args.certificate, seen.now)
    if not meant:
        setup.step(f"{args.certificate} is revoked already, or has expired: nothing was changed")
        return _done(args)
    for number in meant:
        setup.step(f"{book.serials[number].name} {number:x}, good until {day(book.serials[number].end)}")
    work = partial(Authority.crl, revoke=dict.fromkeys(meant, reason))
    _announce(datacenter, work(seen))
    setup.agreed("Revoke it, for good?", args.yes, "Nothing was revoked")
    outcome = ca_session.carry_out(datacenter, work)
    setup.step("Services know it after `bcm stack start STACK`, programs elsewhere with the list of `bcm ca export`")
    if {item.certificate.serial_number for item in book.intermediates} & set(meant):
        setup.step("What rests on that intermediate is refused now: `bcm ca renew` replaces it")
    return _done(args, outcome)


def rotate(args: argparse.Namespace) -> int:
    """The next generation of the root, and all below it; or the rest of it, if that was interrupted."""
    datacenter: DataCenter = args.datacenter
    seen, direct = ca_session.seen(datacenter), ca_session.is_direct(datacenter)
    book = seen.book()
    root = _there(book, seen)
    begun = root.index > 1 and root.certificate.not_valid_after_utc > seen.now and not _is_complete(book, root)
    if args.compromised and not all(item.distrusted for item in book.roots[:-1]):
        begun = False
    generation = root.index + (not begun)
    wanted = ca_session.present(())

    def work(authority: Authority) -> Outcome:
        own = {"direct": direct, "compromised": args.compromised}
        return authority.everything(wanted, generation=generation, allow_new=True, **own)

    foretold = work(seen)
    if begun:
        setup.step(f"Generation {generation} was begun, and is going to be finished")
    else:
        identity = Identity(seen.domain, generation)
        setup.step(f"Root g{generation} of {seen.domain} is going to be {identity.uri}, at {identity.path}")
        anew = ca_session.current(book)
        setup.step(f"Then all certificates are made anew: {', '.join(anew) or 'there are none'}")
    _announce(datacenter, foretold)
    setup.agreed("Go on?", args.yes, "Nothing was changed")
    outcome = ca_session.carry_out(datacenter, work)
    setup.step("Type `bcm stack start STACK` for all stacks that run: they get certificates and the new root")
    if args.compromised:
        setup.step("Until then, and until they are told, clients trust whoever has the old root's key")
        setup.step("Remove the old root from browsers, wallets and phones now, and give them `bcm ca export FOLDER`")
    else:
        setup.step("Give the new root to browsers, wallets and phones within 90 days: `bcm ca export FOLDER`")
    return _summary(args, seen, outcome)


def export(args: argparse.Namespace) -> int:
    """The root for who has to trust it, and the lists."""
    seen = ca_session.seen(args.datacenter)
    book = seen.book()
    root = _there(book, seen)
    facts = report(book, seen.now)
    folder = _folder(args.folder)
    stem = seen.domain
    content = {".crt": facts["trust"], ".cer": root.certificate.public_bytes(Encoding.DER), ".crl": facts["crl"]}
    files = {folder / f"{stem}{suffix}": (text, 0o644) for suffix, text in content.items() if text}
    _write(files)
    told = {**ca_tables.root_facts(book, root, args.json), **_placed(files, args)}
    if args.json:
        return answer({**told, "certificate": pki.to_pem(root.certificate)}, True)
    answer(told, False)
    print(_TRUST.format(stem=stem), end="")
    if sys.stdout.isatty() and not args.no_qr:
        print("\n".join(["", *ca_tables.qr_code(root)]))
    return 0


# -- what is told before -----------------------------------------------------------------------------------------------


def _there(book: Database, seen: Authority) -> Root:
    if book.root is None:
        raise BcmError(
            f"There is no root of {seen.domain} yet",
            remedy="type `bcm ca init`",
            code="not_ready",
            about=f"root of {seen.domain}",
        )
    return book.root


def _good_root(book: Database, seen: Authority) -> None:
    root = _there(book, seen)
    end = root.certificate.not_valid_after_utc
    if end <= seen.now:
        raise BcmError(
            f"Root g{root.index} of {seen.domain}",
            f"has expired on {day(end)}, today is {day(seen.now)}",
            "set the clock if it is wrong, or type `bcm ca rotate`",
            code="expired",
        )


def _is_complete(book: Database, root: Root) -> bool:
    """Whether all rests on the current generation, whose list is made last."""
    below = {root.key, *(item.key for item in book.intermediates if item.root == root.index)}
    return root.crl is not None and all(book.leaves[name].issuer in below for name in ca_session.current(book))


def _announce(datacenter: DataCenter, foretold: Outcome, twice: str = "", unless: str = "") -> None:
    if datacenter.ca_provider == "trezor":
        signatures = foretold.signatures
        count = f"then {signatures} confirmation{'s' * (signatures != 1)}" if signatures else "and nothing is signed"
        setup.step(f"On the Trezor: the passphrase{twice}, one confirmation to open the vault, {count}{unless}")


# -- what is issued by hand -------------------------------------------------------------------------------------------


def _check_name(name: str, datacenter: DataCenter) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'"{name}"', "is no name of a certificate", "use letters, digits, dots, hyphens and underscores"
        )
    if name in catalogue(datacenter):
        raise UsageError(
            f'"{name}"', "is a stack, whose certificates the playbook keeps", "choose another name", code="conflict"
        )
    if name == _OWN:
        raise UsageError(f"{_OWN}.crt", "is the root's", "choose another name", code="conflict")


def _check_days(days: int | None) -> None:
    try:
        check_days(LEAF if days is None else days)
    except BcmError as error:
        raise UsageError.of(error) from error


def _wanted(args: argparse.Namespace, seen: Authority, known: bool) -> Wants:
    """What was asked for; for a name that is known and nothing else, what there is."""
    _check_days(args.days)
    if args.csr and args.pkcs12:
        raise UsageError("PKCS#12", "holds a key, but that of a CSR is elsewhere", "leave out --csr or --pkcs12")
    if known and not (args.names or args.usage or args.csr):

        def same(book: Database, keys: Container[str]) -> list[Want]:
            found = again(args.certificate, book, keys)
            if found.kept and args.pkcs12:
                raise BcmError(
                    f"The key of {found.name}",
                    "is not in the vault, where PKCS#12 has to take it from",
                    code="not_found",
                )
            return [replace(found, pkcs12=found.pkcs12 or args.pkcs12)]

        return same
    usage = args.usage or ["server"]
    if "server" in usage and not args.names:
        raise UsageError(args.certificate, "is for a server, but has no names", "add --name HOST, or --usage client")
    csr = _csr(args.csr, args.certificate) if args.csr else None
    try:
        asked = want(args.certificate, args.names, usage, csr=csr, pkcs12=args.pkcs12)
    except BcmError as error:
        raise UsageError.of(error) from error
    for name in asked.names:
        if not seen.scope.covers(name):
            raise UsageError(
                f'"{name}"',
                f"is outside of what may be certified ({seen.scope})",
                f"correct it, or add it to bcm_ca_domains or bcm_ca_subnets in {args.datacenter.group_vars}",
                code="not_allowed",
            )
    return lambda book, keys: [asked]


def _csr(path: str, name: str) -> str:
    try:
        text = Path(os.path.expanduser(path)).read_text(encoding="ascii")
        pki.read_csr_key(text, name)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no PEM"
        raise UsageError(path, f"cannot be read: {said}", "name a file with a CSR in PEM", code="io_error") from error
    except BcmError as error:
        raise UsageError.of(error) from error
    return text


def _folder(name: str) -> Path:
    """A folder that can be written to, made if it is not there."""
    folder = Path(os.path.expanduser(name)).absolute()  # which takes any text
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        said = "it is not yours to write to"
    except OSError as error:
        said = error.strerror or str(error)
    raise UsageError(folder, f"cannot be used: {said}", "name a folder that you may write to")


def _refuse(paths: Sequence[Path]) -> None:
    if paths:
        raise BcmError(
            ", ".join(map(str, paths)),
            "would be replaced by another key",
            "name another folder, or add --force; no file was written",
            code="conflict",
        )


def _write(files: Files) -> None:
    """All of them, each as a whole."""
    try:
        put(*((path, content, mode) for path, (content, mode) in files.items()))
    except OSError as error:
        where = error.filename2 or error.filename or next(iter(files))
        raise BcmError(
            where, f"cannot be written: {error.strerror}", "make room for it, and run it again", code="io_error"
        ) from error


def _placed(files: Files, args: argparse.Namespace) -> dict[str, Any]:
    names = list(map(str, files))
    return {"files": names if args.json else [{"written": name} for name in names]}


def _is_other(path: Path, content: str | bytes) -> bool:
    """Whether a file is there that holds something else."""
    try:
        return path.read_bytes() != (content.encode() if isinstance(content, str) else content)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _leaf(book: Database, name: str) -> Leaf:
    if name not in book.leaves:
        raise UsageError.of(unknown("certificate", name, book.leaves))
    return book.leaves[name]


def _meant(book: Database, text: str, now: datetime) -> list[int]:
    """Serials that a name or serial means, revoked and expired ones left out: all that bear a name are meant by it."""
    named = [number for number, item in book.serials.items() if item.name == text]
    digits = text.replace(":", "")
    if not named and re.fullmatch(r"[0-9a-fA-F]+", digits) and int(digits, 16) in book.serials:
        named = [int(digits, 16)]
    if not named:
        raise UsageError.of(unknown("certificate", text, dict.fromkeys(item.name for item in book.serials.values())))
    return [number for number in named if not book.serials[number].revoked and book.serials[number].end > now]


def _summary(args: argparse.Namespace, seen: Authority, *outcomes: Outcome) -> int:
    """What was done, and the root to compare."""
    book = seen.book()
    facts = ca_tables.root_facts(book, _there(book, seen), args.json)
    if args.json:
        return answer({**_changes(outcomes), **facts}, True)
    _done(args, *outcomes)
    return answer(facts, False)


def _done(args: argparse.Namespace, *outcomes: Outcome) -> int:
    changes = _changes(outcomes)
    if args.json:
        return answer(changes, True)
    for line in changes["done"]:
        say(line)
    return 0


def _changes(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "changed": any(outcome.changed for outcome in outcomes),
        "done": [line for outcome in outcomes for line in outcome.after],
        "signed": [line for outcome in outcomes for line in outcome.signed],
    }
