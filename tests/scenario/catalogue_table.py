"""Writes the table of reported bugs in ``docs/catalogue.md``.

``python -m tests.scenario.catalogue_table [RUN...]`` first puts what the named run directories saw into
``docs/seen.yaml``.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.models.default import NAME as DEFAULT_MODEL
from harness.scenario.schema import Scenario
from tests.marked_part import with_part
from tests.scenario.catalogue import CLASSES, SCENARIOS, Entry, load_catalogue, named_by, shipped
from tests.scenario.seen import Sighting, load_seen, newest, sightings_of, write_seen

PAGE = SCENARIOS.parent / "docs" / "catalogue.md"

Named = Mapping[str, Sequence[Entry]]
"""The bugs that each scenario names, by its file."""


_NEEDED = {"gpu": " (needs a GPU)", "pictures": " (needs a model that reads pictures)"}


def with_catalogue(text: str) -> str:
    """``text`` with the table of reported bugs written anew, between its marks."""
    return with_part(text, "catalogue", _part(load_catalogue(), shipped(), load_seen()))


def _part(entries: Sequence[Entry], scenarios: Mapping[str, Scenario], seen: Sequence[Sighting]) -> str:
    named = {file: [each for each in entries if file in named_by(each, scenarios)] for file in scenarios}
    lines = [
        _line("class", "rows", "scenario", "last seen"),
        _line(*["---"] * 4),
        *_table(named, scenarios, seen),
        "",
        _coverage(entries, named, scenarios),
        "",
        *_gaps(each for each in entries if not named_by(each, scenarios)),
    ]
    return "".join(f"{line}\n" for line in lines)


def _table(named: Named, scenarios: Mapping[str, Scenario], seen: Sequence[Sighting]) -> Iterator[str]:
    """A line for each scenario of a class; what was seen stands at the scenario's first."""
    last_seen = {file: _last_seen(scenario, seen) for file, scenario in scenarios.items()}
    for name in CLASSES:
        rows = {
            file: [str(entry.row) for entry in entries if entry.counted_under == name]
            for file, entries in named.items()
        }
        files = [file for file in scenarios if rows[file]]
        for file in files:
            yield _line(name, ", ".join(rows[file]), _link(file, scenarios[file]), last_seen[file])
            last_seen[file] = "as above"
        if not files:
            yield _line(name, "", "none", "")
    for file, entries in named.items():
        if not entries:
            yield _line("of no row", "", _link(file, scenarios[file]), last_seen[file])


def _line(*fields: str) -> str:
    return f"| {' | '.join(fields)} |"


def _link(file: str, scenario: Scenario) -> str:
    return f"[{scenario.name}](../scenarios/{file})" + _NEEDED.get(scenario.requires or "", "")


def _last_seen(scenario: Scenario, seen: Sequence[Sighting]) -> str:
    """What the scenario last said: the newest release first, and there the engine without a fault first."""
    at: dict[tuple[str, str], list[Sighting]] = defaultdict(list)
    for each in seen:
        if each.cell in _cells(scenario):
            at[each.vllm, _place(each)].append(each)
    newest_first = sorted(at, key=lambda where: (_release(where[0]), where[1]), reverse=True)
    told = "<br>".join(
        f"**{vllm}**, {place}, {max(each.at for each in at[vllm, place]):%Y-%m-%d}: "
        + _outcomes(scenario, at[vllm, place])
        for vllm, place in newest_first
    )
    return told or "not yet"


def _cells(scenario: Scenario) -> list[str]:
    return [f"{scenario.name}.{arm}" for arm in scenario.arms]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _place(sighting: Sighting) -> str:
    model = () if sighting.model == DEFAULT_MODEL else (sighting.model,)
    return ", ".join((sighting.runtime, *sighting.emulated, *model))


def _outcomes(scenario: Scenario, sightings: Sequence[Sighting]) -> str:
    faults_of: dict[str, list[str]] = defaultdict(list)
    for fault in sorted({each.fault or "" for each in sightings}):
        faults_of[_outcome(scenario, [each for each in sightings if each.fault == (fault or None)])] += [
            fault
        ]
    return "; ".join(
        sentence
        for outcome, faults in faults_of.items()
        for sentence in (
            [outcome] * ("" in faults)
            + [f"with {', '.join(f'`{fault}`' for fault in faults if fault)}: {outcome}"] * any(faults)
        )
    )


def _outcome(scenario: Scenario, sightings: Sequence[Sighting]) -> str:
    """The verdict with its cause; by arm unless it was the same in every one."""
    arms_of: dict[str, list[str]] = defaultdict(list)
    for each in sightings:
        verdict = f"{each.verdict} ({each.cause})" if each.cause else str(each.verdict)
        arms_of[verdict].append(each.cell.removeprefix(f"{scenario.name}."))
    if len(arms_of) == 1 and len(sightings) == len(scenario.arms):
        return next(iter(arms_of))
    return ", ".join(f"{verdict} in {' and '.join(arms)}" for verdict, arms in arms_of.items())


def _coverage(entries: Sequence[Entry], named: Named, scenarios: Mapping[str, Scenario]) -> str:
    rows = {entry.row for each in named.values() for entry in each}
    classes = {entry.counted_under for each in named.values() for entry in each}
    on_cpu = {
        entry.counted_under for file, each in named.items() for entry in each if not scenarios[file].requires
    }
    on_gpu = [name for name in CLASSES if name in classes - on_cpu]
    only = f", {' and '.join(on_gpu)} only on a GPU" if on_gpu else ""
    return (
        f"Scenarios name {len(rows)} of the {len(entries)} rows, in {len(classes)} of the "
        f"{len(CLASSES)} classes{only}. These rows have none:"
    )


def _gaps(entries: Iterable[Entry]) -> list[str]:
    rows: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        rows[entry.gap or "no scenario yet"].append(str(entry.row))
    return [f"- {gap}: {', '.join(numbers)}" for gap, numbers in rows.items()]


def main(runs: Sequence[str]) -> None:
    """Take note of what ``runs`` saw, then write the table."""
    write_seen(newest([*load_seen(), *(each for run in runs for each in sightings_of(Path(run)))]))
    PAGE.write_text(with_catalogue(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
