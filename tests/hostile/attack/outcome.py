"""What may come of an attack: each outcome judges what the attacker heard and what the application received."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from attack.upstream import Asked, Recording
from attack.wire import CLOSED, RESET, Heard

GOOD = "/good"
"""The path of the good requests that come after; they are not the attack's."""


class Outcome(Protocol):
    """Judges; `expected` is how many final responses there should be before the connection is looked at."""

    @property
    def expected(self) -> int: ...

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]: ...


def of_the_attack(received: Recording) -> list[Asked]:
    """The requests that are not good ones."""
    return [each for each in received.requests if not each.path.startswith(GOOD)]


def _nothing_upstream(received: Recording) -> Iterable[str]:
    reached = of_the_attack(received)
    if reached:
        yield f"reached the application: {[(each.method, each.path, each.body[:80]) for each in reached]}"
    good = [request for request in received.all_bytes().split(b"GET /good") if request]
    if received.all_bytes() and not received.all_bytes().startswith(b"GET /good"):
        yield f"bytes reached the application: {good[0][:200]!r}"


@dataclass(frozen=True, slots=True)
class Refused:
    """400c: one answer with such a status, the connection ends, and not one byte goes upstream."""

    statuses: Sequence[int] = (400,)
    expected: int = 0

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        if len(heard.statuses) != 1 or heard.statuses[0] not in self.statuses:
            yield f"answered {heard.statuses}, not {list(self.statuses)}"
        if heard.fate not in {CLOSED, RESET}:
            yield f"the connection is {heard.fate}"
        yield from _nothing_upstream(received)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Answered with such a status, whatever becomes of the connection, and nothing goes upstream."""

    statuses: Sequence[int] = (403,)
    expected: int = 1

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        if len(heard.statuses) != 1 or heard.statuses[0] not in self.statuses:
            yield f"answered {heard.statuses}, not {list(self.statuses)}"
        yield from _nothing_upstream(received)


Check = Callable[[Asked, str], str | None]
"""Says what is wrong with a request; the text is the authority of good requests in the position."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Served: the application gets exactly one request, at `path`, and every check of it holds."""

    path: str | None = None
    checks: Sequence[Check] = ()
    expected: int = 1

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        if heard.statuses != [200]:
            yield f"answered {heard.statuses}, not [200]"
        reached = of_the_attack(received)
        if len(reached) != 1:
            yield f"the application received {[(each.method, each.path) for each in reached]}"
            return
        if self.path is not None and reached[0].path != self.path:
            yield f"the application was asked for {reached[0].path!r}, not {self.path!r}"
        yield from (fault for check in self.checks if (fault := check(reached[0], host)) is not None)


@dataclass(frozen=True, slots=True)
class Either:
    """Any of these is safe."""

    outcomes: Sequence[Outcome]
    expected: int = 1

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        found = [list(each.faults(heard, received, host)) for each in self.outcomes]
        if all(found):
            yield "; or ".join(", ".join(each) for each in found)


def absent(*names: str) -> Check:
    """None of these headers arrives."""

    def check(asked: Asked, host: str) -> str | None:
        found = [(key, value) for key, value in asked.headers if key in names]
        return f"arrived: {found}" if found else None

    return check


def has(name: str, *values: str) -> Check:
    """The header arrives with exactly these values."""

    def check(asked: Asked, host: str) -> str | None:
        found = asked.values(name)
        wanted = [value.replace("%HOST%", host) for value in values]
        return None if found == wanted else f"{name} is {found}, not {wanted}"

    return check


def lacks(name: str, text: str) -> Check:
    """No value of the header has the text in it."""

    def check(asked: Asked, host: str) -> str | None:
        found = [value for value in asked.values(name) if text in value]
        return f"{name} has {text!r}: {found}" if found else None

    return check


def once(name: str) -> Check:
    """The header arrives once and says something."""

    def check(asked: Asked, host: str) -> str | None:
        found = asked.values(name)
        return None if len(found) == 1 and found[0] else f"{name} is {found}, not one value"

    return check


def sent(body: bytes) -> Check:
    """The body arrives whole, without trailers."""

    def check(asked: Asked, host: str) -> str | None:
        if asked.trailers:
            return f"trailers arrived: {asked.trailers}"
        return None if asked.body == body else f"the body is {asked.body!r}, not {body!r}"

    return check
