"""A proxyless gRPC client against the mesh: the same weights as through a sidecar, over mutual TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from mesh_runner import BACKEND, StartMesh

ECHO = '''
import concurrent.futures, os, sys, grpc
name = os.environ["NAME"].encode()
who = grpc.unary_unary_rpc_method_handler(lambda request, context: name)
server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Who": who}),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
'''

CLIENT = '''
import sys, grpc
credentials = grpc.xds_channel_credentials(grpc.local_channel_credentials())
with grpc.secure_channel("xds:///" + sys.argv[1], credentials) as channel:
    call = channel.unary_unary("/test.Echo/Who")
    for _ in range(int(sys.argv[2])):
        print(call(b"", timeout=30, wait_for_ready=True).decode())
'''

CALLS = 1000


def test_a_proxyless_client_follows_the_same_weights(start_mesh: StartMesh) -> None:
    config = BACKEND.replace("name: http", "name: grpc").replace("targetPort: http", "targetPort: grpc")
    config = config.replace("echo.py, $(PORT_HTTP)", "grpc_echo.py, $(PORT_GRPC)")
    mesh = start_mesh(config, {"grpc_echo.py": ECHO})
    written = mesh.tulle("grpc-bootstrap", "client", "-d", str(mesh.folder / "grpc"))
    assert written.returncode == 0, written.stderr
    environment = {**os.environ, "GRPC_XDS_BOOTSTRAP": written.stdout.strip()}
    argv = [sys.executable, "-c", CLIENT, "backend.default:9001", str(CALLS)]
    called = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert called.returncode == 0, called.stderr[-2000:]
    seen = Counter(called.stdout.split())
    assert seen.total() == CALLS
    assert 0.06 * CALLS <= seen["v2"] <= 0.14 * CALLS, seen
