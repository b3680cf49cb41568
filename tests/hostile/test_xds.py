"""Row 57: what a control plane gets wrong is refused by name and with its reason, and what was good stays in force."""

from __future__ import annotations

import contextlib
import http.client
import queue
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from attack.positions import peak_from_here, resident

from harness.proxies import DataPlane, PortHolder, running
from tulle.protos import from_dict, message

pytestmark = pytest.mark.integration

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
LISTENER = "envoy.config.listener.v3.Listener"
TYPE = f"type.googleapis.com/{LISTENER}"
HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
H2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
REQUEST = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
RESPONSE = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")

WAIT_S = 30.0
MIB = 1 << 20
HUGE = 100 * MIB
BEYOND = 130 * MIB
"""Bytes of a resource that is refused, and of one whose message is not even taken."""
MEMORY = 256 * MIB
"""The most that refusing a huge resource may take for a moment: it is transferred, and copied once, to be seen."""


def listener(name: str, port: int, said: str, status: int = 200) -> bytes:
    """A listener that answers by itself, packed."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": said}}}
    router = {"name": "router", "typed_config": {"@type": f"type.googleapis.com/{ROUTER}"}}
    manager = {
        "@type": f"type.googleapis.com/{HCM}",
        "stat_prefix": name,
        "http_filters": [router],
        "route_config": {
            "name": name,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
    }
    made = from_dict(
        LISTENER,
        {
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
        },
    )
    packed: bytes = made.SerializeToString()
    return packed


@dataclass
class ControlPlane(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Says what the test tells it to, and writes down what it is answered."""

    first: bytes
    requests: queue.Queue[Any] = field(default_factory=queue.Queue)
    streams: int = 0
    _out: queue.Queue[bytes | None] = field(default_factory=queue.Queue)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Aggregated discovery, delta."""
        if details.method != ADS:
            return None
        return grpc.stream_stream_rpc_method_handler(self._stream, REQUEST.FromString, lambda data: data)

    def push(self, nonce: str, **resources: bytes) -> None:
        """Sends listeners."""
        said = RESPONSE(type_url=TYPE, nonce=nonce)
        for name, value in resources.items():
            each = said.resources.add(name=name, version=nonce)
            each.resource.type_url, each.resource.value = TYPE, value
        self._out.put(said.SerializeToString())

    def answered(self, nonce: str) -> str:
        """The reason of the NACK for a response; empty for an ACK."""
        while True:
            request = self.requests.get(timeout=WAIT_S)
            if request.response_nonce == nonce:
                return str(request.error_detail.message)

    def asked_again(self) -> dict[str, str]:
        """What a client holds that comes on a new stream."""
        while True:
            request = self.requests.get(timeout=WAIT_S)
            if request.type_url == TYPE and request.initial_resource_versions:
                return dict(request.initial_resource_versions)

    def close(self) -> None:
        """Ends the stream."""
        self._out.put(None)

    def _stream(self, requests: Iterator[Any], _context: grpc.ServicerContext) -> Iterator[bytes]:
        self._out.put(None)
        out = self._out = queue.Queue()
        threading.Thread(target=self._read, args=(requests, out), daemon=True).start()
        yield from iter(out.get, None)

    def _read(self, requests: Iterator[Any], out: queue.Queue[bytes | None]) -> None:
        try:
            for request in requests:
                fresh = not request.response_nonce and not request.initial_resource_versions
                if fresh and request.type_url == TYPE:
                    self.push("first", first=self.first)
                elif fresh:
                    out.put(RESPONSE(type_url=request.type_url, nonce="nothing").SerializeToString())
                self.requests.put(request)
        except grpc.RpcError:
            pass  # The client went away; it comes back on another stream.


def bootstrap(port: int) -> dict[str, Any]:
    """Everything comes from the control plane at a port."""
    source = {"ads": {}, "resource_api_version": "V3"}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    http2 = {"@type": f"type.googleapis.com/{H2}", "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "node": {"id": "sidecar~127.0.0.1~shop.default~default.svc.cluster.local", "cluster": "shop"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "lds_config": source,
            "cds_config": source,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {H2: http2},
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                }
            ]
        },
    }


@dataclass(frozen=True, slots=True)
class Field:
    """A proxy that has one good listener, and its control plane."""

    plane: DataPlane
    pid: int
    control: ControlPlane
    ports: tuple[int, int, int]

    def says(self, which: int = 0) -> str:
        """What the listener on one of the ports answers."""
        line = http.client.HTTPConnection("127.0.0.1", self.ports[which], timeout=WAIT_S)
        try:
            line.request("GET", "/")
            return line.getresponse().read().decode()
        finally:
            line.close()

    def comes_to_say(self, said: str, which: int = 0) -> bool:
        """Whether the listener answers so before long: what was acknowledged is about to be in force."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError):
                if self.says(which) == said:
                    return True
        return False


@pytest.fixture
def mesh(plane: DataPlane, tmp_path: Path) -> Iterator[Field]:
    holder = PortHolder()
    ports = (holder(), holder(), holder())
    control = ControlPlane(listener("first", ports[0], "good"))
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((control,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with running(plane, bootstrap(port), ports[:1], tmp_path) as process:
            assert control.answered("first") == ""
            yield Field(plane, process.pid, control, ports)
    finally:
        control.close()
        server.stop(None).wait(WAIT_S)
        holder.close()


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x80\x80\x80\x80\x80", b"\x0a\x05fir", b"\x00"])
def test_bytes_that_are_no_message(mesh: Field, garbage: bytes) -> None:
    mesh.control.push("2", first=garbage)
    reason = mesh.control.answered("2")
    assert reason
    if mesh.plane.name == "tulle":
        assert "first: " in reason
    assert mesh.says() == "good"


def test_one_bad_listener_among_good_ones(mesh: Field) -> None:
    """The good ones are taken; the bad one is named with the field that is wrong."""
    _, second, third = mesh.ports
    bad = listener("third", third, "bad", status=99)
    renewed = listener("first", mesh.ports[0], "renewed")
    mesh.control.push("2", first=renewed, third=bad, second=listener("second", second, "good too"))
    reason = mesh.control.answered("2")
    assert "third" in reason
    assert "second" not in reason
    assert "irect_response.status" in reason or "DirectResponseActionValidationError.Status" in reason
    # Envoy stops at the field of the whole update that is malformed, and takes what it has read of it.
    if mesh.plane.name == "tulle":
        assert "third: filter_chains[0].filters[0]" in reason
        assert mesh.comes_to_say("renewed")
        assert mesh.comes_to_say("good too", 1)
    with pytest.raises(OSError):
        mesh.says(2)
    mesh.control.push("3", third=listener("third", third, "mended"))
    assert mesh.control.answered("3") == ""
    assert mesh.comes_to_say("mended", 2)


def test_a_nonce_that_comes_again(mesh: Field) -> None:
    """An old response, repeated, is answered under its nonce; nothing else comes of it."""
    first = listener("first", mesh.ports[0], "good")
    for _ in range(3):
        mesh.control.push("first", first=first)
        assert mesh.control.answered("first") == ""
    assert mesh.says() == "good"
    mesh.control.push("2", first=listener("first", mesh.ports[0], "renewed"))
    assert mesh.control.answered("2") == ""
    assert mesh.comes_to_say("renewed")


def test_a_huge_resource(mesh: Field) -> None:
    """It is refused by name, in bounded memory; of a message that is larger still only the stream is lost."""
    if mesh.plane.name == "envoy":
        pytest.skip("no fair comparison: Envoy takes messages of any size")
    before, _ = resident(mesh.pid)
    peak_from_here(mesh.pid)
    mesh.control.push("2", first=bytes(HUGE))
    reason = mesh.control.answered("2")
    assert "first: " in reason
    assert str(HUGE) in reason
    assert mesh.says() == "good"
    mesh.control.push("3", first=bytes(BEYOND))
    assert set(mesh.control.asked_again()) == {"first"}
    assert mesh.says() == "good"
    _, peak = resident(mesh.pid)
    assert peak - before < MEMORY
    mesh.control.push("4", first=listener("first", mesh.ports[0], "renewed"))
    assert mesh.control.answered("4") == ""
    assert mesh.comes_to_say("renewed")
