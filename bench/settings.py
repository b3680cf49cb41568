"""What a run measures and for how long, from the environment: BENCH_SECONDS, BENCH_ROUNDS, BENCH_PEERS and others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PEERS = ("tulle", "nginx", "haproxy-h2", "haproxy-h1", "envoy", "floor", "direct")
"""In the order of each turn; the last two are references: two bare copying hops, and no hop at all."""

VARIANTS = ("bare", "features")


class WrongSetting(ValueError):
    """A BENCH_ variable has a value that makes no sense; the text names both."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`seconds` is the length of one measurement, of which there are `turns` for each number of connections in a round;
    `rate` is the requests per second of the open-loop one (0: none).
    """

    seconds: float
    warm_up: float
    rounds: int
    turns: int
    peers: tuple[str, ...]
    variants: tuple[str, ...]
    connections: tuple[int, ...]
    rate: int
    body: int
    results: Path


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in `environment`; raises WrongSetting."""
    return Settings(
        seconds=_number(environment, "BENCH_SECONDS", 0.5),
        warm_up=_number(environment, "BENCH_WARM_UP", 0.2),
        rounds=int(_number(environment, "BENCH_ROUNDS", 3)),
        turns=int(_number(environment, "BENCH_TURNS", 3)),
        peers=_choice(environment, "BENCH_PEERS", PEERS),
        variants=_choice(environment, "BENCH_VARIANTS", VARIANTS),
        connections=tuple(int(text) for text in environment.get("BENCH_CONNECTIONS", "1,32,256").split(",")),
        rate=int(_number(environment, "BENCH_RATE", 3000)),
        body=int(_number(environment, "BENCH_BODY", 128)),
        results=Path(environment.get("BENCH_RESULTS", str(Path(__file__).parent / "results"))),
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, str(default))
    try:
        value = float(text)
    except ValueError as error:
        raise WrongSetting(f"{name}={text}: not a number") from error
    if value < 0:
        raise WrongSetting(f"{name}={text}: must not be negative")
    return value


def _choice(environment: Mapping[str, str], name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(environment.get(name, ",".join(known)).split(","))
    for each in chosen:
        if each not in known:
            raise WrongSetting(f"{name}: {each} is none of {', '.join(known)}")
    return chosen
