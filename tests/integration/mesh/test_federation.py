"""Members of another mesh are known by their own mesh's roots alone, on both data planes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mesh_peers import Stranger
from mesh_runner import Mesh

from tulle.identity.bundle_document import write
from tulle.identity.ca import Authority
from tulle.identity.signer import new_root

OTHER = "other.example"


def other_authority(folder: Path, domain: str) -> Authority:
    return Authority.open(folder / f"authority-{domain}-{len(list(folder.iterdir()))}", domain, datetime.now(UTC))


def test_a_federated_members_certificate_counts_under_its_own_root_only(mesh: Mesh, tmp_path: Path) -> None:
    theirs = other_authority(tmp_path, OTHER)
    member, liar = Stranger.of(tmp_path, theirs, OTHER), Stranger.of(tmp_path, theirs, "cluster.local")
    third = Stranger.of(tmp_path, theirs, "third.example")
    port = mesh.workload("backend-v1")["inbound"]
    assert not member.is_served(port)
    bundle = tmp_path / "theirs.json"
    bundle.write_text(write(theirs.root_pem, 1))
    added = mesh.tulle("federation", "add", OTHER, "--bundle", str(bundle))
    assert added.returncode == 0, added.stderr
    mesh.until(lambda: member.is_served(port), "the member of the other mesh is served")
    assert not liar.is_served(port), "its root cannot speak for this mesh"
    assert not third.is_served(port), "nor for a third one"
    assert OTHER in mesh.tulle("federation", "list").stdout
    bundle.write_text(write(new_root(OTHER, datetime.now(UTC)).root_pem, 2))
    assert mesh.tulle("federation", "add", OTHER, "--bundle", str(bundle)).returncode == 0
    mesh.until(lambda: not member.is_served(port), "another bundle does not vouch for it")
    assert mesh.tulle("federation", "remove", OTHER).returncode == 0
    assert mesh.tulle("federation", "remove", OTHER).returncode == 1
