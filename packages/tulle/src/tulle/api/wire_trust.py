"""The admin API's messages about trust: the authority, its roots, their rotation, and who lags."""

from __future__ import annotations

from tulle.api.wire import Message


class RootView(Message, frozen=True):
    """A root that the mesh trusts; times in seconds since the epoch.

    ``fingerprint`` is its SHA-256; ``phase`` is signing, next (trusted, to sign soon) or retiring (to be dropped).
    """

    fingerprint: str
    subject: str
    not_before: float
    not_after: float
    phase: str


class LaggingLeaf(Message, frozen=True):
    """A certificate that the next step of a rotation waits for, and why."""

    namespace: str
    name: str
    serial: str
    expires: float
    reason: str


class ExpiryForecast(Message, frozen=True):
    """The workload whose edges would fail first, were no certificate renewed any more, and in how many seconds."""

    namespace: str
    name: str
    expires: float
    seconds: float


class EdgeForecast(Message, frozen=True):
    """The calls that would be the first to fail, were no certificate renewed any more, and in how many seconds: of
    those that the sidecars have counted, by the first certificate of either end.
    """

    source_namespace: str
    source: str
    destination_namespace: str
    destination: str
    expires: float
    seconds: float


class CaStatus(Message, frozen=True):
    """``phase`` is stable, trust-both or sign-with-new; ``certificates`` counts those in use."""

    phase: str
    next_step: str
    roots: list[RootView]
    lagging: list[LaggingLeaf]
    forecast: ExpiryForecast | None
    certificates: int
    revoked: list[str]
    first_edge: EdgeForecast | None = None


class IssuerPaths(Message, frozen=True):
    """PEM files on the control plane's machine: an issuer's certificate, its key, its root."""

    cert: str
    key: str
    root: str


class RotationRequest(Message, frozen=True):
    """Starts a rotation, to a root made for it or to ``issuer``; with ``abort`` turns the one under way round."""

    abort: bool = False
    issuer: IssuerPaths | None = None
