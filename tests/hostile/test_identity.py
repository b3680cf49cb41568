"""The authority and the discovery port under attack (rows 48, 49, 51, 57), against a control plane as it is run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from harness.control_planes import ControlPlane, control_plane
from tulle.agent.ca_client import CertificateClient, CertificateRefusedError
from tulle.agent.held import Held
from tulle.identity.ca import utc_now
from tulle.identity.keys import new_key, signing_request
from tulle.protos import message
from tulle.protos.istio_ca import REQUEST, RESPONSE, SERVICE

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
OPTIONS = [("grpc.ssl_target_name_override", "tulle-control-plane"), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("identity") / "plane") as running:
        yield running


def token(plane: ControlPlane, workload: str = "shop/front") -> str:
    answer = httpx.post(f"{plane.ready['api']}/v1/workloads/{workload}/join-token", trust_env=False)
    return str(answer.json()["token"])


def root(plane: ControlPlane) -> bytes:
    return (plane.state / "ca" / "root.pem").read_bytes()


async def create(plane: ControlPlane, csr: str, bearer: str, life: int = 0) -> x509.Certificate:
    data = message(REQUEST)(csr=csr, validity_duration=life).SerializeToString()
    credentials = grpc.ssl_channel_credentials(root(plane))
    async with grpc.aio.secure_channel(plane.ready["join"], credentials, options=OPTIONS) as channel:
        call = channel.unary_unary(f"/{SERVICE}/CreateCertificate")
        answer = await call(data, metadata=[("authorization", f"Bearer {bearer}")])
    return x509.load_pem_x509_certificate(message(RESPONSE).FromString(answer).cert_chain[0].encode())


async def joined(plane: ControlPlane, workload: str) -> Held:
    client = CertificateClient(plane.ready["join"], plane.ready["xds"], root(plane).decode)
    return await client.join(token(plane, workload), timedelta(), utc_now())


async def test_a_request_for_anothers_names_a_ca_and_a_long_life_gets_what_was_attested(plane: ControlPlane) -> None:
    key = new_key()
    till = "spiffe://cluster.local/ns/bank/sa/till"
    names = [x509.UniformResourceIdentifier(till), x509.DNSName("tulle-control-plane")]
    request = (
        x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "till")]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    leaf = await create(plane, csr, token(plane), 10**12)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [each.value for each in san] == ["spiffe://cluster.local/ns/shop/sa/front"]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - utc_now() <= timedelta(hours=4)


async def test_of_racing_and_replayed_uses_of_a_token_one_succeeds_and_all_are_audited(plane: ControlPlane) -> None:
    bearer = token(plane)
    csrs = [signing_request(new_key()) for _ in range(6)]
    outcomes = await asyncio.gather(*(create(plane, csr, bearer) for csr in csrs), return_exceptions=True)
    outcomes += await asyncio.gather(create(plane, csrs[0], bearer), return_exceptions=True)
    assert sum(isinstance(each, x509.Certificate) for each in outcomes) == 1
    events = json.loads(plane.tulle("audit", "-o", "json", "-n", "50").stdout)["events"]
    refused = [each for each in events if each["event"] == "token-refused" and "before" in each["detail"]]
    assert len(refused) == 6
    assert all(each["origin"] for each in refused)
    assert bearer not in json.dumps(events) + plane.log


def discovery(node: str) -> bytes:
    request = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")(
        type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster"
    )
    request.node.id = node
    data: bytes = request.SerializeToString()
    return data


async def refusal(plane: ControlPlane, held: Held, first: bytes) -> grpc.StatusCode:
    credentials = grpc.ssl_channel_credentials(root(plane), held.key.encode(), held.leaf.encode())
    async with grpc.aio.secure_channel(plane.ready["xds"], credentials, options=OPTIONS) as channel:
        stream: Any = channel.stream_stream(ADS)()
        await stream.write(first)
        async for _ in stream:
            raise AssertionError("it was answered")
        return grpc.StatusCode((await stream.code()).value)


@pytest.mark.parametrize(
    "node",
    [
        "sidecar~127.0.0.1~till.bank~bank.svc.cluster.local",
        "sidecar~127.0.0.1~front.bank~bank.svc.cluster.local",
        "sidecar~127.0.0.1~none.shop~shop.svc.cluster.local",
        "front.shop", "~~~", "sidecar~~.~", "\u0000~a~b.c~d",
    ],
)
async def test_a_proxy_reads_its_own_workloads_configuration_only(plane: ControlPlane, node: str) -> None:
    held = await joined(plane, "shop/front")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refusal(plane, held, discovery(node))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"", b"\x0a" + b"\x80" * 20])
async def test_garbage_ends_its_own_stream_and_nothing_else(plane: ControlPlane, garbage: bytes) -> None:
    held = await joined(plane, "shop/front")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refusal(plane, held, garbage)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert plane.tulle("status").returncode == 0


async def test_a_token_is_not_for_another_port_nor_for_a_workload_that_was_revoked(plane: ControlPlane) -> None:
    bearer = token(plane, "bank/till")
    assert plane.tulle("workload", "revoke", "bank/till").returncode == 0
    client = CertificateClient(plane.ready["join"], plane.ready["xds"], root(plane).decode)
    with pytest.raises(CertificateRefusedError):
        await client.join(bearer, timedelta(), utc_now())
    assert plane.tulle("workload", "unrevoke", "bank/till").returncode == 0
