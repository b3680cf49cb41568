"""The order in which a mesh ends, so that no request in flight is cut off: callers first, then whom they call.

A sidecar that no other sidecar is connected to has no caller left in the mesh. Its application ends, then it drains
and ends; with it go its connections to others, which thereby become free of callers. Where workloads call each
other in a circle, the whole circle drains at once, and its applications end after their sidecars.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import httpx

from tulle.supervisor.site import LOOPBACK
from tulle.supervisor.unit import Unit

ACTIVE = re.compile(r'^envoy_listener_downstream_cx_active\{[^}]*envoy_listener_address="([^"]+)"[^}]*\} (\d+)', re.M)
SETTLE = 0.05
"""Seconds between looks at who is still connected."""


async def inbound_connections(unit: Unit, http: httpx.AsyncClient) -> int:
    """How many connections the sidecar's inbound listeners have; 0 when it is not there."""
    if not unit.site.inbound:
        return 0
    try:
        text = (await http.get(f"http://{LOOPBACK}:{unit.site.admin}/stats/prometheus")).text
    except httpx.HTTPError:
        return 0
    return count_active(text, {port.listen for port in unit.site.inbound})


def count_active(metrics: str, ports: set[int]) -> int:
    """Sums the active connections of the listeners on ``ports``, from a Prometheus text.

    tulle-proxy leaves out listeners that have had no connection yet. Envoy writes an address with an underscore.
    """
    return sum(int(n) for at, n in ACTIVE.findall(metrics) if int(re.split("[_:]", at)[-1]) in ports)


async def stop_all(units: Sequence[Unit], http: httpx.AsyncClient) -> None:
    """Ends all units in the order that this module describes."""
    left = list(units)
    while left:
        counts = await asyncio.gather(*(inbound_connections(unit, http) for unit in left))
        uncalled = [unit for unit, count in zip(left, counts, strict=True) if count == 0]
        if uncalled:
            await asyncio.gather(*(_caller(unit) for unit in uncalled))
        else:
            await asyncio.gather(*(_circle(unit) for unit in left))
            return
        left = [unit for unit in left if unit not in uncalled]
        await asyncio.sleep(SETTLE)


async def _caller(unit: Unit) -> None:
    await unit.stop_app()
    await unit.stop_proxy()


async def _circle(unit: Unit) -> None:
    await unit.stop_proxy()
    await unit.stop_app()
