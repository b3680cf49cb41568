"""What `tulle grpc-bootstrap` does: joins as a workload, keeps its certificate in files, writes gRPC's bootstrap."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from tulle.agent.ca_client import CertificateClient, CertificateRefusedError
from tulle.agent.certificate_files import REFRESH_SECONDS, CertificateFiles
from tulle.agent.keeper import IdentityKeeper
from tulle.cli.client import Client
from tulle.cli.failure import FAILED, Failure
from tulle.identity.files import UnsafeKeyError, private_directory, write_private
from tulle.identity.names import CONTROL_PLANE_SERVER_NAME
from tulle.model.meta import labels
from tulle.xds.bootstrap import CertificatePaths, NodeIdentity, ServerAddress, grpc_bootstrap


def prepare(client: Client, namespace: str, workload: str, folder: Path, *, keep: bool) -> None:
    """Writes `bootstrap.json`, `key.pem`, `cert.pem` and `root.pem` into ``folder`` and prints the first one's path."""
    status = client.send("GET", ["v1", "status"])
    plane = status["control_plane"]
    declared = client.send("GET", ["v1", "workloads"])["workloads"]
    found = next((each for each in declared if (each["namespace"], each["name"]) == (namespace, workload)), None)
    if found is None:
        raise Failure(f"no workload {namespace}/{workload} is declared", FAILED)
    token = client.send("POST", ["v1", "workloads", namespace, workload, "join-token"])["token"]
    try:
        private_directory(folder)
        write_private(folder / "join-token", token.encode())
        files = CertificateFiles(folder)
        authority = CertificateClient(
            plane["join"], plane["xds"], (Path(plane["data_dir"]) / "ca" / "root.pem").read_text,
            CONTROL_PLANE_SERVER_NAME,
        )
        keeper = IdentityKeeper(authority, folder / "identity", folder / "join-token")
        keeper.changed.append(files.write)
        keeper.taken_up.append(files.taken_up)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_hold(keeper, folder, _bootstrap(found, plane["xds"], files), keep=keep))
    except (CertificateRefusedError, UnsafeKeyError, OSError) as error:
        raise Failure(str(error), FAILED) from error


def _bootstrap(workload: dict[str, Any], xds: str, files: CertificateFiles) -> dict[str, Any]:
    node = NodeIdentity(
        workload["name"], workload["namespace"], workload["address"], workload["service_account"],
        labels(workload["labels"]),
    )
    host, _, port = xds.rpartition(":")
    paths = CertificatePaths(str(files.certificate), str(files.key), str(files.root), REFRESH_SECONDS)
    return grpc_bootstrap(node, ServerAddress(host.strip("[]"), int(port)), paths)


async def _hold(keeper: IdentityKeeper, folder: Path, bootstrap: dict[str, Any], *, keep: bool) -> None:
    await keeper.start()
    path = folder / "bootstrap.json"
    write_private(path, json.dumps(bootstrap, indent=2).encode())
    print(path, flush=True)
    if keep:
        await keeper.run()
