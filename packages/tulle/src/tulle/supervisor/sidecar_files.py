"""Writes what a sidecar starts with: who it is, where it joins, and where it asks for its one-time token."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tulle.model.meta import labels
from tulle.supervisor.site import Site
from tulle.xds.bootstrap import SERVER_NAME, NodeIdentity, ServerAddress


def node_of(site: Site) -> NodeIdentity:
    """The workload as its proxy's node."""
    view = site.view
    return NodeIdentity(view.name, view.namespace, view.address, view.service_account, labels(view.labels))


def xds_address(site: Site) -> ServerAddress:
    """Where the control plane serves xDS."""
    host, _, port = site.mesh.xds.rpartition(":")
    return ServerAddress(host.strip("[]"), int(port))


def write_bootstrap(site: Site, bootstrap: dict[str, Any]) -> Path:
    """Writes a bootstrap into the workload's folder."""
    return write_private(site.folder / "bootstrap.json", json.dumps(bootstrap, indent=1))


def keys_folder(site: Site, name: str) -> Path:
    """Where a sidecar keeps its identity, and tulle-proxy its last configuration; made with mode 0700. Each kind of
    sidecar has a name of its own: neither reads what the other wrote, and a mesh may change its data plane.
    """
    keys = site.folder / name
    keys.mkdir(mode=0o700, exist_ok=True)
    return keys


def workload(site: Site) -> str:
    """The workload as whoever asks for a join token names it."""
    return f"{site.view.namespace}/{site.view.name}"


def write_identity(site: Site) -> Path:
    """Writes tulle-proxy's `identity.yaml` (as JSON, which is YAML)."""
    identity = {
        "ca_address": site.mesh.join,
        "renew_address": site.mesh.xds,
        "trust_anchor_file": str(site.mesh.trust_anchor),
        "attest_socket": str(site.mesh.tokens),
        "workload": workload(site),
        "server_name": SERVER_NAME,
        "trust_domain": site.mesh.trust_domain,
        "key_algorithm": "ec-p256",
        "state_dir": str(keys_folder(site, "identity")),
    }
    return write_private(site.folder / "identity.yaml", json.dumps(identity, indent=1))


def write_private(path: Path, text: str) -> Path:
    """Replaces a file in one step; its mode is 0600."""
    draft = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
    return path
