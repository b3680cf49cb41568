"""Reads the accepted differences and tells which of a case's differences they cover and which of them cover nothing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from differ.compare import Difference


@dataclass(frozen=True, slots=True)
class Accepted:
    """Differences of one case file: `call` and `fact` are regular expressions that must match whole names.

    `kinds` says for which proxies of a pair it holds, caller's first, such as "tulle-envoy"; "tulle" is for no pair.
    """

    case: str
    call: str
    fact: str
    reason: str
    kinds: tuple[str, ...] = ("tulle",)

    def concerns(self, case: str, kinds: Sequence[str]) -> bool:
        """Whether it is about this case with these proxies."""
        return self.case == case and "-".join(kinds) in self.kinds

    def covers(self, difference: Difference) -> bool:
        """Whether `difference`, of this entry's case, is accepted."""
        return bool(re.fullmatch(self.call, difference.call) and re.fullmatch(self.fact, difference.fact))


def load(path: Path) -> tuple[Accepted, ...]:
    """The entries of `path`; raises TypeError for a wrong key and ValueError for an empty reason."""
    entries = tuple(Accepted(**entry) for entry in tomllib.loads(path.read_text()).get("accepted", []))
    for entry in entries:
        if not entry.reason.strip():
            raise ValueError(f"no reason is given for {entry.case}: {entry.fact}")
    return entries


def judge(found: list[Difference], accepted: list[Accepted]) -> tuple[list[Difference], list[Accepted]]:
    """What is not accepted, and which entries accept nothing."""
    unexplained = [each for each in found if not any(entry.covers(each) for entry in accepted)]
    unused = [entry for entry in accepted if not any(entry.covers(each) for each in found)]
    return unexplained, unused
