# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the role postgresql, without a server. tests/e2e has a real one."""

from __future__ import annotations

import base64
import importlib
import os
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import postgresql
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/postgresql/scripts"


def program(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a program defines; what it does at its end is not done."""
    library = importlib.import_module("bcm_guest.prove")
    for end in ("make_credentials", "prove"):
        monkeypatch.setattr(library, end, lambda _function: None)
    return runpy.run_path(str(SCRIPTS / name), run_name=name)


def test_proof_of_a_password_is_that_of_rfc_7677() -> None:
    proof = postgresql.password_proof("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    keys = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    assert proof == f"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${keys}"


def test_proof_is_of_one_password() -> None:
    proof = postgresql.password_proof("right")
    assert postgresql.proves(proof, "right")
    assert proof != postgresql.password_proof("right")
    for kept in (postgresql.password_proof("wrong"), "", "md5" + "0" * 32, "SCRAM-SHA-256$4096:?$?:?"):
        assert not postgresql.proves(kept, "right")


def test_names_end_neither_an_identifier_nor_a_literal() -> None:
    assert postgresql.quoted('a"b') == '"a""b"'
    assert postgresql.literal("a'b") == "'a''b'"


def test_each_role_gets_in_from_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    access = program("credentials.py", monkeypatch)["access"]
    assert access("10.0.0.2", {"lightning-charge": "10.0.0.3"}).splitlines() == [
        "local all postgres peer map=superuser",
        'hostssl "bcm_probe" "bcm_probe" 10.0.0.2/32 scram-sha-256',
        'hostssl "lightning-charge" "lightning-charge" 10.0.0.3/32 scram-sha-256',
    ]


@pytest.mark.parametrize(
    ("consumer", "needed", "message"),
    [
        ("shop", {"connections": 0}, "asks for 0 connections"),
        ("shop", {"connections": "5"}, "asks for '5' connections"),
        ("shop", {"connections": True}, "asks for True connections"),
        ("shop", {"superuser": True}, "asks for superuser: it may say how many connections"),
        ("postgres", {}, "a role of that name would be another one: rename the stack"),
    ],
)
def test_consumer_that_asks_for_anything_else_is_refused(
    consumer: str, needed: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = program("credentials.py", monkeypatch)
    with pytest.raises(names["Lasting"], match=message):
        names["connections_of"](consumer, needed)


def test_role_is_made_and_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    names = program("credentials.py", monkeypatch)
    role, found = names["Role"]("shop", "secret", 5), names["Found"]
    made = names["missing"](role, None)
    assert made.startswith('CREATE ROLE "shop" LOGIN NOSUPERUSER') and "GRANT bcm_consumers" in made
    assert "secret" not in made
    proof = postgresql.password_proof("secret")
    assert names["missing"](role, found(True, 5, proof, True)) == ""
    for other in (found(False, 5, proof, True), found(True, 6, proof, True), found(True, 5, "", True)):
        assert names["missing"](role, other).startswith('ALTER ROLE "shop" LOGIN')


def test_files_of_another_major_version_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "16").mkdir()
    (tmp_path / "16/PG_VERSION").write_text("16\n")
    prepare = program("postgresql_prepare.py", monkeypatch)["prepare"]
    with pytest.raises(SystemExit, match="PostgreSQL 16, which 17 does not read, and is left as it is: go back to"):
        prepare(Path("/nonexistent"), tmp_path / "17")
    assert not (tmp_path / "17").exists()
    # and once they are its own, they are not made
    prepare(Path("/nonexistent"), tmp_path / "16")


def test_answer_of_psql_is_read_and_its_fault_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = tmp_path / "psql"
    double.write_text('#!/bin/sh\nprintf "$PGPASSWORD\\tb\\n"; cat >&2; exit $ENDS\n')
    double.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("ENDS", "0")
    assert postgresql.ask_as({"host": "h"}, "SELECT", "secret") == [["secret", "b"]]
    monkeypatch.setenv("ENDS", "2")
    with pytest.raises(Fault, match="^FATAL: no entry$"):
        postgresql.ask_as({"host": "h"}, "FATAL: \n no entry")


def test_full_volume_and_unused_database_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    names = program("verify.py", monkeypatch)
    volumes = {"data": {"path": "/var/lib/postgresql"}, "dumps": {"path": "/var/lib/postgresql-dumps"}}
    stack = SimpleNamespace(bcm={"volumes": volumes})
    free = {"/var/lib/postgresql": 5, "/var/lib/postgresql-dumps": 50}
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=free[path], f_blocks=100))
    full, unused = sorted(names["warnings"](stack, ["shop"]))
    assert full == (
        "/var/lib/postgresql is nearly full: a database that cannot write stops; raise postgresql_data_size"
    )
    assert unused.startswith("no stack uses the database shop any more: its role is locked; drop it with -e")


def test_newest_dump_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dumped = program("verify.py", monkeypatch)["dumped"]
    assert dumped(tmp_path) == []
    for name in ("20261128T160000.000000Z", "20261129T160000.000000Z", "20261130T160000.000000Z.partial", "lost+found"):
        (tmp_path / name).mkdir()
    (found,) = dumped(tmp_path)
    assert (found["of"], found["made"]) == ("All databases", "2026-11-29T16:00:00+00:00")
