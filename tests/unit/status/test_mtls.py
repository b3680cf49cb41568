"""What sidecars' counters say about mutual TLS."""

# ruff: noqa: E501 (metrics are one line each)

from __future__ import annotations

from tulle.status.mtls import Taken, taken

ISTIO = """\
# TYPE istio_requests_total counter
istio_requests_total{reporter="destination",source_workload="web",source_workload_namespace="a",connection_security_policy="mutual_tls"} 5
istio_requests_total{reporter="destination",source_workload="unknown",source_workload_namespace="unknown",connection_security_policy="none"} 2
istio_requests_total{reporter="source",source_workload="web",connection_security_policy="unknown"} 9
istio_tcp_connections_opened_total{reporter="destination",source_workload="web",source_workload_namespace="a",connection_security_policy="mutual_tls"} 1
"""

ENVOY = """\
envoy_listener_downstream_cx_total{envoy_listener_address="127.0.0.1_2000"} 7
envoy_listener_ssl_handshake{envoy_listener_address="127.0.0.1_2000"} 4
envoy_listener_ssl_connection_error{envoy_listener_address="127.0.0.1_2000"} 1
envoy_listener_downstream_cx_total{envoy_listener_address="127.0.0.1_1000"} 100
"""


def test_calls_are_counted_by_caller() -> None:
    assert taken(ISTIO, []) == {("a", "web"): Taken(6, 0), ("unknown", "unknown"): Taken(0, 2)}


def test_stock_envoy_counts_by_listener() -> None:
    assert taken(ENVOY, [("127.0.0.1", 2000)]) == {("unknown", "unknown"): Taken(4, 2)}


def test_nobody_has_called() -> None:
    assert taken("", [("127.0.0.1", 2000)]) == {}
