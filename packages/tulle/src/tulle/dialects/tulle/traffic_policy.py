"""Lowers TrafficPolicy: resilience that only tulle-proxy knows."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.tulle import schema_traffic as schema
from tulle.dialects.validate import validate
from tulle.model.policies import DestinationPolicy, TrafficPolicy
from tulle.model.resilience import (
    Breaker,
    Deadline,
    Fallback,
    FixedAnswer,
    LastGood,
    OtherService,
    PeakEwma,
    Resilience,
    RetryBudget,
)
from tulle.objects import Path, RawObject

_BREAKER = ("spec", "breaker")


def traffic_policy(obj: RawObject) -> Lowered:
    """TrafficPolicy → DestinationPolicy."""
    findings = Findings(obj)
    parsed = validate(schema.TrafficPolicy, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    resilience = Resilience(
        retry_budget=None
        if spec.retry_budget is None
        else RetryBudget(spec.retry_budget.percent, spec.retry_budget.min_per_second),
        deadline=None if spec.deadline is None else _deadline(spec.deadline),
        breaker=None if spec.breaker is None else _breaker(spec.breaker, findings),
        peak_ewma=None if spec.load_balancer is None else _peak_ewma(spec.load_balancer.peak_ewma),
    )
    if resilience == Resilience():
        findings.warning(
            "says-nothing", "the policy says nothing", ("spec",), "give it a retryBudget or a breaker"
        )
    findings.info(
        "only-tulle-proxy",
        "acts where tulle-proxy is the data plane; Envoy and gRPC clients ignore it",
        ("spec",),
    )
    policy = TrafficPolicy(resilience=resilience)
    return findings.lowered((DestinationPolicy(meta_of(obj), spec.host, policy),))


def _deadline(spec: schema.DeadlineSpec) -> Deadline:
    return Deadline() if spec.minimum is None else Deadline(spec.minimum)


def _peak_ewma(spec: schema.PeakEwmaSpec) -> PeakEwma:
    default = PeakEwma()
    return PeakEwma(spec.decay or default.decay, spec.default_latency or default.default_latency)


def _breaker(spec: schema.BreakerSpec, findings: Findings) -> Breaker:
    if not spec.consecutive_failures and not spec.failure_percent:
        message = "never opens: neither consecutiveFailures nor failurePercent is set"
        findings.error("wrong-value", message, _BREAKER)
    default = Breaker()
    return Breaker(
        consecutive_failures=spec.consecutive_failures,
        failure_percent=spec.failure_percent,
        minimum_requests=spec.minimum_requests,
        window=spec.window or default.window,
        open_for=spec.open_for or default.open_for,
        probes=spec.probes,
        fallback=None if spec.fallback is None else _fallback(spec.fallback, findings),
    )


def _fallback(spec: schema.FallbackSpec, findings: Findings) -> Fallback | None:
    at: Path = (*_BREAKER, "fallback")
    if [spec.answer, spec.last_good, spec.service].count(None) != 2:
        findings.error("wrong-value", "needs exactly one of answer, lastGood and service", at)
        return None
    if spec.answer is not None:
        return FixedAnswer(spec.answer.status, spec.answer.content_type, spec.answer.body)
    if spec.last_good is not None:
        return LastGood(spec.last_good.max_age, spec.last_good.max_body)
    assert spec.service is not None
    return OtherService(findings.place((*at, "service")), spec.service.host, spec.service.port)
