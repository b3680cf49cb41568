"""The harness sees what is different, leaves alone what differs by nature, and insists on what is accepted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from differ import compare, divergences, run
from differ.case import Call, Case
from differ.client import Way, take_steps
from differ.compare import Difference
from differ.pki import Pki
from differ.proxies import Held
from differ.record import Answer, Outcome, Received, Seen
from pydantic import ValidationError

from harness import h1

CALL = Call.model_validate({"name": "c", "get": "/"})


def _outcome(
    status: int = 200, headers: h1.Headers | None = None, upstream: str = "one", flags: str = "-"
) -> Outcome:
    seen = Seen([Answer(status, headers or [])])
    return Outcome(seen, [Received(upstream, "h1", "GET", "/", [])], [{"flags": flags, "path": "/"}])


def _facts(one: Outcome, other: Outcome) -> list[str]:
    return [each.fact for each in compare.differences(CALL, one, other)]


def test_equal_outcomes_have_no_difference() -> None:
    assert _facts(_outcome(), _outcome()) == []


def test_status_upstream_and_flags_are_compared() -> None:
    assert _facts(_outcome(), _outcome(503)) == ["answer[0].status"]
    assert _facts(_outcome(), _outcome(upstream="two")) == ["attempts"]
    assert _facts(_outcome(), _outcome(flags="UF")) == ["log[0].flags"]


def test_flags_have_no_order() -> None:
    assert _facts(_outcome(flags="UF,URX"), _outcome(flags="URX,UF")) == []


def test_headers_are_compared_without_order_but_their_values_with_it() -> None:
    assert (
        _facts(_outcome(headers=[("a", "1"), ("b", "2")]), _outcome(headers=[("b", "2"), ("a", "1")])) == []
    )
    assert _facts(_outcome(headers=[("a", "1"), ("a", "2")]), _outcome(headers=[("a", "2"), ("a", "1")])) == [
        "answer[0].header.a"
    ]


def test_values_that_differ_by_nature_are_checked_for_their_form() -> None:
    one = [("x-request-id", "0" * 8 + "-0000-4000-8000-" + "0" * 12), ("date", "x")]
    other = [("x-request-id", "1" * 8 + "-1111-4111-8111-" + "1" * 12), ("date", "y")]
    assert _facts(_outcome(headers=one), _outcome(headers=other)) == []
    assert _facts(_outcome(headers=one), _outcome(headers=[("x-request-id", "mine")])) == [
        "answer[0].header.x-request-id"
    ]


def test_shares_are_judged_for_each_proxy() -> None:
    call = Call.model_validate({"name": "c", "get": "/", "repeat": 1000, "share": {"one": 0.9, "two": 0.1}})
    fair, unfair = (
        Outcome(Seen(), [], counts={"one": 905, "two": 95}),
        Outcome(Seen(), [], counts={"one": 990, "two": 10}),
    )
    lossy = Outcome(Seen(), [], counts={"one": 900, "two": 90, "503": 10})
    assert compare.differences(call, fair, fair) == []
    assert [each.fact for each in compare.differences(call, fair, unfair)] == ["share.one", "share.two"]
    assert "share.503" in [each.fact for each in compare.differences(call, fair, lossy)]


def test_what_is_accepted_must_be_so() -> None:
    entry = divergences.Accepted("a/b", "c", "fate", "because")
    found = [Difference("c", "fate", "open", "closed"), Difference("c", "raw", "", "x")]
    assert divergences.judge(found, [entry]) == ([found[1]], [])
    assert divergences.judge([], [entry]) == ([], [entry])


def test_an_accepted_difference_needs_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "divergences.toml"
    file.write_text('[[accepted]]\ncase = "a/b"\ncall = "c"\nfact = "fate"\nreason = " "\n')
    with pytest.raises(ValueError, match="no reason"):
        divergences.load(file)


@pytest.mark.parametrize(
    "broken",
    [
        {"about": "x", "calls": [], "typo": 1},
        {"about": "x", "calls": [{"name": "c", "steps": [{"raw": "a", "read": 1}]}]},
        {"about": "x", "calls": [{"name": "c"}, {"name": "c"}]},
    ],
)
def test_a_case_that_says_something_unknown_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Case.model_validate(broken)


async def test_a_call_comes_from_the_port_that_it_is_known_by(certificates: Pki) -> None:
    peers: list[int] = []

    def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[1])
        writer.close()

    held = Held.take()
    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        way = Way(server.sockets[0].getsockname()[1], held.port)
        (await take_steps(CALL, way, certificates)).close()
    expected = held.port
    held.release()
    assert peers == [expected]


async def test_what_is_waited_for_is_asked_for_until_it_comes_and_may_not_come_too_early(
    certificates: Pki,
) -> None:
    statuses = iter(["500 x", "503 x", "503 x", "200 x"] * 2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {next(statuses)}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    def waiting(least: int) -> Call:
        request = "GET / HTTP/1.1\nhost: a\n\n"
        until = {"until": {"raw": request, "status": 200, "least": least}}
        return Call.model_validate({"name": "c", "steps": [{"raw": request}, {"read": 1}, until]})

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        way = Way(server.sockets[0].getsockname()[1])
        walks = [await take_steps(waiting(least), way, certificates) for least in (0, 60_000)]
        for walk in walks:
            walk.close()
    assert [[answer.status for answer in walk.seen.answers] for walk in walks] == [[500, 200]] * 2
    assert walks[0].seen.waits == ["in time"]
    assert walks[1].seen.waits[0].startswith("200 after "), "it came too early"


def test_log_lines_go_to_the_call_of_their_port_and_to_nobody_else() -> None:
    one, two = Outcome(Seen(), []), Outcome(Seen(), [])
    log = "\n".join(
        f'{{"peer": "127.0.0.1:{port}", "host": "127.0.0.1:{host}"}}'
        for port, host in ((1, 7), (2, 8), (3, 7))
    )
    run.add_logs({1: one, 2: two}, log, {"127.0.0.1:7": "up"})
    assert (one.logs, two.logs) == ([{"host": "up"}], [{"host": "127.0.0.1:8"}])
