"""Every row of the catalogue that is plain bytes, in every position, on tulle-proxy and on real Envoy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from attack import rows_h1, rows_policy, variants_h1, variants_h2, variants_policy
from attack.judge import Memory, excuses, run, run_stream
from attack.positions import POSITIONS, Arena, Position
from attack.rows_h2 import STREAMS, translated
from attack.table import Attack, Stream
from attack.wire import PATIENCE_S

from harness.proxies import DataPlane

Arenas = Callable[[Position, DataPlane], Arena]
ATTACKS = [*rows_h1.ATTACKS, *rows_policy.ATTACKS]
MORE_ATTACKS = [*variants_h1.ATTACKS, *variants_policy.ATTACKS]
MORE_STREAMS = [*variants_h2.STREAMS, *translated(variants_policy.ATTACKS)]
"""Further forms of the rows, which tulle-proxy alone is asked: what Envoy makes of each is no measure of anything."""
ENVOY = excuses(Path(__file__).parent / "envoy.toml")


Input = Attack | Stream

SHORT_S = 0.5
"""How long is waited for what Envoy is known to leave unanswered: no answer in this time is no good one."""


def _of(kind: Sequence[Input], row: int, position: Position) -> list[Input]:
    return [each for each in kind if each.row == row and position in each.positions]


def _rows(kind: Sequence[Input]) -> list[object]:
    return [
        pytest.param(row, position, id=f"{row}-{position}")
        for row in sorted({each.row for each in kind})
        for position in POSITIONS
        if _of(kind, row, position)
    ]


def _judge(arena: Arena, protocol: str, row: int) -> list[str]:
    """What is wrong; what envoy.toml says of Envoy must be so."""
    memory = Memory(arena)
    found: list[str] = []
    kind = KINDS[protocol] if arena.plane.name == "envoy" else [*KINDS[protocol], *MORE[protocol]]
    for attack in _of(kind, row, arena.position):
        key = f"{protocol} {arena.position} {attack.id}"
        excuse = ENVOY.get(key) if arena.plane.name == "envoy" else None
        patience = PATIENCE_S if excuse is None else SHORT_S
        judge = run if isinstance(attack, Attack) else run_stream
        faults = judge(arena, attack, patience)  # type: ignore[arg-type]
        if excuse is None:
            found += faults
        elif not faults and not excuse.sometimes:
            found.append(f"{attack.id}: envoy.toml says that Envoy does otherwise: {excuse.reason}")
    return [*found, *memory.faults()]


KINDS: dict[str, Sequence[Input]] = {"h1": ATTACKS, "h2": STREAMS}
MORE: dict[str, Sequence[Input]] = {"h1": MORE_ATTACKS, "h2": MORE_STREAMS}


@pytest.mark.integration
@pytest.mark.parametrize(("row", "position"), _rows([*ATTACKS, *MORE_ATTACKS]))
def test_http_1(row: int, position: Position, plane: DataPlane, arenas: Arenas) -> None:
    found = _judge(arenas(position, plane), "h1", row)
    assert not found, "\n".join(found)


@pytest.mark.integration
@pytest.mark.parametrize(("row", "position"), _rows([*STREAMS, *MORE_STREAMS]))
def test_http_2(row: int, position: Position, plane: DataPlane, arenas: Arenas) -> None:
    found = _judge(arenas(position, plane), "h2", row)
    assert not found, "\n".join(found)


def test_names_are_told_apart() -> None:
    """A name in envoy.toml means one attack."""
    for protocol, kind in KINDS.items():
        names = [(each.id, position) for each in (*kind, *MORE[protocol]) for position in each.positions]
        assert len(names) == len(set(names))


def test_every_reason_is_of_an_attack() -> None:
    """envoy.toml names nothing that is not there."""
    names = {
        f"{protocol} {position} {each.id}"
        for protocol, kind in KINDS.items()
        for each in kind
        for position in each.positions
    }
    assert set(ENVOY) <= names
