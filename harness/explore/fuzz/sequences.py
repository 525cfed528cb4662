"""Which sequences of lifecycle calls are legal, and what must hold after each.

A sequence is drawn as a list of moves.  :func:`carried_out` walks along it with a model of the
engine: a move that would not be legal where the engine is then is left out whole, and at the
end the engine is woken, requests are finished and a probe asks whether the answers are still right.
So every list of moves is a legal script, and taking a move out of one leaves the others as they
were: that is what makes shrinking work.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.drive.script import PlacedStep
from harness.explore.fuzz.moves import (
    ADAPTER,
    ADAPTER_BASELINES,
    FINISH,
    OTHER_WEIGHTS,
    PROBE,
    RESET,
    RESUME,
    Move,
    reload,
    wake,
)
from harness.scenario.engine_state import AdapterName, EngineState
from harness.scenario.script import Step
from harness.scenario.steps.asking import NullTransition, NullTransitionOptions, Probe, ProbeOptions
from harness.scenario.steps.caches import ResetPrefixCache
from harness.scenario.steps.lifecycle import (
    Mode,
    Pause,
    ReleaseKvCacheMemory,
    Resume,
    Sleep,
    WakeUp,
)
from harness.scenario.steps.loading import (
    LoadAdapter,
    LoadAdapterOptions,
    ReloadWeights,
    UnloadAdapter,
    UnloadAdapterOptions,
)
from harness.scenario.steps.requests import (
    AbortRequests,
    CancelRequests,
    FinishRequests,
    StartRequests,
)


def carried_out(moves: Iterable[Move]) -> tuple[Step, ...]:
    """The legal script that ``moves`` stand for; empty where nothing but probes is left of them."""
    walk = _Walk()
    for move in moves:
        walk = walk.further(move) or walk
    if not any(counts(step) for step in walk.steps):
        return ()
    walk.close()
    return tuple(walk.steps)


def counts(step: Step) -> bool:
    """Whether a step is a call that may change the engine, and not only a question."""
    return not isinstance(step, Probe)


def words(step: Step) -> str:
    """A step on one line, with the options that say something: ``sleep level=1 mode=keep``."""
    placed = PlacedStep(path="", cycle=0, step=step)
    said = type(step).model_fields[placed.action].annotation
    default = said.model_construct() if said else None
    options = {
        name: value
        for name, value in placed.options.items()
        if name not in {"within", "evidence"}
        and value not in (None, [], {})
        and (name in {"level", "name"} or value != getattr(default, name, None))
    }
    told = (
        f"{name}={'+'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in options.items()
    )
    return " ".join([placed.action, *told])


@dataclass(kw_only=True)
class _Walk:
    """The way along a script: the engine as the model knows it, and what requests in flight may expect."""

    steps: list[Step] = field(default_factory=list)
    engine: EngineState = field(default_factory=EngineState)
    running: Literal["same", "aborted", "ended"] | None = None
    """What must become of the requests in flight; None where there are none."""
    adapter_runs: bool = False
    """Whether requests in flight ask the adapter."""
    touched: bool = False
    """Whether anything happened since they were started."""
    over: bool = False
    """Whether they have ended although nobody has looked: aborted, or waited for."""
    probes: int = 0

    def further(self, move: Move) -> _Walk | None:
        """Where a move leads; None where one of its steps would not be legal: half of one is another."""
        walk = replace(self, steps=[*self.steps])
        return walk if all(walk.take(step) for step in move) else None

    def take(self, step: Step) -> bool:
        """Go one step further and say so, unless it is not legal here."""
        if not self._legal(step):
            return False
        self.steps.append(self._filled_in(step))
        self._note(step)
        return True

    def close(self) -> None:
        """Wake up, finish what runs, and ask."""
        if self.engine.asleep:
            self.take(wake())
        elif self.engine.paused:
            self.take(RESUME)
        self.take(FINISH)
        self.take(PROBE)

    def _legal(self, step: Step) -> bool:  # noqa: C901, PLR0911, PLR0912 - one case a step
        if step.asks and self.engine.rests:
            return False
        match step:
            case Probe():
                return not (self.steps and isinstance(self.steps[-1], Probe))
            case WakeUp(wake_up=options):
                return set(options.tags) <= self.engine.asleep if options.tags else self.engine.rests
            case Resume():
                return self.engine.paused
            case Pause():
                return not self.engine.asleep
            case ResetPrefixCache():
                return not self.engine.asleep and self.running is None
            case ReloadWeights():
                return "weights" not in self.engine.asleep
            case ReleaseKvCacheMemory():
                return self.engine.paused and not self.engine.asleep and self.running is None
            case StartRequests():
                return self.running is None
            case FinishRequests():
                return self.running is not None and (self.over or not self.engine.rests)
            case CancelRequests() | AbortRequests():
                return self.running is not None
            case LoadAdapter(load_adapter=options):
                return not self.engine.rests and (self._adapter is not None) is options.in_place
            case UnloadAdapter():
                return not self.engine.rests and self._adapter is not None
            case _:
                return True

    def _filled_in(self, step: Step) -> Step:
        """The step with what the model expects of it."""
        match step:
            case Probe():
                self.probes += 1
                return Probe(probe=self._probe_options())
            case StartRequests(start_requests=asked) if like := self._adapter_baseline:
                adapted = asked.model_copy(update={"adapter": ADAPTER, "same_as": like})
                return StartRequests(start_requests=adapted)
            case FinishRequests(finish_requests=options) if self.running:
                return FinishRequests(finish_requests=options.model_copy(update={"expect": self.running}))
            case _:
                return step

    @property
    def _adapter(self) -> AdapterName | None:
        return self.engine.adapters.get(ADAPTER)

    @property
    def _adapter_baseline(self) -> str | None:
        """What the adapter that is loaded must answer as; None where the base model is asked."""
        return ADAPTER_BASELINES[self._adapter] if self._adapter and self.engine.weights == "own" else None

    def _probe_options(self) -> ProbeOptions:
        name = f"after-{self.probes}"
        if like := self._adapter_baseline:
            return ProbeOptions(name=name, evidence=("warm",), adapter=ADAPTER, same_as=like)
        like_weights = OTHER_WEIGHTS if self.engine.weights == "other" else None
        return ProbeOptions(name=name, evidence=("warm",), same_as=like_weights)

    def _note(self, step: Step) -> None:
        """What the engine is like after it, and what may become of requests in flight."""
        self.engine = step.leaves(self.engine)
        match step:
            case Sleep(sleep=options):
                self._interrupt(options.mode)
                if options.level == 2:  # noqa: PLR2004 - what runs is computed with other weights, if any
                    self._expect_any_end()
            case Pause(pause=options):
                self._interrupt(options.mode)
            case AbortRequests():
                self._interrupt("abort")
            case WakeUp():
                self.touched = True
            case ReloadWeights():
                self._expect_any_end()
            case StartRequests():
                # Nobody has asked for the undisturbed answers of other weights one by one.
                self.running = "same" if self.engine.weights == "own" else "ended"
                self.adapter_runs = self._adapter_baseline is not None
                self.touched, self.over = self.engine.rests, False
            case FinishRequests() | CancelRequests():
                self.running = None
            case LoadAdapter() | UnloadAdapter() if self.adapter_runs:
                self._expect_any_end()
            case _:
                pass

    def _interrupt(self, mode: Mode | None) -> None:
        """What becomes of requests in flight when scheduling stops."""
        if self.running == "same" and mode in {None, "abort"}:
            # Whether they still ran is certain only if nothing else came before.
            self.running = "ended" if self.touched else "aborted"
        self.over = self.over or (not self.touched and mode != "keep")
        self.touched = True

    def _expect_any_end(self) -> None:
        if self.running == "same":
            self.running = "ended"


def setup_for(steps: Sequence[Step], *, taken: Container[str] = ()) -> tuple[Step, ...]:
    """The baselines that ``steps`` need besides the first and those ``taken``, each before them."""
    setup: list[Step] = []
    reloaded = {step.reload_weights.weights for step in steps if isinstance(step, ReloadWeights)}
    if "other" in reloaded and OTHER_WEIGHTS not in taken:
        setup += [reload("other"), RESET, *_baseline(OTHER_WEIGHTS), reload("own"), RESET]
    loaded = {step.load_adapter.adapter for step in steps if isinstance(step, LoadAdapter)}
    for adapter, name in ADAPTER_BASELINES.items():
        if adapter in loaded and name not in taken:
            setup += _adapter_baseline(adapter, name)
    if setup:
        # What the sequence finds in the prefix cache is what it would find after the first baseline.
        setup += [RESET, Probe(probe=ProbeOptions(name="before", evidence=("warm",)))]
    return tuple(setup)


def _adapter_baseline(adapter: AdapterName, name: str) -> list[Step]:
    return [
        LoadAdapter(load_adapter=LoadAdapterOptions(name=name, adapter=adapter)),
        *_baseline(name, adapter=name),
        UnloadAdapter(unload_adapter=UnloadAdapterOptions(name=name)),
    ]


def _baseline(name: str, *, adapter: str | None = None) -> list[Step]:
    """A baseline and its noise."""
    asked = ProbeOptions(name=name, adapter=adapter, baseline=True)
    return [Probe(probe=asked), NullTransition(null_transition=NullTransitionOptions(like=name))]
