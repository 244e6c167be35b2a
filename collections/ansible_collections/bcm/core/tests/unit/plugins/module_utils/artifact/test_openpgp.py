# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pysequoia import Cert, CipherSuite, Profile, SignatureMode, Tsk, sign
from pysequoia.packet import PacketPile

from ansible_collections.bcm.core.plugins.module_utils._artifact import openpgp
from ansible_collections.bcm.core.plugins.module_utils._artifact.key_sources import Keys
from ansible_collections.bcm.core.plugins.module_utils._artifact.openpgp import SignatureError, Verdict, split, verify

PUBLISHED = Path(__file__).parent / "data/bitcoin-31.1"
BUILDERS = Path(__file__).parents[5] / "roles/bitcoind/meta/keys"
DATA = b"what is signed\n"

Find = Callable[[str], Any]


def signed(key: Tsk, data: bytes = DATA, armor: bool = True) -> bytes:
    return sign(key.signer(), data, mode=SignatureMode.DETACHED, armor=armor)


def signers(keys: Mapping[str, Tsk | Cert]) -> tuple[dict[str, str], Find]:
    """The signers' fingerprints, and a find() that knows their keys."""
    certs = {name: key.extract_certificate() if isinstance(key, Tsk) else key for name, key in keys.items()}
    known = {cert.fingerprint.upper(): bytes(cert) for cert in certs.values()}
    return {name: cert.fingerprint.upper() for name, cert in certs.items()}, known.get


def judged(keys: Mapping[str, Tsk | Cert], *blobs: bytes, data: bytes | Path = DATA, threshold: int = 2) -> Verdict:
    return verify(data, blobs, *signers(keys), threshold)


@pytest.fixture(scope="module")
def alice() -> Tsk:
    return Tsk.generate("alice")


@pytest.fixture(scope="module")
def bob() -> Tsk:
    return Tsk.generate("bob")


class Gpg:
    """What a signer has: pysequoia neither makes what is old, weak or expired, nor retires anything."""

    def __init__(self, home: str) -> None:
        self.home = home

    def __call__(self, *arguments: str, at: str | None = None, says: str | bytes = b"") -> bytes:
        then = [f"--faked-system-time={at}T000000!"] if at else []
        options = [
            "--quiet",
            "--no-tty",
            "--pinentry-mode=loopback",
            "--passphrase=",
            "--allow-weak-digest-algos",
            *then,
        ]
        command = ["gpg", f"--homedir={self.home}", *options, *arguments]
        says = says.encode() if isinstance(says, str) else says
        return subprocess.run(command, input=says, capture_output=True, check=True).stdout

    def make(self, name: str, algorithm: str = "ed25519", lasts: str = "never", at: str | None = None) -> str:
        """A new key; its fingerprint."""
        self("--batch", "--quick-generate-key", name, algorithm, "sign", lasts, at=at)
        listed = self("--batch", "--with-colons", "--list-keys", f"={name}").decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def sign(self, name: str, *options: str, at: str | None = None) -> bytes:
        return self("--batch", *options, f"--local-user={name}", "--detach-sign", at=at, says=DATA)

    def cert(self, name: str) -> Cert:
        return Cert.from_bytes(self("--batch", "--export", f"={name}"))


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    # short: the agent's socket is in it
    with tempfile.TemporaryDirectory(prefix="bcm-gpg-", ignore_cleanup_errors=True) as home:
        yield Gpg(home)
        subprocess.run(["gpgconf", f"--homedir={home}", "--kill", "gpg-agent"], check=True)


def test_the_published_signatures_of_bitcoin_core_count() -> None:
    names = [path.stem for path in BUILDERS.iterdir()]
    keys = Keys([str(BUILDERS)], get=lambda url: pytest.fail(f"asked {url}"))
    fingerprints = {name: Cert.from_file(str(BUILDERS / f"{name}.asc")).fingerprint.upper() for name in names}
    sums, signatures = (PUBLISHED / "SHA256SUMS").read_bytes(), (PUBLISHED / "SHA256SUMS.asc").read_bytes()

    verdict = verify(sums, [signatures], fingerprints, keys.find, 3)
    expired = {who for who, why in verdict.refused if "expired on" in why}
    assert {"fanquake", "hebasto", "pinheadmz", "svanstaa"} <= set(verdict.counted)
    assert (len(verdict.counted) + len(expired), len(verdict.refused)) == (15, len(expired))
    assert verdict.enough

    verdict = verify(sums[:-1], [signatures], fingerprints, keys.find, 1)
    assert (verdict.counted, len(verdict.refused), verdict.enough) == ((), 15, False)
    assert ("hebasto", "bad signature") in [(who, why.partition(":")[0]) for who, why in verdict.refused]


def test_split(alice: Tsk, bob: Tsk) -> None:
    a, b = signed(alice, armor=False), signed(bob, armor=False)
    armored = subprocess.run(["gpg", "--enarmor"], input=a + b, capture_output=True, check=True).stdout
    one_block = armored.replace(b"PGP ARMORED FILE", b"PGP SIGNATURE")
    blocks = b"two of them:\n" + signed(alice) + b"\n" + signed(bob)
    assert split(a + b) == split(one_block) == [a, b]
    assert len(split(blocks)) == 2
    assert split(b"<html>") == [b"<html>"]
    assert len(split(blocks[:-30])) == 2
    assert len(split(b"-----BEGIN PGP SIGNATURE-----\n" * 100)) == 100
    for many in (b"-----BEGIN PGP SIGNATURE-----\n" * 140_000, a * 101):
        with pytest.raises(SignatureError, match="There are more than 100 signatures in one file: refused"):
            split(many)


@pytest.mark.parametrize("profile", [Profile.RFC4880, Profile.RFC9580], ids=["v4", "v6"])
def test_valid_signatures_count(alice: Tsk, profile: Profile, tmp_path: Path) -> None:
    other = Tsk.generate("other", profile=profile, cipher_suite=CipherSuite.Cv25519)
    keys = {"alice": alice, "other": other}
    blobs = [signed(alice), signed(other)]
    assert judged(keys, *blobs) == judged(keys, b"".join(blobs)) == Verdict(("alice", "other"), (), 2)
    (tmp_path / "file").write_bytes(DATA)
    assert judged(keys, *blobs, data=tmp_path / "file").counted == ("alice", "other")
    (tmp_path / "file").write_bytes(DATA + DATA)
    assert judged(keys, *blobs, data=tmp_path / "file").counted == ()


def test_two_signatures_of_one_signer_count_once(alice: Tsk, bob: Tsk) -> None:
    verdict = judged({"alice": alice, "bob": bob}, signed(alice), signed(alice, armor=False))
    assert verdict == Verdict(("alice",), (), 2)
    assert not verdict.enough
    # nor does one key under two names
    assert judged({"alice": alice, "eve": alice}, signed(alice), signed(alice)).counted == ("alice",)


def test_signature_of_an_unknown_signer_does_not_count(alice: Tsk, bob: Tsk) -> None:
    verdict = judged({"alice": alice}, signed(alice), signed(bob))
    assert verdict.counted == ("alice",)
    ((who, why),) = verdict.refused
    assert (len(who), why) == (40, "unknown key")


def test_a_bad_signature_hides_no_good_one(alice: Tsk) -> None:
    verdict = judged({"alice": alice}, b"<html>", signed(alice, b"other"), signed(alice), threshold=1)
    assert verdict.counted == ("alice",)
    assert [who for who, _unused in verdict.refused] == ["a signature", "alice"]
    assert verdict.refused[0] == ("a signature", "unreadable")
    assert verdict.refused[1][1].startswith("bad signature: over other data")


def test_a_key_that_is_not_found(alice: Tsk, bob: Tsk) -> None:
    names, find = signers({"alice": alice, "bob": bob})
    known = find(names["alice"])
    # by a subkey: only bob's key would tell that it is his
    verdict = verify(DATA, [signed(alice), signed(bob)], names, {names["alice"]: known}.get, 2)
    assert verdict.counted == ("alice",)
    assert [why for _unused, why in verdict.refused] == ["unknown key", "no key found"]
    # what is found must be what was asked for
    assert verify(DATA, [signed(alice)], {"bob": names["bob"]}, lambda _: known, 1).counted == ()
    assert verify(DATA, [signed(alice)], {"bob": names["bob"]}, lambda _: b"<html>", 1).counted == ()


def test_only_keys_that_are_needed_are_looked_for(gpg: Gpg, alice: Tsk) -> None:
    gpg.make("direct")
    names, find = signers({"alice": alice, "direct": gpg.cert("direct")})
    asked: list[str] = []

    def find_and_tell(fingerprint: str) -> bytes | None:
        asked.append(fingerprint)
        return find(fingerprint)

    verdict = verify(DATA, [gpg.sign("direct")], names, find_and_tell, 1)
    assert (verdict.counted, asked) == (("direct",), [names["direct"]])
    assert verify(DATA, [gpg.sign("direct")], names, lambda _: None, 1).refused == (("direct", "no key found"),)


def test_a_revoked_key(alice: Tsk) -> None:
    cert = alice.extract_certificate()
    revoked = Cert.from_bytes(bytes(cert) + bytes(cert.revoke(alice.certifier())))
    assert judged({"alice": revoked}, signed(alice)) == Verdict((), (("alice", "revoked key"),), 2)


def test_a_key_without_its_self_signatures(gpg: Gpg) -> None:
    gpg.make("bare")
    bare = Cert.from_packets([next(iter(PacketPile.from_bytes(bytes(gpg.cert("bare")))))])
    ((_unused, why),) = judged({"bare": bare}, gpg.sign("bare")).refused
    assert why.startswith("unusable key (No binding signature")
    assert "\n" not in why


def _expired_key(gpg: Gpg) -> bytes:
    gpg.make("expired key", lasts="1y", at="20200101")
    return gpg.sign("expired key", at="20200301")


def _retired_key(gpg: Gpg) -> bytes:
    fingerprint = gpg.make("retired key", at="20240101")
    signature = gpg.sign("retired key", at="20240301")
    gpg("--batch", "--import", says=gpg("--command-fd=0", "--generate-revocation", fingerprint, says="y\n3\n\ny\n"))
    return signature


def _subkey(gpg: Gpg, name: str, lasts: str) -> bytes:
    gpg("--batch", "--quick-add-key", gpg.make(name, at="20240101"), "ed25519", "sign", lasts, at="20240101")
    return gpg.sign(name, at="20240301")


def _expired_subkey(gpg: Gpg) -> bytes:
    return _subkey(gpg, "expired subkey", "1y")


def _retired_subkey(gpg: Gpg) -> bytes:
    signature = _subkey(gpg, "retired subkey", "never")
    gpg("--command-fd=0", "--edit-key", "retired subkey", says="key 1\nrevkey\ny\n2\n\ny\nsave\n")
    return signature


def _stolen_subkey(gpg: Gpg) -> bytes:
    signature = _subkey(gpg, "stolen subkey", "never")
    gpg("--command-fd=0", "--edit-key", "stolen subkey", says="key 1\nrevkey\ny\n1\n\ny\nsave\n")
    return signature


def _weak_key(gpg: Gpg) -> bytes:
    gpg.make("weak key", "rsa1024")
    return gpg.sign("weak key")


def _weak_self_signature(gpg: Gpg) -> bytes:
    gpg("--batch", "--cert-digest-algo=SHA1", "--quick-generate-key", "weak self signature", "ed25519", "sign")
    return gpg.sign("weak self signature")


def _weak_signature(gpg: Gpg) -> bytes:
    gpg.make("weak signature")
    return gpg.sign("weak signature", "--digest-algo=SHA1")


def _future_signature(gpg: Gpg) -> bytes:
    gpg.make("future signature")
    return gpg.sign("future signature", at="20990301")


def _expired_signature(gpg: Gpg) -> bytes:
    gpg.make("expired signature", at="20200101")
    return gpg.sign("expired signature", "--default-sig-expire=1d", at="20240301")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_expired_key, "key expired on 2020-12-31"),
        (_retired_key, "revoked key"),
        (_expired_subkey, "subkey expired on 2024-12-31"),
        (_retired_subkey, "revoked subkey"),
        (_stolen_subkey, "revoked subkey"),
        (_weak_key, "weak key (Policy rejected asymmetric algorithm: RSA1024 is not considered secure since 2014"),
        (_weak_self_signature, "weak key ("),
        (_weak_signature, "weak signature (SHA1)"),
        (_future_signature, "signature from the future (2099-03-01)"),
        (_expired_signature, "signature expired on 2024-03-02"),
    ],
)
def test_invalid_signatures_do_not_count(gpg: Gpg, alice: Tsk, make: Callable[[Gpg], bytes], why: str) -> None:
    signature = make(gpg)
    name = make.__name__.strip("_").replace("_", " ")
    verdict = judged({"alice": alice, name: gpg.cert(name)}, signature, signed(alice))
    assert verdict.counted == ("alice",)
    ((who, said),) = verdict.refused
    assert who == name
    assert said.startswith(why)
    assert "\n" not in said


def test_a_subkey_that_was_prolonged_counts(gpg: Gpg, tmp_path: Path) -> None:
    signature = _subkey(gpg, "prolonged", "1y")
    former = gpg.cert("prolonged")
    (tmp_path / "former.asc").write_text(str(former))
    assert judged({"prolonged": former}, signature).counted == ()
    gpg("--batch", "--quick-set-expire", former.fingerprint, "never", max(openpgp.subkeys(former), key=len))
    # gpg replaces what made the subkey valid when it signed; Sequoia asks for that, so that both copies are needed
    assert judged({"prolonged": gpg.cert("prolonged")}, signature).counted == ()
    keys = Keys([str(tmp_path), "https://keys.example.org"], get=lambda url: bytes(gpg.cert("prolonged")))
    names, _unused = signers({"prolonged": former})
    assert verify(DATA, [signature], names, keys.find, 1).counted == ("prolonged",)


def test_the_verdict_in_words() -> None:
    verdict = Verdict(("a", "b"), (("c", "revoked key"), ("1234", "unknown key")), 3)
    assert verdict.explain() == "signed by a, b; c: revoked key; 1234: unknown key; 2 of 3 needed"
    assert Verdict((), (), 1).explain() == "signed by none of the pinned keys; 0 of 1 needed"


def test_uncheckable_signatures_raise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="there is no such file"):
        judged({}, data=tmp_path / "none")
    monkeypatch.setattr(openpgp, "pysequoia", None)
    with pytest.raises(SignatureError, match="install the Python package pysequoia"):
        judged({})


def test_a_reason_is_one_line() -> None:
    error = RuntimeError("this\n\nCaused by:\n    that\n\nStack backtrace:\n   0: <anyhow::Error>")
    assert openpgp.reason(error) == "this: that"
