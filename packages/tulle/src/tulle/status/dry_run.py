"""What dry runs of access policies would have done, from a sidecar's own counters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tulle.status.metrics import samples

DENY, ALLOW = "deny", "allow"

_METRICS = ("envoy_http_rbac_", "envoy_rbac_istio_dry_run_")
_BY_POLICY, _IN_ALL = "envoy_http_rbac_policy_shadow_", "envoy_http_rbac_shadow_"
_PREFIX = re.compile(r"istio_dry_run_(deny|allow)_")
# Of connections Envoy has the prefix in the name.
_CONNECTIONS = re.compile(r"envoy_rbac_istio_dry_run_(deny|allow)__shadow_(denied|allowed)")
_NOBODY = "none"
_DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that is tried out: which ``action`` it has (deny, allow), and what the names of its rules begin with."""

    action: str
    name: str
    rules: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of ``calls`` that some policies judged, how many they would have denied. Several are named where what they decide
    is decided together, as by ALLOW, or was not told apart.
    """

    action: str
    policies: tuple[str, ...]
    denied: float
    calls: float


@dataclass(slots=True)
class _Sum:
    """Calls that were judged, and those that would have been denied."""

    calls: float = 0.0
    denied: float = 0.0

    def add(self, word: str, value: float) -> None:
        self.calls += value
        self.denied += value if word == _DENIED else 0.0


@dataclass(slots=True)
class _Counted:
    """Of one action: by each rule, and in all where a sidecar tells that."""

    by_rule: dict[str, _Sum] = field(default_factory=dict)
    in_all: _Sum | None = None

    def whole(self) -> _Sum:
        """tulle-proxy counts what no rule matched as a rule of its own: its rules are the whole."""
        sums = self.by_rule.values()
        return self.in_all or _Sum(sum(each.calls for each in sums), sum(each.denied for each in sums))


def outcomes(text: str, policies: Iterable[Policy]) -> Iterator[Outcome]:
    """By policy, from a sidecar's metrics. ``policies`` are those that it tries out now; what was counted for others
    since it started is left out.
    """
    counted = _counted(text)
    tried = list(policies)
    allow = [each.name for each in tried if each.action == ALLOW]
    if allow:
        whole = counted[ALLOW].whole()
        yield Outcome(ALLOW, tuple(allow), whole.denied, whole.calls)
    yield from _denied([each for each in tried if each.action == DENY], counted[DENY])


def _denied(policies: list[Policy], found: _Counted) -> Iterator[Outcome]:
    whole = found.whole()
    # Stock Envoy does not tell the rules of connections apart.
    left = whole.denied - sum(each.denied for each in found.by_rule.values())
    for each in policies:
        denied = sum(sums.denied for rule, sums in found.by_rule.items() if rule.startswith(each.rules))
        yield Outcome(DENY, (each.name,), denied + (left if len(policies) == 1 else 0.0), whole.calls)
    if left > 0 and len(policies) > 1:
        yield Outcome(DENY, tuple(each.name for each in policies), left, whole.calls)


def _counted(text: str) -> dict[str, _Counted]:
    counted = {DENY: _Counted(), ALLOW: _Counted()}
    for sample in samples(text, _METRICS):
        connections = _CONNECTIONS.fullmatch(sample.name)
        if connections is not None:
            _add_whole(counted[connections[1]], connections[2], sample.value)
            continue
        action = _PREFIX.fullmatch(sample.labels.get("envoy_rbac_http_prefix", ""))
        if action is None:
            continue
        into = counted[action[1]]
        if sample.name.startswith(_BY_POLICY):
            rule = sample.labels.get("envoy_rbac_policy_name", _NOBODY)
            into.by_rule.setdefault(rule, _Sum()).add(sample.name.removeprefix(_BY_POLICY), sample.value)
        elif sample.name.startswith(_IN_ALL):
            _add_whole(into, sample.name.removeprefix(_IN_ALL), sample.value)
    return counted


def _add_whole(into: _Counted, word: str, value: float) -> None:
    into.in_all = into.in_all or _Sum()
    into.in_all.add(word, value)
