"""A history as the checkers see it: events gathered under the cell, its passes and its prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from harness.errors import HistoryError
from harness.history.events import (
    CellFailed,
    CellFinished,
    CellShortened,
    CellStarted,
    CellUnavailable,
    Event,
    FirstTokenMissing,
    FirstTokensTimed,
    HarnessStopped,
    MachineLoad,
    RequestsCounted,
    ServerLeftDamaged,
    ServerReady,
)
from harness.history.kinds import KindAnswered
from harness.history.layout import HISTORY_FILE
from harness.history.observations import Call, Observation, StepFinished, StepStarted, WeightChecksums
from harness.history.passes import (
    Answer,
    PassStarted,
    Prompt,
    PromptsPrepared,
    RequestEnded,
    RequestRunning,
    RequestStarted,
    Role,
    TokenTexts,
    Waited,
)
from harness.history.store import read_events
from harness.history.time_parts import TimeSpent
from harness.history.time_spent import time_spent

_E = TypeVar("_E", bound=Event)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One sending of all prompts under one condition, and the answer to each, by prompt id."""

    start: PassStarted
    answers: Mapping[str, Answer]

    @property
    def number(self) -> int:
        """Running number of the pass within its cell."""
        return self.start.number


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """One request that was sent beside the script, and what became of it."""

    start: RequestStarted
    running: RequestRunning | None
    """When its first token came."""
    ends: tuple[RequestEnded, ...]
    """One of a sound history; none where it broke off."""

    @property
    def end(self) -> RequestEnded | None:
        """How it ended."""
        return self.ends[-1] if self.ends else None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Everything recorded about one cell.

    ``failure`` is set when the machine got in the way, ``finished`` only when the
    script ran to its end; a recording with neither was cut off.
    """

    cell: CellStarted
    server: ServerReady | None = None
    prompts: Mapping[str, Prompt] = field(default_factory=dict)
    end_of_sequence_ids: tuple[int, ...] = ()
    vocabulary_size: int | None = None
    block_size: int | None = None
    passes: tuple[Pass, ...] = ()
    requests: tuple[InFlight, ...] = ()
    kinds: tuple[KindAnswered, ...] = ()
    """Rounds of requests of other kinds than the probes'."""
    steps: tuple[StepStarted, ...] = ()
    step_ends: Mapping[str, StepFinished] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    observations: tuple[Observation, ...] = ()
    weight_checksums: tuple[WeightChecksums, ...] = ()
    token_texts: Mapping[int, str] = field(default_factory=dict)
    counted: RequestsCounted | None = None
    """What a server that is not ours counted of everybody's requests."""
    time_spent: TimeSpent = field(default_factory=TimeSpent)
    unavailable: CellUnavailable | None = None
    failure: CellFailed | None = None
    finished: bool = False
    skipped: tuple[str, ...] = ()
    """Paths of the steps that were left out."""
    skipped_because: str = ""
    """Why, in words."""
    waits: tuple[Waited, ...] = ()
    """What the engine did while requests did not end in time; none in older histories."""
    stops: tuple[HarnessStopped, ...] = ()
    """When the harness itself did not run."""
    first_tokens: tuple[FirstTokensTimed, ...] = ()
    """How long a request that was alone waited for its first token; none in older histories."""
    first_tokens_missing: tuple[FirstTokenMissing, ...] = ()
    loads: tuple[MachineLoad, ...] = ()
    """How busy the machine was during each pass and lifecycle call; none in older histories."""
    left_damaged: ServerLeftDamaged | None = None
    """What the cell that came next on the same server found."""

    def passes_of(self, role: Role) -> Iterator[Pass]:
        """The passes that are evidence of ``role``, in the order they ran."""
        return (each for each in self.passes if each.start.role is role)

    @property
    def log_cell(self) -> str:
        """The cell in whose folder the server's log is: the one that booted it."""
        before = self.server.shared_with if self.server else ()
        return before[0] if before else self.cell.cell

    @cached_property
    def action_of_step(self) -> Mapping[str, StepStarted]:
        """The start of every step, by the step's path."""
        return {step.step: step for step in self.steps}


def gather(events: Iterable[Event]) -> Recording:
    """Gather ``events`` into a recording.

    Raises:
        ValueError: the first event is not ``cell_started``.
    """
    recorded = list(events)
    first = recorded[0] if recorded else None
    if not isinstance(first, CellStarted):
        raise ValueError("a history begins with a cell_started event")  # noqa: TRY004 - the file is wrong, not a type
    of: dict[type, list[Event]] = {}
    answers: dict[int, dict[str, Answer]] = {}
    for event in recorded[1:]:
        if isinstance(event, Answer):
            answers.setdefault(event.pass_number, {})[event.prompt] = event
        else:
            of.setdefault(type(event), []).append(event)
    prepared = _last(of, PromptsPrepared)
    return Recording(
        cell=first,
        server=_last(of, ServerReady),
        prompts={prompt.id: prompt for prompt in prepared.prompts} if prepared else {},
        end_of_sequence_ids=prepared.end_of_sequence_ids if prepared else (),
        vocabulary_size=prepared.vocabulary_size if prepared else None,
        block_size=prepared.block_size if prepared else None,
        passes=tuple(
            Pass(start=start, answers=answers.get(start.number, {})) for start in _all(of, PassStarted)
        ),
        requests=tuple(_requests(of)),
        kinds=_all(of, KindAnswered),
        steps=_all(of, StepStarted),
        step_ends={end.step: end for end in _all(of, StepFinished)},
        calls=_all(of, Call),
        observations=_all(of, Observation),
        weight_checksums=_all(of, WeightChecksums),
        token_texts={token: text for each in _all(of, TokenTexts) for token, text in each.texts.items()},
        counted=_last(of, RequestsCounted),
        time_spent=time_spent(recorded),
        unavailable=_last(of, CellUnavailable),
        failure=_last(of, CellFailed),
        finished=_last(of, CellFinished) is not None,
        skipped=tuple(step for each in _all(of, CellShortened) for step in each.skipped),
        skipped_because="; ".join(each.because for each in _all(of, CellShortened)),
        waits=_all(of, Waited),
        stops=_all(of, HarnessStopped),
        first_tokens=_all(of, FirstTokensTimed),
        first_tokens_missing=_all(of, FirstTokenMissing),
        loads=_all(of, MachineLoad),
        left_damaged=_last(of, ServerLeftDamaged),
    )


def _requests(of: Mapping[type, list[Event]]) -> Iterator[InFlight]:
    running = {event.number: event for event in _all(of, RequestRunning)}
    ends = _all(of, RequestEnded)
    for start in _all(of, RequestStarted):
        own = tuple(end for end in ends if end.number == start.number)
        yield InFlight(start=start, running=running.get(start.number), ends=own)


def _all(of: Mapping[type, list[Event]], kind: type[_E]) -> tuple[_E, ...]:
    return tuple(event for event in of.get(kind, ()) if isinstance(event, kind))


def _last(of: Mapping[type, list[Event]], kind: type[_E]) -> _E | None:
    found = _all(of, kind)
    return found[-1] if found else None


def load_recording(cell_directory: Path, *, ended_with: str | None = None) -> Recording:
    """Read one cell of a run; ``ended_with`` is the digest its history ended with, where that is known.

    Raises:
        HistoryError: there is no history in ``cell_directory``, it cannot be understood, or was changed.
    """
    return load_history(cell_directory / HISTORY_FILE, ended_with=ended_with)


def load_history(path: Path, *, ended_with: str | None = None) -> Recording:
    """Read one history file, for example that of an earlier attempt."""
    try:
        return gather(read_events(path, ended_with=ended_with))
    except ValueError as error:
        raise HistoryError(str(error), path=path, remedy="the run stopped before its first event") from error
