"""CORS of one route, as the configuration of the cors filter."""

from __future__ import annotations

from typing import Any

from tulle.model.routes import Cors
from tulle.xds.route_matches import string_matcher
from tulle.xds.wire import typed, wrapped

NAME = "envoy.filters.http.cors"


def cors_policy(cors: Cors) -> Any:
    """The route's CorsPolicy."""
    fields: dict[str, Any] = {
        "allow_origin_string_match": [string_matcher(origin) for origin in cors.allow_origins],
        "allow_methods": ",".join(cors.allow_methods),
        "allow_headers": ",".join(cors.allow_headers),
        "expose_headers": ",".join(cors.expose_headers),
    }
    if cors.max_age is not None:
        fields["max_age"] = str(int(cors.max_age.total_seconds()))
    if cors.allow_credentials is not None:
        fields["allow_credentials"] = wrapped(cors.allow_credentials)
    if cors.forward_unmatched_preflights is not None:
        fields["forward_not_matching_preflights"] = wrapped(cors.forward_unmatched_preflights)
    return typed("envoy.extensions.filters.http.cors.v3.CorsPolicy", **fields)
