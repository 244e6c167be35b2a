# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import from_plain
from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.fields import CatalogueError, size_in_bytes
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import ROLES, Catalogue, stack_names
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Need

from .conftest import JinjaVariables

_REMOVED = object()

_FILE = {"url": "https://example.org/x-{version}.tar.gz", "sha256": "a" * 64}
_ARCHIVE = {"kind": "archive", "name": "x", "licence": "MIT", "version": "1.0", "files": {"x86_64": _FILE}}


def _archive(**changes: Any) -> dict[str, Any]:
    file = {key: value for key, value in {**_FILE, **changes}.items() if value is not None}
    return {**_ARCHIVE, "files": {"x86_64": file}}


def _go(**changes: Any) -> dict[str, Any]:
    module = {"kind": "go", "name": "example.org/x/v2", "licence": "MIT", "version": "2.1.0-beta"}
    return {**module, "sum": f"h1:{'A' * 43}=", "packages": ["./cmd/x", "."], **changes}


def _signed(**changes: Any) -> dict[str, Any]:
    signatures = "https://example.org/SHA256SUMS.asc"
    return {**_ARCHIVE, "signed": {"signatures": signatures, "signers": {"a": "A" * 40}, "threshold": 1, **changes}}


def _spoil(document: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        document = document[int(key) if isinstance(document, list) else key]
    if value is _REMOVED:
        del document[last]
    else:
        document[last] = value


def test_fields_of_a_stack_are_read(catalogue: Catalogue) -> None:
    electrs = catalogue["electrs"]
    assert list(catalogue) == ["bitcoind", "electrs", "electrum", "lnd", "tor"]
    assert electrs.role == "bcm.core.electrs"
    assert electrs.role_path.name == "electrs"
    assert electrs.needs == {"bitcoind": Need(("rpc", "p2p"), {"rpc_calls": ["getblock"]})}
    assert electrs.services["electrum"].ports["signet"] == 60401
    assert catalogue["bitcoind"].services["rpc"].ports["regtest"] == 18443
    assert electrs.volumes["data"].backup == "none"
    assert catalogue["electrum"].display and catalogue["electrum"].uplink is None
    assert catalogue["tor"].uplink == "debian-tor"


def test_a_size_depends_on_the_chain_or_not(catalogue: Catalogue) -> None:
    bitcoind, electrs = catalogue["bitcoind"].volumes["data"], catalogue["electrs"].volumes["data"]
    assert (bitcoind.size("mainnet"), bitcoind.size("regtest"), electrs.size("signet")) == ("900GiB", "1GiB", "1GiB")


def test_limits_depend_on_the_chain_or_not(documents: dict[str, Any], write: Any) -> None:
    documents["electrs"]["limits"] = {"memory": {"mainnet": "8GiB", "default": "2 GiB"}, "processes": 300}
    catalogue = Catalogue.read(roles=write(documents))
    electrs, tor = catalogue["electrs"].limits, catalogue["tor"].limits
    assert electrs["memory"] == {"mainnet": "8GiB", "default": "2GiB"}
    assert (electrs["processes"], electrs["root"]) == ({"default": 300}, {"default": "4GiB"})
    # a stack that says nothing has limits, too
    assert tor["memory"] == {"default": "1GiB"}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"disk": "1GiB"}, 'limits.disk: Unknown field "disk"'),
        ({"memory": 5}, "limits.memory is 5"),
        ({"memory": {"regtest": "1GiB"}}, "limits.memory leaves out chains"),
        ({"root": "50%"}, "limits.root is"),
        ({"processors": 0}, "limits.processors is 0"),
        ({"processors": True}, "limits.processors is True"),
        ({"processes": 99}, "limits.processes is 99"),
        ([], "limits is not a mapping"),
    ],
)
def test_invalid_limits_are_refused(documents: dict[str, Any], write: Any, limits: Any, message: str) -> None:
    documents["tor"]["limits"] = limits
    with pytest.raises(CatalogueError, match=message):
        Catalogue.read(roles=write(documents))


def test_folders_without_a_stack_yml_are_roles_only(documents: dict[str, Any], write: Any) -> None:
    roles = write(documents)
    (roles / "_common/tasks").mkdir(parents=True)
    (roles / "README.md").write_text("not a folder", encoding="utf-8")
    assert list(Catalogue.read(roles=roles)) == sorted(documents)


def test_own_stacks_come_from_a_path(documents: dict[str, Any], write: Any) -> None:
    mine = {**copy.deepcopy(documents["electrum"]), "needs": {"electrs": ["electrum"]}}
    catalogue = Catalogue.read([write({"mine": mine}, "own")], roles=write(documents))
    assert catalogue["mine"].role == str(catalogue["mine"].role_path)
    assert Path(catalogue["mine"].role).is_absolute()
    assert catalogue.closure(["mine"]) == {"mine", "electrs", "bitcoind", "tor"}


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"/nowhere in bcm_stack_path is not a directory: make it, or take it out"):
        Catalogue.read([tmp_path / "nowhere"], roles=tmp_path)


def test_two_folders_of_one_name(documents: dict[str, Any], write: Any) -> None:
    with pytest.raises(
        CatalogueError, match=r'^Two folders define the stack "tor": .*/roles/tor and .*/own/tor; rename'
    ):
        Catalogue.read([write({"tor": documents["tor"]}, "own")], roles=write(documents))


def test_order_closure_and_dependents(catalogue: Catalogue) -> None:
    assert catalogue.ordered(catalogue.closure(["electrum"])) == ["tor", "bitcoind", "electrs", "electrum"]
    assert catalogue.dependents(["electrs"]) == {"electrs", "electrum"}
    assert catalogue.dependents(["tor"]) == set(catalogue)


def test_unknown_stack_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(BcmError) as caught:
        catalogue.named("electrun")
    assert str(caught.value) == (
        'Unknown stack "electrun": did you mean "electrum"? Known stacks: bitcoind, electrs, electrum, lnd, tor'
    )


def test_a_circle(documents: dict[str, Any], write: Any) -> None:
    documents["tor"]["needs"] = {"electrs": ["electrum"]}
    with pytest.raises(CatalogueError) as caught:
        Catalogue.read(roles=write(documents))
    message = str(caught.value)
    assert message.startswith("Stacks need each other in a circle: bitcoind -> tor -> electrs -> bitcoind; take one")
    assert "needs.bitcoind in " in message and message.endswith("electrs/meta/stack.yml")


def test_a_stack_that_needs_itself(documents: dict[str, Any], write: Any) -> None:
    documents["tor"]["needs"] = {"tor": ["socks"]}
    with pytest.raises(CatalogueError, match="in a circle: tor -> tor"):
        Catalogue.read(roles=write(documents))


WRONG: list[tuple[str, Any, str]] = [
    ("schema", 2, "schema is 2: this version reads schema 1"),
    ("description", _REMOVED, "description is missing: add it"),
    ("description", "", 'description is "": write some text'),
    (
        "desciption",
        "x",
        'desciption: Unknown field "desciption": did you mean "description"? Known fields: schema,',
    ),
    ("tier", "cellar", 'tier is "cellar": write one of underlay, kafka, bitcoin, lightning, web, desktop'),
    ("kind", "web", 'kind: Unknown field "kind": '),
    ("chains", [], "chains is []: write a list with at least one entry"),
    ("chains", "regtest", 'chains is "regtest": write a list'),
    ("chains", ["main"], 'chains.0 is "main": write one of mainnet, testnet3, testnet4, signet, regtest'),
    ("chains", ["regtest", "regtest"], 'chains.1 is "regtest" again: name it once'),
    ("needs", ["bitcoind"], "needs is not a mapping: write it as `key: value` lines"),
    ("needs", {"bitcoin": []}, 'needs.bitcoin: Unknown stack "bitcoin": did you mean "bitcoind"?'),
    ("needs", {"bitcoind": ["rcp"]}, 'Unknown service of bitcoind "rcp": did you mean "rpc"?'),
    ("needs", {"bitcoind": "rpc"}, 'needs.bitcoind is "rpc": write a list'),
    ("needs", {"bitcoind": {"service": ["rpc"]}}, 'Unknown field "service": did you mean "services"?'),
    ("needs", {"bitcoind": {"permissions": ["x"]}}, "needs.bitcoind.permissions is not a mapping"),
    ("needs", {"bitcoind": {"optional": "yes"}}, 'needs.bitcoind.optional is "yes": write true or false'),
    ("needs", {"node": {"one_of": {"bitcoind": ["rpc"]}}}, "needs.node.one_of names no alternative: name at least"),
    (
        "needs",
        {"Node": {"one_of": {"bitcoind": [], "lnd": []}}},
        "needs.Node cannot be called that: use at most 24",
    ),
    (
        "needs",
        {"node": {"one_of": {"bitcoin": [], "lnd": []}}},
        'needs.node.one_of.bitcoin: Unknown stack "bitcoin"',
    ),
    ("needs", {"node": {"one_of": {"bitcoind": ["rcp"], "lnd": []}}}, 'Unknown service of bitcoind "rcp": did you'),
    (
        "needs",
        {"bitcoind": [], "node": {"one_of": {"bitcoind": [], "lnd": []}}},
        "needs.node.one_of.bitcoind is needed already: name it once",
    ),
    ("enabled_with", {"lnd": "true"}, "enabled_with.lnd is not needed: add lnd to needs"),
    ("enabled_with", {"bitcoind": True}, "enabled_with.bitcoind is True: put it in quotes"),
    ("web", [{"service": "http", "title": "x"}], 'web.0.service is "http": write one of electrum'),
    ("web", [{"service": "electrum"}], "web.0.title is missing: add it"),
    ("web", [{"service": "electrum", "title": "x", "path": "x"}], 'web.0.path is "x": write a path, such as /'),
    ("web", [{"service": "electrum", "title": "x", "icon": "../x"}], "web.0.icon is"),
    ("secrets", ["Key"], 'secrets.0 is "Key": use at most 24 lower-case letters'),
    ("services.electrum.host_port", "yes", 'services.electrum.host_port is "yes": write true or false'),
    ("services.electrum.host_port", True, "host_port of a service needs uplink: add it, or leave out host_port"),
    (
        "services.electrum",
        {"protocol": "tcp", "port": 1, "tls": "server", "host_port": True},
        "services.electrum.host_port is True, but there is tls: leave one of them out",
    ),
    (
        "services.electrum",
        {"protocol": "tcp", "port": 1, "tls": "server", "grpc": True},
        "services.electrum.grpc is True, but tls is not mutual: leave it out, or write tls: mutual",
    ),
    ("services.electrum.protocol", "http", 'services.electrum.protocol is "http": write one of tcp, udp'),
    ("services.electrum.tls", "yes", 'services.electrum.tls is "yes": write one of server, mutual, own'),
    (
        "services.electrum",
        {"protocol": "udp", "port": 1, "tls": "own"},
        'services.electrum.tls is "own", but the protocol is udp: leave it out, or write tcp',
    ),
    (
        "services.electrum",
        {"protocol": "udp", "port": 1, "tls": "server"},
        'services.electrum.tls is "server", but the protocol is udp: leave it out, or write tcp',
    ),
    ("services.electrum.port", "60401", 'services.electrum.port is "60401": write a port, a whole number from 1'),
    ("services.electrum.port", 70000, "services.electrum.port is 70000: write a port"),
    ("services.electrum.port", True, "services.electrum.port is True: write a port"),
    ("services.electrum.port", _REMOVED, "services.electrum needs either port or ports: give one port for all"),
    ("services.electrum.ports", dict.fromkeys(names.CHAINS, 1), "services.electrum needs either port or ports"),
    ("services.electrum", {"protocol": "tcp", "ports": {"regtest": 1}}, "ports.mainnet is missing: add it"),
    ("services.Web", {"protocol": "tcp", "port": 1}, "services.Web cannot be called that: use at most 24"),
    ("volumes.data.path", "var/lib", 'volumes.data.path is "var/lib": write an absolute path'),
    ("volumes.data.path", "/var/../etc", 'volumes.data.path is "/var/../etc": write an absolute path'),
    ("volumes.data.size", "1GB", 'volumes.data.size is "1GB": write a whole number with MiB, GiB or TiB'),
    ("volumes.data.size", 5, "volumes.data.size is 5: put it in quotes"),
    ("volumes.data.size", {"mainnet": "1GiB"}, "volumes.data.size leaves out chains: add default"),
    (
        "volumes.data.size",
        {"main": "1GiB"},
        'volumes.data.size.main: Unknown field "main": did you mean "mainnet"?',
    ),
    ("volumes.data.owner", "me", 'volumes.data.owner: Unknown field "owner"'),
    (
        "services.electrum.onion",
        {"port": 1},
        "services.electrum.onion has no gateway: no stack has onion_gateway: true",
    ),
    (
        "services.electrum",
        {"protocol": "udp", "port": 1, "onion": {}},
        "services.electrum.onion belongs to a service whose protocol is udp: leave it out",
    ),
    (
        "services.electrum",
        {"protocol": "tcp", "port": 1, "tls": "mutual", "onion": {"listen": 2}},
        "services.electrum.onion.listen lets in clients without a certificate: leave it out, or write tls: server",
    ),
    (
        "services.electrum",
        {"protocol": "tcp", "port": 1, "onion": {"listen": 1}},
        "services.electrum.onion.listen is 1, a port of electrum: choose another port",
    ),
    ("services.electrum.onion", {"public": ""}, 'services.electrum.onion.public is "": write some text'),
    ("uplink", True, "uplink is not a mapping: write it as"),
    ("uplink", {"user": 801}, "uplink.user is 801: put it in quotes"),
    ("uplink", {"group": "x"}, 'uplink.group: Unknown field "group": Known fields: user'),
    ("assertions.0.that", True, "assertions.0.that is True: put it in quotes"),
    ("assertions.0.fail_msg", _REMOVED, "assertions.0.fail_msg is missing: add it"),
    ("artifact", "electrs", "artifact is not a mapping"),
    ("artifact.sources", {}, "artifact.sources is empty: say where it comes from"),
    ("artifact", {}, "artifact needs either sources or of: say where it comes from, or name the stack that does"),
    ("artifact", {"off": "tor"}, 'artifact.off: Unknown field "off": did you mean "of"? Known fields: '),
    ("artifact", {"of": 1}, "artifact.of is 1: put it in quotes"),
    ("artifact", {"of": "tro"}, 'artifact.of: Unknown stack "tro": did you mean "tor"? Known stacks: '),
    (
        "artifact",
        {"of": "electrs"},
        "artifact.of is electrs itself: name the stack that declares the artifact, or add sources here in its place",
    ),
    ("artifact.of", "tor", "artifact.sources is there, but the artifact is that of tor: leave one of them out"),
    (
        "artifact",
        {"of": "tor", "floor": {"none": "x"}},
        "artifact.floor is there, but the artifact is that of tor: leave one of them out",
    ),
    (
        "artifact.sources.debian.kind",
        "rpm",
        'debian.kind is "rpm": write one of archive, deb, apt, crate, go, maven, npm, wheels, oci',
    ),
    ("artifact.sources.debian.licence", _REMOVED, "artifact.sources.debian.licence is missing: add it"),
    ("artifact.sources.debian.version", 1.0, "artifact.sources.debian.version is 1.0: put it in quotes"),
    ("artifact.sources.x", {**_ARCHIVE, "version": "new"}, 'x.version is "new": write a version in quotes'),
    ("artifact.sources.x", {**_ARCHIVE, "files": {}}, "x.files is empty: name a file for one of x86_64, aarch64"),
    ("artifact.sources.x", {**_ARCHIVE, "files": {"amd64": {}}}, 'Unknown field "amd64"'),
    ("artifact.sources.x", _archive(sha256=None), "x.files.x86_64 needs one digest: add sha256 or sha512"),
    ("artifact.sources.x", _archive(sha512="a" * 128), "x.files.x86_64 needs one digest: add sha256 or sha512"),
    ("artifact.sources.x", _archive(sha256="abc"), 'sha256 is "abc": write SHA256 in lower-case hex digits'),
    ("artifact.sources.x", _archive(url="ftp://a/b"), 'url is "ftp://a/b": write a URL, such as https://'),
    (
        "artifact.sources.x",
        _signed(signers={"a": "12AB"}),
        'signers.a is "12AB": write a whole OpenPGP fingerprint',
    ),
    (
        "artifact.sources.x",
        _signed(threshold=2),
        "threshold is 2: write how many of the 1 signers must have signed",
    ),
    (
        "artifact.sources.x",
        {"kind": "npm", "name": "x", "licence": "MIT", "version": "1.0", "lock": "package-lock.json"},
        'x.lock is "package-lock.json": write a path in the role, such as files/package-lock.json',
    ),
    (
        "artifact.sources.x",
        _signed(threshold=0),
        "threshold is 0: write how many of the signers must have signed, from 1 to 1000",
    ),
    (
        "artifact.sources.x",
        _signed(signers={"a": "A" * 40, "b": "A" * 40}),
        "signers has one fingerprint under two names: name each key once",
    ),
    (
        "artifact.sources.x",
        {"kind": "npm", "name": "x", "licence": "MIT", "version": "1", "lock": "../x"},
        'x.lock is "../x": write a path in the role',
    ),
    (
        "artifact.sources.x",
        {"kind": "maven", "name": "kafka-clients", "licence": "MIT", "version": "1", "lock": "files/jars.txt"},
        'x.name is "kafka-clients": write GROUP:ARTIFACT, such as org.apache.kafka:kafka-clients',
    ),
    ("artifact.sources.x", _go(sum="h1:abc="), 'x.sum is "h1:abc=": write h1: and 32 bytes in Base64, as go.sum'),
    ("artifact.sources.x", _go(sum=f"h1:{'A' * 42}B="), "write h1: and 32 bytes in Base64, as go.sum has it"),
    ("artifact.sources.x", _go(name="lnd"), 'x.name is "lnd": write the path of a module, such as github.com/'),
    ("artifact.sources.x", _go(packages=[]), "x.packages is []: write a list with at least one entry"),
    ("artifact.sources.x", _go(packages=["./../x"]), 'packages.0 is "./../x": write a folder of the module'),
    ("artifact.sources.x", _go(packages=["example.org/y"]), 'packages.0 is "example.org/y": write a folder of the'),
    ("artifact.sources.x", _go(tags=["a b"]), 'x.tags.0 is "a b": write a build tag, in letters'),
    ("artifact.sources.x", _go(variables=["main=x"]), 'variables.0 is "main=x": write IMPORTPATH.NAME=VALUE'),
    ("artifact.sources.x", _go(variables=["main.x=a b"]), 'variables.0 is "main.x=a b": write IMPORTPATH.NAME=VALUE'),
    ("artifact.version_command", "electrs", 'artifact.version_command is "electrs": write a list'),
    (
        "artifact.floor",
        {"versions": ["1.0"], "why": "x"},
        "artifact.floor has nothing to compare with: add version_command",
    ),
    ("artifact.floor", {"versions": ["new"], "why": "x"}, 'versions.0 is "new"'),
    ("artifact.floor", {"none": True}, "artifact.floor.none is True: put it in quotes"),
    ("artifact.floor", {"none": ""}, 'artifact.floor.none is "": write some text'),
    ("artifact.floor", {"none": "x", "why": "y"}, 'artifact.floor.why: Unknown field "why": Known fields: none'),
    ("artifact.sources.debian.suite", "../x", 'debian.suite is "../x": write the name of a suite, such as trixie'),
    (
        "services.electrum.onion",
        {"max_streams": -1},
        "services.electrum.onion.max_streams is -1: write a whole number from 0 to 65535",
    ),
    ("image", {"variables": ["a-b"]}, 'image.variables.0 is "a-b": write the name of a variable'),
    ("display", 1, "display is 1: write true or false"),
    ("description", "a\nb", "write some text, on one line"),
    ("uplink", {"user": "$(id)"}, 'uplink.user is "$(id)": write the name of a user'),
    ("uplink", {"user": "electrs\n"}, "write some text, on one line"),
    ("volumes.data.path", "/srv/a b", "write an absolute path"),
    ("volumes.data.path", "/srv/$(id)", "write an absolute path"),
    ("services.electrum.port", "60401", 'services.electrum.port is "60401": write a port'),
    ("services.electrum.port", 2**63, "write a port"),
    ("services.electrum.port", True, "services.electrum.port is True: write a port"),
    ("schema", True, "schema is True"),
    ("tier", ["web"], "tier is ['web']: write one of"),
]


@pytest.mark.parametrize(("field", "value", "complaint"), WRONG)
def test_a_wrong_field_is_named_with_file_and_remedy(
    documents: dict[str, Any], write: Any, field: str, value: Any, complaint: str
) -> None:
    _spoil(documents["electrs"], field, value)
    with pytest.raises(CatalogueError) as caught:
        Catalogue.read(roles=write(documents))
    message = str(caught.value)
    assert complaint in message
    assert "roles/electrs/meta/stack.yml: " in message
    assert "\n" not in message


@pytest.mark.parametrize("count", [0, 65535])
def test_streams_are_no_ports(documents: dict[str, Any], write: Any, count: int) -> None:
    documents["tor"]["onion_gateway"] = True
    documents["electrs"]["services"]["electrum"]["onion"] = {"max_streams": count}
    documents["electrs"]["needs"]["tor"] = []
    onion = Catalogue.read(roles=write(documents))["electrs"].services["electrum"].onion
    assert onion
    assert onion.max_streams == count


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the file is not a mapping"),
        ("- schema: 1", "the file is not a mapping"),
        ("schema: [1", "is not valid YAML: while parsing a flow sequence"),
        ("schema: !!python/object:os.system {}", "is not valid YAML: could not determine a constructor"),
    ],
)
def test_malformed_stack_file_is_refused(write: Any, text: str, complaint: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        Catalogue.read(roles=write({"broken": text}))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["x" * 33, "My", "x__y", "x_", "localhost", "build_x", "x_replaced"])
def test_folder_with_an_invalid_name_is_refused(documents: dict[str, Any], write: Any, folder: str) -> None:
    with pytest.raises(CatalogueError, match=f"the folder's name \"{folder}\" cannot be a stack's: "):
        Catalogue.read(roles=write({folder: documents["tor"]}))


def test_sizes() -> None:
    assert (size_in_bytes("1MiB"), size_in_bytes("2 GiB"), size_in_bytes("1TiB")) == (2**20, 2**31, 2**40)
    with pytest.raises(BcmError, match='"0GiB" is not a size'):
        size_in_bytes("0GiB")


_OURS = sorted(path.parents[1].name for path in ROLES.glob("*/meta/stack.yml"))


def test_name_of_a_stack_has_a_hyphen_where_its_folder_has_an_underscore() -> None:
    assert set(stack_names([])) == set(Catalogue.read())


@pytest.mark.parametrize("name", _OURS)
def test_our_own_stacks_keep_the_schema(name: str) -> None:
    stack = Catalogue.read()[name.replace("_", "-")]
    assert stack.chains == tuple(chain for chain in names.CHAINS if chain in stack.chains), "chains in the usual order"
    assert not stack.description.endswith("."), "a description is a line of a list"
    if stack.image_variables or len(stack.artifact.sources) > 1:
        assert (stack.role_path / "defaults/main.yml").is_file()


def test_one_stack_is_the_gateway_of_onion_services(documents: dict[str, Any], write: Any) -> None:
    documents["tor"]["onion_gateway"] = True
    documents["electrs"]["services"]["electrum"]["onion"] = {}
    with pytest.raises(CatalogueError, match=r"electrum.onion has no gateway: add tor: \[\] to needs"):
        Catalogue.read(roles=write(documents))
    documents["lnd"]["onion_gateway"] = True
    message = r"tor/meta/stack.yml: onion_gateway is set, but stack lnd is the gateway of onion services already: leave"
    with pytest.raises(CatalogueError, match=message):
        Catalogue.read(roles=write(documents, "others"))


def test_one_stack_is_the_proxy_of_downloads(documents: dict[str, Any], write: Any) -> None:
    documents["tor"]["download_proxy"] = {"socks": "socks", "tunnel": "sock"}
    with pytest.raises(CatalogueError, match='download_proxy.tunnel is "sock": write one of socks'):
        Catalogue.read(roles=write(documents))
    documents["tor"]["download_proxy"] = {"socks": "socks", "tunnel": "socks"}
    assert Catalogue.read(roles=write(documents, "good")).download_proxy == "tor"
    documents["electrs"]["download_proxy"] = {"socks": "electrum", "tunnel": "electrum"}
    message = (
        "tor/meta/stack.yml: download_proxy is set, but stack electrs is the proxy of downloads already: leave it out"
    )
    with pytest.raises(CatalogueError, match=message):
        Catalogue.read(roles=write(documents, "others"))


def test_a_stack_says_why_no_floor_is_known(documents: dict[str, Any], write: Any) -> None:
    documents["electrs"]["artifact"]["floor"] = {"none": "nobody has found a fault in it"}
    assert Catalogue.read(roles=write(documents))["electrs"].artifact.floor is None


def test_a_stack_is_made_of_the_artifact_of_another(documents: dict[str, Any], write: Any) -> None:
    documents["lnd"]["artifact"] = {"of": "tor"}
    catalogue = Catalogue.read(roles=write(documents))
    tor, lnd = catalogue["tor"].artifact, catalogue["lnd"].artifact
    assert (tor.of, lnd.of) == (None, "tor")
    assert lnd.sources == tor.sources
    assert (lnd.version_command, lnd.floor) == (tor.version_command, tor.floor)
    assert lnd.keys_path == tor.keys_path == catalogue["tor"].role_path / "meta/keys"
    release = lnd.release("lnd", None, {})
    assert (release.stack, release.name) == ("lnd", "tor")
    # choosing among alternatives makes the catalogue again
    documents["lnd"]["needs"] = {"node": {"one_of": {"bitcoind": [], "electrs": []}}}
    variables = JinjaVariables({"lnd_node": "electrs"})
    chosen = Catalogue.read(roles=write(documents, "more")).resolved(lambda _stacks: variables)
    assert "electrs" in chosen["lnd"].needs
    assert chosen["lnd"].artifact == replace(chosen["tor"].artifact, of="tor")


@pytest.mark.parametrize(("tor", "of"), [("electrum", "electrum"), ("lnd", "lnd")])
def test_artifact_is_that_of_a_stack_that_declares_one(
    documents: dict[str, Any], write: Any, tor: str, of: str
) -> None:
    documents["tor"]["artifact"] = {"of": tor}
    documents["lnd"]["artifact"] = {"of": "tor"}
    message = f"lnd/meta/stack.yml: artifact.of is tor, whose artifact is that of {of}: name a stack that has sources"
    with pytest.raises(CatalogueError, match=message):
        Catalogue.read(roles=write(documents))


def test_a_go_module_is_built_as_it_is_declared(documents: dict[str, Any], write: Any) -> None:
    variables = ["example.org/x/v2/build.Commit=v{version}", "main.name=a=b"]
    sources = {"bare": _go(), "whole": _go(tags=["sqlite", "v1.2"], variables=variables)}
    documents["tor"]["artifact"]["sources"] = sources
    artifact = Catalogue.read(roles=write(documents))["tor"].artifact
    bare, whole, newer = (
        artifact.release("tor", name, changes)
        for name, changes in (("bare", {}), ("whole", {}), ("whole", {"version": "2.2.0-beta"}))
    )
    assert whole.go and newer.go
    assert whole.go.variables == ("example.org/x/v2/build.Commit=v2.1.0-beta", "main.name=a=b")
    assert newer.go.variables[0] == "example.org/x/v2/build.Commit=v2.2.0-beta"
    for module in (bare, whole, newer):
        assert from_plain(json.loads(json.dumps(module.plain()))) == module
        assert (module.suite, module.leads, module.architectures) == ("trixie-backports", None, ())
    pins = [json.dumps(module.pins("aarch64"), sort_keys=True) for module in (bare, whole, newer)]
    assert len(set(pins)) == 3, "what is built otherwise is another image"
    assert whole.pins("x86_64")["digest"] == f"h1:{'A' * 43}="


def test_an_artifact_with_a_lock_file_is_its_own_stacks_alone(documents: dict[str, Any], write: Any) -> None:
    """The file lies in the role, and its image is named by it."""
    npm = {"kind": "npm", "name": "x", "licence": "MIT", "version": "1.0", "lock": "files/package-lock.json"}
    documents["tor"]["artifact"]["sources"]["npm"] = npm
    documents["lnd"]["artifact"] = {"of": "tor"}
    message = "lnd/meta/stack.yml: artifact.of is tor, whose source npm has a lock file in its role: add sources here"
    with pytest.raises(CatalogueError, match=message):
        Catalogue.read(roles=write(documents))


def test_hosts_are_asked_through_the_proxy_of_downloads(documents: dict[str, Any], write: Any) -> None:
    documents["electrs"]["through_tor"] = [{"to": "electrs_hosts", "why": "prices"}]
    with pytest.raises(CatalogueError, match="through_tor has no proxy: no stack has download_proxy"):
        Catalogue.read(roles=write(documents))
    documents["tor"]["services"]["tunnel"] = {"protocol": "tcp", "port": 9080}
    documents["tor"]["download_proxy"] = {"socks": "socks", "tunnel": "tunnel"}
    with pytest.raises(CatalogueError, match=r"through_tor has no proxy: add tor: \[\] to needs"):
        Catalogue.read(roles=write(documents, "others"))
    documents["electrs"]["needs"]["tor"] = []
    assert Catalogue.read(roles=write(documents, "right"))["electrs"].needs["tor"].services == ()
