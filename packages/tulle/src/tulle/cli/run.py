"""`tulle up`: a mesh on this machine."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from tulle.cli.failure import FAILED, REFUSED, Failure
from tulle.cli.issuer import Issuer, issuer_options, leaf_life_option
from tulle.cli.state import default_state


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--net", type=click.Choice(["auto", "host", "ns"]), default="auto", show_default=True,
              help="host (auto): sidecars are HTTP proxies on loopback. ns: the same, each workload in a network "
                   "namespace where nothing else is (Linux, as root).")
@click.option("--data-plane", type=click.Choice(["tulle", "envoy"]), default="tulle", show_default=True)
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Where CA, store and logs are.")
@click.option("--ready-file", type=click.Path(path_type=Path), metavar="FILE",
              help="Appears when every workload is ready.")
@leaf_life_option
@issuer_options
def up(paths: tuple[Path, ...], net: str, data_plane: str, state: Path | None, ready_file: Path | None,
       leaf_life: timedelta | None, issuer: Issuer | None) -> None:
    """Run workloads as a mesh until Ctrl-C or SIGTERM.

    Starts a control plane, a sidecar per declared workload and the workloads' own commands, in one supervised tree;
    what dies is started again. PATHs are files or directories with objects of any supported dialect; edit them and
    the mesh follows.

    \b
    Examples:
      tulle up samples/bookshop/mesh
      tulle up mesh/ --state /tmp/shop --ready-file /tmp/shop.json
    """
    from tulle.supervisor.up import Setup, run

    for path in paths:
        if not path.exists():
            raise Failure(f"{path}: there is no such file or directory", REFUSED)
    issuing = issuer.arguments() if issuer is not None else []
    if leaf_life is not None:
        issuing += ["--leaf-life", str(leaf_life.total_seconds())]
    isolated = net == "ns"
    state = state or default_state()
    execute_setup(run, Setup(paths, data_plane, state, ready_file, announce, issuer=issuing, isolated=isolated))


def execute_setup(run: Any, setup: Any) -> None:
    """Runs a mesh; its failures become the command's."""
    from tulle.supervisor.dataplane import DataPlaneMissing
    from tulle.supervisor.mesh import MeshFailed
    from tulle.supervisor.namespace import NamespacesUnavailable
    from tulle.supervisor.up import StateInUse

    try:
        run(setup)
    except (MeshFailed, NamespacesUnavailable) as error:
        raise Failure(f"tulle up: {error}", REFUSED) from error
    except (DataPlaneMissing, StateInUse, OSError) as error:
        raise Failure(f"tulle up: {error}", FAILED) from error


PAST_THE_SIDECAR = (
    "Note: with --net host nothing is captured. Processes of this machine can dial an application's own port directly, "
    "past its sidecar and every policy. With --net ns (Linux, as root) none can."
)
ONLY_THE_SIDECAR = (
    "Each workload's command is in a network namespace of its own: only its sidecar reaches it, and it reaches only "
    "that. PORTS and OUTBOUND are in there; 'tulle exec WORKLOAD -- CMD' runs CMD there too."
)


def announce(ready: dict[str, Any]) -> None:
    """Says what runs where, and what to try."""
    rows = [("WORKLOAD", "PORTS", "OUTBOUND", "ADMIN")]
    for each in ready["workloads"]:
        ports = ", ".join(f"{port['name'] or port['port']}:{port['port']}" for port in each["ports"])
        rows.append((f"{each['namespace']}/{each['name']}", ports or "-", str(each["outbound"]), str(each["admin"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", f"The mesh is ready. Admin API: {ready['api']}"]
    if ready["net"] == "ns":
        lines.append(ONLY_THE_SIDECAR)
    elif any(each["ports"] for each in ready["workloads"]):
        lines.append(PAST_THE_SIDECAR)
    print("\n".join(lines), file=sys.stderr, flush=True)
