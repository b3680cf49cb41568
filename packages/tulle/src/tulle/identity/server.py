"""The gRPC side of identity: Istio's certificate service, and the two TLS ports of the control plane.

The `xds` port requires a certificate of the mesh; the `join` port has server TLS only, and a one-time token
stands for the certificate that the caller does not have yet.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
from cryptography import x509
from cryptography.x509.oid import NameOID
from google.protobuf.message import DecodeError

from tulle.buckets import Buckets
from tulle.identity.ca import Authority, half_life, utc_now
from tulle.identity.keys import RequestRefusedError, key_pem, new_key, requested_key
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.signer import Issued
from tulle.identity.tokens import JoinTokens
from tulle.protos import message
from tulle.protos.istio_ca import REQUEST, RESPONSE, SERVICE

_LOG = logging.getLogger(__name__)
_REFUSED = "this token or certificate does not let you have an identity"

MAX_REQUEST = 16 * 1024 * 1024
"""Largest gRPC message read, in bytes: a first request lists all versions that a proxy has."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    # A proxy that went without a word is noticed, and so are we by proxies that ping as often as this.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Proxies ping every few seconds to notice a dead control plane: gRPC would count that as abuse.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Certificates are looked at when a connection begins, so no connection outlives them.
    ("grpc.max_connection_age_ms", 60 * 60 * 1000),
    ("grpc.max_connection_age_grace_ms", 10_000),
]


class Registrations(Protocol):
    """Which workloads there are."""

    def identity_of(self, namespace: str, workload: str) -> WorkloadIdentity | None:
        """The identity that this workload is to have, or None when there is no such workload."""


class GrpcService(Protocol):
    """Something that registers its methods with a server."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers them."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a client's certificate says: its SPIFFE id, the workload in its subject, its serial in hexadecimal."""

    spiffe_id: SpiffeId
    workload: str
    serial: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller who may have a certificate: for which workload, and what it presented, if it is a renewal."""

    identity: WorkloadIdentity
    presented: Presented | None = None


@dataclass(frozen=True, slots=True)
class Issuance:
    """A certificate that is about to be handed out, to whom, and where the call came from."""

    admitted: Admitted
    issued: Issued
    peer: str


Admit = Callable[[Any, datetime], Admitted | str]
"""Says for which workload a call is, from its gRPC context, or why it is refused."""

Record = Callable[[Issuance, datetime], None]
"""Told of each certificate before it is handed out."""


JOINS_PER_SECOND, JOINS_AT_ONCE = 50.0, 1000.0
"""By address: all workloads of a machine may start together."""

RENEWALS_PER_SECOND, RENEWALS_AT_ONCE = 0.5, 60.0
"""By certificate's name: a proxy renews at half-life, and once for each rotation of the root."""


@dataclass(slots=True)
class Limit:
    """How often each caller, told apart by ``caller`` from a call's context, may ask; `clock` is monotonic seconds."""

    buckets: Buckets
    caller: Callable[[Any], str]
    clock: Callable[[], float] = time.monotonic

    def allows(self, context: Any) -> bool:
        """Whether this call is not one too many."""
        return self.buckets.take(self.caller(context), self.clock())


def joins_by_address() -> Limit:
    """The join port's limit: nothing else is known of a caller."""
    return Limit(Buckets(JOINS_PER_SECOND, JOINS_AT_ONCE), lambda context: str(context.peer()).rpartition(":")[0])


def renewals_by_identity() -> Limit:
    """The mTLS port's limit."""

    def caller(context: Any) -> str:
        shown = presented(context)
        return shown if isinstance(shown, str) else f"{shown.spiffe_id} {shown.workload}"

    return Limit(Buckets(RENEWALS_PER_SECOND, RENEWALS_AT_ONCE), caller)


class CertificateService:
    """`istio.v1.auth.IstioCertificateService`, for one port with its way of admission and its limit."""

    def __init__(
        self,
        authority: Authority,
        admit: Admit,
        record: Record = lambda issuance, now: None,
        limit: Limit | None = None,
    ) -> None:
        self._authority = authority
        self._admit = admit
        self._record = record
        self.limit = limit

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(self._create)
        handlers = grpc.method_handlers_generic_handler(SERVICE, {"CreateCertificate": handler})
        server.add_generic_rpc_handlers((handlers,))

    async def _create(self, data: bytes, context: Any) -> bytes:
        now = utc_now()
        if self.limit is not None and not self.limit.allows(context):
            return await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests: wait and try again")
        try:
            request = message(REQUEST).FromString(data)
            # Before the token is used up: a malformed request must not cost it.
            key = requested_key(request.csr)
        except (DecodeError, RequestRefusedError) as error:
            return await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        admitted = self._admit(context, now)
        if isinstance(admitted, str):
            _LOG.warning("certificate refused to %s: %s", context.peer(), admitted)
            return await _abort(context, grpc.StatusCode.UNAUTHENTICATED, _REFUSED)
        # Bounded before it becomes a timedelta, which cannot hold every int64.
        seconds = max(0, min(request.validity_duration, 10**9))
        issued = self._authority.issue(key, admitted.identity, timedelta(seconds=seconds), now)
        self._record(Issuance(admitted, issued, context.peer()), now)
        found: bytes = message(RESPONSE)(cert_chain=issued.chain).SerializeToString()
        return found


async def _abort(context: Any, code: grpc.StatusCode, details: str) -> NoReturn:
    await context.abort(code, details)
    raise AssertionError("gRPC's abort raises")


def admit_by_token(tokens: JoinTokens, registrations: Registrations) -> Admit:
    """Admission at the join port: whoever has a workload's unused token is that workload."""

    def admit(context: Any, now: datetime) -> Admitted | str:
        headers = [value for key, value in context.invocation_metadata() if key == "authorization"]
        if len(headers) != 1 or not isinstance(headers[0], str) or not headers[0].startswith("Bearer "):
            return "no bearer token"
        redeemed = tokens.redeem(headers[0].removeprefix("Bearer "), context.peer(), now)
        if isinstance(redeemed, str):
            return redeemed
        found = registrations.identity_of(redeemed.namespace, redeemed.workload)
        return Admitted(found) if found else f"no workload {redeemed.namespace}/{redeemed.workload}"

    return admit


def admit_by_certificate(registrations: Registrations) -> Admit:
    """Admission at the mTLS port: a workload's certificate is renewed while it is registered as it was."""

    def admit(context: Any, now: datetime) -> Admitted | str:
        shown = presented(context)
        if isinstance(shown, str):
            return shown
        if now >= shown.expires:
            return "the certificate has expired since the connection began"
        found = registrations.identity_of(shown.spiffe_id.namespace, shown.workload)
        if found is None or found.spiffe_id != shown.spiffe_id:
            return f"{shown.spiffe_id}: no workload {shown.workload} with this identity is registered"
        return Admitted(found, shown)

    return admit


def presented(context: Any) -> Presented | str:
    """What the client's certificate says, from a call's gRPC context, or why there is nothing to go by."""
    auth = context.auth_context()
    ids, pems = auth.get("peer_spiffe_id", ()), auth.get("x509_pem_cert", ())
    if len(ids) != 1 or len(pems) != 1:
        return "no client certificate with a SPIFFE id"
    certificate = x509.load_pem_x509_certificate(pems[0])
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    peer = SpiffeId.parse(ids[0].decode())
    workload = names[0].value if len(names) == 1 else None
    if not isinstance(workload, str):
        return f"{peer}: the certificate names no workload"
    return Presented(peer, workload, f"{certificate.serial_number:x}", certificate.not_valid_after_utc)


class ServerCertificate:
    """The control plane's own certificate, made anew when a connection comes after its half-life, or after the roots
    have changed.
    """

    def __init__(
        self, authority: Authority, hosts: Sequence[str], clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._authority = authority
        self._hosts = tuple(hosts)
        self._clock = clock
        self._lock = threading.Lock()
        self._renew_at = clock()
        self._trust = authority.trust

    def credentials(self, require_client: bool) -> grpc.ServerCredentials:  # noqa: FBT001 (gRPC's own flag)
        """Credentials for a port; each port asks for its own certificate and renews it by itself."""
        initial = self._configuration()
        current = [(self._renew_at, self._trust)]

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # gRPC calls this before each handshake, from a thread of its own.
            with self._lock:
                renew_at, trust = current[0]
                if self._clock() < renew_at and trust is self._authority.trust:
                    return None
                renewed = self._configuration()
                current[0] = (self._renew_at, self._trust)
                return renewed

        return grpc.dynamic_ssl_server_credentials(initial, fetch, require_client)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        key = new_key()
        # Looked at before the rest is made: a change in between makes it all anew at the next connection.
        self._trust = self._authority.trust
        issued = self._authority.issue_server(key.public_key(), self._hosts, self._clock())
        self._renew_at = half_life(issued)
        pair = (key_pem(key), issued.leaf_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair], self._authority.root_pem.encode())


class TlsPort:
    """One gRPC server on one TLS port."""

    def __init__(self, services: Sequence[GrpcService], credentials: grpc.ServerCredentials) -> None:
        self._services = tuple(services)
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str) -> str:
        """Listens at `host:port` (port 0: any free one) and returns the address with the port it got.

        Raises OSError when the address cannot be had.
        """
        server = grpc.aio.server(options=_OPTIONS)
        for service in self._services:
            service.add_to(server)
        try:
            port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen at {address}: {error}") from error
        await server.start()
        self._server = server
        return f"{address.rpartition(':')[0]}:{port}"

    async def stop(self, grace: float) -> None:
        """Stops: calls that do not end within `grace` seconds are cut."""
        if self._server is not None:
            await self._server.stop(grace)
