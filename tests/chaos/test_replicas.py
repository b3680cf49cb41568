"""A control plane that stops without closing anything (row 2): the proxy notices, and another replica is taken."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.grpc_services import http_listener
from harness.proxies import PortHolder, Tulle, running
from tulle.protos import from_dict

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0
"""The proxy's own limits add up to 15 s at most, which its build asserts (`control/channel.rs`)."""

# Answers every subscription at once: with the listener of the file that it is given, or with nothing.
REPLICA = """
import sys
from concurrent import futures
from pathlib import Path
import grpc
from tulle.protos import message

KIND = "type.googleapis.com/envoy.config.listener.v3.Listener"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
request = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
response = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
packed = Path(sys.argv[1]).read_bytes()

def stream(requests, context):
    for each in requests:
        if each.response_nonce:
            continue
        said = response(type_url=each.type_url, nonce="1")
        if each.type_url == KIND:
            made = said.resources.add(name="main", version=sys.argv[1])
            made.resource.type_url, made.resource.value = KIND, packed
        yield said.SerializeToString()

class Discovery(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == METHOD:
            return grpc.stream_stream_rpc_method_handler(stream, request.FromString, lambda data: data)

server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Discovery(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
"""


@contextlib.contextmanager
def replica(folder: Path, name: str, port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A control plane whose listener on the port says its name; with the port of its own."""
    direct = {"status": 200, "body": {"inline_string": name}}
    made = http_listener("main", port, [{"match": {"prefix": "/"}, "direct_response": direct}], [])
    packed = folder / name
    packed.write_bytes(from_dict("envoy.config.listener.v3.Listener", made).SerializeToString())
    argv = [sys.executable, "-c", REPLICA, str(packed)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def bootstrap(replicas: list[int]) -> dict[str, Any]:
    """Everything comes from one of these."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        "@type": f"type.googleapis.com/{options}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = [{"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in replicas]
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": each}} for each in address]}]
    cluster = {
        "name": "xds-grpc",
        "type": "STATIC",
        "typed_extension_protocol_options": {options: http2},
        "load_assignment": {"cluster_name": "xds-grpc", "endpoints": endpoints},
    }
    source = {"ads": {}, "resource_api_version": "V3"}
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    }
    return {
        "node": {"id": "sidecar~127.0.0.1~shop.default~default.svc.cluster.local", "cluster": "shop"},
        "dynamic_resources": {"lds_config": source, "cds_config": source, "ads_config": ads},
        "static_resources": {"clusters": [cluster]},
    }


def says(port: int) -> str:
    """What the proxy answers."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(line):
        line.request("GET", "/")
        return line.getresponse().read().decode()


def test_a_stopped_control_plane_is_left_for_another(tmp_path: Path) -> None:
    plane = Tulle()
    if not plane.available():
        pytest.skip("tulle-proxy is not built; make build")
    with (
        contextlib.closing(PortHolder()) as ports,
        replica(tmp_path, "one", port := ports()) as (first, one),
        replica(tmp_path, "two", port) as (second, two),
        running(plane, bootstrap([one, two]), [port], tmp_path),
    ):
        assert says(port) == "one"
        # The kernel goes on acknowledging what comes: only the silence can be noticed.
        first.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE_S
        while (said := says(port)) != "two":
            assert said == "one", "nobody notices but the proxy"
            assert time.monotonic() < deadline, "the second was not taken"
            time.sleep(0.02)
        second.kill()
        first.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE_S
        while says(port) != "one":
            assert time.monotonic() < deadline, "the first was not taken again"
            time.sleep(0.02)
