"""Lowers timeouts, retries and injected faults of a VirtualService; says when they contradict each other."""

from __future__ import annotations

from datetime import timedelta

from tulle.dialects.findings import Findings, seconds
from tulle.dialects.istio.lower.common import percent
from tulle.dialects.istio.schema import virtual_service as schema
from tulle.dialects.istio.vocabulary import grpc_code, retry_conditions
from tulle.model.routes import Fault, FaultAbort, FaultDelay, Percent, Retry, RetryOn
from tulle.objects import Path

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

AFTER_PROCESSING = frozenset(
    {
        RetryOn.FIVE_XX,
        RetryOn.GATEWAY_ERROR,
        RetryOn.RESET,
        RetryOn.RETRIABLE_4XX,
        RetryOn.RETRIABLE_STATUS_CODES,
        RetryOn.RETRIABLE_HEADERS,
    }
)
"""Conditions that can hold although the destination has already acted on the request."""


def timeout_of(route: schema.HttpRoute) -> timedelta | None:
    """None for none; 0s switches the timeout off, which is Istio's default anyway."""
    return route.timeout or None


def retry_of(route: schema.HttpRoute, path: Path, findings: Findings) -> Retry | None:
    """None when the rule leaves retries to the defaults."""
    written = route.retries
    if written is None:
        return None
    at = (*path, "retries")
    conditions, codes = retry_conditions(written.retry_on)
    retry = Retry(
        attempts=written.attempts,
        per_try_timeout=written.per_try_timeout,
        on=conditions,
        status_codes=codes,
        backoff=written.backoff,
        other_localities=written.retry_remote_localities or False,
        keep_previous_hosts=written.retry_ignore_previous_hosts is False,
    )
    if written.attempts == 0:
        if written.per_try_timeout is not None or written.retry_on:
            message = "attempts is 0, so nothing is retried and the rest of retries has no effect"
            findings.warning("no-effect", message, at, "attempts counts retries")
        return retry
    _check_methods(route, retry, at, findings)
    _check_budget(route, retry, at, findings)
    return retry


def fault_of(written: schema.HttpFaultInjection, path: Path, findings: Findings) -> Fault:
    """Without a percentage a fault is never injected, as Istio documents it."""
    return Fault(
        delay=_delay(written.delay, (*path, "delay"), findings) if written.delay else None,
        abort=_abort(written.abort, (*path, "abort"), findings) if written.abort else None,
    )


def _check_methods(route: schema.HttpRoute, retry: Retry, path: Path, findings: Findings) -> None:
    risky = [str(condition) for condition in retry.on if condition in AFTER_PROCESSING]
    methods = [match.method.exact if match.method else None for match in route.match]
    if risky and not (methods and SAFE_METHODS.issuperset(method or "" for method in methods)):
        message = (
            f"{', '.join(risky)} can hold after the destination has acted: POST and other requests that "
            "are not idempotent will be retried too"
        )
        hint = "give safe methods a rule of their own (match: [{method: {exact: GET}}])"
        findings.warning("retries-unsafe-methods", message, (*path, "retryOn"), hint)


def _check_budget(route: schema.HttpRoute, retry: Retry, path: Path, findings: Findings) -> None:
    total, each = timeout_of(route), retry.per_try_timeout
    if total is None or each is None:
        return
    tries = retry.attempts + 1
    if each > total:
        message = f"the timeout of all tries ({seconds(total)}) is shorter than that of one ({seconds(each)})"
        findings.warning(
            "timeout-order", message, (*path, "perTryTimeout"), "perTryTimeout never takes effect"
        )
    elif each * tries > total:
        message = f"{tries} tries of {seconds(each)} do not fit in the timeout of {seconds(total)}"
        findings.info("timeout-order", message, (*path, "attempts"), "the last tries may be cut short")


def _share(fault: schema.FaultDelay | schema.FaultAbort, path: Path, findings: Findings) -> Percent:
    if fault.percentage is None and fault.percent is None:
        message = "without percentage this fault is never injected"
        findings.warning("no-effect", message, path, "percentage: {value: 100} is always")
    return percent(fault.percentage, fault.percent, Percent(0), (*path, "percent"), findings)


def _delay(written: schema.FaultDelay, path: Path, findings: Findings) -> FaultDelay | None:
    share = _share(written, path, findings)
    if written.fixed_delay is None:
        if written.exponential_delay is None:
            findings.error("missing-field", "'fixedDelay' is missing", path)
        return None
    return FaultDelay(written.fixed_delay, share)


def _abort(written: schema.FaultAbort, path: Path, findings: Findings) -> FaultAbort | None:
    share = _share(written, path, findings)
    if written.http_status is not None and written.grpc_status is not None:
        message = "must say only one of httpStatus and grpcStatus"
        findings.error("conflicting-fields", message, (*path, "grpcStatus"))
    if written.http_status is not None:
        return FaultAbort(share, http_status=written.http_status)
    if written.grpc_status is not None:
        return FaultAbort(share, grpc_status=grpc_code(written.grpc_status))
    if written.http2_error is None:
        findings.error("missing-field", "must say httpStatus or grpcStatus", path)
    return None
