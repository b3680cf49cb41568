"""Asks the control plane for certificates: the first with a join token, the next with the present one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tulle.agent.held import Held
from tulle.delivery.server import SDS
from tulle.identity.keys import key_pem, new_key, signing_request
from tulle.identity.names import CONTROL_PLANE_SERVER_NAME
from tulle.identity.secrets import ROOT, SECRET, federated_of
from tulle.protos import message
from tulle.protos.istio_ca import REQUEST, RESPONSE, SERVICE

_TIMEOUT = 10.0


class CertificateRefusedError(Exception):
    """The control plane does not give this workload an identity, or what it gave is unusable."""


class AuthorityUnavailableError(Exception):
    """The control plane could not be asked: try again."""


@dataclass(frozen=True, slots=True)
class CertificateClient:
    """Addresses are `host:port`; `root` gives the PEM of the mesh's roots, one of which a first answer must prove."""

    join_address: str
    renew_address: str
    root: Callable[[], str]
    server_name: str = CONTROL_PLANE_SERVER_NAME

    async def join(self, token: str, life: timedelta, now: datetime) -> Held:
        """The first identity. Raises `CertificateRefusedError` or `AuthorityUnavailableError`."""
        credentials = grpc.ssl_channel_credentials(self.root().encode())
        return await self._request(self.join_address, credentials, token, life, now)

    async def renew(self, held: Held, life: timedelta, now: datetime) -> Held:
        """The next identity, with a new key. Raises as `join` does."""
        renewed = await self._request(self.renew_address, self._mutual(held), None, life, now)
        return replace(renewed, revoked=held.revoked, federated=held.federated)

    async def follow(self, held: Held, take: Callable[[Held], Awaitable[bool]]) -> None:
        """Has `take` called with `held` as the authority's pushes of roots and revocations change it.

        Each push is acknowledged when `take` returns True; when it returns False, the stream is ended.
        Raises `AuthorityUnavailableError` when the stream breaks, `CertificateRefusedError` when it is refused.
        """
        options = [*self._options(), ("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000)]
        async with grpc.aio.secure_channel(self.renew_address, self._mutual(held), options=options) as channel:
            stream = channel.stream_stream(f"/{SDS.name}/{SDS.delta}")()
            try:
                await stream.write(_subscription())
                async for data in stream:
                    held, answer = _pushed(held, data)
                    if not await take(held):
                        return
                    await stream.write(answer)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                # What ended the call is known to it alone: a write that comes too late fails with something else.
                none = grpc.aio.Metadata()
                ended = grpc.aio.AioRpcError(await stream.code(), none, none, await stream.details())
                raise _explained(ended, self.renew_address) from error
            raise AuthorityUnavailableError(f"{self.renew_address}: the stream of roots has ended")

    def _mutual(self, held: Held) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(held.root.encode(), held.key.encode(), held.leaf.encode())

    def _options(self) -> list[tuple[str, str | int]]:
        # A channel of its own for each certificate: gRPC would share one that was made with another.
        return [("grpc.ssl_target_name_override", self.server_name), ("grpc.use_local_subchannel_pool", 1)]

    async def _request(
        self,
        address: str,
        credentials: grpc.ChannelCredentials,
        token: str | None,
        life: timedelta,
        now: datetime,
    ) -> Held:
        key = new_key()
        request = message(REQUEST)(csr=signing_request(key), validity_duration=int(life.total_seconds()))
        options = self._options()
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            call = channel.unary_unary(f"/{SERVICE}/CreateCertificate")
            try:
                data = await call(request.SerializeToString(), timeout=_TIMEOUT, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise _explained(error, address) from error
        chain, roots = split(list(message(RESPONSE).FromString(data).cert_chain))
        if not chain or not roots:
            raise CertificateRefusedError(f"{address} gave no chain of leaf and root")
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
        if leaf.public_key() != key.public_key():
            raise CertificateRefusedError(f"{address} gave a certificate for another key")
        expires = leaf.not_valid_after_utc
        return Held(
            key=key_pem(key).decode(),
            leaf="".join(chain),
            # Istio's authority puts the root that signs last, the mesh's trust bundle first.
            root="".join(reversed(roots)),
            expires=expires.timestamp(),
            renew_at=(now + (expires - now) / 2).timestamp(),
        )


_REQUEST = "envoy.service.discovery.v3.DeltaDiscoveryRequest"
_RESPONSE = "envoy.service.discovery.v3.DeltaDiscoveryResponse"


def _subscription() -> bytes:
    first = message(_REQUEST)(type_url=SECRET, resource_names_subscribe=[ROOT])
    first.node.id, first.node.user_agent_name = "identity", "tulle.agent"
    data: bytes = first.SerializeToString()
    return data


def _pushed(held: Held, data: bytes) -> tuple[Held, bytes]:
    """The identity with what a push brings, and the acknowledgement."""
    response = message(_RESPONSE).FromString(data)
    for resource in response.resources:
        secret = message(SECRET.partition("/")[2]).FromString(resource.resource.value)
        context = secret.validation_context
        held = replace(
            held, root=context.trusted_ca.inline_string, revoked=context.crl.inline_string,
            federated=federated_of(context),
        )
    answer: bytes = message(_REQUEST)(type_url=SECRET, response_nonce=response.nonce).SerializeToString()
    return held, answer


def split(answer: list[str]) -> tuple[list[str], list[str]]:
    """The certificates to present and the roots to trust, of an authority's answer: roots sign themselves."""
    roots = [each for each in answer if _self_signed(each)] or answer[1:][-1:]
    return [each for each in answer if each not in roots], roots


def _self_signed(text: str) -> bool:
    certificate = x509.load_pem_x509_certificate(text.encode())
    return certificate.subject == certificate.issuer


def is_current(held: Held) -> bool:
    """Whether the certificate leads to the root that signs now; if not, it is to be renewed at once."""
    chain = x509.load_pem_x509_certificates(held.leaf.encode())
    [signing, *_] = x509.load_pem_x509_certificates(held.root.encode())
    try:
        for certificate, above in zip(chain, [*chain[1:], signing], strict=True):
            certificate.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _explained(error: grpc.aio.AioRpcError, address: str) -> Exception:
    text = f"{address}: {error.code().name}: {error.details()}"
    refusals = (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    return CertificateRefusedError(text) if error.code() in refusals else AuthorityUnavailableError(text)


def utc(now: float) -> datetime:
    """Seconds since 1970 as a time."""
    return datetime.fromtimestamp(now, UTC)
