"""`tulle demo`: the sample app as a mesh, with traffic, and a live picture or one verified tour."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tulle.cli.failure import FAILED, Failure
from tulle.cli.run import execute_setup

SAMPLE = Path(__file__).resolve().parents[5] / "samples" / "bookshop" / "mesh"


@click.command()
@click.option("--once", is_flag=True, help="Make one tour, print what was verified, exit non-zero if any failed.")
@click.option("--data-plane", type=click.Choice(["tulle", "envoy"]), default="tulle", show_default=True)
def demo(once: bool, data_plane: str) -> None:
    """Run the sample app as a mesh, send traffic through it and show what the mesh sees, until Ctrl-C.

    \b
    Examples:
      tulle demo
      tulle demo --once
    """
    from tulle.cli.demo_live import Live
    from tulle.cli.demo_tour import Tour
    from tulle.supervisor.logs import quiet
    from tulle.supervisor.up import Setup, run

    if not SAMPLE.is_dir():
        raise Failure(f"the sample app is not at {SAMPLE}: run the demo from a checkout", FAILED)
    print("Starting the bookshop: seven services, nine workloads, each with its sidecar ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="tulle-demo-") as state:
        guide = Tour() if once else Live()
        setup = Setup([SAMPLE], data_plane, Path(state), None, guide.announce, quiet, guide.run)
        try:
            execute_setup(run, setup)
        except BaseException:
            _show_logs(Path(state) / "logs")
            raise
        if isinstance(guide, Tour) and guide.failed:
            _show_logs(Path(state) / "logs")
            raise Failure(f"{guide.failed} of {len(guide.checks)} checks failed", FAILED)


def _show_logs(logs: Path) -> None:
    """Prints the last lines of each process, since the state goes with the demo."""
    for log in sorted(logs.glob("*.log")):
        if not log.name.endswith(".access.log"):
            lines = log.read_text(errors="replace").splitlines()[-3:]
            if lines:
                print(f"-- {log.name}", *lines, sep="\n")
