"""Keeps web pages away from the admin API: no foreign name as Host, no other page's address as Origin."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

_OWN_FETCHES = frozenset({"same-origin", "none"})
"""What a browser calls a request of our own pages, or one that its user typed (Sec-Fetch-Site, W3C Fetch Metadata)."""


@dataclass(frozen=True, slots=True)
class Headed:
    """The headers that tell where a request was made, None where there is none."""

    host: str
    origin: str | None = None
    site: str | None = None


def refusal(asked: Headed, scheme: str) -> str | None:
    """Why a request with these headers is refused, or None.

    A page that rebinds its own name to 127.0.0.1 still sends that name as Host: without TLS, only local names are
    taken. A page that posts across origins, also that of another local server, sends its own address as Origin.
    """
    if scheme != "https" and _name(f"//{asked.host}") not in LOCAL:
        return f"Host {asked.host!r} is not a name of this machine's loopback"
    if asked.origin is not None and asked.origin.lower() != f"{scheme}://{asked.host}".lower():
        return f"Origin {asked.origin!r} may not use this API"
    if asked.site is not None and asked.site not in _OWN_FETCHES:
        return f"a page of another site may not use this API (Sec-Fetch-Site: {asked.site})"
    return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class NoForeignPages:
    """ASGI middleware that answers 403 to what :func:`refusal` refuses, and takes nothing but HTTP."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            hosts = headers.getlist("host")
            asked = Headed(hosts[0] if len(hosts) == 1 else "", headers.get("origin"), headers.get("sec-fetch-site"))
            reason = refusal(asked, scope["scheme"])
            if reason is not None:
                await Response(reason + "\n", 403, media_type="text/plain")(scope, receive, send)
                return
        await self.app(scope, receive, send)
