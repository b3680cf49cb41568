"""SPIFFE ids of workloads, and what else a workload's certificate says of it. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTROL_PLANE_NAMESPACE = "tulle-system"
CONTROL_PLANE_ACCOUNT = "tulle-control-plane"
CONTROL_PLANE_SERVER_NAME = "tulle-control-plane"
"""The DNS name in the control plane's certificate: what clients ask for, wherever it runs."""

_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,253}")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SPIFFE = re.compile(r"spiffe://([^/]+)/ns/([^/]+)/sa/([^/]+)")

MAX_SUBJECT = 64
"""X.509's bound on a name in a certificate's subject (RFC 5280, ub-common-name)."""


class NameRefusedError(ValueError):
    """A name that cannot stand in a SPIFFE id or a certificate."""


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise NameRefusedError(f"not a trust domain: {self.trust_domain!r}")
        for segment in (self.namespace, self.service_account):
            # The SPIFFE specification forbids "." and ".." as path segments.
            if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
                raise NameRefusedError(f"not a segment of a SPIFFE id: {segment!r}")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """The id in `text`. Raises `NameRefusedError` for any other URI."""
        match = _SPIFFE.fullmatch(text)
        if match is None:
            raise NameRefusedError(f"not a workload's SPIFFE id: {text!r}")
        return cls(*match.groups())


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """What a workload's certificate says: its SPIFFE id, and in the subject its name and labels.

    The subject lets the peer's proxy fill telemetry labels at the handshake; it is never used to authorize.
    `app` and `version` are the labels of those names, empty when there are none.
    """

    spiffe_id: SpiffeId
    workload: str
    app: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        for name in (self.workload, self.app, self.version):
            if len(name) > MAX_SUBJECT:
                raise NameRefusedError(f"{name!r} is longer than a certificate allows ({MAX_SUBJECT})")
