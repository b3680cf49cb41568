"""The admin API's routes about trust: the authority's status, rotation of the root, revocation, metrics."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.body import answer, read
from tulle.api.roles import Need, guarded
from tulle.api.wire_trust import CaStatus, EdgeForecast, RotationRequest

PHASES = ("stable", "trust-both", "sign-with-new")


class TrustBackend(Protocol):
    """The operations behind the routes. Methods raise `tulle.api.backend.Refused`."""

    def ca_status(self) -> CaStatus:
        """The roots, the rotation and who lags, and who would fail first."""

    async def first_edge(self) -> EdgeForecast | None:
        """Which calls would fail first, by the counters that the sidecars had at most seconds ago."""

    def rotate(self, request: RotationRequest) -> CaStatus:
        """Starts a rotation or turns it round."""

    def revoke(self, namespace: str, name: str) -> None:
        """Takes a workload's certificates, streams and connections away."""

    def unrevoke(self, namespace: str, name: str) -> None:
        """Takes that back."""


DESCRIPTIONS: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("get", "/v1/ca", "The roots, their rotation, and who would fail first", None, CaStatus),
    ("post", "/v1/ca/rotation", "Start a rotation of the root, or abort it", RotationRequest, CaStatus),
    ("put", "/v1/workloads/{namespace}/{name}/revocation", "Revoke a workload", None, None),
    ("delete", "/v1/workloads/{namespace}/{name}/revocation", "Take a revocation back", None, None),
    ("get", "/metrics", "The control plane's metrics, in Prometheus' text format", None, None),
)


def routes(backend: TrustBackend) -> list[Route]:
    """The routes for one backend."""

    async def whole_status() -> CaStatus:
        return msgspec.structs.replace(backend.ca_status(), first_edge=await backend.first_edge())

    async def status(request: Request) -> Response:
        return answer(await whole_status())

    async def rotate(request: Request) -> Response:
        return answer(backend.rotate(await read(request, RotationRequest)))

    async def revocation(request: Request) -> Response:
        change = backend.revoke if request.method == "PUT" else backend.unrevoke
        change(request.path_params["namespace"], request.path_params["name"])
        return Response(status_code=204)

    async def metrics(request: Request) -> Response:
        return Response(render(await whole_status()), media_type="text/plain; version=0.0.4")

    return [
        guarded("/v1/ca", status, Need.VIEW),
        guarded("/v1/ca/rotation", rotate, Need.ADMIN, ["POST"]),
        guarded("/v1/workloads/{namespace}/{name}/revocation", revocation, Need.EDIT, ["PUT", "DELETE"]),
        guarded("/metrics", metrics, Need.VIEW),
    ]


def render(status: CaStatus) -> bytes:
    """The status as metrics. Times are in seconds since the epoch."""
    registry = CollectorRegistry()
    roots = Gauge("tulle_ca_root_expiry_timestamp_seconds", "When a trusted root expires.", ["fingerprint", "phase"],
                  registry=registry)
    for root in status.roots:
        roots.labels(root.fingerprint, root.phase).set(root.not_after)
    phase = Gauge("tulle_ca_rotation_phase", "1 for the phase that the root's rotation is in.", ["phase"],
                  registry=registry)
    for each in PHASES:
        phase.labels(each).set(each == status.phase)
    Gauge("tulle_ca_rotation_lagging", "Certificates that the next step waits for.",
          registry=registry).set(len(status.lagging))
    Gauge("tulle_certificates", "Workload certificates in use.", registry=registry).set(status.certificates)
    if status.forecast is not None:
        first = Gauge("tulle_first_certificate_expiry_timestamp_seconds", "When the first workload would fail.",
                      ["namespace", "workload"], registry=registry)
        first.labels(status.forecast.namespace, status.forecast.name).set(status.forecast.expires)
    edge = status.first_edge
    if edge is not None:
        ends = ["source_namespace", "source", "destination_namespace", "destination"]
        calls = Gauge("tulle_first_edge_expiry_timestamp_seconds", "When the first calls would fail.", ends,
                      registry=registry)
        calls.labels(*(getattr(edge, end) for end in ends)).set(edge.expires)
    return generate_latest(registry)
