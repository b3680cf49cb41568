"""The operations behind the admin API, on the configuration, the placements, the proxies and the CA."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tulle.api import wire
from tulle.api.backend import Refused
from tulle.api.caller import CALLER
from tulle.api.roles import reads_secrets, require_edit
from tulle.controlplane import access, views
from tulle.controlplane.accepted import fingerprint
from tulle.controlplane.audit import Auditor
from tulle.controlplane.configuration import Configuration, ConfigurationRefused
from tulle.controlplane.snapshots import SnapshotBook, workload_of
from tulle.delivery.status import ProxyStatus, StatusRegistry
from tulle.dialects import KindInfo, known_kinds
from tulle.identity.ca import utc_now
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.tokens import DEFAULT_LIFE, JoinTokens
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.meta import label
from tulle.model.workloads import Workload
from tulle.objects import ObjectKey, RawObject
from tulle.sources.yaml_reader import read_yaml
from tulle.status.edges import Proxy, collect
from tulle.xds.client import ClientKind


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the control plane listens, and whose state it keeps."""

    api: str
    xds: str
    join: str
    trust_domain: str
    state: str
    version: str


@dataclass(slots=True)
class Service:
    """Implements `tulle.api.backend.Backend`, and the CA's `Registrations`."""

    configuration: Configuration
    book: SnapshotBook
    registry: StatusRegistry
    tokens: JoinTokens
    addresses: Addresses
    auditor: Auditor
    clock: Callable[[], float] = time.time
    started: float = field(default_factory=time.time)
    serving: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # -- what changes

    def healthy(self) -> bool:
        """Whether proxies are served."""
        return self.serving

    def stop_serving(self) -> None:
        """Lets go of everybody who waits."""
        self.serving = False
        self.announce()

    def announce(self) -> None:
        """Wakes whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def apply(self, request: wire.ApplyRequest) -> wire.ApplyResponse:
        """Reads the documents and changes all of their objects, or refuses all of them."""
        objects = self._read(request.documents)
        require_edit(obj.namespace for obj in objects)
        current = self.configuration.current.compiled.objects
        results = [_result(obj, current.get(obj.key)) for obj in objects]
        changed = [obj for obj, result in zip(objects, results, strict=True) if result.result != "unchanged"]
        try:
            trial = self.configuration.rehearsal() if request.dry_run else self.configuration
            draft = trial.propose(changed)
        except ConfigurationRefused as refused:
            raise _refusal("nothing was changed", refused.diagnostics) from refused
        revision = self.configuration.accepted.revision
        if changed and not request.dry_run:
            revision = self.configuration.commit(draft, lambda made: self.auditor.changed(results, made))
        files = {document.file for document in request.documents}
        concerned = [found for found in draft.diagnostics if found.source.file in files]
        return wire.ApplyResponse(
            revision=revision, objects=results, diagnostics=[views.finding(found) for found in concerned]
        )

    def delete(self, kind: str, namespace: str, name: str) -> wire.ApplyResponse:
        """Deletes an applied object; one that a file declares stays as the file has it."""
        current = self.configuration.current
        found = [key for key in self._keys(kind) if (key[2], key[3]) == (namespace, name)]
        if not found:
            raise Refused.because(404, "not-found", f"there is no {kind} {namespace}/{name}")
        stored = [key for key in found if key in current.stored]
        if not stored:
            place = current.compiled.objects[found[0]].source
            message = f"{kind} {namespace}/{name} is declared at {place}: delete it there"
            raise Refused.because(409, "declared-in-file", message)
        try:
            draft = self.configuration.propose((), stored)
        except ConfigurationRefused as refused:
            raise _refusal("nothing was deleted", refused.diagnostics) from refused
        gone = [_named(current.compiled.objects[key], "deleted") for key in stored]
        revision = self.configuration.commit(draft, lambda made: self.auditor.changed(gone, made))
        return wire.ApplyResponse(
            revision=revision, objects=gone, diagnostics=[]
        )

    def place(self, namespace: str, name: str, placement: wire.PlacementView) -> None:
        """Notes a placement; the data plane hears of it only when it makes a difference to it."""
        if self._workload(namespace, name) is None:
            raise Refused.because(404, "not-found", f"no workload {namespace}/{name} is declared")
        before = self.configuration.placements.get((namespace, name))
        self.auditor.placed(f"{namespace}/{name}", before, placement)
        if self.configuration.placements.put((namespace, name), placement):
            self.configuration.placements_changed()

    def displace(self, namespace: str | None, name: str | None) -> None:
        """Forgets one placement, or all when both are None."""
        gone = self.configuration.placements.workloads() if namespace is None or name is None else [(namespace, name)]
        gone = [key for key in gone if self.configuration.placements.remove(key)]
        if not gone:
            return
        self.auditor.displaced(gone)
        self.configuration.placements_changed()

    def join_token(self, namespace: str, name: str) -> wire.JoinToken:
        """A token with which that workload's proxy can get its first certificate."""
        if self._workload(namespace, name) is None:
            raise Refused.because(404, "not-found", f"no workload {namespace}/{name} is declared")
        token = self.tokens.create(namespace, name, DEFAULT_LIFE, utc_now(), CALLER.get())
        return wire.JoinToken(token=token, expires_in=DEFAULT_LIFE / timedelta(seconds=1))

    # -- what is told

    def objects(self, kind: str, namespace: str | None, name: str | None) -> Sequence[Mapping[str, Any]]:
        """The documents of a kind that match."""
        objects = self.configuration.current.compiled.objects
        return [
            objects[key].body if reads_secrets(key[2]) else views.redacted(objects[key])
            for key in self._keys(kind)
            if namespace in (None, key[2]) and name in (None, key[3])
        ]

    def status(self) -> wire.StatusView:
        """Everything that `tulle status` shows."""
        current = self.configuration.current
        placed = []
        for key, view in self.configuration.placements.items():
            declared = self._workload(*key)
            if declared is not None:
                placed.append(
                    wire.PlacedWorkload(
                        namespace=key[0], name=key[1], service_account=declared.service_account,
                        address=declared.address, placement=view,
                    )
                )
        findings = self.configuration.refused + current.diagnostics
        return wire.StatusView(
            control_plane=self._self(),
            proxies=self._proxies(),
            workloads=placed,
            diagnostics=[views.finding(found) for found in findings if found.severity is not Severity.INFO],
        )

    async def workloads(self, known: str, wait: float) -> wire.WorkloadList:
        """The declared workloads, once they differ from ``known`` or ``wait`` seconds have passed."""
        until = asyncio.get_running_loop().time() + wait
        while True:
            changed = self._changed
            listed = self._listed()
            left = until - asyncio.get_running_loop().time()
            if listed.generation != known or left <= 0 or not self.serving:
                return listed
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                continue

    async def changed(self, known: int) -> int | None:
        """Waits for another revision than ``known``; None when the control plane stops."""
        while self.serving and self.configuration.accepted.revision == known:
            await self._changed.wait()
        return self.configuration.accepted.revision if self.serving else None

    def check_access(self, question: wire.AccessQuestion) -> wire.AccessAnswer:
        """Who may call whom, by the configuration in force."""
        return access.check(self.configuration.current.compiled, question)

    async def edges(self) -> Sequence[wire.EdgeView]:
        """Asks every sidecar for its counters and adds them up by edge."""
        proxies = [
            Proxy(key[0], key[1], view.admin) for key, view in self.configuration.placements.items()
        ]
        return await collect(proxies)

    # -- for the CA

    def identity_of(self, namespace: str, workload: str) -> WorkloadIdentity | None:
        """The identity of a declared workload."""
        declared = self._workload(namespace, workload)
        if declared is None:
            return None
        spiffe_id = SpiffeId(self.addresses.trust_domain, namespace, declared.service_account)
        app, version = label(declared.labels, "app") or "", label(declared.labels, "version") or ""
        return WorkloadIdentity(spiffe_id, workload, app, version)

    # -- inside

    def _self(self) -> wire.ControlPlaneView:
        at = self.addresses
        return wire.ControlPlaneView(
            pid=os.getpid(), version=at.version, revision=self.configuration.accepted.revision,
            uptime=self.clock() - self.started, api=at.api, xds=at.xds, join=at.join,
            trust_domain=at.trust_domain, data_dir=at.state,
        )

    def _workload(self, namespace: str, name: str) -> Workload | None:
        for each in self.configuration.current.compiled.managed():
            if (each.meta.namespace, each.meta.name) == (namespace, name):
                return each
        return None

    def _listed(self) -> wire.WorkloadList:
        compiled = self.configuration.current.compiled
        processes = {(ref.namespace, ref.name): process for ref, process in compiled.processes.items()}
        shown = [
            views.workload(each, processes.get((each.meta.namespace, each.meta.name)))
            for each in compiled.managed()
        ]
        told = [each if reads_secrets(each.namespace) else views.without_secrets(each) for each in shown]
        return wire.WorkloadList(generation=fingerprint(shown), workloads=told)

    def _keys(self, kind: str) -> list[ObjectKey]:
        info = find_kind(kind)
        if info is None:
            names = ", ".join(sorted(each.plural for each in known_kinds()))
            raise Refused.because(404, "unknown-kind", f"there is no kind '{kind}'; there are {names}")
        objects = self.configuration.current.compiled.objects
        return [key for key in sorted(objects) if key[0] == info.group and key[1] == info.kind]

    def _read(self, documents: Sequence[wire.Document]) -> list[RawObject]:
        objects: list[RawObject] = []
        findings: list[Diagnostic] = []
        for document in documents:
            # New objects are younger than all that are there.
            first = int(self.clock() * 1_000_000) + len(objects)
            found, wrong = read_yaml(document.text, document.file, first)
            objects += found
            findings += wrong
        if findings:
            raise _refusal("nothing was changed", findings)
        return objects

    def _proxies(self) -> list[wire.ProxyView]:
        streams = {
            (ref.namespace, ref.name, each.node.proxyless): each
            for each in self.registry.proxies()
            if (ref := workload_of(each.node.id)) is not None
        }
        shown = []
        for namespace, name in self.configuration.placements.workloads():
            for proxyless in (False, True):
                stream = streams.get((namespace, name, proxyless))
                if stream is not None:
                    shown.append(self._connected(namespace, name, stream))
                elif not proxyless:
                    shown.append(wire.ProxyView(namespace=namespace, name=name, node="", connected=False))
        return shown

    def _connected(self, namespace: str, name: str, stream: ProxyStatus) -> wire.ProxyView:
        ref = workload_of(stream.node.id)
        kind = ClientKind.of(stream.node.user_agent)
        target = self.book.snapshots.get((ref, kind)) if ref is not None else None
        nack = stream.refusal
        settled = stream.settled
        return wire.ProxyView(
            namespace=namespace, name=name, node=stream.node.id, connected=True, client=stream.node.user_agent,
            version_acknowledged=getattr(settled, "version", None),
            target=target.version if target is not None else None,
            synced=stream.synced and settled is not None and settled is target,
            acknowledged={url.rpartition(".")[2]: each.version for url, each in stream.types.items()},
            pending=[url.rpartition(".")[2] for url, each in stream.types.items() if each.in_flight],
            pushes=stream.pushes, draining=stream.draining,
            last_nack=wire.NackView(
                type_url=nack.nack.type_url, message=nack.nack.detail, at=nack.at
            ) if nack is not None else None,
        )


def find_kind(name: str) -> KindInfo | None:
    """The kind of that name: its own, its plural or a short one, in any case, with or without `.group`."""
    wanted, _, group = name.lower().partition(".")
    for info in known_kinds():
        if wanted in {info.kind.lower(), info.plural, *info.short} and group in ("", info.group):
            return info
    return None


def _result(obj: RawObject, before: RawObject | None) -> wire.ObjectResult:
    if before is None:
        return _named(obj, "created")
    return _named(obj, "unchanged" if before.body == obj.body else "configured")


def _named(obj: RawObject, result: str) -> wire.ObjectResult:
    return wire.ObjectResult(
        api_version=obj.api_version, kind=obj.kind, namespace=obj.namespace, name=obj.name, result=result
    )


def _refusal(outcome: str, diagnostics: Sequence[Diagnostic]) -> Refused:
    count = sum(found.severity is Severity.ERROR for found in diagnostics)
    message = f"refused, {count} error{'s' if count != 1 else ''}; {outcome}"
    findings = [views.finding(found) for found in diagnostics]
    return Refused(422, wire.Failure(code="invalid", message=message, diagnostics=findings))
