"""Clauses without what others already cover: the algebra behind orders of precedence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tulle.model.access import Clause

MOST = 256
"""Most alternatives that an exception may come to."""


class TooManyError(ValueError):
    """The exceptions come to more alternatives than `MOST`."""


def without(clause: Clause, others: Iterable[Clause]) -> tuple[Clause, ...]:
    """What `clause` matches and none of `others` does: alternatives, none when nothing is left.

    Each clause is a conjunction, so not matching one means failing at least one of its conditions. Raises
    `TooManyError`.
    """
    left: tuple[Clause, ...] = (clause,)
    for other in others:
        left = tuple(
            dict.fromkeys(
                Clause((*each.conditions, replace(condition, negated=not condition.negated)))
                for each in left
                for condition in other.conditions
                if condition not in each.conditions
            )
        )
        if len(left) > MOST:
            raise TooManyError
    return left
