"""A proxy that holds its identity as in a mesh: tulle-proxy in its own state, Envoy in its configuration."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.identities import Identities
from harness.proxies import DataPlane
from tulle.model.settings import MeshSettings
from tulle.protos import message, to_dict
from tulle.xds.client import ClientKind
from tulle.xds.tls import mesh_client, mesh_server

NOWHERE = "127.0.0.1:1"
"""The control plane is away; what is on disk is good for long."""

Context = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """tulle-proxy with an identity on disk."""

    plane: DataPlane
    identity: Path
    name: str = "tulle"
    client: ClientKind = ClientKind.SIDECAR

    def available(self) -> bool:
        return self.plane.available()

    def command(self, bootstrap: Path) -> list[str]:
        return [*self.plane.command(bootstrap), "--identity", str(self.identity)]


def member(plane: DataPlane, mesh: Identities, account: str, folder: Path) -> DataPlane:
    """The data plane as a member of the mesh, where it holds its identity itself."""
    if plane.client is ClientKind.ENVOY:
        return plane
    own = mesh.identity("default", account)
    state = folder / "identity"
    state.mkdir(mode=0o700)
    kept = {
        "issued": {"chain": own.certificate, "roots": mesh.root},
        "revoked": "",
        "key": own.key,
        "obtained": int(time.time()),
    }
    file = state / "identity.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(kept))
    for name, text in {"root.pem": mesh.root, "token": "used"}.items():
        (folder / name).write_text(text)
    said = {
        "ca_address": NOWHERE,
        "renew_address": NOWHERE,
        "trust_anchor_file": str(folder / "root.pem"),
        "join_token_file": str(folder / "token"),
        "server_name": "tulle-control-plane",
        "trust_domain": "cluster.local",
        "key_algorithm": "ec-p256",
        "state_dir": str(state),
    }
    path = folder / "identity.yaml"
    path.write_text(json.dumps(said))
    return Member(plane, path)


def as_emitted(bootstrap: dict[str, Any]) -> None:
    """Gives inbound listeners back the names of the secrets that the arena put certificates in place of."""
    context = _context(mesh_server(MeshSettings(), ()))
    for listener in bootstrap["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            if "transport_socket" in chain:
                common = chain["transport_socket"]["typed_config"]["common_tls_context"]
                del common["tls_certificates"], common["validation_context"]
                common |= {key: context[key] for key in _SECRETS}


_SECRETS = ("tls_certificate_sds_secret_configs", "combined_validation_context")


def speak_mesh(
    cluster: dict[str, Any], account: str, port: int, inline: tuple[Identities, str] | None
) -> None:
    """Makes a cluster call `port` as sidecars call each other, expecting `account` (a SPIFFE id) there.

    `inline` puts certificates of that authority, for an account of namespace default, in place of secrets' names.
    """
    socket = _socket(mesh_client("backend", [account], ()))
    if inline is not None:
        mesh, name = inline
        context = socket["typed_config"]["common_tls_context"]
        del context["tls_certificate_sds_secret_configs"]
        own = mesh.identity("default", name)
        chain = {
            "certificate_chain": {"inline_string": own.certificate},
            "private_key": {"inline_string": own.key},
        }
        context["tls_certificates"] = [chain]
        peers = context.pop("combined_validation_context")["default_validation_context"]
        context["validation_context"] = {**peers, "trusted_ca": {"inline_string": mesh.root}}
    cluster["transport_socket"] = socket
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    ends = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    cluster["load_assignment"] = {"cluster_name": cluster["name"], "endpoints": ends}


def _socket(made: dict[str, Any]) -> dict[str, Any]:
    cluster = message("envoy.config.cluster.v3.Cluster")(transport_socket=made)
    found: dict[str, Any] = to_dict(cluster)["transport_socket"]
    return found


def _context(made: dict[str, Any]) -> Context:
    found: Context = _socket(made)["typed_config"]["common_tls_context"]
    return found
