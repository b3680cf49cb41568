"""The SPIFFE Workload API beside an application that asks for it: its workload's identity, with a key of its own."""

from __future__ import annotations

import sys

from tulle.supervisor.child import Child, Command
from tulle.supervisor.logs import Show
from tulle.supervisor.sidecar_files import workload
from tulle.supervisor.site import Site


def agent(site: Site, show: Show) -> Child | None:
    """What answers there; it has a key and certificates of its own, apart from the sidecar's."""
    socket = site.identity_socket
    if socket is None:
        return None

    async def prepare() -> Command:
        keys = site.folder / "app-identity"
        keys.mkdir(mode=0o700, exist_ok=True)
        argv = [
            sys.executable, "-m", "tulle.agent", "--workload-api", str(socket),
            "--ca", site.mesh.join, "--renew", site.mesh.xds, "--trust-anchor", str(site.mesh.trust_anchor),
            "--attest", str(site.mesh.tokens), "--workload", workload(site), "--state", str(keys),
        ]  # fmt: skip
        return Command(argv, site.mesh.base_env)

    return Child(f"{site.title}/identity", prepare, site.log("identity"), show, changed=lambda: None)
