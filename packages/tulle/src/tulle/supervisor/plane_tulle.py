"""tulle-proxy as the sidecar: one process that joins, serves, and drains by itself at SIGTERM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tulle.supervisor.child import Child, Command
from tulle.supervisor.dataplane import MARGIN, Sidecar
from tulle.supervisor.logs import Show
from tulle.supervisor.sidecar_files import node_of, write_bootstrap, write_identity, xds_address
from tulle.supervisor.site import Site
from tulle.xds.bootstrap import proxy_bootstrap


@dataclass(frozen=True, slots=True)
class TullePlane:
    """The data plane of tulle-proxy at ``program``."""

    program: Path

    def sidecar(self, site: Site, show: Show) -> Sidecar:
        """The sidecar of a workload; what it writes to standard output is its access log."""

        async def prepare() -> Command:
            bootstrap = write_bootstrap(site, proxy_bootstrap(node_of(site), site.admin, xds_address(site)))
            identity = write_identity(site)
            argv = [
                str(self.program), "-c", str(bootstrap), "--identity", str(identity),
                "--drain-time-s", str(site.mesh.drain_seconds),
            ]
            return Command(argv, site.mesh.base_env, output=site.log("access"))

        proxy = Child(f"{site.title}/proxy", prepare, site.log("proxy"), show, changed=lambda: None)
        return Sidecar(proxy, grace=site.mesh.drain_seconds + MARGIN)
