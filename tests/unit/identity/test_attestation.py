"""Attestation by a Unix peer's user: the kernel says who asks, the configuration who that may be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from delivery_server import ControlPlane, control_plane

from tulle.agent.attestation import Attestation
from tulle.agent.ca_client import AuthorityUnavailableError, CertificateClient, CertificateRefusedError
from tulle.agent.keeper import IdentityKeeper
from tulle.identity.attestation import AttestationServer
from tulle.identity.files import UnsafeKeyError

ME, SOMEBODY = os.getuid(), os.getuid() + 1


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path / "plane") as running:
        running.register("a", "account")
        yield running


async def serve(plane: ControlPlane, folder: Path, accounts: dict[int, frozenset[tuple[str, str]]]) -> Path:
    server = AttestationServer(accounts, plane, plane.tokens)
    socket = folder / "attest" / "attest.sock"
    await server.start(socket)
    return socket


async def test_a_process_of_the_right_user_joins_without_a_token(plane: ControlPlane, tmp_path: Path) -> None:
    socket = await serve(plane, tmp_path, {ME: frozenset({("default", "account")})})
    client = CertificateClient(plane.join, plane.xds, lambda: plane.authority.root_pem)
    keeper = IdentityKeeper(client, tmp_path / "held", Attestation(socket, "default/a"), timedelta(hours=1))
    assert "BEGIN CERTIFICATE" in (await keeper.start()).leaf
    created = next(each for each in plane.store.ledger.audit_log() if each.event == "token-created")
    assert created.origin == f"unix uid {ME} pid {os.getpid()}"


@pytest.mark.parametrize(
    ("accounts", "asked"),
    [
        ({}, "default/a"),
        ({SOMEBODY: frozenset({("default", "account")})}, "default/a"),
        ({ME: frozenset({("default", "other")})}, "default/a"),
        ({ME: frozenset({("shop", "account")})}, "default/a"),
        ({ME: frozenset({("default", "account")})}, "default/b"),
        ({ME: frozenset({("default", "account")})}, "default"),
        ({ME: frozenset({("default", "account")})}, ""),
    ],
)
async def test_everybody_else_is_refused_without_saying_why(
    plane: ControlPlane, tmp_path: Path, accounts: dict[int, frozenset[tuple[str, str]]], asked: str
) -> None:
    socket = await serve(plane, tmp_path, accounts)
    with pytest.raises(CertificateRefusedError, match=f"user {ME} is no workload of that name"):
        await Attestation(socket, asked).token()
    assert not plane.store.ledger.audit_log()


async def test_nobody_there_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(AuthorityUnavailableError):
        await Attestation(tmp_path / "none.sock", "default/a").token()


async def test_askers_are_limited_by_user(plane: ControlPlane) -> None:
    accounts = {user: frozenset({("default", "account")}) for user in (ME, SOMEBODY)}
    server = AttestationServer(accounts, plane, plane.tokens, clock=lambda: 0.0)
    answers = [server.decide("default/a", ME, 1).partition(" ")[0] for _ in range(300)]
    assert (answers.count("token"), answers.count("refused")) == (200, 100)
    assert server.decide("default/a", SOMEBODY, 1).startswith("token ")


async def test_the_socket_is_not_put_where_others_could_replace_it(plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "attest").mkdir()
    (tmp_path / "attest").chmod(0o777)
    with pytest.raises(UnsafeKeyError):
        await serve(plane, tmp_path, {})
