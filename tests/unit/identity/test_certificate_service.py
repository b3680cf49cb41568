"""Joining by token and renewing by certificate, over the two TLS ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from delivery_server import ControlPlane, control_plane

from tulle.identity.ca import utc_now
from tulle.identity.keys import new_key, signing_request
from tulle.identity.server import RENEWALS_PER_SECOND, renewals_by_identity
from tulle.protos import message
from tulle.protos.istio_ca import REQUEST, RESPONSE

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path) as running:
        running.register("a", "account")
        yield running


def request(csr: str | None = None, seconds: int = 0) -> bytes:
    found = csr if csr is not None else signing_request(new_key())
    data: bytes = message(REQUEST)(csr=found, validity_duration=seconds).SerializeToString()
    return data


async def join(plane: ControlPlane, token: str | None, data: bytes | None = None) -> list[str]:
    root = plane.authority.root_pem.encode()
    metadata = [("authorization", f"Bearer {token}")] if token is not None else []
    async with plane.open_channel(grpc.ssl_channel_credentials(root), plane.join) as channel:
        answer = await channel.unary_unary(METHOD)(data or request(), metadata=metadata)
    return list(message(RESPONSE).FromString(answer).cert_chain)


async def renew(channel: grpc.aio.Channel, data: bytes | None = None) -> list[str]:
    async with channel:
        answer = await channel.unary_unary(METHOD)(data or request())
    return list(message(RESPONSE).FromString(answer).cert_chain)


def token_for(plane: ControlPlane, workload: str = "a", life: timedelta = timedelta(minutes=1)) -> str:
    return plane.tokens.create("default", workload, life, utc_now())


def names(pem: str) -> Any:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return certificate.subject.rfc4514_string(), [name.value for name in san]


def events(plane: ControlPlane) -> list[str]:
    return [entry.event for entry in reversed(plane.store.ledger.audit_log())]


async def refused(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert "token" not in (caught.value.details() or "").replace("this token or certificate", "")
    return caught.value.code()


async def test_a_token_gives_the_registered_identity(plane: ControlPlane) -> None:
    chain = await join(plane, token_for(plane))
    assert names(chain[0]) == ("CN=a", ["spiffe://cluster.local/ns/default/sa/account"])
    assert chain[-1] == plane.authority.root_pem
    assert events(plane) == ["token-created", "token-redeemed"]


async def test_of_racing_uses_of_a_token_exactly_one_succeeds(plane: ControlPlane) -> None:
    token = token_for(plane)
    outcomes = await asyncio.gather(*(join(plane, token) for _ in range(8)), return_exceptions=True)
    won = [found for found in outcomes if isinstance(found, list)]
    assert len(won) == 1
    assert {e.code() for e in outcomes if isinstance(e, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.UNAUTHENTICATED
    }
    assert events(plane).count("token-refused") == 7


async def test_bad_tokens_are_refused_without_saying_why(plane: ControlPlane) -> None:
    expired = token_for(plane, life=timedelta(seconds=-1))
    for token in (None, "", "wrong", expired):
        assert await refused(join(plane, token)) is grpc.StatusCode.UNAUTHENTICATED
    reasons = {entry.detail for entry in plane.store.ledger.audit_log() if entry.event == "token-refused"}
    assert reasons == {"the token is unknown", "the token has expired"}


async def test_a_malformed_request_does_not_cost_the_token(plane: ControlPlane) -> None:
    token = token_for(plane)
    for data in (request(csr="nonsense"), b"\xff\xff"):
        assert await refused(join(plane, token, data)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await join(plane, token)


async def test_the_token_of_a_workload_that_is_gone_is_worthless(plane: ControlPlane) -> None:
    token = token_for(plane, "gone")
    assert await refused(join(plane, token)) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
async def test_absurd_lives_are_capped(plane: ControlPlane, seconds: int) -> None:
    chain = await join(plane, token_for(plane), request(seconds=seconds))
    expires = x509.load_pem_x509_certificate(chain[0].encode()).not_valid_after_utc
    assert timedelta(hours=3) < expires - utc_now() <= timedelta(hours=4)


async def test_a_certificate_renews_itself(plane: ControlPlane) -> None:
    chain = await renew(plane.channel("a"))
    assert names(chain[0]) == ("CN=a", ["spiffe://cluster.local/ns/default/sa/account"])


async def test_renewal_stops_when_the_workload_is_gone_or_changed(plane: ControlPlane) -> None:
    channels = [plane.channel("a") for _ in range(2)]
    plane.register("a", "other-account")
    assert await refused(renew(channels[0])) is grpc.StatusCode.UNAUTHENTICATED
    del plane.workloads["default", "a"]
    assert await refused(renew(channels[1])) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_does_not_help_at_the_other_port(plane: ControlPlane) -> None:
    """The mTLS port cannot be reached without a certificate, the join port offers nothing but joining."""
    root = plane.authority.root_pem.encode()
    token = token_for(plane)
    metadata = [("authorization", f"Bearer {token}")]
    async with plane.open_channel(grpc.ssl_channel_credentials(root)) as channel:
        call = channel.unary_unary(METHOD)(request(), metadata=metadata)
        assert await refused(call) is grpc.StatusCode.UNAVAILABLE
    ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    async with plane.open_channel(grpc.ssl_channel_credentials(root), plane.join) as channel:
        stream = channel.stream_stream(ads)(metadata=metadata)
        assert await refused(stream.read()) is grpc.StatusCode.UNIMPLEMENTED
    assert events(plane) == ["token-created"]


async def test_renewals_are_limited_by_identity(plane: ControlPlane) -> None:
    now = 0.0
    limit = renewals_by_identity()
    limit.buckets.burst, limit.clock = 3.0, lambda: now
    plane.register("b", "account")
    assert plane.renewals is not None
    plane.renewals.limit = limit
    for _ in range(3):
        await renew(plane.channel("a"))
    assert await refused(renew(plane.channel("a"))) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await renew(plane.channel("b"))
    now += 1 / RENEWALS_PER_SECOND
    await renew(plane.channel("a"))
