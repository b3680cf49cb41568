"""The demo that stays: traffic in the background, the picture again and again."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tulle.cli.demo_picture import HEADERS, as_text, index, rows
from tulle.cli.demo_traffic import Visitor
from tulle.status.edges import Proxy, collect
from tulle.supervisor.mesh import Mesh

VISITORS = 4
INTERVAL = 2.0
PLAIN_INTERVAL = 5.0


class Live:
    """Runs beside the mesh until it stops."""

    def __init__(self) -> None:
        self._ready: asyncio.Future[dict[str, Any]] | None = None

    def announce(self, ready: dict[str, Any]) -> None:
        """The mesh is ready."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(ready)

    async def run(self, mesh: Mesh) -> None:
        """Waits for the mesh, then sends traffic and shows it until the mesh is told to stop."""
        self._ready = asyncio.get_running_loop().create_future()
        ready = await self._ready
        visitor = Visitor(ready)
        browsing = [asyncio.create_task(visitor.browse()) for _ in range(VISITORS)]
        showing = asyncio.create_task(_show(ready))
        await mesh.stop.wait()
        for task in (*browsing, showing):
            task.cancel()
        await asyncio.gather(*browsing, showing, return_exceptions=True)
        await visitor.close()


async def _show(ready: dict[str, Any]) -> None:
    print(f"The mesh is ready. Admin API: {ready['api']}   Ctrl-C stops it.\n", flush=True)
    proxies = [Proxy(each["namespace"], each["name"], each["admin"]) for each in ready["workloads"]]
    if sys.stdout.isatty():
        await _redraw(proxies, ready["api"])
    before = index(await collect(proxies))
    while True:
        await asyncio.sleep(PLAIN_INTERVAL)
        after = index(await collect(proxies))
        print(as_text(rows(before, after, PLAIN_INTERVAL)), end="\n\n", flush=True)
        before = after


async def _redraw(proxies: list[Proxy], api: str) -> None:
    from rich.live import Live as Screen
    from rich.table import Table

    before = index(await collect(proxies))
    with Screen(refresh_per_second=4) as screen:
        while True:
            await asyncio.sleep(INTERVAL)
            after = index(await collect(proxies))
            table = Table(title=f"bookshop: the last {INTERVAL:g} s", caption=f"admin API {api}   Ctrl-C stops")
            for column, header in enumerate(HEADERS):
                table.add_column(header, justify="left" if column < 3 else "right")
            for row in rows(before, after, INTERVAL):
                table.add_row(*row.cells())
            screen.update(table)
            before = after
