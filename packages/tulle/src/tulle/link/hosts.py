"""What a host written in an object means: Istio's rule for short names."""

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
