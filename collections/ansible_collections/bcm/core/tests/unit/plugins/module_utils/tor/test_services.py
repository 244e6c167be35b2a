# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._tor import onion_keys, services
from ansible_collections.bcm.core.plugins.module_utils._tor.reconcile import (
    desired_services,
    refuse_lost_keys,
    with_clients,
)
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Service
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault

KEY = onion_keys.new_key(bytes(32))
WEB = Service("web", KEY, {80: ("10.1.2.3:80",)}, clients={"alice": onion_keys.new_client(bytes(32))})
ITEM: dict[str, Any] = {
    "name": "web",
    "state": "present",
    "ports": [{"port": 80, "targets": ["10.1.2.3:80"]}],
    "authorization": True,
    "pow": False,
    "intro_defense": False,
    "max_streams": 0,
    "key": None,
    "address": None,
}


def test_a_key_that_is_gone_is_not_replaced() -> None:
    refuse_lost_keys({"web": WEB}, [ITEM], ["web", "other"])
    refuse_lost_keys({}, [ITEM], ["other"])
    refuse_lost_keys({}, [{**ITEM, "key": "a key"}, {**ITEM, "name": "other", "state": "absent"}], ["web", "other"])
    with pytest.raises(BcmError, match="^The keys of other, web are gone .*, and others would have other addresses: "):
        refuse_lost_keys({"third": WEB}, [ITEM, {**ITEM, "name": "other"}], ["web", "other", "third"])


def test_lines_of_torrc() -> None:
    service = dataclasses.replace(
        WEB, ports={443: ("unix:/run/web", "[::1]:443"), 80: ("10.1.2.3:80",)}, pow=True, max_streams=7
    )
    other = dataclasses.replace(WEB, name="other", intro_defense=True)
    assert services.include([service, other]) == (
        "HiddenServiceDir /var/lib/tor/onions/web\n"
        "HiddenServicePort 80 10.1.2.3:80\n"
        "HiddenServicePort 443 unix:/run/web\n"
        "HiddenServicePort 443 [::1]:443\n"
        "HiddenServicePoWDefensesEnabled 1\n"
        "HiddenServiceMaxStreams 7\n"
        "HiddenServiceMaxStreamsCloseCircuit 1\n"
        "\n"
        "HiddenServiceDir /var/lib/tor/onions/other\n"
        "HiddenServicePort 80 10.1.2.3:80\n"
        "HiddenServiceEnableIntroDoSDefense 1\n"
        "\n"
    )


def clients_of(service: Service) -> dict[str, str]:
    files = {item["path"]: item for item in service.files()}
    return {Path(path).stem: item["content"].decode() for path, item in files.items() if path.endswith(".auth")}


def test_service_without_a_client_is_closed_to_all() -> None:
    assert list(clients_of(dataclasses.replace(WEB, clients={}))) == ["nobody"]
    assert sorted(clients_of(WEB)) == ["alice", "nobody"]
    assert clients_of(dataclasses.replace(WEB, authorization=False)) == {}
    # nobody is somebody else at each service, and the same one each time
    other = dataclasses.replace(WEB, key=onion_keys.new_key())
    assert clients_of(WEB)["nobody"] == clients_of(WEB)["nobody"] != clients_of(other)["nobody"]


def test_private_files_are_for_tor_alone() -> None:
    for item in WEB.files():
        assert item["mode"] == (0o700 if item["state"] == "directory" else 0o600)
        assert (item["owner"], item["group"]) == ("debian-tor", "debian-tor")
        assert item["state"] == "directory" or item["sensitive"]


def test_the_digest_is_of_what_the_descriptor_holds() -> None:
    changed = [
        dataclasses.replace(WEB, key=onion_keys.new_key()),
        dataclasses.replace(WEB, pow=True),
        dataclasses.replace(WEB, authorization=False),
        dataclasses.replace(WEB, clients={}),
    ]
    same = [dataclasses.replace(WEB, ports={81: ("10.1.2.3:80",)}), dataclasses.replace(WEB, max_streams=3)]
    assert len({service.digest for service in (WEB, *changed)}) == 5
    assert {service.digest for service in (WEB, *same)} == {WEB.digest}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../web"}, r'^Onion service "../web" cannot be called that: use at most 63'),
        ({"name": "w" * 64}, r"cannot be called that"),
        ({"ports": None}, r"^Onion service web has no port"),
        ({"ports": [{"port": 0, "targets": ["10.1.2.3:80"]}]}, r"^Onion service web: there is no port 0"),
        ({"ports": [{"port": 80, "targets": []}]}, r"^Onion service web: port 80 leads nowhere"),
        ({"ports": ITEM["ports"] * 2}, r"^Onion service web: port 80 is there twice"),
        ({"ports": [{"port": 80, "targets": ["1.2.3.4:1"] * 2}]}, r"web: target 1.2.3.4:1 is there twice"),
        *(
            ({"ports": [{"port": 80, "targets": [target]}]}, r'(?s)^Onion service web: ".*" is no (target|unix)')
            for target in (
                "80", "example.org:80", "10.1.2.3", "10.1.2.3:0", "10.1.2.3:65536", "::1:80", "[10.1.2.3]:80",
                "unix:run/web", "unix:/run/web\nSocksPort 1", "10.1.2.3:80\nSocksPort 1", "10.1.2.3:٣",
                f"10.1.2.3:{'9' * 5000}",
            )
        ),
        ({"max_streams": 70000}, r"^Onion service web: max_streams is 70000"),
        ({"key": "x"}, r"^The key of onion service web is"),
        ({"key": KEY.text, "address": onion_keys.new_key().address}, r"^The key of onion service web is that of"),
        ({"key": KEY.text, "address": "web.onion"}, r'^"web.onion" is not an onion address of onion service web'),
        ({"address": KEY.address}, r"^There is no key of onion service web, so it cannot have"),
    ],
)  # fmt: skip
def test_invalid_services_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BcmError, match=message):
        desired_services({}, [{**ITEM, **changes}])


def test_services_come_stay_and_go() -> None:
    made = desired_services({}, [ITEM, {**ITEM, "name": "own", "key": KEY.text, "address": KEY.address}])
    assert made["own"].key == KEY
    assert made["web"].key.address != KEY.address
    with_alice = {**made, "web": with_clients(made["web"], ["alice"], present=True)}
    again = desired_services(with_alice, [{**ITEM, "pow": True}])
    assert again["web"] == dataclasses.replace(with_alice["web"], pow=True)
    assert again["own"] == made["own"]
    assert list(desired_services(made, [{**ITEM, "state": "absent"}])) == ["own"]
    with pytest.raises(BcmError, match=r"^Onion service web is there twice"):
        desired_services(made, [ITEM, {**ITEM, "state": "absent"}])
    with pytest.raises(BcmError, match=rf"^Onion service own has another key, that of {KEY.address}: remove the"):
        desired_services(made, [{**ITEM, "name": "own", "key": onion_keys.new_key().text}])
    twins = [made["own"], dataclasses.replace(made["own"], name="twin")]
    with pytest.raises(BcmError, match=rf"^Onion services own and twin have the same key, that of {KEY.address}"):
        services.check_keys(twins)


def test_clients_are_admitted_and_revoked() -> None:
    both = with_clients(WEB, ["alice", "bob"], present=True)
    assert both.clients["alice"] == WEB.clients["alice"]
    rest = with_clients(both, ["bob", "carol"], present=False)
    assert rest == WEB
    assert with_clients(rest, ["bob"], present=True).clients["bob"] != both.clients["bob"]
    for names, message in (
        (["bob", "bob"], "^Client bob is there twice"),
        (["../bob"], '^Client "../bob" cannot be called that'),
        (["Bob\n"], "cannot be called that"),
        (["nobody"], '^Client "nobody" has a reserved name'),
    ):
        with pytest.raises(BcmError, match=message):
            with_clients(WEB, names, present=True)
    with pytest.raises(BcmError, match="^Onion service web is public and has no clients"):
        with_clients(dataclasses.replace(WEB, authorization=False), ["bob"], present=True)


def test_instructions_hold_no_key() -> None:
    told = services.client_instructions(WEB)
    assert all(KEY.address.removesuffix(".onion") in text for text in told.values())
    assert WEB.clients["alice"].text not in str(told)


def test_written_services_are_read(tmp_path: Path) -> None:
    store = ServicesFile(tmp_path / "secrets", "regtest")
    assert store.read() == {}
    with store.locked():
        store.write([WEB])
    assert store.read() == {"web": WEB}
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    assert (store.path.parent / ".gitignore").read_text() == "*\n"


def test_services_are_kept_in_a_vault(tmp_path: Path) -> None:
    plain = ServicesFile(tmp_path, "signet")
    sealed = ServicesFile(tmp_path, "signet", vault=AnsibleVault("home", b"password"))
    with plain.locked():
        plain.write([WEB])
    with pytest.raises(BcmError, match=r"signet.onions.json is not encrypted, as everything of vault home has to be"):
        sealed.read()
    with sealed.locked():
        sealed.write([WEB])
    assert sealed.path.read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;home\n")
    assert sealed.read() == {"web": WEB}
    with pytest.raises(BcmError, match=r"is encrypted: run it with --vault-id home@bcm-vault-client"):
        plain.read()
    with pytest.raises(BcmError, match=r"was encrypted with another device or passphrase"):
        ServicesFile(tmp_path, "signet", vault=AnsibleVault("home", b"another")).read()


def _record(**changes: Any) -> str:
    return json.dumps({"format": 1, "services": {"web": {**WEB.record(), **changes}}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"regtest.onions.json is damaged, it holds no JSON: put a copy of it back"),
        ("[]", r"regtest.onions.json is damaged, it holds no mapping"),
        ("{}", r"regtest.onions.json is damaged, it holds no onion services"),
        ('{"format": 2, "services": {}}', r"is of format 2, known is 1: use the newer bcm"),
        ('{"format": 1, "services": {"web": {}}}', r"^What is kept of onion service web is damaged"),
        (_record(ports=3), r"^What is kept of onion service web is damaged"),
        (_record(key="ED25519-V3:" + "A" * 86 + "=="), r"^The key of onion service web is foreign"),
        (_record(clients={"alice": "A"}), r"^The key of client alice of onion service web is not an x25519 key"),
        (
            json.dumps({"format": 1, "services": {"web": WEB.record(), "twin": WEB.record()}}),
            r"^Onion services web and twin have the same key",
        ),
    ],
)
def test_damaged_services_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    store = ServicesFile(tmp_path, "regtest")
    store.path.write_text(content)
    with pytest.raises(BcmError, match=message):
        store.read()


def test_two_data_centers_with_the_same_keys(tmp_path: Path) -> None:
    home = ServicesFile(tmp_path, "regtest", owner="bcm-home-regtest")
    with home.locked():
        home.write(desired_services({}, [ITEM]).values())
    assert list(home.read()) == ["web"]
    copied = ServicesFile(tmp_path, "regtest", owner="bcm-office-regtest")
    with pytest.raises(BcmError, match=r"are those of bcm-home-regtest, and this is bcm-office-regtest: two data cent"):
        copied.read()


def test_two_runs_at_once(tmp_path: Path) -> None:
    first, second = ServicesFile(tmp_path, "regtest"), ServicesFile(tmp_path, "regtest", patience=0.1)
    with first.locked():
        with pytest.raises(BcmError, match=r"^Another run has been at work on .*regtest.onions.json"), second.locked():
            pass
        waiting = ServicesFile(tmp_path, "regtest", patience=30)
        entered = threading.Event()

        def enter() -> None:
            with waiting.locked():
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()


def test_a_draft_of_a_run_that_was_killed_goes(tmp_path: Path) -> None:
    store = ServicesFile(tmp_path, "regtest")
    left = tmp_path / ".regtest.onions.json.abc"
    left.write_text("half")
    with store.locked():
        assert not left.exists()


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    store = ServicesFile(tmp_path, "regtest")
    with store.locked():
        store.write([WEB])
        before = store.path.read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(BcmError, match=r"No space left on device; nothing was changed"):
                store.write([])
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".regtest.onions.json.")] == []
