"""`tulle exec`: a command whose HTTP traffic leaves through a workload's sidecar, with that workload's identity."""

from __future__ import annotations

import os

import click

from tulle.cli.client import Client
from tulle.cli.failure import FAILED, Failure
from tulle.cli.objects import api_option, namespace_option

NOT_EXECUTABLE, NOT_FOUND = 126, 127


@click.command(name="exec", context_settings={"ignore_unknown_options": True})
@namespace_option
@api_option
@click.argument("workload")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def execute(namespace: str | None, api: str | None, workload: str, command: tuple[str, ...]) -> None:
    """Run CMD so that its HTTP requests are those of WORKLOAD.

    It runs with http_proxy and its relatives set to the workload's sidecar, and inside the workload's network namespace
    where `tulle up --net ns` gave it one (this needs root, as that did); its exit status is the command's.

    \b
    Example:
      tulle exec client -- curl -s http://backend.default:9001/
    """
    from tulle.supervisor.environment import proxy_variables

    namespace = namespace or "default"
    told = Client.find(api).send("GET", ["v1", "status"])
    for each in told["workloads"]:
        if (each["namespace"], each["name"]) == (namespace, workload):
            placement = each["placement"]
            environment = {**os.environ, **proxy_variables(placement["outbound"])}
            if placement["network_namespace"]:
                _enter(placement["network_namespace"])
            _replace_process(command, environment)
    names = ", ".join(f"{each['namespace']}/{each['name']}" for each in told["workloads"]) or "none"
    raise Failure(f"no workload {namespace}/{workload} runs here; running are: {names}", FAILED)


def _enter(path: str) -> None:
    """Goes into a namespace, or nothing is run: elsewhere it would not be that workload."""
    from tulle.supervisor.namespace import enter

    try:
        enter(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError as error:
        raise Failure(f"entering the workload's network namespace needs root ({error})", FAILED) from None
    except OSError as error:
        raise Failure(f"the workload's network namespace cannot be entered: {error}", FAILED) from None


def _replace_process(command: tuple[str, ...], environment: dict[str, str]) -> None:
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        raise Failure(f"{command[0]}: command not found", NOT_FOUND) from None
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}", NOT_EXECUTABLE) from None
