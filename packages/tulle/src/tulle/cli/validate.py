"""`tulle validate`: everything that can be found wrong without a running mesh."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from tulle.cli.failure import REFUSED
from tulle.cli.objects import read

if TYPE_CHECKING:
    from tulle.controlplane.offline import Checked


@click.command()
@click.option("-f", "--filename", "paths", multiple=True, metavar="PATH", help="File, directory or -.")
@click.argument("more", nargs=-1, metavar="[PATH]...")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def validate(paths: tuple[str, ...], more: tuple[str, ...], output: str) -> None:
    """Check configuration files, each by itself and together, without a running mesh.

    Exit status 2 when something would be refused; warnings alone leave it 0.

    \b
    Examples:
      tulle validate -f mesh/
      tulle validate -f canary.yaml -o json
    """
    from tulle.controlplane.offline import check

    if not paths and not more:
        raise click.UsageError("Say at least one PATH.")
    texts = [pair for path in (*paths, *more) for pair in read(path)]
    result = check(texts)
    if output == "json":
        _as_json(result)
    else:
        _as_text(result, len(texts))
    if result.errors:
        sys.exit(REFUSED)


def _as_json(result: Checked) -> None:
    from msgspec import json as fast

    from tulle.controlplane.views import finding

    findings = json.loads(fast.encode([finding(found) for found in result.findings]))
    print(json.dumps({"objects": result.objects, "errors": result.errors, "diagnostics": findings}, indent=2))


def _as_text(result: Checked, files: int) -> None:
    for found in result.findings:
        print(found, file=sys.stderr)
    verdict = _count(result.errors, "error") if result.errors else "valid"
    print(f"{_count(result.objects, 'object')} in {_count(files, 'file')}: {verdict}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
