"""What a revocation changes of the listeners of a data plane that drains: those that lead to the revoked, no others."""

from __future__ import annotations

from dataclasses import replace

from mesh_builders import BACKEND, CLIENT, ON_THIS_MACHINE, at, canary, opened, placements, service, workload

from tulle.link import link
from tulle.model.mesh import Mesh
from tulle.model.settings import MeshSettings
from tulle.model.workloads import Upstream, WorkloadRef
from tulle.protos import to_dict
from tulle.xds.client import ClientKind
from tulle.xds.emit import Emitter
from tulle.xds.revocations import NOBODY, Revocations
from tulle.xds.scope import scope
from tulle.xds.snapshot import LISTENER, Snapshot

V1 = WorkloadRef("default", "backend-v1")
GONE = WorkloadRef("default", "gone")


def mesh(settings: MeshSettings = ON_THIS_MACHINE) -> Mesh:
    """The client calls `backend` by name and by a local port, and another service by another port."""
    calls = (Upstream(at(), "backend", 9001, 15500), Upstream(at(), "other", 9001, 15501))
    rest = [each for each in canary() if getattr(each, "meta", None) is None or each.meta.name != "client"]
    client = workload("client", "client", upstreams=calls)
    return link([*rest, client, service("other")], placements(), settings).mesh


def emitted(revoked: Revocations, client: ClientKind = ClientKind.ENVOY, within: Mesh | None = None) -> Snapshot:
    found = Emitter().emit(replace(scope(within or mesh(), CLIENT, client), revoked=revoked))
    found.check()
    return found


def changed(revoked: Revocations, client: ClientKind = ClientKind.ENVOY) -> set[str]:
    before, after = (emitted(each, client).resources[LISTENER] for each in (NOBODY, revoked))
    return {name for name in after if before[name].version != after[name].version}


def known(ref: WorkloadRef, until: float = 5.0) -> Revocations:
    return Revocations.known({ref: 5.0}, until, mesh().workloads)


def test_what_leads_to_a_revoked_server_changes() -> None:
    assert changed(known(V1)) == {"outbound", "upstream|15500", "inbound|9001"}


def test_of_who_serves_nothing_that_leads_there_stays() -> None:
    assert changed(known(CLIENT)) == {"inbound|9001"}


def test_a_workload_that_nobody_knows_may_have_served_anything() -> None:
    assert changed(known(GONE)) == {"outbound", "upstream|15500", "upstream|15501", "inbound|9001"}


def test_nothing_changes_before_the_proxy_has_the_list() -> None:
    assert known(V1, until=4.0).among([BACKEND]) == 0.0
    assert changed(known(V1, until=0.0)) == set()


def test_a_data_plane_that_cuts_the_revoked_by_itself_is_told_nothing() -> None:
    refused = replace(known(V1), refused=(V1,))
    assert changed(refused, ClientKind.SIDECAR) == set()


def test_where_other_meshes_are_known_the_revoked_are_refused_by_their_certificates() -> None:
    refused = replace(known(GONE), refused=(GONE,))
    assert "backend-v1" not in str(opened(emitted(refused).resources[LISTENER]["inbound|9001"]))
    federated = mesh(replace(ON_THIS_MACHINE, federated_domains=("other.example",)))
    listener = to_dict(opened(emitted(refused, within=federated).resources[LISTENER]["inbound|9001"]))
    for chain in listener["filter_chains"]:
        rules = chain["filters"][0]["typed_config"]["rules"]
        assert rules["action"] == "DENY"
        (rule,) = rules["policies"].values()
        assert rule["principals"] == [
            {"authenticated": {"principal_name": {"prefix": "spiffe://cluster.local/ns/default/sa/"}}}
        ]
        assert "CN=gone" in str(rule["condition"])
