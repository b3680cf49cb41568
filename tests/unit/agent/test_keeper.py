"""The agent's identity: joined once, renewed, taken up again after a restart, retried when nobody answers."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from delivery_server import ControlPlane, control_plane

from tulle.agent.ca_client import CertificateClient, CertificateRefusedError
from tulle.agent.certificate_files import CertificateFiles
from tulle.agent.held import Held
from tulle.agent.keeper import IdentityKeeper, Time
from tulle.identity.ca import utc_now
from tulle.identity.files import UnsafeKeyError

HOUR = 3600.0


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path) as running:
        running.register("a")
        yield running


class Clock:
    """Stands still but for sleeping, and lets a test stop a keeper after so many sleeps."""

    def __init__(self, sleeps: int = 10**6) -> None:
        self.time = utc_now().timestamp()
        self.slept: list[float] = []
        self.left = sleeps

    async def sleep(self, seconds: float) -> None:
        if self.left == 0:
            raise asyncio.CancelledError
        self.left -= 1
        self.slept.append(seconds)
        self.time += seconds

    def as_time(self) -> Time:
        return Time(now=lambda: self.time, sleep=self.sleep, draw=lambda: 0.5)


def keeper(plane: ControlPlane, directory: Path, clock: Clock) -> IdentityKeeper:
    client = CertificateClient(plane.join, plane.xds, lambda: plane.authority.root_pem)
    life = timedelta(hours=1)
    return IdentityKeeper(client, directory / "agent", directory / "token", life, clock.as_time())


def give_token(plane: ControlPlane, directory: Path) -> None:
    token = plane.tokens.create("default", "a", timedelta(minutes=1), utc_now())
    (directory / "token").write_text(token + "\n")


async def test_it_joins_and_renews_at_half_life(plane: ControlPlane, tmp_path: Path) -> None:
    give_token(plane, tmp_path)
    clock = Clock(sleeps=2)
    found: list[Held] = []
    one = keeper(plane, tmp_path, clock)
    one.changed.append(found.append)
    await one.start()
    with pytest.raises(asyncio.CancelledError):
        await one.run()
    assert len(found) == 3
    assert len({held.key for held in found}) == 3, "every certificate has a key of its own"
    assert clock.slept[0] == pytest.approx(HOUR / 2, abs=2)


async def test_a_restart_needs_no_token(plane: ControlPlane, tmp_path: Path) -> None:
    give_token(plane, tmp_path)
    first = await keeper(plane, tmp_path, Clock()).start()
    (tmp_path / "token").unlink()
    assert await keeper(plane, tmp_path, Clock()).start() == first
    assert stat.S_IMODE((tmp_path / "agent" / "identity.json").stat().st_mode) == 0o600


async def test_an_expired_identity_is_not_taken_up(plane: ControlPlane, tmp_path: Path) -> None:
    give_token(plane, tmp_path)
    first = await keeper(plane, tmp_path, Clock()).start()
    late = Clock()
    late.time = first.expires
    with pytest.raises(CertificateRefusedError, match="UNAUTHENTICATED"):
        await keeper(plane, tmp_path, late).start()
    give_token(plane, tmp_path)
    assert await keeper(plane, tmp_path, late).start() != first


async def test_it_waits_longer_and_longer_for_a_control_plane(plane: ControlPlane, tmp_path: Path) -> None:
    give_token(plane, tmp_path)
    clock = Clock(sleeps=8)
    one = keeper(plane, tmp_path, clock)
    one._client = CertificateClient("127.0.0.1:1", plane.xds, lambda: plane.authority.root_pem)
    with pytest.raises(asyncio.CancelledError):
        await one.start()
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_it_does_not_talk_to_a_foreign_control_plane(plane: ControlPlane, tmp_path: Path) -> None:
    async with control_plane(tmp_path / "foreign") as foreign:
        give_token(plane, tmp_path)
        clock = Clock(sleeps=1)
        one = keeper(plane, tmp_path, clock)
        one._client = CertificateClient(foreign.join, foreign.xds, lambda: plane.authority.root_pem)
        with pytest.raises(asyncio.CancelledError):
            await one.start()
        assert foreign.store.ledger.audit_log() == (), "the token was not shown"


async def test_state_open_to_others_is_refused(plane: ControlPlane, tmp_path: Path) -> None:
    give_token(plane, tmp_path)
    await keeper(plane, tmp_path, Clock()).start()
    (tmp_path / "agent" / "identity.json").chmod(0o644)
    with pytest.raises(UnsafeKeyError, match="chmod 600"):
        await keeper(plane, tmp_path, Clock()).start()


async def test_files_for_grpc_are_private(plane: ControlPlane, tmp_path: Path) -> None:
    give_token(plane, tmp_path)
    one = keeper(plane, tmp_path, Clock())
    files = CertificateFiles(tmp_path / "files")
    one.changed.append(files.write)
    held = await one.start()
    assert files.key.read_text() == held.key
    assert files.root.read_text() == plane.authority.root_pem
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
