"""The prompts that are asked, and under which conditions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.drive.job import CellJob
from harness.models.model import THE_SERVERS_OWN
from harness.scenario.cells import Cell
from harness.scenario.corpus import CANARIES, CorpusPrompt, load_canaries
from harness.scenario.schema import Arm, Deadlines, PromptSet, Sampling, Scenario
from harness.scenario.script import Step
from harness.scenario.steps.asking import NullTransition, NullTransitionOptions, Probe, ProbeOptions

SCENARIO = "watch"
HELD_OUT = 2
AT_A_TIME = 8
"""Requests at once: others are served as well."""

BEGINNING: tuple[Step, ...] = (
    Probe(probe=ProbeOptions(name="baseline", evidence=("warm", "unseen"))),
    NullTransition(null_transition=NullTransitionOptions(by="idle", evidence=("warm", "cold"))),
)
"""The baseline: the canaries, and how much answers to them differ when nothing happens."""

QUESTIONS = Probe(probe=ProbeOptions(name="canaries", evidence=("warm", "rehit")))
"""Of each check.  Both have the salt of the watch: the cache holds no more of the canaries than it did."""


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """What is asked of a server.

    Attributes:
        count: Prompts of a pass.
        max_tokens: Of an answer.
    """

    count: int
    max_tokens: int

    @cached_property
    def scenario(self) -> Scenario:
        """It as a scenario; what happens between the baseline and the last probe is not of its doing."""
        return Scenario(
            name=SCENARIO,
            why="Somebody else puts the server to sleep and wakes it: it must answer as before.",
            arms={"as-served": Arm()},
            prompts=PromptSet(corpus=CANARIES, count=self.count, held_out=HELD_OUT),
            sampling=Sampling(max_tokens=self.max_tokens),
            evidence=("warm", "unseen"),
            concurrency=min(AT_A_TIME, self.count),
            deadlines=Deadlines(),
            script=(*BEGINNING, QUESTIONS),
        )

    @cached_property
    def _prompts(self) -> tuple[CorpusPrompt, ...]:
        return load_canaries()

    @property
    def most(self) -> int:
        """As many as can be asked."""
        return len(self._prompts) - HELD_OUT

    def cell(self, name: str) -> Cell:
        """One check, or the baseline, under its name."""
        return Cell(
            scenario=self.scenario,
            scenario_path=Path(),
            arm_name=name,
            arm=self.scenario.arms["as-served"],
            prompts=self._prompts[: self.count],
            held_out=self._prompts[self.count : self.count + HELD_OUT],
        )

    def job(self, name: str, *, run_id: str, directory: Path) -> CellJob:
        """The same, with where it is recorded."""
        return CellJob(cell=self.cell(name), run_id=run_id, directory=directory, model=THE_SERVERS_OWN)
