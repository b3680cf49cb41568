"""The steps of a rotation, over real ports: what each waits for, and that a holder who follows is enough."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "delivery"))

from tulle.agent.ca_client import (
    AuthorityUnavailableError,
    CertificateClient,
    CertificateRefusedError,
    is_current,
)
from tulle.agent.held import Held
from tulle.agent.keeper import IdentityKeeper
from tulle.api.backend import Refused
from tulle.api.trust import render
from tulle.api.wire_trust import RotationRequest
from tulle.controlplane.audit import Auditor
from tulle.controlplane.trust import NOT_CONNECTED, NOT_TAKEN_UP, TrustKeeper
from tulle.identity.ca import Authority, utc_now
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.server import (
    CertificateService,
    ServerCertificate,
    TlsPort,
    admit_by_certificate,
    admit_by_token,
)
from tulle.identity.tokens import JoinTokens
from tulle.sources.store import Store


@dataclass
class Plane:
    """A control plane's identity half."""

    directory: Path
    store: Store
    names: dict[str, str] = field(default_factory=dict)
    trust: TrustKeeper = field(init=False)
    xds: str = ""
    join: str = ""

    def __post_init__(self) -> None:
        authority = Authority.open(self.directory / "state", "cluster.local", utc_now())
        note = Auditor(self.store.ledger, time.time).note
        self.trust = TrustKeeper(authority, self.store.leaves, self, note, utc_now)

    def identity_of(self, namespace: str, workload: str) -> WorkloadIdentity | None:
        if workload not in self.names:
            return None
        return WorkloadIdentity(SpiffeId("cluster.local", namespace, self.names[workload]), workload)

    def client(self) -> CertificateClient:
        return CertificateClient(self.join, self.xds, lambda: self.trust.authority.root_pem)

    def token(self, workload: str) -> str:
        return JoinTokens(self.store.ledger).create("default", workload, timedelta(minutes=1), utc_now())

    async def joined(self, workload: str) -> Held:
        self.names.setdefault(workload, workload)
        return await self.client().join(self.token(workload), timedelta(), utc_now())

    def lagging(self) -> list[tuple[str, str]]:
        return [(each.name, each.reason) for each in self.trust.lagging()]

    def phase(self) -> str:
        self.trust.advance()
        return str(self.trust.authority.phase)

    async def until(self, phase: str) -> None:
        """Waits for what holders bring about (the test's own timeout bounds it)."""
        while self.phase() != phase:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Plane]:
    store = Store.open(directory / "store.db")
    plane = Plane(directory, store)
    trust, tokens = plane.trust, JoinTokens(store.ledger)
    certificate = ServerCertificate(trust.authority, [])
    renewals = CertificateService(trust.authority, trust.guard(admit_by_certificate(plane)), trust.record)
    joins = CertificateService(trust.authority, trust.guard(admit_by_token(tokens, plane)), trust.record)
    xds = TlsPort([trust.service, renewals], certificate.credentials(True))
    join = TlsPort([joins], certificate.credentials(False))
    plane.xds, plane.join = await xds.start("127.0.0.1:0"), await join.start("127.0.0.1:0")
    yield plane
    trust.service.close()
    await asyncio.gather(xds.stop(0), join.stop(0))
    store.close()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as one:
        yield one


@asynccontextmanager
async def keeping(plane: Plane, workload: str) -> AsyncIterator[IdentityKeeper]:
    """A holder that follows, as the agent does."""
    plane.names.setdefault(workload, workload)
    folder = plane.directory / workload
    folder.mkdir()
    (folder / "token").write_text(plane.token(workload))
    keeper = IdentityKeeper(plane.client(), folder / "held", folder / "token")
    await keeper.start()
    work = asyncio.create_task(keeper.run())
    yield keeper
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def test_a_holder_that_follows_is_led_through_the_rotation(plane: Plane) -> None:
    seen: list[Held] = []
    async with keeping(plane, "a") as keeper:
        keeper.changed.append(seen.append)
        before = plane.trust.authority.root_pem
        plane.trust.rotate(RotationRequest())
        with pytest.raises(Refused, match="under way"):
            plane.trust.rotate(RotationRequest())
        await plane.until("stable")
        after = plane.trust.authority.root_pem
        while seen[-1].root != after:
            await asyncio.sleep(0.01)
    assert before != after
    assert seen[0].root.count("BEGIN") == 2, "both are trusted before anything else happens"
    assert is_current(seen[-1])
    events = [each.event for each in plane.store.ledger.audit_log()]
    assert events.count("certificate-issued") == 2
    assert events.count("root-rotation") == 2


async def test_who_is_not_connected_holds_up_the_first_step(plane: Plane) -> None:
    held = await plane.joined("a")
    plane.trust.rotate(RotationRequest())
    assert (plane.phase(), plane.lagging()) == ("trust-both", [("a", NOT_CONNECTED)])
    taking = asyncio.Event()

    async def never(held: Held) -> bool:
        taking.set()
        await asyncio.Event().wait()
        return True

    work = asyncio.create_task(plane.client().follow(held, never))
    await taking.wait()
    assert (plane.phase(), plane.lagging()) == ("trust-both", [("a", NOT_TAKEN_UP)]), "told, but not in force"
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    del plane.names["a"]
    assert plane.phase() == "sign-with-new", "who is no longer declared is waited for no longer"


async def test_the_old_root_stays_while_a_certificate_under_it_may_be_in_use(plane: Plane) -> None:
    held = await plane.joined("a")

    async def take(pushed: Held) -> bool:
        nonlocal held
        held = pushed
        return is_current(pushed)

    plane.trust.rotate(RotationRequest())
    follower = asyncio.create_task(plane.client().follow(held, take))
    await plane.until("sign-with-new")
    await follower
    assert plane.phase() == "sign-with-new"
    renewed = await plane.client().renew(held, timedelta(), utc_now())
    assert is_current(renewed)
    assert plane.phase() == "sign-with-new", "the answer may have been lost: it counts when it is used"
    held = renewed
    follower = asyncio.create_task(plane.client().follow(held, take))
    await plane.until("stable")
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)


async def test_a_rotation_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        await first.joined("a")
        first.trust.rotate(RotationRequest())
        assert first.phase() == "trust-both"
    async with running(tmp_path) as second:
        second.names["a"] = "a"
        assert (second.phase(), second.lagging()) == ("trust-both", [("a", NOT_CONNECTED)])
        second.trust.rotate(RotationRequest(abort=True))
        assert second.phase() == "stable"


async def test_the_revoked_get_nothing_until_they_are_let_in_again(plane: Plane) -> None:
    held = await plane.joined("a")
    other = await plane.joined("b")
    cut: list[bool] = []
    plane.trust.cut.append(lambda: cut.append(True))
    ended = asyncio.create_task(plane.client().follow(held, lambda held: asyncio.sleep(0, True)))
    while not list(plane.trust.registry.proxies()):
        await asyncio.sleep(0.01)
    plane.trust.revoke("default", "a")
    with pytest.raises(CertificateRefusedError, match="revoked"):
        await ended
    with pytest.raises(CertificateRefusedError):
        await plane.client().renew(held, timedelta(), utc_now())
    with pytest.raises(CertificateRefusedError):
        await plane.joined("a")
    lists: list[str] = []

    async def take(pushed: Held) -> bool:
        lists.append(pushed.revoked)
        return False

    await plane.client().follow(other, take)
    assert lists[0].startswith("-----BEGIN X509 CRL-----")
    assert cut == [True]
    plane.trust.unrevoke("default", "a")
    await plane.client().renew(held, timedelta(), utc_now())
    await plane.client().follow(held, take)
    assert lists[1] == ""
    for refused in (lambda: plane.trust.unrevoke("default", "a"), lambda: plane.trust.revoke("default", "nobody")):
        with pytest.raises(Refused):
            refused()


async def test_the_first_to_fail_is_foretold(plane: Plane) -> None:
    await plane.client().join((plane.names.update(late="late"), plane.token("late"))[1], timedelta(), utc_now())
    plane.names["soon"] = "soon"
    await plane.client().join(plane.token("soon"), timedelta(minutes=10), utc_now())
    status = plane.trust.ca_status()
    assert status.forecast is not None
    assert (status.forecast.name, status.certificates) == ("soon", 2)
    assert 500 < status.forecast.seconds <= 600
    text = render(status).decode()
    assert 'tulle_first_certificate_expiry_timestamp_seconds{namespace="default",workload="soon"}' in text
    assert 'tulle_ca_rotation_phase{phase="stable"} 1.0' in text


async def test_a_dead_control_plane_is_told_apart_from_a_refusal(plane: Plane) -> None:
    held = await plane.joined("a")
    client = CertificateClient("127.0.0.1:1", "127.0.0.1:1", lambda: "")
    with pytest.raises(AuthorityUnavailableError):
        await client.follow(held, lambda held: asyncio.sleep(0, True))
