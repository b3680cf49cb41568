"""What concurrent callers saw: a recorded history of calls, each with when it began and ended and what became of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh_load import Connection

CALLERS = 3
ALLOWED, UNSERVED = 200, 0
"""Of a request its status; of a TCP connection whether it was served."""

Attempt = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Call:
    """When it began and ended, by the clock that all callers share, and what became of it."""

    began: float
    ended: float
    status: int


@dataclass
class History:
    """Callers that make attempts one after another, each caller with an attempt of its own from `attempts`."""

    attempts: Callable[[], Attempt]
    calls: list[Call] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> History:
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self) -> None:
        attempt = self.attempts()
        while not self._ended.is_set():
            began = time.monotonic()
            status = attempt()
            self.calls.append(Call(began, time.monotonic(), status))

    def saw(self, status: int, since: float) -> bool:
        """Whether a call that began after `since` has ended so."""
        return any(each.status == status and each.began > since for each in list(self.calls))

    def within(self, begin: float, end: float) -> list[Call]:
        """The calls that began and ended between these times."""
        return [each for each in list(self.calls) if begin < each.began and each.ended < end]


def requests(port: int, authority: str, headers: dict[str, str] | None = None) -> Callable[[], Attempt]:
    """Requests on a connection that stays open for as long as the mesh lets it."""

    def caller() -> Attempt:
        connection = Connection(port, authority)

        def attempt() -> int:
            try:
                return connection.get(headers=headers)[0]
            except OSError:
                connection.close()
                return UNSERVED

        return attempt

    return caller


class Line:
    """A TCP connection to a server that answers in capitals."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)

    def is_served(self) -> bool:
        """Whether what is said is answered."""
        try:
            self._socket.sendall(b"line\n")
            return self._socket.recv(16) == b"LINE\n"
        except OSError:
            return False

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


def connections(port: int) -> Callable[[], Attempt]:
    """New connections, one after another."""

    def attempt() -> int:
        try:
            line = Line(port)
        except OSError:
            return UNSERVED
        served = line.is_served()
        line.close()
        return ALLOWED if served else UNSERVED

    return lambda: attempt
