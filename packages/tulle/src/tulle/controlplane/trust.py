"""The mesh's trust at work: pushed to every holder of a certificate, rotated step by step, taken from the revoked."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tulle.api import wire_trust as wire
from tulle.api.backend import Refused
from tulle.api.wire import EdgeView
from tulle.controlplane.forecast import first_edge
from tulle.delivery.contract import Node, Peer
from tulle.delivery.server import SDS, AdsServer
from tulle.delivery.status import StatusRegistry
from tulle.identity.ca import Authority, RotationRefusedError
from tulle.identity.files import UnsafeKeyError
from tulle.identity.secrets import Secrets, root_secret, snapshot
from tulle.identity.server import Admit, Admitted, Issuance, Registrations, presented
from tulle.identity.signer import IssuerFiles, RootUnusableError
from tulle.identity.trust_state import Phase
from tulle.sources.store_db import UnwritableError
from tulle.sources.store_leaves import Leaf, LeafLedger

log = logging.getLogger(__name__)


class Audit(Protocol):
    """Records an event, its subject and details, at a time in seconds since 1970, and from where it came."""

    def __call__(self, event: str, subject: str, detail: str, at: float, origin: str | None = None, /) -> None:
        """None as the origin: the present caller of the admin API, if any."""


@dataclass(slots=True)
class _Subscription:
    keeper: TrustKeeper
    notify: Callable[[], None]

    def current(self) -> Secrets:
        return self.keeper.secrets

    def close(self) -> None:
        self.keeper.leave(self)


@dataclass(slots=True)
class TrustKeeper:
    """Belongs to one event loop. Implements `SnapshotSource`, and the trust part of the admin API."""

    authority: Authority
    leaves: LeafLedger
    registrations: Registrations
    audit: Audit
    clock: Callable[[], datetime]
    federated: dict[str, str] = field(default_factory=dict)
    """The roots of other trust domains in PEM."""
    aliases: tuple[str, ...] = ()
    """Trust domains that are this one by another name: the mesh's own roots vouch for them."""
    edges: Callable[[], Awaitable[Sequence[EdgeView]]] | None = None
    """Who calls whom, by the sidecars' counters."""
    registry: StatusRegistry = field(default_factory=StatusRegistry)
    cut: list[Callable[[], None]] = field(default_factory=list)
    """Called when somebody was revoked or is no longer: looks again at who may be connected and reached."""
    revoked: dict[tuple[str, str], float] = field(init=False)
    secrets: Secrets = field(init=False)
    service: AdsServer = field(init=False)
    _open: list[_Subscription] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.revoked = self.leaves.revoked()
        self.secrets = self._secrets()
        self.service = AdsServer(self, self.authorize, self.registry, SDS, _holder)
        self.authority.changed.append(self._trust_changed)

    # -- who may have a certificate, and who has one

    def guard(self, admit: Admit) -> Admit:
        """Admission that the revoked do not pass."""

        def guarded(context: Any, now: datetime) -> Admitted | str:
            admitted = admit(context, now)
            if isinstance(admitted, str):
                return admitted
            key = (admitted.identity.spiffe_id.namespace, admitted.identity.workload)
            return f"the workload {'/'.join(key)} is revoked" if key in self.revoked else admitted

        return guarded

    def record(self, issuance: Issuance, now: datetime) -> None:
        """Notes a certificate before it is handed out."""
        issued, identity = issuance.issued, issuance.admitted.identity
        shown = issuance.admitted.presented
        before = self.leaves.get(shown.serial) if shown is not None else None
        namespace = identity.spiffe_id.namespace
        lineage = before.lineage if before is not None else issued.serial
        life = (now.timestamp(), issued.not_after.timestamp())
        self.leaves.add(Leaf(issued.serial, lineage, namespace, identity.workload, issued.root, *life), life[0])
        detail = f"serial {issued.serial} until {issued.not_after:%Y-%m-%dT%H:%M:%SZ}"
        self.audit("certificate-issued", f"{namespace}/{identity.workload}", detail, life[0], issuance.peer)

    def authorize(self, node: Node, peer: Peer) -> str | None:
        """None when the peer may follow what the mesh trusts."""
        namespace = peer.spiffe_id.removeprefix("spiffe://").split("/")[2]
        return self.refusal(namespace, peer.workload)

    def refusal(self, namespace: str, workload: str) -> str | None:
        """Why a workload may no longer be served, or None."""
        if (namespace, workload) in self.revoked:
            return f"the workload {namespace}/{workload} is revoked"
        return None

    # -- what is trusted, pushed to all of them

    def open(self, node: Node, peer: Peer, notify: Callable[[], None]) -> _Subscription:
        """A holder follows; with this certificate in use, those that it had before are not."""
        try:
            if not self.leaves.confirm(peer.serial):
                log.warning(
                    "%s holds a certificate that the store does not know (serial %s): the store is older than the mesh",
                    peer.spiffe_id, peer.serial,
                )
        except UnwritableError as error:
            # It is told what to trust all the same; its older certificate counts as in use until it expires.
            log.warning("%s is not noted: %s", peer.serial, error)
        subscription = _Subscription(self, notify)
        self._open.append(subscription)
        return subscription

    def leave(self, subscription: _Subscription) -> None:
        """A holder has gone."""
        self._open.remove(subscription)

    def _trust_changed(self) -> None:
        self.secrets = self._secrets()
        for subscription in list(self._open):
            subscription.notify()

    def federate(self, roots: dict[str, str]) -> None:
        """Replaces the other trust domains, for everybody."""
        self.federated = roots
        self._trust_changed()

    def rename(self, aliases: tuple[str, ...]) -> None:
        """Replaces the mesh's other names, for everybody."""
        if aliases != self.aliases:
            self.aliases = aliases
            self._trust_changed()

    def _secrets(self) -> Secrets:
        now = self.clock()
        revoked = self.leaves.revoked_serials(now.timestamp())
        number = self.leaves.revocation_number()
        # When there is a list at all, there is one for every issuer: Envoy refuses whom no list speaks of.
        signers = self.authority.trust.ordered if revoked else []
        lists = [each.revocations(revoked.get(each.fingerprint, []), number, now) for each in signers]
        roots = self.authority.root_pem
        own = dict.fromkeys((self.authority.trust_domain, *self.aliases), roots)
        every = {**self.federated, **own} if self.federated or self.aliases else {}
        return snapshot([root_secret(roots, "".join(lists), every)])

    def followers_with_all(self) -> set[tuple[str, str]]:
        """The workloads (namespace, name) whose holders have all taken up what is trusted now."""
        behind: set[tuple[str, str]] = set()
        found: set[tuple[str, str]] = set()
        for peer, settled in self.registry.settled():
            namespace = peer.spiffe_id.removeprefix("spiffe://").split("/")[2]
            (found if settled is self.secrets else behind).add((namespace, peer.workload))
        return found - behind

    # -- rotation of the root

    def advance(self) -> None:
        """Takes the next step of a rotation when nobody lags. Call it every now and then."""
        phase = self.authority.phase
        if phase is Phase.STABLE or self.lagging():
            return
        now = self.clock()
        if phase is Phase.TRUST_BOTH:
            self.authority.switch(now)
        else:
            self.authority.drop(now)
        log.info("rotation of the root: %s is done, now %s", phase, self.authority.phase)
        self.audit("root-rotation", self.authority.trust.state.target, f"{phase} is done", now.timestamp())

    def lagging(self) -> list[wire.LaggingLeaf]:
        """Whose certificates the next step of the rotation waits for, and why."""
        phase, state = self.authority.phase, self.authority.trust.state
        if phase is Phase.STABLE:
            return []
        following = {each.peer.serial: each.settled is self.secrets for each in self.registry.proxies()}
        found = []
        for leaf in self.held():
            if phase is Phase.TRUST_BOTH and not following.get(leaf.serial, False):
                why = NOT_TAKEN_UP if leaf.serial in following else NOT_CONNECTED
            elif phase is Phase.SIGN_WITH_NEW and leaf.root != state.target:
                why = "has a certificate of the old root"
            else:
                continue
            found.append(
                wire.LaggingLeaf(
                    namespace=leaf.namespace, name=leaf.workload, serial=leaf.serial, expires=leaf.expires, reason=why
                )
            )
        return found

    def held(self) -> list[Leaf]:
        """The certificates in use by workloads that are still declared, the first to expire first."""
        return [
            leaf
            for leaf in self.leaves.in_use(self.clock().timestamp())
            if self.registrations.identity_of(leaf.namespace, leaf.workload) is not None
        ]

    def rotate(self, request: wire.RotationRequest) -> wire.CaStatus:
        """Starts a rotation, or turns the one under way round."""
        now = self.clock()
        files = None
        if request.issuer is not None:
            issuer = request.issuer
            files = IssuerFiles(Path(issuer.cert), Path(issuer.key), Path(issuer.root))
        try:
            if request.abort:
                self.authority.abort(now)
            else:
                self.authority.begin_rotation(files, now)
        except RotationRefusedError as error:
            raise Refused.because(409, "rotation-refused", str(error)) from error
        except (RootUnusableError, UnsafeKeyError) as error:
            raise Refused.because(422, "issuer-unusable", str(error)) from error
        event = "root-rotation-aborted" if request.abort else "root-rotation-begun"
        self.audit(event, self.authority.trust.state.target, f"phase {self.authority.phase}", now.timestamp())
        self.advance()
        return self.ca_status()

    def ca_status(self) -> wire.CaStatus:
        """What `tulle ca status` shows."""
        state, phase = self.authority.trust.state, self.authority.phase
        roots = [
            wire.RootView(
                fingerprint=each.fingerprint,
                subject=each.root.subject.rfc4514_string(),
                not_before=each.root.not_valid_before_utc.timestamp(),
                not_after=each.root.not_valid_after_utc.timestamp(),
                phase=_role(each.fingerprint, state.signing, state.target),
            )
            for each in self.authority.trust.ordered
        ]
        held = self.held()
        first = held[0] if held else None
        forecast = None
        if first is not None:
            now = self.clock().timestamp()
            forecast = wire.ExpiryForecast(
                namespace=first.namespace, name=first.workload, expires=first.expires, seconds=first.expires - now
            )
        return wire.CaStatus(
            phase=str(phase), next_step=NEXT[phase], roots=roots, lagging=self.lagging(), forecast=forecast,
            certificates=len(held), revoked=[f"{namespace}/{name}" for namespace, name in self.revoked],
        )

    async def first_edge(self) -> wire.EdgeForecast | None:
        """Which calls would fail first, of those that sidecars have counted."""
        edges = await self.edges() if self.edges is not None else ()
        return first_edge(edges, self.held(), self.clock().timestamp())

    # -- revocation

    def revoke(self, namespace: str, name: str) -> None:
        """Takes a workload's certificates, streams and connections away."""
        known = self.registrations.identity_of(namespace, name) is not None
        if not known and all((each.namespace, each.workload) != (namespace, name) for each in self._every_leaf()):
            raise Refused.because(404, "not-found", f"no workload {namespace}/{name} is declared or has a certificate")
        now = self.clock().timestamp()
        if self.leaves.revoke(namespace, name, now):
            self.audit("workload-revoked", f"{namespace}/{name}", "", now)
            self._revocations_changed()

    def unrevoke(self, namespace: str, name: str) -> None:
        """Gives a revoked workload back what it had."""
        now = self.clock().timestamp()
        if not self.leaves.unrevoke(namespace, name):
            raise Refused.because(404, "not-found", f"the workload {namespace}/{name} is not revoked")
        self.audit("workload-unrevoked", f"{namespace}/{name}", "", now)
        self._revocations_changed()

    def _every_leaf(self) -> list[Leaf]:
        return self.leaves.in_use(self.clock().timestamp())

    def _revocations_changed(self) -> None:
        self.revoked = self.leaves.revoked()
        self._trust_changed()
        self.service.reauthorize()
        for tell in self.cut:
            tell()


NOT_TAKEN_UP = "has not taken up the new root yet"
NOT_CONNECTED = "is not connected: it may not trust the new root"

NEXT = {
    Phase.STABLE: "",
    Phase.TRUST_BOTH: "sign with the new root, when every workload trusts it",
    Phase.SIGN_WITH_NEW: "drop the old root, when every workload has a certificate of the new one",
}
"""What a rotation does next."""


def _role(root: str, signing: str, target: str) -> str:
    if root == signing:
        return "signing"
    return "next" if root == target else "retiring"


def _holder(context: Any) -> Peer | None:
    shown = presented(context)
    if isinstance(shown, str):
        return None
    return Peer(str(shown.spiffe_id), context.peer().partition(":")[2], shown.serial, shown.workload)
