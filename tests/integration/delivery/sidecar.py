"""A real tulle-proxy under a control plane of hand-made snapshots: started, watched, killed, started again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from delivery_server import ControlPlane

from harness.proxies import Tulle
from tulle.identity.ca import utc_now
from tulle.supervisor.ports import PortBook
from tulle.xds.bootstrap import NodeIdentity, ServerAddress, proxy_bootstrap

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def listener(port: int, idle: int = 300, **more: Any) -> dict[str, Any]:
    """An HTTP listener `l` with its routes `r` over ADS; `idle` in seconds is what tests change of it.

    `more` are further fields of its connection manager.
    """
    manager = {
        "@type": HCM,
        "stat_prefix": "test",
        "stream_idle_timeout": f"{idle}s",
        "rds": {"route_config_name": "r", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        **more,
    }
    return {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def routes(*hosted: dict[str, Any]) -> dict[str, Any]:
    """Routes `r` of every host."""
    return {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": list(hosted)}]}


def answer(body: str, status: int = 200) -> dict[str, Any]:
    """A route that answers everything by itself."""
    return {"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": body}}}


def cluster(name: str, **more: Any) -> dict[str, Any]:
    """A cluster with its endpoints over ADS."""
    eds = {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
    return {"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": eds, **more}


def endpoints(name: str, *ports: int) -> dict[str, Any]:
    """A cluster's endpoints at local ports."""
    at = [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": p}}}} for p in ports]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": at}]}


@dataclass
class Sidecar:
    """tulle-proxy as the workload `a`. `port` is for its listener; what it says is in `log`."""

    plane: ControlPlane
    directory: Path
    name: str = "a"
    drain: int = 1
    ports: PortBook = field(default_factory=lambda: PortBook(random.Random()))
    process: asyncio.subprocess.Process | None = None
    port: int = 0
    admin: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.port, self.admin = self.ports.reserve(), self.ports.choose()

    @property
    def kept(self) -> Path:
        """Where it keeps the last accepted configuration."""
        return self.directory / "identity" / "configuration"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    async def start(self) -> None:
        """Starts it, with a join token that it needs the first time only."""
        host, _, port = self.plane.xds.rpartition(":")
        node = NodeIdentity(self.name, "default", "127.0.0.1", self.name, ())
        made = proxy_bootstrap(node, self.admin, ServerAddress(host, int(port)))
        bootstrap, identity = self.directory / "bootstrap.json", self.directory / "identity.yaml"
        bootstrap.write_text(json.dumps(made))
        identity.write_text(json.dumps(self._identity()))
        words = Tulle().command(bootstrap)
        words = [*words[:-1], "info", "--identity", str(identity), "--drain-time-s", str(self.drain)]
        with (self.directory / "log").open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(*words, stdout=output, stderr=output)

    def _identity(self) -> dict[str, str]:
        token, root = self.directory / "token", self.directory / "root.pem"
        if not token.exists():
            token.write_text(self.plane.tokens.create("default", self.name, timedelta(minutes=5), utc_now()))
            root.write_text(self.plane.authority.root_pem)
        return {
            "ca_address": self.plane.join, "renew_address": self.plane.xds, "trust_anchor_file": str(root),
            "join_token_file": str(token), "server_name": "tulle-control-plane", "trust_domain": "cluster.local",
            "key_algorithm": "ec-p256", "state_dir": str(self.kept.parent),
        }  # fmt: skip

    async def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def ready(self) -> str:
        """What `/ready` says; empty while nobody answers."""
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{self.admin}/ready")).text.strip()
            except httpx.TransportError:
                return ""

    async def until_ready(self) -> None:
        while await self.ready() != "LIVE":
            assert self.process is not None
            assert self.process.returncode is None, self.log
            await asyncio.sleep(0.02)

    async def says(self, text: str) -> None:
        """Waits until its log holds a text."""
        while text not in self.log:
            assert self.process is not None
            assert self.process.returncode is None, self.log
            await asyncio.sleep(0.02)

    async def get(self, path: str = "/") -> tuple[int, str]:
        """One request on a connection of its own."""
        async with httpx.AsyncClient(trust_env=False) as client:
            found = await client.get(f"http://127.0.0.1:{self.port}{path}")
            return found.status_code, found.text

    def resident(self) -> int:
        """Its resident memory in KiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@asynccontextmanager
async def sidecar(plane: ControlPlane, directory: Path, name: str = "a") -> AsyncIterator[Sidecar]:
    """A sidecar that runs, and is gone afterwards."""
    made = Sidecar(plane, directory, name)
    try:
        await made.start()
        yield made
    finally:
        await made.kill()
        made.ports.close()
