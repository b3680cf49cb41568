"""The demo's visitors: HTTP requests that leave through a workload's sidecar."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import httpx

STOREFRONT = "http://storefront"
REVIEWS = "http://reviews:9080"
INTERNAL = {"user-type": "internal"}


class Visitor:
    """A client of the mesh behind one sidecar."""

    def __init__(self, ready: dict[str, Any]) -> None:
        own = next(each for each in ready["workloads"] if each["name"] == "visitor")
        proxy = f"http://{own['address']}:{own['outbound']}"
        self.http = httpx.AsyncClient(proxy=proxy, timeout=10.0, trust_env=False)

    async def close(self) -> None:
        """Ends the connections."""
        await self.http.aclose()

    async def version(self, headers: dict[str, str] | None = None) -> str:
        """Which version of the reviews answers one request; `status 503` and the like when none does."""
        answer = await self.http.get(f"{REVIEWS}/reviews/1", headers=headers)
        if not answer.is_success:
            return f"status {answer.status_code}"
        return str(json.loads(answer.content)["version"])

    async def browse(self) -> None:
        """Looks at the shop for ever, a few times a second, and orders now and then."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if random.random() < 0.15:
                    await self.http.post(f"{STOREFRONT}/orders", json={"book": "1", "copies": 1})
                else:
                    path = random.choice(["/", "/books", "/books/1", "/books/2", "/books/3"])
                    headers = INTERNAL if random.random() < 0.05 else None
                    await self.http.get(STOREFRONT + path, headers=headers)
            await asyncio.sleep(random.uniform(0.0, 0.1))
