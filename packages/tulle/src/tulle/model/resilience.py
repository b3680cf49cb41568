"""What Tulle adds to Envoy's policies: retry budgets, deadlines, circuits with fallbacks, peak EWMA."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from tulle.model.source import SourceRef


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries per hundred requests of the last seconds, and how many a second are allowed in any case."""

    percent: float = 20.0
    min_per_second: float = 3.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """Callers' deadlines are kept and told on; with less than `minimum` left a request is refused at once."""

    minimum: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """The same answer to every request."""

    status: int
    content_type: str = "text/plain"
    body: str = ""


@dataclass(frozen=True, slots=True)
class LastGood:
    """The last successful answer to the same request, while it is not older than `max_age`; `max_body` in bytes."""

    max_age: timedelta
    max_body: int = 65536


@dataclass(frozen=True, slots=True)
class OtherService:
    """Another service takes the requests. `host` is as written until link resolves it."""

    source: SourceRef
    host: str
    port: int


Fallback: TypeAlias = FixedAnswer | LastGood | OtherService


@dataclass(frozen=True, slots=True)
class Breaker:
    """Opens when requests fail, lets `probes` through after `open_for`, and closes when all of them succeed.

    `consecutive_failures` or `failure_percent` 0 switches that condition off. `fallback` None refuses with 503.
    """

    consecutive_failures: int = 5
    failure_percent: int = 0
    minimum_requests: int = 20
    window: timedelta = timedelta(seconds=10)
    open_for: timedelta = timedelta(seconds=5)
    probes: int = 3
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True)
class PeakEwma:
    """Balance by expected latency: `decay` is the time in which an observation fades to 1/e."""

    decay: timedelta = timedelta(seconds=10)
    default_latency: timedelta = timedelta(milliseconds=30)


@dataclass(frozen=True, slots=True)
class Resilience:
    """None is the data plane's default: a retry budget of 20 % and 3/s, and nothing of the others."""

    retry_budget: RetryBudget | None = None
    deadline: Deadline | None = None
    breaker: Breaker | None = None
    peak_ewma: PeakEwma | None = None
