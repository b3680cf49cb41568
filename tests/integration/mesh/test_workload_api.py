"""The SPIFFE Workload API in `tulle up`: an application gets its own identity by SPIFFE's Python client."""

from __future__ import annotations

import json
import sys

from cryptography import x509
from mesh_runner import StartMesh

ASKING = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: asker, namespace: default}}
spec: {{serviceAccount: asker, command: [{python}, ask.py, asker.json], {wish}}}
"""

PROGRAM = """
import json, os, pathlib, sys, threading
endpoint = os.environ.get("SPIFFE_ENDPOINT_SOCKET")
told = {"endpoint": endpoint}
if endpoint:
    from cryptography.hazmat.primitives.serialization import Encoding
    from spiffe import WorkloadApiClient
    with WorkloadApiClient() as client:
        svid = client.fetch_x509_svid()
        bundles = client.fetch_x509_bundles()
        told["id"] = str(svid.spiffe_id)
        told["leaf"] = svid.leaf.public_bytes(Encoding.PEM).decode()
        [bundle] = [each for each in bundles.bundles if each.trust_domain == svid.spiffe_id.trust_domain]
        told["roots"] = [each.public_bytes(Encoding.PEM).decode() for each in bundle.x509_authorities]
draft = pathlib.Path(sys.argv[1] + ".new")
draft.write_text(json.dumps(told))
draft.rename(sys.argv[1])
threading.Event().wait()
"""


def asked(start_mesh: StartMesh, wish: str) -> dict[str, object]:
    """What the program found out, in a mesh whose workload says `wish`."""
    config = ASKING.format(python=sys.executable, wish=wish)
    mesh = start_mesh(config, {"ask.py": PROGRAM})
    said = mesh.folder / "config" / "asker.json"
    mesh.until(said.exists, "the application has asked")
    found: dict[str, object] = json.loads(said.read_text())
    return found


def test_an_application_gets_its_own_identity(start_mesh: StartMesh) -> None:
    told = asked(start_mesh, "workloadApi: true")
    assert told["id"] == "spiffe://cluster.local/ns/default/sa/asker"
    leaf = x509.load_pem_x509_certificate(str(told["leaf"]).encode())
    [root] = [x509.load_pem_x509_certificate(str(each).encode()) for each in list(told["roots"])]  # type: ignore[call-overload]
    leaf.verify_directly_issued_by(root)


def test_who_does_not_ask_gets_none(start_mesh: StartMesh) -> None:
    assert asked(start_mesh, "workloadApi: false") == {"endpoint": None}
