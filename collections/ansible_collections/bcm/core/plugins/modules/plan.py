#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Make the plan of a data center
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - From the stacks a person names, makes everything that plays need to know. That is the stacks they need, in order,
    and of each its address, ports, neighbours, volumes and image, and the resources for M(bcm.core.lxd_apply).
  - Wrong input ends here, before anything is changed. The catalogue, the names and all settings are checked before the
    endpoint is asked for anything.
  - Reads which stacks run in the data center already. They keep their place in the network, and are otherwise left
    alone.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.attributes.reads
  - bcm.core.image
  - bcm.core.lxd.endpoint
options:
  stacks:
    description: The stacks, as a list or separated by commas.
    type: list
    elements: str
    required: true
  datacenter:
    description: The data center's name, at most 9 lower-case letters, digits and inner hyphens.
    type: str
    required: true
  chain:
    description: The chain, one of V(mainnet), V(testnet3), V(testnet4), V(signet) and V(regtest).
    type: str
    required: true
  state:
    description:
      - V(present) is about O(stacks) and all that they need.
      - V(restarted) is the same, and the instances of O(stacks) are restarted.
      - V(stopped) and V(absent) are about O(stacks), what needs them, and what is no longer needed.
    type: str
    choices: [present, stopped, restarted, absent]
    default: present
  delete_data:
    description:
      - With O(state=absent), destroys the volumes, too. There may be coins on them.
      - Otherwise volumes stay, and the project with them.
    type: bool
    default: false
  confirmed_volumes:
    description:
      - What O(delete_data) may destroy at most, as C(POOL/VOLUME). A plan that would destroy more is refused.
      - Without it, O(delete_data) is not limited.
    type: list
    elements: str
  identity:
    description: The identity of the data center, of M(bcm.core.claim), which its project is to bear.
    type: str
  storage_pool:
    description:
      - The storage pool of instances and volumes.
      - What would start with an empty volume because its data lies in another pool is refused.
    type: str
    default: default
  host:
    description:
      - The member of the endpoint's cluster that has all instances and volumes of the data center.
      - If unset, it is the one that has some of them, or else the one with the most free memory.
    type: str
    version_added: 0.1.0
  move_volumes:
    description:
      - Moves the volumes of O(stacks) and of what they need to O(storage_pool), when they lie in another one.
      - Instances are stopped, volumes copied, and the former ones deleted once the stacks are verified with the copies.
        What is killed meanwhile is completed by the same command.
    type: bool
    default: false
  subnet:
    description:
      - The private IPv4 network of the data center on this chain, with prefix /20.
      - Without it, one is derived from O(datacenter) and O(chain).
    type: str
  ca_provider:
    description:
      - Where the root key of the data center's certificates is. V(trezor) is a hardware wallet, V(software) a file.
      - Without it, V(software) on chain regtest, and V(trezor) on all others.
    type: str
    choices: [software, trezor]
  software_ca_chains:
    description: Chains besides V(regtest) on which O(ca_provider=software) is accepted.
    type: list
    elements: str
    default: []
  allow_below_floor:
    description: Stacks whose programs may have a version with known faults. Each is warned about.
    type: list
    elements: str
    default: []
  exceptions:
    description:
      - What stacks may reach past Tor. Each has C(stack), C(to) (an IPv4 address or network), C(protocol) (V(tcp) or
        V(udp)), C(why), and maybe C(port), without which it is every port. Each is warned about as long as it lasts.
    type: list
    elements: dict
    default: []
  access:
    description:
      - From where services are reached, beside the machine itself, by C(stack), or by C(stack/service) if a stack has
        several.
      - C(lan) has C(address) and C(port) of a host, C(from), the networks of the clients, maybe C(names) by which these
        connect, and maybe C(public), why they need no certificate. C(onion) is V(true), V(false) or C(public) with the
        reason.
    type: dict
    default: {}
  downloads_through_tor:
    description:
      - Whether all that images are made of is fetched through Tor, apart from Debian's base and tor itself.
      - Without it, V(true) on each chain but regtest.
    type: bool
  artifact_source:
    description:
      - A directory, or the address of a server, that has releases in place of upstream, as M(bcm.core.artifact) takes
        it. Tells which source of a list can be reached.
    type: str
  artifact_proxy:
    description: A SOCKS proxy for asking what can be reached, as M(bcm.core.artifact) takes it.
    type: str
  stack_path:
    description: Directories with stacks of one's own, each in a folder that is an Ansible role with C(meta/stack.yml).
    type: list
    elements: path
    default: []
  variables:
    description: Variables of roles that go over those of the play.
    type: dict
    default: {}
seealso:
  - module: bcm.core.preflight
  - module: bcm.core.image
  - module: bcm.core.lxd_apply
"""

EXAMPLES = r"""
- name: Plan a wallet and all that it needs
  bcm.core.plan:
    stacks: electrum
    datacenter: local
    chain: regtest
  register: planned

- name: Carry it out
  bcm.core.lxd_apply:
    resources: "{{ planned.plan.resources }}"
"""

RETURN = r"""
outline:
  description: The part of RV(plan) that M(bcm.core.preflight) and M(bcm.core.connections) read.
  returned: success
  type: dict
plan:
  description: The plan.
  returned: success
  type: dict
  contains:
    datacenter:
      description: O(datacenter).
      type: str
    chain:
      description: O(chain).
      type: str
    state:
      description: O(state).
      type: str
    storage_pool:
      description: O(storage_pool).
      type: str
    host:
      description: The member of the endpoint's cluster that has the instances and volumes; none without a cluster.
      type: str
    project:
      description: The LXD project.
      type: str
      sample: bcm-local-regtest
    domain:
      description: The domain of the instances' names.
      type: str
      sample: local-regtest.bcm
    ca_provider:
      description: O(ca_provider), or that of the chain.
      type: str
    vault_id:
      description: The Ansible vault id of secrets and keys; none with V(software).
      type: str
    network:
      description: The instances' network.
      type: dict
      sample: {name: local-r-net, subnet: 10.80.16.0/21, gateway: 10.80.16.1}
    uplink:
      description: The network with a way out, of stacks with C(uplink) and of those with an exception.
      type: dict
      sample: {name: local-r-up, subnet: 10.80.24.0/24, gateway: 10.80.24.1}
    builders:
      description: The network of builders, which is there while images are baked.
      type: dict
      sample: {name: local-r-bld, subnet: 10.80.25.0/24, gateway: 10.80.25.1}
    requested:
      description: Stacks that a person named, now or before, and those that are enabled with them.
      type: list
      elements: str
    stacks:
      description: Stacks that this plan is about, in order of need; for V(stopped) and V(absent) the other way round.
      type: list
      elements: str
    sources:
      description:
        - For each of RV(plan.stacks) that has several sources, which one is taken, and why. The variable
          C(<stack>_source) names one; on V(regtest) it may be a list, of which the first is taken that can be reached.
        - What was taken is remembered in the data center's project; as long as the list has it, nothing else is taken.
      type: list
      elements: dict
      sample: [{stack: bitcoind, source: debian, why: "release cannot be had (bitcoincore.org: no connection)"}]
    summary:
      description: What people are told of each stack that is there, C(description), C(floor), C(web) and C(onions).
      type: list
      elements: dict
    reporters:
      description: Stacks that are told the report of each run, by the C(program) C(scripts/report.py) of their role.
      type: list
      elements: dict
    exceptions:
      description: Those of O(exceptions) that are about stacks which run.
      type: list
      elements: dict
    through_tor:
      description: Hosts that stacks which run ask through Tor, since their variables say so, and C(why).
      type: list
      elements: dict
      sample: [{stack: btcpayserver, to: api.kraken.com, why: exchange rates}]
    instances:
      description: What roles know about their instance, by the stack's name.
      type: dict
      contains:
        stack:
          description: The stack, which is also the instance's name.
          type: str
        role:
          description: The role, by its full name, or as a path if it is a stack of one's own.
          type: str
        role_path:
          description: The directory of the role.
          type: str
        description:
          description: What the stack is.
          type: str
        user:
          description: The user that it runs as.
          type: str
        tier:
          description: C(tier) of C(stack.yml).
          type: str
        chain:
          description: O(chain).
          type: str
        datacenter:
          description: O(datacenter).
          type: str
        domain:
          description: The domain of the instances' names.
          type: str
        project:
          description: The LXD project.
          type: str
        address:
          description: The IPv4 address in the data center's network.
          type: str
        network:
          description: That network.
          type: str
        gateway:
          description: The host's address in it.
          type: str
        requested:
          description: Whether a person named this stack.
          type: bool
        image:
          description: Alias and hash of the image; not for V(stopped) and V(absent).
          type: dict
        services:
          description:
            - Port, protocol and C(tls) of each service, and the address where the program has to listen.
            - Of one with C(host_port), the C(address) and C(port) of the host that lead to it, or none.
            - In C(lan), how it is reached from local networks by O(access), or none.
            - In C(grpc), whether it speaks gRPC, and TLS of its own, behind the TLS proxy.
          type: dict
        needs:
          description:
            - For each stack it needs, address, port, protocol and C(tls) of each service it uses.
            - Of optional needs, those that are there.
          type: dict
        choices:
          description: Of alternatives in C(needs), the stack that was chosen, by their names.
          type: dict
        consumers:
          description:
            - For each stack that uses it, C(address), C(services) and C(permissions).
            - In C(events), the topics that it writes.
          type: dict
          sample: {electrs: {address: 10.80.16.7, services: [rpc], permissions: {rpc_calls: [getblock]}, events: []}}
        events:
          description: The topics that it writes, each with the Avro schemas of its events, the newest last.
          type: dict
        journal:
          description:
            - The C(address) and C(port) at which it hands out its journal, and the address of the one that may ask for
              it (C(reader)).
            - None if nobody reads journals.
          type: dict
          sample: {address: 10.80.16.7, port: 19531, reader: 10.80.16.9}
        journals:
          description: The journals that it reads, by stack, as C(journal) is.
          type: dict
        credentials:
          description: The names of the secrets that other stacks make for it, by their C(scripts/credentials.py).
          type: list
          elements: str
          sample: [lnd/rest/shop]
        makes_credentials:
          description: Whether it has a C(scripts/credentials.py), and makes those of its consumers.
          type: bool
        own_steps:
          description: Which of V(configure) and V(verify) the tasks of its role do.
          type: list
          elements: str
        level:
          description: It is configured after all stacks with a lower one, since one of these makes its credentials.
          type: int
        web:
          description: Its pages for browsers, each with C(service), C(path), C(title), C(icon) and C(url).
          type: list
          elements: dict
        has_certificate:
          description: Whether it has a certificate of its own.
          type: bool
        needs_ca:
          description: Whether it has that, or uses a service of a stack that has one.
          type: bool
        volumes:
          description: Volume, pool, path, size and C(backup) of each volume.
          type: dict
        limits:
          description:
            - What it may take of the host, C(memory), C(processors), C(processes), and C(root) for the size of its root
              disk. Sizes are written as LXD takes them.
            - Not for V(stopped) and V(absent).
          type: dict
          sample: {memory: 2GiB, processors: 2, processes: 500, root: 4GiB}
        artifact:
          description: Source, kind, name and version of what it is made of; not for V(stopped) and V(absent).
          type: dict
        onions:
          description:
            - For each of its services that has an onion service, C(name), C(port) at its address, the port where its
              connections come in (C(listen)), and why it is public (C(public)).
          type: dict
        left_behind:
          description:
            - The volumes that were moved to O(storage_pool), for M(bcm.core.lxd_apply) to delete once the stack works
              with the copies.
          type: list
          elements: dict
        uplink:
          description:
            - Its address on the network with a way out, the C(user) whose packets may leave, and the C(rules) of what
              may be reached, each with C(protocol), the reason in C(why), and with networks in C(to) and ports in
              C(port), both separated by commas.
            - C(answers) are the local networks whose clients it answers.
            - None if it has neither. Without C(user), it has exceptions and such clients alone.
          type: dict
        builders:
          description: The network of builders whose downloads come through it, if it is the proxy of downloads.
          type: str
        exceptions:
          description: What it may reach past Tor.
          type: list
          elements: dict
        through_tor:
          description: Those of RV(plan.through_tor) that are its own.
          type: list
          elements: dict
    images:
      description: The images of RV(plan.stacks), for M(bcm.core.image).
      type: list
      elements: dict
      contains:
        stack:
          description: The stack.
          type: str
        role:
          description: The role, as in RV(plan.instances).
          type: str
        role_path:
          description: The directory of the role.
          type: str
        alias:
          description: The image's alias.
          type: str
          sample: bcm/electrs/137874bdd242
        hash:
          description: Hash of all that goes into the image.
          type: str
        base_alias:
          description: Alias of the base image.
          type: str
        base_hash:
          description: Hash of all that goes into the base image.
          type: str
        artifact:
          description: The release that it is made of, as M(bcm.core.artifact) takes it.
          type: dict
        keys_path:
          description: The directory of the keys of its signers, as M(bcm.core.artifact) takes it.
          type: str
        package:
          description: What C(apt-get install) is given for it, if it is Debian's.
          type: str
          sample: electrum/trixie-backports
        version_command:
          description: The command that says the version of what is installed.
          type: list
          elements: str
        downloads:
          description:
            - How what goes into the image is fetched. None if that is a matter of the machine.
            - C(proxy) is the stack through which it comes, C(socks) where that speaks SOCKS, C(environment) what
              tells programs of it, and C(nic) the interface of the builder. C(proxy) is null for that stack itself,
              and for what it needs.
          type: dict
        has_certificate:
          description: Whether the stack has a certificate, and needs what speaks TLS.
          type: bool
        floor:
          description: Versions below which there are known faults, and why.
          type: dict
        allow_below_floor:
          description: Whether O(allow_below_floor) names the stack.
          type: bool
    secrets:
      description:
        - Names for M(bcm.core.secrets), one for each consumer of each service, and those of a stack alone.
        - None of a stack that makes the credentials of its consumers.
      type: list
      elements: str
      sample: [bitcoind/rpc/electrs]
    known_secrets:
      description: Names of secrets that were created for the data center before, for M(bcm.core.secrets).
      type: list
      elements: str
    certificates:
      description: What to ask M(bcm.core.ca_authority) for, one for each stack that has one.
      type: list
      elements: dict
      sample: [{name: electrs, names: [electrs.local-regtest.bcm, 10.80.16.7], usage: [server]}]
    certifiable:
      description: Names and private addresses in local networks by which O(access) has stacks reached. The data
        center may certify them.
      type: dict
      sample: {domains: [portal.home.arpa], subnets: [192.168.1.10/32]}
    onions:
      description:
        - The onion services that are to be, as M(bcm.core.onion_service) takes them, the stack that is their
          gateway, null if it does not run, and the names of those that the project remembers.
      type: dict
      sample:
        gateway: tor
        known: [electrs-electrum]
        services:
          - name: electrs-electrum
            ports: [{port: 50001, targets: ["10.80.16.7:50001"]}]
            authorization: true
            pow: false
            intro_defense: false
            max_streams: 0
    moves:
      description: What brings the volumes to O(storage_pool), for M(bcm.core.lxd_apply).
      type: dict
      contains:
        instances:
          description: The instances that are stopped before.
          type: list
          elements: dict
        volumes:
          description: The volumes that are copied.
          type: list
          elements: dict
    has_own_steps:
      description: Whether an instance needs other steps than those that all have.
      type: bool
    download_proxy:
      description:
        - What has to be there before images are made that are fetched through it, or none. C(stack) is the proxy,
          C(stacks) are that one and those it needs, C(resources) are for M(bcm.core.lxd_apply).
      type: dict
    builder_resources:
      description: The resources that builders need, for M(bcm.core.lxd_apply).
      type: list
      elements: dict
    resources:
      description: All resources, for M(bcm.core.lxd_apply).
      type: list
      elements: dict
    warnings:
      description: What a person should know before and after.
      type: list
      elements: str
"""
