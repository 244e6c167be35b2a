# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The resources of a data center, as ``lxd_apply`` takes them: what there shall be, and what shall be gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address

from .._base import names, network
from .._lxd.resources import COPY_SUFFIX
from .model import Instance, Moves, Resource, VolumeFacts
from .onions import OnionService
from .request import JOURNAL_PORT, VERSION, ProjectState, Site, Source, Volume

Instances = Mapping[str, Instance]

# The project that holds what a project of its own could not: bridges and ACLs exist but once on a host.
_SHARED = "default"

# No lease but for a NIC of LXD's, and no name that a client gives itself.
_KNOWN_ALONE = ("dhcp-ignore=tag:!known", "dhcp-ignore-names")


def builder_resources(site: Site, remembered: Mapping[str, str]) -> list[Resource]:
    """What a builder needs, and everything else stands on; ``remembered`` are further marks of the project."""
    return [
        {
            "kind": "project",
            "project": _SHARED,
            "name": site.names.project,
            "state": "present",
            "description": _description(site, "Instances"),
            "owner": site.owner,
            "config": {
                "features.images": "false",
                "features.networks": "false",
                "features.profiles": "true",
                "features.storage.volumes": "true",
                **_marks(site),
                **remembered,
            },
        },
        {
            "kind": "network",
            "project": _SHARED,
            "name": site.names.builders,
            "state": "present",
            "type": "bridge",
            "description": _description(site, "Builders"),
            "owner": site.owner,
            "config": {
                "ipv4.address": network.with_prefix(site.subnets.builders),
                "ipv4.nat": "true",
                "ipv6.address": "none",
                "raw.dnsmasq": "\n".join(_KNOWN_ALONE),
                **_marks(site),
            },
        },
    ]


def running_resources(
    site: Site,
    instances: Instances,
    running: Collection[str],
    onion_services: Collection[OnionService],
    found: ProjectState,
    remembered: Mapping[str, str],
    builders_of: Collection[str] = (),
) -> list[Resource]:
    """Everything of the instances given; ``running`` are all stacks that may talk afterwards.

    ``builders_of`` are stacks whose builders fetch through the proxy of downloads.
    """
    project, builders = builder_resources(site, remembered)
    volumes = [
        _volume(site, name, volume)
        for name, instance in instances.items()
        for volume in instance.volumes.values()
    ]
    left = _absent_builders(site, found.left_builders)
    # No instance has a resolver that asks the world when nothing is baked.
    if set(found.builders) <= set(found.left_builders):
        left += _absent(site, "network", _SHARED, builders["name"])
    return [
        project,
        *left,
        *_network(site, running, onion_services, builders_of),
        *_uplink(site, running),
        *volumes,
        *(_instance(site, name, instance) for name, instance in instances.items()),
    ]


def absent_instances(site: Site, stacks: Collection[str]) -> list[Resource]:
    return _absent(site, "instance", site.names.project, *stacks)


def _absent_builders(site: Site, builders: Sequence[str]) -> list[Resource]:
    """Builders are marked with the run at work."""
    return [{**item, "owner": {}} for item in absent_instances(site, builders)]


def stopped_instances(site: Site, instances: Instances) -> list[Resource]:
    project = site.names.project
    return [
        {"kind": "instance", "name": name, "state": "stopped", "project": project, "owner": site.owner}
        for name in instances
    ]


def removal(
    site: Site,
    instances: Instances,
    running: Collection[str],
    onion_services: Collection[OnionService],
    found: ProjectState,
) -> tuple[list[Resource], list[str]]:
    """What takes the instances away, and with the last of them the rest; and warnings about what has to stay."""
    named = _named_volumes(site, running, found)
    doomed = [volume for volume in named if volume.is_ours] if site.request.delete_data else []
    foreign = [volume for volume in named if not volume.is_ours] if site.request.delete_data else []
    warnings = _foreign_volume_warnings(site, foreign)
    project = site.names.project
    gone = _absent(site, "instance", project, *instances)
    volumes = absent_volumes(site, doomed)
    if running:
        return [*gone, *volumes, *_network(site, running, onion_services), *_uplink(site, running)], warnings
    gone += _absent_builders(site, found.builders)
    gone += volumes
    if found.foreign_instances:
        return gone, [
            *warnings,
            f"Project {project} and its networks stay, because of instances that are none of ours: "
            f"{', '.join(found.foreign_instances)}",
        ]
    gone += _absent(site, "network", _SHARED, site.names.network, site.names.uplink, site.names.builders)
    gone += _absent(site, "network_acl", _SHARED, site.names.network, site.names.uplink)
    left = sorted(str(volume) for volume in found.volumes if volume not in doomed and volume not in foreign)
    if left:
        warnings.append(
            f"Project {project} stays, with the data in it: {', '.join(left)}; "
            "run again with delete_data=true to destroy it"
        )
    return gone + ([] if left or foreign else _absent(site, "project", _SHARED, project)), warnings


def _foreign_volume_warnings(site: Site, foreign: Collection[Volume]) -> list[str]:
    if not foreign:
        return []
    project, marks = site.names.project, " ".join(f"{key}={value}" for key, value in site.owner.items())
    return [
        f"Project {project} stays, with volumes that do not bear our marks: {', '.join(map(str, foreign))}; if one is "
        f"yours, say so with `lxc storage volume set POOL VOLUME {marks} --project {project}`"
    ]


def absent_volumes(site: Site, volumes: Collection[Volume]) -> list[Resource]:
    return [
        {**item, "pool": volume.pool}
        for volume in volumes
        for item in _absent(site, "storage_volume", site.names.project, volume.name)
    ]


def volume_moves(site: Site, instances: Instances, moves: Mapping[str, str], found: ProjectState) -> Moves:
    """The instances that are stopped while their volumes are copied to the data center's pool, and the copies."""
    volumes = {
        volume.volume: (name, volume)
        for name, instance in instances.items()
        for volume in instance.volumes.values()
        if volume.volume in moves
    }
    stopping = {name: instances[name] for name, _facts in volumes.values() if name in found.stacks}
    return Moves(
        instances=tuple(stopped_instances(site, stopping)),
        volumes=tuple(
            {
                **_volume(site, name, volume),
                "source": {"pool": moves[volume.volume]},
                # hundreds of gigabytes
                "deadline": 7 * 86400.0,
            }
            for name, volume in volumes.values()
        ),
    )


def _absent(site: Site, kind: str, project: str, *gone: str) -> list[Resource]:
    return [{"kind": kind, "name": name, "state": "absent", "project": project, "owner": site.owner} for name in gone]


def _named_volumes(site: Site, running: Collection[str], found: ProjectState) -> list[Volume]:
    """All volumes if nothing stays, else those of what was named and of what only that needs."""
    if not running:
        return list(found.volumes)
    catalogue = site.catalogue
    named = catalogue.closure(catalogue.dependents(site.request.stacks)).difference(running)
    own = {names.volume_name(name, key) for name in named for key in catalogue[name].volumes}
    return [volume for volume in found.volumes if volume.name.removesuffix(COPY_SUFFIX) in own]


def _volume(site: Site, stack: str, volume: VolumeFacts) -> Resource:
    return {
        "kind": "storage_volume",
        "pool": volume.pool,
        "project": site.names.project,
        "content_type": "filesystem",
        "name": volume.volume,
        "state": "present",
        "owner": site.owner,
        "config": {"size": volume.size, **_marks(site, stack=stack)},
    }


def _marks(site: Site, **more: str) -> dict[str, str]:
    return {**site.owner, **{f"user.bcm.{key}": value for key, value in more.items()}}


def project_marks(
    site: Site,
    sources: Mapping[str, Source],
    kept: Collection[str],
    onions: Collection[str],
    secrets: Collection[str],
    versions: Mapping[str, str],
) -> dict[str, str]:
    """What the project remembers: where stacks come from, whose it is, its secrets, its onion services, versions."""
    marks = {f"{VERSION}{stack}": version for stack, version in versions.items()}
    for stack, source in sources.items():
        marks |= source.config(stack)
    if site.request.identity:
        marks["user.bcm.identity"] = site.request.identity
        lists = {"kept": kept, "onions": onions, "secrets": secrets}
        marks |= {f"user.bcm.{key}": ",".join(sorted(names)) for key, names in lists.items() if names}
    return marks


def _description(site: Site, what: str) -> str:
    return f"{what} of data center {site.request.datacenter} on {site.request.chain}"


def _network(
    site: Site, running: Collection[str], onion_services: Collection[OnionService], builders_of: Collection[str] = ()
) -> list[Resource]:
    subnet = site.subnets.network
    gateway = network.gateway(subnet)
    return [
        _acl(
            site,
            site.names.network,
            "Connections between stacks",
            [
                *(rule for edge in site.edges(running) for rule in _service_rules(site, *edge)),
                *(
                    _instance_rule(site, reader, name, "journal", "tcp", JOURNAL_PORT)
                    for reader, name in site.journals(running)
                    if name != reader
                ),
                *(_onion_rule(site, onion) for onion in onion_services),
                *(rule for name in site.catalogue.ordered(builders_of) for rule in _download_rules(site, name)),
            ],
        ),
        {
            "kind": "network",
            "project": _SHARED,
            "name": site.names.network,
            "state": "present",
            "type": "bridge",
            "description": _description(site, "Network"),
            "owner": site.owner,
            "config": {
                "dns.domain": site.names.domain,
                "ipv4.address": network.with_prefix(subnet),
                "ipv4.nat": "false",
                "ipv6.address": "none",
                # Addresses are those of the NICs alone: no other is left to be handed out than the host's own.
                "ipv4.dhcp.ranges": f"{gateway}-{gateway}",
                # Ports are isolated and the mask is /32, so every packet goes through the host and meets the ACL.
                # There is no default route: an instance with an uplink must not find one here too, and what runs in
                # the others must not reach the resolver of the uplink, since LXD lets port 53 of the host through.
                # Names are the plan's, whatever an instance calls itself or says in another's name.
                "raw.dnsmasq": "\n".join(
                    [
                        "no-resolv",
                        "dhcp-option=1,255.255.255.255",
                        f"dhcp-option=121,{gateway}/32,0.0.0.0,{subnet},{gateway}",
                        *_KNOWN_ALONE,
                        *(f"host-record={name}.{site.names.domain},{site.addresses[name]}" for name in site.catalogue),
                    ]
                ),
                **_acl_config(site.names.network),
                **_marks(site),
            },
        },
    ]


def _uplink(site: Site, running: Collection[str]) -> list[Resource]:
    rules = [
        _rule(way.why, site.uplinks[name], way.to, way.protocol, way.port)
        for name in site.catalogue.ordered(running)
        for way in site.ways_out(name)
    ]
    return [
        _acl(site, site.names.uplink, "Egress, and open ports of the host", rules, _host_port_rules(site, running)),
        {
            "kind": "network",
            "project": _SHARED,
            "name": site.names.uplink,
            "state": "present",
            "type": "bridge",
            "description": _description(site, "Way out"),
            "owner": site.owner,
            "config": {
                "ipv4.address": network.with_prefix(site.subnets.uplink),
                # Instances give themselves the address of the plan, and the routes that they shall have.
                "ipv4.dhcp": "false",
                "ipv4.nat": "true",
                "ipv6.address": "none",
                # no DNS server
                "raw.dnsmasq": "port=0",
                **_acl_config(site.names.uplink),
                **_marks(site),
            },
        },
    ]


def _host_port_rules(site: Site, running: Collection[str]) -> list[dict[str, str]]:
    local = [
        {**_rule(item.description, None, inside, "tcp", port), "source": ",".join(item.sources)}
        for item in site.lan(*site.catalogue.ordered(running))
        for inside, port in [(f"{site.uplinks[item.stack]}/32", site.port(item.stack, item.service))]
    ]
    return local + [
        _rule(
            f"The world to {name} {key}",
            None,
            f"{site.uplinks[name]}/32",
            service.protocol,
            service.ports[site.request.chain],
        )
        for name in site.catalogue.ordered(running)
        for key, service in site.catalogue[name].services.items()
        if service.host_port
    ]


def _acl(
    site: Site, name: str, what: str, egress: list[dict[str, str]], ingress: Sequence[dict[str, str]] = ()
) -> Resource:
    return {
        "kind": "network_acl",
        "project": _SHARED,
        "name": name,
        "state": "present",
        "description": _description(site, what),
        "owner": site.owner,
        "config": _marks(site),
        "ingress": list(ingress),
        "egress": egress,
    }


def _acl_config(acl: str) -> dict[str, str]:
    actions = {f"security.acls.default.{direction}.action": "reject" for direction in ("egress", "ingress")}
    return {"security.acls": acl, **actions}


def _service_rules(site: Site, consumer: str, provider: str, key: str) -> list[dict[str, str]]:
    """One rule, or one for each exception that it is there for."""
    protocol = site.catalogue[provider].services[key].protocol
    rule = _instance_rule(site, consumer, provider, key, protocol, site.port(provider, key))
    asked = site.through_tor(consumer) if site.catalogue.is_proxy(provider, key) else []
    return [{**rule, "description": host.description} for host in asked] or [rule]


def _onion_rule(site: Site, onion: OnionService) -> dict[str, str]:
    return _instance_rule(
        site, str(site.catalogue.onion_gateway), onion.stack, f"{onion.service} (onion)", "tcp", onion.listen
    )


def _download_rules(site: Site, name: str) -> list[dict[str, str]]:
    """Rules with which the builder of a stack reaches the proxy of its downloads."""
    proxy = str(site.download_proxy)
    address = f"{site.addresses[proxy]}/32"
    return [
        _rule(f"Builder of {name} to {proxy} {key}", site.builders[name], address, "tcp", port)
        for key, port in site.download_ports.items()
    ]


def _instance_rule(
    site: Site, consumer: str, provider: str, what: str, protocol: str, port: int | None
) -> dict[str, str]:
    to = f"{site.addresses[provider]}/32"
    return _rule(f"{consumer} to {provider} {what}", site.addresses[consumer], to, protocol, port)


def _rule(
    description: str, source: IPv4Address | None, to: str, protocol: str, port: int | str | None
) -> dict[str, str]:
    return {
        "action": "allow",
        "state": "enabled",
        "description": description,
        **({"source": f"{source}/32"} if source else {}),
        "destination": to,
        "protocol": protocol,
        "destination_port": str(port),
    }


def _instance(site: Site, name: str, instance: Instance) -> Resource:
    pool, limits, image = site.request.storage_pool, instance.limits, instance.image
    if limits is None or image is None:
        raise ValueError(f"{name} is not to run")
    devices = {
        "root": {"type": "disk", "path": "/", "pool": pool, "size": limits.root},
        "eth0": nic("eth0", site.names.network, instance.address),
    }
    if instance.uplink:
        devices["eth1"] = nic("eth1", site.names.uplink, instance.uplink.address)
    for key, volume in instance.volumes.items():
        devices[key] = {"type": "disk", "pool": volume.pool, "source": volume.volume, "path": volume.path}
    for key, service in instance.services.items():
        if outside := service.host_port:
            devices[f"host-port-{key}"] = {
                "type": "proxy",
                # or else all that come would have the address of the host
                "nat": "true",
                "listen": f"{service.protocol}:{outside.address}:{outside.port}",
                "connect": f"{service.protocol}:{service.listen}:{service.port}",
            }
        if service.lan and instance.uplink:
            devices[f"lan-{key}"] = {
                "type": "proxy",
                # or else the rules would see the address of the host, and not those of the clients
                "nat": "true",
                "listen": f"tcp:{service.lan.address}:{service.lan.port}",
                "connect": f"tcp:{instance.uplink.address}:{service.port}",
            }
    restarted = site.request.state == "restarted" and name in site.request.stacks
    return {
        "kind": "instance",
        "project": site.names.project,
        "name": name,
        "state": "restarted" if restarted else "started",
        "description": site.catalogue[name].description,
        "owner": site.owner,
        "image": image.alias,
        "replace": True,
        "config": {
            "boot.autostart": "true",
            "security.idmap.isolated": "true",
            "limits.memory": limits.memory,
            "limits.cpu": str(limits.processors),
            "limits.processes": str(limits.processes),
            **_marks(site, stack=name, tier=instance.tier, requested=str(instance.requested).lower()),
        },
        "profiles": [],
        "devices": devices,
        "wait_for": "address",
    }


def nic(name: str, bridge: str, address: object) -> dict[str, str]:
    """An interface with the address of the plan, which reaches what the access list of the bridge says."""
    return {
        "type": "nic",
        "name": name,
        "network": bridge,
        "ipv4.address": str(address),
        "security.ipv4_filtering": "true",
        # on a bridge without IPv6, all of it
        "security.ipv6_filtering": "true",
        "security.mac_filtering": "true",
        "security.port_isolation": "true",
    }
