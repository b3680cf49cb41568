"""Load on a sidecar's outbound listener: keep-alive connections that count every answer and every failure."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

TIMEOUT = 10.0
PACE = 0.004
"""Seconds that each thread waits after an answer: load that leaves time for what it is the background of."""


class Ended(Exception):
    """The connection ended before the first byte of an answer."""


class Unserved(ConnectionResetError):
    """A fresh connection ended before the first byte of an answer."""


@dataclass
class Connection:
    """One keep-alive connection to a proxy."""

    port: int
    authority: str
    _socket: socket.socket | None = None
    _used: int = 0

    def get(self, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """One GET: (status, body). Raises OSError; a reused connection that was closed meanwhile is replaced once.

        (RFC 9112 §9.3.1 lets a client repeat a request when a reused connection ends before any answer.)
        """
        try:
            return self._exchange(path, headers or {})
        except Ended:
            if self._used == 0:
                raise Unserved("closed before an answer") from None
        self.close()
        try:
            return self._exchange(path, headers or {})
        except Ended:
            raise Unserved("closed before an answer") from None

    def close(self) -> None:
        """Ends the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._used = None, 0

    def _exchange(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = self._connect()
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._used = 0
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.authority}", *(f"{k}: {v}" for k, v in headers.items())]
        try:
            self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            head = self._read_head()
        except (ConnectionResetError, BrokenPipeError):
            raise Ended from None
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = self._read_exactly(int(fields[b"content-length"]))
        self._used += 1
        if fields.get(b"connection") == b"close":
            self.close()
        return status, body

    def _connect(self) -> socket.socket:
        try:
            return socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        except ConnectionResetError:
            # The listening socket closed between the handshake's packets: no connection came about, as with a refusal.
            raise ConnectionRefusedError("reset while connecting") from None

    def _read_head(self) -> bytes:
        assert self._socket is not None
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise Ended
            self._rest += chunk
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head

    def _read_exactly(self, length: int) -> bytes:
        assert self._socket is not None
        while len(self._rest) < length:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionResetError("the body was cut")
            self._rest += chunk
        return self._rest[:length]


@dataclass
class Load:
    """Threads that send requests until they are stopped, or until the port refuses connections."""

    port: int
    authority: str
    threads: int = 4
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    refused_is_the_end: bool = False
    unserved_before_the_end: bool = False
    """Each thread's last connection may go unserved: stock Envoy closes a listening socket without taking what the
    kernel has queued on it, and the kernel resets that. Anything but a refusal afterwards makes it a failure."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._running = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()

    @property
    def total(self) -> int:
        """How many requests were answered with 200."""
        return sum(self.answers.values())

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Waits until that many more requests have been answered."""
        goal, deadline = self.total + more, time.monotonic() + seconds
        while self.total < goal:
            assert time.monotonic() < deadline, f"{goal - self.total} answers missing; failures: {self.failures[:5]}"
            assert len(self.failures) < 50, self.failures[:5]
            time.sleep(0.005)

    def _work(self) -> None:
        connection = Connection(self.port, self.authority)
        unserved: list[str] = []
        while not self._stop.is_set():
            try:
                status, body = connection.get()
            except ConnectionRefusedError:
                if self.refused_is_the_end:
                    return
                self.failures.append("refused")
                continue
            except Unserved as error:
                connection.close()
                if self.unserved_before_the_end and not unserved:
                    unserved.append(f"{type(error).__name__}: {error}")
                    continue
                self.failures.append(f"{type(error).__name__}: {error}")
            except OSError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
            else:
                if status == 200:
                    self.answers[json.loads(body)["name"]] += 1
                else:
                    self.failures.append(f"{status} {body!r:.100}")
                self.failures += unserved
                unserved.clear()
                self._stop.wait(PACE)
        connection.close()
