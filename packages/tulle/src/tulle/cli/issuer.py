"""The options about issuing: an issuer given as files (all three or none), and how long certificates live."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Issuer:
    """The three files' absolute paths."""

    cert: Path
    key: Path
    root: Path

    def arguments(self) -> list[str]:
        """The same options again, for another command."""
        return ["--ca-cert", str(self.cert), "--ca-key", str(self.key), "--ca-root", str(self.root)]


def _life(context: click.Context, parameter: click.Parameter, seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds is not None else None


leaf_life_option = click.option(
    "--leaf-life", type=click.FloatRange(20, 14_400), metavar="SECONDS", callback=_life,
    help="How long workloads' certificates live (default and most: four hours).",
)


def issuer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets them as ``issuer``: an `Issuer`, or None when none was given."""

    @click.option("--ca-cert", type=_FILE, metavar="PEM", help="Sign with this CA certificate (and those above it).")
    @click.option("--ca-key", type=_FILE, metavar="PEM", help="Its private key, readable by you alone.")
    @click.option("--ca-root", type=_FILE, metavar="PEM", help="The root that it leads to.")
    @functools.wraps(command)
    def wrapped(*args: Any, ca_cert: Path | None, ca_key: Path | None, ca_root: Path | None, **more: Any) -> Any:
        given = [ca_cert, ca_key, ca_root]
        if any(given) and not all(given):
            raise click.UsageError("--ca-cert, --ca-key and --ca-root belong together: give all three or none")
        paths = [path.absolute() for path in given if path is not None]
        return command(*args, issuer=Issuer(*paths) if paths else None, **more)

    return wrapped
