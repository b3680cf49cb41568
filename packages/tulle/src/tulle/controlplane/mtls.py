"""Reports what still comes in plaintext, and what to do before the mesh can take mutual TLS only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tulle.api.mtls import MtlsEdge, MtlsPort, MtlsReport, MtlsWorkload
from tulle.controlplane.configuration import Configuration
from tulle.controlplane.views import place
from tulle.link.access import Security
from tulle.model.access import PeerMode
from tulle.model.mesh import PlacedWorkload
from tulle.status.edges import Proxy, scrape_all
from tulle.status.mtls import Taken, taken


@dataclass(frozen=True, slots=True)
class MtlsReporter:
    """Implements `tulle.api.mtls.MtlsBackend`."""

    configuration: Configuration

    async def mtls(self) -> MtlsReport:
        """Asks every sidecar at once."""
        linked = self.configuration.current.compiled.linked
        workloads = list(linked.mesh.workloads.values())
        texts = await scrape_all([Proxy(each.ref.namespace, each.ref.name, each.admin) for each in workloads])
        told = list(zip(workloads, texts, strict=True))
        silent = [f"{each.ref.namespace}/{each.ref.name}" for each, text in told if text is None]
        edges = [edge for each, text in told for edge in _edges(each, text or "")]
        return report(workloads, linked.declared.security, edges, silent)


def report(
    workloads: Sequence[PlacedWorkload], security: Security, edges: Sequence[MtlsEdge], silent: list[str]
) -> MtlsReport:
    """The whole report, from what each sidecar took."""
    ports = [_port(each, inbound.app, inbound.guard.mode, security) for each in workloads for inbound in each.inbound]
    lax = {(port.namespace, port.workload) for port in ports if port.mode != PeerMode.STRICT}
    judged = []
    for each in workloads:
        name = (each.ref.namespace, each.ref.name)
        if name in lax:
            own = [port for port in ports if (port.namespace, port.workload) == name]
            judged.append(_judge(each, own, edges, silent))
    return MtlsReport([edge for edge in edges if edge.plaintext], ports, judged, silent)


def _edges(workload: PlacedWorkload, text: str) -> list[MtlsEdge]:
    found = taken(text, [(workload.address, each.listen) for each in workload.inbound])
    return [_edge(workload, caller, each) for caller, each in sorted(found.items())]


def _edge(workload: PlacedWorkload, caller: tuple[str, str], of_caller: Taken) -> MtlsEdge:
    return MtlsEdge(
        caller[0], caller[1], workload.ref.namespace, workload.ref.name, of_caller.mutual_tls, of_caller.plaintext
    )


def _port(workload: PlacedWorkload, app: int, mode: PeerMode, security: Security) -> MtlsPort:
    policy = security.peer_policy(workload.ref.namespace, workload.labels, app)
    said = None if policy is None else place(policy.meta.source)
    return MtlsPort(workload.ref.namespace, workload.ref.name, app, str(mode), said)


def _judge(
    workload: PlacedWorkload, ports: Sequence[MtlsPort], edges: Iterable[MtlsEdge], silent: Sequence[str]
) -> MtlsWorkload:
    own = [each for each in edges if (each.namespace, each.destination) == (workload.ref.namespace, workload.ref.name)]
    plain, mutual = sum(each.plaintext for each in own), sum(each.mutual_tls for each in own)
    name = f"{workload.ref.namespace}/{workload.ref.name}"
    where = ", ".join(sorted({f"{port.said.file}:{port.said.line}" for port in ports if port.said is not None}))
    if name in silent:
        advice = "its sidecar did not answer: ask again before anything is changed"
    elif any(port.mode == PeerMode.DISABLE for port in ports):
        advice = f"it takes plaintext only: say PERMISSIVE at {where}, so that sidecars begin to use mutual TLS"
    elif plain:
        whom = ", ".join(f"{each.source_namespace}/{each.source}" for each in own if each.plaintext)
        advice = (
            f"{plain:g} calls came in plaintext, from {whom}: give the callers sidecars, and remove tls mode DISABLE "
            "from DestinationRules for its services"
        )
    elif mutual:
        advice = f"every call came with mutual TLS: say STRICT at {where}"
    else:
        advice = f"nobody has called yet: watch a while, then say STRICT at {where}"
    return MtlsWorkload(workload.ref.namespace, workload.ref.name, mutual, plain, bool(mutual) and not plain, advice)


