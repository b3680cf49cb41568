"""Finds out whether a process on this machine is ready: by HTTP, or by whether its ports take connections; in the
machine's network namespace or in that of a workload.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Awaitable, Callable, Sequence

import httpx

from tulle.supervisor.namespace import Namespace

EAGER = 0.1
CALM = 1.0
"""Seconds between probes before and after the first success."""

FAILURES = 3
"""How many probes in a row must fail for something that was ready not to be."""

WITHIN_PATIENCE = 2.0
"""Seconds that an application may take for an answer to a probe from inside its namespace."""

Probe = Callable[[], Awaitable[bool]]


def http_probe(client: httpx.AsyncClient, url: str) -> Probe:
    """Ready when a GET answers with a status of 200 to 399."""

    async def probe() -> bool:
        try:
            return 200 <= (await client.get(url)).status_code < 400
        except httpx.HTTPError:
            return False

    return probe


def port_probe(address: str, ports: Sequence[int]) -> Probe:
    """Ready when every port takes a connection."""

    async def probe() -> bool:
        for port in ports:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError:
                return False
            writer.close()
        return True

    return probe


def http_probe_within(namespace: Namespace, address: tuple[str, int], path: str) -> Probe:
    """The same as :func:`http_probe`, from inside."""

    def look() -> bool:
        connection = http.client.HTTPConnection(*address, timeout=WITHIN_PATIENCE)
        try:
            connection.request("GET", path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return lambda: namespace.run(look)


def port_probe_within(namespace: Namespace, address: str, ports: Sequence[int]) -> Probe:
    """The same as :func:`port_probe`, from inside."""

    def look() -> bool:
        try:
            for port in ports:
                socket.create_connection((address, port), WITHIN_PATIENCE).close()
        except OSError:
            return False
        return True

    return lambda: namespace.run(look)


async def watch(probe: Probe, tell: Callable[[bool], None], period: float = CALM) -> None:
    """Probes for ever and tells each change; begins from "not ready"."""
    ready, failures = False, 0
    while True:
        good = await probe()
        failures = 0 if good else failures + 1
        if good != ready and (good or failures >= FAILURES):
            ready = good
            tell(ready)
        await asyncio.sleep(period if ready and good else EAGER)
