"""Loads damaged scenario, corpus and picture files: each is accepted, or refused with its place."""

from __future__ import annotations

import random
import re
import resource
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import ScenarioError
from harness.scenario.cells import load_cells
from tests.torture.mutating import mutated
from tests.torture.part import Budget, Outcome

SHIPPED = Path(__file__).parents[2] / "scenarios"
MOST_SECONDS = 2.0
"""Of the processor, for one file."""

_PLACE = re.compile(r".+:\d+:\d+")
_SCENARIO = """\
name: small
why: because
arms: {on: {args: [--enable-prefix-caching]}, off: {args: [], env: {A: b}}}
prompts: {corpus: words, count: 2, held_out: 1}
evidence: [warm]
script:
  - probe: baseline
  - null_transition: {}
  - repeat: 2
    steps:
      - sleep: {level: 1, mode: keep}
      - wake_up: {tags: [weights, kv_cache]}
      - probe: {name: after, same_as: baseline}
"""
_CORPUS = """\
- {id: a, text: a word, picture: a.png}
- id: b
  text: >
    and
    another
- {id: c, text: "the last"}
"""
_PICTURE = b"\x89PNG\r\n\x1a\n and so on"


@dataclass
class Tally:
    """What came of the files that were tried."""

    tried: int = 0
    accepted: int = 0
    slowest_s: float = 0.0
    bad: list[str] = field(default_factory=list)
    """Of each that was neither accepted nor refused as it should be: what happened."""

    @property
    def told(self) -> str:
        """How the files fared."""
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return f"{self.accepted} accepted; slowest {self.slowest_s:.2f} s; at most {mebibytes:.0f} MiB"


class Workplace:
    """A folder with one scenario, one corpus and one picture; each trial damages one of them."""

    def __init__(self, folder: Path, *, scenarios: Sequence[str], corpora: Sequence[str]) -> None:
        self._texts = {"scenario": scenarios, "corpus": corpora}
        self._folder = folder / "inside"
        corpora_folder = self._folder / "corpora"
        corpora_folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(_PICTURE)
        (corpora_folder / "link.png").symlink_to(folder / "a.png")
        for corpus in (SHIPPED / "corpora").glob("*.yaml"):
            shutil.copy(corpus, corpora_folder)
        self._scenario = self._folder / "small.yaml"
        self._corpus = corpora_folder / "words.yaml"
        self._picture = corpora_folder / "a.png"
        self._restore()

    def try_one(self, chance: random.Random, tally: Tally) -> bytes:
        """Damage a file, load everything, put it back; return what the damaged file held."""
        kind = chance.choice(("scenario", "scenario", "corpus"))
        damaged = mutated(chance, self._texts[kind])
        (self._scenario if kind == "scenario" else self._corpus).write_bytes(damaged)
        tally.tried += 1
        began = time.process_time()
        try:
            load_cells([self._scenario])
            tally.accepted += 1
        except ScenarioError as error:
            if not _PLACE.fullmatch(error.location):
                tally.bad.append(f"no place: {error}")
        except Exception:  # noqa: BLE001 - whatever else comes is what is looked for
            tally.bad.append(traceback.format_exc())
        spent = time.process_time() - began
        tally.slowest_s = max(tally.slowest_s, spent)
        if spent > MOST_SECONDS:
            tally.bad.append(f"took {spent:.1f} s of the processor")
        self._restore()
        return damaged

    def _restore(self) -> None:
        self._scenario.write_text(_SCENARIO)
        self._corpus.write_text(_CORPUS)
        self._picture.write_bytes(_PICTURE)


def small_texts() -> dict[str, Sequence[str]]:
    """A scenario and a corpus that are read in milliseconds."""
    return {"scenarios": (_SCENARIO,), "corpora": (_CORPUS,)}


def shipped_texts() -> dict[str, Sequence[str]]:
    """The same, and every one that ships."""
    scenarios = [file.read_text() for file in sorted(SHIPPED.glob("*.yaml"))]
    return {"scenarios": (_SCENARIO, *scenarios), "corpora": (_CORPUS,)}


def torture(budget: Budget) -> Outcome:
    """Damage files until the budget is spent; keep each that was neither accepted nor refused rightly."""
    chance, tally, began = random.Random(budget.seed), Tally(), time.monotonic()  # noqa: S311 - no secret
    workplace = Workplace(budget.folder, **shipped_texts())
    while tally.tried < budget.trials and time.monotonic() - began < budget.seconds:
        known = len(tally.bad)
        damaged = workplace.try_one(chance, tally)
        if tally.bad[known:]:
            budget.keep.mkdir(parents=True, exist_ok=True)
            (budget.keep / f"bad-{budget.seed}-{tally.tried}.yaml").write_bytes(damaged)
    return Outcome(tried=tally.tried, bad=tuple(tally.bad), told=tally.told)
