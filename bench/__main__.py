"""Runs the benchmark (`make bench`): rounds of all peers in turn, then table, JSON, plot and configurations."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import certificates, processes, report, settings
from bench.measure import Bench, Failed, Sample
from bench.peers.pair import Missing


def main() -> int:
    """0 when every peer asked for was measured in every round."""
    try:
        chosen = settings.read()
        processes.install_peers(chosen.peers)
    except settings.WrongSetting as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as scratch:
        bench = _prepared(chosen, Path(scratch))
        try:
            versions = _versions_and_configs(bench)
            samples = _all_rounds(bench)
        except (Missing, Failed, processes.DidNotStart) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    _write(samples, versions, chosen)
    return 0


def _prepared(chosen: settings.Settings, scratch: Path) -> Bench:
    folders = {name: scratch / name for name in ("programs", "certificates", "pairs")}
    for folder in folders.values():
        folder.mkdir()
    processes.build(folders["programs"])
    certificates.write(folders["certificates"])
    return Bench(chosen, folders["programs"], folders["certificates"], folders["pairs"])


def _versions_and_configs(bench: Bench) -> dict[str, str]:
    """Each peer's version; its configurations are copied to the results, without this run's folders."""
    versions = {}
    for variant in bench.settings.variants:
        for peer in bench.settings.peers:
            _site, pair = bench.pair(peer, variant, 0)
            versions[peer] = pair.version
            kept = bench.settings.results / "configs" / variant / peer
            for config in pair.configs:
                kept.mkdir(parents=True, exist_ok=True)
                text = (
                    config.read_text()
                    .replace(str(bench.scratch), "/run/bench")
                    .replace(str(bench.certificates), "/run/certificates")
                )
                (kept / config.name).write_text(text)
    return versions


def _all_rounds(bench: Bench) -> list[Sample]:
    """A B C, A B C: peers are measured in turns, so that what changes with time changes for all."""
    found: list[Sample] = []
    for number in range(1, bench.settings.rounds + 1):
        for variant in bench.settings.variants:
            for each in bench.round(variant, number):
                found.append(each)
                figures = f"{each.cpu:.1f} µs {each.per_second:.0f}/s"
                print(f"turn {each.round} {variant:8} {each.connections:3} {each.peer:10} {figures}", flush=True)
    return found


def _write(samples: list[Sample], versions: dict[str, str], chosen: settings.Settings) -> None:
    from bench import plot

    chosen.results.mkdir(parents=True, exist_ok=True)
    table = report.markdown(samples, versions, chosen)
    (chosen.results / "results.md").write_text(table)
    (chosen.results / "results.json").write_text(report.document(samples, versions, chosen))
    plot.draw(report.medians(samples), chosen, chosen.results / "results.svg")
    print(table)
    print(f"written to {chosen.results}: results.md, results.json, results.svg, configs/")


if __name__ == "__main__":
    sys.exit(main())
