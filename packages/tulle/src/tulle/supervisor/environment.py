"""Environment variables by which a program's HTTP traffic leaves through a sidecar; the standard library only."""

from __future__ import annotations


def proxy_variables(address: str, outbound: int) -> dict[str, str]:
    """The variables by which HTTP clients use a proxy; loopback stays direct so that `upstreams` ports work."""
    host = f"[{address}]" if ":" in address else address
    proxy = f"http://{host}:{outbound}"
    direct = "localhost,127.0.0.1,::1"
    return {
        "http_proxy": proxy,
        "HTTP_PROXY": proxy,
        "no_proxy": direct,
        "NO_PROXY": direct,
        "NODE_USE_ENV_PROXY": "1",
    }
