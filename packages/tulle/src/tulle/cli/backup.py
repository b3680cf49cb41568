"""`tulle backup` and `tulle restore`: the state directory in one file."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.failure import FAILED, Failure
from tulle.cli.state import default_state

state_option = click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="The state directory (default: the usual one)."
)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_FILE)
@state_option
def backup(file: Path, state: Path | None) -> None:
    """Write the state directory's authority and store to FILE.

    The control plane may run meanwhile. FILE holds the mesh's private keys: keep it as safe as the directory itself.

    \b
    Example:
      tulle backup mesh.backup
    """
    from tulle.controlplane.backup import BackupError, back_up

    try:
        back_up(state or default_state(), file)
    except (BackupError, OSError) as error:
        raise Failure(str(error), FAILED) from error
    print(f"{file} holds private keys: keep it safe")


@click.command()
@click.argument("file", type=_FILE)
@state_option
def restore(file: Path, state: Path | None) -> None:
    """Make a state directory of the backup in FILE, which is checked first.

    The directory must not exist, or be empty: move a damaged one away.

    \b
    Example:
      tulle restore mesh.backup --state /var/lib/tulle
    """
    from tulle.controlplane.backup import BackupError
    from tulle.controlplane.backup import restore as bring_back
    from tulle.controlplane.main import TRUST_DOMAIN
    from tulle.identity.ca import utc_now

    target = state or default_state()
    try:
        bring_back(file, target, TRUST_DOMAIN, utc_now())
    except (BackupError, OSError) as error:
        raise Failure(str(error), FAILED) from error
    print(f"{target} is restored")
