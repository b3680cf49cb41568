"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import version as installed


def version() -> str:
    """For example `0.1.0`."""
    return installed("tulle")
