"""Answers about access name the policy, the rule and its line."""

from __future__ import annotations

import pytest

from tulle.api import wire
from tulle.api.backend import Refused
from tulle.controlplane.access import check
from tulle.controlplane.offline import compile_texts

MESH = """\
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: shop, labels: {app: shop}}
spec: {serviceAccount: shop, ports: [{name: http, port: 8080}, {name: tcp-db, port: 5000}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: viewers}
spec:
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, annotations: {istio.io/dry-run: "true"}}
spec:
  action: DENY
  rules: [{to: [{operation: {paths: [/old/*]}}]}]
"""
STRICT = """\
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all}
spec: {mtls: {mode: STRICT}}
"""


def _ask(more: str = "", name: str = "shop", **question: object) -> list[wire.AccessVerdict]:
    checked, compiled = compile_texts([("mesh.yaml", MESH + more)])
    assert checked.errors == 0, checked.findings
    asked = wire.AccessQuestion(namespace="default", name=name, **question)  # type: ignore[arg-type]
    return check(compiled, asked).verdicts


def test_the_rule_that_allows_is_named_with_its_line() -> None:
    (verdict,) = _ask(caller="default/web", port=8080, path="/old/1?x=1")
    assert verdict.allowed
    reason = verdict.decided_by[0]
    assert (reason.policy, reason.rule) == ("AuthorizationPolicy default/viewers", 0)
    assert (reason.source.file, reason.source.line) == ("mesh.yaml", 11)
    assert [each.policy for each in verdict.would_be_denied_by] == ["AuthorizationPolicy default/closed"]


def test_every_port_is_answered_and_tcp_is_never_allowed_by_rules_about_requests() -> None:
    http, tcp = sorted(_ask(caller="default/web"), key=lambda each: -each.port)
    assert (http.port, http.allowed) == (8080, True)
    assert (tcp.port, tcp.allowed, tcp.why) == (5000, False, "no ALLOW rule matches")
    assert [(each.rule, each.source.line) for each in tcp.decided_by] == [(None, 6)]


def test_plaintext_is_refused_by_default() -> None:
    assert [verdict.allowed for verdict in _ask(port=8080)] == [False]


def test_what_does_not_exist_is_said() -> None:
    with pytest.raises(Refused, match="its ports are 5000, 8080"):
        _ask(caller="default/web", port=1)
    with pytest.raises(Refused, match=r"no workload default/till .*in the namespace default are shop"):
        _ask(name="till")


def test_a_path_is_judged_as_it_is_forwarded() -> None:
    (verdict,) = _ask(caller="default/web", port=8080, path="/new/%2e%2E/old/./1?x=/../2")
    assert (verdict.path, [each.policy for each in verdict.would_be_denied_by]) == (
        "/old/1", ["AuthorizationPolicy default/closed"],
    )
    with pytest.raises(Refused, match="begins with a slash"):
        _ask(caller="default/web", path="old")


@pytest.mark.parametrize("caller", ["a/b/c", "default/", "", "spiffe://x/y", "default/we b"])
def test_a_caller_that_cannot_be_is_refused(caller: str) -> None:
    with pytest.raises(Refused, match="neither NAMESPACE/ACCOUNT"):
        _ask(caller=caller)


def test_members_of_other_meshes_are_named_whole() -> None:
    (verdict,) = _ask(caller="spiffe://other.example/ns/default/sa/web", port=8080)
    assert (verdict.allowed, verdict.principal) == (False, "other.example/ns/default/sa/web")


def test_plaintext_is_refused_where_it_is_said() -> None:
    (default,) = _ask(port=8080)
    assert default.why.endswith("STRICT is the default")
    (verdict,) = _ask(port=8080, more=STRICT)
    [reason] = verdict.decided_by
    assert (reason.policy, reason.action) == ("PeerAuthentication default/all", "strict")
    assert reason.source.line == MESH.count("\n") + 2
