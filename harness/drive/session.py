"""What the parts of the driver share while one cell runs: its server, its recorder, its prompts."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from pydantic import JsonValue

from harness.drive.conditions import Condition
from harness.drive.in_flight import RequestsInFlight
from harness.drive.needs import needs_of
from harness.drive.recorder import Recorder
from harness.drive.standstill import Watch, watched
from harness.errors import ServerDiedError
from harness.history.event_base import CallFailure
from harness.history.kinds import KindAnswer
from harness.history.layout import SERVER_LOG
from harness.history.observations import Call, Observation, WeightChecksums
from harness.history.passes import Answer, Method, Prompt
from harness.kinds import Question
from harness.models.variants import Variants
from harness.scenario.engine_state import EngineState, Weights
from harness.scenario.schema import Scenario
from harness.servers.base import Server
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallError, CallResult
from harness.vllm_api.chat import Message, user_message
from harness.vllm_api.connection import Connection
from harness.vllm_api.metrics import MetricsSnapshot, read_metrics
from harness.vllm_api.versions import Feature, has

OBSERVATION_DEADLINE_S = 30.0
"""Reading a state or a metric: these answer at once, on a sleeping engine too."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A baseline: what its answers are, and what they depend on."""

    name: str
    adapter: str | None
    """The name under which it asked an adapter; None for the base model."""
    weights: Weights
    transitions: int
    """How many there had been when it was taken."""
    answers: dict[Condition, dict[str, Answer]] = field(default_factory=dict)
    questions: dict[str, tuple[Question, ...]] = field(default_factory=dict)
    """What is asked of each kind of request."""
    kinds: dict[str, tuple[KindAnswer, ...]] = field(default_factory=dict)
    """What was answered to that."""

    def tokens_to_score(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of its first answer to ``prompt``; none if it has no usable one."""
        for condition, answers in self.answers.items():
            if condition.method is Method.GENERATED:
                return answers[prompt.id].token_ids if prompt.id in answers else ()
        return ()


def messages_of(prompt: Prompt) -> tuple[Message, ...] | None:
    """What is sent instead of token ids: the picture and the text of a prompt that has a picture."""
    return (user_message(prompt.text, picture=prompt.picture),) if prompt.picture else None


class Target(NamedTuple):
    """Whom a pass asks, and what its answers must equal."""

    adapter: str | None
    reference: Reference


class Suspect(NamedTuple):
    """An answer whose tokens are not its baseline's: worth control questions, no judgement yet."""

    before: Answer
    after: Answer
    condition: Condition


async def always() -> bool:
    """Say yes."""
    return True


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an engine's configuration says of requests; None and empty where nobody tells."""

    end_of_sequence: tuple[int, ...] = ()
    max_model_len: int | None = None
    slots: int | None = None
    """How many requests run at a time."""


@dataclass(kw_only=True)
class Session:
    """One cell while it runs.  The mutable part is what the script has done so far."""

    scenario: Scenario
    server: Server
    connection: Connection
    recorder: Recorder
    served_model_name: str
    variants: Variants
    vllm_version: str | None = None
    caches_prompts: bool = True
    """Whether the engine keeps what it computed of a prompt for the next that begins so."""
    prompts: tuple[Prompt, ...] = ()
    limits: Limits = field(default_factory=Limits)
    rounds: int = 0
    """How often requests of other kinds were asked."""
    step: str | None = None
    cycle: int = 0
    states: tuple[EngineState, ...] = (EngineState(),)
    """What the engine may be like by what was done to it; several where calls overlapped or were given up."""
    weights_named: bool = False
    """Whether a path of weights was ever named: vLLM would load from the last one again."""
    rests_on: bool = False
    """Whether the engine was seen asleep or paused although it had to be at work."""
    answers: bool = True
    """Whether every question of the last pass had an answer."""
    transitions: int = 0
    references: dict[str, Reference] = field(default_factory=dict)
    """Every baseline by its name, in order."""
    controls_asked: bool = False
    in_flight: RequestsInFlight = field(default_factory=RequestsInFlight)
    kinds_in_flight: dict[str, dict[str, list[KindAnswer]]] = field(default_factory=dict)
    """Of each group of requests beside the script what has come so far of each kind sent with it."""
    groups: dict[str, Reference] = field(default_factory=dict)
    """The baseline that each group of requests is held to."""
    knows_noise: Callable[[], bool] = lambda: True
    """Whether what is recorded so far tells how much answers differ by themselves."""
    foresee: Callable[[EngineState], None] | None = None
    """Is told, on a server that is not ours, what the engine may be like once a call has been made."""
    settle: Callable[[EngineState], None] | None = None
    """Is told what it is like once the call has succeeded."""
    calls_for_controls: Callable[[], Awaitable[bool]] = always
    """Whether what is recorded so far is worth control questions, beyond answers that differ at all."""
    is_passive: bool = False
    """Whether nothing may be asked of the engine but answers, not even to find a cause."""
    salt: str = field(default_factory=lambda: f"sleepwake-{secrets.token_hex(8)}")

    @property
    def state(self) -> EngineState:
        """What the engine ought to be like; of several things the first."""
        return self.states[0]

    @state.setter
    def state(self, state: EngineState) -> None:
        self.states = (state,)

    def lacks(self, feature: Feature) -> bool:
        """Whether the release under test is known not to have ``feature``; what is unknown is tried."""
        return self.vllm_version is not None and has(feature, self.vllm_version) is False

    def branch(self, recorder: Recorder) -> Session:
        """A session that goes on from here by itself and writes what it does to ``recorder``."""
        return replace(self, recorder=recorder, references=dict(self.references))

    def reference(self, name: str | None) -> Reference:
        """The baseline of this name, or the first one."""
        return self.references[name or next(iter(self.references))]

    def target_like(self, name: str | None) -> Target:
        """What the baseline of this name, or the first one, asked."""
        reference = self.reference(name)
        return Target(reference.adapter, reference)

    def path_of_weights(self, weights: Literal["own", "other", "missing"]) -> str | None:
        """What ``reload_weights`` must be told to load them; None: nothing, it has never loaded others."""
        if weights == "own" and not self.weights_named:
            return None
        self.weights_named = True
        if weights == "own":
            return self.variants.own_weights
        return str(self.variants.other_weights if weights == "other" else self.variants.missing_weights)

    def folder_of_weights(self, weights: Literal["own", "other", "missing"]) -> str:
        """The folder from which an update takes them."""
        folders = {"other": self.variants.other_weights, "missing": self.variants.missing_weights}
        return str(folders.get(weights, self.variants.own_weights))

    async def weight_version(self) -> str | None:
        """What the engine calls its weights; None where it does not tell."""
        result = await lifecycle.weight_info(self.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
        told = result.field("weight_version")
        return told if isinstance(told, str) else None

    @property
    def base_model(self) -> Target | None:
        """The base model, where a baseline was taken of it with the weights that are loaded."""
        for each in self.references.values():
            if each.adapter is None and each.weights == self.state.weights:
                return Target(None, each)
        return None

    def call_recorded(self, result: CallResult) -> CallResult:
        """Put one lifecycle call into the history."""
        self.recorder.record(
            Call(
                t=self.recorder.now(),
                step=self.step,
                method=result.method,
                path=result.path,
                parameters=_parameters(result),
                sends_json=result.payload is not None,
                status=result.status,
                body=result.body,
                seconds=result.seconds,
                failure=failure_of(result.error),
            )
        )
        return result

    async def require_alive(self) -> None:
        """Return while the server runs.

        Raises:
            ServerDiedError: it is gone; says during what and why, with the end of its log.
        """
        death = await self.server.death()
        if death is not None:
            raise ServerDiedError(
                f"the server died while {self._doing()}: {death}",
                log_tail=self.server.log_tail(),
                remedy=f"read {SERVER_LOG} beside the history",
            )

    def _doing(self) -> str:
        if self.step is None:
            return "the prompts were being prepared"
        asleep = " and the engine was asleep" if self.state.asleep else ""
        return f"step {self.step} was running{asleep}"

    def watched(self) -> AbstractAsyncContextManager[Watch]:
        """Look at the engine while answers are waited for."""
        return watched(self.server, self.connection, self.recorder)

    def record_wait(self, watch: Watch, *, answers: int, pass_number: int | None = None) -> None:
        """Put into the history what the engine did while so many ``answers`` were waited for."""
        tokens = answers * self.scenario.sampling.max_tokens
        now = self.recorder.now()
        self.recorder.record(
            watch.vigil.waited(t=now, step=self.step, pass_number=pass_number, tokens=tokens)
        )

    async def observe(self, moment: Literal["before", "after", "settled"]) -> Observation:
        """Look at the engine from outside and put what is seen into the history."""
        state = await lifecycle.is_sleeping(self.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
        metrics = await read_metrics(self.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
        memory = await self.server.measure_memory()
        paused = await lifecycle.is_paused(self.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
        health = await lifecycle.health(self.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
        served = await self._served()
        observation = Observation(
            t=self.recorder.now(),
            step=self.step,
            moment=moment,
            is_sleeping=_truth(state.field("is_sleeping")),
            is_paused=_truth(paused.field("is_paused")),
            is_healthy=health.ok if health.status is not None else None,
            sleep_state=metrics.snapshot.sleep_state if metrics.snapshot else None,
            served=served,
            resident_bytes=memory.resident,
            device_bytes=memory.device,
            memory_by_process=dict(memory.per_process),
            counters=_counters(metrics.snapshot),
        )
        self.recorder.record(observation)
        return observation

    async def _served(self) -> tuple[str, ...] | None:
        """The names under which something is served; None where no adapter is among them, or nobody tells."""
        if not needs_of(self.scenario.script).adapters:
            return None
        listed = await lifecycle.models(self.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
        return tuple(lifecycle.names_in(listed)) if listed.ok else None

    async def record_weight_checksums(self, reference: Reference) -> None:
        """Put the checksums of parameters and buffers into the history, as far as the engine tells them."""
        if self.is_passive:
            return  # all weights are read for it, and nobody is served meanwhile
        deadline_s = self.scenario.deadlines.transition
        result = await lifecycle.weight_checksums(self.connection.http, deadline_s=deadline_s)
        told = result.field("checksums")
        buffers = None
        if self.server.facts.engine == "cpu":  # elsewhere nobody knows the question
            answer = await lifecycle.checksums_of_buffers(self.connection.http, deadline_s=deadline_s)
            buffers = _of_all_workers(answer.field("results"))
        self.recorder.record(
            WeightChecksums(
                t=self.recorder.now(),
                step=self.step,
                reference=reference.name,
                checksums=_checksums(told) if isinstance(told, dict) else None,
                version=await self.weight_version() if self.state.weight_version is not None else None,
                buffers=buffers,
            )
        )


def _of_all_workers(results: JsonValue) -> dict[str, str] | None:
    """What each worker told, under names that tell them apart; None where one told nothing."""
    if not isinstance(results, list) or not results:
        return None
    found: dict[str, str] = {}
    for number, told in enumerate(results):
        if not isinstance(told, dict):
            return None
        found |= _checksums({f"worker {number}: {name}": value for name, value in told.items()})
    return found


def _checksums(told: Mapping[str, JsonValue]) -> dict[str, str]:
    return {name: str(value) for name, value in told.items()}


def failure_of(error: CallError | None) -> CallFailure | None:
    """A call's error as the history stores it."""
    if error is None:
        return None
    return CallFailure(kind=error.kind, message=error.message, status=error.status)


def _truth(value: JsonValue) -> bool | None:
    return value if isinstance(value, bool) else None


def _parameters(result: CallResult) -> dict[str, JsonValue]:
    """Query parameters by name; one that is given several times holds a list."""
    values: dict[str, list[str]] = {}
    for name, value in result.params:
        values.setdefault(name, []).append(value)
    if isinstance(result.payload, dict):
        return {**_query(values), **{name: _told(value) for name, value in result.payload.items()}}
    return _query(values)


def _query(values: Mapping[str, list[str]]) -> dict[str, JsonValue]:
    return {name: given[0] if len(given) == 1 else list[JsonValue](given) for name, given in values.items()}


def _told(value: JsonValue) -> JsonValue:
    """What stands in JSON bodies, as histories have always had it: words, but for what has parts."""
    return value if value is None or isinstance(value, dict | list) else str(value)


def _counters(snapshot: MetricsSnapshot | None) -> dict[str, float]:
    if snapshot is None:
        return {}
    names = (
        "requests_running",
        "requests_waiting",
        "preemptions",
        "prefix_cache_queries",
        "prefix_cache_hits",
        "generation_tokens",
        "drafted_tokens",
        "accepted_tokens",
        "corrupted_requests",
    )
    values = ((name, getattr(snapshot, name)) for name in names)
    return {name: value for name, value in values if value is not None} | dict(snapshot.timings)
