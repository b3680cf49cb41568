"""Turns two outcomes into lists of facts without what differs from run to run, and lists the facts that differ."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from differ.case import Call
from differ.record import Answer, Outcome, Received
from harness.h1 import Headers

IGNORED = {"date"}
"""Headers that say nothing about behaviour."""

LOOSE = {
    "x-request-id": (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    "x-envoy-upstream-service-time": (r"\d+", "<ms>"),
    "x-envoy-expected-rq-timeout-ms": (r"\d{2,}", "<ms>"),
    "bandwidth-request-delay-ms": (r"\d+", "<ms>"),
    "bandwidth-request-filter-delay-ms": (r"\d+", "<ms>"),
    "bandwidth-response-delay-ms": (r"\d+", "<ms>"),
    "bandwidth-response-filter-delay-ms": (r"\d+", "<ms>"),
}
"""Headers whose value is checked for its form only: the pattern that it must have, and what stands for it."""

TEXT_LIMIT = 160


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One fact, named by a path such as `answer[0].header.server`, that is not the same in both."""

    call: str
    fact: str
    envoy: str
    tulle: str


def differences(call: Call, envoy: Outcome, tulle: Outcome) -> list[Difference]:
    """What differs between the two outcomes of `call`, in order of the facts' names."""
    if call.share:
        return [*_unfair(call, "envoy", envoy), *_unfair(call, "tulle", tulle)]
    left, right = dict(_facts(envoy)), dict(_facts(tulle))
    found = []
    for fact in sorted(left.keys() | right.keys()):
        if any(re.fullmatch(pattern, fact) for pattern in call.ignore):
            continue
        one, other = left.get(fact, "absent"), right.get(fact, "absent")
        if one != other:
            found.append(Difference(call.name, fact, one, other))
    return found


def _unfair(call: Call, who: str, outcome: Outcome) -> list[Difference]:
    """Shares that chance (five standard deviations) does not explain."""
    found = []
    total = sum(outcome.counts.values())
    for name in sorted(call.share.keys() | outcome.counts.keys()):
        share, got = call.share.get(name, 0.0), outcome.counts.get(name, 0)
        slack = 5 * math.sqrt(call.repeat * share * (1 - share))
        if total != call.repeat or abs(got - call.repeat * share) > slack:
            wanted = f"{call.repeat * share:.0f} ± {slack:.0f} of {call.repeat}"
            sides = (str(got), wanted) if who == "envoy" else (wanted, str(got))
            found.append(Difference(call.name, f"share.{name}", *sides))
    return found


def _facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    seen = outcome.seen
    yield "fate", seen.fate
    yield "raw", _bytes(seen.raw)
    yield "answers", str(len(seen.answers))
    for index, wait in enumerate(seen.waits):
        yield f"waits[{index}]", wait
    for index, answer in enumerate(seen.answers):
        yield from _answer_facts(f"answer[{index}]", answer)
    yield "attempts", " ".join(entry.upstream for entry in outcome.received)
    for index, entry in enumerate(outcome.received):
        yield from _received_facts(f"received[{index}]", entry)
        if entry.proxied:
            yield f"received[{index}].proxied", _addresses(entry.proxied, seen.ports)
    for name, text in outcome.control.items():
        yield f"control.{name}", text
    yield "log", str(len(outcome.logs))
    for index, line in enumerate(sorted(outcome.logs, key=lambda each: str(each.get("path")))):
        for name, value in line.items():
            # Envoy lists flags in the order in which they were raised, which is no contract.
            text = ",".join(sorted(str(value).split(","))) if name == "flags" else str(value)
            yield f"log[{index}].{name}", text


def _answer_facts(path: str, answer: Answer) -> Iterator[tuple[str, str]]:
    yield f"{path}.status", str(answer.status)
    yield f"{path}.body", _bytes(answer.body)
    yield f"{path}.interim", str(list(answer.interim))
    yield f"{path}.end", answer.end
    yield f"{path}.capitals", _capitals(answer.names)
    yield from _header_facts(f"{path}.header", answer.headers)
    yield from _header_facts(f"{path}.trailer", answer.trailers)


def _received_facts(path: str, entry: Received) -> Iterator[tuple[str, str]]:
    yield f"{path}.line", f"{entry.protocol} {entry.method} {entry.path}"
    yield f"{path}.connection", str(entry.connection)
    yield f"{path}.body", _bytes(entry.body)
    yield f"{path}.capitals", _capitals(entry.names)
    yield from _header_facts(f"{path}.header", entry.headers)
    yield from _header_facts(f"{path}.trailer", entry.trailers)


def _header_facts(path: str, headers: Headers) -> Iterator[tuple[str, str]]:
    """One fact a name; the values of a repeated header keep their order."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name not in IGNORED:
            values.setdefault(name, []).append(_loose(name, value))
    for name, texts in values.items():
        yield f"{path}.{name}", " | ".join(texts)


def _capitals(names: tuple[str, ...]) -> str:
    """The names that are not in lower case."""
    return " ".join(sorted({name for name in names if name != name.lower()}))


def _addresses(text: str, ports: list[int]) -> str:
    """The client's own address is known by its port; other ports differ from run to run."""
    for port in ports:
        text = text.replace(f"127.0.0.1:{port} ", "<client> ")
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:<port>", text)


def _loose(name: str, value: str) -> str:
    if name == "x-forwarded-for":
        # For a loopback peer Envoy writes an address of the machine.
        value = re.sub(r"[0-9.]+$", "<peer>", value)
    if name in {"set-cookie", "cookie", "x-session"}:
        value = re.sub(r"[A-Za-z0-9+/]{16,}={0,2}", _session, value)
    form = LOOSE.get(name)
    if form is not None and re.fullmatch(form[0], value):
        return form[1]
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:<port>", value)


def _session(match: re.Match[str]) -> str:
    """The base64 of an endpoint's address, or a hash of the client's: their ports differ from run to run."""
    if re.fullmatch("[0-9a-f]{16}", match.group(0)):
        return "<hash>"
    try:
        content = base64.b64decode(match.group(0), validate=True).decode("latin-1")
    except ValueError:
        return match.group(0)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:<port>", repr(content))


def _bytes(data: bytes) -> str:
    """The bytes as text when they are short, else their number and hash."""
    if len(data) <= TEXT_LIMIT:
        return data.decode("latin-1")
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}"


def facts(outcome: Outcome) -> dict[str, Any]:
    """Everything that is compared about an outcome, for a look at what a proxy does."""
    return dict(_facts(outcome))
