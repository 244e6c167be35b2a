# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""X.509 as RFC 5280 has it: what a root, an intermediate, a leaf and a revocation list look like, and CSRs."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, Union, cast

from .._base.errors import BcmError
from .signer import Signer

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import pkcs12
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # the sanity tests import this file without the library
    pass
else:

    class _SigningKey(ec.EllipticCurvePrivateKey):
        """A root key as cryptography takes it: the signer signs, nothing else can be done with it."""

        def __init__(self, signer: Signer, what: str, note: Callable[[str], None]) -> None:
            self._signer, self._what, self._note = signer, what, note
            self._public = signer.public_key()

        def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
            tbs = bytes(data)
            shown = f"{self._what} g{self._signer.identity.index} {hashlib.sha256(tbs).hexdigest()[:8]}"
            signature = self._signer.sign(tbs, shown)
            self._note(shown)
            return signature

        def public_key(self) -> ec.EllipticCurvePublicKey:
            return self._public

        @property
        def curve(self) -> ec.EllipticCurve:
            return self._public.curve

        @property
        def key_size(self) -> int:
            return self._public.key_size

        def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
            raise NotImplementedError

        def private_numbers(self) -> NoReturn:
            raise NotImplementedError

        def private_bytes(self, *args: Any, **options: Any) -> NoReturn:
            raise NotImplementedError

        def __copy__(self) -> _SigningKey:
            return self

        def __deepcopy__(self, memo: Any) -> _SigningKey:
            return self


#: clocks may differ by as much
SKEW = timedelta(hours=1)
USAGES = ("server", "client")
REASONS = (
    "unspecified",
    "key_compromise",
    "affiliation_changed",
    "superseded",
    "cessation_of_operation",
    "privilege_withdrawn",
)
_RSA_BITS = 2048
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")

Address = Union["ipaddress.IPv4Address", "ipaddress.IPv6Address"]
Network = Union["ipaddress.IPv4Network", "ipaddress.IPv6Network"]


def signing_key(signer: Signer, what: str, note: Callable[[str], None]) -> ec.EllipticCurvePrivateKey:
    """The key of a signer. ``what`` begins the text that a person confirms; ``note`` is called with that text."""
    return _SigningKey(signer, what, note)


# -- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scope:
    """What an authority may certify: domains with all below them, and networks."""

    domains: tuple[str, ...]
    subnets: tuple[Network, ...]

    def __str__(self) -> str:
        return ", ".join([*self.domains, *map(str, self.subnets)])

    def covers(self, name: str) -> bool:
        address = parse_address(name)
        if address is None:
            return any(name == domain or name.endswith(f".{domain}") for domain in self.domains)
        return any(address in subnet for subnet in self.subnets)

    def constraints(self) -> x509.NameConstraints:
        permitted = [*map(x509.DNSName, self.domains), *map(x509.IPAddress, self.subnets)]
        # a kind of which nothing is permitted would not be constrained at all
        none = [] if self.subnets else [x509.IPAddress(ipaddress.ip_network(text)) for text in ("0.0.0.0/0", "::/0")]
        return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=none or None)


def parse_scope(domains: Iterable[str], subnets: Iterable[str]) -> Scope:
    """Return the scope of domains and subnets from the inventory. Raises BcmError for invalid ones."""
    found: list[Network] = []
    for text in subnets:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise BcmError(
                f'"{text}" in subnets', "is not a network", "write one such as 10.1.2.0/24", code="invalid_value"
            ) from error
    names = tuple(dict.fromkeys(domain.lower() for domain in domains))
    for name in names:
        if not _HOST.fullmatch(name) or name.startswith("*") or parse_address(name):
            raise BcmError(f'"{name}"', "is not a domain", "write one such as home.bcm, in ASCII", code="invalid_value")
    return Scope(names, tuple(dict.fromkeys(found)))


def scope_of(certificate: x509.Certificate) -> Scope:
    """What the name constraints of an intermediate permit."""
    permitted = _extension(certificate, x509.NameConstraints).permitted_subtrees or []
    return Scope(
        tuple(name.value for name in permitted if isinstance(name, x509.DNSName)),
        tuple(cast(Network, name.value) for name in permitted if isinstance(name, x509.IPAddress)),
    )


def parse_address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def normalize_name(name: str) -> str | None:
    """A host name or an address as it is compared; None if it is neither."""
    address = parse_address(name)
    if address is not None:
        return str(address)
    return name.lower() if len(name) < 254 and _HOST.fullmatch(name.lower()) else None


# -- certificates -----------------------------------------------------------------------------------------------------


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign_root(name: str, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime) -> x509.Certificate:
    """A root, signed by itself. It has no path length: the next one is cross-signed below it."""
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), begin, end)
    return _signed(_authority(builder, key.public_key(), None), key)


def cross_sign(
    new: x509.Certificate, old: x509.Certificate, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime
) -> x509.Certificate:
    """A new root, signed by the old one, for clients that trust only that. The next one may be signed below it."""
    builder = _builder(new.subject, old.subject, new.public_key(), begin, min(end, old.not_valid_after_utc))
    return _signed(_authority(builder, new.public_key(), None), key)


def sign_intermediate(
    name: str,
    subject_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    allowed: Scope,
    begin: datetime,
    end: datetime,
) -> x509.Certificate:
    builder = _builder(_name(name), issuer.subject, subject_key, begin, min(end, issuer.not_valid_after_utc))
    builder = _authority(builder, subject_key, 0).add_extension(allowed.constraints(), critical=True)
    builder = builder.add_extension(_purposes(USAGES), critical=False)
    return _signed(builder, key)


def sign_leaf(
    name: str,
    names: Sequence[str],
    usage: Iterable[str],
    subject_key: Any,
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.Certificate:
    """A certificate of a server or client, whose names are normal. ``subject_key`` is of any kind that TLS has."""
    builder = _builder(_name(name), issuer.subject, subject_key, begin, min(end, issuer.not_valid_after_utc))
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(_purposes(usage), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
    return _signed(builder, key)


def sign_crl(
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    revoked: Mapping[int, tuple[datetime, str]],
    number: int,
    begin: datetime,
    end: datetime,
) -> x509.CertificateRevocationList:
    """A revocation list. ``revoked``: serial -> when and why."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(begin).next_update(end)
    for serial, (when, reason) in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        if reason != "unspecified":  # RFC 5280, 5.3.1: left out then
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags[reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    made = builder.add_extension(x509.CRLNumber(number), critical=False).sign(key, hashes.SHA256())
    if not made.is_signature_valid(key.public_key()):
        raise BcmError(
            "The revocation list that was just signed",
            "has a wrong signature",
            "nothing was kept; run again",
            code="device_failed",
        )
    return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin).not_valid_after(end)


def _authority(builder: x509.CertificateBuilder, key: Any, path_length: int | None) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_key_usage(authority=True), critical=True)
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    public = key.public_key()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    made = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    if not is_signed_by(made, public):
        raise BcmError(
            "The certificate that was just signed",
            "has a wrong signature",
            "nothing was kept; run again",
            code="device_failed",
        )
    return made


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(usage: Iterable[str]) -> x509.ExtendedKeyUsage:
    known = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    return x509.ExtendedKeyUsage([known[name] for name in USAGES if name in usage])


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    address = parse_address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


# -- what is read -----------------------------------------------------------------------------------------------------


def is_signed_by(certificate: x509.Certificate, key: Any) -> bool:
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def names_of(certificate: x509.Certificate) -> list[str]:
    """Its subject alternative names, as they are compared."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]


def usage_of(certificate: x509.Certificate) -> list[str]:
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    return [name for name in USAGES if next(iter(_purposes([name]))) in purposes]


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """The CRL number of a revocation list."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def key_id(key: Any) -> str:
    """SHA-256 of a public key as certificates have it, in hexadecimal."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def to_pem(item: x509.Certificate | x509.CertificateRevocationList) -> str:
    return item.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def load_key(text: str) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError."""
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (TypeError, UnsupportedAlgorithm) as error:  # it is encrypted, or on a curve that nobody knows
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no key on an elliptic curve")
    return key


def build_pkcs12(name: str, key: str, chain: Sequence[x509.Certificate], password: str) -> bytes:
    """PKCS#12 of a key and its chain."""
    encryption = serialization.BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(name.encode(), load_key(key), chain[0], chain[1:], encryption)


def read_csr_key(text: str, name: str) -> Any:
    """The public key of a CSR, which is all that is taken of it. Raises BcmError for one that is not secure."""
    remedy = "make a new one, such as with `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256`"
    try:
        csr = x509.load_pem_x509_csr(text.encode())
        key = csr.public_key()
        valid = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BcmError(
            f"The CSR of {name}", "cannot be read, it is not PEM or of an unknown kind", remedy, code="invalid_value"
        ) from error
    if not valid:
        raise BcmError(
            f"The CSR of {name}",
            "has a bad signature, so its sender may not have the key",
            remedy,
            code="not_verified",
        )
    weak = _weakness(key)
    if weak:
        raise BcmError(f"The CSR of {name}", f"has a weak key, {weak}", remedy, code="invalid_value")
    return key


def _weakness(key: Any) -> str | None:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS:
            return f"RSA with {key.key_size} bits, {_RSA_BITS} needed"
        return None if key.public_numbers().e >= 65537 else "RSA with a small exponent"
    if isinstance(key, ec.EllipticCurvePublicKey):
        known = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
        return None if isinstance(key.curve, known) else f"on curve {key.curve.name}, which TLS does not have"
    return None if isinstance(key, ed25519.Ed25519PublicKey) else "of a kind that TLS does not have"


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value
