"""All calls of one case through one data plane: a proxy per caller, one set of upstreams."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from case_harness.assemble import Assembler
from case_harness.calls import (
    LOGGED,
    Call,
    Outcome,
    Way,
    differences,
    read_calls,
    read_log,
    read_servers,
    send,
    share_differences,
    sticky_differences,
    wait_mirrored,
)
from case_harness.compilation import compile_case
from case_harness.echo import Upstreams
from harness.identities import Identities
from harness.proxies import DataPlane, PortHolder, running


def run_case(case: Path, plane: DataPlane, directory: Path) -> list[str]:
    """Sends the case's calls and says every difference."""
    compilation = compile_case(case)
    calls = read_calls(case / "calls.yaml")
    log = directory / "access.log"
    found: list[str] = []
    with ExitStack() as stack:
        upstreams = stack.enter_context(Upstreams())
        holder = PortHolder()
        stack.callback(holder.close)
        identities = Identities()
        identities.write(directory)
        assembler = Assembler(holder, upstreams.add, log, identities)
        ports = {}
        for caller in dict.fromkeys(call.caller for call in calls):
            assembled = assembler.assemble(compilation.snapshot(caller, plane.client), caller)
            place = directory / caller
            place.mkdir()
            stack.enter_context(running(plane, assembled.bootstrap, assembled.ports.values(), place))
            ports[caller] = assembled.ports
        servers = {name: upstreams.add(name) for name in read_servers(case / "calls.yaml")}
        sent: list[tuple[Call, str, Outcome]] = []
        for index, call in enumerate(calls):
            found.extend(
                _send_all(
                    call, index, Way(ports[call.caller][call.listener], identities, servers), upstreams, sent
                )
            )
        logged = read_log(log, {call_id for call, call_id, _ in sent if LOGGED & call.expect.keys()})
        for call, call_id, outcome in sent:
            outcome.logged = logged.get(call_id)
            found.extend(differences(call, outcome))
    return found


def _send_all(
    call: Call, index: int, way: Way, upstreams: Upstreams, sent: list[tuple[Call, str, Outcome]]
) -> list[str]:
    answered: Counter[str] = Counter()
    found: list[str] = []
    for number in range(call.repeat):
        call_id = f"call-{index}-{number}"
        outcome = send(call, way, call_id)
        found.extend(wait_mirrored(call, call_id, upstreams))
        outcome.received = list(upstreams.seen[call_id])
        answered[outcome.headers.get("x-endpoint", f"status {outcome.status}")] += 1
        sent.append((call, call_id, outcome))
    if "shares" in call.expect:
        found.extend(share_differences(call, answered))
    if call.expect.get("sticky"):
        found.extend(sticky_differences(call, answered))
    return found
