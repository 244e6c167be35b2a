# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL as its superuser, in its instance: ``bcm_guest.postgresql``. The socket tells the server who asks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .prove import Fault

#: a password for each consumer, as the server has only what proves one
PASSWORDS = Path("/var/lib/postgresql/passwords")
#: the role that all consumers' roles are members of, by which they are known as ours
CONSUMERS = "bcm_consumers"
#: the role, and its database, with which verify logs in; no stack can have the name
PROBE = "bcm_probe"
_SUPERUSER = {"host": "/run/postgresql", "user": "postgres"}
_ITERATIONS = 4096
_TIMEOUT = 60


def ask(statement: str, database: str = "postgres") -> list[list[str]]:
    """Rows of the answer to SQL of the superuser. Raises Fault."""
    # Not even a statement that fails is in the log: it may have what proves a password.
    return ask_as({**_SUPERUSER, "dbname": database}, f"SET log_min_error_statement = panic;\n{statement}")


def ask_as(login: Mapping[str, str], statement: str, password: str = "") -> list[list[str]]:
    """Rows of the answer to SQL, for a role that logs in like that. Raises Fault with what the server says."""
    text = " ".join(f"{name}='{value}'" for name, value in login.items())
    command = ["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-d", text]
    environment = {**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "10"}
    try:
        done = subprocess.run(
            command, input=statement, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(f"PostgreSQL has not answered within {_TIMEOUT} s") from error
    if done.returncode:
        raise Fault(" ".join(done.stderr.split()) or f"psql ended with {done.returncode}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def quoted(name: str) -> str:
    """A name as an identifier of SQL, and as a word of pg_hba.conf that is no keyword."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def password_proof(password: str, salt: bytes | None = None) -> str:
    """What the server keeps of a password: RFC 5803, with a salt of its own if none is given."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(item).decode() for item in (salt, stored, server))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt64}${stored64}:{server64}"


def proves(kept: str, password: str) -> bool:
    """Whether what the server keeps is of this password."""
    scheme, _dollar, rest = kept.partition("$")
    if scheme != "SCRAM-SHA-256":
        return False
    try:
        salt = base64.b64decode(rest.partition("$")[0].partition(":")[2], validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(kept.encode(), password_proof(password, salt).encode())
