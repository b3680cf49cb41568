"""Lets the tests here import the control plane that the unit tests of delivery run against."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "delivery"))
