"""Whether the steps of a script fit each other, followed along the model of the engine.

A probe asks an engine that is awake: one that the script has put to sleep would let it wait for ever.  It
must ask for an adapter that is loaded, and equal a baseline that was taken of the same adapter and the same
weights: one that cannot be equal would accuse a healthy engine.  So must requests that run beside the script,
where they are expected to be answered as if nothing had happened.

Calls that overlap, and one that its client gives up, may leave the engine in one of several states.  Every
later step must fit each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from harness.scenario.engine_state import ALL_TAGS, EngineState
from harness.scenario.script import Repeat, Step
from harness.scenario.steps.asking import NullTransition, Probe, ProbeOptions
from harness.scenario.steps.concurrently import Concurrently
from harness.scenario.steps.loading import (
    LoadAdapter,
    LoadAdapterOptions,
    UnloadAdapter,
    UnloadAdapterOptions,
)
from harness.scenario.steps.requests import (
    CancelRequests,
    FinishRequests,
    FinishRequestsOptions,
    StartRequests,
    StartRequestsOptions,
)
from harness.scenario.steps.updating import FinishWeightUpdate, UpdateWeights

Keys: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What is wrong, where in the file (``keys`` lead there), and what to do."""

    keys: Keys
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the answers of a probe, or of requests, depend on."""

    adapter: str | None
    """``first`` or ``second``; None for the base model."""
    weights: str

    def __str__(self) -> str:
        of = f"the {self.adapter} adapter" if self.adapter else "the base model"
        return f"{of} with the model's {self.weights} weights"


@dataclass
class _Story:
    """What the script has done so far."""

    engine: EngineState = field(default_factory=EngineState)
    baselines: dict[str, Asked] = field(default_factory=dict)
    first: str = ""
    """The name of the first probe."""
    running: dict[str, tuple[Asked, str]] = field(default_factory=dict)
    """What requests in flight ask, and the baseline that knows their answers."""

    def after(self, step: Step) -> Iterator[_Story]:
        """How it may go on, once a step has been carried out."""
        for engine in step.outcomes(self.engine):
            yield replace(self, engine=engine, baselines=dict(self.baselines), running=dict(self.running))

    def asked(self, adapter: str | None) -> Asked:
        """What it means to ask for an adapter by its name, or for the base model, here."""
        loaded = self.engine.adapters[adapter] if adapter else None
        return Asked(adapter=loaded, weights=self.engine.weights)


def mistakes(script: tuple[Step, ...]) -> Iterator[Mistake]:
    """Yield every step that does not fit those before it, in order; repetitions are followed twice."""
    stories = [_Story()]
    for number, step in enumerate(script):
        if not isinstance(step, Repeat):
            stories = yield from _follow_all(stories, step, keys=("script", number), repeated=False)
            continue
        for _ in range(min(step.repeat, 2)):
            for inner_number, inner in enumerate(step.steps):
                keys = ("script", number, "steps", inner_number)
                stories = yield from _follow_all(stories, inner, keys=keys, repeated=True)


def _follow_all(
    stories: Sequence[_Story], step: Step, *, keys: Keys, repeated: bool
) -> Generator[Mistake, None, list[_Story]]:
    """Follow one step wherever the script may have come to; return where it may go on."""
    ahead: list[_Story] = []
    if step.begins is not None:
        yield Mistake(
            keys=(*keys, step.key(), "begins"),
            message="only a call inside `concurrently` begins at a moment of its own",
            remedy="leave it out, or put the calls that overlap under `concurrently:`",
        )
    for story in stories:
        if step.asks and story.engine.rests:
            yield _rests(story.engine, keys=(*keys, step.key()))
        yield from _follow(story, step, keys=keys, repeated=repeated)
        ahead += [after for after in story.after(step) if after not in ahead]
    return ahead


def _follow(story: _Story, step: Step, *, keys: Keys, repeated: bool) -> Iterator[Mistake]:
    match step:
        case Probe():
            yield from _probe(story, step.probe, keys=(*keys, "probe"), repeated=repeated)
        case NullTransition() if step.null_transition.like is not None:
            yield from _like(story, step.null_transition.like, keys=(*keys, "null_transition", "like"))
        case LoadAdapter():
            yield from _load(story, step.load_adapter, keys=(*keys, "load_adapter"))
        case UnloadAdapter():
            yield from _unload(story, step.unload_adapter, keys=(*keys, "unload_adapter"))
        case StartRequests():
            yield from _start(story, step.start_requests, keys=(*keys, "start_requests"))
        case FinishRequests():
            yield from _finish(story, step.finish_requests, keys=(*keys, "finish_requests"))
        case UpdateWeights() | FinishWeightUpdate() if not (step.must_fail or story.engine.updating):
            yield Mistake(
                keys=(*keys, step.key()),
                message="no update has begun here, so vLLM refuses this",
                remedy="begin one before: `start_weight_update: {}`, or say `must_fail: true`",
            )
        case CancelRequests():
            story.running.pop(step.cancel_requests.name, None)
        case Concurrently():
            yield from _overlap(story, step, keys=(*keys, "concurrently"))
        case _:
            pass


def _overlap(story: _Story, step: Concurrently, *, keys: Keys) -> Iterator[Mistake]:
    """What those that overlap take for granted; what an engine makes of them is not foreseen."""
    for number, member in enumerate(step.concurrently):
        name = member.begins.after_first_token if member.begins else None
        if name is not None and name not in story.running:
            yield Mistake(
                keys=(*keys, number, member.key(), "begins", "after_first_token"),
                message=f"no requests {name!r} run here",
                remedy=f"start them before: `start_requests: {{name: {name}}}`",
            )
    for member in step.concurrently:
        if isinstance(member, CancelRequests):
            story.running.pop(member.cancel_requests.name, None)


def _rests(engine: EngineState, *, keys: Keys) -> Mistake:
    """Of a step that would wait for answers in vain."""
    does, remedy = "paused", "resume it before: `resume: {}`"
    if engine.updating:
        does, remedy = "left without weights, in an update", "end it before: `finish_weight_update: {}`"
    elif engine.asleep:
        whole = engine.asleep == ALL_TAGS
        does = "put to sleep" if whole else f"left asleep in part ({', '.join(engine.asleep)})"
        remedy = "wake it before: `wake_up: {}`"
    return Mistake(
        keys=keys,
        message=f"it asks an engine that the script has {does}: no answer would come",
        remedy=f"{remedy}, or send requests that wait with `start_requests`",
    )


def _probe(story: _Story, options: ProbeOptions, *, keys: Keys, repeated: bool) -> Iterator[Mistake]:
    if options.adapter is not None and options.adapter not in story.engine.adapters:
        yield _not_loaded(story, options.adapter, keys=(*keys, "adapter"))
        return
    asked = story.asked(options.adapter)
    for name in options.differs_from:
        if name not in story.baselines:
            yield _no_baseline(story, name, keys=(*keys, "differs_from"))
    if not story.first or options.baseline:
        yield from _begin(story, options.name, asked, keys=keys, repeated=repeated)
        return
    reference = options.same_as or story.first
    if reference not in story.baselines:
        yield _no_baseline(story, reference, keys=(*keys, "same_as"))
    elif story.baselines[reference] != asked:
        yield Mistake(
            keys=(*keys, "same_as") if options.same_as else keys,
            message=f"it asks {asked}, and {reference!r} asked {story.baselines[reference]}: "
            "they cannot be equal",
            remedy="name the baseline of what is asked with `same_as`, or take one with `baseline: true`",
        )


def _begin(story: _Story, name: str, asked: Asked, *, keys: Keys, repeated: bool) -> Iterator[Mistake]:
    story.first = story.first or name
    if repeated:
        yield Mistake(
            keys=keys, message="a baseline cannot be repeated", remedy="take it before the repetition"
        )
    elif name in story.baselines:
        yield Mistake(
            keys=keys,
            message=f"{name!r} is the name of an earlier baseline",
            remedy="give every baseline a name of its own",
        )
    story.baselines[name] = asked


def _like(story: _Story, name: str, *, keys: Keys) -> Iterator[Mistake]:
    wanted = story.baselines.get(name)
    if wanted is None:
        yield _no_baseline(story, name, keys=keys)
    elif wanted.weights != story.engine.weights or (
        wanted.adapter and wanted.adapter not in story.engine.adapters.values()
    ):
        yield Mistake(
            keys=keys,
            message=f"{name!r} asked {wanted}, which is not what is loaded here",
            remedy="measure the noise of a baseline right after it",
        )


def _load(story: _Story, options: LoadAdapterOptions, *, keys: Keys) -> Iterator[Mistake]:
    if options.name in story.engine.adapters and not options.in_place and not options.must_fail:
        yield Mistake(
            keys=(*keys, "name"),
            message=f"an adapter is loaded as {options.name!r} already, so vLLM refuses this",
            remedy="add `in_place: true`, unload it first, or say `must_fail: true`",
        )


def _unload(story: _Story, options: UnloadAdapterOptions, *, keys: Keys) -> Iterator[Mistake]:
    if options.name not in story.engine.adapters and not options.must_fail:
        yield _not_loaded(story, options.name, keys=(*keys, "name"))


def _start(story: _Story, options: StartRequestsOptions, *, keys: Keys) -> Iterator[Mistake]:
    if options.adapter is not None and options.adapter not in story.engine.adapters:
        yield _not_loaded(story, options.adapter, keys=(*keys, "adapter"))
        return
    reference = options.same_as or story.first
    if reference not in story.baselines:
        yield _no_baseline(story, reference, keys=(*keys, "same_as"))
        return
    story.running[options.name] = story.asked(options.adapter), reference


def _finish(story: _Story, options: FinishRequestsOptions, *, keys: Keys) -> Iterator[Mistake]:
    asked, reference = story.running.pop(options.name, (None, ""))
    if asked is not None and options.expect != "ended" and story.baselines[reference] != asked:
        yield Mistake(
            keys=keys,
            message=f"its requests ask {asked}, and {reference!r} asked {story.baselines[reference]}: "
            "they cannot be equal",
            remedy="name the baseline of what is asked with `same_as` in `start_requests`, "
            "or say `expect: ended`",
        )


def _not_loaded(story: _Story, name: str, *, keys: Keys) -> Mistake:
    loaded = ", ".join(story.engine.adapters) or "none"
    return Mistake(
        keys=keys,
        message=f"no adapter is loaded as {name!r} here (loaded: {loaded})",
        remedy=f"load it before: `load_adapter: {{name: {name}, adapter: first}}`",
    )


def _no_baseline(story: _Story, name: str, *, keys: Keys) -> Mistake:
    return Mistake(
        keys=keys,
        message=f"{name!r} is no earlier baseline (there are: {', '.join(story.baselines) or 'none'})",
        remedy="name the script's first probe, or a probe before this one that has `baseline: true`",
    )
