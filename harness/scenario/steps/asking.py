"""The steps that ask: probes, and null transitions with the passes that follow them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from harness.scenario.steps.base import BaseStep, Name, Strict

EvidenceName = Literal["warm", "rehit", "cold", "scored", "forced", "sampled", "unseen"]
"""What a probe may ask for; ``scenarios/README.md`` says what each can see."""

KindName = Literal[
    "short",
    "streamed",
    "chat",
    "tools",
    "json-schema",
    "regex",
    "choice",
    "grammar",
    "stop-strings",
    "stop-ids",
    "repetition-penalty",
    "frequency-penalty",
    "logit-bias",
    "bad-words",
    "allowed-ids",
    "min-tokens",
    "seeded",
    "several",
    "prompt-logprobs",
    "to-the-end",
    "many",
]
"""Kinds of requests that are asked beside the prompts; ``harness/kinds/`` says what each is."""

FEW: Literal["few"] = "few"
"""All kinds that cost little."""

AtATime = Annotated[int, Field(ge=1, le=1024)]
Concurrency = AtATime | Annotated[tuple[AtATime, ...], Field(min_length=1)]


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("each kind of evidence can be named once")
    return value


EachOnce = AfterValidator(_each_once)
"""Of evidence that names no kind twice."""


class ProbeOptions(Strict):
    """A set of prompts sent under named conditions."""

    name: Name = Field(description="stands in the report")
    evidence: Annotated[tuple[EvidenceName, ...], EachOnce] | None = Field(
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

    @model_validator(mode="after")
    def _a_baseline_equals_nothing(self) -> ProbeOptions:
        if self.baseline and self.same_as is not None:
            raise ValueError("a probe is a baseline, or it must equal one: not both")
        return self


class NullTransitionOptions(Strict):
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
    evidence: Annotated[tuple[Literal["warm", "cold"], ...], EachOnce] | None = Field(
        default=None,
        min_length=1,
        description="exactly these; without it the baseline's own passes, and cold ones beside warm ones",
    )
    like: Name | None = Field(
        default=None,
        description="the baseline whose passes are repeated; without it the script's first probe",
    )


class Probe(BaseStep):
    """Send the prompts and record what comes back."""

    probe: ProbeOptions

    changes_engine: ClassVar[bool] = False
    asks: ClassVar[bool] = True

    @field_validator("probe", mode="before")
    @classmethod
    def _a_name_is_enough(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class NullTransition(BaseStep):
    """Do something that must change nothing, and measure what changes all the same."""

    null_transition: NullTransitionOptions

    changes_engine: ClassVar[bool] = False
    asks: ClassVar[bool] = True
