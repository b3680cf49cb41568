"""What a host written in an object means: Istio's rule for short names, and wildcard patterns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hosts:
    """The full names that services have, and the cluster's domain."""

    known: Collection[str]
    domain: str

    def resolve(self, written: str, namespace: str) -> str:
        """The full name that `written` means in an object of `namespace`.

        A name without dots is relative to the namespace, as in Istio. `svc.ns` and `svc.ns.svc` mean a
        service of the cluster when there is one of that name, else the DNS name they spell. Patterns stay.
        """
        host = written.lower().rstrip(".")
        if host.startswith("*"):
            return host
        if "." not in host:
            return f"{host}.{namespace}.svc.{self.domain}"
        if host in self.known:
            return host
        for suffix in (f".svc.{self.domain}", f".{self.domain}"):
            if host + suffix in self.known:
                return host + suffix
        return host


def pattern_covers(pattern: str, host: str) -> bool:
    """Whether `pattern` (exact, `*.suffix` or `*`) covers `host`, which may itself be a pattern."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return host.endswith(pattern[1:]) and len(host) >= len(pattern)
    return pattern == host


def most_specific(patterns: Collection[str], host: str) -> str | None:
    """The pattern that covers `host` best: exact, then the longest suffix."""
    if host in patterns:
        return host
    covering = [pattern for pattern in patterns if pattern.startswith("*") and pattern_covers(pattern, host)]
    return max(covering, key=len, default=None)
