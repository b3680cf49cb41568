"""Chooses free TCP ports and keeps them ours between choosing and use, so that meshes run side by side."""

from __future__ import annotations

import random
import socket
import sys
from dataclasses import dataclass, field

LOWEST = 20_000
HIGHEST = 32_700
"""Below Linux's ephemeral range (32768 and up), so that no outgoing connection sits on a chosen port."""

ATTEMPTS = 2_000


class NoFreePort(OSError):
    """Every attempt found its port in use."""


@dataclass(slots=True)
class PortBook:
    """The ports that this mesh uses.

    A reserved port is bound but never listened on, with SO_REUSEPORT: proxies of the same user that set
    SO_REUSEPORT themselves may listen on it, while everybody who asks for an unused port is told it is taken.
    A chosen one cannot be bound, since its owner asks for it without SO_REUSEPORT; until that has it, other meshes of
    this machine are told by a name (:func:`_claim`).
    """

    chance: random.Random
    _held: dict[tuple[str, int], list[socket.socket]] = field(default_factory=dict)

    def reserve(self, address: str = "127.0.0.1") -> int:
        """A free port of ``address``, held until :meth:`release`, for a listener that sets SO_REUSEPORT."""
        return self._find(address, hold=True)

    def choose(self, address: str = "127.0.0.1") -> int:
        """A free port of ``address``, which no other mesh chooses, for a listener without SO_REUSEPORT."""
        return self._find(address, hold=False)

    def release(self, address: str, port: int) -> None:
        """Gives a port back."""
        for held in self._held.pop((address, port), []):
            held.close()

    def close(self) -> None:
        """Gives everything back."""
        for address, port in list(self._held):
            self.release(address, port)

    def _find(self, address: str, *, hold: bool) -> int:
        for _ in range(ATTEMPTS):
            port = self.chance.randint(LOWEST, HIGHEST)
            if (address, port) in self._held or not _is_free(address, port):
                continue
            claim = _claim(address, port)
            if claim is None:
                continue
            self._held[address, port] = [claim, _hold(address, port)] if hold else [claim]
            return port
        raise NoFreePort(f"no free port on {address} between {LOWEST} and {HIGHEST}")


def _is_free(address: str, port: int) -> bool:
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        # Without SO_REUSEADDR, with which Linux would let two sockets share a port that nobody listens on yet.
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _claim(address: str, port: int) -> socket.socket | None:
    """Something that only one process has while it lives, for each port; None when another one has it.

    On Linux a name in the abstract namespace of Unix sockets: the kernel takes it back, however the process ends.
    Elsewhere there is none, and meshes that start at the same moment may choose the same port.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if sys.platform == "linux":
        try:
            claim.bind(f"\0tulle/port/{address}/{port}")
        except OSError:
            claim.close()
            return None
    return claim


def _hold(address: str, port: int) -> socket.socket:
    held = socket.socket(_family(address), socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((address, port))
    except OSError:
        held.close()
        raise
    return held


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
