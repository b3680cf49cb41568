"""Environment variables by which a program's HTTP traffic leaves through a sidecar; the standard library only."""

from __future__ import annotations


def proxy_variables(outbound: int) -> dict[str, str]:
    """The variables by which HTTP clients use a sidecar; loopback stays direct so that `upstreams` ports work.

    A sidecar's outbound listener is on loopback, whatever its workload's address is: it is for nobody else.
    """
    proxy = f"http://127.0.0.1:{outbound}"
    direct = "localhost,127.0.0.1,::1"
    return {
        "http_proxy": proxy,
        "HTTP_PROXY": proxy,
        "no_proxy": direct,
        "NO_PROXY": direct,
        "NODE_USE_ENV_PROXY": "1",
    }
