"""A rate-limit service over gRPC (envoy.service.ratelimit.v3) that counts for all, and what holds without it."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness.grpc_services import Unary, cluster, extension, grpc_cluster, http_listener, serving
from harness.proxies import DATA_PLANES, DataPlane, PortHolder, running
from tulle.protos import message

LIMIT = "envoy.extensions.filters.http.ratelimit.v3.RateLimit"
LOCAL = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
SHOULD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
RESPONSE = message("envoy.service.ratelimit.v3.RateLimitResponse")
OK, OVER = 1, 2
MOST = 3
"""Requests that the service lets through for each value of `user`."""


class Counting:
    """Counts each descriptor, as a service for many proxies does."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()

    def __call__(self, request: Any, _context: grpc.ServicerContext) -> Any:
        (descriptor,) = request.descriptors
        (entry,) = descriptor.entries
        with self.lock:
            self.counts[request.domain, entry.value] += 1
            over = self.counts[request.domain, entry.value] > MOST
        return RESPONSE(overall_code=OVER if over else OK)


def bootstrap(ports: tuple[int, int], app: int, service: int) -> dict[str, Any]:
    """Two listeners: one that fails open, to a local limit, and one that fails closed."""
    action = {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "rate_limits": [{"actions": [action]}]}}
    asked = {
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}},
    }
    all_of_them = {"default_value": {"numerator": 100}}
    local = extension(
        "local",
        LOCAL,
        stat_prefix="local",
        status={"code": 423},
        token_bucket={"max_tokens": 5, "tokens_per_fill": 1, "fill_interval": "3600s"},
        filter_enabled=all_of_them,
        filter_enforced=all_of_them,
    )
    listeners = []
    for name, port in zip(("open", "closed"), ports, strict=True):
        closed = name == "closed"
        fields = {"domain": "d", "rate_limit_service": asked, "timeout": "1s", "failure_mode_deny": closed}
        limit = extension("limit", LIMIT, **fields)
        listeners.append(http_listener(name, port, [route], [limit] if closed else [limit, local]))
    clusters = [cluster("app", app), grpc_cluster("limits", service)]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


@pytest.fixture(params=DATA_PLANES, ids=lambda plane: plane.name)
def plane(request: pytest.FixtureRequest) -> DataPlane:
    chosen: DataPlane = request.param
    if not chosen.available():
        pytest.skip(f"{chosen.name} is not built; make build")
    return chosen


def statuses(port: int, user: str, times: int) -> list[int]:
    found = []
    for _ in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"x-user": user})
            response = connection.getresponse()
            response.read()
            found.append(response.status)
    return found


@pytest.mark.integration
def test_one_service_counts_for_two_listeners_and_a_local_limit_holds_without_it(
    plane: DataPlane, tmp_path: Path
) -> None:
    service = Unary(SHOULD, "envoy.service.ratelimit.v3.RateLimitRequest", Counting())
    with serving(service) as at, contextlib.closing(PortHolder()) as ports:
        open_, closed = ports(), ports()
        # Nobody listens where the application would: a request that no limit refuses is answered 503.
        config = bootstrap((open_, closed), ports(), at)
        with running(plane, config, [open_, closed], tmp_path) as process:
            passed, limited = 503, 429
            assert statuses(open_, "a", MOST - 1) == [passed] * (MOST - 1)
            assert statuses(closed, "a", 2) == [passed, limited]
            assert statuses(open_, "b", 1) == [passed], "another value has a count of its own"
            assert statuses(open_, "a", 1) == [limited]

            def unavailable(_request: Any, context: grpc.ServicerContext) -> Any:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

            service.answer = unavailable
            assert statuses(closed, "c", 1) == [500]
            # Of the local limit's tokens the requests that the service let through have used some.
            assert statuses(open_, "c", 3) == [passed, passed, 423]
            assert process.poll() is None
    assert {call.domain for call in service.asked} == {"d"}
