"""Checks the direction of the Rust crates' dependencies with `cargo metadata`.

Pure crates know neither tokio nor protobuf, protobuf stops inside tulle-xds, and nothing depends on tulle-proxy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

PURE = {"tulle-core", "tulle-route", "tulle-policy", "tulle-balance", "tulle-config", "tulle-h2", "tulle-token"}
EFFECTS = {"tokio", "tokio-rustls", "hyper", "h2", "tonic"}
PROTOS = {"envoy-types", "prost", "prost-types", "tonic-prost"}
# xDS is decoded in tulle-xds; tulle-identity speaks the CA's own small protocol; the testkit fakes both.
MAY_KNOW_PROTOS = {"tulle-xds", "tulle-identity", "tulle-testkit"}


def violations(packages: list[dict[str, Any]]) -> Iterator[str]:
    """One sentence per dependency that points the wrong way; development dependencies do not count."""
    for package in packages:
        name = package["name"]
        needs = {d["name"] for d in package["dependencies"] if d["kind"] != "dev"}
        if name in PURE:
            for bad in sorted(needs & (EFFECTS | PROTOS)):
                yield f"{name} is pure and must not depend on {bad}"
        if name not in MAY_KNOW_PROTOS:
            for bad in sorted(needs & {"envoy-types"}):
                yield f"{name} must not know xDS messages ({bad}); tulle-xds turns them into typed config"
        if "tulle-proxy" in needs:
            yield f"{name} must not depend on tulle-proxy"


def main(manifest: str) -> int:
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version=1", "--no-deps", "--locked", "--manifest-path", manifest],
            check=True, capture_output=True, text=True,
        ).stdout
    )
    found = list(violations(metadata["packages"]))
    print("\n".join(found) or "crates: dependencies point the right way")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
