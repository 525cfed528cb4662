"""What each shipped scenario last said, where: ``docs/seen.yaml``, brought up to date from stored runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter
from ruamel.yaml import YAML

from harness.check.result import Cause, CellResult, RunResult, Verdict
from harness.history.run_description import read_description
from harness.report.writer import VERDICT_FILE
from tests.scenario.catalogue import ROOT

SEEN = ROOT / "docs" / "seen.yaml"

_HEADING = """\
# What each shipped scenario last said, by release, runtime and planted fault. Written from stored runs:
# `python -m tests.scenario.catalogue_table RUN...`
"""


class Sighting(BaseModel):
    """One cell's verdict in one run.  ``fault`` is what was planted; None in an engine left as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    vllm: str
    runtime: str
    emulated: tuple[str, ...]
    model: str
    fault: str | None
    verdict: Verdict
    cause: Cause | None
    at: datetime

    @property
    def where(self) -> tuple[str, ...]:
        """What it was seen on; a later run on the same takes its place."""
        return self.cell, self.vllm, self.runtime, *self.emulated, self.model, self.fault or ""


def load_seen() -> list[Sighting]:
    """What is known so far."""
    tree = YAML(typ="safe", pure=True).load(SEEN.read_text(encoding="utf-8"))
    return TypeAdapter(list[Sighting]).validate_python(tree)


def write_seen(sightings: Iterable[Sighting]) -> None:
    """Write them, one a line."""
    lines = (f"- {sighting.model_dump_json()}\n" for sighting in sightings)
    SEEN.write_text(_HEADING + "".join(lines), encoding="utf-8")


def newest(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Of several on the same, the newest; in the order of what they were seen on."""
    latest = {each.where: each for each in sorted(sightings, key=lambda each: each.at)}
    return [latest[where] for where in sorted(latest)]


def sightings_of(run: Path) -> Iterator[Sighting]:
    """What a stored run says of its cells; those without a verdict were not seen.

    A run with further vLLM flags (``--vllm-arg``) was of other servers than the scenarios': it saw nothing,
    nor did one that has not been judged.

    Raises:
        HistoryError: it is not a run directory.
    """
    description = read_description(run)
    if description.extra_args or not (run / VERDICT_FILE).exists():
        return
    model = description.model.name or "unknown"
    started = datetime.fromisoformat(str(description.started_at))
    for cell in RunResult.model_validate_json((run / VERDICT_FILE).read_bytes()).cells:
        if cell.verdict is not None:
            yield _sighting(cell, cell.verdict, model=model, at=started)


def _sighting(cell: CellResult, verdict: Verdict, *, model: str, at: datetime) -> Sighting:
    return Sighting(
        cell=cell.cell,
        vllm=(cell.vllm_version or "unknown").partition("+")[0],
        runtime=cell.runtime or "unknown",
        emulated=cell.emulated,
        model=model,
        fault=cell.fault and Path(cell.fault).name,  # of a file, no folder of whose machine it was on
        verdict=verdict,
        cause=cell.cause,
        at=at,
    )
