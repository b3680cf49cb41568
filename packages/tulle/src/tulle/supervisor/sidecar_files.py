"""Writes what a sidecar starts with: who it is, where it joins, and its one-time token."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.model.meta import labels
from tulle.supervisor.child import StartRefused
from tulle.supervisor.client import Unreachable
from tulle.supervisor.dataplane import NewToken
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


@dataclass(frozen=True, slots=True)
class Joining:
    """What a sidecar gets its certificates with."""

    token_file: Path
    keys: Path


async def prepare_joining(site: Site, new_token: NewToken) -> Joining:
    """Writes a fresh join token and makes the folder for the keys. Raises `StartRefused` when no token is given."""
    try:
        token = await new_token(site.view.namespace, site.view.name)
    except Unreachable as error:
        raise StartRefused(f"no join token: {error}") from error
    keys = site.folder / "identity"
    keys.mkdir(mode=0o700, exist_ok=True)
    return Joining(write_private(site.folder / "join-token", token), keys)


def write_identity(site: Site, joining: Joining) -> Path:
    """Writes tulle-proxy's `identity.yaml` (as JSON, which is YAML)."""
    identity = {
        "ca_address": site.mesh.join,
        "renew_address": site.mesh.xds,
        "trust_anchor_file": str(site.mesh.trust_anchor),
        "join_token_file": str(joining.token_file),
        "server_name": SERVER_NAME,
        "trust_domain": site.mesh.trust_domain,
        "key_algorithm": "ec-p256",
        "state_dir": str(joining.keys),
    }
    return write_private(site.folder / "identity.yaml", json.dumps(identity, indent=1))


def write_private(path: Path, text: str) -> Path:
    """Replaces a file in one step; its mode is 0600."""
    draft = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
    return path
