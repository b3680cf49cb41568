"""Runs the CLI as `python -m tulle.cli`."""

from __future__ import annotations

from tulle.cli.main import main

main()
