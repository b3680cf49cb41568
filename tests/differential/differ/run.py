"""Runs a case through one proxy: upstreams, proxy, every call in order, and what the access log says about each."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from pathlib import Path

from differ import config
from differ.case import Call, Case
from differ.client import run_steps
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

Outcomes = dict[str, Outcome]


async def run(case: Case, kind: Kind, pki: Pki, folder: Path) -> Outcomes:
    """The outcome of each call by its name. Raises NoProxy when the proxy does not take the configuration."""
    recorder = Recorder()
    servers = {name: Server(name, spec, recorder) for name, spec in case.upstreams.items()}
    held = {name: Held.take() for name in config.listener_names(case)}
    log = folder / f"{kind}.access.log"
    log.touch()
    try:
        for server in servers.values():
            await server.start(pki, HANDLERS[server.spec.protocol])
        ports = {name: each.port for name, each in held.items()}
        plan = config.Plan({name: server.port for name, server in servers.items()}, ports, pki, log)
        async with running(kind, config.bootstrap(case, plan), ports.values(), folder):
            await recorder.quiet()  # The wait for the listeners may have reached TCP upstreams.
            outcomes = {
                call.name: await _call(case, call, ports[call.listener], pki, recorder) for call in case.calls
            }
    finally:
        for each in held.values():
            each.release()
        await asyncio.gather(*(server.stop() for server in servers.values()))
    names = {f"127.0.0.1:{server.port}": name for name, server in servers.items()}
    _add_logs(outcomes, log, names | {f"127.0.0.1:{port}": name for name, port in ports.items()})
    return outcomes


async def _call(case: Case, call: Call, port: int, pki: Pki, recorder: Recorder) -> Outcome:
    recorder.start_call(case.upstreams)
    if call.repeat == 1:
        seen = await _once(call, port, pki)
        await recorder.at_least(call.upstreams, UPSTREAM_PATIENCE_S)
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
