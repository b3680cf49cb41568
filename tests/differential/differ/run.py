"""Runs a case through one proxy or two: upstreams, proxies, every call in order, and what the access log says of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differ import config
from differ.case import Call, Case
from differ.client import Way, take_steps
from differ.discovery import TYPE, Discovery
from differ.h2client import run_streams
from differ.h2upstream import serve_h2
from differ.pki import Pki
from differ.proxies import Held, Kind, running
from differ.record import Outcome, Seen
from differ.upstreams import Recorder, Server, serve_h1, serve_tcp

HANDLERS = {"h1": serve_h1, "h2": serve_h2, "tcp": serve_tcp}
UPSTREAM_PATIENCE_S = 3.0
WIDTH = 16
"""How many connections a repeated call has at once."""

INBOUND = "inbound"
"""The listener of a pair that is reached at its second proxy."""

Outcomes = dict[str, Outcome]


@dataclass(slots=True)
class _Proxy:
    """One proxy of a run: its folder, with the access log, and the ports that are kept for its listeners."""

    kind: Kind
    folder: Path
    held: dict[str, Held]

    @classmethod
    def prepare(cls, case: Case, kind: Kind, folder: Path) -> _Proxy:
        folder.mkdir()
        (folder / "access.log").touch()
        return cls(kind, folder, {name: Held.take() for name in config.listener_names(case)})

    @property
    def ports(self) -> dict[str, int]:
        return {name: each.port for name, each in self.held.items()}

    def release(self) -> None:
        for each in self.held.values():
            each.release()


@dataclass(slots=True)
class _Clients:
    """A port for each call that is made once, held from before the first connection of the run to after the last.

    So no other connection of the run, whoever makes it and to whatever listener, can have it too: log lines are known
    by it.
    """

    held: list[Held]
    ports: dict[str, int]

    @classmethod
    def prepare(cls, case: Case) -> _Clients:
        held = {call.name: Held.take() for call in case.calls if call.repeat == 1}
        return cls(list(held.values()), {name: each.port for name, each in held.items()})

    def release(self) -> None:
        for each in self.held:
            each.release()


@dataclass(slots=True)
class _Control:
    """What a run's control plane does for its calls, where it has one."""

    discovery: Discovery | None
    plan: config.Plan

    def fill(self, text: str) -> str:
        return config.fill(text, self.plan)

    def begin(self, case: Case) -> None:
        self._write(case.files)
        if self.discovery is not None:
            self.discovery.fill(case.discovery or [], self.fill)

    def _write(self, files: dict[str, dict[str, Any]]) -> None:
        """Put each in its place at once, as those do who are to be read by others."""
        for name, content in files.items():
            path = Path(self.plan.file(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            made = path.with_suffix(".new")
            made.write_text(self.fill(json.dumps(content)))
            made.rename(path)

    async def prepare(self, call: Call) -> None:
        self._write(call.files)
        if self.discovery is not None and (call.change or call.gone):
            self.discovery.refused.clear()
            await self.discovery.change(call.change, call.gone, self.fill)

    def facts(self, call: Call) -> dict[str, str]:
        if self.discovery is None or not (call.change or call.gone):
            return {}
        return self.discovery.asked() | {"refused": " ".join(sorted(set(self.discovery.refused)))}


async def run(case: Case, kinds: Sequence[Kind], pki: Pki, folder: Path) -> Outcomes:
    """The outcome of each call by its name, through one proxy or, for a pair, two: the caller's first.

    Raises NoProxy when a proxy is not built or does not take the configuration.
    """
    recorder = Recorder()
    servers = {name: Server(name, spec, recorder) for name, spec in case.upstreams.items()}
    proxies = [_Proxy.prepare(case, kind, folder / f"{number}-{kind}") for number, kind in enumerate(kinds)]
    clients = _Clients.prepare(case)
    first, last = proxies[0].ports, proxies[-1].ports
    withheld = frozenset(TYPE + kind for kind in case.withheld)
    discovery = Discovery(withheld=withheld, variant=case.variant) if case.discovery is not None else None
    reached = first | {name: port for name, port in last.items() if name == INBOUND}
    try:
        for server in servers.values():
            await server.start(pki, HANDLERS[server.spec.protocol])
        upstreams = {name: server.port for name, server in servers.items()}
        if discovery is not None:
            await discovery.start()
        async with contextlib.AsyncExitStack() as stack:
            for proxy in reversed(proxies):
                log, port = proxy.folder / "access.log", discovery.port if discovery else None
                plan = config.Plan(upstreams, proxy.ports, last, pki, log, port)
                control = _Control(discovery, plan)
                control.begin(case)
                bootstrap = config.bootstrap(case, plan)
                await stack.enter_async_context(
                    running(proxy.kind, bootstrap, proxy.ports.values(), proxy.folder)
                )
            if _noisy(case):
                await recorder.quiet()
            calls = [config.filled_call(call, upstreams) for call in case.calls]
            async with asyncio.TaskGroup() as watches:
                caller = _Caller(case, pki, recorder, watches)
                outcomes = {}
                for call in calls:
                    await control.prepare(call)
                    way = Way(reached[call.listener], clients.ports.get(call.name))
                    outcomes[call.name] = await caller.call(call, way)
                    outcomes[call.name].control = control.facts(call)
    finally:
        for proxy in proxies:
            proxy.release()
        clients.release()
        if discovery is not None:
            await discovery.stop()
        await asyncio.gather(*(server.stop() for server in servers.values()))
    names = {f"127.0.0.1:{port}": name for each in (upstreams, first, last) for name, port in each.items()}
    _read_logs(case, proxies, clients, outcomes, names)
    return outcomes


def _noisy(case: Case) -> bool:
    """Whether something is going on that no call began: the wait for listeners reaches TCP upstreams, health checks all
    upstreams, and an overload manager looks at its resources.
    """
    tcp = any(upstream.protocol == "tcp" for upstream in case.upstreams.values())
    checks = any("health_checks" in cluster for cluster in case.clusters.values())
    return tcp or checks or "overload_manager" in case.bootstrap


@dataclass(slots=True)
class _Caller:
    """Makes a case's calls through one proxy, one after the other."""

    case: Case
    pki: Pki
    recorder: Recorder
    watches: asyncio.TaskGroup

    async def call(self, call: Call, way: Way) -> Outcome:
        """The outcome of `call`; its connection may still be watched when this returns."""
        self.recorder.start_call(self.case.upstreams)
        if call.repeat > 1:
            return await self._many(call, way)
        received, ended = self.recorder.received, self.recorder.ended
        if call.protocol == "h2":
            seen, watch = await run_streams(call, way, self.pki), None
        else:
            walk = await take_steps(call, way, self.pki)
            seen, watch = walk.seen, self.watches.create_task(walk.watch())
        await self.recorder.at_least(call.upstreams, UPSTREAM_PATIENCE_S)
        # The next call need not wait while this one's connection is watched, unless its proxy may not have noticed yet
        # that an upstream's has ended, or more may come of it.
        if watch and (call.protocol == "tcp" or not seen.answers or self.recorder.ended > ended):
            await watch
        if not seen.answers:
            await self.recorder.quiet()  # What the client gave up may still be on its way.
        return Outcome(seen, received)

    async def _many(self, call: Call, way: Way) -> Outcome:
        left = iter(range(call.repeat))

        async def some() -> list[Seen]:
            seen, walk = [], None
            for _ in left:
                if call.protocol == "h2":
                    seen.append(await run_streams(call, way, self.pki))
                    continue
                walk = await take_steps(call, way, self.pki, walk)
                if not walk.whole or call.apart:
                    walk.close()
                    seen.append(walk.seen)
                    walk = None
            if walk is not None:
                walk.close()
                seen.append(walk.seen)
            return seen

        width = min(WIDTH, call.repeat)
        many = [seen for part in await asyncio.gather(*(some() for _ in range(width))) for seen in part]
        merged = Seen(answers=[answer for seen in many for answer in seen.answers][:1])
        merged.ports = [each for seen in many for each in seen.ports]
        counts = Counter(
            dict(answer.headers).get("x-upstream", str(answer.status))
            for seen in many
            for answer in seen.answers
        )
        return Outcome(merged, [], counts=dict(counts))


def _read_logs(
    case: Case, proxies: list[_Proxy], clients: _Clients, outcomes: Outcomes, names: dict[str, str]
) -> None:
    owners: dict[Path, dict[int, Outcome]] = {}
    for call in case.calls:
        if (port := clients.ports.get(call.name)) is not None:
            proxy = proxies[-1] if call.listener == INBOUND else proxies[0]
            owners.setdefault(proxy.folder, {})[port] = outcomes[call.name]
    for folder, owned in owners.items():
        add_logs(owned, (folder / "access.log").read_text(), names)


def add_logs(owners: dict[int, Outcome], log: str, names: dict[str, str]) -> None:
    """Give each outcome its lines of a proxy's log, known by the client's port; addresses become names."""
    for text in log.splitlines():
        line = json.loads(text)
        outcome = owners.get(int(str(line.pop("peer", "")).rpartition(":")[2] or 0))
        if outcome is None:
            continue
        with contextlib.suppress(KeyError):
            line["host"] = names[line["host"]]
        outcome.logs.append(line)
