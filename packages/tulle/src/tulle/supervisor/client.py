"""The supervisor's conversation with its control plane, over the admin API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from tulle.api import wire

T = TypeVar("T")

API_FILE = "api.json"
"""In the state directory: where the control plane answers, and the token with which its own user is let in."""

PATIENCE = 5.0
"""Seconds that the control plane may take for an answer it need not wait for."""


class Unreachable(Exception):
    """The control plane did not answer, or refused; the message says which. It may be starting again."""


class ControlPlane:
    """What the supervisor asks of the control plane at one address."""

    def __init__(self, api: str, state: Path) -> None:
        self.api = api
        self._state = state
        self._http = httpx.AsyncClient(base_url=api, timeout=PATIENCE, trust_env=False)

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.aclose()

    async def healthy(self) -> bool:
        """Whether the control plane answers and has a configuration."""
        try:
            return (await self._http.get("/healthz")).is_success
        except httpx.HTTPError:
            return False

    async def workloads(self, known: str, wait: float) -> wire.WorkloadList:
        """The declared workloads, as soon as their generation is not ``known``, after ``wait`` seconds at most."""
        path = f"/v1/workloads?known={known}&wait={wait:g}"
        return await self._send("GET", path, None, wire.WorkloadList, wait + PATIENCE)

    async def status(self) -> wire.StatusView:
        """The control plane and its proxies."""
        return await self._send("GET", "/v1/status", None, wire.StatusView)

    async def join_token(self, namespace: str, name: str) -> str:
        """A fresh one-time token with which that workload's proxy gets its first certificate."""
        path = f"/v1/workloads/{namespace}/{name}/join-token"
        return (await self._send("POST", path, None, wire.JoinToken)).token

    async def place(self, namespace: str, name: str, placement: wire.PlacementView) -> None:
        """Tells where a workload's sidecar listens and whether its endpoints may get traffic."""
        path = f"/v1/workloads/{namespace}/{name}/placement"
        await self._send("PUT", path, placement, None)

    async def displace(self, namespace: str, name: str) -> None:
        """Tells that a workload has no sidecar here any more."""
        await self._send("DELETE", f"/v1/workloads/{namespace}/{name}/placement", None, None)

    async def displace_all(self) -> None:
        """Forgets what an earlier supervisor placed."""
        await self._send("DELETE", "/v1/placements", None, None)

    def _token(self) -> str | None:
        """The token that the control plane left for its own user, once it serves; a new one each time it starts."""
        try:
            written = json.loads((self._state / API_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return written.get("token") if written.get("api") == self.api else None

    async def _send(
        self, method: str, path: str, body: wire.Message | None, shape: type[T] | None, patience: float = PATIENCE
    ) -> T:
        content = None if body is None else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} if content else {}
        token = self._token()
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            answer = await self._http.request(method, path, content=content, headers=headers, timeout=patience)
        except httpx.HTTPError as error:
            raise Unreachable(f"{method} {self.api}{path}: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise Unreachable(f"{method} {self.api}{path}: {answer.status_code} {answer.text[:300]}")
        return msgspec.json.decode(answer.content, type=shape) if shape is not None else None  # type: ignore[return-value]
