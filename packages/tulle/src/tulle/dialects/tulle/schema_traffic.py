"""tulle.dev/v1alpha1 TrafficPolicy: what tulle-proxy does for a service beyond what Envoy can."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tulle.dialects.fields import Count, Duration, Host, PercentInt, Port, Schema
from tulle.dialects.metadata import Envelope

Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class RetryBudgetSpec(Schema):
    percent: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 20.0
    min_per_second: Rate = 3.0


class DeadlineSpec(Schema):
    minimum: Duration | None = None


class AnswerSpec(Schema):
    status: Annotated[int, Field(ge=200, le=599)] = 503
    content_type: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e ]+$")] = (
        "text/plain"
    )
    body: Annotated[str, Field(max_length=65536)] = ""


class LastGoodSpec(Schema):
    max_age: Duration
    max_body: Annotated[int, Field(ge=0, le=1 << 20)] = 65536


class FallbackService(Schema):
    host: Host
    port: Port


class FallbackSpec(Schema):
    """Exactly one of the three."""

    answer: AnswerSpec | None = None
    last_good: LastGoodSpec | None = None
    service: FallbackService | None = None


class BreakerSpec(Schema):
    consecutive_failures: Count = 5
    failure_percent: PercentInt = 0
    minimum_requests: Count = 20
    window: Duration | None = None
    open_for: Duration | None = None
    probes: Annotated[int, Field(ge=1, le=1000)] = 3
    fallback: FallbackSpec | None = None


class PeakEwmaSpec(Schema):
    decay: Duration | None = None
    default_latency: Duration | None = None


class BalancerSpec(Schema):
    peak_ewma: PeakEwmaSpec


class TrafficPolicySpec(Schema):
    """For calls to ``host``. Without ``retryBudget`` the default one holds: 20 %, at least 3 a second."""

    host: Host
    retry_budget: RetryBudgetSpec | None = None
    deadline: DeadlineSpec | None = None
    breaker: BreakerSpec | None = None
    load_balancer: BalancerSpec | None = None


class TrafficPolicy(Envelope):
    """tulle.dev/v1alpha1 TrafficPolicy."""

    spec: TrafficPolicySpec
