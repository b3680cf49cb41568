"""What the mesh's settings change: who may call what, and which addresses are nobody's endpoints."""

from __future__ import annotations

import pytest

from tulle.dialects import lower_all
from tulle.link import link
from tulle.model.access import Attribute
from tulle.model.egress import forbidden
from tulle.model.mesh import Mesh
from tulle.model.settings import MeshSettings, OutboundPolicy
from tulle.model.workloads import Placement, WorkloadRef
from tulle.sources.yaml_reader import read_yaml
from tulle.xds.scope import Outbound, scope


def _mesh(text: str, settings: MeshSettings | None = None) -> Mesh:
    objects, findings = read_yaml(text, "in.yaml")
    assert findings == ()
    ref = WorkloadRef("shop", "web")
    return link(lower_all(objects).fragments, [Placement(ref, 1, 2)], settings).mesh


SERVICES = """\
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: money}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: money}
spec: {hosts: ["*.example.com"], ports: [{number: 80, name: http}]}
"""

SIDECAR = """\
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: %s, namespace: %s}
spec: %s
"""


def _outbound(*sidecars: tuple[str, str, str]) -> Outbound:
    text = SERVICES + "".join(SIDECAR % sidecar for sidecar in sidecars)
    return scope(_mesh(text), WorkloadRef("shop", "web")).outbound


def _names(outbound: Outbound) -> set[str]:
    return {host.partition(".")[0] for host in outbound.services}


def test_without_sidecars_everything_is_reachable() -> None:
    assert _names(_outbound()) == {"cart", "bank", "*"}


def test_a_sidecar_limits_what_is_reachable() -> None:
    assert _names(_outbound(("a", "shop", "{egress: [{hosts: [./*]}]}"))) == {"cart"}
    assert _names(_outbound(("a", "shop", "{egress: [{hosts: ['money/*.example.com', ~/*]}]}"))) == {"*"}
    assert _names(_outbound(("a", "istio-system", "{egress: [{hosts: ['*/bank.money.svc.cluster.local']}]}"))) == {
        "bank"
    }


def test_the_more_specific_sidecar_counts() -> None:
    mesh_wide = ("a", "istio-system", "{egress: [{hosts: [~/*]}]}")
    of_namespace = ("b", "shop", "{egress: [{hosts: [./*]}]}")
    selecting = ("c", "shop", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: [money/*]}]}")
    other = ("d", "shop", "{workloadSelector: {labels: {app: other}}, egress: [{hosts: ['*/*']}]}")
    assert _names(_outbound(mesh_wide)) == set()
    assert _names(_outbound(mesh_wide, of_namespace, other)) == {"cart"}
    assert _names(_outbound(mesh_wide, of_namespace, selecting)) == {"bank", "*"}


def test_a_sidecar_says_what_becomes_of_unknown_hosts() -> None:
    assert _outbound().settings.outbound is OutboundPolicy.REGISTRY_ONLY
    chosen = _outbound(("a", "shop", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}"))
    assert chosen.settings.outbound is OutboundPolicy.ALLOW_ANY
    assert chosen.anywhere


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "169.254.1.1", "::1", "::", "fe80::1", "[::1]",
        "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "localhost", "LOCALHOST.", "a.localhost",
        "metadata.google.internal", "100.100.100.200", "168.63.129.16", "fe80::1%eth0",
    ],
)  # fmt: skip
def test_forbidden_addresses(address: str) -> None:
    assert forbidden(address)


def test_other_addresses_and_grants() -> None:
    assert not any(map(forbidden, ("10.0.0.1", "192.168.0.1", "2001:db8::1", "example.com", "unix:///x")))
    assert not forbidden("127.0.0.1", ["127.0.0.0/8"])
    assert not forbidden("::ffff:127.0.0.1", ["127.0.0.1/32"])
    assert not forbidden("localhost", ["127.0.0.1/32"])
    assert forbidden("::1", ["127.0.0.0/8"])


ENTRY = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: sly}
spec:
  hosts: [api.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http}]
  endpoints: [{address: 169.254.169.254}, {address: 10.0.0.1}]
---
apiVersion: v1
kind: Service
metadata: {name: also}
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: also}
subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{name: http, port: 15000}]}]
---
apiVersion: v1
kind: Service
metadata: {name: name}
spec: {type: ExternalName, externalName: localhost, ports: [{port: 80, name: http}]}
"""


def test_forbidden_endpoints_are_left_out_unless_allowed() -> None:
    mesh = _mesh(ENTRY)
    found = {host: [each.address for each in mesh.endpoints[host].of(80)] for host in mesh.endpoints}
    assert found == {
        "api.example.com": ["10.0.0.1"],
        "also.default.svc.cluster.local": [],
        "name.default.svc.cluster.local": [],
    }
    allowed = _mesh(ENTRY, MeshSettings(allowed_addresses=("127.0.0.0/8",)))
    assert len(allowed.endpoints["also.default.svc.cluster.local"].of(80)) == 1
    assert len(allowed.endpoints["api.example.com"].of(80)) == 1


def test_principals_are_meant_in_every_trust_domain_of_the_mesh() -> None:
    policy = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n"
        "spec: {rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b, '*/sa/c', far/ns/a/sa/d]}}]}]}\n---\n"
        "apiVersion: tulle.dev/v1alpha1\nkind: Workload\nmetadata: {name: web, namespace: shop}\nspec: {}\n"
    )
    objects, _ = read_yaml(policy, "in.yaml")
    settings = MeshSettings(trust_domain="new", trust_domain_aliases=("old",))
    linked = link(lower_all(objects).fragments, (), settings)
    [kept] = linked.declared.security.access["shop"]
    [clause] = kept.rules[0].callers or ()
    [condition] = clause.conditions
    assert condition.attribute is Attribute.PRINCIPAL
    assert [each.value for each in condition.values] == ["new/ns/a/sa/b", "old/ns/a/sa/b", "/sa/c", "far/ns/a/sa/d"]
