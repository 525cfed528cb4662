"""The benchmark of the time to a verdict: its rivals do what they say, its table says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.scenario.schema import Scenario
from tests.benchmarks import overhead, procedures
from tests.benchmarks.verdict_times import table
from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.options import DEFAULT_MODEL, Options
from tests.fake_vllm.serving import serve

LONG = [f"{i} {' '.join(['river city music'] * 40)}" for i in range(2)]
SCRIPT = Scenario.model_validate(
    {
        "name": "small",
        "why": "because",
        "arms": {"on": {}},
        "prompts": {"corpus": "words"},
        "script": [
            {"probe": "baseline"},
            {"null_transition": {}},
            {"repeat": 2, "steps": [{"sleep": {}}, {"wake_up": {}}, {"probe": "after"}]},
        ],
    }
).script
FOUNDING_BUG = Options(misbehaviour=Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})))


@pytest.mark.anyio
async def test_the_naive_script_sees_the_founding_bug() -> None:
    """It asks every prompt at every probe, and long prompts come back changed."""
    async with serve(FOUNDING_BUG) as url:
        sick = await procedures.naive(url, model=DEFAULT_MODEL, script=SCRIPT, prompts=LONG, max_tokens=8)
    async with serve() as url:
        sound = await procedures.naive(url, model=DEFAULT_MODEL, script=SCRIPT, prompts=LONG, max_tokens=8)
    assert (sick.asked, sound.asked) == (6, 6)
    assert sick.changed > 0
    assert (sound.changed, sound.tokens > 0) == (0, True)


@pytest.mark.anyio
@pytest.mark.parametrize("level", [1, 2])
async def test_vllms_own_test_is_blind_to_the_founding_bug(level: int) -> None:
    """Its one prompt is shorter than a block, so that nothing of it is ever cached."""
    async with serve(FOUNDING_BUG) as url:
        outcome = await procedures.vllms_own_test(url, model=DEFAULT_MODEL, level=level)
    assert (outcome.asked, outcome.changed) == (3, 0)


@pytest.mark.anyio
async def test_peak_throughput_is_looked_for_at_each_number() -> None:
    """Every number of requests in flight has a rate of its own."""
    async with serve() as url:
        rates = await procedures.peak_throughput(
            url, model=DEFAULT_MODEL, prompts=LONG, max_tokens=4, at_once=(2, 4)
        )
    assert set(rates) == {2, 4}
    assert min(rates.values()) > 0


@pytest.mark.cell
def test_the_harness_is_measured_apart_from_its_engine() -> None:
    """As many answers as were asked for, and a process of its own for the numbers."""
    measured = overhead.measure(prompts=3, cycles=1)
    assert measured.answers == 12
    assert measured.cpu_seconds > 0
    assert measured.judging_peak_mib >= measured.peak_mib > 1


def test_the_sizes_are_a_hundred_and_ten_thousand_answers() -> None:
    """What the limits are stated for."""
    assert [prompts * (3 + cycles) for prompts, cycles in overhead.SIZES] == [100, 10_000]


OURS = {
    "seconds": 100.0,
    "cpu_seconds": 4.0,
    "peak_mib": 150.0,
    "verdicts": {"a.on": "clean", "a.off": "clean"},
    "boot_seconds": 50.0,
    "answers": 64,
    "tokens": 3000,
}
LIMIT = {"boot_seconds": 25.0, "tokens_per_second": {"16": 80.0, "32": 100.0}}


def naive(cell: str, seconds: float) -> dict[str, object]:
    """One cell of the naive script."""
    return {"cell": cell, "whole_seconds": seconds, "asked": 64, "changed": 0, "tokens": 4096}


def written(folder: Path, **files: object) -> str:
    """The table of these files."""
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content))
    return table(folder)


def test_ratios_are_against_sleepwake(tmp_path: Path) -> None:
    """The limit is the boots and the tokens at the best rate that was seen."""
    told = written(
        tmp_path, ours=OURS, limit=LIMIT, naive_on=naive("a.on", 220.0), naive_off=naive("a.off", 200)
    )
    assert "| physical limit | 80.0 s | 0.80x |" in told
    assert "1.25 times the physical limit" in told
    assert "| 7 min 0 s | 4.20x | 128 | 2 cells: 0 answers changed |" in told


def test_nothing_is_extrapolated(tmp_path: Path) -> None:
    """A script measured on some cells only took over so long, and the table says on how many."""
    told = written(tmp_path, ours=OURS, naive_on=naive("a.on", 220.0))
    assert "over 2.20x" in told
    assert "measured on 1 of 2 cells" in told
    assert "Not measured yet: limit, bug, overhead, vllm" in told


def test_without_our_run_there_is_no_table(tmp_path: Path) -> None:
    """There is nothing to compare with."""
    assert table(tmp_path) == "Not measured yet: ours."
