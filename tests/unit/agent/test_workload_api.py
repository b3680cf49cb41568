"""The SPIFFE Workload API, asked by SPIFFE's own Python client."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from spiffe import TrustDomain, WorkloadApiClient

from tulle.agent.held import Held
from tulle.agent.workload_api import WorkloadApi
from tulle.identity.ca import Authority
from tulle.identity.files import UnsafeKeyError
from tulle.identity.keys import key_pem, new_key
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.signer import new_root
from tulle.protos import message
from tulle.protos.spiffe import SVID_RESPONSE

NOW = datetime.now(UTC)
OTHER = "other.example"
HEADERS = [("workload.spiffe.io", "true")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority") / "state", "cluster.local", NOW)


def held_by(authority: Authority, account: str = "front") -> Held:
    key = new_key()
    identity = WorkloadIdentity(SpiffeId("cluster.local", "shop", account), account)
    issued = authority.issue(key.public_key(), identity, timedelta(hours=1), NOW)
    other = new_root(OTHER, NOW).root_pem
    federated = {OTHER: other, "cluster.local": authority.root_pem}
    return Held(key_pem(key).decode(), issued.leaf_pem, authority.root_pem, 2e9, 1e9, "", federated)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[WorkloadApi, Path]]:
    served, socket = WorkloadApi(), tmp_path / "private" / "api.sock"
    await served.start(socket)
    yield served, socket
    await served.stop(0)


async def test_the_official_client_gets_identity_and_bundles(
    authority: Authority, api: tuple[WorkloadApi, Path]
) -> None:
    served, socket = api
    held = held_by(authority)
    served.set(held)
    with await asyncio.to_thread(WorkloadApiClient, f"unix:{socket}") as client:
        svid = await asyncio.to_thread(client.fetch_x509_svid)
        assert str(svid.spiffe_id) == "spiffe://cluster.local/ns/shop/sa/front"
        assert svid.leaf == x509.load_pem_x509_certificate(held.leaf.encode())
        private = svid.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        assert private.decode() == held.key
        bundles = await asyncio.to_thread(client.fetch_x509_bundles)
        roots = {
            str(domain): bundles.get_bundle_for_trust_domain(TrustDomain(domain)) for domain in ("cluster.local", OTHER)
        }
        expected = {"cluster.local": held.root, OTHER: held.federated[OTHER]}
        for domain, bundle in roots.items():
            assert bundle is not None
            assert list(bundle.x509_authorities) == x509.load_pem_x509_certificates(expected[domain].encode())


async def test_a_new_identity_is_pushed(authority: Authority, api: tuple[WorkloadApi, Path]) -> None:
    served, socket = api
    served.set(held_by(authority))
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        stream = channel.unary_stream("/SpiffeWorkloadAPI/FetchX509SVID")(b"", metadata=HEADERS)
        ids = []
        for account in ("other", "last"):
            ids.append(message(SVID_RESPONSE).FromString(await stream.read()).svids[0].spiffe_id)
            served.set(held_by(authority, account))
        ids.append(message(SVID_RESPONSE).FromString(await stream.read()).svids[0].spiffe_id)
    assert [each.rpartition("/")[2] for each in ids] == ["front", "other", "last"]


@pytest.mark.parametrize("metadata", [[], [("workload.spiffe.io", "false")], [("workload.spiffe.io", "True")]])
async def test_without_the_security_header_nothing_is_told(
    authority: Authority, api: tuple[WorkloadApi, Path], metadata: list[tuple[str, str]]
) -> None:
    served, socket = api
    served.set(held_by(authority))
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        for method in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_stream(f"/SpiffeWorkloadAPI/{method}")(b"", metadata=metadata).read()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_jwt_svids_are_clearly_not_there(authority: Authority, api: tuple[WorkloadApi, Path]) -> None:
    served, socket = api
    served.set(held_by(authority))
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        for method in ("FetchJWTSVID", "ValidateJWTSVID"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/SpiffeWorkloadAPI/{method}")(b"", metadata=HEADERS)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "JWT" in (caught.value.details() or "")


async def test_who_asks_before_there_is_an_identity_waits_for_it(
    authority: Authority, api: tuple[WorkloadApi, Path]
) -> None:
    served, socket = api
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        stream = channel.unary_stream("/SpiffeWorkloadAPI/FetchX509Bundles")(b"", metadata=HEADERS)
        reading = asyncio.ensure_future(stream.read())
        await channel.channel_ready()
        assert not reading.done()
        served.set(held_by(authority))
        assert await reading


async def test_the_socket_is_its_owners_alone(tmp_path: Path, api: tuple[WorkloadApi, Path]) -> None:
    _, socket = api
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(UnsafeKeyError):
        await WorkloadApi().start(tmp_path / "open" / "api.sock")


def test_revocation_lists_are_told(authority: Authority) -> None:
    from tulle.agent.workload_api import svids

    crl = authority.trust.signing.revocations(["ab"], 1, NOW)
    response = message(SVID_RESPONSE).FromString(svids(replace(held_by(authority), revoked=crl + crl)))
    assert [len(list(x509.load_der_x509_crl(each))) for each in response.crl] == [1, 1]
