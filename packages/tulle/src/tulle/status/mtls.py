"""Which calls a sidecar took with mutual TLS and which without, from its own counters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tulle.status.metrics import Sample, samples

UNKNOWN = "unknown"

_ISTIO = ("istio_requests_total", "istio_tcp_connections_opened_total")
_ENVOY = ("envoy_listener_downstream_cx_total", "envoy_listener_ssl_handshake", "envoy_listener_ssl_connection_error")
_MUTUAL = "mutual_tls"


@dataclass(slots=True)
class Taken:
    """Calls from one caller."""

    mutual_tls: float = 0.0
    plaintext: float = 0.0


Caller = tuple[str, str]
"""A workload's namespace and name; both `unknown` for callers without identity."""


def taken(text: str, inbound: Iterable[tuple[str, int]]) -> dict[Caller, Taken]:
    """By caller, from a sidecar's metrics. `inbound` are the addresses of its inbound listeners: stock Envoy counts by
    listener only, and does not tell callers apart.
    """
    if "\nistio_" in f"\n{text}":
        return _istio(samples(text, _ISTIO))
    return _envoy(samples(text, _ENVOY), {f"{address}_{port}" for address, port in inbound})


def _istio(found: Iterable[Sample]) -> dict[Caller, Taken]:
    by_caller: dict[Caller, Taken] = {}
    for sample in found:
        labels = sample.labels
        if labels.get("reporter") != "destination":
            continue
        caller = (labels.get("source_workload_namespace", UNKNOWN), labels.get("source_workload", UNKNOWN))
        into = by_caller.setdefault(caller, Taken())
        if labels.get("connection_security_policy") == _MUTUAL:
            into.mutual_tls += sample.value
        else:
            into.plaintext += sample.value
    return by_caller


def _envoy(found: Iterable[Sample], listeners: set[str]) -> dict[Caller, Taken]:
    all_of, secured = 0.0, 0.0
    failed = 0.0
    for sample in found:
        if sample.labels.get("envoy_listener_address") not in listeners:
            continue
        if sample.name == _ENVOY[0]:
            all_of += sample.value
        elif sample.name == _ENVOY[1]:
            secured += sample.value
        elif sample.name == _ENVOY[2]:
            failed += sample.value
    if not all_of:
        return {}
    return {(UNKNOWN, UNKNOWN): Taken(secured, max(0.0, all_of - secured - failed))}
