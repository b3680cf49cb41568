"""Serialized resources with content-hash versions, and snapshots of them whose references all resolve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from tulle.protos import pack_any, serialize
from tulle.xds.references import references

_PREFIX = "type.googleapis.com/"
LISTENER = f"{_PREFIX}envoy.config.listener.v3.Listener"
ROUTES = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"
CLUSTER = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
ENDPOINTS = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)
"""Type URLs in the order in which new resources must arrive (make before break)."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A resource that another one needs."""

    type_url: str
    name: str


@dataclass(frozen=True, slots=True)
class Resource:
    """`body` is a serialized `google.protobuf.Any`; `version` a hash of it, the same in every process.

    `needs` are the resources that it refers to.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    needs: tuple[Reference, ...] = ()


def resource(msg: Any) -> Resource:
    """The resource that a Listener, RouteConfiguration, Cluster or ClusterLoadAssignment makes."""
    type_url = _PREFIX + msg.DESCRIPTOR.full_name
    name = msg.cluster_name if type_url == ENDPOINTS else msg.name
    body = serialize(pack_any(msg))
    needs = tuple(
        Reference(_PREFIX + needed_type, needed) for needed_type, needed in sorted(set(references(msg)))
    )
    return Resource(type_url, name, blake2b(body, digest_size=12).hexdigest(), body, needs)


class Layer(Mapping[str, Resource]):
    """Resources of one type by name; what is asked of them as a whole is computed once."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_name = {each.name: each for each in resources}
        self._left: dict[str, tuple[Layer, frozenset[str]]] = {}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Itself, so that one layer and several can be asked alike."""
        return (self,)

    def __getitem__(self, name: str) -> Resource:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def digest(self) -> bytes:
        """A hash of names and versions, whatever their order."""
        digest = blake2b(digest_size=16)
        for name in sorted(self._by_name):
            digest.update(f"{name}\0{self._by_name[name].version}\0".encode())
        return digest.digest()

    @cached_property
    def needs(self) -> Mapping[str, frozenset[str]]:
        """Names that the resources refer to, by type URL."""
        found: dict[str, set[str]] = {}
        for each in self._by_name.values():
            for needed in each.needs:
                found.setdefault(needed.type_url, set()).add(needed.name)
        return {type_url: frozenset(names) for type_url, names in found.items()}

    def unmet(self, type_url: str, providers: Sequence[Layer]) -> set[str]:
        """Names of that type which none of `providers` has.

        What the first one leaves is remembered: it is the big one that many snapshots share.
        """
        if not providers:
            return set(self.needs[type_url])
        remembered = self._left.get(type_url)
        if remembered is None or remembered[0] is not providers[0]:
            left = frozenset(name for name in self.needs[type_url] if name not in providers[0])
            remembered = self._left[type_url] = (providers[0], left)
        return {name for name in remembered[1] if not any(name in each for each in providers[1:])}


class Layered(Mapping[str, Resource]):
    """Resources of one type in layers with disjoint names, of which some are shared by many snapshots."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def __getitem__(self, name: str) -> Resource:
        for layer in self.layers:
            if name in layer:
                return layer[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for layer in self.layers:
            yield from layer

    def __len__(self) -> int:
        return sum(map(len, self.layers))

    def __contains__(self, name: object) -> bool:
        return any(name in layer for layer in self.layers)

    @cached_property
    def digest(self) -> bytes:
        """A hash of the layers'."""
        return blake2b(b"".join(layer.digest for layer in self.layers), digest_size=16).digest()


class InconsistentSnapshot(Exception):
    """A snapshot refers to resources that it does not have; `missing` are those."""

    def __init__(self, missing: list[Reference]) -> None:
        self.missing = missing
        listed = ", ".join(f"{each.type_url.rpartition('.')[2]} {each.name}" for each in missing[:5])
        super().__init__(f"{len(missing)} resources are referred to and missing: {listed}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one proxy is told: resources by type URL and name, for each of `TYPES`.

    A mapping that is the same object in two snapshots has the same content.
    """

    resources: Mapping[str, Layer | Layered]

    def check(self) -> None:
        """Raises `InconsistentSnapshot` unless every reference resolves within the snapshot."""
        missing = [
            Reference(type_url, name)
            for by_name in self.resources.values()
            for holder in by_name.layers
            for type_url in holder.needs
            for name in holder.unmet(type_url, self.resources[type_url].layers)
        ]
        if missing:
            raise InconsistentSnapshot(sorted(missing, key=lambda each: (each.type_url, each.name)))

    @property
    def version(self) -> str:
        """A hash over all resources: snapshots of one proxy are equal when their versions are."""
        return blake2b(
            b"".join(self.resources[type_url].digest for type_url in TYPES), digest_size=12
        ).hexdigest()
