"""The configuration languages that are understood, each lowered to the model's fragments."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo, Lowered
from tulle.dialects.registry import DIALECTS, conditions, known_kinds, lower, lower_all

__all__ = ["DIALECTS", "Dialect", "KindInfo", "Lowered", "conditions", "known_kinds", "lower", "lower_all"]
