"""Stock Envoy as the sidecar: Envoy itself, and an agent that gets its certificates and serves them by SDS."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import httpx

from tulle.status.metrics import samples
from tulle.supervisor.child import Child, Command
from tulle.supervisor.dataplane import Sidecar
from tulle.supervisor.logs import Show
from tulle.supervisor.sidecar_files import keys_folder, node_of, workload, write_bootstrap, xds_address
from tulle.supervisor.site import LOOPBACK, Site
from tulle.xds.bootstrap import ENVOY_DRAIN_SECONDS, envoy_bootstrap

DISCOURAGE = 1.0
"""Seconds during which a draining Envoy still accepts, telling its clients to close, before its listeners close."""

LOOK = 0.05
QUIET = ("envoy_http_downstream_rq_active", "envoy_tcp_downstream_cx_active")


@dataclass(frozen=True, slots=True)
class EnvoyPlane:
    """The data plane of Envoy at ``program``."""

    program: Path

    def sidecar(self, site: Site, show: Show) -> Sidecar:
        """The sidecar of a workload; what it writes to standard output is its access log."""
        socket = _socket(site)

        async def agent_command() -> Command:
            argv = [
                sys.executable, "-m", "tulle.agent", "--socket", socket,
                "--ca", site.mesh.join, "--renew", site.mesh.xds, "--trust-anchor", str(site.mesh.trust_anchor),
                "--attest", str(site.mesh.tokens), "--workload", workload(site),
                "--state", str(keys_folder(site, "agent-identity")),
            ]
            return Command(argv, site.mesh.base_env)

        async def envoy_command() -> Command:
            made = envoy_bootstrap(node_of(site), site.admin, xds_address(site), socket)
            bootstrap = write_bootstrap(site, made)
            argv = [
                str(self.program), "-c", str(bootstrap), "--concurrency", "1", "--use-dynamic-base-id",
                "--log-level", "warning", "--drain-time-s", str(ENVOY_DRAIN_SECONDS),
                "--drain-strategy", "immediate",
            ]
            return Command(argv, site.mesh.base_env, output=site.log("access"))

        agent = Child(f"{site.title}/agent", agent_command, site.log("agent"), show, changed=lambda: None)
        envoy = Child(f"{site.title}/proxy", envoy_command, site.log("proxy"), show, changed=lambda: None)
        return Sidecar(envoy, (agent,), drain=lambda: drain(site.admin, site.mesh.drain_seconds))


def _socket(site: Site) -> str:
    """A Unix socket path short enough for every system, unique within the mesh."""
    name = blake2b(f"{site.view.namespace}/{site.view.name}".encode(), digest_size=8).hexdigest()
    return str(site.mesh.sockets / f"{name}.sock")


async def drain(admin: int, seconds: float) -> None:
    """Has Envoy close its listeners gracefully and waits, at most ``seconds``, until it serves nothing more."""
    async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{admin}", timeout=2.0, trust_env=False) as http:
        with contextlib.suppress(httpx.HTTPError):
            await http.post("/drain_listeners?graceful&skip_exit")
            await asyncio.sleep(DISCOURAGE)
            await http.post("/drain_listeners")
            until = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < until and await _active(http):
                await asyncio.sleep(LOOK)


async def _active(http: httpx.AsyncClient) -> bool:
    """Whether requests or TCP connections are in progress; the request for these numbers is one of them."""
    text = (await http.get("/stats/prometheus?filter=downstream_.*_active")).text
    busy = sum(
        sample.value
        for sample in samples(text, QUIET)
        if sample.labels.get("envoy_http_conn_manager_prefix") != "admin"
    )
    return busy > 0
