"""What a scenario file may say.

The models have the shape of the YAML itself, so that the published JSON Schema
(``sleepwake schema scenario``) is the one editors can validate files against.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias, get_args

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from harness.errors import UsageError
from harness.scenario.script import Step, check_requests_end, flat_steps
from harness.scenario.steps.asking import (
    FEW,
    Concurrency,
    EachOnce,
    EvidenceName,
    KindName,
    NullTransition,
    Probe,
)
from harness.scenario.steps.base import Name, Strict
from harness.scenario.steps.requests import StartRequests


class Arm(Strict):
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


class PromptSet(Strict):
    """Which prompts are sent: the first ``count`` of a corpus."""

    corpus: Name = Field(description="a file under `corpora/`, without its `.yaml`")
    count: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="how many of its prompts are asked; more where noise takes more",
    )
    held_out: int = Field(
        default=2,
        ge=0,
        description="further prompts, asked once before the first transition, for the unseen-prompts control",
    )


class Sampling(Strict):
    """How answers are sampled."""

    temperature: float = Field(default=0.0, ge=0.0, le=2.0, description="0 is greedy")
    max_tokens: int = Field(default=64, ge=1, description="tokens after which an answer is cut off")
    seed: int = Field(default=0, description="of every request")
    logprobs: int = Field(default=5, ge=1, le=20, description="likeliest tokens recorded beside each token")


class Deadlines(Strict):
    """Seconds after which waiting for an answer ends.  Nothing in a run waits without one."""

    boot: float = Field(default=600.0, gt=0, description="seconds until a server is ready")
    answer: float = Field(default=180.0, gt=0, description="seconds for one answer of a probe")
    transition: float = Field(default=120.0, gt=0, description="seconds for one lifecycle call")


Kinds: TypeAlias = Literal["few", "all"] | Annotated[tuple[KindName, ...], EachOnce]


def kinds_named(words: str) -> Kinds:
    """Read ``few``, ``all``, ``none``, or names with commas between them.

    Raises:
        UsageError: there is no such kind.
    """
    named = () if words == "none" else tuple(filter(None, map(str.strip, words.split(","))))
    value = words if words in {FEW, "all"} else named
    try:
        return TypeAdapter[Kinds](Kinds).validate_python(value)
    except ValidationError as error:
        known = ", ".join(get_args(KindName))
        raise UsageError(
            f"--kinds {words} names no kinds of requests", remedy=f"few, all, none, or some of {known}"
        ) from error


class Scenario(Strict):
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
    evidence: Annotated[tuple[EvidenceName, ...], EachOnce] = Field(
        default=("warm", "rehit", "cold", "unseen"),
        min_length=1,
        description="how the prompts are asked; rehit and unseen in the baseline, or where a probe names it",
    )
    kinds: Kinds | None = Field(
        default=None,
        description="of other requests, asked once a probe beside the prompts; few: those that cost little",
    )
    concurrency: Concurrency = Field(
        default=16, description="requests at a time; of several, every prompt is decoded at each"
    )
    deadlines: Deadlines = Deadlines()
    script: tuple[Step, ...] = Field(
        min_length=1, description="begins with the baseline's probe and ends with a probe or null transition"
    )

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

    def asking_kinds(self, words: str | None) -> Self:
        """The same, which asks the kinds of requests that ``words`` name; without any its own.

        Raises:
            UsageError: there is no such kind.
        """
        return self if words is None else self.model_copy(update={"kinds": kinds_named(words)})

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
