"""Makes the shared builders importable."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("model", "delivery"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
