"""Runs a case through one proxy or two: upstreams, proxies, every call in order, and what the access log says of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from differ import config
from differ.case import Call, Case
from differ.client import take_steps
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


async def run(case: Case, kinds: Sequence[Kind], pki: Pki, folder: Path) -> Outcomes:
    """The outcome of each call by its name, through one proxy or, for a pair, two: the caller's first.

    Raises NoProxy when a proxy is not built or does not take the configuration.
    """
    recorder = Recorder()
    servers = {name: Server(name, spec, recorder) for name, spec in case.upstreams.items()}
    proxies = [_Proxy.prepare(case, kind, folder / f"{number}-{kind}") for number, kind in enumerate(kinds)]
    first, last = proxies[0].ports, proxies[-1].ports
    withheld = frozenset(TYPE + kind for kind in case.withheld)
    discovery = Discovery(withheld=withheld) if case.discovery is not None else None
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
                if discovery is not None:
                    discovery.fill(case.discovery or [], functools.partial(config.fill, plan=plan))
                bootstrap = config.bootstrap(case, plan)
                await stack.enter_async_context(
                    running(proxy.kind, bootstrap, proxy.ports.values(), proxy.folder)
                )
            if _noisy(case):
                await recorder.quiet()
            calls = [config.filled_call(call, upstreams) for call in case.calls]
            async with asyncio.TaskGroup() as watches:
                caller = _Caller(case, pki, recorder, watches)
                outcomes = {call.name: await caller.call(call, reached[call.listener]) for call in calls}
    finally:
        for proxy in proxies:
            proxy.release()
        if discovery is not None:
            await discovery.stop()
        await asyncio.gather(*(server.stop() for server in servers.values()))
    names = {f"127.0.0.1:{port}": name for each in (upstreams, first, last) for name, port in each.items()}
    for proxy in proxies:
        _add_logs(outcomes, proxy.folder / "access.log", names)
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

    async def call(self, call: Call, port: int) -> Outcome:
        """The outcome of `call`; its connection may still be watched when this returns."""
        self.recorder.start_call(self.case.upstreams)
        if call.repeat > 1:
            return await self._many(call, port)
        received, ended = self.recorder.received, self.recorder.ended
        if call.protocol == "h2":
            seen, watch = await run_streams(call, port, self.pki), None
        else:
            walk = await take_steps(call, port, self.pki)
            seen, watch = walk.seen, self.watches.create_task(walk.watch())
        await self.recorder.at_least(call.upstreams, UPSTREAM_PATIENCE_S)
        # The next call need not wait while this one's connection is watched, unless its proxy may not have noticed yet
        # that an upstream's has ended, or more may come of it.
        if watch and (call.protocol == "tcp" or not seen.answers or self.recorder.ended > ended):
            await watch
        if not seen.answers:
            await self.recorder.quiet()  # What the client gave up may still be on its way.
        return Outcome(seen, received)

    async def _many(self, call: Call, port: int) -> Outcome:
        left = iter(range(call.repeat))

        async def some() -> list[Seen]:
            seen, walk = [], None
            for _ in left:
                if call.protocol == "h2":
                    seen.append(await run_streams(call, port, self.pki))
                    continue
                walk = await take_steps(call, port, self.pki, walk)
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


def _add_logs(outcomes: Outcomes, log: Path, names: dict[str, str]) -> None:
    """Give each outcome the lines of its own connections, known by the client's port; addresses become names."""
    owner = {str(port): outcome for outcome in outcomes.values() for port in outcome.seen.ports}
    for text in log.read_text().splitlines():
        line = json.loads(text)
        outcome = owner.get(str(line.pop("peer", "")).rpartition(":")[2])
        if outcome is None:
            continue
        with contextlib.suppress(KeyError):
            line["host"] = names[line["host"]]
        outcome.logs.append(line)
