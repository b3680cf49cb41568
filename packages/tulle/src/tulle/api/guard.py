"""Keeps web pages away from the admin API: only local names as Host, only local pages as Origin."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def refusal(host: str, origin: str | None) -> str | None:
    """Why a request with these headers is refused, or None.

    A page that rebinds its own name to 127.0.0.1 still sends that name as Host; a page that posts across sites
    sends its own address as Origin.
    """
    if _name(f"//{host}") not in LOCAL:
        return f"Host {host!r} is not a name of this machine's loopback"
    if origin is not None and _name(origin) not in LOCAL:
        return f"Origin {origin!r} may not use this API"
    return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class LocalOnly:
    """ASGI middleware that answers 403 to what :func:`refusal` refuses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            reason = refusal(headers.get("host", ""), headers.get("origin"))
            if reason is not None:
                await Response(reason + "\n", 403, media_type="text/plain")(scope, receive, send)
                return
        await self.app(scope, receive, send)
