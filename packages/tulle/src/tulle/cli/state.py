"""The state directory, and how a command finds its control plane from there."""

from __future__ import annotations

import json
import os
from pathlib import Path

API_VARIABLE = "TULLE_API"
TOKEN_VARIABLE = "TULLE_TOKEN"  # noqa: S105 (the name of a variable)
ROOTS_VARIABLE = "TULLE_CA_FILE"
API_FILE = "api.json"
"""In the state directory: `{"api": URL, "token": TOKEN, ...}` of the control plane that uses it."""


def default_state() -> Path:
    """`$XDG_STATE_HOME/tulle`, by default `~/.local/state/tulle`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "tulle"


def find_api(given: str | None) -> str | None:
    """The control plane's URL: as given, else from `TULLE_API`, else of the one in the default state directory."""
    chosen = given or os.environ.get(API_VARIABLE)
    if chosen:
        return (chosen if "://" in chosen else f"http://{chosen}").rstrip("/")
    return _kept("api")


def find_token(api: str) -> str | None:
    """The token to send: from `TULLE_TOKEN`, else from the default state directory, if that is of this API."""
    named = os.environ.get(TOKEN_VARIABLE)
    if named:
        return named.strip()
    return _kept("token") if _kept("api") == api else None


def _kept(what: str) -> str | None:
    try:
        value = json.loads((default_state() / API_FILE).read_text(encoding="utf-8"))[what]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None
