"""Opens the sockets of the control plane's web servers."""

from __future__ import annotations

import socket

BACKLOG = 128


def listen(address: str) -> tuple[socket.socket, str]:
    """A socket that listens at `host:port` (port 0: any free one; IPv6 in brackets), and the host as written.

    Raises OSError.
    """
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    if not (bare and port.isascii() and port.isdigit()):
        raise OSError(f"an address to listen at must be HOST:PORT, not {address!r}")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    # Named, since asyncio switches Nagle's algorithm off only where it sees that a socket is one of TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bare, int(port)))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(f"cannot listen at {address}: {error}") from error
    return listener, host
