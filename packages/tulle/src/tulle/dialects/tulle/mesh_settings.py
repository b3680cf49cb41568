"""Lowers MeshSettings: what the mesh is to do as a whole where no established kind can say it."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.tulle import schema
from tulle.dialects.validate import validate
from tulle.model.intentions import DefaultIntention
from tulle.model.settings import OutboundPolicy, PathNormalization, SettingsPatch
from tulle.objects import RawObject

_PATHS = {
    "None": PathNormalization.NONE,
    "Base": PathNormalization.BASE,
    "MergeSlashes": PathNormalization.MERGE_SLASHES,
    "DecodeAndMergeSlashes": PathNormalization.DECODE_AND_MERGE_SLASHES,
}
_OUTBOUND = {"AllowAny": OutboundPolicy.ALLOW_ANY, "RegistryOnly": OutboundPolicy.REGISTRY_ONLY}


def mesh_settings(obj: RawObject) -> Lowered:
    """MeshSettings → SettingsPatch."""
    findings = Findings(obj)
    parsed = validate(schema.MeshSettings, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    allowed = spec.egress.allowed_addresses
    names = {
        "outbound": ("spec", "egress", "unknownHosts"),
        "allowed_addresses": ("spec", "egress", "allowedAddresses"),
        "path_normalization": ("spec", "pathNormalization"),
        "default_intention": ("spec", "defaultIntention"),
        "trust_domain_aliases": ("spec", "trustDomainAliases"),
    }
    said = SettingsPatch(
        meta_of(obj),
        outbound=_OUTBOUND[spec.egress.unknown_hosts] if spec.egress.unknown_hosts else None,
        allowed_addresses=None if allowed is None else tuple(allowed),
        path_normalization=_PATHS[spec.path_normalization] if spec.path_normalization else None,
        trust_domain_aliases=None if spec.trust_domain_aliases is None else tuple(spec.trust_domain_aliases),
        default_intention=DefaultIntention(spec.default_intention.lower()) if spec.default_intention else None,
        places=tuple((name, findings.place(path)) for name, path in sorted(names.items())),
    )
    return findings.lowered((said,))
