"""Pass 0: the settings of the mesh, from every object that says some; of several the oldest has its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.settings import AccessLog, CallerPolicy, MeshSettings, SettingsPatch, TlsDefaults

_NOT_SETTINGS = frozenset({"meta", "places"})
_SAID = tuple(field.name for field in fields(SettingsPatch) if field.name not in _NOT_SETTINGS)


def link_settings(
    patches: Iterable[SettingsPatch], base: MeshSettings
) -> tuple[MeshSettings, list[Diagnostic]]:
    """`base` with everything that is said about it. `patches` oldest first."""
    said: dict[str, tuple[SettingsPatch, object]] = {}
    findings: list[Diagnostic] = []
    for patch in patches:
        findings += _check(patch, base)
        for name in _SAID:
            value = getattr(patch, name)
            if value is None:
                continue
            first = said.setdefault(name, (patch, value))
            if first[1] != value:
                findings.append(_conflict(name, first[0], patch))
    return _settings(base, {name: value for name, (_, value) in said.items()}), findings


def _settings(base: MeshSettings, said: Mapping[str, Any]) -> MeshSettings:
    log, tls = base.access_log, base.tls
    return replace(
        base,
        access_log=AccessLog(
            said.get("log_path", log.path) or None,
            said.get("log_encoding", log.encoding),
            said.get("log_format", log.format) or None,
        ),
        tracing=replace(base.tracing, sampling=said.get("sampling", base.tracing.sampling)),
        tls=TlsDefaults(
            said.get("tls_minimum", tls.minimum),
            said.get("tls_ciphers", tls.ciphers),
            said.get("tls_curves", tls.curves),
        ),
        mesh_curves=said.get("mesh_curves", base.mesh_curves),
        root_namespace=said.get("root_namespace", base.root_namespace),
        trust_domain_aliases=said.get("trust_domain_aliases", base.trust_domain_aliases),
        outbound=said.get("outbound", base.outbound),
        path_normalization=said.get("path_normalization", base.path_normalization),
        auto_mtls=said.get("auto_mtls", base.auto_mtls),
        allowed_addresses=said.get("allowed_addresses", base.allowed_addresses),
        default_intention=said.get("default_intention", base.default_intention),
        authorizers=said.get("authorizers", base.authorizers),
    )


def _check(patch: SettingsPatch, base: MeshSettings) -> Iterator[Diagnostic]:
    if patch.trust_domain not in (None, base.trust_domain):
        yield Diagnostic(
            Severity.ERROR,
            "trust-domain",
            f"the certificate authority issues identities of {base.trust_domain}, not of {patch.trust_domain}",
            patch.place("trust_domain"),
            field="trustDomain",
            hint="name the other one among trustDomainAliases",
        )


def _conflict(name: str, first: SettingsPatch, later: SettingsPatch) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "settings-conflict",
        f"{later.meta} says {name} otherwise than {first.meta}, which is older and stays",
        later.place(name),
        related=(first.place(name),),
    )


def link_callers(
    policies: Iterable[CallerPolicy],
) -> tuple[dict[str, tuple[CallerPolicy, ...]], list[Diagnostic]]:
    """The policies by namespace, those with a selector first. `policies` oldest first."""
    found: dict[str, list[CallerPolicy]] = {}
    findings = []
    for policy in policies:
        among = found.setdefault(policy.meta.namespace, [])
        first = next((each for each in among if each.selector == policy.selector), None)
        if first is not None:
            findings.append(
                Diagnostic(
                    Severity.WARNING,
                    "sidecar-ignored",
                    f"{policy.meta} has no effect: {first.meta} is older and for the same workloads",
                    policy.meta.source,
                    related=(first.meta.source,),
                )
            )
            continue
        among.append(policy)
    ordered = {name: tuple(sorted(found[name], key=lambda each: not each.selector)) for name in sorted(found)}
    return ordered, findings
