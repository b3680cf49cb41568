"""One intent in several dialects links to the same guard; precedence and exceptions hold as each dialect says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.dialects import lower_all
from tulle.link import link
from tulle.model.access import AccessAction, Clause, Guard
from tulle.model.diagnostics import Severity
from tulle.model.workloads import InboundPort, Placement, WorkloadRef
from tulle.policy.decide import decide
from tulle.policy.request import Call, HttpRequest
from tulle.sources.yaml_reader import read_yaml

WORKLOAD = """\
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: api, labels: {app: api}}
spec: {serviceAccount: api, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: http}]}
"""

PORT = 8080


def guard(*documents: str) -> Guard:
    """What guards the port under these policies."""
    objects, findings = read_yaml("\n---\n".join((WORKLOAD, *documents)), "in.yaml")
    assert findings == ()
    lowered = lower_all(objects)
    placed = Placement(WorkloadRef("default", "api"), 1, 2, (InboundPort(PORT, 3, "http"),))
    linked = link(lowered.fragments, [placed])
    errors = [
        str(each) for each in (*lowered.diagnostics, *linked.diagnostics) if each.severity is Severity.ERROR
    ]
    assert errors == []
    [inbound] = linked.mesh.workloads[WorkloadRef("default", "api")].inbound
    return inbound.guard


def meaning(found: Guard) -> Any:
    """The guard without names and places: which rules of which action, in the model's terms."""
    rules: dict[AccessAction, set[Any]] = {}
    for policy in found.access:
        into = rules.setdefault(policy.action, set())
        for rule in policy.rules:
            callers = None if rule.callers is None else frozenset(map(_clause, rule.callers))
            operations = frozenset(map(_clause, rule.operations or (Clause(),)))
            into.add((callers, operations, _clause(rule.when)))
    return found.mode, rules


def _clause(clause: Clause) -> Any:
    return frozenset(
        (each.attribute, frozenset(each.values), each.negated, each.key) for each in clause.conditions
    )


ISTIO = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a}
spec:
  targetRefs: [{kind: Service, name: api}]
  rules: [{from: [{source: {serviceAccounts: [WHO]}}], OPERATION}]
"""
CONSUL = """\
apiVersion: consul.hashicorp.com/v1alpha1
kind: ServiceIntentions
metadata: {name: a}
spec: {destination: {name: api}, sources: [{name: WHO, OPERATION}]}
"""
CONSUL_ENTRY = """\
Kind: service-intentions
Name: api
Sources: [{Name: WHO, OPERATION}]
"""
LINKERD = """\
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: api}
spec: {podSelector: {matchLabels: {app: api}}, port: http}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: a}
spec: {server: {name: api}, client: {meshTLS: {serviceAccounts: [{name: WHO}]}}}
"""
LINKERD_POLICY = (
    LINKERD.partition("---")[0]
    + """\
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: a}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: api}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: WHO}]
"""
)
SMI = """\
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: a}
spec: {destination: {kind: ServiceAccount, name: api}, sources: [{kind: ServiceAccount, name: WHO}]}
"""


@pytest.mark.parametrize("who", ["web", "a-b"])
def test_who_may_call_is_the_same_in_every_dialect(who: str) -> None:
    written = (
        ISTIO.replace(", OPERATION", ""),
        CONSUL.replace("OPERATION", "action: allow"),
        CONSUL_ENTRY.replace("OPERATION", "Action: allow"),
        LINKERD,
        LINKERD_POLICY,
        SMI,
    )
    meanings = [meaning(guard(each.replace("WHO", who))) for each in written]
    assert all(each == meanings[0] for each in meanings)
    assert meanings[0][1].keys() == {AccessAction.ALLOW}


def test_what_may_be_called_is_the_same_in_every_dialect_that_can_say_it() -> None:
    istio = ISTIO.replace("OPERATION", "to: [{operation: {methods: [GET], paths: [/a]}}]")
    permissions = "permissions: [{action: allow, http: {pathExact: /a, methods: [GET]}}]"
    linkerd = (
        LINKERD.partition("---")[0]
        + """\
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: api}]
  rules: [{matches: [{path: {type: Exact, value: /a}, method: GET}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: a}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: r}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: WHO}]
"""
    )
    found = [
        meaning(guard(each.replace("WHO", "web")))
        for each in (istio, CONSUL.replace("OPERATION", permissions), linkerd)
    ]
    assert found[0] == found[1] == found[2]


# -- Consul's precedence, against a reading of its documentation

NAMES = ("web", "mobile", "*")
_HTTP = st.fixed_dictionaries(
    {},
    optional={
        "pathPrefix": st.sampled_from(["/a", "/a/b", "/c"]),
        "methods": st.sampled_from([["GET"], ["GET", "PUT"]]),
        "header": st.sampled_from(
            [[{"name": "x", "exact": "1"}], [{"name": "x", "present": True, "invert": True}]]
        ),
    },
).filter(bool)
_PERMISSION = st.fixed_dictionaries({"action": st.sampled_from(["allow", "deny"]), "http": _HTTP})
_WHAT = st.one_of(
    st.sampled_from(["allow", "deny"]).map(lambda action: {"action": action}),
    st.lists(_PERMISSION, min_size=1, max_size=3).map(lambda each: {"permissions": each}),
)
_SOURCES = st.dictionaries(st.sampled_from(NAMES), _WHAT, min_size=1, max_size=3)
_REQUEST = st.tuples(
    st.sampled_from(["GET", "PUT", "POST"]),
    st.sampled_from(["/a", "/a/b/c", "/c", "/"]),
    st.sampled_from([{}, {"x": "1"}, {"x": "2"}]),
)
Sources = Mapping[str, Mapping[str, Any]]


def _entry(name: str, sources: Sources) -> str:
    listed = [{"name": source, **what} for source, what in sources.items()]
    return yaml.safe_dump(
        {
            "apiVersion": "consul.hashicorp.com/v1alpha1",
            "kind": "ServiceIntentions",
            "metadata": {"name": "every" if name == "*" else name},
            "spec": {"destination": {"name": name}, "sources": listed},
        }
    )


def _expected(exact: Sources, wide: Sources, caller: str, request: HttpRequest, default: str) -> bool:
    """Consul's words: the intention of highest precedence decides alone; of its permissions the first that matches."""
    for sources in (exact, wide):
        what = sources.get(caller) or sources.get("*")
        if what is not None:
            break
    else:
        return default == "allow"
    if "action" in what:
        return bool(what["action"] == "allow")
    for permission in what["permissions"]:
        if _matches(permission["http"], request):
            return bool(permission["action"] == "allow")
    return default == "allow"


def _matches(http: Mapping[str, Any], request: HttpRequest) -> bool:
    if not request.path.startswith(http.get("pathPrefix", "")):
        return False
    if "methods" in http and request.method not in http["methods"]:
        return False
    for header in http.get("header", ()):
        value = request.headers.get(header["name"])
        held = value == header["exact"] if "exact" in header else value is not None
        if held is header.get("invert", False):
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(
    _SOURCES,
    st.one_of(st.just({}), _SOURCES),
    st.sampled_from(["allow", "deny"]),
    st.lists(_REQUEST, min_size=4, max_size=8),
)
def test_intentions_decide_as_consul_documents(
    exact: Sources, wide: Sources, default: str, requests: Iterable[tuple[str, str, Mapping[str, str]]]
) -> None:
    setting = (
        "apiVersion: tulle.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: mesh}\n"
        f"spec: {{defaultIntention: {default.capitalize()}}}\n"
    )
    documents = [_entry("api", exact), setting] + ([_entry("*", wide)] if wide else [])
    found = guard(*documents)
    for method, path, headers in requests:
        request = HttpRequest(method, path, "api", headers)
        for caller in ("web", "mobile", "other"):
            call = Call(PORT, f"cluster.local/ns/default/sa/{caller}", request)
            expected = _expected(exact, wide, caller, request, default)
            assert decide(found, call).allowed is expected, (caller, request)


# -- more DENY never allows, whatever the dialect of the rest

_DENIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "from": st.sampled_from(
                [[{"source": {"serviceAccounts": ["web"]}}], [{"source": {"notPrincipals": ["*"]}}]]
            ),
            "to": st.sampled_from(
                [[{"operation": {"paths": ["/a*"]}}], [{"operation": {"notMethods": ["GET"]}}]]
            ),
        },
    ),
    min_size=1,
    max_size=2,
)
_REST = st.sampled_from(
    [
        (ISTIO.replace(", OPERATION", "").replace("WHO", "web"),),
        (
            CONSUL.replace(
                "OPERATION",
                "permissions: [{action: deny, http: {pathPrefix: /a}}, {action: allow, http: {methods: [GET]}}]",
            ).replace("WHO", "'*'"),
        ),
        (LINKERD.replace("WHO", "web"),),
        (SMI.replace("WHO", "web"),),
        (),
    ]
)


@settings(max_examples=100, deadline=None)
@given(_REST, _DENIES, st.lists(_REQUEST, min_size=3, max_size=6))
def test_a_further_denial_never_allows(
    rest: tuple[str, ...], rules: list[Any], requests: list[tuple[str, str, Mapping[str, str]]]
) -> None:
    deny = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny"},
        "spec": {"action": "DENY", "rules": rules},
    }
    before, after = guard(*rest), guard(*rest, yaml.safe_dump(deny))
    for method, path, headers in requests:
        for caller in ("web", "other"):
            call = Call(
                PORT, f"cluster.local/ns/default/sa/{caller}", HttpRequest(method, path, "api", headers)
            )
            assert decide(before, call).allowed or not decide(after, call).allowed
