"""The scenarios of a search: the one its engine is started with, and one for each finding."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from ruamel.yaml import YAML

from harness.explore.fuzz.findings import Signature
from harness.explore.fuzz.moves import Modifier, Move
from harness.explore.fuzz.sequences import setup_for
from harness.history.files import storing
from harness.scenario.corpus import CANARIES, CORPORA_FOLDER, shipped_corpora
from harness.scenario.schema import Arm, Deadlines, PromptSet, Sampling, Scenario
from harness.scenario.script import Step
from harness.scenario.steps.asking import NullTransition, NullTransitionOptions, Probe, ProbeOptions

ARM = "engine"
ANSWER_DEADLINE_S = 45.0
"""The first request of a CPU engine takes up to half a minute."""
TRANSITION_DEADLINE_S = 60.0

BEGINNING: tuple[Step, ...] = (
    Probe(probe=ProbeOptions(name="baseline")),
    NullTransition(null_transition=NullTransitionOptions()),
)
"""What every script of a search begins with."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a sequence's probes ask."""

    prompts: int
    max_tokens: int


WHOLE = Size(prompts=4, max_tokens=12)
"""Small and fast, and still a batch of several requests whose prompts are several blocks long."""
SMALLER = Size(prompts=1, max_tokens=8)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How an engine of a search is started, and how many of its prompts are asked at a time."""

    args: tuple[str, ...]
    concurrency: int

    def __str__(self) -> str:
        return f"{' '.join(self.args)}, {self.concurrency} at a time"


PLAIN = Setting(args=("--enable-prefix-caching",), concurrency=WHOLE.prompts)
SETTINGS = (
    PLAIN,
    Setting(args=("--enable-prefix-caching", "--max-num-seqs=2"), concurrency=WHOLE.prompts),
    Setting(args=("--no-enable-prefix-caching",), concurrency=WHOLE.prompts),
    Setting(args=("--enable-prefix-caching", "--no-async-scheduling"), concurrency=1),
)
"""A search goes from one to the next, so that requests wait, are alone, or find nothing cached as well."""


def base_scenario(moves: Iterable[Move], setting: Setting = PLAIN) -> Scenario:
    """What an engine of a search is started for: all baselines that sequences made of ``moves`` may need."""
    setup = setup_for(tuple(step for move in moves for step in move if not isinstance(step, Modifier)))
    why = "The scenario that a search for failing sequences starts from."
    return _scenario("search", why, (*BEGINNING, *setup), WHOLE, setting)


def scenario_of(steps: Sequence[Step], its: Signature, size: Size, setting: Setting = PLAIN) -> Scenario:
    """The scenario of a finding, named after its content."""
    script = (*BEGINNING, *setup_for(steps), *steps)
    told = json.dumps([step.model_dump(mode="json") for step in steps], sort_keys=True)
    told += "" if setting == PLAIN else str(setting)
    name = f"fuzz-{hashlib.sha256(told.encode()).hexdigest()[:10]}"
    why = f"A search found this sequence of legal calls: {its.kind} ({its.cause})."
    return _scenario(name, why, script, size, setting)


def _scenario(name: str, why: str, script: tuple[Step, ...], size: Size, setting: Setting) -> Scenario:
    return Scenario(
        name=name,
        why=why,
        arms={ARM: Arm(args=setting.args)},
        prompts=PromptSet(corpus=CANARIES, count=size.prompts, held_out=1),
        sampling=Sampling(max_tokens=size.max_tokens),
        concurrency=min(setting.concurrency, size.prompts),
        deadlines=Deadlines(answer=ANSWER_DEADLINE_S, transition=TRANSITION_DEADLINE_S),
        script=script,
    )


def write_scenario(scenario: Scenario, folder: Path) -> Path:
    """Write ``scenario`` into ``folder`` with the prompts it needs, so that it can be run from there.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / f"{scenario.name}.yaml"
    corpora = folder / CORPORA_FOLDER
    tree: dict[str, JsonValue] = scenario.model_dump(mode="json", exclude_defaults=True)
    with storing(path):
        corpora.mkdir(parents=True, exist_ok=True)
        shutil.copy(shipped_corpora() / f"{CANARIES}.yaml", corpora)
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(tree, file)
    return path
