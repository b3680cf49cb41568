"""Configurations accepted and refused as a whole, from files and from the store, across restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.api import wire
from tulle.controlplane.accepted import Accepted
from tulle.controlplane.compile import Compiled
from tulle.controlplane.configuration import Configuration, ConfigurationRefused
from tulle.controlplane.placements import Placements
from tulle.controlplane.snapshots import SnapshotBook, workload_of
from tulle.delivery.contract import Node, Peer
from tulle.model.workloads import WorkloadRef
from tulle.objects import RawObject
from tulle.sources.store import Store
from tulle.sources.yaml_reader import read_yaml

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: a-1, labels: {app: a}}
spec: {serviceAccount: a, ports: [{name: http, port: 8080}]}
"""

ROUTE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [a]
  http:
  - timeout: 1s
    route: [{destination: {host: a}}]
"""


class Plane:
    """A configuration on one state directory, which can be started again."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.file = tmp_path / "mesh.yaml"
        self.file.write_text(SERVICE + "---\n" + ROUTE)
        (tmp_path / "state").mkdir(mode=0o700)
        self.store: Store | None = None
        self.meanings: list[Compiled] = []

    def start(self) -> Configuration:
        self.stop()
        state = self.folder / "state"
        self.store = Store.open(state / "store.db")
        found = Configuration(
            [self.file], self.store, Accepted.load(state), Placements.load(self.store.ledger), self.meanings.append
        )
        found.start()
        return found

    def stop(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    made = Plane(tmp_path)
    yield made
    made.stop()


def parse(text: str, file: str = "applied.yaml") -> tuple[RawObject, ...]:
    objects, findings = read_yaml(text, file, 1)
    assert not findings
    return objects


def timeout(configuration: Configuration) -> str:
    key = ("networking.istio.io", "VirtualService", "default", "r")
    return str(configuration.current.compiled.objects[key].body["spec"]["http"][0]["timeout"])


def test_the_revision_grows_only_with_the_content(plane: Plane) -> None:
    assert plane.start().accepted.revision == 1
    configuration = plane.start()
    assert configuration.accepted.revision == 1
    plane.file.write_text("# a comment\n" + plane.file.read_text())
    configuration.files_changed()
    assert configuration.accepted.revision == 1
    plane.file.write_text(plane.file.read_text().replace("1s", "2s"))
    configuration.files_changed()
    assert configuration.accepted.revision == 2


def test_a_broken_edit_is_refused_with_its_place_and_the_last_good_stays(plane: Plane) -> None:
    configuration = plane.start()
    good = plane.file.read_text()
    for broken in (good.replace("timeout", "timeot"), good + "---\n{"):
        plane.file.write_text(broken)
        configuration.files_changed()
        assert configuration.refused
        assert configuration.refused[0].source.file == str(plane.file)
        assert timeout(configuration) == "1s"
    plane.file.write_text(good.replace("1s", "3s"))
    configuration.files_changed()
    assert not configuration.refused
    assert timeout(configuration) == "3s"


def test_a_broken_file_at_a_restart_is_taken_as_it_was(plane: Plane) -> None:
    plane.start()
    plane.file.write_text(plane.file.read_text().replace("timeout", "timeot"))
    configuration = plane.start()
    assert configuration.refused
    assert timeout(configuration) == "1s"


def test_a_first_start_with_errors_is_refused(plane: Plane) -> None:
    plane.file.write_text(plane.file.read_text().replace("timeout", "timeot"))
    with pytest.raises(ConfigurationRefused) as refused:
        plane.start()
    assert "timeot" in str(refused.value)


def test_of_a_file_and_an_applied_object_the_later_change_counts(plane: Plane) -> None:
    configuration = plane.start()
    configuration.commit(configuration.propose(parse(ROUTE.replace("1s", "5s"))), lambda revision: None)
    assert timeout(configuration) == "5s"
    configuration = plane.start()
    assert timeout(configuration) == "5s", "it outlives a restart"
    plane.file.write_text(plane.file.read_text().replace("1s", "9s"))
    configuration.files_changed()
    assert timeout(configuration) == "9s", "a later edit of the file counts"
    assert not configuration.current.stored


def test_a_proposal_with_an_error_changes_nothing(plane: Plane) -> None:
    configuration = plane.start()
    before = len(plane.meanings)
    with pytest.raises(ConfigurationRefused):
        configuration.propose(parse(ROUTE.replace("timeout", "timeot")))
    configuration.propose(parse(ROUTE.replace("1s", "5s")))
    assert timeout(configuration) == "1s"
    assert len(plane.meanings) == before
    assert configuration.accepted.revision == 1


def place(configuration: Configuration, *, ready: bool) -> None:
    view = wire.PlacementView(
        outbound=1, admin=2, inbound=[wire.InboundPort(app=8080, listen=3, name="http")], ready=ready
    )
    if configuration.placements.put(("default", "a-1"), view):
        configuration.placements_changed()


def test_only_ready_workloads_are_endpoints_and_placements_outlive_a_restart(plane: Plane) -> None:
    configuration = plane.start()
    host = "a.default.svc.cluster.local"
    place(configuration, ready=False)
    assert not configuration.current.compiled.linked.mesh.endpoints[host].of(80)
    place(configuration, ready=True)
    [endpoint] = configuration.current.compiled.linked.mesh.endpoints[host].of(80)
    assert (endpoint.port, endpoint.mtls) == (3, True)
    [kept] = plane.start().current.compiled.linked.mesh.endpoints[host].of(80)
    assert kept == endpoint


def test_a_proxy_reads_only_what_its_certificate_is_for(plane: Plane) -> None:
    configuration = plane.start()
    book = SnapshotBook()
    configuration.changed = lambda compiled: book.update(compiled.linked.mesh)
    place(configuration, ready=True)
    own = Peer("spiffe://cluster.local/ns/default/sa/a", "127.0.0.1:9")
    node = Node("sidecar~127.0.0.1~a-1.default~default.svc.cluster.local")
    assert book.authorize(node, own) is None
    assert book.authorize(node, Peer("spiffe://cluster.local/ns/default/sa/b", "x")) is not None
    assert book.authorize(Node("sidecar~127.0.0.1~b.default~default.svc.cluster.local"), own) is not None
    assert book.authorize(Node("a-1"), own) is not None


def test_a_subscriber_is_woken_only_by_what_concerns_it(plane: Plane) -> None:
    configuration = plane.start()
    book = SnapshotBook()
    configuration.changed = lambda compiled: book.update(compiled.linked.mesh)
    place(configuration, ready=True)
    woken: list[int] = []
    node = Node("sidecar~127.0.0.1~a-1.default~default.svc.cluster.local")
    subscription = book.open(node, Peer("spiffe://cluster.local/ns/default/sa/a", "x"), lambda: woken.append(1))
    first = subscription.current()
    plane.file.write_text("# moved by one line\n" + plane.file.read_text())
    configuration.files_changed()
    assert subscription.current() is first
    assert not woken
    plane.file.write_text(plane.file.read_text().replace("1s", "2s"))
    configuration.files_changed()
    assert subscription.current() is not first
    assert woken
    subscription.close()
    assert not book.snapshots


@pytest.mark.parametrize(
    ("node_id", "ref"),
    [
        ("sidecar~1.2.3.4~a.b~b.svc.cluster.local", WorkloadRef("b", "a")),
        ("sidecar~1.2.3.4~a.b.c~c.svc.cluster.local", WorkloadRef("c", "a.b")),
        ("a.b", None),
        ("sidecar~1.2.3.4~a~b", None),
        ("", None),
    ],
)
def test_node_ids(node_id: str, ref: WorkloadRef | None) -> None:
    assert workload_of(node_id) == ref


def test_what_is_no_configuration_may_lie_beside_it(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text('{"api": "http://127.0.0.1:1"}')
    plane.start()
    assert plane.store is not None

    def beside(*ignored: Path) -> Configuration:
        assert plane.store is not None
        accepted, placements = Accepted.load(tmp_path / "state"), Placements.load(plane.store.ledger)
        return Configuration([tmp_path], plane.store, accepted, placements, plane.meanings.append, ignored)

    beside(tmp_path / "ready.json").start()
    with pytest.raises(ConfigurationRefused):
        beside().start()
