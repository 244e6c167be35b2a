# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What looks like a secret in a text that programs write: ``bcm_guest.secret_masks``.

Nothing that a data center is made of writes a secret on purpose. This is for what a program says by mistake, and masks
more than secrets, such as a long identifier: what was masked is still in the journal.
"""

from __future__ import annotations

import re

MASK = "[masked]"

_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_URL_SAFE, _BASE64 = "[A-Za-z0-9_-]", "[A-Za-z0-9+/]"
_WORD = r"(?:\d{1,2}[.:)]?\s*)?[a-z]{3,8}"


def _mixed(letter: str) -> str:
    """In capital and small letters, which neither hashes, nor addresses, nor most names of units and files have."""
    return f"(?={letter}*[A-Z])(?={letter}*[a-z])"


#: each with what of it is kept before and after the mask
_RULES = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        # a password in a URL
        (r"(?P<before>://[^\s/:@]*:)[^\s@]+(?P<after>@)", 0),
        # what is called a secret
        (
            r"(?P<before>\b(?:rpc|wallet|api|auth|private|client)?[-_ ]?"
            r"(?:pass(?:word|phrase|wd)|secret|token|macaroon|rune|mnemonic|seed|preimage|"
            r"(?:priv(?:ate)?|api)[-_ ]?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;]+",
            re.IGNORECASE,
        ),
        (r"(?P<before>\b(?:basic|bearer)\s+)[A-Za-z0-9+/=_.~-]{8,}", re.IGNORECASE),
        # the cookie of bitcoind
        (r"(?P<before>__cookie__:)[0-9a-f]+", 0),
        # extended private keys (BIP 32, SLIP 132), and private keys as wallets export them
        (rf"\b[tuvxyzUVYZ]prv{_BASE58}{{100,112}}", 0),
        (rf"\b[59KLc]{_BASE58}{{50,51}}\b", 0),
        # macaroons, as hexadecimal digits and in Base64
        (r"\b0201[0-9a-f]{60,}\b", re.IGNORECASE),
        (r"\bAgE[A-Za-z0-9+/_-]{40,}={0,2}", 0),
        # the key of a client of an onion service
        (r"(?P<before>x25519:)[A-Z2-7]{52}\b", 0),
        # 32 bytes or more in Base64, as secrets of stacks, runes and keys of onion services
        (rf"(?<![\w+/-])(?![A-Za-z]pub){_mixed(_URL_SAFE)}{_URL_SAFE}{{43,}}={{0,2}}", re.ASCII),
        (rf"(?<![\w+/-]){_BASE64}{{42,}}={{1,2}}", 0),
        # a line of a key in PEM
        (rf"^{_mixed(_BASE64)}{_BASE64}{{64}}$", re.MULTILINE),
        # the words of a wallet, which may be numbered
        (rf"(?<![a-z]){_WORD}(?:[\s,]+{_WORD}){{11,}}(?![a-z])", 0),
    )
)


def mask(text: str) -> str:
    """The text with MASK in the place of all that looks like a secret."""
    for rule in _RULES:
        text = rule.sub(_replace, text)
    return text


def _replace(match: re.Match[str]) -> str:
    kept = match.groupdict()
    return f"{kept.get('before') or ''}{MASK}{kept.get('after') or ''}"
