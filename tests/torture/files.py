"""Loads damaged scenario, corpus and picture files: each is accepted, or refused with its place.

``python -m tests.torture.files --seconds 600`` draws as many as fit, and keeps each that was neither.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import ScenarioError
from harness.scenario.cells import load_cells
from tests.torture.mutating import mutated

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

    def row(self, seconds: float) -> str:
        """One line of the table."""
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return (
            f"files: {self.tried} tried, {self.accepted} accepted, {len(self.bad)} bad, {seconds:.0f} s; "
            f"slowest {self.slowest_s:.2f} s, at most {mebibytes:.0f} MiB"
        )


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


def main() -> int:
    """Try files until the time is over; end with 1 if one was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--files", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("reports/torture-files"))
    options = parser.parse_args()
    chance, tally, began = random.Random(options.seed), Tally(), time.monotonic()  # noqa: S311 - no secret
    with TemporaryDirectory(prefix="sleepwake-files-") as folder:
        workplace = Workplace(Path(folder), **shipped_texts())
        while time.monotonic() - began < options.seconds and tally.tried < options.files:
            known = len(tally.bad)
            damaged = workplace.try_one(chance, tally)
            for what in tally.bad[known:]:
                options.keep.mkdir(parents=True, exist_ok=True)
                kept = options.keep / f"bad-{options.seed}-{tally.tried}.yaml"
                kept.write_bytes(damaged)
                sys.stdout.write(f"{kept}: {what.splitlines()[-1]}\n")
    sys.stdout.write(tally.row(time.monotonic() - began) + "\n")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
