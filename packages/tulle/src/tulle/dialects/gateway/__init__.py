"""The Gateway API (gateway.networking.k8s.io): so far its ReferenceGrant."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.gateway import lower
from tulle.dialects.gateway.conditions import conditions

DIALECT = Dialect(
    "gateway",
    (
        KindInfo(
            "gateway.networking.k8s.io",
            "ReferenceGrant",
            ("v1", "v1beta1"),
            "referencegrants",
            lower.reference_grant,
            ("refgrant",),
        ),
    ),
    conditions,
)
