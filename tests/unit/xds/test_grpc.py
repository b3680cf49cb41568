"""A real proxyless gRPC client follows what is emitted for it, over mTLS."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from delivery_server import ControlPlane, control_plane
from mesh_builders import BACKEND, CLIENT, at, canary, opened, routes, rule, service, snapshot, to, workload

from tulle.link import link
from tulle.model import matching, policies
from tulle.model import routes as r
from tulle.model.meta import labels
from tulle.model.source import SourceRef
from tulle.model.workloads import InboundPort, Placement, WorkloadRef
from tulle.protos import to_dict, unpack_any
from tulle.xds.bootstrap import CertificatePaths, NodeIdentity, ServerAddress, grpc_bootstrap
from tulle.xds.client import ClientKind
from tulle.xds.emit import emit
from tulle.xds.scope import scope
from tulle.xds.snapshot import CLUSTER, LISTENER, ROUTES

CALLER = """
import collections, grpc, sys
channel = grpc.secure_channel(sys.argv[1], grpc.xds_channel_credentials())
call = channel.unary_unary("/test.Echo/Version")
seen = collections.Counter(call(b"", timeout=20) for _ in range(200))
print(seen[b"v1"], seen[b"v2"], call(b"", timeout=20, metadata=[("user-type", "internal")]).decode())
"""


@contextmanager
def backend(plane: ControlPlane, name: str, version: str) -> Iterator[int]:
    """A gRPC server that stands where a sidecar would: TLS with the workload's identity."""
    key, issued = plane.certificate(name)
    root = plane.authority.root_pem.encode()
    credentials = grpc.ssl_server_credentials(
        [(key, issued.leaf_pem.encode())], root, require_client_auth=True
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: version.encode())
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Echo", {"Version": handler}),)
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def write_bootstrap(plane: ControlPlane, directory: Path) -> Path:
    key, issued = plane.certificate("client")
    files = {
        "cert.pem": issued.leaf_pem.encode(),
        "key.pem": key,
        "root.pem": plane.authority.root_pem.encode(),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    host, _, port = plane.xds.rpartition(":")
    made = grpc_bootstrap(
        NodeIdentity("client", "default", "127.0.0.1", "client", labels({})),
        ServerAddress(host, int(port)),
        CertificatePaths(*(str(directory / name) for name in ("cert.pem", "key.pem", "root.pem")), refresh_seconds=10),
    )
    path = directory / "grpc.json"
    path.write_text(json.dumps(made))
    return path


async def call(target: str, bootstrap: Path) -> tuple[int, int, str]:
    """What 200 calls and one with the header were answered, made in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CALLER, target,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(bootstrap)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    v1, v2, internal = out.decode().split()
    return int(v1), int(v2), internal


async def test_weights_headers_and_identities_hold_for_a_real_client(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        plane.register("client")
        with ExitStack() as running:
            places = [Placement(CLIENT, 1, 2)]
            for name, version in (("backend-v1", "v1"), ("backend-v2", "v2")):
                plane.register(name, "backend")
                port = running.enter_context(backend(plane, name, version))
                places.append(Placement(WorkloadRef("default", name), 3, 4, (InboundPort(9001, port),)))
            plane.source.set(emit(scope(link(canary(), places).mesh, CLIENT, ClientKind.GRPC)))
            bootstrap = write_bootstrap(plane, tmp_path)
            for target in ("xds:///backend.default:9001", f"xds:///{BACKEND}:9001"):
                v1, v2, internal = await call(target, bootstrap)
                assert v1 + v2 == 200
                assert 4 <= v2 <= 45  # binomial(200, 0.1): outside once in a million runs
                assert internal == "v2"


def test_what_grpc_would_refuse_is_left_out() -> None:
    at = SourceRef("mesh.yaml")
    odd = rule(
        to(),
        matches=(matching.RouteMatch(at, path=matching.PathMatch(matching.PathKind.SEGMENTS, "/a.b")),),
        cors=r.Cors((matching.StringMatch(matching.MatchKind.EXACT, "*"),)),
        fault=r.Fault(abort=r.FaultAbort(r.Percent.of(1), grpc_status=14)),
        timeout=r.timedelta(seconds=3),
        retry=r.Retry(2, on=(r.RetryOn.FIVE_XX, r.RetryOn.GRPC_UNAVAILABLE)),
        mirrors=(r.Mirror(to()),),
    )
    least = policies.TrafficPolicy(policies.LoadBalancer(policies.Balancing.LEAST_REQUEST))
    fragments = [
        service(),
        workload("client", "client"),
        policies.DestinationPolicy(routes().meta, "backend", least),
        routes(odd),
    ]
    found = snapshot(fragments, client=ClientKind.GRPC)
    (route,) = opened(found.resources[ROUTES][f"grpc|9001|{BACKEND}"]).virtual_hosts[0].routes
    assert route.match.safe_regex.regex == r"/a\.b(/.*)?"
    assert list(route.typed_per_filter_config) == ["envoy.filters.http.fault"]
    assert route.route.max_stream_duration.max_stream_duration.seconds == 3
    assert route.route.retry_policy.retry_on == "unavailable"
    assert not route.route.request_mirror_policies
    assert opened(found.resources[CLUSTER][f"outbound|9001||{BACKEND}"]).lb_policy == 0


def test_every_name_of_a_service_is_a_listener() -> None:
    found = snapshot(client=ClientKind.GRPC)
    assert {"backend:9001", "backend.default:9001", f"{BACKEND}:9001"} <= set(found.resources[LISTENER])
    manager = unpack_any(opened(found.resources[LISTENER]["backend:9001"]).api_listener.api_listener)
    assert manager.http_filters[-1].name == "envoy.filters.http.router"


def test_a_route_that_only_a_verified_token_leads_to_is_nobodys() -> None:
    """gRPC verifies no tokens and ignores such conditions: with the route it would send everybody there."""

    def claimed(*, inverted: bool) -> matching.RouteMatch:
        return matching.RouteMatch(at(), claims=(matching.ClaimMatch(("groups",), inverted=inverted),))

    def paths(*matches: matching.RouteMatch) -> list[dict[str, object]]:
        table = routes(rule(to(subset="v2"), matches=matches), rule(to(subset="v1")), created=9)
        fragments = [each for each in canary() if not isinstance(each, r.RouteSet)]
        found = snapshot([*fragments, table], client=ClientKind.GRPC)
        [host] = opened(found.resources[ROUTES][f"grpc|9001|{BACKEND}"]).virtual_hosts
        return [to_dict(route.match) for route in host.routes]

    everybody = {"prefix": "/"}
    assert paths(claimed(inverted=False)) == [everybody]
    assert paths(claimed(inverted=True)) == [everybody, everybody]
