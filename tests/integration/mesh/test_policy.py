"""Policy in a running mesh: a denial that every proxy has acknowledged holds for every later request."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field

from mesh_load import Connection
from mesh_runner import Mesh

AUTHORITY = "backend:9001"
ROUNDS = 4
CALLERS = 3

DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  action: DENY
  rules: [{}]
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


@dataclass(frozen=True, slots=True)
class Request:
    """When it began and ended, by the clock that all callers share, and what became of it."""

    began: float
    ended: float
    status: int


@dataclass
class History:
    """What concurrent callers saw, each on a connection that stays open as long as the mesh lets it."""

    port: int
    requests: list[Request] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> History:
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self) -> None:
        connection = Connection(self.port, AUTHORITY)
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                status = connection.get()[0]
            except OSError:
                status, connection = 0, Connection(self.port, AUTHORITY)
            self.requests.append(Request(began, time.monotonic(), status))

    def saw(self, status: int, since: float) -> bool:
        """Whether a request that began after `since` has been answered so."""
        return any(each.status == status and each.began > since for each in list(self.requests))


def test_no_request_is_allowed_after_every_proxy_has_acknowledged_a_denial(mesh: Mesh) -> None:
    denied: list[tuple[float, float]] = []
    with History(int(mesh.workload("client")["outbound"])) as history:
        for _ in range(ROUNDS):
            began = time.monotonic()
            mesh.until(lambda since=began: history.saw(200, since), "requests are allowed")
            mesh.apply(DENY, "--wait", "30")
            acknowledged = time.monotonic()
            mesh.until(lambda since=acknowledged: history.saw(403, since), "requests are denied")
            denied.append((acknowledged, time.monotonic()))
            assert mesh.tulle("delete", "authorizationpolicy", "deny").returncode == 0
    for acknowledged, removed in denied:
        during = [each for each in history.requests if acknowledged < each.began and each.ended < removed]
        assert during
        assert {each.status for each in during} == {403}, json.dumps([str(each) for each in during][:20])


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
