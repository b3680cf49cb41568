"""Who calls the admin API: the address, and for a caller on this machine the user that the kernel says it is."""

from __future__ import annotations

from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

CALLER: ContextVar[str] = ContextVar("CALLER", default="")
"""Of the request that is being served; empty outside of one."""

_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
_LOCAL, _UID = 1, 7
_SAFE = {"GET", "HEAD", "OPTIONS"}


class NoteCaller:
    """ASGI middleware that sets `CALLER` for requests that may change something."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        client = scope.get("client") if scope["type"] == "http" and scope["method"] not in _SAFE else None
        token = CALLER.set(describe(*client) if client is not None else "")
        try:
            await self.app(scope, receive, send)
        finally:
            CALLER.reset(token)


def describe(host: str, port: int) -> str:
    """`HOST:PORT`, followed by the user id of whoever has that end of the connection, if it is on this machine."""
    try:
        address = ip_address(host)
        table = _TABLES[address.version].read_text()
    except (ValueError, OSError):
        return f"{host}:{port}"
    words = [address.packed[at : at + 4][::-1].hex() for at in range(0, len(address.packed), 4)]
    wanted = f"{''.join(words)}:{port:04x}".upper()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[_LOCAL] == wanted:
            return f"{host}:{port} uid {fields[_UID]}"
    return f"{host}:{port}"
