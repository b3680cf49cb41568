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
from differ.client import run_steps
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
"""How many repetitions of a call run at once."""

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
            await recorder.quiet()  # The wait for the listeners may have reached TCP upstreams.
            outcomes = {
                call.name: await _call(
                    case, config.filled_call(call, upstreams), reached[call.listener], pki, recorder
                )
                for call in case.calls
            }
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


async def _call(case: Case, call: Call, port: int, pki: Pki, recorder: Recorder) -> Outcome:
    recorder.start_call(case.upstreams)
    if call.repeat == 1:
        seen = await _once(call, port, pki)
        await recorder.at_least(call.upstreams, UPSTREAM_PATIENCE_S)
        if not seen.answers:
            await recorder.quiet()  # What the client gave up may still be on its way.
        return Outcome(seen, list(recorder.received))
    limit = asyncio.Semaphore(WIDTH)

    async def limited() -> Seen:
        async with limit:
            return await _once(call, port, pki)

    many = await asyncio.gather(*(limited() for _ in range(call.repeat)))
    merged = Seen(answers=[answer for seen in many for answer in seen.answers][:1])
    merged.ports = [each for seen in many for each in seen.ports]
    counts = Counter(
        dict(answer.headers).get("x-upstream", str(answer.status)) for seen in many for answer in seen.answers
    )
    return Outcome(merged, [], counts=dict(counts))


async def _once(call: Call, port: int, pki: Pki) -> Seen:
    return await (run_streams(call, port, pki) if call.protocol == "h2" else run_steps(call, port, pki))


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
