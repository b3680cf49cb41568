"""The parts by themselves: `tulle control-plane`, `proxy`, `grpc-bootstrap`, `version`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tulle.cli.client import Client
from tulle.cli.failure import FAILED, REFUSED, Failure
from tulle.cli.issuer import Issuer, issuer_options
from tulle.cli.objects import api_option, namespace_option
from tulle.cli.state import default_state


@click.command(name="control-plane")
@click.option("--config", "paths", multiple=True, metavar="PATH", help="File or directory; may be repeated.")
@click.option("--state", type=click.Path(path_type=Path), metavar="DIR", help="Where the CA and the store are.")
@click.option("--api", default="127.0.0.1:0", metavar="ADDR", show_default=True,
              help="Admin API; beyond loopback with TLS and tokens only.")
@click.option("--xds", default="127.0.0.1:0", metavar="ADDR", help="xDS and renewals, mTLS.", show_default=True)
@click.option("--join", default="127.0.0.1:0", metavar="ADDR", help="First certificates.", show_default=True)
@click.option("--ready-file", type=click.Path(path_type=Path), metavar="FILE", help="Written when it serves.")
@click.option("--ignore", "ignored", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
              help="A file among the configuration's that is none; may be repeated.")
@click.option("--accept-older-store", "older", is_flag=True,
              help="Go on with a store from before what was in force last.")
@click.argument("more", nargs=-1, metavar="[PATH]...")
@issuer_options
def control_plane(
    paths: tuple[str, ...],
    state: Path | None,
    api: str,
    xds: str,
    join: str,
    ready_file: Path | None,
    ignored: tuple[Path, ...],
    older: bool,
    more: tuple[str, ...],
    issuer: Issuer | None,
) -> None:
    """Run a control plane by itself until SIGTERM or Ctrl-C.

    \b
    Example:
      tulle control-plane --config mesh/ --state /var/lib/tulle --xds 0.0.0.0:15012
    """
    from tulle.controlplane.main import ConfigurationRefused, Options, StateInUse, run
    from tulle.identity.files import UnsafeKeyError
    from tulle.identity.signer import IssuerFiles, RootUnusableError
    from tulle.sources.store_db import StoreError

    chosen = [Path(path) for path in (*paths, *more)]
    for path in chosen:
        if not path.exists():
            raise Failure(f"{path}: there is no such file or directory", REFUSED)
    files = IssuerFiles(issuer.cert, issuer.key, issuer.root) if issuer is not None else None
    try:
        run(Options(chosen, state or default_state(), api, xds, join, ready_file, files, ignored, older))
    except ConfigurationRefused as refused:
        raise Failure("\n".join(map(str, refused.diagnostics)), REFUSED) from refused
    except (StateInUse, RootUnusableError, UnsafeKeyError, StoreError) as error:
        raise Failure(str(error), REFUSED) from error
    except OSError as error:
        raise Failure(str(error), FAILED) from error


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def proxy(arguments: tuple[str, ...]) -> None:
    """Run tulle-proxy with these arguments, for example `tulle proxy -c envoy.yaml`."""
    from tulle.supervisor.programs import tulle_proxy

    program = tulle_proxy()
    if program is None:
        raise Failure("tulle-proxy is not built: run 'make build'", FAILED)
    os.execv(program, [str(program), *arguments])


@click.command(name="grpc-bootstrap")
@click.argument("workload")
@namespace_option
@api_option
@click.option("-d", "--dir", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Private folder for the bootstrap and the certificate files.")
@click.option("--keep", is_flag=True, help="Stay and renew the certificate until Ctrl-C.")
def grpc_bootstrap(workload: str, namespace: str | None, api: str | None, folder: Path, keep: bool) -> None:
    """Get an identity for a proxyless gRPC client and write its bootstrap; print the bootstrap's path.

    The client is WORKLOAD of the mesh and reads that workload's configuration; its certificate lives four hours.

    \b
    Example:
      GRPC_XDS_BOOTSTRAP=$(tulle grpc-bootstrap client -d /tmp/grpc) python client.py xds:///backend.default:9001
    """
    from tulle.cli.proxyless import prepare

    prepare(Client.find(api), namespace or "default", workload, folder.absolute(), keep=keep)


@click.command()
def version() -> None:
    """Show the version.

    \b
    Example:
      tulle version
    """
    from importlib.metadata import version as installed

    print(f"tulle {installed('tulle')}")
