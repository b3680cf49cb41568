"""Policy in a running mesh: a denial that every proxy has acknowledged holds for whatever comes later, on connections
that were there before too.
"""

from __future__ import annotations

import json
import sys
import time

import pytest
from mesh_history import ALLOWED, UNSERVED, Call, History, Line, connections, requests
from mesh_load import Connection
from mesh_runner import BACKEND, TCP_ECHO, Mesh

AUTHORITY = "backend:9001"
FORGED = {"authorization": "Bearer e30.e30.e30"}
ROUNDS = 4
CONNECTION_ROUNDS = 2
"""Fewer: Envoy drains in each."""

PROGRAMS = {"upper.py": TCP_ECHO}
CONFIG = BACKEND.replace(
    "spec: {serviceAccount: client}",
    "spec: {serviceAccount: client, upstreams: [{service: upper, port: 7000, localPort: 0}]}",
) + f"""
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: upper, labels: {{app: upper}}}}
spec:
  serviceAccount: upper
  ports: [{{name: tcp, port: 0}}]
  command: [{sys.executable}, upper.py, $(PORT_TCP)]
---
apiVersion: v1
kind: Service
metadata: {{name: upper}}
spec:
  selector: {{app: upper}}
  ports: [{{name: tcp, port: 7000, targetPort: tcp}}]
---
# an authorizer that is declared, and not there: what it is asked about is refused
apiVersion: v1
kind: Service
metadata: {{name: nobody}}
spec: {{selector: {{app: nobody}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    extensionProviders:
    - name: nobody
      envoyExtAuthzHttp: {{service: nobody.default.svc.cluster.local, port: 80, timeout: 1s}}
"""

TRIED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default, annotations: {{istio.io/dry-run: "true"}}}}
spec:
  selector: {{matchLabels: {{app: backend}}}}
  action: {action}
  rules: [{{to: [{{operation: {{paths: [{path}]}}}}]}}]
"""


def policy(app: str, action: str, provider: str = "") -> str:
    """An AuthorizationPolicy that denies whatever is asked of an application."""
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: deny, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  action: {action}
  {provider}
  rules: [{{}}]
"""


RULES = policy("backend", "DENY")
AUTHORIZER = policy("backend", "CUSTOM", "provider: {name: nobody}")
CONNECTIONS = policy("upper", "DENY")
KEY = """{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one", "x": "EKrgmpCim1TN_wJOz46mREesoLaFI2Ur341TSiRs0F4",
  "y": "uCxVm7i8aQMVSx-2dSF5irqR2kC8jtNaRfw8f1uTULk"}"""
"""A public key, whose private half was thrown away."""
TOKENS = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: deny, namespace: default}}
spec:
  selector: {{matchLabels: {{app: backend}}}}
  jwtRules: [{{issuer: https://somebody.example, jwks: '{{"keys": [{KEY}]}}'}}]
"""


def remove(mesh: Mesh, kind: str = "authorizationpolicy", name: str = "deny") -> None:
    assert mesh.tulle("delete", kind, name).returncode == 0


def all_of(calls: list[Call], status: int) -> None:
    """Fails unless there were calls and all of them ended so."""
    assert calls
    assert [str(each) for each in calls if each.status != status][:20] == []


@pytest.mark.parametrize(
    ("denial", "status"), [(RULES, 403), (TOKENS, 401), (AUTHORIZER, 403)], ids=["rules", "tokens", "authorizer"]
)
def test_no_request_is_allowed_after_every_proxy_has_acknowledged_a_denial(
    mesh: Mesh, denial: str, status: int
) -> None:
    denied: list[tuple[float, float]] = []
    outbound = int(mesh.workload("client")["outbound"])
    with History(requests(outbound, AUTHORITY, FORGED)) as history:
        for _ in range(ROUNDS):
            began = time.monotonic()
            mesh.until(lambda since=began: history.saw(ALLOWED, since), "requests are allowed")
            mesh.apply(denial, "--wait", "30")
            acknowledged = time.monotonic()
            mesh.until(lambda since=acknowledged: history.saw(status, since), "requests are denied")
            denied.append((acknowledged, time.monotonic()))
            remove(mesh, "requestauthentication" if denial is TOKENS else "authorizationpolicy")
    for acknowledged, removed in denied:
        all_of(history.within(acknowledged, removed), status)
    # nor does a change of policy cost a request
    assert {each.status for each in history.calls} == {ALLOWED, status}


def test_no_request_slips_through_between_one_denial_and_another(mesh: Mesh) -> None:
    """What an authorizer denied before is denied by a rule after one change, and the other way round."""
    outbound = int(mesh.workload("client")["outbound"])
    with History(requests(outbound, AUTHORITY)) as history:
        mesh.apply(RULES, "--wait", "30")
        acknowledged = time.monotonic()
        for _ in range(ROUNDS):
            for denial in (AUTHORIZER, RULES):
                mesh.apply(denial, "--wait", "30")
        removed = time.monotonic()
    remove(mesh)
    all_of(history.within(acknowledged, removed), 403)


def test_no_connection_is_served_after_every_proxy_has_acknowledged_a_denial(mesh: Mesh) -> None:
    """Neither a new one, nor one that was there and silent, nor one that was served before."""
    denied: list[tuple[float, float]] = []
    local = mesh.placed("client")["upstreams"][0]["local_port"]
    with History(connections(local)) as history:
        for _ in range(CONNECTION_ROUNDS):
            began = time.monotonic()
            mesh.until(lambda since=began: history.saw(ALLOWED, since), "connections are served")
            silent, served = Line(local), Line(local)
            assert served.is_served()
            mesh.apply(CONNECTIONS, "--wait", "30")
            acknowledged = time.monotonic()
            assert not served.is_served()
            assert not silent.is_served()
            mesh.until(lambda since=acknowledged: history.saw(UNSERVED, since), "connections are denied")
            denied.append((acknowledged, time.monotonic()))
            remove(mesh)
            silent.close()
            served.close()
    for acknowledged, removed in denied:
        all_of(history.within(acknowledged, removed), UNSERVED)


def test_what_is_tried_out_denies_nobody_and_is_summed_up_by_policy(mesh: Mesh) -> None:
    tried = [("one", "DENY", "/one"), ("two", "DENY", "/two"), ("read", "ALLOW", "/read")]
    policies = [TRIED.format(name=name, action=action, path=path) for name, action, path in tried]
    assert mesh.tulle("authz", "dry-run").stdout.strip() == "no policy is tried out"
    mesh.apply("---".join(policies), "--wait", "30")
    connection = Connection(int(mesh.workload("client")["outbound"]), AUTHORITY)
    for path, times in (("/one", 3), ("/two", 1), ("/read", 2)):
        assert [connection.get(path)[0] for _ in range(times)] == [200] * times
    told = json.loads(mesh.tulle("authz", "dry-run", "-o", "json").stdout)
    assert told["silent"] == []
    summed: dict[str, tuple[float, float]] = {}
    for each in told["outcomes"]:
        [policy] = each["policies"]
        denied, calls = summed.get(policy["policy"], (0.0, 0.0))
        summed[policy["policy"]] = (denied + each["denied"], calls + each["calls"])
        assert policy["source"]["line"] > 0
    assert summed == {
        "AuthorizationPolicy default/one": (3, 6),
        "AuthorizationPolicy default/two": (1, 6),
        "AuthorizationPolicy default/read": (4, 6),
    }
    assert "DENY AuthorizationPolicy default/one (" in mesh.tulle("authz", "dry-run").stdout
    for name, _, _ in tried:
        remove(mesh, name=name)
