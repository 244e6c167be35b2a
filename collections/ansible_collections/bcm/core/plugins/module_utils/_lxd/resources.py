# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of resources: their paths, their fields, and their references.

Fields and configuration keys carry the names of LXD's API. Everything here is data and pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._base.read import read_moment
from .client import quoted
from .lxd_errors import LxdError

# Whatever the kind, these configuration keys are the server's own.
_SERVER_PREFIXES = ("volatile.", "image.")

#: What an instance was started with, which the engine writes down whenever it starts one.
STARTED_WITH = "user.bcm.started"
#: How new the certificates of a project's data center are, which is recorded when they have been issued.
AUTHORITY_MARK = "user.bcm.authority"
#: where the ids of an instance with a map of its own begin on the host
ID_MAP = "security.idmap.base"
#: An instance that was put aside keeps here, as JSON, what it had: its devices, and boot.autostart.
REPLACED = "user.bcm.replaced"
#: Set on a volume of which a whole copy lies in another pool: the name of that pool.
MOVED_TO = "user.bcm.moved_to"
#: Ends the name of a copy that is not complete. No volume of a stack is called so: their names have no dots.
COPY_SUFFIX = ".copy"

Reference = tuple[str, str]


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value or {}, Mapping):
        raise LxdError(f"{value!r}", "is not a mapping", "write `key: value` lines", code="invalid_value")
    return value or {}


def _config(value: Any) -> dict[str, str]:
    """Configuration as the API has it: strings, nothing unset."""
    return {str(key): _string(item) for key, item in _mapping(value).items() if item is not None and item != ""}


def _string(value: Any) -> str:
    if isinstance(value, (Mapping, list)):
        raise LxdError(f"{value!r}", "is not a single value, which is all that LXD keeps here", code="invalid_value")
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _devices(value: Any) -> dict[str, dict[str, str]]:
    return {str(name): _config(device) for name, device in _mapping(value).items()}


#: Texts in an entry of a list, whose spaces and commas stay as they are.
_FREE_TEXT = ("description", "value")


def _entries(
    *keys: str, lists: Collection[str] = (), numbers: Collection[str] = (), **usual: str
) -> Callable[[Any], list[dict[str, Any]]]:
    """Return what gives a list of rules, ports, … its canonical form: their order has no meaning to LXD.

    Nor have spaces in values with commas. Of the ``keys`` of an entry, ``lists`` are lists of names, ``numbers`` whole
    numbers, and the others texts. ``usual`` are values of keys that are not given.
    """

    def canonical(value: Any) -> list[dict[str, Any]]:
        if value is not None and not isinstance(value, list):
            raise LxdError(f"{value!r}", "is not a list", code="invalid_value")
        return sorted(map(entry, value or []), key=lambda found: sorted(found.items()))

    def entry(value: Any) -> dict[str, Any]:
        given = {str(key): item for key, item in _mapping(value).items() if item not in (None, "", [])}
        for key in sorted(given.keys() - set(keys)):  # LXD would pass over it in silence
            raise LxdError("an entry", f'knows no "{key}", only {", ".join(keys)}', code="invalid_value")
        return {**usual, **{key: part(key, item) for key, item in given.items()}}

    def part(key: str, value: Any) -> Any:
        if key in lists:
            return _names(value)
        if key in numbers:
            return _number(value)
        text = _string(value)
        return text if key in _FREE_TEXT else ",".join(word.strip() for word in text.split(","))

    return canonical


def _number(value: Any) -> int:
    text = _string(value)
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise LxdError(f"{value!r}", "is not a whole number", code="invalid_value")
    return int(text)


def _names(value: Any) -> list[str]:
    """Names whose order has no meaning."""
    if value is not None and not isinstance(value, list):
        raise LxdError(f"{value!r}", "is not a list of names", code="invalid_value")
    return sorted(_string(name) for name in value or ())


def _text(value: Any) -> str:
    return "" if value is None else _string(value)


def _moment(value: Any) -> str:
    """A point in time as UTC; the API says "never" with the year 1."""
    if not value:
        return ""
    try:
        moment = read_moment(str(value))
    except ValueError as error:
        raise LxdError(
            value, "is not a point in time", "write it as 2026-12-31T00:00:00Z", code="invalid_value"
        ) from error
    return "" if moment.year == 1 else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _same(value: Any) -> Any:
    return value


def _given_only(value: Any) -> Any:
    """What was given of a mapping of options, to which Ansible adds the others as null."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Field:
    """A field of a resource's body: how it is asked for in Ansible, and its canonical form for comparison."""

    spec: dict[str, Any]
    canonical: Callable[[Any], Any] = _same
    #: False: said when the resource is made, and not changed afterwards.
    mutable: bool = True
    #: False for what the API does not tell of a resource that exists.
    is_readable: bool = True


_DESCRIPTION = Field({"type": "str"}, _text)
_CONFIG = Field({"type": "dict"}, _config)
_DEVICES = Field({"type": "dict"}, _devices)
_RULES = Field(
    {"type": "list", "elements": "dict"},
    _entries(
        *("action", "state", "description", "source", "destination", "protocol"),
        *("source_port", "destination_port", "icmp_type", "icmp_code"),
        state="enabled",
    ),
)
_FORWARDED = ("description", "protocol", "listen_port")
_FORWARD_PORTS = Field(
    {"type": "list", "elements": "dict"}, _entries(*_FORWARDED, "target_port", "target_address", protocol="tcp")
)
_BALANCED_PORTS = Field(
    {"type": "list", "elements": "dict"},
    _entries(*_FORWARDED, "target_backend", lists=("target_backend",), protocol="tcp"),
)
_BACKENDS = Field(
    {"type": "list", "elements": "dict"}, _entries("name", "description", "target_address", "target_port")
)
_ZONE_ENTRIES = Field({"type": "list", "elements": "dict"}, _entries("type", "ttl", "value", numbers=("ttl",)))
_MEMBERS = Field({"type": "list", "elements": "str"}, _names)
_STATES = ("present", "absent")


def _fixed(**spec: Any) -> Field:
    return Field(spec, mutable=False)


def _origin(**spec: Any) -> Field:
    return Field(spec, _given_only, mutable=False, is_readable=False)


@dataclass(frozen=True)
class Kind:
    """A kind of resource. ``parents`` are the fields that, with the name, say which one is meant."""

    name: str
    collection: str
    fields: Mapping[str, Field]
    states: tuple[str, ...] = _STATES
    default_state: str = "present"
    #: The field whose value tells the resources of a collection apart.
    key: str = "name"
    parents: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    #: Options that steer the work and are no fields of the resource.
    options: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    #: Configuration keys that the server fills in by itself when they are not given.
    filled: tuple[str, ...] = ()
    #: Fields that a PUT must carry besides the mutable ones.
    carried: tuple[str, ...] = ()
    #: Kinds all of whose changes come before a deletion. To see what is in use, the server looks at each access list
    #: and network, and stumbles over one that is deleted at that moment.
    inspected_kinds: tuple[str, ...] = ()
    refers: Callable[[Mapping[str, Any]], Iterator[Reference]] = lambda body: iter(())
    #: The API extension without which a server knows no such thing.
    extension: str | None = None

    @property
    def noun(self) -> str:
        return self.name.replace("_", " ")

    def argument_spec(self) -> dict[str, dict[str, Any]]:
        return {
            self.key: {"type": "str", "required": True},
            "state": {"type": "str", "choices": list(self.states), "default": self.default_state},
            **{name: dict(spec) for name, spec in self.parents.items()},
            **{name: dict(item.spec) for name, item in self.fields.items()},
            **{name: dict(spec) for name, spec in self.options.items()},
        }

    def owned_by_server(self, key: str) -> bool:
        return key.startswith(_SERVER_PREFIXES) or key in (STARTED_WITH, AUTHORITY_MARK) or key in self.filled

    def merged_config(self, present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
        """``wanted`` in full, and of what is there only what belongs to the server."""
        kept = {key: value for key, value in present.items() if self.owned_by_server(key)}
        # "auto" asks the server to choose, and it has.
        chosen = {k for k in self.filled if wanted.get(k) == "auto" and kept.get(k, "none") != "none"}
        return {**kept, **{key: value for key, value in wanted.items() if key not in chosen}}


@dataclass(frozen=True)
class Resource:
    """The desired state of one resource. ``given`` holds only the given fields, in canonical form."""

    kind: Kind
    name: str
    project: str
    state: str
    parents: Mapping[str, str]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    target: str | None = None
    #: Configuration keys and values without which it is foreign, and is not changed.
    owner: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name in messages: ``instance tor``."""
        return f"{self.kind.noun} {self.full_name}"

    @property
    def full_name(self) -> str:
        return "/".join([*self.parents.values(), self.name])

    @property
    def reference(self) -> Reference:
        return self.kind.name, self.full_name

    @property
    def collection(self) -> str:
        """Path of the collection it lives in."""
        return self.kind.collection.format(**{key: quoted(value) for key, value in self.parents.items()})

    @property
    def path(self) -> str:
        return f"{self.collection}/{quoted(self.name)}"

    def is_foreign(self, body: Mapping[str, Any]) -> bool:
        """Whether an existing resource is foreign."""
        config = body.get("config") or {}
        return any(config.get(key) != value for key, value in self.owner.items())

    @property
    def adoption(self) -> str:
        """The command that makes it ours."""
        words = [*_COMMANDS[self.kind.name], *self.parents.values(), self.name]
        project = ["--project", self.project] if self.project != "default" else []
        return " ".join([*words, *(f"{key}={value}" for key, value in self.owner.items()), *project])

    def references(self, body: Mapping[str, Any]) -> set[Reference]:
        """Return the resources to which a body, current or desired, refers."""
        found = set(self.kind.refers({**self.parents, **body}))
        if self.project != "default":
            found.add(("project", self.project))
        return found


#: How a configuration key of a kind is set.
_COMMANDS = {
    "project": ("lxc", "project", "set"),
    "storage_pool": ("lxc", "storage", "set"),
    "storage_volume": ("lxc", "storage", "volume", "set"),
    "network_acl": ("lxc", "network", "acl", "set"),
    "network": ("lxc", "network", "set"),
    "network_forward": ("lxc", "network", "forward", "set"),
    "network_load_balancer": ("lxc", "network", "load-balancer", "set"),
    "network_peer": ("lxc", "network", "peer", "set"),
    "network_zone": ("lxc", "network", "zone", "set"),
    "network_zone_record": ("lxc", "network", "zone", "record", "set"),
    "storage_bucket": ("lxc", "storage", "bucket", "set"),
    "profile": ("lxc", "profile", "set"),
    "instance": ("lxc", "config", "set"),
}


def _device_references(body: Mapping[str, Any]) -> Iterator[Reference]:
    for device in (body.get("devices") or {}).values():
        for key in ("network", "parent"):
            if device.get("type") == "nic" and device.get(key):
                yield "network", device[key]
        for acl in filter(None, device.get("security.acls", "").split(",")):
            yield "network_acl", acl.strip()
        if device.get("type") == "disk" and device.get("pool"):
            yield "storage_pool", device["pool"]
            if device.get("source"):
                yield "storage_volume", f"{device['pool']}/{device['source']}"


def _instance_references(body: Mapping[str, Any]) -> Iterator[Reference]:
    yield from _device_references(body)
    for profile in body.get("profiles") or ():
        yield "profile", profile
    if body.get("image"):
        yield "image", body["image"]
    source = body.get("source") or {}
    if source.get("instance"):
        yield "instance", source["instance"]


def _network_references(body: Mapping[str, Any]) -> Iterator[Reference]:
    config = body.get("config") or {}
    for acl in filter(None, config.get("security.acls", "").split(",")):
        yield "network_acl", acl.strip()
    if config.get("network"):
        yield "network", config["network"]


def _parent_instance(body: Mapping[str, Any]) -> Iterator[Reference]:
    yield "instance", body["instance"]


def _parent_network(body: Mapping[str, Any]) -> Iterator[Reference]:
    yield "network", body["network"]
    if body.get("target_network"):
        yield "network", body["target_network"]


def _image_references(body: Mapping[str, Any]) -> Iterator[Reference]:
    source = body.get("source") or {}
    if source.get("instance"):
        yield "instance", source["instance"]


_DEADLINE = {"deadline": {"type": "float", "default": 120.0}}

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("project", "/1.0/projects", {"description": _DESCRIPTION, "config": _CONFIG},
             filled=("features.images", "features.profiles", "features.networks", "features.networks.zones",
                     "features.storage.volumes", "features.storage.buckets"),
             extension="projects"),
        Kind("storage_pool", "/1.0/storage-pools",
             {"description": _DESCRIPTION, "config": _CONFIG, "driver": _fixed(type="str")},
             filled=("source", "size", "btrfs.mount_options", "lvm.vg_name", "lvm.thinpool_name", "zfs.pool_name")),
        Kind("storage_volume", "/1.0/storage-pools/{pool}/volumes/custom",
             {"description": _DESCRIPTION, "config": _CONFIG,
              "content_type": _fixed(type="str", choices=["filesystem", "block"]),
              "source": _origin(type="dict", options={"pool": {"type": "str", "required": True}})},
             parents={"pool": {"type": "str", "required": True}},
             options=_DEADLINE,
             filled=("size", "block.filesystem", "block.mount_options", "lvm.stripes", "zfs.blocksize"),
             refers=lambda body: iter([("storage_pool", body["pool"])])),
        Kind("network_acl", "/1.0/network-acls",
             {"description": _DESCRIPTION, "config": _CONFIG, "ingress": _RULES, "egress": _RULES},
             extension="network_acl", inspected_kinds=("network", "network_acl")),
        Kind("network", "/1.0/networks",
             {"description": _DESCRIPTION, "config": _CONFIG, "type": _fixed(type="str")},
             states=("present", "reloaded", "absent"),
             filled=("ipv4.address", "ipv4.nat", "ipv6.address", "ipv6.nat", "bridge.mtu"),
             inspected_kinds=("network_acl",), refers=_network_references),
        Kind("profile", "/1.0/profiles",
             {"description": _DESCRIPTION, "config": _CONFIG, "devices": _DEVICES}, refers=_device_references),
        Kind("image", "/1.0/images/aliases",
             {"properties": Field({"type": "dict"}, _config), "public": Field({"type": "bool"}),
              "auto_update": Field({"type": "bool"}),
              "source": _origin(type="dict", options={
                  "metadata": {"type": "path"}, "rootfs": {"type": "path"},
                  "instance": {"type": "str"}, "compression": {"type": "str"},
                  "server": {"type": "str"}, "protocol": {"type": "str", "choices": ["lxd", "simplestreams"]},
                  "alias": {"type": "str"}, "fingerprint": {"type": "str"}, "certificate": {"type": "str"}},
                  required_one_of=[["metadata", "instance", "alias", "fingerprint"]],
                  mutually_exclusive=[["metadata", "instance", "server"]])},
             options={"deadline": {"type": "float", "default": 900.0}}, carried=("expires_at", "profiles"),
             refers=_image_references),
        Kind("instance", "/1.0/instances",
             {"description": _DESCRIPTION, "config": _CONFIG, "devices": _DEVICES,
              "profiles": Field({"type": "list", "elements": "str"}, lambda value: list(value or ())),
              "ephemeral": Field({"type": "bool"}),
              "image": _origin(type="str"),
              "source": _origin(type="dict", options={
                  "instance": {"type": "str"}, "snapshot": {"type": "str"}, "project": {"type": "str"},
                  "backup": {"type": "path"}},
                  required_one_of=[["instance", "backup"]], mutually_exclusive=[["instance", "backup"]]),
              "type": _fixed(type="str", choices=["container", "virtual-machine"])},
             states=("present", "started", "stopped", "restarted", "absent"),
             options={"replace": {"type": "bool", "default": False}, "force_stop": {"type": "bool", "default": False},
                      "wait_for": {"type": "str", "choices": ["none", "address"], "default": "none"}, **_DEADLINE},
             # an instance that is replaced hands it on
             filled=(ID_MAP,), carried=("architecture",), refers=_instance_references),
        Kind("snapshot", "/1.0/instances/{instance}/snapshots",
             {"stateful": _fixed(type="bool"), "expires_at": Field({"type": "str"}, _moment)},
             states=("present", "restored", "absent"),
             parents={"instance": {"type": "str", "required": True}}, options=_DEADLINE,
             refers=_parent_instance),
        Kind("instance_backup", "/1.0/instances/{instance}/backups",
             {"expires_at": Field({"type": "str"}, _moment, mutable=False), "instance_only": _fixed(type="bool"),
              "optimized_storage": _fixed(type="bool"), "compression_algorithm": _origin(type="str")},
             parents={"instance": {"type": "str", "required": True}},
             options={"path": {"type": "path"}, "deadline": {"type": "float", "default": 900.0}},
             refers=_parent_instance, extension="container_backup"),
        Kind("network_forward", "/1.0/networks/{network}/forwards",
             {"description": _DESCRIPTION, "config": _CONFIG, "ports": _FORWARD_PORTS}, key="listen_address",
             parents={"network": {"type": "str", "required": True}}, refers=_parent_network,
             extension="network_forward"),
        Kind("network_load_balancer", "/1.0/networks/{network}/load-balancers",
             {"description": _DESCRIPTION, "config": _CONFIG, "backends": _BACKENDS, "ports": _BALANCED_PORTS},
             key="listen_address", parents={"network": {"type": "str", "required": True}}, refers=_parent_network,
             extension="network_load_balancer"),
        Kind("network_peer", "/1.0/networks/{network}/peers",
             {"description": _DESCRIPTION, "config": _CONFIG, "target_network": _fixed(type="str"),
              "target_project": _fixed(type="str")},
             parents={"network": {"type": "str", "required": True}}, refers=_parent_network,
             extension="network_peer"),
        Kind("network_zone", "/1.0/network-zones", {"description": _DESCRIPTION, "config": _CONFIG},
             extension="network_dns"),
        Kind("network_zone_record", "/1.0/network-zones/{zone}/records",
             {"description": _DESCRIPTION, "config": _CONFIG, "entries": _ZONE_ENTRIES},
             parents={"zone": {"type": "str", "required": True}},
             refers=lambda body: iter([("network_zone", body["zone"])]), extension="network_dns_records"),
        Kind("storage_bucket", "/1.0/storage-pools/{pool}/buckets", {"description": _DESCRIPTION, "config": _CONFIG},
             parents={"pool": {"type": "str", "required": True}}, filled=("size",),
             refers=lambda body: iter([("storage_pool", body["pool"])]), extension="storage_buckets"),
        Kind("cluster_group", "/1.0/cluster/groups", {"description": _DESCRIPTION, "members": _MEMBERS},
             extension="clustering_groups"),
        Kind("warning", "/1.0/warnings", {}, states=("new", "acknowledged", "absent"), default_state="acknowledged",
             key="uuid", extension="warnings"),
    )
}


def kind_of(item: Mapping[str, Any]) -> Kind:
    """The kind that a mapping of options is of. LxdError if it has none, or no name, or an option the kind lacks."""
    name = item.get("kind")
    if not isinstance(name, str) or name not in KINDS:
        raise LxdError(
            f'Unknown kind of resource "{name}"', remedy=f"one of {', '.join(sorted(KINDS))}", code="unknown_name"
        )
    kind = KINDS[name]
    name = item.get(kind.key)
    if not name or not str(name).isprintable():
        raise LxdError(
            f"A resource of kind {kind.noun}", f"has no {kind.key}, or one that is not text", code="invalid_value"
        )
    known = {"kind", "project", "target", "owner", *kind.argument_spec()}
    for key in item:
        if key not in known:
            raise LxdError(
                f"{kind.noun} {name}:",
                f'unknown option "{key}"; known: {", ".join(sorted(known))}',
                code="unknown_name",
            )
    return kind


def parse(item: Mapping[str, Any], *, project: str = "default", target: str | None = None) -> Resource:
    """A Resource from a mapping of options (``kind``, ``name``, ``state``, …). LxdError names what is wrong with it."""
    kind = kind_of(item)
    name = str(item[kind.key])
    state = item.get("state") or kind.default_state
    if state not in kind.states:
        raise LxdError(
            f"{kind.noun} {name}:",
            f'unknown state "{state}"; one of {", ".join(kind.states)}',
            code="invalid_value",
        )
    if item.get("owner") and "config" not in kind.fields:
        raise LxdError(
            f"{kind.noun} {name}:", "has no configuration keys that could say whose it is", code="invalid_value"
        )
    for parent in kind.parents:
        if not item.get(parent):
            raise LxdError(f"{kind.noun} {name}:", f"{parent} is required", code="invalid_value")
    given = {}
    for key, known in kind.fields.items():
        if item.get(key) is not None:
            try:
                given[key] = known.canonical(item[key])
            except LxdError as error:
                raise error.within(f"{kind.noun} {name}: {key}") from error
    defaults = {key: spec.get("default") for key, spec in kind.options.items()}
    return Resource(
        kind=kind,
        name=name,
        # A project lies in no other.
        project="default" if kind.name == "project" else item.get("project") or project,
        state=state,
        parents={key: str(item[key]) for key in kind.parents},
        given=given,
        options={**defaults, **{key: item[key] for key in kind.options if item.get(key) is not None}},
        target=item.get("target") or target,
        owner=_config(item.get("owner")),
    )
