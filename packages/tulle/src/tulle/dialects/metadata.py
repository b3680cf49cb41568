"""The part that every Kubernetes-shaped object has: apiVersion, kind, metadata and, untouched, status."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any

from tulle.dialects.fields import DnsLabel, Ignored, Schema, Subdomain

_Ignored = Annotated[Any, Ignored()]


class ObjectMeta(Schema):
    """Kubernetes' ObjectMeta; what only the API server writes is accepted and has no effect."""

    name: Subdomain
    namespace: DnsLabel | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generate_name: _Ignored = None
    uid: _Ignored = None
    resource_version: _Ignored = None
    generation: _Ignored = None
    creation_timestamp: _Ignored = None
    deletion_timestamp: _Ignored = None
    deletion_grace_period_seconds: _Ignored = None
    owner_references: _Ignored = None
    finalizers: _Ignored = None
    managed_fields: _Ignored = None
    self_link: _Ignored = None


class Envelope(Schema):
    """An object around its spec."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    status: _Ignored = None
