"""Serves a workload's key and certificate, and the mesh's root, to its Envoy: SDS over a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio

from tulle.agent.held import Held
from tulle.delivery.contract import Node, Peer
from tulle.delivery.server import SDS, AdsServer
from tulle.delivery.status import StatusRegistry
from tulle.identity.files import private_directory
from tulle.identity.secrets import Secrets, own_secret, root_secret, snapshot


def secrets_of(held: Held) -> Secrets:
    """What Envoy is given of an identity."""
    trusted = root_secret(held.root, held.revoked, held.federated)
    return snapshot([own_secret(held.leaf, held.key), trusted])


LOOK = 0.02
"""Seconds between looks at what Envoy has acknowledged."""


class SecretServer:
    """The SDS server; also the source of its own snapshots."""

    def __init__(self) -> None:
        self._secrets: Secrets | None = None
        self._notifiers: dict[int, Callable[[], None]] = {}
        self._server: grpc.aio.Server | None = None
        self._registry = StatusRegistry()
        self._service = AdsServer(self, _anyone, self._registry, SDS, _local_peer)

    def set(self, held: Held) -> None:
        """Serves this identity from now on, also to those who have an older one."""
        self._secrets = secrets_of(held)
        for notify in list(self._notifiers.values()):
            notify()

    async def taken_up(self) -> None:
        """Waits until every connected Envoy has what was set last."""
        while any(each.settled is not self._secrets for each in self._registry.proxies()):
            await asyncio.sleep(LOOK)

    async def start(self, socket: Path) -> None:
        """Listens on a Unix socket, in a directory that only the owner can enter: that is all its protection.

        Raises OSError when the path cannot be had (Linux allows it 107 bytes), `UnsafeKeyError` when
        others can enter the directory.
        """
        private_directory(socket.parent)
        socket.unlink(missing_ok=True)
        server = grpc.aio.server()
        self._service.add_to(server)
        try:
            server.add_insecure_port(f"unix:{socket}")
        except RuntimeError as error:
            raise OSError(f"cannot listen at {socket}: {error}") from error
        await server.start()
        self._server = server

    async def stop(self, grace: float) -> None:
        """Ends all streams and stops; what is still open after `grace` seconds is cut."""
        self._service.close()
        if self._server is not None:
            await self._server.stop(grace)

    def open(self, node: Node, peer: Peer, notify: Callable[[], None]) -> _Subscription:
        """Part of `SnapshotSource`: everybody gets the same two secrets."""
        subscription = _Subscription(self)
        self._notifiers[id(subscription)] = notify
        return subscription

    @property
    def current(self) -> Secrets | None:
        return self._secrets

    def forget(self, subscription: _Subscription) -> None:
        del self._notifiers[id(subscription)]


class _Subscription:
    def __init__(self, server: SecretServer) -> None:
        self._server = server

    def current(self) -> Secrets | None:
        return self._server.current

    def close(self) -> None:
        self._server.forget(self)


def _anyone(node: Node, peer: Peer) -> None:
    """Whoever can open the socket is the workload's own proxy."""


def _local_peer(context: Any) -> Peer:
    return Peer("", context.peer())
