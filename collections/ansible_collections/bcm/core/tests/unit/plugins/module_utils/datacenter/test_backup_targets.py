# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._datacenter.backup_targets import faults

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
SSH = {"type": "ssh", "host": "box.example.org", "user": "copies", "host_key": KEY}
S3 = {
    "type": "s3",
    "endpoint": "https://s3.example.org",
    "bucket": "copies",
    "access_key": "AKIAEXAMPLE",
    "secret_key": "very/secret",
}


def test_complete_targets_have_no_faults() -> None:
    folder = {"type": "controller", "path": "~/channels"}
    onion = {**S3, "endpoint": f"http://{'a' * 56}.onion:9000", "prefix": "a/", "region": "eu-1"}
    ssh = {**SSH, "port": 2222, "path": "/srv/copies"}
    assert faults({"box": SSH, "attic": ssh, "store": S3, "far": onion, "desk": folder}) == []


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ({}, "backups_targets.box.type is missing"),
        ({"type": "ftp"}, 'box.type is "ftp"'),
        ({**SSH, "host": "box; rm"}, 'box.host is "box; rm"'),
        ({**SSH, "host": "-oProxyCommand=x"}, "box.host is"),
        ({**SSH, "user": "-x"}, 'box.user is "-x"'),
        ({**SSH, "port": 0}, "box.port is 0"),
        ({**SSH, "path": 'a"b'}, "box.path is"),
        ({**SSH, "host_key": "box ssh-ed25519 AAAA"}, "box.host_key is"),
        ({**SSH, "host_key": KEY[:-20]}, "box.host_key is cut off"),
        ({**SSH, "host_key": KEY.replace("ssh-ed25519", "ssh-rsa", 1)}, "box.host_key is cut off, or of another type"),
        ({key: value for key, value in SSH.items() if key != "host_key"}, "box.host_key is missing"),
        ({**SSH, "bucket": "x"}, "bucket"),
        ({**S3, "endpoint": "http://s3.example.org"}, "which is not encrypted beyond Tor"),
        ({**S3, "endpoint": "s3.example.org"}, "box.endpoint is"),
        ({**S3, "endpoint": "https://user@s3.example.org"}, "box.endpoint is"),
        ({**S3, "endpoint": "https://s3.example.org:x"}, "box.endpoint is"),
        ({**S3, "bucket": "A b"}, "box.bucket is"),
        ({**S3, "ca": "none"}, "box.ca holds no certificate"),
        ({**S3, "secret_key": ""}, "box.secret_key is not a key"),
        ({"type": "controller", "path": "channels"}, 'box.path is "channels"'),
        ("x", "backups_targets.box is not a mapping"),
    ],
)
def test_fault_names_field_and_remedy(target: Any, fault: str) -> None:
    (found,) = faults({"box": target})
    assert fault in found
    assert ": " in found


@pytest.mark.parametrize("declared", [None, [], "x", 1])
def test_targets_that_are_not_a_mapping_are_a_fault(declared: Any) -> None:
    assert "backups_targets is not a mapping" in faults(declared)[0]


def test_names_become_parts_of_commands() -> None:
    assert "box x" in faults({"box x": SSH})[0]


def test_each_target_has_its_fault_and_no_secret_is_shown() -> None:
    found = faults({"a": {"type": "x"}, "b": {**S3, "secret_key": "with space"}})
    assert len(found) == 2
    assert "with space" not in " ".join(found)
