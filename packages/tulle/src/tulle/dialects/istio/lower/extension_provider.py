"""Lowers MeshConfig's extension providers to authorizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tulle.dialects.findings import Findings
from tulle.dialects.istio.schema import extension_provider as schema
from tulle.model.authorizers import ANSWER_TIMEOUT, Authorizer, HttpCheck, ShownBody
from tulle.objects import Path


def authorizers(
    written: Sequence[schema.ExtensionProvider], path: Path, findings: Findings
) -> Iterator[Authorizer]:
    """Those of the providers at `path` that decide about requests."""
    names: set[str] = set()
    for index, each in enumerate(written):
        at = (*path, index)
        if each.name in names:
            findings.error("duplicate-name", f'"{each.name[:80]}" is declared twice', (*at, "name"))
        names.add(each.name)
        http, grpc = each.envoy_ext_authz_http, each.envoy_ext_authz_grpc
        if http is not None and grpc is not None:
            message = "must say only one of envoyExtAuthzHttp and envoyExtAuthzGrpc"
            findings.error("conflicting-fields", message, at)
        if http is not None:
            yield _authorizer(each.name, http, (*at, "envoyExtAuthzHttp"), findings, _http(http, at, findings))
        elif grpc is not None:
            yield _authorizer(each.name, grpc, (*at, "envoyExtAuthzGrpc"), findings, None)


def _authorizer(
    name: str, check: schema.Check, path: Path, findings: Findings, http: HttpCheck | None
) -> Authorizer:
    written = check.include_request_body_in_check
    body = None
    if written is not None:
        body = ShownBody(written.max_request_bytes, written.allow_partial_message, written.pack_as_bytes)
    return Authorizer(
        name=name,
        source=findings.place(path),
        service=check.service,
        port=check.port,
        http=http,
        timeout=check.timeout or ANSWER_TIMEOUT,
        fail_open=check.fail_open,
        status=int(check.status_on_error or 403),
        body=body,
        clear_route_cache=check.clear_route_cache,
    )


def _http(check: schema.HttpCheck, path: Path, findings: Findings) -> HttpCheck:
    lists = {
        "includeHeadersInCheck": (*check.include_headers_in_check, *check.include_request_headers_in_check),
        "headersToUpstreamOnAllow": check.headers_to_upstream_on_allow,
        "headersToDownstreamOnDeny": check.headers_to_downstream_on_deny,
        "headersToDownstreamOnAllow": check.headers_to_downstream_on_allow,
    }
    for field, patterns in lists.items():
        for pattern in patterns:
            if "*" in pattern[1:-1] or pattern.count("*") > 1:
                message = f'only one "*" at the start or at the end is a wildcard, not "{pattern[:60]}"'
                findings.error("wrong-value", message, (*path, "envoyExtAuthzHttp", field))
    shown, upstream, refusal, success = (tuple(map(str.lower, each)) for each in lists.values())
    added = sorted((name.lower(), value) for name, value in check.include_additional_headers_in_check.items())
    return HttpCheck(check.path_prefix or "", shown, tuple(added), upstream, refusal, success)
