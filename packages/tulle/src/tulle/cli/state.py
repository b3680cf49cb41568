"""The state directory, and how a command finds its control plane from there."""

from __future__ import annotations

import json
import os
from pathlib import Path

API_VARIABLE = "TULLE_API"
API_FILE = "api.json"
"""In the state directory: `{"api": URL, "pid": N}` of the control plane that uses it."""


def default_state() -> Path:
    """`$XDG_STATE_HOME/tulle`, by default `~/.local/state/tulle`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "tulle"


def find_api(given: str | None) -> str | None:
    """The control plane's URL: as given, else from `TULLE_API`, else of the one in the default state directory."""
    chosen = given or os.environ.get(API_VARIABLE)
    if chosen:
        return (chosen if "://" in chosen else f"http://{chosen}").rstrip("/")
    try:
        api = json.loads((default_state() / API_FILE).read_text(encoding="utf-8"))["api"]
    except (OSError, ValueError, KeyError):
        return None
    return api if isinstance(api, str) else None
