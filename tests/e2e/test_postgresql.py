# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database of a stack's own: nobody else gets in, and what was committed is there whatever happens to the server."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import neighbour
from tests.e2e.conftest import Person, client, inside, reported
from tests.support import until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

NAME = "ledgers"
#: coins of a block that lnd mines for itself, in satoshi
REWARD = 50 * 10**8
DUMPS = "/var/lib/postgresql-dumps"
#: more than the volume of dumps has room for while it is a small one
LARGE = "CREATE TABLE large AS SELECT gen_random_uuid() AS text FROM generate_series(1, 100000)"


def psql(words: str, statement: str = "SELECT 1") -> str:
    """What the server answers the consumer, who logs in with these words; or why it does not."""
    command = f'psql -XqAt -v ON_ERROR_STOP=1 "service=ledger {words}" 2>&1 || true'
    return inside(NAME, "ledger", "sh", "-c", f"cat <<'END' | {command}\n{statement}\nEND")


def superuser(statement: str, database: str = "postgres") -> str:
    login = ("--host=/run/postgresql", "--username=postgres", f"--dbname={database}")
    return inside(NAME, "postgresql", "psql", *login, "-XqAtc", statement)


def start(person: Person, stack: str, *more: str) -> dict[str, Any]:
    return json.loads(person.succeeds("-d", NAME, "stack", "start", stack, "--json", *more))


@pytest.fixture(scope="module")
def ledger(person: Person) -> Iterator[dict[str, Any]]:
    """The database server with one consumer."""
    person.datacenter(NAME, stack_path=str(Path(__file__).parent / "stacks"))
    yield reported(json.dumps(start(person, "ledger")))
    person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


@pytest.fixture
def answers(ledger: dict[str, Any]) -> Iterator[None]:
    """The consumer has its database afterwards."""
    yield
    until(lambda: psql("") == "1", "the database answers its consumer")


def test_consumer_gets_into_its_own_database_alone(answers: None) -> None:
    assert psql("", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"
    for words in (
        "dbname=postgres",
        "dbname=bcm_probe",
        "user=postgres dbname=postgres",
        "user=bcm_probe",
        "sslmode=disable",
    ):
        assert "no pg_hba.conf entry" in psql(words), words
    assert "password authentication failed" in psql("passfile=/dev/null password=guessed")
    assert "permission denied" in psql("", "COPY (SELECT 1) TO PROGRAM 'cat'")
    assert "permission denied" in psql("", "CREATE ROLE other")
    assert psql("", "SELECT count(*) FROM pg_replication_slots") == "0"


def test_second_run_changes_nothing(person: Person, ledger: dict[str, Any]) -> None:
    said = person.succeeds("-d", NAME, "stack", "start", "ledger")
    assert said.rstrip().endswith("nothing changed")
    password = inside(NAME, "ledger", "sh", "-c", "cut -d: -f5 /root/.pgpass")
    secrets = person.settings(NAME).parent.parent / "secrets"
    assert password and password not in "".join(path.read_text() for path in secrets.iterdir())


def test_committed_rows_survive_a_kill_in_mid_write(answers: None) -> None:
    psql("", "CREATE TABLE counted (n integer)")
    writes = "seq 1 1000000 | sed 's/.*/INSERT INTO counted VALUES (&) RETURNING n;/'"
    script = f"{writes} | psql -XqAt service=ledger >/tmp/committed 2>&1 || true"
    writer = threading.Thread(target=inside, args=(NAME, "ledger", "sh", "-c", script), kwargs={"deadline": 300})
    writer.start()
    until(lambda: int(inside(NAME, "ledger", "sh", "-c", "cat /tmp/committed 2>/dev/null | wc -l")) > 500, "rows")
    inside(NAME, "postgresql", "systemctl", "kill", "--signal=KILL", "postgresql")
    writer.join(300)
    said = inside(NAME, "ledger", "cat", "/tmp/committed").splitlines()
    committed = {int(line) for line in said if line.isdigit()}
    assert 500 < len(committed) < 1_000_000
    until(lambda: psql("") == "1", "the database recovers")
    there = {int(line) for line in psql("", "SELECT n FROM counted").split()}
    assert committed <= there and len(there - committed) <= 1


def test_rotated_password_is_refused_at_once(person: Person, answers: None) -> None:
    waiting = threading.Thread(target=psql, args=("", "SELECT pg_sleep(300)"))
    waiting.start()
    until(lambda: superuser("SELECT count(*) FROM pg_stat_activity WHERE usename = 'ledger'") == "1", "a connection")
    person.succeeds("-d", NAME, "secret", "rotate", "postgresql/sql/ledger")
    waiting.join(60)
    assert not waiting.is_alive()
    assert "password authentication failed" in psql("")
    start(person, "ledger")


def _is_of_another_image() -> None:
    """Let the instance seem to be of an earlier image, so that the next run replaces it."""
    with client(NAME) as lxd:
        path = "/1.0/instances/postgresql"
        body, etag = lxd.read(path)
        config = {**body["config"], "volatile.base_image": "0" * 64}
        lxd.call("PUT", path, {**body, "config": config}, what="change the image", etag=etag)


def test_databases_are_dumped_before_the_instance_is_replaced(person: Person, answers: None) -> None:
    psql("", LARGE)
    _is_of_another_image()
    inside(NAME, "postgresql", "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", DUMPS)
    inside(NAME, "postgresql", "chown", "postgresql:", DUMPS)
    started = inside(NAME, "postgresql", "systemctl", "show", "-PMainPID", "postgresql")
    refused = person.types("-d", NAME, "stack", "start", "postgresql")
    assert refused.returncode and "No space left on device" in refused.stdout + refused.stderr
    assert "nothing was changed; mend that" in refused.stdout + refused.stderr
    assert inside(NAME, "postgresql", "systemctl", "show", "-PMainPID", "postgresql") == started
    assert inside(NAME, "postgresql", "ls", DUMPS) == ""

    inside(NAME, "postgresql", "umount", DUMPS)
    rows = psql("", "SELECT md5(string_agg(text::text, ',' ORDER BY text)) FROM large")
    start(person, "postgresql")
    (folder,) = inside(NAME, "postgresql", "ls", DUMPS).split()
    superuser("CREATE DATABASE restored")
    dump = f"{DUMPS}/{folder}/ledger.dump"
    restore = ("pg_restore", "--host=/run/postgresql", "--username=postgres", "--exit-on-error", "--dbname=restored")
    inside(NAME, "postgresql", *restore, dump)
    assert superuser("SELECT md5(string_agg(text::text, ',' ORDER BY text)) FROM large", "restored") == rows
    superuser("DROP DATABASE restored")
    assert psql("", "SELECT md5(string_agg(text::text, ',' ORDER BY text)) FROM large") == rows


def test_full_disk_loses_nothing_that_was_committed(answers: None) -> None:
    data, small = "/var/lib/postgresql", "/var/tmp/small"
    inside(NAME, "postgresql", "systemctl", "stop", "postgresql")
    used = int(inside(NAME, "postgresql", "du", "-sk", data).split()[0])
    inside(
        NAME, "postgresql", "sh", "-ec",
        f"mkdir {small}; mount -t tmpfs -o size={used + 220_000}k tmpfs {small}; cp -a {data}/. {small};"
        f"fallocate -l 200M {small}/ballast;"
        f"chown postgresql: {small}; chmod 700 {small}; mount --bind {small} {data}; systemctl start postgresql",
    )  # fmt: skip
    try:
        psql("", "CREATE TABLE kept AS SELECT 42 AS n")
        said = psql("", LARGE.replace("large", "larger").replace("100000", "1000000"))
        assert "No space left on device" in said or "terminat" in said, said
        until(lambda: psql("", "SELECT n FROM kept") == "42", "the server reads what was committed")
        inside(NAME, "postgresql", "rm", f"{small}/ballast")
        until(lambda: psql("", "INSERT INTO kept VALUES (43) RETURNING n") == "43", "the server writes again")
    finally:
        script = f"systemctl stop postgresql; umount {data}; umount {small}; rmdir {small}; systemctl start postgresql"
        inside(NAME, "postgresql", "sh", "-c", script)


def test_database_of_a_stack_that_is_gone_is_kept_until_somebody_says_so(person: Person, answers: None) -> None:
    psql("", "CREATE TABLE balance AS SELECT 21 AS n")
    person.succeeds("-d", NAME, "stack", "remove", "ledger")
    warned = start(person, "postgresql")["warnings"]
    assert any("no stack uses the database ledger any more" in text for text in warned), warned
    assert superuser("SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname = 'ledger'") == "f|t"

    assert not any("no stack uses" in text for text in start(person, "ledger")["warnings"])
    assert psql("", "SELECT n FROM balance") == "21"
    refused = person.types("-d", NAME, "stack", "start", "postgresql", "-e", '{"postgresql_drop": ["ledger"]}')
    assert "postgresql_drop names ledger, which use their databases: leave them out" in refused.stdout + refused.stderr

    person.succeeds("-d", NAME, "stack", "remove", "ledger")
    assert not start(person, "postgresql", "-e", '{"postgresql_drop": ["ledger"]}')["warnings"]
    assert superuser("SELECT count(*) FROM pg_database WHERE datname = 'ledger'") == "0"
    start(person, "ledger")
    assert "does not exist" in psql("", "SELECT n FROM balance")


def test_dangerous_option_is_refused_before_anything_is_changed(person: Person, ledger: dict[str, Any]) -> None:
    for option in ("fsync", "listen_addresses", "shared_preload_libraries", "log_statement", "archive_command"):
        done: subprocess.CompletedProcess[str] = person.types(
            "-d", NAME, "stack", "start", "postgresql", "-e", json.dumps({"postgresql_options": {option: "off"}})
        )
        assert done.returncode and f"An option in postgresql_options ({option}) is not one" in done.stdout + done.stderr


def coins() -> int:
    """What lnd has on chain, in satoshi; 0 while it does not answer."""
    found = inside(NAME, "lnd", "sh", "-c", "lncli walletbalance || true")
    return int(json.loads(found)["confirmed_balance"]) if found.startswith("{") else 0


def test_lnd_has_its_wallet_there(person: Person, answers: None) -> None:
    """And nowhere else, whatever happens to the server."""
    person.succeeds("-d", NAME, "config", "set", "lnd_database=postgres")
    start(person, "lnd")
    person.succeeds("-d", NAME, "lightning", "fund", "lnd")
    until(lambda: coins() >= REWARD, "coins")
    had = coins()
    assert {"walletdb_kv", "channeldb_kv"} <= set(superuser("SELECT relname FROM pg_class", "lnd").split())
    files = inside(NAME, "lnd", "find", "/var/lib/lnd", "-name", "*.db", "-o", "-name", "*.sqlite")
    assert files == ""
    inside(NAME, "postgresql", "systemctl", "kill", "--signal=KILL", "postgresql")
    until(lambda: coins() == had, "lnd has its wallet again")
    start(person, "lnd")
    assert "nothing changed" in person.succeeds("-d", NAME, "stack", "start", "lnd")


def lncli(*words: str) -> dict[str, Any]:
    return dict(json.loads(inside(NAME, "lnd", "lncli", *words)))


def shares() -> list[int]:
    """What belongs to lnd in each of its channels, in satoshi; nothing while one cannot be used."""
    found = inside(NAME, "lnd", "sh", "-c", "lncli listchannels || true")
    channels = json.loads(found)["channels"] if found.startswith("{") else []
    return [int(channel["local_balance"]) for channel in channels if channel["active"]]


def pay(command: str, invoice: str) -> None:
    """A route that failed, since a node had yet to follow a block, is tried again."""
    script = f"{command} payinvoice --force --json {invoice} || true"
    until(lambda: '"SUCCEEDED"' in inside(NAME, "lnd", "sh", "-c", script), "a payment")


def test_lnd_pays_and_is_paid_with_its_channels_there(person: Person, answers: None) -> None:
    """A state that the server has lost would cost the channel."""
    with neighbour.running(NAME, "bob") as (bob,):
        place = inside(NAME, "lnd", "sed", "-n", "s/^listen=//p", "/etc/lnd/lnd.conf")
        bob.ask("connect", f"{lncli('getinfo')['identity_pubkey']}@{place}")
        other = bob.ask("getinfo")["identity_pubkey"]
        lncli("openchannel", "--node_key", other, "--local_amt", "1000000", "--push_amt", "400000")
        inside(NAME, "bitcoind", "bitcoin-cli", "generatetodescriptor", "6", "raw(51)")
        neighbour.await_blocks(bob)
        until(lambda: len(shares()) == 1, "a channel")
        for killed in (False, True):
            (before,) = shares()
            if killed:
                inside(NAME, "postgresql", "systemctl", "kill", "--signal=KILL", "postgresql")
                # lnd ends without its database, and starts again.
                until(lambda before=before: shares() == [before], "the channel with its last state")  # type: ignore[misc]
            pay("lncli", bob.ask("addinvoice", "--amt", "5000")["payment_request"])
            pay(bob.command, lncli("addinvoice", "--amt", "3000")["payment_request"])
            until(lambda due=before - 2000: shares() == [due], "both amounts")  # type: ignore[misc]
        lncli("closechannel", "--chan_point", lncli("listchannels")["channels"][0]["channel_point"])
        until(lambda: shares() == [], "the close")
    start(person, "lnd")


def test_lnd_with_another_database_than_before_is_refused(person: Person, answers: None) -> None:
    refused = person.types("-d", NAME, "stack", "start", "lnd", "-e", "lnd_database=bolt")
    output = refused.stdout + refused.stderr
    assert (refused.returncode, "if lnd_database was changed, change it back" in output) == (2, True)
    start(person, "lnd")
    until(lambda: coins() >= REWARD, "lnd has its wallet again")
