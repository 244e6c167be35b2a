# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority of a data center: create, show, issue, renew, revoke, rotate and export."""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import unknown
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority, Result
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database, Root
from ansible_collections.bcm.core.plugins.module_utils._ca.issuance_plan import LEAF_DAYS
from ansible_collections.bcm.core.plugins.module_utils._ca.report import authority_report, certificate_report
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity
from ansible_collections.bcm.core.plugins.module_utils._guest.apple_profile import client_profile

from . import ca_files, ca_session, ca_tables, setup
from .ca_requests import ROOT_FILE, check_days_option, check_name, issue_requests, leaf_of, serials_of
from .ca_tables import day
from .datacenter import DataCenter, UsageError
from .output import answer, say
from .run_events import tell_certificates

_HOW_TO_TRUST = """
Firefox    Settings, Privacy & Security, View Certificates, Authorities, Import: {stem}.crt
Chromium   Settings, Privacy and security, Security, Manage certificates, Import: {stem}.crt, as trusted
Electrum   copy {stem}.crt to certs/HOST in its folder (~/.electrum, or CHAIN in it), HOST being the server's name
Android    Settings, search for "CA certificate", Install anyway: {stem}.cer
iOS        open {stem}.cer; Settings, General: install it in VPN & Device Management, trust it in About
"""


# -- verbs ------------------------------------------------------------------------------------------------------------


def init(args: argparse.Namespace) -> int:
    """Create the first root, its intermediate and their lists; change nothing if they exist.

    If what was issued is lost, the root is of the next generation.
    """
    datacenter: DataCenter = args.datacenter
    authority, direct = ca_session.read_only(datacenter), ca_session.is_direct(datacenter)
    database, domain = authority.read_database(), authority.domain
    if database.root:
        _refuse_expired_root(database, authority)
    if database.root and args.generation not in (None, database.root.index):
        raise UsageError(
            domain,
            f"has root g{database.root.index} already",
            "`bcm ca rotate` begins the next generation",
            code="conflict",
        )
    if database.root and database.root.crl is not None and (direct or database.good_intermediates(authority.now)):
        setup.step(f"{domain} has its authority already: nothing was changed")
        return _answer_summary(args, authority)

    def work(authority: Authority) -> Result:
        lost = authority.files.lost_generation()
        generation = args.generation or (lost + 1 if lost else None)
        return authority.ensure_all((), generation=generation, allow_new=True, direct=direct)

    dry_run, lost = work(authority), authority.files.lost_generation()
    where = "on the Trezor" if authority.provider == "trezor" else f"with its key in {authority.files.private}"
    if lost is None and not args.generation:
        setup.step(
            f"{authority.files.public} is lost: the root is going to be the next after what the vault knows, {where}"
        )
    else:
        identity = Identity(domain, database.root.index if database.root else args.generation or (lost or 0) + 1)
        setup.step(f"The root of {domain} is going to be {identity.uri}, at {identity.path}, {where}")
    if database.root is None and lost == 0 and not args.generation and authority.provider == "trezor":
        setup.step("If it had a root before, put its files back, or add --generation N, one more than any it had")
    setup.step(f"It may certify: {authority.scope}")
    twice = " twice, since nothing can tell a mistyped one yet" * (database.root is None)
    _announce(datacenter, dry_run, twice)
    setup.confirm("Create the authority?", args.yes, "Nothing was created")
    return _answer_summary(args, authority, _change(datacenter, work))


def show(args: argparse.Namespace) -> int:
    """Show the authority, or one certificate; all of it is public."""
    authority = ca_session.read_only(args.datacenter)
    database = authority.read_database()
    root = _root_of(database, authority)
    if args.certificate:
        leaf_of(database, args.certificate)
        facts = ca_tables.certificate_facts(database, args.certificate, authority.now)
        return answer(facts if args.json else {key: facts[key] for key in facts if key != "chain"}, args.json)
    intermediates = database.good_intermediates(authority.now)
    permitted = str(intermediates[0].certificate.scope if intermediates else authority.scope)
    if args.json:
        return answer({"permitted": permitted, **authority_report(database, authority.now)}, True)
    rows = [
        *ca_tables.certificate_rows(database, authority.now),
        *ca_tables.list_rows(database, authority.now),
    ]
    issued = [{"subject": row["name"], **{key: row[key] for key in ("purpose", "end", "days_left")}} for row in rows]
    facts = {
        "domain": authority.domain,
        "provider": authority.provider,
        **ca_tables.root_facts(database, root, False),
        "permitted": permitted,
        "issued": ca_tables.with_days(issued),
    }
    return answer(facts, False)


def list_all(args: argparse.Namespace) -> int:
    """List the certificates; with --all, those too that were replaced or revoked."""
    authority = ca_session.read_only(args.datacenter)
    database = authority.read_database()
    _root_of(database, authority)
    rows = ca_tables.certificate_rows(database, authority.now, args.all)
    return answer({"certificates": rows} if args.json else ca_tables.with_days(rows), args.json)


def issue(args: argparse.Namespace) -> int:
    """Issue a certificate for something other than a stack, and write it and all that it is used with to a folder."""
    check_name(args.certificate, args.datacenter)
    return write_certificate(args)


def write_certificate(args: argparse.Namespace) -> int:
    """Issue the certificate of a name that was checked, and write it and all that it is used with to a folder."""
    datacenter: DataCenter = args.datacenter
    authority, direct = ca_session.read_only(datacenter), ca_session.is_direct(datacenter)
    database = authority.read_database()
    _refuse_expired_root(database, authority)
    requests = issue_requests(args, authority, args.certificate in database.leaves)
    folder = ca_files.open_folder(args.out)
    days = args.days or LEAF_DAYS
    is_new = not args.csr and authority.ensure_certificates(requests, direct=direct, days=days).changed
    if is_new and not args.force:
        paths = [folder / f"{args.certificate}{suffix}" for suffix in (".key", *[".p12"] * args.pkcs12)]
        ca_files.refuse_to_replace([path for path in paths if path.exists()])
    work = partial(Authority.ensure_all, requests=requests, direct=direct, days=days)
    _announce(datacenter, work(authority))
    result = _change(datacenter, work)
    (request,) = requests(result.database, result.keys)
    issued = certificate_report(request, result.database, authority.now, result.keys)
    trust = authority_report(result.database, authority.now)["trust"]
    private: dict[str, str | bytes] = {}
    certificates: dict[Path, tuple[str | bytes, int]] = {
        folder / f"{request.name}.crt": (issued["chain"], 0o644),
        folder / f"{ROOT_FILE}.crt": (trust, 0o644),
    }
    if issued.get("key"):
        private[".key"] = issued["key"]
    else:
        setup.step(f"The key of {request.name} is where its CSR comes from: no {request.name}.key is written")
    if request.pkcs12:
        archive, password = base64.b64decode(issued["pkcs12"]), issued["password"]
        private |= {".p12": archive, ".p12.password": f"{password}\n"}
        profile = client_profile(datacenter.name, trust, request.name, archive, password)
        # It has the roots, too, which may be others although the key is the same.
        certificates[folder / f"{request.name}.mobileconfig"] = profile, 0o600
    # Keys first: if this is killed in between, there is a key without its certificate, and not the other way round.
    files: ca_files.Files = {folder / f"{request.name}{suffix}": (text, 0o600) for suffix, text in private.items()}
    if not args.force:
        others = [path for path, (text, _mode) in files.items() if ca_files.has_other_content(path, text)]
        ca_files.refuse_to_replace(others)
    files = {**files, **certificates}
    ca_files.write(files)
    facts = {key: issued[key] for key in ("name", "serial", "fingerprint", "not_after")}
    return answer({**facts, **_written(files, args)}, args.json)


def renew(args: argparse.Namespace) -> int:
    """Renew these certificates although they are not due; without names, all that is due."""
    datacenter: DataCenter = args.datacenter
    authority, direct = ca_session.read_only(datacenter), ca_session.is_direct(datacenter)
    database = authority.read_database()
    _refuse_expired_root(database, authority)
    for name in args.certificates:
        leaf_of(database, name)
    check_days_option(args.days)
    requests = ca_session.renewal_requests(tuple(dict.fromkeys(args.certificates)))
    lost, days = args.replace_lost, args.days or LEAF_DAYS
    work = partial(Authority.ensure_all, requests=requests, replace_lost=lost, direct=direct, days=days)
    dry_run = work(authority)
    if not args.replace_lost and not dry_run.changed:
        setup.step("Nothing is due: nothing was changed")
        return _answer_changes(args)
    _announce(datacenter, dry_run, unless=", unless a key is lost" * args.replace_lost)
    result = _change(datacenter, work)
    if any(leaf != database.leaves.get(name) for name, leaf in result.database.leaves.items()):
        setup.step("Stacks get theirs with `bcm stack start STACK`; `bcm ca issue NAME --out FOLDER` writes any other")
    return _answer_changes(args, result)


def revoke(args: argparse.Namespace) -> int:
    """Revoke certificates, and renew the lists."""
    datacenter: DataCenter = args.datacenter
    authority = ca_session.read_only(datacenter)
    database = authority.read_database()
    _refuse_expired_root(database, authority)
    reason = args.reason.replace("-", "_")
    if reason not in pki.REASONS:
        raise UsageError.of(unknown("reason", args.reason, pki.REASONS))
    serials = serials_of(database, args.certificate, authority.now)
    if not serials:
        setup.step(f"{args.certificate} is revoked already, or has expired: nothing was changed")
        return _answer_changes(args)
    for serial in serials:
        setup.step(f"{database.serials[serial].name} {serial:x}, good until {day(database.serials[serial].end)}")
    work = partial(Authority.ensure_lists, revoke=dict.fromkeys(serials, reason))
    _announce(datacenter, work(authority))
    setup.confirm("Revoke it? This cannot be undone.", args.yes, "Nothing was revoked")
    result = _change(datacenter, work)
    setup.step("Services know it after `bcm stack start STACK`, programs elsewhere with the list of `bcm ca export`")
    if {item.certificate.serial for item in database.intermediates} & set(serials):
        setup.step("Certificates of that intermediate are refused now: `bcm ca renew` issues them again")
    return _answer_changes(args, result)


def rotate(args: argparse.Namespace) -> int:
    """Create the next generation of the root and all below it; or the rest of it, if that was interrupted."""
    datacenter: DataCenter = args.datacenter
    authority, direct = ca_session.read_only(datacenter), ca_session.is_direct(datacenter)
    database = authority.read_database()
    root = _root_of(database, authority)
    was_interrupted = root.index > 1 and root.certificate.end > authority.now and not _is_complete(database, root)
    if args.compromised and not all(item.distrusted for item in database.roots[:-1]):
        was_interrupted = False
    generation = root.index if was_interrupted else root.index + 1

    def work(authority: Authority) -> Result:
        return authority.ensure_all(
            ca_session.renewal_requests(()),
            generation=generation,
            allow_new=True,
            direct=direct,
            compromised=args.compromised,
        )

    dry_run = work(authority)
    if was_interrupted:
        setup.step(f"The rotation to generation {generation} was interrupted, and is going to be finished")
    else:
        identity = Identity(authority.domain, generation)
        setup.step(f"Root g{generation} of {authority.domain} is going to be {identity.uri}, at {identity.path}")
        names = ", ".join(ca_session.unrevoked_names(database)) or "there are none"
        setup.step(f"Then all certificates are issued again: {names}")
    _announce(datacenter, dry_run)
    setup.confirm("Go on?", args.yes, "Nothing was changed")
    result = _change(datacenter, work)
    setup.step("Type `bcm stack start STACK` for all stacks that run: they get certificates and the new root")
    if args.compromised:
        setup.step("Until then, clients trust certificates that the old root's key signs")
        setup.step("Remove the old root from browsers, wallets and phones now, and give them `bcm ca export FOLDER`")
    else:
        setup.step("Give the new root to browsers, wallets and phones within 90 days: `bcm ca export FOLDER`")
    return _answer_summary(args, authority, result)


def export(args: argparse.Namespace) -> int:
    """Write the root for browsers, wallets and phones, and the revocation lists."""
    authority = ca_session.read_only(args.datacenter)
    database = authority.read_database()
    root = _root_of(database, authority)
    report = authority_report(database, authority.now)
    folder = ca_files.open_folder(args.folder)
    stem = authority.domain
    der = root.certificate.content.public_bytes(Encoding.DER)
    content = {".crt": report["trust"], ".cer": der, ".crl": report["crl"]}
    files = {folder / f"{stem}{suffix}": (text, 0o644) for suffix, text in content.items() if text}
    ca_files.write(files)
    facts = {**ca_tables.root_facts(database, root, args.json), **_written(files, args)}
    if args.json:
        return answer({**facts, "certificate": root.certificate.pem}, True)
    answer(facts, False)
    print(_HOW_TO_TRUST.format(stem=stem), end="")
    if sys.stdout.isatty() and not args.no_qr:
        print("\n".join(["", *ca_tables.qr_code(root)]))
    return 0


# -- before a change --------------------------------------------------------------------------------------------------


def _root_of(database: Database, authority: Authority) -> Root:
    if database.root is None:
        raise BcmError(
            f"There is no root of {authority.domain} yet",
            remedy="type `bcm ca init`",
            code="not_ready",
            about=f"root of {authority.domain}",
        )
    return database.root


def _refuse_expired_root(database: Database, authority: Authority) -> None:
    root = _root_of(database, authority)
    end = root.certificate.end
    if end <= authority.now:
        raise BcmError(
            f"Root g{root.index} of {authority.domain}",
            f"has expired on {day(end)}, today is {day(authority.now)}",
            "set the clock if it is wrong, or type `bcm ca rotate`",
            code="expired",
        )


def _is_complete(database: Database, root: Root) -> bool:
    """Return whether everything is of the current generation, whose list is created last."""
    below = {root.key, *(item.key for item in database.intermediates if item.root == root.index)}
    names = ca_session.unrevoked_names(database)
    return root.crl is not None and all(database.leaves[name].issuer in below for name in names)


def _change(datacenter: DataCenter, work: Callable[[Authority], Result]) -> Result:
    """Change the authority, of which the next run writes events."""
    with tell_certificates(datacenter):
        return ca_session.change_authority(datacenter, work)


def _announce(datacenter: DataCenter, dry_run: Result, twice: str = "", unless: str = "") -> None:
    """Print the confirmations that the device is going to ask for."""
    if datacenter.ca_provider != "trezor":
        return
    signed = dry_run.confirmations
    count = f"then {len(signed)} confirmation{'s' * (len(signed) != 1)}: {', '.join(signed)}" if signed else ""
    rest = f"{count}{unless}" if count else f"and nothing is signed{unless}"
    setup.step(f"On the Trezor: the passphrase{twice}, one confirmation to open the vault, {rest}")


# -- answers ----------------------------------------------------------------------------------------------------------


def _written(files: ca_files.Files, args: argparse.Namespace) -> dict[str, Any]:
    names = list(map(str, files))
    return {"files": names if args.json else [{"written": name} for name in names]}


def _answer_summary(args: argparse.Namespace, authority: Authority, *results: Result) -> int:
    """Print the changes, and the root to compare."""
    database = authority.read_database()
    facts = ca_tables.root_facts(database, _root_of(database, authority), args.json)
    if args.json:
        return answer({**_changes(results), **facts}, True)
    _answer_changes(args, *results)
    return answer(facts, False)


def _answer_changes(args: argparse.Namespace, *results: Result) -> int:
    changes = _changes(results)
    if args.json:
        return answer(changes, True)
    for line in changes["done"]:
        say(line)
    return 0


def _changes(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "changed": any(result.changed for result in results),
        "done": [line for result in results for line in result.after],
        "signed": [line for result in results for line in result.signed],
    }
