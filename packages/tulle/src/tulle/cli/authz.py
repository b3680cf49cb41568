"""`tulle authz`: who may call whom and the line that says so, and what policies that are tried out would deny."""

from __future__ import annotations

import json
from typing import Any

import click

from tulle.cli.client import Client, place
from tulle.cli.failure import FAILED, REFUSED, Failure
from tulle.cli.objects import api_option, read


@click.group()
def authz() -> None:
    """Explain who may call whom.

    \b
    Examples:
      tulle authz check --from default/web --to default/shop --path /admin
      tulle authz dry-run
    """


@authz.command(name="dry-run")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def dry_run(output: str, api: str | None) -> None:
    """Sum up what policies that are tried out would have denied, by the sidecars' own counters.

    Those are policies with the annotation istio.io/dry-run: "true". Counts are of requests, or of TCP connections,
    since each sidecar started. ALLOW policies deny together what none of them names.

    \b
    Examples:
      tulle authz dry-run
      tulle authz dry-run -o json
    """
    told = Client.find(api).send("GET", ["v1", "access", "dry-run"])
    print(json.dumps(told, indent=2) if output == "json" else "\n".join(_sums(told)))


def _sums(told: dict[str, Any]) -> list[str]:
    lines = []
    for each in told["outcomes"]:
        names = ", ".join(f"{policy['policy']} ({place(policy['source'])})" for policy in each["policies"])
        together = " together" if len(each["policies"]) > 1 else ""
        lines.append(
            f"{each['namespace']}/{each['workload']}: {each['action'].upper()} {names}{together} would have denied"
            f" {each['denied']:g} of {each['calls']:g} calls"
        )
    lines += [f"{name}: its sidecar did not answer" for name in told["silent"]]
    return lines or ["no policy is tried out"]


@authz.command()
@click.option("--from", "caller", metavar="NS/ACCOUNT",
              help="The calling service account, or a SPIFFE id; left out: plaintext.")
@click.option("--to", "target", metavar="NS/WORKLOAD", required=True, help="The workload that is called.")
@click.option("--port", type=click.IntRange(1, 65535), help="The application's port (default: each of them).")
@click.option("--method", default="GET", show_default=True)
@click.option("--path", default="/", show_default=True)
@click.option("--host", default="", help="The authority (default: the service's name).")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Of a verified token.")
@click.option("--source-ip", default="127.0.0.1", show_default=True)
@click.option("-f", "--filename", "paths", multiple=True, metavar="PATH", help="Ask these files, not a running mesh.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def check(target: str, paths: tuple[str, ...], output: str, api: str | None, **asked: Any) -> None:
    """Say whether one workload may call another, and which rule decides.

    Exit status 0 when every port asked about is open to the call, 1 when one is not.

    \b
    Examples:
      tulle authz check --from default/web --to default/shop --path /admin
      tulle authz check --from default/web --to default/shop -f mesh/ -o json
    """
    question = _question(target, asked)
    path = ["v1", "access", "check"]
    answer = _from_files(paths, question) if paths else Client.find(api).send("POST", path, question)
    if output == "json":
        print(json.dumps(answer, indent=2))
    else:
        for verdict in answer["verdicts"]:
            _print(verdict)
    if not all(verdict["allowed"] for verdict in answer["verdicts"]):
        raise Failure("the call is refused" if len(answer["verdicts"]) == 1 else "a port refuses the call", FAILED)


def _question(target: str, asked: dict[str, Any]) -> dict[str, Any]:
    namespace, _, name = target.rpartition("/")
    claims: dict[str, str | list[str]] = {}
    for key, value in _pairs(asked.pop("claims"), "--claim"):
        before = claims.get(key, [])
        claims[key] = value if key not in claims else [*([before] if isinstance(before, str) else before), value]
    headers = dict(_pairs(asked.pop("headers"), "--header"))
    question = {"namespace": namespace or "default", "name": name, "headers": headers, "claims": claims or None}
    return question | asked


def _pairs(written: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    for each in written:
        if "=" not in each:
            raise click.UsageError(f"{option} must be NAME=VALUE, not '{each}'")
    return [(name, value) for name, _, value in (each.partition("=") for each in written)]


def _from_files(paths: tuple[str, ...], question: dict[str, Any]) -> Any:
    import msgspec

    from tulle.api import wire
    from tulle.api.backend import Refused
    from tulle.controlplane.access import check as answer
    from tulle.controlplane.offline import compile_texts

    checked, compiled = compile_texts(pair for path in paths for pair in read(path))
    if checked.errors:
        raise Failure("\n".join(str(found) for found in checked.findings if found.severity == "error"), REFUSED)
    try:
        return msgspec.to_builtins(answer(compiled, msgspec.convert(question, wire.AccessQuestion)))
    except Refused as refused:
        raise Failure(str(refused)) from refused


_REASONS = (
    ("asks first: ", "asks_about_it"),
    ("", "decided_by"),
    ("audited: ", "audited_by"),
    ("dry run: ", "would_be_denied_by"),
)
"""What goes before each kind of reason, and where an answer has it."""


def _print(verdict: dict[str, Any]) -> None:
    who = verdict["principal"] or "somebody in plaintext"
    path = f", {verdict['path']}" if verdict["path"] is not None else ""
    print(f"port {verdict['port']}: {'ALLOWED' if verdict['allowed'] else 'DENIED'}: {verdict['why']}  ({who}{path})")
    for heading, key in _REASONS:
        for reason in verdict[key]:
            rule = "" if reason["rule"] is None else f", rule {reason['rule']}"
            print(f"  {place(reason['source'])}: {heading}{reason['policy']}{rule} ({reason['action'].upper()})")
