"""Snapshots of hand-made resources, and short names for the types, for the tests of delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tulle.delivery.order import CLUSTER as CDS
from tulle.delivery.order import ENDPOINT as EDS
from tulle.delivery.order import LISTENER as LDS
from tulle.delivery.order import ROUTE as RDS
from tulle.delivery.session import Push

SHORT = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS"}
LONG = {short: url for url, short in SHORT.items()}


@dataclass(frozen=True)
class FakeResource:
    name: str
    version: str
    body: bytes = b""


@dataclass(frozen=True, eq=False)
class FakeSnapshot:
    resources: Mapping[str, Mapping[str, FakeResource]]
    version: str = ""


def snapshot(**types: str) -> FakeSnapshot:
    """`snapshot(CDS="a1 b1")` has the clusters a and b, both in version 1."""
    return FakeSnapshot(
        {
            LONG[short]: {word[:-1]: FakeResource(word[:-1], word[-1]) for word in words.split()}
            for short, words in types.items()
        }
    )


def show(push: Push | None) -> str | None:
    """`"CDS a1 b1 -c"`: the type, what is sent with its version, what is removed."""
    if push is None:
        return None
    sent = [resource.name + resource.version for resource in push.resources]
    return " ".join([SHORT[push.type_url], *sent, *(f"-{name}" for name in push.removed)])
