"""What a mutual TLS handshake costs with and without post-quantum key exchange (`make bench` writes it to results)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import report, settings
from bench.peers.envoy import ROOT

COUNT = 2000
PROXY = ROOT / "packages/tulle-proxy"


def measure() -> dict[str, float]:
    """Processor time of one handshake in µs, both ends together, by key exchange group.

    The cryptography is compiled C and assembly, the same in every profile; so the tests' profile will do.
    """
    build = [
        "cargo",
        "build",
        "--locked",
        "--profile",
        "fast",
        "--example",
        "handshake",
        "-p",
        "tulle-identity",
    ]
    subprocess.run(build, cwd=PROXY, check=True)
    program = PROXY / "target/fast/examples/handshake"
    output = subprocess.run(
        [str(program), str(COUNT)], capture_output=True, text=True, check=True, timeout=300
    )
    return {str(name): float(cost) for name, cost in json.loads(output.stdout).items()}


def markdown(costs: dict[str, float]) -> str:
    """The table."""
    host, first = report.machine(), next(iter(costs.values()))
    lines = [
        "# A handshake by key exchange",
        "",
        f"{host['model']}; mutual TLS 1.3 with ECDSA P-256 certificates, in memory, {COUNT} handshakes each in"
        " turns; both ends together.",
        "",
        "| key exchange | CPU µs | handshakes a second and core | of the first |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {cost:.0f} | {1e6 / cost:.0f} | {cost / first:.2f} |" for name, cost in costs.items()
    ]
    return "\n".join([*lines, ""])


def write(results: Path) -> None:
    """Measure, and write `handshake.md` and `handshake.json`."""
    costs = measure()
    results.mkdir(parents=True, exist_ok=True)
    (results / "handshake.md").write_text(markdown(costs))
    (results / "handshake.json").write_text(
        json.dumps({"machine": report.machine(), "cpu_us": costs}, indent=1)
    )
    print(markdown(costs))


def main() -> int:
    """0 when it was measured."""
    try:
        write(settings.read().results)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
