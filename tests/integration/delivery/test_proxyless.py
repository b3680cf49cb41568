"""A proxyless gRPC client: bootstrap and certificate files from the agent, resources over SotW ADS with mTLS."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from delivery_fakes import FakeSnapshot
from delivery_server import control_plane, snapshot_of

from tulle.agent.ca_client import CertificateClient
from tulle.agent.certificate_files import REFRESH_SECONDS, CertificateFiles
from tulle.agent.keeper import IdentityKeeper
from tulle.identity.ca import utc_now
from tulle.model.meta import labels
from tulle.xds.bootstrap import CertificatePaths, NodeIdentity, ServerAddress, grpc_bootstrap

pytestmark = pytest.mark.integration

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
TARGET = "backend.default:9001"
ADS: dict[str, Any] = {"ads": {}, "resource_api_version": "V3"}

CLIENT = """
import sys, grpc, grpc.experimental
credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
with grpc.secure_channel("xds:///" + sys.argv[1], credentials) as channel:
    call = channel.unary_unary("/test.Echo/Who")
    for line in sys.stdin:
        print(call(b"", timeout=20, wait_for_ready=True).decode(), flush=True)
"""


def routed_to(cluster: str, ports: dict[str, int]) -> FakeSnapshot:
    """A listener for the target whose route leads to one of the clusters in `ports`."""
    manager = {
        "@type": HCM,
        "rds": {"route_config_name": "r", "config_source": ADS},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    route = {"match": {"prefix": ""}, "route": {"cluster": cluster}}
    routes = {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]}
    clusters = {
        name: {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": ADS}, "lb_policy": "ROUND_ROBIN"}
        for name in ports
    }
    return snapshot_of(
        ("envoy.config.cluster.v3.Cluster", clusters),
        ("envoy.config.endpoint.v3.ClusterLoadAssignment", {n: endpoints(n, p) for n, p in ports.items()}),
        ("envoy.config.listener.v3.Listener", {TARGET: {"name": TARGET, "api_listener": {"api_listener": manager}}}),
        ("envoy.config.route.v3.RouteConfiguration", {"r": routes}),
    )


def endpoints(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    locality = {
        "locality": {"region": "r"},
        "load_balancing_weight": 1,
        "lb_endpoints": [{"endpoint": {"address": address}, "load_balancing_weight": 1}],
    }
    return {"cluster_name": name, "endpoints": [locality]}


@asynccontextmanager
async def backend(answer: bytes) -> AsyncIterator[int]:
    """A gRPC server that answers everything with `answer`."""

    async def who(request: bytes, context: Any) -> bytes:
        return answer

    server = grpc.aio.server()
    handlers = {"Who": grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def ask(client: asyncio.subprocess.Process) -> str:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"\n")
    return (await client.stdout.readline()).decode().strip()


@pytest.mark.timeout(90)
async def test_a_proxyless_client_is_routed_and_follows_changes(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "cp") as plane, backend(b"one") as one, backend(b"two") as two:
        plane.register("a")
        ports = {"one": one, "two": two}
        plane.source.set(routed_to("one", ports))
        token = plane.tokens.create("default", "a", timedelta(minutes=1), utc_now())
        (tmp_path / "token").write_text(token)
        files = CertificateFiles(tmp_path / "files")
        authority = CertificateClient(plane.join, plane.xds, lambda: plane.authority.root_pem)
        keeper = IdentityKeeper(authority, tmp_path / "agent", tmp_path / "token")
        keeper.changed.append(files.write)
        await keeper.start()
        node = NodeIdentity("a", "default", "127.0.0.1", "a", labels({}))
        paths = CertificatePaths(str(files.certificate), str(files.key), str(files.root), REFRESH_SECONDS)
        host, _, port = plane.xds.rpartition(":")
        bootstrap = grpc_bootstrap(node, ServerAddress(host, int(port)), paths)
        (tmp_path / "bootstrap.json").write_text(json.dumps(bootstrap))
        environment = {**os.environ, "GRPC_XDS_BOOTSTRAP": str(tmp_path / "bootstrap.json")}
        pipe = asyncio.subprocess.PIPE
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, TARGET, env=environment, stdin=pipe, stdout=pipe
        )
        try:
            assert await ask(client) == "one"
            (status,) = plane.registry.proxies()
            assert status.protocol == "sotw"
            assert status.node.proxyless
            plane.source.set(routed_to("two", ports))
            while await ask(client) != "two":
                pass
            assert status.refusal is None
        finally:
            assert client.stdin is not None
            client.stdin.close()
            await client.wait()
