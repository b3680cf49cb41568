"""The demo's tour: one look at each thing the mesh does for the sample app, each verified."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tulle.api import wire
from tulle.cli.demo_picture import as_text, index, rows
from tulle.cli.demo_traffic import INTERNAL, STOREFRONT, Visitor
from tulle.status.edges import Proxy, collect
from tulle.supervisor.mesh import Mesh

CANARY = 600
PATIENCE = 10.0
READY_SECONDS = 120.0
SAMPLE = Path(__file__).resolve().parents[5] / "samples" / "bookshop" / "mesh"


class DidNotHold(Exception):
    """Something that should be true is not; the message says what was seen."""


Check = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Tour:
    """Runs beside the mesh, makes the tour once, then has the mesh stop."""

    failed: int = 0
    checks: list[str] = field(default_factory=list)
    _ready: asyncio.Future[dict[str, Any]] | None = None

    def announce(self, ready: dict[str, Any]) -> None:
        """The mesh is ready."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(ready)

    async def run(self, mesh: Mesh) -> None:
        """Waits for the mesh and makes the tour."""
        self._ready = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        try:
            ready = await asyncio.wait_for(self._ready, READY_SECONDS)
        except TimeoutError:
            self.failed += 1
            self.checks.append("the mesh becomes ready")
            print(f"× the mesh becomes ready: not within {READY_SECONDS:g} s", flush=True)
            mesh.stop.set()
            return
        print(f"The mesh is ready after {time.monotonic() - began:.1f} s. Admin API: {ready['api']}\n", flush=True)
        visitor = Visitor(ready)
        api = httpx.AsyncClient(base_url=ready["api"], timeout=PATIENCE, trust_env=False)
        try:
            for name, check in _Stops(ready, visitor, api).all():
                await self._verify(name, check)
        finally:
            await visitor.close()
            await api.aclose()
            mesh.stop.set()

    async def _verify(self, name: str, check: Check) -> None:
        self.checks.append(name)
        try:
            seen, mark = await check(), "√"
        except (DidNotHold, httpx.HTTPError, OSError) as error:
            seen, mark = f"{error or type(error).__name__}", "×"
            self.failed += 1
        print(f"{mark} {name}: {seen}", flush=True)


@dataclass(slots=True)
class _Stops:
    """The stops of the tour. Each returns what it saw, or raises `DidNotHold`."""

    ready: dict[str, Any]
    visitor: Visitor
    api: httpx.AsyncClient

    def all(self) -> list[tuple[str, Check]]:
        """The stops in their order, by what they verify."""
        return [
            ("every sidecar runs the newest configuration", self.sidecars),
            ("a page of the shop comes through three levels of services", self.page),
            ("one reader in ten gets version 2 of the reviews", self.canary),
            ("with the header user-type: internal everybody does", self.header),
            ("plaintext at a sidecar's inbound port gets nothing", self.plaintext),
            ("a wrong field is refused with its place", self.refusal),
            ("new weights take effect without a restart", self.weights),
            ("every edge is counted and mutually authenticated", self.counters),
        ]

    async def sidecars(self) -> str:
        status = (await self.api.get("/v1/status")).json()
        behind = [each["name"] for each in status["proxies"] if not each["connected"] or not each["synced"]]
        if behind:
            raise DidNotHold(f"not current: {', '.join(behind)}")
        return f"{len(status['proxies'])} sidecars, revision {status['control_plane']['revision']}"

    async def page(self) -> str:
        answer = await self.visitor.http.get(f"{STOREFRONT}/books/1", headers=INTERNAL)
        _require(answer.status_code == 200, f"GET /books/1 answered {answer.status_code}: {answer.text[:200]}")
        _require("stars" in answer.text, "the stars of the ratings service are missing")
        ordered = await self.visitor.http.post(f"{STOREFRONT}/orders", json={"book": "1", "copies": 1})
        _require(ordered.is_success, f"POST /orders answered {ordered.status_code}: {ordered.text[:200]}")
        return "GET /books/1 and POST /orders"

    async def canary(self) -> str:
        seen = Counter([await self.visitor.version() for _ in range(CANARY)])
        share = seen["v2"] / CANARY
        _require(set(seen) == {"v1", "v2"} and 0.05 <= share <= 0.15, f"of {CANARY}: {dict(seen)}")
        return f"{seen['v2']} of {CANARY} ({share:.1%})"

    async def header(self) -> str:
        seen = Counter([await self.visitor.version(INTERNAL) for _ in range(50)])
        _require(set(seen) == {"v2"}, f"of 50: {dict(seen)}")
        return "50 of 50"

    async def plaintext(self) -> str:
        ports = [each["inbound"] for each in self.ready["workloads"] if each["ports"]]
        for port in ports:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
            try:
                answer = await asyncio.wait_for(reader.read(100), PATIENCE)
            except ConnectionResetError:
                answer = b""
            writer.close()
            _require(not answer, f"port {port} answered {answer!r}")
        return f"{len(ports)} ports"

    async def refusal(self) -> str:
        text = (SAMPLE / "reviews-canary.yaml").read_text(encoding="utf-8").replace("weight: 90", "wieght: 90")
        before = (await self.api.get("/v1/status")).json()["control_plane"]["revision"]
        answer = await self._apply("canary.yaml", text)
        after = (await self.api.get("/v1/status")).json()["control_plane"]["revision"]
        _require(answer.status_code == 422 and before == after, f"answered {answer.status_code}")
        found = answer.json()["diagnostics"][0]
        place = f"{found['source']['file']}:{found['source']['line']}:{found['source']['column']}"
        return f"{place}: {found['field']}: {found['message']}"

    async def weights(self) -> str:
        text = (SAMPLE / "reviews-canary.yaml").read_text(encoding="utf-8")
        text = text.replace("weight: 90", "weight: 0").replace("weight: 10\n", "weight: 100\n")
        began = time.monotonic()
        answer = await self._apply("canary.yaml", text)
        _require(answer.is_success, f"apply answered {answer.status_code}: {answer.text[:200]}")
        while {await self.visitor.version() for _ in range(5)} != {"v2"}:
            _require(time.monotonic() - began < PATIENCE, "the old version still answers")
        return f"all readers get version 2, {(time.monotonic() - began) * 1000:.0f} ms after the request to apply"

    async def counters(self) -> str:
        proxies = [Proxy(each["namespace"], each["name"], each["admin"]) for each in self.ready["workloads"]]
        began = time.monotonic()
        found = rows({}, index(await collect(proxies)), 1.0)
        while len(found) < 8 and time.monotonic() - began < PATIENCE:
            found = rows({}, index(await collect(proxies)), 1.0)
        missing = {"storefront", "catalog", "reviews", "ratings", "orders", "payments", "inventory"} - {
            row.destination.partition("-")[0] for row in found
        }
        table = as_text(found, "REQUESTS")
        plain = [f"{row.source} → {row.destination}" for row in found if row.mtls < 1.0]
        _require(not missing, f"no requests counted to {', '.join(sorted(missing))}\n{table}")
        _require(not plain, f"not all mutual TLS: {', '.join(plain)}\n{table}")
        return f"{len(found)} edges\n\n{table}\n"

    async def _apply(self, file: str, text: str) -> httpx.Response:
        request = wire.ApplyRequest(documents=[wire.Document(file=file, text=text)])
        import msgspec

        headers = {"content-type": "application/json"}
        return await self.api.post("/v1/apply", content=msgspec.json.encode(request), headers=headers)


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise DidNotHold(otherwise)
