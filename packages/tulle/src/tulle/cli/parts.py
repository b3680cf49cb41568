"""The parts by themselves: `tulle control-plane`, `proxy`, `grpc-bootstrap`, `version`."""

from __future__ import annotations

import os
import pwd
from datetime import timedelta
from pathlib import Path

import click

from tulle.cli.client import Client
from tulle.cli.failure import FAILED, REFUSED, Failure
from tulle.cli.issuer import Issuer, issuer_options, leaf_life_option
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
@leaf_life_option
@click.option("--attest-socket", "attest", type=click.Path(path_type=Path), metavar="SOCKET",
              help="Where local processes get join tokens for whom they are.")
@click.option("--attest", "users", multiple=True, metavar="USER=NS/ACCOUNT",
              help="Whose processes may be that service account's workloads; may be repeated.")
@click.option("--accept-older-store", "older", is_flag=True,
              help="Go on with a store from before what was in force last.")
@click.option("--webhook", metavar="ADDR", help="Kubernetes' admission webhook, HTTPS (see 'tulle webhook').")
@click.option("--webhook-name", "webhook_names", multiple=True, metavar="HOST",
              help="A name of the webhook's certificate, such as tulle-webhook.tulle-system.svc; may be repeated.")
@click.option("--webhook-client-ca", type=click.Path(path_type=Path), metavar="PEM",
              help="Who vouches for the webhook's clients, beside tokens.")
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
    leaf_life: timedelta | None,
    attest: Path | None,
    users: tuple[str, ...],
    webhook: str | None,
    webhook_names: tuple[str, ...],
    webhook_client_ca: Path | None,
    more: tuple[str, ...],
    issuer: Issuer | None,
) -> None:
    """Run a control plane by itself until SIGTERM or Ctrl-C.

    \b
    Example:
      tulle control-plane --config mesh/ --state /var/lib/tulle --xds 0.0.0.0:15012
      tulle control-plane --webhook 0.0.0.0:15017 --webhook-name tulle-webhook.tulle-system.svc
    """
    from tulle.controlplane.main import (
        ConfigurationRefused,
        Options,
        StateInUse,
        WebhookOptions,
        WebhookRefused,
        run,
    )
    from tulle.identity.files import UnsafeKeyError
    from tulle.identity.signer import MAX_LEAF_LIFE, IssuerFiles, RootUnusableError
    from tulle.sources.store_db import StoreError

    chosen = [Path(path) for path in (*paths, *more)]
    for path in chosen:
        if not path.exists():
            raise Failure(f"{path}: there is no such file or directory", REFUSED)
    files = IssuerFiles(issuer.cert, issuer.key, issuer.root) if issuer is not None else None
    if bool(users) != (attest is not None):
        raise click.UsageError("--attest-socket and --attest belong together")
    if webhook is None and (webhook_names or webhook_client_ca):
        raise click.UsageError("--webhook-name and --webhook-client-ca belong to --webhook")
    reviews = WebhookOptions(webhook, webhook_names, webhook_client_ca) if webhook is not None else None
    options = Options(chosen, state or default_state(), api, xds, join, ready_file, files, ignored, older,
                      leaf_life or MAX_LEAF_LIFE, attest.absolute() if attest else None, _accounts(users), reviews)
    try:
        run(options)
    except ConfigurationRefused as refused:
        raise Failure("\n".join(map(str, refused.diagnostics)), REFUSED) from refused
    except (StateInUse, RootUnusableError, UnsafeKeyError, StoreError, WebhookRefused) as error:
        raise Failure(str(error), REFUSED) from error
    except OSError as error:
        raise Failure(str(error), FAILED) from error


def _accounts(users: tuple[str, ...]) -> dict[int, frozenset[tuple[str, str]]]:
    """(namespace, service account) pairs by user id, of `USER=NS/ACCOUNT` words."""
    found: dict[int, set[tuple[str, str]]] = {}
    for word in users:
        user, _, account = word.partition("=")
        namespace, slash, name = account.partition("/")
        if not (user and namespace and slash and name) or "/" in name:
            raise click.UsageError(f"--attest {word!r} is not of the form USER=NAMESPACE/ACCOUNT")
        try:
            number = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
        except KeyError:
            raise click.UsageError(f"--attest: this machine has no user {user!r}") from None
        found.setdefault(number, set()).add((namespace, name))
    return {user: frozenset(accounts) for user, accounts in found.items()}


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
