"""What a scenario file may say.

The models have the shape of the YAML itself, so that the published JSON Schema
(``sleepwake schema scenario``) is the one editors can validate files against.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

EvidenceName = Literal["warm", "rehit", "cold", "scored", "forced", "sampled", "unseen"]
"""What a probe may ask for; ``scenarios/README.md`` says what each can see."""

AtATime = Annotated[int, Field(ge=1, le=1024)]
Concurrency = AtATime | Annotated[tuple[AtATime, ...], Field(min_length=1)]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Arm(_Strict):
    """One server configuration under comparison."""

    args: tuple[str, ...] = Field(
        default=(),
        description="vLLM command line flags; `$MODEL` is the model, `$SCRATCH` an empty folder",
    )
    env: dict[str, str] = Field(default={}, description="environment variables of the server")

    @field_validator("args", mode="before")
    @classmethod
    def _numbers_are_words(cls, value: object) -> object:
        """``--block-size 32`` may be written with a bare number: a command line has only words."""
        if isinstance(value, list):
            return [str(word) if isinstance(word, int | float) else word for word in value]
        return value


class PromptSet(_Strict):
    """Which prompts are sent: the first ``count`` of a corpus."""

    corpus: Name = Field(description="a file under `corpora/`, without its `.yaml`")
    count: int = Field(default=16, ge=1, le=1000, description="how many of its prompts are asked")
    held_out: int = Field(
        default=2,
        ge=0,
        description="further prompts, asked once before the first transition, for the unseen-prompts control",
    )


class Sampling(_Strict):
    """How answers are sampled."""

    temperature: float = Field(default=0.0, ge=0.0, le=2.0, description="0 is greedy")
    max_tokens: int = Field(default=64, ge=1, description="tokens after which an answer is cut off")
    seed: int = Field(default=0, description="of every request")
    logprobs: int = Field(default=5, ge=1, le=20, description="likeliest tokens recorded beside each token")


class Deadlines(_Strict):
    """Seconds after which waiting for an answer ends.  Nothing in a run waits without one."""

    boot: float = Field(default=600.0, gt=0, description="seconds until a server is ready")
    answer: float = Field(default=180.0, gt=0, description="seconds for one answer of a probe")
    transition: float = Field(default=120.0, gt=0, description="seconds for one lifecycle call")


class ProbeOptions(_Strict):
    """A set of prompts sent under named conditions."""

    name: Name = Field(description="stands in the report")
    evidence: tuple[EvidenceName, ...] | None = Field(
        default=None, min_length=1, description="instead of the scenario's, exactly these"
    )
    concurrency: Concurrency | None = Field(default=None, description="instead of the scenario's")
    adapter: Name | None = Field(
        default=None, description="the loaded adapter that is asked, by its name; without it the base model"
    )
    baseline: bool = Field(
        default=False,
        description="begins a further baseline, of an adapter or of other weights, and is not judged",
    )
    same_as: Name | None = Field(
        default=None,
        description="the earlier baseline its answers must equal; without it the script's first probe",
    )
    differs_from: tuple[Name, ...] = Field(
        default=(), description="earlier baselines its answers must not all equal"
    )

    @field_validator("evidence")
    @classmethod
    def _no_pass_twice(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else _each_once(value)

    @model_validator(mode="after")
    def _a_baseline_equals_nothing(self) -> ProbeOptions:
        if self.baseline and self.same_as is not None:
            raise ValueError("a probe is a baseline, or it must equal one: not both")
        return self


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("each kind of evidence can be named once")
    return value


class SleepOptions(_Strict):
    """Parameters of ``POST /sleep``."""

    level: Literal[0, 1, 2] = Field(
        default=1, description="0 only stops scheduling, 1 keeps the weights elsewhere, 2 throws them away"
    )
    mode: Literal["abort", "wait", "keep"] | None = Field(
        default=None, description="what becomes of running requests; vLLM's own default is `abort`"
    )


class WakeOptions(_Strict):
    """Parameters of ``POST /wake_up``; without tags everything wakes."""

    tags: tuple[Literal["weights", "kv_cache", "scheduling"], ...] = Field(
        default=(), description="what wakes, in any order; empty: everything"
    )


class NullTransitionOptions(_Strict):
    """A control step that must change nothing, followed by the baseline's own passes."""

    by: Literal["sleep_level_0", "idle"] = Field(
        default="sleep_level_0", description="a level-0 sleep, or nothing at all"
    )
    passes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="matched passes of each cache condition; without it as many as noise takes, 4 at most",
    )
    evidence: tuple[Literal["warm", "cold"], ...] | None = Field(
        default=None, min_length=1, description="instead of the baseline's own passes, exactly these"
    )
    like: Name | None = Field(
        default=None,
        description="the baseline whose passes are repeated; without it the script's first probe",
    )

    @field_validator("evidence")
    @classmethod
    def _no_pass_twice(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else _each_once(value)


class PauseOptions(_Strict):
    """Parameters of ``POST /pause``."""

    mode: Literal["abort", "wait", "keep"] | None = Field(
        default=None, description="what becomes of running requests; vLLM's own default is `abort`"
    )
    clear_cache: bool | None = Field(
        default=None, description="whether the caches are forgotten; vLLM's own default is `true`"
    )


class ResetPrefixCacheOptions(_Strict):
    """Parameters of ``POST /reset_prefix_cache``."""

    running_requests: bool = Field(
        default=False, description="preempts running requests, which otherwise keep the cache as it is"
    )
    external: bool = Field(default=False, description="resets a KV connector's cache as well")


class _MayFail(_Strict):
    must_fail: bool = Field(
        default=False, description="the engine must refuse the call; if it does not, that contradicts"
    )


class ReleaseOptions(_MayFail):
    """Parameters of ``POST /release_kv_cache_memory``."""


class ReloadOptions(_MayFail):
    """Which weights ``reload_weights`` loads."""

    weights: Literal["own", "other", "missing"] = Field(
        default="own",
        description="the model's own, those of a variant that answers otherwise, or a path without any",
    )

    @model_validator(mode="after")
    def _missing_ones_cannot_be_loaded(self) -> ReloadOptions:
        if self.weights == "missing" and not self.must_fail:
            raise ValueError("missing weights cannot be loaded: add `must_fail: true`")
        return self


class LoadAdapterOptions(_MayFail):
    """Parameters of ``POST /v1/load_lora_adapter``."""

    name: Name = Field(description="requests name it so")
    adapter: Literal["first", "second"] = Field(description="which of the two adapters made for the model")
    in_place: bool = Field(default=False, description="takes the place of the one loaded under this name")
    same_path: bool = Field(
        default=False,
        description="exchanges the files at one path of the name; otherwise every adapter has its own",
    )


class UnloadAdapterOptions(_MayFail):
    """Parameters of ``POST /v1/unload_lora_adapter``."""

    name: Name = Field(description="the name it was loaded under")


class StartRequestsOptions(_Strict):
    """Requests that are sent and not waited for."""

    name: Name = Field(description="by which `finish_requests` or `cancel_requests` means them")
    count: int | None = Field(
        default=None, ge=1, description="how many of the prompts are sent, all at once; all without it"
    )
    until: Literal["running", "sent"] | None = Field(
        default=None,
        description="when the script goes on: the first token of each was seen, or the server has them; "
        "without it `running` where the engine is awake, `sent` where it rests",
    )
    adapter: Name | None = Field(
        default=None, description="the loaded adapter that is asked, by its name; without it the base model"
    )
    same_as: Name | None = Field(
        default=None,
        description="the earlier baseline that `expect: same` means; without it the script's first probe",
    )


class FinishRequestsOptions(_Strict):
    """What must have become of requests that were started."""

    name: Name = Field(description="of their `start_requests`")
    expect: Literal["same", "aborted", "ended"] = Field(
        default="same",
        description="the baseline's answers; ends with the finish reason `abort`; or any end whatever",
    )
    within: float = Field(default=60.0, gt=0, description="seconds from this step on; then they are given up")


class CancelRequestsOptions(_Strict):
    """Requests whose clients leave before they have their answers."""

    name: Name = Field(description="of their `start_requests`")


class NoOptions(_Strict):
    """The step has no options: write ``{}``."""


class Probe(_Strict):
    """Send the prompts and record what comes back."""

    probe: ProbeOptions

    @field_validator("probe", mode="before")
    @classmethod
    def _a_name_is_enough(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Sleep(_Strict):
    """Put the engine to sleep."""

    sleep: SleepOptions


class WakeUp(_Strict):
    """Wake the engine, whole or by tag."""

    wake_up: WakeOptions


class Pause(_Strict):
    """Stop scheduling; memory stays."""

    pause: PauseOptions


class Resume(_Strict):
    """Go on after a pause."""

    resume: NoOptions


class ReleaseKvCacheMemory(_Strict):
    """Give the KV cache's memory back while paused."""

    release_kv_cache_memory: ReleaseOptions


class ReloadWeights(_Strict):
    """Load weights into the running engine."""

    reload_weights: ReloadOptions


class LoadAdapter(_Strict):
    """Load a LoRA adapter, or put another in its place."""

    load_adapter: LoadAdapterOptions


class UnloadAdapter(_Strict):
    """Unload a LoRA adapter."""

    unload_adapter: UnloadAdapterOptions


class ResetPrefixCache(_Strict):
    """Forget every cached prefix."""

    reset_prefix_cache: ResetPrefixCacheOptions


class ResetMmCache(_Strict):
    """Forget every preprocessed picture, sound and film."""

    reset_mm_cache: NoOptions


class ResetEncoderCache(_Strict):
    """Forget what encoders made of pictures, sounds and films."""

    reset_encoder_cache: NoOptions


class StartRequests(_Strict):
    """Send prompts as streams and go on while they are answered."""

    start_requests: StartRequestsOptions


class FinishRequests(_Strict):
    """Wait until requests have ended, each in the way that is expected."""

    finish_requests: FinishRequestsOptions


class CancelRequests(_Strict):
    """Close the connections of requests, as clients do that give up."""

    cancel_requests: CancelRequestsOptions


class NullTransition(_Strict):
    """Do something that must change nothing, and measure what changes all the same."""

    null_transition: NullTransitionOptions


class Repeat(_Strict):
    """Run the inner steps several times; each time is a cycle."""

    repeat: int = Field(ge=1, le=1000, description="how many times")
    steps: tuple[Step, ...] = Field(min_length=1, description="what is repeated; not another `repeat`")

    @field_validator("steps")
    @classmethod
    def _not_nested(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if any(isinstance(step, Repeat) for step in value):
            raise ValueError("repeat cannot stand inside repeat")
        check_requests_end(value, place="repeat")
        return value


STEPS: dict[str, type[_Strict]] = {
    "probe": Probe,
    "sleep": Sleep,
    "wake_up": WakeUp,
    "pause": Pause,
    "resume": Resume,
    "release_kv_cache_memory": ReleaseKvCacheMemory,
    "reload_weights": ReloadWeights,
    "load_adapter": LoadAdapter,
    "unload_adapter": UnloadAdapter,
    "reset_prefix_cache": ResetPrefixCache,
    "start_requests": StartRequests,
    "finish_requests": FinishRequests,
    "cancel_requests": CancelRequests,
    "reset_mm_cache": ResetMmCache,
    "reset_encoder_cache": ResetEncoderCache,
    "null_transition": NullTransition,
    "repeat": Repeat,
}
"""Every step by the key that names it in YAML."""


def _step_key(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((key for key in value if key in STEPS), None)
    return next((key for key, model in STEPS.items() if isinstance(value, model)), None)


Step = Annotated[
    Annotated[Probe, Tag("probe")]
    | Annotated[Sleep, Tag("sleep")]
    | Annotated[WakeUp, Tag("wake_up")]
    | Annotated[Pause, Tag("pause")]
    | Annotated[Resume, Tag("resume")]
    | Annotated[ReleaseKvCacheMemory, Tag("release_kv_cache_memory")]
    | Annotated[ReloadWeights, Tag("reload_weights")]
    | Annotated[LoadAdapter, Tag("load_adapter")]
    | Annotated[UnloadAdapter, Tag("unload_adapter")]
    | Annotated[ResetPrefixCache, Tag("reset_prefix_cache")]
    | Annotated[StartRequests, Tag("start_requests")]
    | Annotated[FinishRequests, Tag("finish_requests")]
    | Annotated[CancelRequests, Tag("cancel_requests")]
    | Annotated[ResetMmCache, Tag("reset_mm_cache")]
    | Annotated[ResetEncoderCache, Tag("reset_encoder_cache")]
    | Annotated[NullTransition, Tag("null_transition")]
    | Annotated[Repeat, Tag("repeat")],
    Discriminator(
        _step_key,
        custom_error_type="unknown_step",
        custom_error_message="not a step; the steps are " + ", ".join(STEPS),
    ),
]


class Scenario(_Strict):
    """One file under ``scenarios/``: which arms, which prompts, which script."""

    name: Name = Field(description="names the cells: `NAME.ARM`")
    why: str = Field(min_length=1, description="what could go wrong, in plain words")
    sources: tuple[str, ...] = Field(default=(), description="where it went wrong, for example vllm#17103")
    default: bool = Field(default=False, description="part of what `sleepwake run` runs without a path")
    requires: Literal["gpu", "pictures", "fault"] | None = Field(
        default=None,
        description="left out, and said so, where the engine has a CPU alone, the model reads no pictures, "
        "or no fault is planted",
    )
    arms: dict[Name, Arm] = Field(min_length=1, description="the servers under comparison, by name")
    prompts: PromptSet
    sampling: Sampling = Sampling()
    evidence: tuple[EvidenceName, ...] = Field(
        default=("warm", "rehit", "cold", "unseen"),
        min_length=1,
        description="how the prompts are asked; rehit and unseen in the baseline only",
    )
    concurrency: Concurrency = Field(
        default=16, description="requests at a time; of several, every prompt is decoded at each"
    )
    deadlines: Deadlines = Deadlines()
    script: tuple[Step, ...] = Field(
        min_length=1, description="begins with the baseline's probe and ends with a probe or null transition"
    )

    @field_validator("evidence")
    @classmethod
    def _no_pass_twice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _each_once(value)

    @model_validator(mode="after")
    def _begins_with_a_baseline(self) -> Scenario:
        baseline = self.script[0]
        if not isinstance(baseline, Probe):
            raise ValueError("the script must begin with a probe: it is the baseline")  # noqa: TRY004 - wrong file
        if baseline.probe.adapter or baseline.probe.same_as or baseline.probe.differs_from:
            raise ValueError("the first probe asks the model as it was started, which is like nothing before")
        if not {"warm", "rehit", "cold"} & set(baseline.probe.evidence or self.evidence):
            raise ValueError("the baseline needs warm, rehit or cold answers: the others are made from these")
        return self

    @model_validator(mode="after")
    def _forcing_takes_a_gpu(self) -> Scenario:
        if "forced" in self.all_evidence and self.requires != "gpu":
            raise ValueError("forced evidence takes vLLM's model runner V2: say `requires: gpu`")
        return self

    @property
    def all_evidence(self) -> frozenset[EvidenceName]:
        """What any of its probes asks for."""
        probes = [step.probe.evidence for step in flat_steps(self.script) if isinstance(step, Probe)]
        return frozenset(self.evidence).union(*(named for named in probes if named))

    @model_validator(mode="after")
    def _every_transition_is_judged(self) -> Scenario:
        last = list(flat_steps(self.script))[-1]
        if not isinstance(last, Probe | NullTransition):
            raise ValueError("the script must end with a probe: nothing after the last one would be judged")  # noqa: TRY004 - wrong file
        return self

    @model_validator(mode="after")
    def _every_request_ends(self) -> Scenario:
        check_requests_end(self.script, place="script")
        for step in flat_steps(self.script):
            if isinstance(step, StartRequests) and (step.start_requests.count or 0) > self.prompts.count:
                name = step.start_requests.name
                raise ValueError(f"start_requests {name!r}: there are only {self.prompts.count} prompts")
        return self


def check_requests_end(steps: Iterable[Step], *, place: str) -> None:
    """Return if every request that ``steps`` start ends in them, and nothing else is said to end.

    Raises:
        ValueError: one is started twice, ends without having been started, or is left running.
    """
    running: set[str] = set()
    for step in steps:
        match step:
            case StartRequests(start_requests=options):
                if options.name in running:
                    raise ValueError(f"requests {options.name!r} are started while they still run")
                running.add(options.name)
            case FinishRequests(finish_requests=options) | CancelRequests(cancel_requests=options):
                if options.name not in running:
                    raise ValueError(f"no requests {options.name!r} run here: start them before")
                running.remove(options.name)
            case NullTransition() if running:
                raise ValueError("a null transition must change nothing: finish the requests before it")
    if running:
        names = ", ".join(sorted(running))
        raise ValueError(f"requests are left running at the end of the {place}: finish or cancel {names}")


def flat_steps(script: tuple[Step, ...]) -> Iterator[Step]:
    """Every step of ``script`` once, in order, those inside ``repeat`` included."""
    for step in script:
        if isinstance(step, Repeat):
            yield from step.steps
        else:
            yield step


Repeat.model_rebuild()
Scenario.model_rebuild()
