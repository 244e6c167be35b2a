# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.bcm.core.plugins.filter import sandbox as sandbox_filter
from ansible_collections.bcm.core.plugins.filter import stack_units as stack_units_filter
from ansible_collections.bcm.core.plugins.module_utils import _guest
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import ROLES
from ansible_collections.bcm.core.plugins.module_utils._plan.unit_texts import of_stack, sandbox

COMMON = ROLES / "_common"
BCM: dict[str, Any] = {
    "stack": "echo",
    "description": "Echo server",
    "user": "echo",
    "address": "10.0.0.2",
    "role_path": str(ROLES / "electrum"),
    "volumes": {"data": {"path": "/var/lib/echo"}},
    "needs": {"bitcoind": {"rpc": {"address": "10.0.0.3", "port": 8332, "tls": None}}},
    "consumers": {"shop": {"address": "10.0.0.4"}},
    "exceptions": [{"to": "192.0.2.0/24"}],
    "uplink": None,
    "needs_ca": False,
    "has_certificate": False,
}
SECRETS = {"bitcoind/rpc/echo": "secret"}
UNIT = """# Ansible managed
[Unit]
Description=Echo server
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
Conflicts=other.service

[Service]
Type=notify
NotifyAccess=all
User=echo
Group=echo
Environment="GREETING=50 %% of \\"all\\" \\\\"
ExecStartPre=+find /var/lib/echo -xdev ( ! -user echo -o ! -group echo ) -execdir chown --no-dereference echo: {} +
ExecStartPre=python3 /usr/local/lib/bcm_wait.py echo
TimeoutStartSec=infinity
ExecStartPre=prepare
ExecStart=echo --serve
ExecStartPost=tell
Restart=on-failure
RestartSec=1
TimeoutStopSec=300

[Install]
WantedBy=multi-user.target
"""
ECHO: dict[str, Any] = {
    "type": "notify",
    "command": "echo --serve",
    "before": ["prepare"],
    "after": ["tell"],
    "programs": ["electrum_unit.py"],
    "environment": {"GREETING": '50 % of "all" \\'},
    "wait_for": {"bitcoind/rpc": "getblockchaininfo"},
    "unit": {"Conflicts": "other.service"},
    "service": {"TimeoutStopSec": 300},
}


def _files(bcm: dict[str, Any], units: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["path"]: item for item in of_stack(bcm, units, SECRETS, COMMON)}


def test_unit_has_what_the_role_declares() -> None:
    files = _files(BCM, {"echo": ECHO})
    assert files["/etc/systemd/system/echo.service"]["content"] == UNIT
    assert list(files) == [
        "/etc/systemd/network/05-uplink.network",
        "/var/lib/bcm/files/uplink.digest",
        "/var/lib/echo",
        "/etc/systemd/system/echo.service",
        "/etc/systemd/system/echo.service.d/10-sandbox.conf",
        "/usr/local/lib/electrum_unit.py",
        "/usr/local/lib/bcm_wait.py",
        "/usr/local/lib/bcm_guest/prove.py",
        "/usr/local/lib/bcm_guest/volume_files.py",
        "/etc/bcm/wait.json",
    ]
    assert files["/var/lib/echo"] == {
        "path": "/var/lib/echo",
        "state": "directory",
        "mode": "0700",
        "owner": "echo",
        "group": "echo",
    }
    assert files["/usr/local/lib/electrum_unit.py"]["src"] == str(ROLES / "electrum/scripts/electrum_unit.py")
    assert files["/usr/local/lib/bcm_guest/prove.py"]["src"] == str(Path(_guest.__path__[0]) / "prove.py")
    wait = files["/etc/bcm/wait.json"]
    assert (wait["sensitive"], wait["mode"], wait["owner"]) == (True, "0600", "echo")
    assert json.loads(wait["content"])["echo"]["bitcoind/rpc"] == {
        **BCM["needs"]["bitcoind"]["rpc"],
        "call": "getblockchaininfo",
        "credentials": "echo:secret",
    }


def test_manual_unit_is_written_and_not_enabled() -> None:
    files = of_stack(BCM, {"echo": {"command": "a"}, "window": {"command": "b", "manual": True}}, {}, COMMON)
    contents = {item["path"]: item.get("content") for item in files}
    assert "WantedBy" not in contents["/etc/systemd/system/window.service"]
    assert "/usr/local/lib/bcm_guest/prove.py" not in contents


def test_stopped_unit_waits_for_nothing() -> None:
    stopped = {"command": "a", "stopped": True, "wait_for": {"not-there/rpc": None}}
    files = {item["path"]: item for item in of_stack(BCM, {"echo": stopped}, {}, COMMON)}
    assert "/etc/bcm/wait.json" not in files
    assert "WantedBy" in files["/etc/systemd/system/echo.service"]["content"]


def test_unit_that_leaves_is_bound_to_the_egress_rules() -> None:
    files = _files({**BCM, "uplink": {"user": "echo"}}, {"echo": {"command": "a"}})
    assert "BindsTo=egress.service\n" in files["/etc/systemd/system/echo.service"]["content"]
    assert "/etc/systemd/network/05-uplink.network" not in files


def test_sandbox_opens_what_is_needed_and_nothing_else() -> None:
    needs = {"write": ["/var/lib/echo"], "families": ["AF_NETLINK"], "calls": ["mbind"], "loosen": {"UMask": "0027"}}
    lines = sandbox(BCM, needs).splitlines()
    assert {
        "ReadWritePaths=/var/lib/echo",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=mbind",
        "UMask=0027",
        "IPAddressDeny=any",
        "IPAddressAllow=10.0.0.2 10.0.0.3 10.0.0.4 192.0.2.0/24",
    } <= set(lines)
    assert "UMask=0077" not in lines
    assert not [line for line in lines if "/etc/bcm" in line or "tls" in line]
    with_ca = sandbox({**BCM, "needs_ca": True, "has_certificate": True}, {}).splitlines()
    assert {"BindReadOnlyPaths=/etc/bcm/trust:/etc/ssl/certs", "SupplementaryGroups=tls"} <= set(with_ca)


def test_empty_list_of_addresses_allows_none() -> None:
    lines = sandbox(BCM, {"addresses": []}).splitlines()
    assert lines[-3:] == ["IPAddressDeny=any", "IPAddressAllow=localhost", "IPAddressAllow="]
    assert not [line for line in sandbox(BCM, {"anywhere": True}).splitlines() if line.startswith("IPAddress")]


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ({"comand": "a"}, 'Unit echo of stack echo: Unknown key "comand".*did you mean "command"'),
        ({"command": ""}, "Unit echo of stack echo has no command: add one"),
        ({"command": "a", "sandbox": {"family": []}}, 'sandbox of stack echo: Unknown key "family"'),
    ],
)
def test_mistakes_are_named(unit: dict[str, Any], message: str) -> None:
    with pytest.raises(BcmError, match=message):
        of_stack(BCM, {"echo": unit}, {}, COMMON)
    with pytest.raises(Exception, match=message) as raised:
        stack_units_filter.FilterModule().filters()["stack_units"]({"echo": unit}, BCM, {}, str(COMMON))
    assert isinstance(raised.value, AnsibleError)


def test_filters_are_found_by_their_names() -> None:
    made = stack_units_filter.FilterModule().filters()["stack_units"]({"echo": ECHO}, BCM, SECRETS, str(COMMON))
    assert made == of_stack(BCM, {"echo": ECHO}, SECRETS, COMMON)
    assert sandbox_filter.FilterModule().filters()["sandbox"]({}, BCM) == sandbox(BCM, {})
