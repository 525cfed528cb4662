"""What an engine answers, and how much that differs by itself: every check is held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from harness.check.verdict import noise_is_known
from harness.drive.recorder import Recorder
from harness.drive.script import MOST_NULL_PASSES
from harness.guarding.messages import Engine, Facts, NoticedCall
from harness.guarding.passes import Asker, fresh_salt
from harness.guarding.steps import asking, beginning, introduce, record_calls
from harness.history.events import CellStarted, Event
from harness.history.layout import HISTORY_FILE
from harness.history.passes import CacheCondition, Role
from harness.history.recording import Recording, gather

OF_ITSELF = "the engine's own answers before anything was done to it"
OF_NEW_WEIGHTS = "the engine's own answers once its new weights had arrived"
OF_A_REFERENCE = "the answers of another engine that has the new weights"


@dataclass(kw_only=True)
class History:
    """One history, on disk and in memory."""

    recorder: Recorder
    events: list[Event] = field(default_factory=list)

    @property
    def recording(self) -> Recording:
        """What it holds so far."""
        return gather(self.events)

    @property
    def next_step(self) -> int:
        """The number of the step that follows."""
        return len(self.recording.steps) + 1


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A history with which that of every check begins."""

    facts: Facts
    history: History
    why: str
    """Whose answers they are."""

    @property
    def checksums(self) -> Mapping[str, str] | None:
        """Those of the weights, where they are part of it."""
        told = (each.checksums for each in self.history.recording.weight_checksums)
        return next((each for each in told if each), None)

    def branch(self, path: Path, *, begin: CellStarted) -> History:
        """Begin another history with all that this one holds."""
        events: list[Event] = [begin, *self.history.events[1:]]
        recorder = self.history.recorder.branch(path, begin=begin, watcher=events.append)
        return History(recorder=recorder, events=events)


def take_baseline(
    asker: Asker,
    facts: Facts,
    directory: Path,
    *,
    run: str,
    salt: str,
    after: Sequence[NoticedCall] | None = None,
    of: Engine = "guarded",
    why: str = OF_ITSELF,
    checksums: bool | Mapping[str, str] = False,
) -> Baseline:
    """Ask until the noise is known.

    Args:
        asker: Asks.
        facts: What the engine is.
        directory: Where the history is written.
        run: The run it belongs to.
        salt: Under which the canaries are cached from now on.
        after: What had been noticed before, where that made a new baseline necessary.
        of: Whose answers they are.
        why: The same in words.
        checksums: Whether those of its weights are part of it; or they themselves, where they were read.

    Raises:
        EngineFailedError: the engine raised instead of answering.
    """
    events: list[Event] = []
    recorder = Recorder(directory / HISTORY_FILE, watcher=events.append)
    with closing(recorder):
        history = History(recorder=recorder, events=events)
        _begin(asker, facts, recorder, run=run, cell=directory.name, why=why)
        step = 1 if after is None else record_calls(recorder, after, since=recorder.now(), first=1)
        ask = _Asking(asker=asker, recorder=recorder, salt=salt, of=of, checksums=checksums)
        _ask(ask, facts, history, first=step)
    return Baseline(facts=facts, history=history, why=why)


def _begin(asker: Asker, facts: Facts, recorder: Recorder, *, run: str, cell: str, why: str) -> None:
    recorder.record(
        beginning(
            facts,
            run=run,
            cell=cell,
            t=recorder.now(),
            max_tokens=asker.max_tokens,
            concurrency=len(asker.canaries),
            why=why,
        )
    )
    introduce(recorder, facts, asker)


def _ask(ask: _Asking, facts: Facts, history: History, *, first: int) -> None:
    with asking(ask.recorder, str(first), "probe"):
        ask.warm(first, Role.BASELINE, CacheCondition.WARM)
        if facts.caches_prompts:
            ask.warm(first, Role.BASELINE, CacheCondition.REHIT)
        if ask.checksums is True:
            ask.asker.look_at_weights(ask.recorder, step=str(first), of=ask.of)
        elif ask.checksums:
            ask.asker.record_weights(ask.recorder, ask.checksums, step=str(first))
    second = first + 1
    with asking(ask.recorder, str(second), "null_transition"):
        for _ in range(MOST_NULL_PASSES):
            ask.warm(second, Role.NULL, CacheCondition.WARM)
            if facts.caches_prompts and facts.takes_salt:
                ask.cold(second, Role.NULL)
            if noise_is_known(history.recording):
                break


@dataclass(frozen=True, kw_only=True)
class _Asking:
    asker: Asker
    recorder: Recorder
    salt: str
    of: Engine
    checksums: bool | Mapping[str, str]

    def warm(self, step: int, role: Role, cache: CacheCondition) -> None:
        self.asker.ask(self.recorder, step=str(step), role=role, cache=cache, salt=self.salt, of=self.of)

    def cold(self, step: int, role: Role) -> None:
        self.asker.ask(
            self.recorder,
            step=str(step),
            role=role,
            cache=CacheCondition.COLD,
            salt=fresh_salt(),
            of=self.of,
        )
