"""The live picture: every sidecar's counters, added up per edge of the call graph."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import httpx

from tulle.api import wire
from tulle.status.metrics import Sample, samples

PATIENCE = 2.0
UNKNOWN = "unknown"
MUTUAL = "mutual_tls"

_ISTIO = ("istio_requests_total", "istio_request_duration_milliseconds_bucket")
_ENVOY = ("envoy_cluster_",)
_ENVOY_PARTIAL = ("_external_upstream", "_internal_upstream", "_canary_upstream")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A sidecar on this machine, by its workload and its admin port."""

    namespace: str
    name: str
    admin: int


@dataclass(slots=True)
class _Edge:
    requests: float = 0.0
    failures: float = 0.0
    mtls: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)


_Key = tuple[str, str, str, str, str]
"""Source, destination, service; the namespaces of the first two."""
_Edges = dict[_Key, _Edge]


async def collect(proxies: Sequence[Proxy]) -> list[wire.EdgeView]:
    """Asks all sidecars at once; one that does not answer contributes nothing."""
    texts = [text or "" for text in await scrape_all(proxies)]
    edges: _Edges = {}
    for proxy, text in zip(proxies, texts, strict=True):
        if "\nistio_requests_total{" in f"\n{text}":
            _add_istio(edges, samples(text, _ISTIO))
        else:
            _add_envoy(edges, proxy, samples(text, _ENVOY))
    return [_view(key, edge) for key, edge in sorted(edges.items()) if edge.requests]


async def scrape_all(proxies: Sequence[Proxy]) -> list[str | None]:
    """The metrics of every sidecar, asked at once; None for one that does not answer."""
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        return await asyncio.gather(*(_scrape(http, proxy) for proxy in proxies))


async def _scrape(http: httpx.AsyncClient, proxy: Proxy) -> str | None:
    try:
        return (await http.get(f"http://127.0.0.1:{proxy.admin}/stats/prometheus")).text
    except httpx.HTTPError:
        return None


def _add_istio(edges: _Edges, found: Iterable[Sample]) -> None:
    """The caller's side says who was called and how it went; the callee's side says whether it was mutual TLS."""
    for sample in found:
        labels = sample.labels
        key = (
            labels.get("source_workload", UNKNOWN),
            labels.get("destination_workload", UNKNOWN),
            labels.get("destination_service_name", UNKNOWN),
            labels.get("source_workload_namespace", UNKNOWN),
            labels.get("destination_workload_namespace", UNKNOWN),
        )
        called = labels.get("reporter") == "source"
        if sample.name.endswith("_bucket"):
            if called:
                bound = float(labels.get("le", "inf"))
                buckets = edges.setdefault(key, _Edge()).buckets
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            continue
        edge = edges.setdefault(key, _Edge())
        if called:
            edge.requests += sample.value
            if labels.get("response_code", "0")[:1] in ("0", "5"):
                edge.failures += sample.value
        elif labels.get("connection_security_policy") == MUTUAL:
            edge.mtls += sample.value


def _add_envoy(edges: _Edges, proxy: Proxy, found: Iterable[Sample]) -> None:
    """Stock Envoy counts by cluster, so the destination is the service, or its subset, and not the workload.

    It takes a cluster's name to end at the first dot and leaves the rest of a host in the middle of the metric's name.
    """
    secured: set[_Key] = set()
    for sample in found:
        parts = sample.labels.get("envoy_cluster_name", "").split("|")
        if parts[0] != "outbound" or len(parts) != 4 or any(part in sample.name for part in _ENVOY_PARTIAL):
            continue
        service, _, domain = parts[3].partition(".")
        destination = f"{service}-{parts[2]}" if parts[2] else service
        key = (proxy.name, destination, service, proxy.namespace, domain.partition(".")[0] or UNKNOWN)
        edge = edges.setdefault(key, _Edge())
        if sample.name.endswith("_upstream_rq_time_bucket"):
            edge.buckets[float(sample.labels.get("le", "inf"))] = sample.value
        elif sample.name.endswith("_upstream_rq_xx"):
            edge.requests += sample.value
            if sample.labels.get("envoy_response_code_class") == "5":
                edge.failures += sample.value
        elif sample.name.endswith("_ssl_handshake") and sample.value:
            secured.add(key)
    for key in secured:
        edges[key].mtls = edges[key].requests


def _view(key: _Key, edge: _Edge) -> wire.EdgeView:
    source, destination, service, source_namespace, destination_namespace = key
    return wire.EdgeView(
        source=source, destination=destination, service=service, requests=edge.requests,
        failures=edge.failures, mtls=min(edge.mtls, edge.requests),
        buckets=[(min(bound, 1e308), count) for bound, count in sorted(edge.buckets.items())],
        source_namespace=source_namespace, destination_namespace=destination_namespace,
    )
