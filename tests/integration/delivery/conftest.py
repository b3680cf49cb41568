"""Lets the tests here import what lies next to them, and the control plane of the unit tests of delivery."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "unit" / "delivery")]
