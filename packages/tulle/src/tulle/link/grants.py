"""Whose a host is, and who may claim it: names of services belong to their namespace, unless it grants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.grants import Grant
from tulle.model.meta import Meta
from tulle.model.services import Service
from tulle.model.settings import MeshSettings

_SERVICES = {("", "Service"), ("networking.istio.io", "ServiceEntry")}


@dataclass(frozen=True, slots=True)
class Ownership:
    """`declared` has the services by host; what is in the root namespace may claim everything."""

    settings: MeshSettings
    grants: Sequence[Grant] = ()
    declared: Mapping[str, Service] = field(default_factory=dict)

    def missing(self, meta: Meta, host: str) -> list[str]:
        """The namespaces whose host or pattern this is, and that have not granted it to this object."""
        if meta.namespace == self.settings.root_namespace:
            return []
        return sorted({
            owner
            for owner, name in self._owners(host)
            if owner != meta.namespace and not any(_allows(grant, owner, meta, name) for grant in self.grants)
        })

    def _owners(self, host: str) -> Iterable[tuple[str, str]]:
        """(namespace, service name) of whatever the host or pattern is or covers."""
        named = self._named(host.removeprefix("*."))
        if named is not None:
            # A pattern below a namespace's own names is that namespace's.
            yield named
        if not host.startswith("*"):
            service = self.declared.get(host)
            covered = [service] if service is not None else []
        else:
            covered = [service for known, service in self.declared.items() if known.endswith(host[1:])]
        for each in covered:
            yield each.meta.namespace, each.meta.name

    def _named(self, host: str) -> tuple[str, str] | None:
        """The (namespace, name) that a name of the cluster spells, also when there is no such service."""
        inner, found, rest = host.rpartition(f".svc.{self.settings.domain}")
        if not found or rest:
            return None
        name, _, namespace = inner.rpartition(".")
        return namespace, name


def refused(service: Service, host: str, owners: Sequence[str]) -> Diagnostic:
    """What is said of a service that takes another namespace's name."""
    return Diagnostic(
        Severity.ERROR,
        "not-granted",
        f"{service.meta} claims {host}, which belongs to namespace {' and '.join(owners)}",
        service.meta.source,
        field="spec.hosts",
        hint=_hint(service.meta, owners),
    )


def limited(meta: Meta, host: str, owners: Sequence[str]) -> Diagnostic:
    """What is said of routes for another namespace's host."""
    return Diagnostic(
        Severity.WARNING,
        "not-granted",
        f"{meta} routes {host}, which belongs to namespace {' and '.join(owners)}:"
        f" it holds for callers in namespace {meta.namespace} only",
        meta.source,
        field="spec.hosts",
        hint=_hint(meta, owners),
    )


def _hint(meta: Meta, owners: Sequence[str]) -> str:
    return (
        f"namespace {' and '.join(owners)} can allow it with a ReferenceGrant"
        f" from {meta.kind} in {meta.namespace} to Service"
    )


def _allows(grant: Grant, owner: str, meta: Meta, name: str) -> bool:
    return (
        grant.meta.namespace == owner
        and any((each.kind, each.namespace) == (meta.kind, meta.namespace) for each in grant.grantees)
        and any((to.group, to.kind) in _SERVICES and to.name in (None, name) for to in grant.granted)
    )
