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

from harness.explore.fuzz.moves import (
    ADAPTER,
    ADAPTER_BASELINES,
    FINISH,
    LEAVING,
    OTHER_WEIGHTS,
    PROBE,
    REQUESTS,
    RESET,
    RESUME,
    Modifier,
    Move,
    reload,
    wake,
)
from harness.explore.fuzz.overlapping import (
    MOST_STATES,
    beside,
    disturbs_requests,
    each_once,
    given_up,
    leaves_weights_unsure,
)
from harness.scenario.engine_state import AdapterName, EngineState
from harness.scenario.script import Step, each_by_itself
from harness.scenario.steps.asking import NullTransition, NullTransitionOptions, Probe, ProbeOptions
from harness.scenario.steps.caches import ResetPrefixCache
from harness.scenario.steps.concurrently import Concurrently
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


@dataclass(kw_only=True)
class _Walk:
    """The way along a script: the engine as the model knows it, and what requests in flight may expect."""

    steps: list[Step] = field(default_factory=list)
    engines: tuple[EngineState, ...] = (EngineState(),)
    """All that the engine may be like; they agree on its adapters."""
    unsure: bool = False
    """Whether its weights may be any, because calls overlapped: they are loaded before it is asked again."""
    wanted: frozenset[Modifier] = frozenset()
    """What becomes of the next call."""
    previous: _Walk | None = None
    """The way without its last step."""
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
        for step in move:
            if isinstance(step, Modifier):
                walk.wanted |= {step}
            elif not walk.take(step):
                return None
        return walk

    def take(self, step: Step) -> bool:
        """Go one step further and say so, unless it is not legal here."""
        wanted, self.wanted = self.wanted, frozenset()
        if wanted and (joined := self._joined(step, wanted)):
            return self._overlap(*joined)
        if not self._legal(step):
            return False
        self.previous = replace(self, steps=[*self.steps])
        self.steps.append(self._filled_in(step))
        self._note(step)
        return True

    def close(self) -> None:
        """Wake up, finish what runs, and ask."""
        self.wanted = frozenset()
        if len(self.engines) > 1 or self.engine.asleep:
            self.take(wake())
        elif self.engine.paused:
            self.take(RESUME)
        self.take(FINISH)
        if self.unsure:
            self.take(reload("own"))
            self.take(RESET)
            self.unsure = False
        self.take(PROBE)

    def _legal(self, step: Step) -> bool:
        if self.unsure and isinstance(step, Probe | StartRequests | LoadAdapter | UnloadAdapter):
            return False
        if step == wake() or isinstance(step, Resume):
            return any(self._legal_on(engine, step) for engine in self.engines)
        return all(self._legal_on(engine, step) for engine in self.engines)

    def _legal_on(self, engine: EngineState, step: Step) -> bool:  # noqa: C901, PLR0911, PLR0912 - one case a step
        if step.asks and engine.rests:
            return False
        match step:
            case Probe():
                return not (self.steps and isinstance(self.steps[-1], Probe))
            case WakeUp(wake_up=options):
                tags = set(options.tags) - {"scheduling", "unknown"}
                return tags <= engine.asleep if tags else engine.rests
            case Resume():
                return engine.paused
            case Pause():
                return not engine.asleep
            case ResetPrefixCache():
                return not engine.asleep and self.running is None
            case ReloadWeights():
                return "weights" not in engine.asleep
            case ReleaseKvCacheMemory():
                return engine.paused and not engine.asleep and self.running is None
            case StartRequests(start_requests=options):
                return options.name == LEAVING or self.running is None
            case FinishRequests():
                return self.running is not None and (self.over or not engine.rests)
            case CancelRequests() | AbortRequests():
                return self.running is not None
            case LoadAdapter(load_adapter=options):
                return not engine.rests and (self._adapter is not None) is options.in_place
            case UnloadAdapter():
                return not engine.rests and self._adapter is not None
            case _:
                return True

    def _joined(self, step: Step, wanted: frozenset[Modifier]) -> tuple[_Walk, Step] | None:
        """Where a call is made that overlaps others, and all of them; None where it is made alone."""
        if Modifier.GIVEN_UP in wanted:
            step = given_up(step)
        before, last = self.previous, self.steps[-1] if self.steps else None
        if before is not None and last is not None and wanted - {Modifier.GIVEN_UP}:
            waits = Modifier.WHILE_PENDING in wanted and before.running is not None
            if group := beside(last, step, while_pending=waits):
                return before, group
        return (self, step) if step.abandoned is not None else None

    def _overlap(self, before: _Walk, group: Step) -> bool:
        """Go on from ``before`` with a call that was given up, or with several at once, if that is legal."""
        members = group.concurrently if isinstance(group, Concurrently) else (group,)
        after = each_once(state for engine in before.engines for state in group.outcomes(engine))
        left = [each.cancel_requests.name for each in members if isinstance(each, CancelRequests)]
        agree = all(state.adapters == after[0].adapters for state in after)
        if not agree or len(after) > MOST_STATES or left.count(REQUESTS) > (before.running is not None):
            return False
        self.__dict__.update(vars(replace(before, steps=[*before.steps, group], previous=before)))
        self.engines, self.wanted = after, frozenset()
        self.unsure = self.unsure or any(map(leaves_weights_unsure, members))
        if REQUESTS in left:
            self.running = None
        elif self.running is not None and any(map(disturbs_requests, members)):
            self.running, self.touched = "ended", True
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
    def engine(self) -> EngineState:
        """What the engine is like; where that may be several things, the first of them."""
        return self.engines[0]

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
        self.engines = each_once(step.leaves(engine) for engine in self.engines)
        kept = (self.engine.weights, self.engine.weights_lost)
        self.unsure |= any((each.weights, each.weights_lost) != kept for each in self.engines)
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
            case StartRequests(start_requests=options) if options.name != LEAVING:
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
    steps = tuple(each_by_itself(steps))
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
