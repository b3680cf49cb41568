# ruff: noqa: E501 (metrics are lines)
"""Counters read from proxies, and what is made of them."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tulle.status import edges
from tulle.status.edges import Proxy
from tulle.status.metrics import quantile, samples


def test_labels_with_escapes_and_malformed_lines() -> None:
    text = 'a_total{x="1",y="a\\"b,c\\\\d"} 3 1700000000\na_total 4\na_total{x="1" oops\nb 1\n# HELP a_total\na_total{} NaNo\n'
    found = list(samples(text, ("a_",)))
    assert [(dict(sample.labels), sample.value) for sample in found] == [({"x": "1", "y": 'a"b,c\\d'}, 3.0), ({}, 4.0)]


@given(st.text(max_size=300))
def test_no_text_is_an_exception(text: str) -> None:
    list(samples(text, ("",)))


def test_quantiles_are_interpolated_and_bounded() -> None:
    buckets = [(10.0, 50.0), (20.0, 100.0), (math.inf, 100.0)]
    assert quantile(buckets, 0.5) == 10.0
    assert quantile(buckets, 0.75) == 15.0
    assert quantile([(10.0, 0.0), (math.inf, 5.0)], 0.99) == 10.0
    assert quantile([], 0.5) is None
    assert quantile([(10.0, 0.0)], 0.5) is None


ISTIO = """
istio_requests_total{reporter="source",source_workload="a",destination_workload="b-v1",destination_service_name="b",response_code="200"} 8
istio_requests_total{reporter="source",source_workload="a",destination_workload="b-v1",destination_service_name="b",response_code="503"} 2
istio_request_duration_milliseconds_bucket{reporter="source",source_workload="a",destination_workload="b-v1",destination_service_name="b",le="5"} 9
istio_request_duration_milliseconds_bucket{reporter="source",source_workload="a",destination_workload="b-v1",destination_service_name="b",le="+Inf"} 10
"""

ISTIO_CALLEE = """
istio_requests_total{reporter="destination",source_workload="a",destination_workload="b-v1",destination_service_name="b",response_code="200",connection_security_policy="mutual_tls"} 10
"""

ENVOY = """
envoy_cluster_default_svc_cluster_local_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="outbound|80|v1|c"} 4
envoy_cluster_default_svc_cluster_local_external_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="outbound|80|v1|c"} 4
envoy_cluster_default_svc_cluster_local_ssl_handshake{envoy_cluster_name="outbound|80|v1|c"} 1
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="xds-grpc"} 1
"""


async def test_both_kinds_of_sidecars_become_edges(monkeypatch: object) -> None:
    texts = {1: ISTIO, 2: ISTIO_CALLEE, 3: ENVOY}

    async def scrape(http: object, proxy: Proxy) -> str:
        return texts[proxy.admin]

    monkeypatch.setattr(edges, "_scrape", scrape)  # type: ignore[attr-defined]
    found = await edges.collect([Proxy("default", "a", 1), Proxy("default", "b-v1", 2), Proxy("default", "x", 3)])
    ab, xc = found
    assert (ab.source, ab.destination, ab.requests, ab.failures, ab.mtls) == ("a", "b-v1", 10, 2, 10)
    assert ab.buckets[0] == (5.0, 9.0)
    assert (xc.source, xc.destination, xc.requests, xc.mtls) == ("x", "c-v1", 4, 4)
