"""The supervisor's decisions: waits, variables, connection counts, where sidecars keep what is theirs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.api import wire
from tulle.supervisor.backoff import FIRST, LONGEST, STABLE, Backoff
from tulle.supervisor.logs import Console
from tulle.supervisor.plane_envoy import EnvoyPlane
from tulle.supervisor.plane_tulle import TullePlane
from tulle.supervisor.ports import PortBook
from tulle.supervisor.shutdown import count_active
from tulle.supervisor.site import MeshSite, Site, app_environment, expand


def site(view: wire.WorkloadView, folder: Path = Path("/nowhere")) -> Site:
    tokens, environment = folder / "join.sock", {"HOME": "/h"}
    mesh = MeshSite(folder, folder, tokens, "127.0.0.1:1", "127.0.0.1:2", "cluster.local", folder, environment, 10)
    inbound = tuple(wire.InboundPort(app=port.number or 7000, listen=7100, name=port.name) for port in view.ports)
    upstreams = tuple(
        wire.UpstreamPort(service=each.service, port=each.port, local_port=each.local_port or 7200)
        for each in view.upstreams
    )
    return Site(mesh, view, 7300, 7400, inbound, upstreams)


def view(**changes: object) -> wire.WorkloadView:
    base = {"namespace": "default", "name": "a", "service_account": "a", "address": "127.0.0.1"}
    return wire.WorkloadView(**{**base, **changes})  # type: ignore[arg-type]


@given(st.lists(st.floats(0, STABLE - 0.1), min_size=1, max_size=40), st.integers())
def test_waits_double_up_to_the_longest_and_keep_half(runs: list[float], seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    for death, ran in enumerate(runs):
        whole = min(LONGEST, FIRST * 2**death)
        assert whole / 2 <= backoff.after(ran) <= whole


def test_a_stable_run_is_forgiven() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(20):
        backoff.after(0.0)
    assert backoff.after(STABLE) <= FIRST


def test_picked_ports_reach_the_process_by_name() -> None:
    found = app_environment(
        site(
            view(
                ports=[wire.WorkloadPort(number=0, name="http"), wire.WorkloadPort(number=9001)],
                upstreams=[wire.UpstreamPort(service="reviews.default", port=9080, local_port=0)],
                env={"PORT": "$(PORT_HTTP)", "URL": "http://127.0.0.1:$(UPSTREAM_REVIEWS_DEFAULT_PORT)"},
            )
        )
    )
    assert found["PORT"] == found["PORT_HTTP"] == "7000"
    assert found["URL"] == "http://127.0.0.1:7200"
    assert found["http_proxy"] == found["HTTP_PROXY"] == "http://127.0.0.1:7300"
    assert "127.0.0.1" in found["no_proxy"]
    assert found["HOME"] == "/h"


def test_a_sidecar_is_called_on_loopback_whatever_the_workloads_address() -> None:
    assert app_environment(site(view(address="127.0.0.9")))["http_proxy"] == "http://127.0.0.1:7300"


def test_declared_variables_win() -> None:
    found = app_environment(site(view(env={"http_proxy": "", "HOME": "/elsewhere"})))
    assert found["http_proxy"] == ""
    assert found["HOME"] == "/elsewhere"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A ${A} $()", "$A ${A} $()"),
        ("", ""),
    ],
)
def test_references_expand_as_in_kubernetes(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


METRICS = """# TYPE envoy_listener_downstream_cx_active gauge
envoy_listener_downstream_cx_active{envoy_listener_address="127.0.0.1_20001"} 3
envoy_listener_downstream_cx_active{envoy_listener_address="127.0.0.1:20002"} 1
envoy_listener_downstream_cx_active{envoy_listener_address="127.0.0.1_30000"} 9
"""


def test_only_inbound_connections_count() -> None:
    assert count_active(METRICS, {20001, 20002}) == 4
    assert count_active(METRICS, {20002}) == 1
    assert count_active("", {20002}) == 0


@pytest.mark.parametrize("pick", [PortBook.reserve, PortBook.choose])
def test_a_meshes_ports_are_taken_for_others_until_released(pick: Callable[[PortBook], int]) -> None:
    book, other = PortBook(random.Random(7)), PortBook(random.Random(7))
    mine = [pick(book) for _ in range(5)]
    theirs = [pick(other) for _ in range(5)]
    assert not set(mine) & set(theirs)
    book.close()
    again = PortBook(random.Random(7))
    assert pick(again) in mine
    again.close()
    other.close()


async def test_a_mesh_may_change_its_data_plane(tmp_path: Path) -> None:
    """Neither kind of sidecar reads the identity that the other has kept."""
    place, show, program = site(view(), tmp_path), Console(), Path("/nowhere")
    await TullePlane(program).sidecar(place, show).proxy.prepare()
    [agent] = EnvoyPlane(program).sidecar(place, show).helpers
    argv = list((await agent.prepare()).argv)
    kept = Path(argv[argv.index("--state") + 1])
    [identity] = tmp_path.glob("workloads/*/identity.yaml")
    assert str(kept) not in identity.read_text()
    assert kept.parent == identity.parent
