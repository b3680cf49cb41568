"""The table of commands: what there is, in which section, and where its code is."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import click

from tulle.cli.failure import EXIT_CODES, Failure


@dataclass(frozen=True, slots=True)
class Entry:
    """A command before it is imported."""

    section: str
    module: str
    attribute: str
    summary: str


COMMANDS = {
    "up": Entry("Run a mesh", "run", "up", "Run workloads as a mesh on this machine"),
    "demo": Entry("Run a mesh", "demo", "demo", "Run the sample app and watch its traffic"),
    "exec": Entry("Run a mesh", "execute", "execute", "Run a command as a workload of the mesh"),
    "apply": Entry("Configure", "objects", "apply", "Create or change objects"),
    "get": Entry("Configure", "objects", "get", "Show objects"),
    "delete": Entry("Configure", "objects", "delete", "Delete objects"),
    "webhook": Entry("Configure", "webhook", "webhook", "Have a Kubernetes cluster ask before it stores"),
    "validate": Entry("Configure", "validate", "validate", "Check files without a mesh"),
    "authz": Entry("Observe", "authz", "authz", "Explain who may call whom"),
    "ca": Entry("Trust", "trust", "ca", "Show the authority, rotate its root"),
    "audit": Entry("Trust", "audit", "audit", "Show and verify the audit log"),
    "backup": Entry("Trust", "backup", "backup", "Save the authority and the store"),
    "restore": Entry("Trust", "backup", "restore", "Bring a backup back"),
    "federation": Entry("Trust", "federation", "federation", "Know the members of other meshes"),
    "token": Entry("Trust", "token", "token", "Let others use the admin API"),
    "mtls": Entry("Trust", "mtls", "mtls", "Find what still comes in plaintext"),
    "workload": Entry("Trust", "trust", "workload", "Revoke a workload's identity"),
    "status": Entry("Observe", "status", "status", "Show the control plane and its proxies"),
    "control-plane": Entry("The parts by themselves", "parts", "control_plane", "Run a control plane"),
    "proxy": Entry("The parts by themselves", "parts", "proxy", "Run the proxy, tulle-proxy"),
    "grpc-bootstrap": Entry("The parts by themselves", "parts", "grpc_bootstrap", "Configure a proxyless gRPC client"),
    "version": Entry("The parts by themselves", "parts", "version", "Show the version"),
}


class Tulle(click.Group):
    """Lists commands from the table and imports the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(f"tulle.cli.{entry.module}"), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean '{close[0]}'?" if close else " See 'tulle --help'."
            raise click.UsageError(f"There is no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_max=16)
        with formatter.section("Exit status"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()], col_max=16)


@click.group(cls=Tulle, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def tulle() -> None:
    """Tulle, a service mesh: in the configuration you already write, with every decision explained.

    \b
    A mesh in two commands:
      tulle up samples/bookshop/mesh
      tulle exec visitor -- curl http://storefront/
    """


def main() -> None:
    """Entry point: runs a command and turns its failure into a message and an exit status."""
    try:
        tulle.main(prog_name="tulle", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.exceptions.Exit, Failure) as error:
        if isinstance(error, Failure):
            print(error.message, file=sys.stderr)
            sys.exit(error.code)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
