"""A TCP relay that keeps what passes through it, and a reading of TLS records."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

TLS_1_3 = b"\x03\x04"
HANDSHAKE, APPLICATION_DATA, CHANGE_CIPHER_SPEC = 22, 23, 20


@dataclass
class Tap:
    """Listens on `port` and connects to `target`; `seen` are the bytes of each connection, to and from the target."""

    target: int = 0
    seen: list[tuple[bytearray, bytearray]] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Tap:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._open):
            each.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self._open += [near, far]
            sent, received = bytearray(), bytearray()
            self.seen.append((sent, received))
            self._start(_copy, near, far, sent)
            self._start(_copy, far, near, received)


def _copy(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    try:
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and content of each whole TLS record (RFC 8446 §5.1)."""
    at = 0
    while at + 5 <= len(data):
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if at + 5 + length > len(data):
            return
        yield data[at], data[at + 5 : at + 5 + length]
        at += 5 + length


def versions(hello: bytes) -> bytes:
    """What supported_versions says (RFC 8446 §4.2.1): a client's list, or the one that a server chose."""
    body = _extension(hello, 43)
    return body[1:] if hello[0] == 1 else body


def chosen_group(server_hello: bytes) -> int:
    """The key exchange that a server took (RFC 8446 §4.2.8), by its number in IANA's registry."""
    return int.from_bytes(_extension(server_hello, 51)[:2], "big")


def _extension(hello: bytes, wanted: int) -> bytes:
    """The content of an extension of a hello; empty when it is not there."""
    kind = hello[0]
    at = 4 + 2 + 32
    at += 1 + hello[at]
    if kind == 1:
        at += 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 1 + hello[at]
    else:
        at += 3
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    while at < end:
        name, length = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        if name == wanted:
            return hello[at + 4 : at + 4 + length]
        at += 4 + length
    return b""
