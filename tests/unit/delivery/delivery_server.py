"""A control plane of two TLS ports over hand-made snapshots, for the tests that talk to it over the network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from delivery_fakes import FakeResource, FakeSnapshot

from tulle.delivery.contract import Node, Peer
from tulle.delivery.node import own_workload_only
from tulle.delivery.server import AdsServer
from tulle.delivery.status import StatusRegistry
from tulle.identity.ca import Authority, Issued, utc_now
from tulle.identity.keys import key_pem, new_key
from tulle.identity.names import CONTROL_PLANE_SERVER_NAME, SpiffeId, WorkloadIdentity
from tulle.identity.server import (
    CertificateService,
    ServerCertificate,
    TlsPort,
    admit_by_certificate,
    admit_by_token,
)
from tulle.identity.tokens import JoinTokens
from tulle.protos import from_dict, pack_any, serialize, type_url
from tulle.sources.store import Store
from tulle.supervisor.ports import PortBook


def resource(full_name: str, name: str, data: dict[str, Any]) -> FakeResource:
    body = serialize(pack_any(from_dict(full_name, data)))
    return FakeResource(name, sha256(body).hexdigest()[:12], body)


def snapshot_of(*groups: tuple[str, dict[str, dict[str, Any]]]) -> FakeSnapshot:
    """A snapshot of (message name, resource name → content) groups."""
    made = {
        type_url(full_name): {name: resource(full_name, name, data) for name, data in resources.items()}
        for full_name, resources in groups
    }
    return FakeSnapshot(made)


@dataclass
class Source:
    """Gives every proxy the same snapshot, which `set` replaces."""

    snapshot: FakeSnapshot | None = None
    notifiers: dict[int, Callable[[], None]] = field(default_factory=dict)

    def open(self, node: Node, peer: Peer, notify: Callable[[], None]) -> OneSubscription:
        subscription = OneSubscription(self)
        self.notifiers[id(subscription)] = notify
        return subscription

    def set(self, snapshot: FakeSnapshot) -> None:
        self.snapshot = snapshot
        for notify in self.notifiers.values():
            notify()


@dataclass
class OneSubscription:
    source: Source

    def current(self) -> FakeSnapshot | None:
        return self.source.snapshot

    def close(self) -> None:
        del self.source.notifiers[id(self)]


@dataclass
class ControlPlane:
    authority: Authority
    tokens: JoinTokens
    store: Store
    source: Source
    registry: StatusRegistry
    workloads: dict[tuple[str, str], WorkloadIdentity]
    ports: PortBook
    """Of ports that no outgoing connection has, so that another one may come back where this one was."""
    xds: str = ""
    join: str = ""
    renewals: CertificateService | None = None
    ads: AdsServer | None = None

    def identity_of(self, namespace: str, workload: str) -> WorkloadIdentity | None:
        return self.workloads.get((namespace, workload))

    def register(self, workload: str, account: str = "") -> WorkloadIdentity:
        identity = WorkloadIdentity(SpiffeId("cluster.local", "default", account or workload), workload)
        self.workloads["default", workload] = identity
        return identity

    def certificate(self, workload: str) -> tuple[bytes, Issued]:
        key = new_key()
        return key_pem(key), self.authority.issue(
            key.public_key(), self.workloads["default", workload], timedelta(), utc_now()
        )

    def channel(self, workload: str) -> grpc.aio.Channel:
        """A channel to the mTLS port with this workload's certificate."""
        key, issued = self.certificate(workload)
        root = self.authority.root_pem.encode()
        return self.open_channel(grpc.ssl_channel_credentials(root, key, issued.leaf_pem.encode()))

    def open_channel(self, credentials: grpc.ChannelCredentials, address: str = "") -> grpc.aio.Channel:
        options = [("grpc.ssl_target_name_override", CONTROL_PLANE_SERVER_NAME)]
        return grpc.aio.secure_channel(address or self.xds, credentials, options=options)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that a proxy brings about (the test's own timeout bounds it)."""
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def control_plane(directory: Path, before: ControlPlane | None = None) -> AsyncIterator[ControlPlane]:
    """Runs one; with `before`, at the same addresses and with the same workloads as one that has ended."""
    directory.mkdir(exist_ok=True)
    store = Store.open(directory / "store.sqlite")
    authority = Authority.open(directory / "state", "cluster.local", utc_now())
    tokens = JoinTokens(store.ledger)
    workloads = before.workloads if before else {}
    ports = before.ports if before else PortBook(random.Random())
    plane = ControlPlane(authority, tokens, store, Source(), StatusRegistry(), workloads, ports)

    def id_of(namespace: str, workload: str) -> str | None:
        found = plane.identity_of(namespace, workload)
        return str(found.spiffe_id) if found else None

    ads = plane.ads = AdsServer(plane.source, own_workload_only(id_of), plane.registry)
    certificate = ServerCertificate(authority, [])
    renewals = plane.renewals = CertificateService(authority, admit_by_certificate(plane))
    joins = CertificateService(authority, admit_by_token(tokens, plane))
    xds = TlsPort([ads, renewals], certificate.credentials(True))
    join = TlsPort([joins], certificate.credentials(False))
    plane.xds = await xds.start(before.xds if before else f"127.0.0.1:{ports.choose()}")
    plane.join = await join.start(before.join if before else f"127.0.0.1:{ports.choose()}")
    try:
        yield plane
    finally:
        ads.close()
        await xds.stop(1)
        await join.stop(1)
        store.close()
