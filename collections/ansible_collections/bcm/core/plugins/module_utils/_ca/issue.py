# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carries out the steps of a plan: makes keys, has certificates and lists signed, and writes what was signed."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from .._base.errors import BcmError
from . import pki
from .authority_files import AuthorityFiles
from .database import Certificate, Database, Intermediate, Issuer, Leaf, Root
from .issuance_plan import (
    NEW_KEY,
    BuildPkcs12,
    CreatePrivateFile,
    IssueCertificate,
    IssuerName,
    Revoke,
    SignIntermediate,
    SignList,
    SignRoot,
    Step,
)
from .signer import Identity, OpenRootKeys, RootKeys, Signer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


class Issuance:
    """One run: the database and the private keys as they become. ``signed``: what root keys signed."""

    def __init__(self, database: Database, files: AuthorityFiles, open_keys: OpenRootKeys, now: datetime) -> None:
        self.database = database
        self.keys = files.keys()
        self.signed: list[str] = []
        self._files, self._open_keys, self._now = files, open_keys, now
        self._begin = now - pki.SKEW
        self._stack = contextlib.ExitStack()
        self._root_keys: RootKeys | None = None
        self._signers: dict[int, Signer] = {}
        self._confirmations = 0

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Carry out all steps. If one fails, those before it are written all the same. Raises BcmError."""
        self._confirmations = sum(len(step.confirmations) for step in steps)
        before = dict(self.keys)
        self._remove_unused_keys()
        done = 0
        try:
            with self._stack:
                for step in steps:
                    self._carry_out(step)
                    done += 1
        finally:
            if done:
                self.database.remove_expired(self._now)
                keys = None if self.keys == before else self.keys
                generation = self.database.root.index if self.database.root else 0
                self._files.write(self.database.to_plain(self._now), keys, generation)

    def _carry_out(self, step: Step) -> None:
        match step:
            case CreatePrivateFile():
                pass  # writing makes it
            case SignRoot():
                self._sign_root(step)
            case SignIntermediate():
                self._sign_intermediate(step)
            case IssueCertificate():
                self._issue_certificate(step)
            case BuildPkcs12():
                self._build_pkcs12(step.name)
            case Revoke():
                self.database.revoke(step.serial, step.reason, self._now)
            case SignList():
                self._sign_list(step)

    def _remove_unused_keys(self) -> None:
        """Those that nothing in the database needs: a reader of it now finds the keys of what it has."""
        database = self.database
        issuers: list[Issuer] = [*database.roots, *database.intermediates]
        used = {issuer.key for issuer in issuers}
        for leaf in database.leaves.values():
            used |= {leaf.certificate.key, leaf.pkcs12_key, leaf.pkcs12_password_key}
        for name in set(self.keys) - used:
            del self.keys[name]

    # -- steps --------------------------------------------------------------------------------------------------------

    def _sign_root(self, step: SignRoot) -> None:
        database, domain = self.database, self.database.domain
        if database.root:  # its key tells a mistyped passphrase before a new root rests on it
            self._root_key(database.root, "cross")
        key = self._signing_key(Identity(domain, step.generation), None, "root")
        made = pki.sign_root(f"{domain} root g{step.generation}", key, self._begin, step.end)
        root = Root(step.generation, Certificate.of(made))
        if step.former is not None:
            former = self._root_of(step.former)
            old = former.certificate.content
            cross = pki.cross_sign(made, old, self._root_key(former, "cross"), self._begin, step.cross_end)
            root.cross = Certificate.of(cross)
            database.add_serial(root.cross, f"cross g{step.generation}", former.key)
        for one in database.roots if step.compromised else ():
            one.distrusted = True
        database.roots.append(root)

    def _sign_intermediate(self, step: SignIntermediate) -> None:
        root = self._root_of(step.generation)
        key = pki.new_key()
        identifier = pki.key_id(key.public_key())
        made = pki.sign_intermediate(
            f"{self.database.domain} g{root.index} {identifier[:8]}",
            key.public_key(),
            root.certificate.content,
            self._root_key(root, "inter"),
            step.scope,
            self._begin,
            step.end,
        )
        certificate = Certificate.of(made)
        self.keys[identifier] = pki.key_pem(key)
        self.database.intermediates.append(Intermediate(root.index, certificate))
        self.database.add_serial(certificate, certificate.common_name, root.key)
        for serial in step.replaced:
            self.database.revoke(serial, "cessation_of_operation", self._now)

    def _issue_certificate(self, step: IssueCertificate) -> None:
        public = step.public_key
        if public is None:
            key = pki.new_key()
            public = key.public_key()
            self.keys[pki.key_id(public)] = pki.key_pem(key)
        issuer = self._issuer_of(step.issuer)
        signing, above = self._issuer_key(issuer, "leaf"), issuer.certificate.content
        made = pki.sign_leaf(step.common_name, step.names, step.usage, public, above, signing, self._begin, step.end)
        certificate = Certificate.of(made)
        self.database.leaves[step.name] = Leaf(certificate, issuer.key)
        self.database.add_serial(certificate, step.name, issuer.key)

    def _build_pkcs12(self, name: str) -> None:
        leaf = self.database.leaves[name]
        password = secrets.token_urlsafe(24)
        chain = [certificate.content for certificate in self.database.chain_of(leaf, self._now)]
        made = pki.build_pkcs12(name, self.keys[leaf.certificate.key], chain, password)
        self.keys[leaf.pkcs12_password_key] = password
        self.keys[leaf.pkcs12_key] = base64.b64encode(made).decode()

    def _sign_list(self, step: SignList) -> None:
        issuer = self._issuer_of(step.issuer)
        # seconds, so that it goes up although the list before may be lost
        number = max(0 if issuer.crl is None else pki.crl_number(issuer.crl) + 1, int(self._now.timestamp()))
        key, revoked = self._issuer_key(issuer, "crl"), self.database.revoked_by(issuer.key)
        issuer.crl = pki.sign_crl(issuer.certificate.content, key, revoked, number, self._begin, step.end)

    # -- issuers and their keys ---------------------------------------------------------------------------------------

    def _issuer_of(self, name: IssuerName) -> Issuer:
        if isinstance(name, int):
            return self._root_of(name)
        if name == NEW_KEY:
            return self.database.intermediates[-1]
        return next(item for item in self.database.intermediates if item.key == name)

    def _root_of(self, generation: int) -> Root:
        return next(root for root in self.database.roots if root.index == generation)

    def _issuer_key(self, issuer: Issuer, purpose: str) -> ec.EllipticCurvePrivateKey:
        if isinstance(issuer, Root):
            return self._root_key(issuer, purpose)
        try:
            return pki.load_key(self.keys[issuer.key])
        except ValueError as error:
            raise BcmError(
                self._files.private,
                f"is damaged, the key of {issuer.certificate.common_name} is not a key",
                "put a copy of it back",
                code="damaged",
            ) from error

    def _root_key(self, root: Root, purpose: str) -> ec.EllipticCurvePrivateKey:
        public = cast("ec.EllipticCurvePublicKey", root.certificate.content.public_key())
        return self._signing_key(Identity(self.database.domain, root.index), public, purpose)

    def _signing_key(
        self, identity: Identity, pinned: ec.EllipticCurvePublicKey | None, purpose: str
    ) -> ec.EllipticCurvePrivateKey:
        """The key of a root, compared with the pinned one before it signs anything. ``pinned`` None: of a new root."""
        signer = self._signers.get(identity.index)
        if signer is None:
            if self._root_keys is None:
                opened = self._open_keys(
                    self.keys,
                    self._files.private,
                    first=self.database.root is None,
                    confirmations=self._confirmations,
                )
                self._root_keys = self._stack.enter_context(opened)
            signer = self._signers[identity.index] = self._root_keys.root(identity, pinned)
            if pinned is not None and pki.key_id(signer.public_key()) != pki.key_id(pinned):
                raise BcmError(
                    "The device",
                    f"has another key than root g{identity.index} of {identity.domain}",
                    "connect the device of this data center, or type the passphrase of this data center",
                    code="wrong_key",
                )
        return pki.signing_key(signer, purpose, self.signed.append)
