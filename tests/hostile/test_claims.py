"""One namespace claims another's host (row 60): refused, or of no effect on anybody else, unless it is granted."""

from __future__ import annotations

import pytest

from tulle.controlplane.compile import Placed, replace_placements
from tulle.controlplane.offline import compile_texts
from tulle.model.workloads import Placement, WorkloadRef
from tulle.xds.scope import scope

BASE = """
apiVersion: v1
kind: Service
metadata: {name: till, namespace: bank}
spec: {selector: {app: till}, ports: [{name: http, port: 80}]}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: till, namespace: bank, labels: {app: till}}
spec: {serviceAccount: till, ports: [{name: http, port: 8080}]}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: thief, namespace: den}
spec: {serviceAccount: thief}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: clerk, namespace: town}
spec: {serviceAccount: clerk}
---
apiVersion: v1
kind: Service
metadata: {name: fake, namespace: den}
spec: {selector: {app: fake}, ports: [{name: http, port: 80}]}
"""
TILL = "till.bank.svc.cluster.local"


def route(namespace: str, host: str = TILL, more: str = "") -> str:
    return f"""---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: detour, namespace: {namespace}}}
spec:
  hosts: ["{host}"]
  {more}
  http: [{{route: [{{destination: {{host: fake.den.svc.cluster.local}}}}]}}]
"""


TILL_ITSELF = "{group: '', kind: Service, name: till}"


def grant(to: str = TILL_ITSELF, namespace: str = "bank", kind: str = "VirtualService") -> str:
    return f"""---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: allow, namespace: {namespace}}}
spec:
  from: [{{group: networking.istio.io, kind: {kind}, namespace: den}}]
  to: [{to}]
"""


def outcome(text: str) -> tuple[set[str], dict[str, bool]]:
    """The codes found, and for each caller's namespace whether its calls to the till are led astray."""
    checked, compiled = compile_texts([("mesh.yaml", BASE + text)])
    callers = {"den": "thief", "town": "clerk", "bank": "till"}
    refs = {namespace: WorkloadRef(namespace, name) for namespace, name in callers.items()}
    placed = [Placed(Placement(ref, 1, 2), ready=True) for ref in refs.values()]
    mesh = replace_placements(compiled, placed).linked.mesh
    astray = {name: bool(scope(mesh, ref).outbound.services[TILL].http) for name, ref in refs.items()}
    return {found.code for found in checked.findings}, astray


ONLY_DEN = {"den": True, "town": False, "bank": False}
ALL = {"den": True, "town": True, "bank": True}


@pytest.mark.parametrize("host", [TILL, "*.bank.svc.cluster.local", "*.svc.cluster.local"])
def test_routes_for_anothers_host_hold_for_ones_own_callers_only(host: str) -> None:
    codes, astray = outcome(route("den", host))
    assert "not-granted" in codes
    assert astray == ONLY_DEN


@pytest.mark.parametrize("more", ["exportTo: ['*']", "exportTo: [town, bank]"])
def test_an_export_is_no_grant(more: str) -> None:
    assert outcome(route("den", more=more))[1] == ONLY_DEN


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (grant(), ALL),
        (grant("{group: '', kind: Service}"), ALL),
        (grant("{group: '', kind: Service, name: other}"), ONLY_DEN),
        (grant("{group: '', kind: Secret}"), ONLY_DEN),
        (grant(kind="DestinationRule"), ONLY_DEN),
        (grant(namespace="den"), ONLY_DEN),
        (grant(namespace="town"), ONLY_DEN),
    ],
)
def test_only_the_owners_grant_for_this_very_thing_counts(given: str, expected: dict[str, bool]) -> None:
    codes, astray = outcome(route("den") + given)
    assert astray == expected
    assert ("not-granted" in codes) == (expected == ONLY_DEN)


def test_the_owner_and_the_root_namespace_need_no_grant() -> None:
    for namespace in ("bank", "istio-system"):
        codes, astray = outcome(route(namespace))
        assert "not-granted" not in codes
        assert astray == ALL


ENTRY = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: claim, namespace: {namespace}}}
spec:
  hosts: ["{host}"]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 192.0.2.1}}]
"""


@pytest.mark.parametrize("host", [TILL, "none.bank.svc.cluster.local", "TILL.bank.svc.cluster.local."])
def test_a_service_entry_cannot_take_anothers_name(host: str) -> None:
    codes, astray = outcome(ENTRY.format(namespace="den", host=host))
    assert "not-granted" in codes
    assert astray == dict.fromkeys(ALL, False)


def test_a_refused_claim_refuses_the_configuration_with_its_place() -> None:
    checked, _ = compile_texts([("mesh.yaml", BASE + ENTRY.format(namespace="den", host=TILL))])
    [found] = [each for each in checked.findings if each.code == "not-granted"]
    assert checked.errors == 1
    assert str(found.source).startswith("mesh.yaml:")
    assert "ReferenceGrant" in (found.hint or "")


def test_a_grant_without_effect_is_said() -> None:
    codes, _ = outcome(grant("{group: '', kind: Secret}"))
    assert "without-effect" in codes
