"""The benchmark's figures: medians over rounds, ratios within rounds, settings that make sense."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from bench import accounting, report, settings
from bench.measure import Sample

SAMPLE = Sample("bare", "tulle", 1, 32, 10.0, 1000.0, 100.0, 200.0, None, None, 4096, 8192, 2048, 4096)


def _sample(peer: str, number: int, cpu: float) -> Sample:
    return dataclasses.replace(SAMPLE, peer=peer, round=number, cpu=cpu)


def test_ratios_are_taken_within_a_round_before_the_median() -> None:
    samples = [
        _sample("tulle", 1, 10),
        _sample("nginx", 1, 20),
        _sample("tulle", 2, 30),
        _sample("nginx", 2, 40),
        _sample("tulle", 3, 90),
        _sample("nginx", 3, 100),
    ]
    assert report.ratios(samples, "cpu") == {report.Cell("bare", "nginx", 32): 0.75}


def test_a_peer_that_costs_nothing_has_no_ratio() -> None:
    assert report.ratios([_sample("tulle", 1, 10), _sample("direct", 1, 0)], "cpu") == {}


def test_medians_leave_out_what_was_not_measured() -> None:
    cells = report.medians([_sample("tulle", 1, 10), _sample("tulle", 2, 14)])
    assert cells[report.Cell("bare", "tulle", 32)]["cpu"] == 12
    assert cells[report.Cell("bare", "tulle", 32)]["open_p50"] is None


def test_the_table_has_a_row_for_each_peer_measured() -> None:
    chosen = settings.read(
        {"BENCH_PEERS": "tulle,nginx", "BENCH_VARIANTS": "bare", "BENCH_CONNECTIONS": "32"}
    )
    table = report.markdown([_sample("tulle", 1, 10), _sample("nginx", 1, 20)], {"nginx": "1"}, chosen)
    assert "| tulle | 10.0 | 1000 | 100 | 200 | – | – | 2.0 | 4.0 | 2.0 | – | – |" in table
    assert "| nginx | 20.0 | 1000 | 100 | 200 | – | – | 2.0 | 4.0 | 2.0 | 0.50 | 1.00 |" in table


@pytest.mark.parametrize(
    "broken", [{"BENCH_SECONDS": "x"}, {"BENCH_ROUNDS": "-1"}, {"BENCH_PEERS": "tulle,apache"}]
)
def test_settings_that_make_no_sense_are_refused(broken: dict[str, str]) -> None:
    with pytest.raises(settings.WrongSetting, match=next(iter(broken))):
        settings.read(broken)


def test_results_go_beside_the_benchmark() -> None:
    assert settings.read({}).results == Path(settings.__file__).parent / "results"


def test_own_cpu_time_and_memory_are_seen() -> None:
    before = accounting.cpu_ns([os.getpid()])
    sum(range(2_000_000))
    assert accounting.cpu_ns([os.getpid()]) > before
    assert accounting.memory([os.getpid()]).rss > 1024
