"""The socket where sidecars ask for join tokens: who is answered what, and what no control plane means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tulle.agent.attestation import Attestation
from tulle.agent.ca_client import AuthorityUnavailableError, CertificateRefusedError
from tulle.supervisor.client import Unreachable
from tulle.supervisor.token_door import TokenDoor

Ask = Callable[[str], Attestation]


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    async def new_token(namespace: str, name: str) -> str:
        if name == "away":
            raise Unreachable("nobody there")
        return f"{namespace}+{name}"

    door = TokenDoor(tmp_path / "join.sock", new_token)
    await door.open()
    yield lambda workload: Attestation(door.path, workload)
    door.close()


async def test_a_workload_gets_a_token_of_its_own(ask: Ask) -> None:
    assert await ask("shop/front").token() == "shop+front"
    assert (ask("shop/front").socket.stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize("name", ["front", "../shop", "shop/../bank/till", "shop/front?x=1", ""])
async def test_what_is_no_name_is_refused(ask: Ask, name: str) -> None:
    with pytest.raises(CertificateRefusedError, match="no workload"):
        await ask(name).token()


async def test_without_a_control_plane_there_is_no_answer_and_one_may_ask_again(ask: Ask) -> None:
    with pytest.raises(AuthorityUnavailableError):
        await ask("shop/away").token()
    assert await ask("shop/front").token() == "shop+front"
