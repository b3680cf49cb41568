"""Asks the control plane for certificates: the first with a join token, the next with the present one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
from cryptography import x509

from tulle.agent.held import Held
from tulle.identity.keys import key_pem, new_key, signing_request
from tulle.identity.names import CONTROL_PLANE_SERVER_NAME
from tulle.protos import message
from tulle.protos.istio_ca import REQUEST, RESPONSE, SERVICE

_TIMEOUT = 10.0


class CertificateRefusedError(Exception):
    """The control plane does not give this workload an identity, or what it gave is unusable."""


class AuthorityUnavailableError(Exception):
    """The control plane could not be asked: try again."""


@dataclass(frozen=True, slots=True)
class CertificateClient:
    """Addresses are `host:port`; `root` is the PEM of the mesh's root that the control plane must prove."""

    join_address: str
    renew_address: str
    root: str
    server_name: str = CONTROL_PLANE_SERVER_NAME

    async def join(self, token: str, life: timedelta, now: datetime) -> Held:
        """The first identity. Raises `CertificateRefusedError` or `AuthorityUnavailableError`."""
        credentials = grpc.ssl_channel_credentials(self.root.encode())
        return await self._request(self.join_address, credentials, token, life, now)

    async def renew(self, held: Held, life: timedelta, now: datetime) -> Held:
        """The next identity, with a new key. Raises as `join` does."""
        credentials = grpc.ssl_channel_credentials(self.root.encode(), held.key.encode(), held.leaf.encode())
        return await self._request(self.renew_address, credentials, None, life, now)

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
        options = [("grpc.ssl_target_name_override", self.server_name)]
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            call = channel.unary_unary(f"/{SERVICE}/CreateCertificate")
            try:
                data = await call(request.SerializeToString(), timeout=_TIMEOUT, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise _explained(error, address) from error
        chain = list(message(RESPONSE).FromString(data).cert_chain)
        if len(chain) < 2:
            raise CertificateRefusedError(f"{address} gave no chain of leaf and root")
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
        if leaf.public_key() != key.public_key():
            raise CertificateRefusedError(f"{address} gave a certificate for another key")
        expires = leaf.not_valid_after_utc
        return Held(
            key=key_pem(key).decode(),
            leaf="".join(chain[:-1]),
            root=chain[-1],
            expires=expires.timestamp(),
            renew_at=(now + (expires - now) / 2).timestamp(),
        )


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
