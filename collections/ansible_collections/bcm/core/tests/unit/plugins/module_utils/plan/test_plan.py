# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.limits import Host
from ansible_collections.bcm.core.plugins.module_utils._plan.request import (
    Deployed,
    ProjectState,
    Source,
    Volume,
    read_versions,
)

ELECTRUM = ["tor", "bitcoind", "electrs", "electrum"]


def _running(*stacks: str, requested: tuple[str, ...] = ()) -> dict[str, Deployed]:
    return {name: Deployed(requested=name in requested, running=True) for name in stacks}


def _edges(plan: dict[str, Any]) -> set[str]:
    acl = next(item for item in plan["resources"] if item["kind"] == "network_acl" and item["state"] == "present")
    return {rule["description"] for rule in acl["egress"]}


# -- what is refused before anything is read or changed ----------------------------------------------------------------


EXCEPTION = {
    "stack": "bitcoind",
    "to": "203.0.113.0/24",
    "protocol": "tcp",
    "port": 8333,
    "why": "peers of a friend",
}
OLD = {"bcm_artifacts": {"bitcoind": {"version": "29.3"}}}


@pytest.mark.parametrize(
    ("stacks", "fields", "complaint"),
    [
        ([], {}, "No stack is named: say which, with -e stack=NAME. Known stacks: bitcoind, electrs"),
        (["electrun"], {}, 'Unknown stack "electrun": did you mean "electrum"? Known stacks: bitcoind,'),
        (["tor", "btcd"], {"state": "absent"}, 'Unknown stack "btcd": '),
        (["tor"], {"allow_below_floor": ["bitcoin"]}, 'Unknown stack "bitcoin": did you mean "bitcoind"?'),
        (["tor"], {"software_ca_chains": ["main"]}, 'Unknown chain "main": did you mean "mainnet"?'),
        (
            ["tor"],
            {"chain": "mainnet", "ca_provider": "software"},
            "Chain mainnet needs a certificate authority on a hardware wallet, ca_provider is software: ",
        ),
        (
            ["lnd"],
            {"chain": "signet", "software_ca_chains": ["signet"]},
            "Stack lnd does not know chain signet: choose",
        ),
        (
            ["electrum"],
            {"variables": {"bitcoind_prune": "550"}},
            "Stack electrs requires bitcoind_prune | int == 0: electrs reads every block; set bitcoind_prune to 0",
        ),
        (
            ["bitcoind"],
            {"variables": OLD},
            "bitcoin-core 29.3 is below the floor (31.1, 30.3, 29.4): 31.1 mends an address leak; choose a newer "
            "version, or name bitcoind in allow_below_floor",
        ),
        (
            ["bitcoind"],
            {"variables": {"bcm_artifacts": {"bitcoind": {"version": "new"}}}},
            'the inventory: bcm_artifacts.bitcoind.version is "new": write a version in quotes',
        ),
        (["bitcoind"], {"variables": {"bcm_artifacts": ["bitcoind"]}}, "Variable bcm_artifacts is not a mapping"),
        (
            ["electrs"],
            {"variables": {"bcm_artifacts": {"electrs": {"kind": "npm", "version": "1.0", "lock": "files/lock.json"}}}},
            "electrs/files/package.json cannot be read: ",
        ),
        (
            ["bitcoind"],
            {"variables": {"bitcoind_source": "relase"}},
            'Unknown source of bitcoind "relase": did you mean "release"?',
        ),
    ],
)
def test_refused(planner: Any, stacks: list[str], fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BcmError) as caught:
        planner(*stacks, **fields).check()
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"datacenter": "basement-1"}, 'Data center "basement-1" cannot be called that'),
        ({"chain": "regtst"}, 'Unknown chain "regtst": did you mean "regtest"?'),
        ({"subnet": "10.0.0.0/24"}, 'Subnet "10.0.0.0/24" has prefix /24'),
        ({"exceptions": ["bitcoind"]}, "the inventory: bcm_exceptions.0 is not a mapping: "),
        ({"exceptions": [{**EXCEPTION, "stack": "bitcoin"}]}, 'exceptions.0.stack: Unknown stack "bitcoin": did you'),
        ({"exceptions": [EXCEPTION, EXCEPTION]}, "bcm_exceptions.1 is .* again: name it once"),
        ({"exceptions": [{**EXCEPTION, "why": " "}]}, 'bcm_exceptions.0.why is " ": write some text'),
        ({"exceptions": [{**EXCEPTION, "to": "example.org"}]}, 'exceptions.0.to is "example.org", no IPv4 network'),
        ({"exceptions": [{**EXCEPTION, "to": "203.0.113.1/24"}]}, r"exceptions.0.to is .*host bits set"),
        ({"exceptions": [{**EXCEPTION, "to": "2001:db8::/32"}]}, r"exceptions.0.to is .*write an address or a network"),
        ({"exceptions": [{**EXCEPTION, "protocol": "icmp"}]}, 'exceptions.0.protocol is "icmp": write one of tcp, udp'),
        ({"exceptions": [{**EXCEPTION, "port": "8333"}]}, 'exceptions.0.port is "8333": write a port'),
        ({"exceptions": [{"stack": "bitcoind"}]}, "bcm_exceptions.0.to is missing: add it"),
    ],
)
def test_invalid_options_are_refused_before_planning(planner: Any, fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BcmError, match=complaint):
        planner("tor", **fields)


def test_a_needed_stack_that_lacks_the_chain(documents: dict[str, Any], request: pytest.FixtureRequest) -> None:
    documents["tor"]["chains"] = ["mainnet"]
    with pytest.raises(BcmError) as caught:
        request.getfixturevalue("planner")("electrum").check()
    assert str(caught.value) == (
        "Stack tor, which bitcoind cannot do without, does not know chain regtest: choose one of mainnet"
    )


def test_message_of_an_assertion_may_be_a_template(documents: dict[str, Any], request: pytest.FixtureRequest) -> None:
    documents["electrs"]["assertions"][0]["fail_msg"] = "{{ bitcoind_prune }} MiB are too few; set bitcoind_prune to 0"
    message = r"requires bitcoind_prune \| int == 0: 550 MiB are too few; set bitcoind_prune to 0$"
    with pytest.raises(BcmError, match=message):
        request.getfixturevalue("planner")("electrs", variables={"bitcoind_prune": 550}).check()


def test_wrong_expression_is_reported_with_its_place(documents: dict[str, Any], request: pytest.FixtureRequest) -> None:
    documents["electrs"]["assertions"][0]["that"] = "bitcoind_prun == 0"
    with pytest.raises(BcmError, match=r"electrs/meta/stack.yml: assertions.0: 'bitcoind_prun' is undefined"):
        request.getfixturevalue("planner")("electrs").check()


def test_taking_down_is_never_refused(planner: Any) -> None:
    pruned = {"bitcoind_prune": 550, **OLD}
    for state in ("stopped", "absent"):
        planner("electrum", chain="mainnet", state=state, variables=pruned).check()


def test_version_below_its_floor_is_an_error_in_parts(planner: Any) -> None:
    with pytest.raises(BcmError) as caught:
        planner("bitcoind", chain="mainnet", software_ca_chains=["mainnet"], variables=OLD).check()
    assert (caught.value.code, caught.value.remedy) == (
        "below_floor",
        "choose a newer version, or name bitcoind in allow_below_floor to accept this",
    )


def test_explicitly_accepted_risks_are_warned_about(planner: Any, namer: Any) -> None:
    bold = planner(
        "bitcoind",
        chain="mainnet",
        software_ca_chains=["mainnet"],
        allow_below_floor=["bitcoind"],
        variables=OLD,
    )
    bold.check()
    plan = bold.plan(ProjectState(), namer)
    assert plan["warnings"] == [
        "bitcoin-core 29.3 is below the floor (31.1, 30.3, 29.4): 31.1 mends an address leak; "
        "accepted because allow_below_floor names bitcoind"
    ]
    assert plan["images"][1]["allow_below_floor"] and not plan["images"][0]["allow_below_floor"]


def test_software_that_nobody_maintains_is_warned_about(documents: dict[str, Any], planner: Any, namer: Any) -> None:
    """In each run, also in one that is about another stack."""
    documents["electrum"]["unmaintained"] = "April 2022"
    warning = "Stack electrum is software that nobody maintains since April 2022: faults in it will not be mended"
    assert planner("electrum").plan(ProjectState(), namer)["warnings"] == [warning]
    found = ProjectState(stacks=_running(*ELECTRUM))
    assert planner("tor").plan(found, namer)["warnings"] == [warning]
    assert planner("tor").plan(ProjectState(), namer)["warnings"] == []


# -- the first run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(planner: Any, namer: Any) -> dict[str, Any]:
    first = planner("electrum", subnet="10.80.16.0/20", endpoint="/run/lxd.socket")
    first.check()
    return dict(first.plan(ProjectState(), namer))


def test_the_plan_is_plain_data(fresh: dict[str, Any]) -> None:
    assert json.loads(json.dumps(fresh)) == fresh


def test_frame(fresh: dict[str, Any]) -> None:
    assert fresh["project"] == "bcm-local-regtest"
    assert fresh["domain"] == "local-regtest.bcm"
    assert fresh["network"] == {
        "name": "local-r-net",
        "subnet": "10.80.16.0/21",
        "gateway": "10.80.16.1",
    }
    assert fresh["uplink"] == {
        "name": "local-r-up",
        "subnet": "10.80.24.0/24",
        "gateway": "10.80.24.1",
    }
    assert fresh["builders"] == {"name": "local-r-bld", "subnet": "10.80.25.0/24", "gateway": "10.80.25.1"}
    assert fresh["requested"] == ["electrum"]
    assert fresh["stacks"] == list(fresh["instances"]) == ELECTRUM
    assert fresh["warnings"] == fresh["exceptions"] == []


def test_an_instance_knows_its_neighbours(fresh: dict[str, Any]) -> None:
    bitcoind, electrs, electrum = (fresh["instances"][name] for name in ("bitcoind", "electrs", "electrum"))
    assert electrs["needs"] == {
        "bitcoind": {
            "rpc": {"address": bitcoind["address"], "port": 18443, "protocol": "tcp", "tls": None},
            "p2p": {"address": bitcoind["address"], "port": 18444, "protocol": "tcp", "tls": None},
        }
    }
    assert electrs["consumers"] == {
        "electrum": {"address": electrum["address"], "services": ["electrum"], "permissions": {}, "events": []}
    }
    assert bitcoind["consumers"] == {
        "electrs": {
            "address": electrs["address"],
            "services": ["rpc", "p2p"],
            "permissions": {"rpc_calls": ["getblock"]},
            "events": [],
        }
    }
    rpc = {"port": 18443, "protocol": "tcp", "tls": None, "listen": bitcoind["address"], "host_port": None,
           "grpc": False, "lan": None}
    assert bitcoind["services"]["rpc"] == rpc
    assert bitcoind["volumes"]["data"]["volume"] == "bitcoind-data"
    assert (electrum["requested"], electrs["requested"]) == (True, False)
    assert bitcoind["artifact"] == {"source": "release", "kind": "archive", "name": "bitcoin-core", "version": "31.1"}
    assert electrs["artifact"]["version"] is None


@pytest.mark.parametrize(
    ("tls", "certified", "trusting", "usage"),
    [
        (None, [], [], {}),
        ("server", ["electrs"], ["electrs", "electrum"], {"electrs": ["server"]}),
        ("own", ["electrs"], ["electrs", "electrum"], {"electrs": ["server"]}),
        ("mutual", ["electrs", "electrum"], ["electrs", "electrum"], {"electrs": ["server"], "electrum": ["client"]}),
    ],
)
def test_tls_of_a_service_gives_certificates_to_both_sides(
    planner: Any,
    documents: Any,
    namer: Any,
    tls: str | None,
    certified: list[str],
    trusting: list[str],
    usage: dict[str, list[str]],
) -> None:
    documents["electrs"]["services"]["electrum"].update({"tls": tls} if tls else {})
    plan = planner("electrum").plan(ProjectState(), namer)
    instances = plan["instances"]
    assert [name for name in ELECTRUM if instances[name]["has_certificate"]] == certified
    assert [name for name in ELECTRUM if instances[name]["needs_ca"]] == trusting
    assert [image["stack"] for image in plan["images"] if image["has_certificate"]] == certified
    address = instances["electrs"]["address"]
    # a program that speaks TLS itself has no proxy in front of it
    assert instances["electrs"]["services"]["electrum"]["listen"] == (address if tls in (None, "own") else "127.0.0.1")
    assert instances["electrum"]["needs"]["electrs"]["electrum"]["tls"] == tls
    assert {item["name"]: item["usage"] for item in plan["certificates"]} == usage
    for item in plan["certificates"]:
        assert item["names"] == [f"{item['name']}.local-regtest.bcm", instances[item["name"]]["address"]]


@pytest.mark.parametrize(
    ("tls", "other", "shows"),
    [(None, None, False), ("server", None, True), ("own", None, "own"), ("own", "server", True), ("own", "own", "own")],
)
def test_instance_that_had_a_proxy_gets_another_image_without_it(
    planner: Any, documents: Any, tls: str | None, other: str | None, shows: bool | str
) -> None:
    contents = {}

    def note(stack: Any, values: Any, _architecture: str) -> tuple[str, str]:
        contents[stack.name] = values["shows"]
        return "b" * 64, "c" * 64

    documents["electrs"]["services"]["electrum"].update({"tls": tls} if tls else {})
    documents["electrs"]["services"]["web"] = {"protocol": "tcp", "port": 80, **({"tls": other} if other else {})}
    planner("electrs").plan(ProjectState(), note)
    assert contents["electrs"] == shows


def _with_onions(documents: dict[str, Any]) -> None:
    documents["tor"]["onion_gateway"] = True
    documents["electrs"]["needs"]["tor"] = []
    documents["electrs"]["services"]["electrum"]["onion"] = {"port": 50001, "listen": 50002}
    onion = {"public": "nodes look for each other", "when": "bitcoind_serve", "pow": True, "max_streams": 9}
    documents["bitcoind"]["services"]["p2p"]["onion"] = onion


@pytest.mark.parametrize("serves", [True, False])
def test_onion_services(planner: Any, documents: Any, namer: Any, serves: bool) -> None:
    _with_onions(documents)
    plan = planner("electrum", variables={"bitcoind_serve": serves}).plan(ProjectState(), namer)
    bitcoind, electrs = (plan["instances"][name] for name in ("bitcoind", "electrs"))
    served = {
        "name": "bitcoind-p2p",
        "ports": [{"port": 18444, "targets": [f"{bitcoind['address']}:18444"]}],
        "authorization": False, "pow": True, "intro_defense": False, "max_streams": 9,
    }  # fmt: skip
    kept = {
        "name": "electrs-electrum",
        "ports": [{"port": 50001, "targets": [f"{electrs['address']}:50002"]}],
        "authorization": True, "pow": False, "intro_defense": False, "max_streams": 0,
    }  # fmt: skip
    assert plan["onions"] == {"gateway": "tor", "services": [*[served] * serves, kept], "known": []}
    fact = {"name": "electrs-electrum", "port": 50001, "listen": 50002, "public": None}
    assert electrs["onions"] == {"electrum": fact}
    assert list(bitcoind["onions"]) == ["p2p"] * serves
    assert ("tor to bitcoind p2p (onion)" in _edges(plan)) == serves
    rules = [rule for item in plan["resources"] if item["kind"] == "network_acl" for rule in item["egress"]]
    (rule,) = (rule for rule in rules if rule["description"] == "tor to electrs electrum (onion)")
    assert rule["source"] == f"{plan['instances']['tor']['address']}/32"
    assert (rule["destination"], rule["destination_port"]) == (f"{electrs['address']}/32", "50002")


def test_onion_service_leads_to_the_program_that_speaks_tls_itself(planner: Any, documents: Any, namer: Any) -> None:
    _with_onions(documents)
    documents["electrs"]["services"]["electrum"].update({"tls": "own", "onion": {}})
    plan = planner("electrum", variables={"bitcoind_serve": False}).plan(ProjectState(), namer)
    (service,) = plan["onions"]["services"]
    address = plan["instances"]["electrs"]["address"]
    assert service["ports"] == [{"port": 60401, "targets": [f"{address}:60401"]}]
    assert plan["instances"]["electrs"]["services"]["electrum"]["listen"] == address


def test_onion_services_go_with_their_stack(planner: Any, documents: Any, namer: Any) -> None:
    _with_onions(documents)
    serves = {"bitcoind_serve": True}
    found = ProjectState(stacks=_running(*ELECTRUM, requested=("electrum", "bitcoind")))
    for state in ("stopped", "absent"):
        plan = planner("electrum", state=state, variables=serves).plan(found, namer)
        assert plan["onions"]["gateway"] == "tor"
        assert [item["name"] for item in plan["onions"]["services"]] == ["bitcoind-p2p"]
        plan = planner("tor", state=state, variables=serves).plan(found, namer)
        assert plan["onions"] == {"gateway": None, "services": [], "known": []}
    idle = ProjectState(stacks={**found.stacks, "tor": Deployed(requested=False, running=False)})
    assert planner("electrum", state="absent", variables=serves).plan(idle, namer)["onions"]["gateway"] is None


@pytest.mark.parametrize(
    ("chain", "given", "provider", "vault"),
    [
        ("regtest", None, "software", None),
        ("mainnet", None, "trezor", "local"),
        ("regtest", "trezor", "trezor", "local"),
    ],
)
def test_chain_decides_where_the_root_key_is_kept(
    planner: Any, namer: Any, chain: str, given: str | None, provider: str, vault: str | None
) -> None:
    planned = planner("tor", chain=chain, ca_provider=given)
    planned.check()
    plan = planned.plan(ProjectState(), namer)
    assert (plan["ca_provider"], plan["vault_id"]) == (provider, vault)


def test_images(fresh: dict[str, Any]) -> None:
    assert [image["stack"] for image in fresh["images"]] == ELECTRUM
    bitcoind = fresh["images"][1]
    assert bitcoind["alias"] == f"bcm/bitcoind/{bitcoind['hash'][:12]}"
    assert bitcoind["base_alias"] == "bcm/base/bbbbbbbbbbbb"
    assert fresh["instances"]["bitcoind"]["image"] == {"alias": bitcoind["alias"], "hash": bitcoind["hash"]}
    assert fresh["images"][0]["version_command"] == ["tor", "--version"]


def test_undefined_image_variable_is_refused(planner: Any, namer: Any) -> None:
    forgetful = planner("bitcoind", variables={"bitcoind_dbcache": None})
    with pytest.raises(BcmError, match="image.variables: bitcoind_dbcache is not set: give it a value in .*/defaults/"):
        forgetful.plan(ProjectState(), namer)


def test_the_artifact_decides_the_images_name(planner: Any) -> None:
    def told(**variables: Any) -> Any:
        asked: dict[str, Any] = {}

        def remember(stack: Any, values: Any, _architecture: str) -> tuple[str, str]:
            asked[stack.name] = values
            return "b" * 64, "c" * 64

        plan = planner("bitcoind", variables=variables).plan(ProjectState(architecture="x86_64"), remember)
        return asked["bitcoind"], plan["images"][1]["artifact"]

    values, artifact = told()
    signers = [2, "A" * 40, "B" * 40]
    pins = {"kind": "archive", "name": "bitcoin-core", "version": "31.1", "digest": "1" * 64, "signers": signers}
    assert values == {"bitcoind_dbcache": 450, "artifact": pins, "shows": False}
    assert artifact["files"]["x86_64"]["url"] == "https://example.org/31.1/bitcoin-31.1.tar.gz"
    assert artifact["signed"]["signatures"] == [
        "https://example.org/31.1/alice.asc",
        "https://example.org/31.1/bob.asc",
    ]
    assert artifact["signed"]["wkd"] == {"bob": "bob@example.org"}
    values, artifact = told(bitcoind_source="debian")
    nothing = dict.fromkeys(("version", "digest", "signers"))
    assert values["artifact"] == {"kind": "deb", "name": "bitcoin-knots", **nothing}
    other = {"x86_64": {"url": "https://example.org/{version}.tgz", "sha512": "2" * 128}}
    values, artifact = told(bcm_artifacts={"bitcoind": {"version": "32.0", "files": other}})
    assert values["artifact"] == {**pins, "version": "32.0", "digest": "2" * 128}
    assert artifact["files"]["x86_64"]["url"] == "https://example.org/32.0.tgz"


def test_a_stack_with_the_artifact_of_another_chooses_and_changes_for_itself(
    documents: dict[str, Any], planner: Any, namer: Any
) -> None:
    documents["electrs"]["artifact"] = {"of": "bitcoind"}

    def made_of(**variables: Any) -> list[tuple[str, str | None]]:
        plan = planner("electrs", variables=variables).plan(ProjectState(architecture="x86_64"), namer)
        _tor, bitcoind, electrs = plan["images"]
        assert electrs["keys_path"] == bitcoind["keys_path"] == f"{bitcoind['role_path']}/meta/keys"
        assert electrs["role_path"] != bitcoind["role_path"]
        assert (electrs["floor"], electrs["version_command"]) == (bitcoind["floor"], bitcoind["version_command"])
        return [(image["artifact"]["source"], image["artifact"]["version"]) for image in (bitcoind, electrs)]

    assert made_of() == [("release", "31.1"), ("release", "31.1")]
    assert made_of(electrs_source="debian") == [("release", "31.1"), ("debian", None)]
    assert made_of(bcm_artifacts={"bitcoind": {"version": "32.0"}}) == [("release", "32.0"), ("release", "31.1")]
    assert made_of(bcm_artifacts={"electrs": {"version": "32.0"}}) == [("release", "31.1"), ("release", "32.0")]


# -- sources that are preferred to others ------------------------------------------------------------------------------

BEST = {"bitcoind_source": ["release", "debian"]}
CUT = "example.org: no connection"


def _nothing_but_debian(release: Any, _image: str) -> str | None:
    return CUT if release.kind != "deb" else None


def _sources(plan: dict[str, Any]) -> dict[str, str]:
    return {item["stack"]: item["source"] for item in plan["sources"]}


def test_the_first_source_in_reach_is_taken_and_remembered(planner: Any) -> None:
    asked = []

    def remember(stack: Any, values: Any, _architecture: str) -> tuple[str, str]:
        return "b" * 64, hashlib.sha256(json.dumps([stack.name, values], sort_keys=True).encode()).hexdigest()

    def within_reach(release: Any, image: str) -> None:
        asked.append((release.stack, release.source, image))

    best = planner("bitcoind", variables=BEST)
    best.check()
    plan = best.plan(ProjectState(), remember, within_reach)
    assert plan["sources"] == [{"stack": "bitcoind", "source": "release", "why": "the first of release, debian"}]
    assert plan["images"][1]["artifact"]["source"] == plan["instances"]["bitcoind"]["artifact"]["source"] == "release"
    assert asked == [("bitcoind", "release", plan["images"][1]["hash"])]

    cut = planner("bitcoind", variables=BEST).plan(ProjectState(), remember, _nothing_but_debian)
    why = f"release cannot be had ({CUT})"
    assert cut["sources"] == [{"stack": "bitcoind", "source": "debian", "why": why}]
    assert cut["images"][1]["hash"] != plan["images"][1]["hash"]
    assert cut["images"][1]["package"] == "bitcoin-knots"
    # before anything is baked
    project = cut["builder_resources"][0]
    assert project == cut["resources"][0]
    found = ProjectState(sources=Source.read(project["config"]))

    again = planner("bitcoind", variables=BEST).plan(found, remember, within_reach)
    assert len(asked) == 1, "what was taken before needs no try"
    assert (again["sources"], again["builder_resources"]) == (cut["sources"], cut["builder_resources"])
    # unless it is not wanted any more
    other = planner("bitcoind", variables={"bitcoind_source": "release"}).plan(found, remember, within_reach)
    assert other["sources"] == [{"stack": "bitcoind", "source": "release", "why": "bitcoind_source says so"}]


def test_version_that_is_older_than_one_that_ran_is_refused(
    documents: dict[str, Any], planner: Any, namer: Any
) -> None:
    """If the stack says that it cannot read what the newer one wrote."""
    older = {"bcm_artifacts": {"bitcoind": {"version": "31.0"}}, "bitcoind_source": "release"}
    allowed = {"variables": older, "allow_below_floor": ["bitcoind"]}

    def state(plan: dict[str, Any]) -> ProjectState:
        return ProjectState(versions=read_versions(plan["builder_resources"][0]["config"]))

    documents["bitcoind"]["artifact"]["forward_only"] = "its blocks are in a newer form"
    found = state(planner("bitcoind").plan(ProjectState(), namer))
    assert found.versions == {"bitcoind": "31.1"}
    assert state(planner("bitcoind").plan(found, namer)).versions == found.versions
    with pytest.raises(BcmError) as raised:
        planner("bitcoind", **allowed).plan(found, namer)
    assert str(raised.value) == (
        "Version 31.0 of bitcoin-core is older than 31.1, which has run here: its blocks are in a newer form: nothing "
        "was changed; choose 31.1 or a newer one"
    )
    # nothing ran yet
    assert state(planner("bitcoind", **allowed).plan(ProjectState(), namer)).versions == {"bitcoind": "31.0"}


def test_run_of_other_stacks_remembers_source_and_version(planner: Any, namer: Any) -> None:
    """As long as there is an instance or a volume."""
    versions, sources = {"electrs": "0.11.1"}, {"electrs": Source("crates", "it was in reach")}

    def remembered(**there: Any) -> dict[str, str]:
        found = ProjectState(versions=versions, sources=sources, **there)
        project = planner("bitcoind").plan(found, namer)["builder_resources"][0]
        return {key: value for key, value in project["config"].items() if key.endswith(".electrs")}

    known = remembered(stacks=_running("tor", "bitcoind", "electrs"))
    assert (read_versions(known), Source.read(known)) == (versions, sources)
    assert remembered(volumes=[Volume("default", "electrs-data")]) == known
    assert remembered() == {}


def test_a_source_that_the_machine_cannot_run_is_passed_over(planner: Any, namer: Any) -> None:
    plan = planner("bitcoind", variables=BEST).plan(ProjectState(architecture="s390x"), namer)
    assert _sources(plan) == {"bitcoind": "debian"}
    assert "bitcoin-core 31.1 is not made for s390x" in plan["sources"][0]["why"]


def test_the_last_source_needs_no_try(planner: Any, namer: Any) -> None:
    plan = planner("bitcoind", variables={"bitcoind_source": ["debian", "release"]}).plan(
        ProjectState(), namer, lambda _release, _image: CUT
    )
    assert _sources(plan) == {"bitcoind": "release"}


def test_source_that_the_inventory_changes_comes_first(planner: Any, namer: Any) -> None:
    changed = {**BEST, "bcm_artifacts": {"bitcoind": {"version": "32.0"}}}
    plan = planner("bitcoind", variables=changed).plan(ProjectState(), namer, _nothing_but_debian)
    assert (_sources(plan), plan["images"][1]["artifact"]["version"]) == ({"bitcoind": "release"}, "32.0")


@pytest.mark.parametrize("chain", ["mainnet", "testnet3", "testnet4", "signet"])
@pytest.mark.parametrize("sources", [["release", "debian"], ["release"], []])
def test_on_other_chains_one_source_is_named(planner: Any, chain: str, sources: list[str]) -> None:
    strict = planner("bitcoind", chain=chain, variables={"bitcoind_source": sources})
    with pytest.raises(
        BcmError, match=f"bitcoind_source: a list of sources is for regtest alone, on {chain} .*: name "
    ):
        strict.check()
    planner("bitcoind", chain=chain, variables={"bitcoind_source": "debian"}).check()


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ([], r"bitcoind_source is \[\]: write one of release, debian"),
        (["release", "release"], "each once and the best first"),
        (["debian", 1], "each once and the best first"),
        ({"release": "debian"}, "each once and the best first"),
        (True, "each once and the best first"),
        (["debian", "git"], 'Unknown source of bitcoind "git"'),
        ("release,debian", 'Unknown source of bitcoind "release,debian"'),
    ],
)
def test_invalid_sources_are_refused(planner: Any, sources: Any, complaint: str) -> None:
    with pytest.raises(BcmError, match=complaint):
        planner("bitcoind", variables={"bitcoind_source": sources}).check()


def test_a_package_of_another_suite(documents: Any, request: pytest.FixtureRequest) -> None:
    documents["electrum"]["artifact"]["sources"]["debian"]["suite"] = "trixie-backports"
    asked = {}

    def remember(stack: Any, values: Any, _architecture: str) -> tuple[str, str]:
        asked[stack.name] = values["artifact"]
        return "b" * 64, "c" * 64

    plan = request.getfixturevalue("planner")("electrum").plan(ProjectState(), remember)
    image = plan["images"][-1]
    assert (image["package"], image["artifact"]["suite"]) == ("electrum/trixie-backports", "trixie-backports")
    assert asked["electrum"]["suite"] == "trixie-backports"
    assert "suite" not in asked["electrs"]


def test_a_release_that_is_not_made_for_the_machine(planner: Any, namer: Any) -> None:
    with pytest.raises(BcmError, match="bitcoin-core 31.1 is not made for s390x, only for x86_64: use another machine"):
        planner("bitcoind").plan(ProjectState(architecture="s390x"), namer)


def test_repository_gets_the_allowed_versions(documents: dict[str, Any], request: pytest.FixtureRequest) -> None:
    repository = {"url": "https://deb.example.org/x", "suite": "trixie"}
    own = {"kind": "apt", "name": "x", "licence": "MIT", "repository": repository, "signers": {"a": "A" * 40}}
    documents["tor"]["artifact"]["sources"] = {"own": own}
    documents["tor"]["artifact"]["version_command"] = ["x", "--version"]
    documents["tor"]["artifact"]["floor"] = {"versions": ["2.0"], "why": "it is safe"}
    planner = request.getfixturevalue("planner")
    values = {}

    def remember(stack: Any, found: dict[str, Any], _architecture: str) -> tuple[str, str]:
        values.update(found)
        return "b" * 64, "c" * 64

    def told(architecture: str, **fields: Any) -> dict[str, Any]:
        plan = planner("tor", **fields).plan(ProjectState(architecture=architecture), remember)
        found: dict[str, Any] = plan["images"][0]["artifact"]["repository"]
        assert list(values["artifact"]["floor"]) == list(found["floor"])
        return found

    assert told("aarch64") == {**repository, "onion": None, "floor": ["2.0"], "architectures": ["aarch64"]}
    assert told("x86_64", allow_below_floor=["tor"])["floor"] == []
    with pytest.raises(BcmError, match="x is not made for s390x, only for x86_64, aarch64: use another machine"):
        told("s390x")


def test_a_secret_for_each_consumer_of_each_service(fresh: dict[str, Any]) -> None:
    assert fresh["secrets"] == [
        "bitcoind/p2p/electrs",
        "bitcoind/rpc/electrs",
        "electrs/electrum/electrum",
        "tor/socks/bitcoind",
    ]


def test_resources_of_the_first_run(fresh: dict[str, Any], by_kind: Any) -> None:
    assert by_kind(fresh["resources"]) == [
        ("project", "bcm-local-regtest", "present"),
        ("network", "local-r-bld", "absent"),
        ("network_acl", "local-r-net", "present"),
        ("network", "local-r-net", "present"),
        ("network_acl", "local-r-up", "present"),
        ("network", "local-r-up", "present"),
        ("storage_volume", "tor-data", "present"),
        ("storage_volume", "bitcoind-data", "present"),
        ("storage_volume", "electrs-data", "present"),
        *(("instance", name, "started") for name in ELECTRUM),
    ]
    project, builders = fresh["builder_resources"]
    assert project == fresh["resources"][0]
    assert (builders["name"], builders["config"]["ipv4.nat"]) == ("local-r-bld", "true")


def test_the_network_of_builders_stays_as_long_as_one_is_at_work(planner: Any, namer: Any, by_kind: Any) -> None:
    builders = ["build-x-01234567", "build-y-01234567"]
    plan = planner("tor").plan(ProjectState(builders=builders, left_builders=builders[:1]), namer)
    resources = by_kind(plan["resources"])
    assert "local-r-bld" not in {name for _kind, name, _state in resources}
    assert [(name, state) for _kind, name, state in resources if name in builders] == [(builders[0], "absent")]


def test_builders_that_a_killed_run_left_go_with_their_network(planner: Any, namer: Any, by_kind: Any) -> None:
    left = ["build-x-01234567"]
    plan = planner("tor").plan(ProjectState(builders=left, left_builders=left), namer)
    gone = [item for item in by_kind(plan["resources"]) if item[2] == "absent"]
    assert gone == [("instance", left[0], "absent"), ("network", "local-r-bld", "absent")]


def test_the_acl_lets_through_what_the_plan_lists_and_nothing_else(fresh: dict[str, Any]) -> None:
    acl = fresh["resources"][2]
    address = {name: fresh["instances"][name]["address"] for name in ELECTRUM}
    assert acl["ingress"] == []
    assert [(rule["source"], rule["destination"], rule["destination_port"]) for rule in acl["egress"]] == [
        (f"{address['bitcoind']}/32", f"{address['tor']}/32", "9050"),
        (f"{address['electrs']}/32", f"{address['bitcoind']}/32", "18443"),
        (f"{address['electrs']}/32", f"{address['bitcoind']}/32", "18444"),
        (f"{address['electrum']}/32", f"{address['electrs']}/32", "60401"),
    ]
    assert {(rule["action"], rule["state"], rule["protocol"]) for rule in acl["egress"]} == {
        ("allow", "enabled", "tcp")
    }


@pytest.fixture
def through_tor(documents: dict[str, Any], planner: Any) -> Any:
    """A planner whose tor is the proxy of downloads."""
    documents["tor"]["services"]["tunnel"] = {"protocol": "tcp", "port": 9080}
    documents["tor"]["download_proxy"] = {"socks": "socks", "tunnel": "tunnel"}
    return partial(planner, subnet="10.80.16.0/20")


def test_tor_comes_first_and_the_others_download_through_it(through_tor: Any, namer: Any, by_kind: Any) -> None:
    plan = through_tor("bitcoind", chain="mainnet").plan(ProjectState(), namer)
    assert (plan["download_proxy"]["stack"], plan["download_proxy"]["stacks"]) == ("tor", ["tor"])
    first = plan["download_proxy"]["resources"]
    assert [item for item in by_kind(first) if item[0] == "instance"] == [("instance", "tor", "started")]
    tor, bitcoind = plan["images"]
    assert tor["downloads"] == {"proxy": None, "socks": None, "environment": {}, "nic": None}
    way, address = bitcoind["downloads"], plan["instances"]["tor"]["address"]
    assert (way["proxy"], way["socks"]) == ("tor", f"{address}:9050")
    assert way["environment"] == {"https_proxy": f"http://{address}:9080", "HTTPS_PROXY": f"http://{address}:9080"}
    assert way["nic"].items() >= {"network": "local-m-net", "security.port_isolation": "true"}.items()
    assert plan["instances"]["tor"]["builders"] == "10.80.23.0/24"
    assert IPv4Address(way["nic"]["ipv4.address"]) in IPv4Network("10.80.23.0/24")


def test_a_builder_reaches_tor_while_it_is_there_and_nothing_else(through_tor: Any, namer: Any) -> None:
    plan = through_tor("bitcoind", chain="mainnet").plan(ProjectState(), namer)
    builder = f"{plan['images'][1]['downloads']['nic']['ipv4.address']}/32"
    tor = f"{plan['instances']['tor']['address']}/32"
    first, later = (
        next(item for item in found if (item["kind"], item["name"]) == ("network_acl", "local-m-net"))
        for found in (plan["download_proxy"]["resources"], plan["resources"])
    )
    of_builder = [rule for rule in first["egress"] if rule["source"] == builder]
    assert [(rule["destination"], rule["destination_port"]) for rule in of_builder] == [(tor, "9050"), (tor, "9080")]
    assert [rule for rule in first["egress"] if rule not in of_builder] == later["egress"]
    network = next(
        item for item in plan["download_proxy"]["resources"] if item["name"] == "local-m-net" and "type" in item
    )
    assert network["config"]["ipv4.nat"] == "false"


@pytest.mark.parametrize(
    ("chain", "asked", "carried"),
    [("regtest", None, False), ("regtest", True, True), ("mainnet", None, True), ("mainnet", False, False)],
)
def test_when_tor_carries_downloads(
    through_tor: Any, namer: Any, chain: str, asked: bool | None, carried: bool
) -> None:
    plan = through_tor("bitcoind", chain=chain, downloads_through_tor=asked).plan(ProjectState(), namer)
    assert (plan["download_proxy"] is not None) == carried
    assert {image["downloads"] is not None for image in plan["images"]} == {carried}
    assert (plan["instances"]["tor"]["builders"] is not None) == carried
    warned = chain != "regtest" and not carried
    assert any("bcm_downloads_through_tor" in warning for warning in plan["warnings"]) == warned


def test_where_tor_carries_downloads_nothing_is_tried_past_it(through_tor: Any) -> None:
    asked = through_tor("bitcoind", downloads_through_tor=True, variables={"bitcoind_source": ["release", "debian"]})
    with pytest.raises(BcmError, match="without bcm_downloads_through_tor, .*: name one in the inventory, such as"):
        asked.check()


def test_stack_that_needs_no_tor_is_downloaded_through_tor(documents: Any, through_tor: Any, namer: Any) -> None:
    documents["bitcoind"]["needs"] = {}
    plan = through_tor("bitcoind", chain="mainnet").plan(ProjectState(), namer)
    assert set(plan["stacks"]) == {"tor", "bitcoind"}
    assert plan["requested"] == ["bitcoind"]


def test_tor_is_restarted_once(through_tor: Any, namer: Any, by_kind: Any) -> None:
    plan = through_tor("tor", chain="mainnet", state="restarted").plan(ProjectState(), namer)
    assert ("instance", "tor", "started") in by_kind(plan["download_proxy"]["resources"])
    assert ("instance", "tor", "restarted") in by_kind(plan["resources"])


def test_only_tor_has_a_second_interface(fresh: dict[str, Any]) -> None:
    instances = {item["name"]: item for item in fresh["resources"] if item["kind"] == "instance"}
    assert [name for name, item in instances.items() if "eth1" in item["devices"]] == ["tor"]
    uplink = instances["tor"]["devices"]["eth1"]
    assert (uplink["network"], uplink["ipv4.address"]) == ("local-r-up", fresh["instances"]["tor"]["uplink"]["address"])
    for name, item in instances.items():
        nic = item["devices"]["eth0"]
        assert nic["ipv4.address"] == fresh["instances"][name]["address"]
        guards = ("port_isolation", "mac_filtering", "ipv4_filtering", "ipv6_filtering")
        assert {nic[f"security.{key}"] for key in guards} == {"true"}
    assert instances["electrs"]["devices"]["data"] == {
        "type": "disk",
        "pool": "default",
        "source": "electrs-data",
        "path": "/var/lib/electrs",
    }
    assert instances["electrum"]["config"]["user.bcm.requested"] == "true"
    assert instances["electrs"]["config"]["user.bcm.requested"] == "false"


def test_every_instance_has_limits(fresh: dict[str, Any]) -> None:
    for item in fresh["resources"]:
        if item["kind"] == "instance":
            limits = fresh["instances"][item["name"]]["limits"]
            assert item["config"]["limits.memory"] == limits["memory"]
            assert item["config"]["limits.cpu"] == str(limits["processors"])
            assert item["config"]["limits.processes"] == str(limits["processes"])
            assert item["devices"]["root"]["size"] == limits["root"]


def test_limits_of_the_inventory(planner: Any, namer: Any) -> None:
    given = {"bitcoind_memory": "3 GiB", "bitcoind_processors": "1", "bitcoind_processes": 700}
    given["bitcoind_root_size"] = "9GiB"
    plan = planner("bitcoind", variables=given).plan(ProjectState(), namer)
    wanted = {"memory": "3GiB", "processors": 1, "processes": 700, "root": "9GiB"}
    assert plan["instances"]["bitcoind"]["limits"] == wanted
    assert plan["warnings"] == []


def test_no_instance_gets_more_than_the_host_has(planner: Any, namer: Any) -> None:
    small = ProjectState(host=Host(memory=2 * 2**30, processors=1))
    plan = planner("bitcoind", variables={"bitcoind_memory": "64GiB"}).plan(small, namer)
    limits = plan["instances"]["bitcoind"]["limits"]
    assert (limits["memory"], limits["processors"]) == ("1536MiB", 1)
    assert plan["warnings"] == ["bitcoind is to have memory 64GiB, and gets 1536MiB: the host has no more to give"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("memory", value) for value in ("lots", 5, "0GiB", "-1GiB", "1.5GiB", "50%")),
        *(("root_size", value) for value in ("", True, "1 GB")),
        *(("processors", value) for value in (0, -1, 1.5, True, "two", "", "1" * 5000)),
        *(("processes", value) for value in (99, "many", [500])),
    ],
)
def test_invalid_limit_variables_are_refused(planner: Any, namer: Any, variable: str, value: Any) -> None:
    with pytest.raises(BcmError, match=f"^Variable bitcoind_{variable}"):
        planner("bitcoind", variables={f"bitcoind_{variable}": value}).plan(ProjectState(), namer)


def test_the_network_has_no_nat_and_rejects_by_default(fresh: dict[str, Any]) -> None:
    config = fresh["resources"][3]["config"]
    assert config["ipv4.nat"] == "false" and config["ipv6.address"] == "none"
    assert config["ipv4.address"] == "10.80.16.1/21"
    assert config["security.acls.default.egress.action"] == config["security.acls.default.ingress.action"] == "reject"
    assert "dhcp-option=121,10.80.16.1/32,0.0.0.0,10.80.16.0/21,10.80.16.1" in config["raw.dnsmasq"].splitlines()


def test_addresses_and_names_are_the_plans_alone(fresh: dict[str, Any]) -> None:
    resources = {item["name"]: item for item in [*fresh["resources"], *fresh["builder_resources"]]}
    network = resources["local-r-net"]["config"]
    # no address to choose is left but the host's own, which it keeps
    assert network["ipv4.dhcp.ranges"] == "10.80.16.1-10.80.16.1"
    lines = network["raw.dnsmasq"].splitlines()
    address = fresh["instances"]["electrs"]["address"]
    assert f"host-record=electrs.local-regtest.bcm,{address}" in lines
    for config in (network, resources["local-r-bld"]["config"]):
        assert {"dhcp-ignore=tag:!known", "dhcp-ignore-names"} <= set(config["raw.dnsmasq"].splitlines())


def test_only_tor_may_send_outside(fresh: dict[str, Any]) -> None:
    acl, uplink = fresh["resources"][4:6]
    tor = fresh["instances"]["tor"]["uplink"]
    assert (tor["user"], tor["gateway"], tor["subnet"]) == ("debian-tor", "10.80.24.1", "10.80.24.0/24")
    (way,) = tor["rules"]
    (rule,) = acl["egress"]
    assert (rule["source"], rule["destination"]) == (f"{tor['address']}/32", way["to"])
    assert (rule["protocol"], way["protocol"]) == ("tcp", "tcp")
    assert rule["destination_port"] == way["port"] == "1-52,54-65535"
    assert acl["ingress"] == []
    config = uplink["config"]
    assert (config["ipv4.nat"], config["ipv4.dhcp"], config["raw.dnsmasq"]) == ("true", "false", "port=0")
    assert config["security.acls"] == "local-r-up"
    assert config["security.acls.default.egress.action"] == config["security.acls.default.ingress.action"] == "reject"


def test_an_exception_opens_what_it_says_and_is_warned_about(planner: Any, namer: Any) -> None:
    other = {**EXCEPTION, "stack": "lnd", "to": "192.0.2.7", "protocol": "udp"}
    plan = planner("electrum", exceptions=[EXCEPTION, other]).plan(ProjectState(), namer)
    bitcoind = plan["instances"]["bitcoind"]
    why = "bitcoind by exception: peers of a friend"
    rule = {"protocol": "tcp", "to": "203.0.113.0/24", "port": "8333", "why": why}
    assert (bitcoind["uplink"]["user"], bitcoind["uplink"]["rules"]) == (None, [rule])
    assert plan["exceptions"] == bitcoind["exceptions"] == [EXCEPTION]
    assert plan["warnings"] == [
        "bitcoind reaches 203.0.113.0/24 tcp 8333 without Tor: peers of a friend (bcm_exceptions)"
    ]
    devices = {item["name"]: item["devices"] for item in plan["resources"] if item["kind"] == "instance"}
    assert [name for name in ELECTRUM if "eth1" in devices[name]] == ["tor", "bitcoind"]
    _world, excepted = plan["resources"][4]["egress"]
    assert excepted == {
        "action": "allow",
        "state": "enabled",
        "description": "bitcoind by exception: peers of a friend",
        "source": f"{bitcoind['uplink']['address']}/32",
        "destination": "203.0.113.0/24",
        "protocol": "tcp",
        "destination_port": "8333",
    }
    # it lasts while other stacks go, and no longer
    found = _running(*ELECTRUM, requested=("electrum", "bitcoind"))
    rest = planner("electrum", state="absent", exceptions=[EXCEPTION]).plan(ProjectState(stacks=found), namer)
    assert rest["exceptions"] == [EXCEPTION] and rest["resources"][-2]["egress"][1] == excepted
    assert (
        planner("bitcoind", state="absent", exceptions=[EXCEPTION]).plan(ProjectState(stacks=found), namer)[
            "exceptions"
        ]
        == []
    )


def test_every_resource_names_its_data_center_and_chain(fresh: dict[str, Any]) -> None:
    for item in fresh["resources"]:
        if item["state"] == "absent":
            continue
        assert item["config"]["user.bcm.datacenter"] == "local" and item["config"]["user.bcm.chain"] == "regtest"


def test_two_chains_of_a_data_center_share_nothing(planner: Any, namer: Any) -> None:
    here = planner("lnd").plan(ProjectState(), namer)
    there = planner("lnd", chain="mainnet", software_ca_chains=["mainnet"]).plan(ProjectState(), namer)
    owned = [{(item["kind"], item["project"], item["name"]) for item in plan["resources"]} for plan in (here, there)]
    assert owned[0].isdisjoint(owned[1])
    assert here["network"]["subnet"] != there["network"]["subnet"]
    assert there["instances"]["bitcoind"]["services"]["rpc"]["port"] == 8332
    assert there["instances"]["bitcoind"]["volumes"]["data"]["size"] == "900GiB"


def test_size_of_a_volume_is_chosen_by_a_variable(planner: Any, namer: Any) -> None:
    plan = planner("bitcoind", variables={"bitcoind_data_size": "20GiB"}).plan(ProjectState(), namer)
    volume = next(item for item in plan["resources"] if item["name"] == "bitcoind-data")
    assert volume["config"]["size"] == plan["instances"]["bitcoind"]["volumes"]["data"]["size"] == "20GiB"
    with pytest.raises(BcmError, match='Variable bitcoind_data_size: "20 gigs" is not a size'):
        planner("bitcoind", variables={"bitcoind_data_size": "20 gigs"}).plan(ProjectState(), namer)


# -- later runs --------------------------------------------------------------------------------------------------------


def test_plan_of_a_running_data_center_is_the_first_plan(fresh: dict[str, Any], planner: Any, namer: Any) -> None:
    again = planner("electrum", subnet="10.80.16.0/20", endpoint="/run/lxd.socket")
    again.check()
    assert again.plan(ProjectState(stacks=_running(*ELECTRUM, requested=("electrum",))), namer) == fresh


def test_running_stacks_keep_their_rules_and_are_left_alone(planner: Any, namer: Any, by_kind: Any) -> None:
    plan = planner("lnd").plan(ProjectState(stacks=_running(*ELECTRUM, requested=("electrum",))), namer)
    assert plan["stacks"] == ["tor", "bitcoind", "lnd"]
    assert plan["requested"] == ["electrum", "lnd"]
    assert {"electrum to electrs electrum", "electrs to bitcoind rpc", "lnd to bitcoind rpc"} <= _edges(plan)
    assert ("instance", "electrs", "started") not in by_kind(plan["resources"])
    assert set(plan["instances"]["bitcoind"]["consumers"]) == {"electrs", "lnd"}
    assert {"bitcoind/rpc/electrs", "bitcoind/rpc/lnd"} <= set(plan["secrets"])
    assert "electrs/electrum/electrum" not in plan["secrets"]


def test_assertion_of_a_running_stack_is_checked(planner: Any, namer: Any) -> None:
    pruning = planner("bitcoind", variables={"bitcoind_prune": 550})
    pruning.check()
    with pytest.raises(BcmError, match="Stack electrs requires"):
        pruning.plan(ProjectState(stacks=_running(*ELECTRUM, requested=("electrum",))), namer)


def test_once_requested_stays_requested(planner: Any, namer: Any) -> None:
    plan = planner("electrum").plan(ProjectState(stacks=_running("tor", "bitcoind", requested=("bitcoind",))), namer)
    assert plan["requested"] == ["bitcoind", "electrum"]
    assert plan["instances"]["bitcoind"]["requested"]


def test_a_running_stack_that_the_catalogue_lacks(planner: Any, namer: Any) -> None:
    with pytest.raises(
        BcmError, match="Stack mine runs in data center local but is not in the catalogue.*bcm_stack_path"
    ):
        planner("tor").plan(ProjectState(stacks=_running("mine")), namer)


def test_restarting(planner: Any, namer: Any, by_kind: Any) -> None:
    plan = planner("electrs", state="restarted").plan(
        ProjectState(stacks=_running(*ELECTRUM, requested=("electrum",))), namer
    )
    instances = [triple for triple in by_kind(plan["resources"]) if triple[0] == "instance"]
    assert instances == [
        ("instance", "tor", "started"),
        ("instance", "bitcoind", "started"),
        ("instance", "electrs", "restarted"),
    ]


# -- the way down ------------------------------------------------------------------------------------------------------

WITH_LND = _running(*ELECTRUM, "lnd", requested=("electrum", "lnd"))
VOLUMES = [Volume("default", "tor-data"), Volume("default", "bitcoind-data"), Volume("fast", "electrs-data")]


@pytest.mark.parametrize(
    ("stacks", "found", "expected"),
    [
        (["electrum"], WITH_LND, ["electrum", "electrs"]),
        (["electrs"], WITH_LND, ["electrum", "electrs"]),
        (["bitcoind"], WITH_LND, ["lnd", "electrum", "electrs", "bitcoind", "tor"]),
        (["electrum", "lnd"], WITH_LND, ["lnd", "electrum", "electrs", "bitcoind", "tor"]),
        (["lnd"], _running(*ELECTRUM, requested=("electrum",)), []),
        (["electrum"], {}, []),
        (["electrum"], _running("tor", "bitcoind"), ["bitcoind", "tor"]),
    ],
)
@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_stop_and_removal_list_the_affected_stacks(
    planner: Any, namer: Any, stacks: list[str], found: dict[str, Deployed], expected: list[str], state: str
) -> None:
    plan = planner(*stacks, state=state).plan(ProjectState(stacks=found), namer)
    assert plan["stacks"] == list(plan["instances"]) == expected
    gone = [item["name"] for item in plan["resources"] if (item["kind"], item["state"]) == ("instance", state)]
    assert gone == expected
    assert plan["images"] == plan["secrets"] == plan["builder_resources"] == []


def test_stopping_includes_stacks_that_only_stopped_ones_need(planner: Any, namer: Any, by_kind: Any) -> None:
    found = {**WITH_LND, "electrum": Deployed(requested=True, running=False)}
    plan = planner("lnd", state="stopped").plan(ProjectState(stacks=found), namer)
    assert "bitcoind" in plan["stacks"]
    assert {kind for kind, _name, _state in by_kind(plan["resources"])} == {"instance"}
    assert plan["requested"] == ["electrum", "lnd"]


def test_removing_some_updates_the_rules_of_the_rest(planner: Any, namer: Any, by_kind: Any) -> None:
    plan = planner("electrum", state="absent").plan(ProjectState(stacks=WITH_LND, volumes=VOLUMES), namer)
    assert by_kind(plan["resources"]) == [
        ("instance", "electrum", "absent"),
        ("instance", "electrs", "absent"),
        ("network_acl", "local-r-net", "present"),
        ("network", "local-r-net", "present"),
        ("network_acl", "local-r-up", "present"),
        ("network", "local-r-up", "present"),
    ]
    assert _edges(plan) == {"bitcoind to tor socks", "lnd to bitcoind rpc", "lnd to tor socks"}
    assert plan["requested"] == ["lnd"] and plan["warnings"] == []


def test_removing_some_with_their_data(planner: Any, namer: Any) -> None:
    gone = planner("electrum", state="absent", delete_data=True)
    plan = gone.plan(ProjectState(stacks=WITH_LND, volumes=VOLUMES), namer)
    volumes = [(item["name"], item["pool"]) for item in plan["resources"] if item["kind"] == "storage_volume"]
    assert volumes == [("electrs-data", "fast")]


def test_project_records_its_identity_and_its_files(planner: Any, namer: Any) -> None:
    plain, first = planner("tor"), planner("electrum", identity="a1")
    unmarked = plain.plan(ProjectState(), namer)["builder_resources"][0]
    assert not {"user.bcm.identity", "user.bcm.kept"} & set(unmarked["config"])
    plan = first.plan(ProjectState(), namer)
    later = next(item for item in plan["resources"] if item["kind"] == "project")
    for project in (plan["builder_resources"][0], later):
        assert project["config"]["user.bcm.identity"] == "a1"
        assert "secrets" in project["config"]["user.bcm.kept"].split(",")
        assert project["config"]["user.bcm.secrets"] == ",".join(sorted(plan["secrets"]))
    assert plan["known_secrets"] == []
    names = ["gone/one", "tor/x"]
    found = ProjectState(stacks=_running("tor"), kept=["onions", "secrets"], onions=["a-web", "b-web"], secrets=names)
    later = planner("tor", identity="a1").plan(found, namer)
    config = later["builder_resources"][0]["config"]
    assert set(config["user.bcm.kept"].split(",")) >= {"onions", "secrets"}
    assert (config["user.bcm.onions"], later["onions"]["known"]) == ("a-web,b-web", ["a-web", "b-web"])
    assert set(config["user.bcm.secrets"].split(",")) >= set(names)
    assert later["known_secrets"] == names


def test_data_that_was_not_confirmed_is_not_deleted(planner: Any, namer: Any) -> None:
    found = ProjectState(stacks=WITH_LND, volumes=VOLUMES)
    confirmed = planner("electrum", state="absent", delete_data=True, confirmed_volumes=["fast/electrs-data"])
    assert confirmed.plan(found, namer)["resources"]
    for other in ([], ["default/electrs-data"], ["fast/tor-data"]):
        gone = planner("electrum", state="absent", delete_data=True, confirmed_volumes=other)
        with pytest.raises(BcmError, match="^fast/electrs-data would be deleted, too, and was not confirmed: nothing"):
            gone.plan(found, namer)


def test_removing_all_keeps_the_data(planner: Any, namer: Any, by_kind: Any) -> None:
    found = ProjectState(
        stacks=_running(*ELECTRUM, requested=("electrum",)), builders=["build-x-01234567"], volumes=VOLUMES
    )
    plan = planner("electrum", state="absent").plan(found, namer)
    assert by_kind(plan["resources"]) == [
        *(("instance", name, "absent") for name in reversed(ELECTRUM)),
        ("instance", "build-x-01234567", "absent"),
        ("network", "local-r-net", "absent"),
        ("network", "local-r-up", "absent"),
        ("network", "local-r-bld", "absent"),
        ("network_acl", "local-r-net", "absent"),
        ("network_acl", "local-r-up", "absent"),
    ]
    assert plan["warnings"] == [
        "Project bcm-local-regtest stays, with the data in it: default/bitcoind-data, default/tor-data, "
        "fast/electrs-data; "
        "run again with delete_data=true to destroy it"
    ]


@pytest.mark.parametrize("stacks", [_running(*ELECTRUM, requested=("electrum",)), {}], ids=["running", "gone-already"])
def test_removing_all_with_the_data_leaves_nothing(planner: Any, namer: Any, stacks: Any, by_kind: Any) -> None:
    gone = planner("electrum", state="absent", delete_data=True)
    plan = gone.plan(ProjectState(stacks=stacks, volumes=[*VOLUMES, Volume("fast", "tor-data")]), namer)
    resources = by_kind(plan["resources"])
    doomed = [f"{item['pool']}/{item['name']}" for item in plan["resources"] if item["kind"] == "storage_volume"]
    assert doomed == ["default/tor-data", "default/bitcoind-data", "fast/electrs-data", "fast/tor-data"]
    assert resources[-1] == ("project", "bcm-local-regtest", "absent")
    assert {state for _kind, _name, state in resources} == {"absent"}
    assert plan["warnings"] == []


def test_foreign_volumes_are_kept_and_named(planner: Any, namer: Any, by_kind: Any) -> None:
    theirs = Volume("default", "tor-data", ["user.bcm.chain=regtest"])
    gone = planner("tor", state="absent", delete_data=True)
    plan = gone.plan(ProjectState(stacks=_running("tor"), volumes=[theirs, Volume("fast", "tor-data")]), namer)
    kinds = by_kind(plan["resources"])
    assert [name for kind, name, _state in kinds if kind == "storage_volume"] == ["tor-data"]
    assert not [name for kind, name, _state in kinds if kind == "project"]
    assert plan["warnings"] == [
        "Project bcm-local-regtest stays, with volumes that do not bear our marks: default/tor-data; if one is yours, "
        "say so with `lxc storage volume set POOL VOLUME user.bcm.datacenter=local user.bcm.chain=regtest "
        "--project bcm-local-regtest`"
    ]


def test_everything_bears_the_marks_by_which_it_is_known(planner: Any, namer: Any) -> None:
    """Builders apart, which say who is at work in them."""
    marks = {"user.bcm.datacenter": "local", "user.bcm.chain": "regtest"}
    plan = planner("electrum").plan(ProjectState(), namer)
    for item in (*plan["builder_resources"], *plan["resources"]):
        assert item["owner"] == marks
        assert item["state"] == "absent" or item["config"].items() >= marks.items()
    found = ProjectState(stacks=_running("tor"), volumes=VOLUMES, builders=["build-x-01234567"])
    for item in planner("tor", state="absent", delete_data=True).plan(found, namer)["resources"]:
        assert item["owner"] == ({} if item["name"].startswith("build-") else marks)


# -- pools -------------------------------------------------------------------------------------------------------------


def _moved(planner: Any, namer: Any, *volumes: Volume, **more: Any) -> dict[str, Any]:
    request = planner("tor", storage_pool="new", move_volumes=True, **more)
    return dict(request.plan(ProjectState(stacks=_running("tor"), volumes=volumes), namer))


def test_a_start_without_the_data_is_refused(planner: Any, namer: Any) -> None:
    found = ProjectState(stacks=_running("tor"), volumes=[Volume("old", "tor-data")])
    with pytest.raises(BcmError) as caught:
        planner("tor", storage_pool="new").plan(found, namer)
    assert str(caught.value) == (
        "A start would begin with empty volumes in storage pool new, but there is old/tor-data: "
        "set bcm_storage_pool to old, or move the volumes with -e move_volumes=true"
    )
    assert planner("tor", storage_pool="old").plan(found, namer)["moves"] == {"instances": [], "volumes": []}


def test_volumes_are_moved_and_deleted_afterwards(planner: Any, namer: Any) -> None:
    plan = _moved(planner, namer, Volume("old", "tor-data"))
    assert [(item["name"], item["state"]) for item in plan["moves"]["instances"]] == [("tor", "stopped")]
    (volume,) = plan["moves"]["volumes"]
    assert (volume["pool"], volume["name"], volume["source"]) == ("new", "tor-data", {"pool": "old"})
    (behind,) = plan["instances"]["tor"]["left_behind"]
    assert (behind["pool"], behind["name"], behind["state"]) == ("old", "tor-data", "absent")
    assert {item["pool"] for item in plan["resources"] if item["kind"] == "storage_volume"} == {"new"}


def test_a_volume_may_lie_in_another_pool_than_the_rest(planner: Any, namer: Any) -> None:
    found = ProjectState(stacks=_running("tor"), volumes=[Volume("default", "tor-data")])
    own = {"variables": {"tor_data_pool": "usb"}}
    with pytest.raises(BcmError) as caught:
        planner("bitcoind", **own).plan(found, namer)
    assert str(caught.value) == (
        "A start would begin with empty volumes in storage pool usb, but there is default/tor-data: "
        "set <stack>_<volume>_pool to default, or move the volumes with -e move_volumes=true"
    )
    plan = planner("bitcoind", move_volumes=True, **own).plan(found, namer)
    (volume,) = plan["moves"]["volumes"]
    assert (volume["pool"], volume["source"]) == ("usb", {"pool": "default"})
    pools = {item["name"]: item["pool"] for item in plan["resources"] if item["kind"] == "storage_volume"}
    assert pools == {"tor-data": "usb", "bitcoind-data": "default"}
    (tor,) = [item for item in plan["resources"] if (item["kind"], item["name"]) == ("instance", "tor")]
    assert (tor["devices"]["root"]["pool"], tor["devices"]["data"]["pool"]) == ("default", "usb")


def test_a_move_that_was_killed_is_completed(planner: Any, namer: Any) -> None:
    # before the copy had its name
    plan = _moved(planner, namer, Volume("old", "tor-data", moved_to="new"), Volume("new", "tor-data.copy"))
    assert len(plan["moves"]["volumes"]) == len(plan["instances"]["tor"]["left_behind"]) == 1
    # before the former one was deleted
    both = Volume("old", "tor-data", moved_to="new"), Volume("new", "tor-data")
    plan = _moved(planner, namer, *both)
    assert plan["moves"]["volumes"] == []
    assert len(plan["instances"]["tor"]["left_behind"]) == 1
    # without saying so again
    plan = planner("tor", storage_pool="new").plan(ProjectState(stacks=_running("tor"), volumes=both), namer)
    assert plan["instances"]["tor"]["left_behind"] == []
    assert plan["warnings"] == [
        "Volume old/tor-data was moved and is still there: run again with -e move_volumes=true to delete it"
    ]
    # to a third pool
    plan = _moved(planner, namer, Volume("old", "tor-data", moved_to="b"), Volume("b", "tor-data"))
    assert [item["source"] for item in plan["moves"]["volumes"]] == [{"pool": "b"}]


@pytest.mark.parametrize(
    ("volumes", "complaint"),
    [
        (
            [Volume("new", "tor-data", moved_to="b"), Volume("b", "tor-data")],
            "^Volume new/tor-data was moved to storage pool b, which has the newer data: set bcm_storage_pool to b",
        ),
        ([Volume("a", "tor-data"), Volume("b", "tor-data")], "^Which volume is the newest of a/tor-data, b/tor-data "),
        (
            [Volume("a", "tor-data", ["user.bcm.chain=regtest"])],
            "there is a/tor-data: rename what is not yours, or mark it with user.bcm.chain=regtest$",
        ),
    ],
)
def test_data_that_cannot_be_moved(planner: Any, namer: Any, volumes: list[Volume], complaint: str) -> None:
    with pytest.raises(BcmError, match=complaint):
        _moved(planner, namer, *volumes)


def test_project_with_foreign_instances_is_kept(planner: Any, namer: Any, by_kind: Any) -> None:
    found = ProjectState(stacks=_running("tor", requested=("tor",)), foreign_instances=["webserver"])
    plan = planner("tor", state="absent").plan(found, namer)
    assert by_kind(plan["resources"]) == [("instance", "tor", "absent")]
    assert plan["warnings"] == [
        "Project bcm-local-regtest and its networks stay, because of instances that are none of ours: webserver"
    ]
