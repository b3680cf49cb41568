"""Memory of one idle sidecar: with no clusters, and what a cluster and an endpoint take at several sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import accounting, report, settings
from bench.peers.envoy import ROOT
from bench.processes import free_ports, started

SIZES = (100, 1000, 5000)
ENDPOINTS = 10
"""Of each cluster, where endpoints are measured."""
SETTLE_S = 3.0
"""After listening; freed memory is given back when start-up is over."""
BUDGET_CLUSTER, BUDGET_ENDPOINT = 1024, 150
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """Memory without clusters, with `clusters` of them, with their endpoints too; bytes each of one.

    Shares are of anonymous memory: pages of the program come and go with what runs, megabytes that no cluster causes.
    """

    clusters: int
    base: accounting.Memory
    with_clusters: accounting.Memory
    with_endpoints: accounting.Memory

    @property
    def per_cluster(self) -> float:
        """Bytes."""
        return (self.with_clusters.anonymous - self.base.anonymous) * 1024 / self.clusters

    @property
    def per_endpoint(self) -> float:
        """Bytes."""
        taken = self.with_endpoints.anonymous - self.with_clusters.anonymous
        return taken * 1024 / (self.clusters * ENDPOINTS)


def bootstrap(port: int, clusters: int, endpoints: int) -> Json:
    """One listener, and as many clusters with as many endpoints, named as a mesh names them."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "main",
        "route_config": {"name": "main", "virtual_hosts": []},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    listener = {
        "name": "main",
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }
    made = [_cluster(number, endpoints) for number in range(clusters)]
    return {
        "node": {"id": "memory", "cluster": "memory"},
        "static_resources": {"listeners": [listener], "clusters": made},
    }


def _cluster(number: int, endpoints: int) -> Json:
    name = f"outbound|80||service-{number}.default.svc.cluster.local"
    addresses = [f"10.{each}.{number // 250}.{number % 250 + 1}" for each in range(endpoints)]
    hosts = [{"endpoint": {"address": _address(address, 8080)}} for address in addresses]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


@contextmanager
def _sidecar(folder: Path, clusters: int, endpoints: int) -> Iterator[int]:
    program = os.environ.get("TULLE_PROXY", str(ROOT / "packages/tulle-proxy/target/release/tulle-proxy"))
    (port,) = free_ports(1)
    config = folder / f"{clusters}-{endpoints}.json"
    config.write_text(json.dumps(bootstrap(port, clusters, endpoints)))
    command = (program, "--concurrency", "1", "--log-level", "error", "-c", str(config))
    with started(command, port, folder / "out") as pid:
        time.sleep(SETTLE_S)
        yield pid


def taken(folder: Path, clusters: int, endpoints: int) -> accounting.Memory:
    """What a sidecar with that configuration takes."""
    with _sidecar(folder, clusters, endpoints) as pid:
        return accounting.memory([pid])


def measure() -> list[Row]:
    """A row for each size."""
    with tempfile.TemporaryDirectory(prefix="tulle-memory-") as scratch:
        folder = Path(scratch)
        base = taken(folder, 0, 0)
        return [Row(size, base, taken(folder, size, 0), taken(folder, size, ENDPOINTS)) for size in SIZES]


def markdown(rows: list[Row]) -> str:
    """The table."""
    host = report.machine()
    lines = [
        "# Memory of one idle sidecar",
        "",
        f"{host['cpus']} CPUs ({host['model']}), Linux {host['kernel']}; one worker; resident memory"
        f" {SETTLE_S:g} s after it listens. A cluster's share is measured with clusters without endpoints, an"
        f" endpoint's with {ENDPOINTS} of them in each cluster; of anonymous memory, since the program's own pages come"
        " and go.",
        f"Budget: {BUDGET_CLUSTER} bytes a cluster, {BUDGET_ENDPOINT} bytes an endpoint.",
        "",
        "| clusters | none, MB | with them, MB | with endpoints, MB | bytes a cluster | bytes an endpoint |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        sizes = (row.base.rss, row.with_clusters.rss, row.with_endpoints.rss)
        lines.append(
            f"| {row.clusters} | "
            + " | ".join(f"{size / 1024:.1f}" for size in sizes)
            + f" | {row.per_cluster:.0f} | {row.per_endpoint:.0f} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    """Writes `memory.md` and `memory.json` beside the other results."""
    try:
        rows = measure()
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    results = settings.read().results
    results.mkdir(parents=True, exist_ok=True)
    (results / "memory.md").write_text(markdown(rows))
    document = [
        asdict(row) | {"per_cluster": row.per_cluster, "per_endpoint": row.per_endpoint} for row in rows
    ]
    (results / "memory.json").write_text(
        json.dumps({"machine": report.machine(), "rows": document}, indent=1)
    )
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
