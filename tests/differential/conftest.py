"""Lets the tests of this folder import the harness beside them, and makes a run's certificates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from differ import pki


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    """One mesh root, a foreign one, and their leaves."""
    return pki.make(tmp_path_factory.mktemp("pki"))
