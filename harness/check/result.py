"""What judging a recording yields: findings, and one verdict with its cause and its bound.

These models are the stable, machine-readable face of the project: ``verdict.json`` is
:class:`RunResult` as JSON, and ``sleepwake schema verdict`` publishes its JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from harness.history.time_parts import TimeSpent


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(StrEnum):
    """What may be said about an engine after its transitions."""

    CLEAN = "clean"
    """The answers hold, as far as ``bound`` says."""
    CORRUPT = "corrupt"
    """Answers changed."""
    DEGRADED = "degraded"
    """Answers hold; but memory was not released or leaks, the engine woke up slower, was not in the
    state it claimed, or vouches for cached blocks it has thrown away."""
    INCONCLUSIVE = "inconclusive"
    """The recording cannot tell; ``reason`` says why and what would settle it."""


class Cause(StrEnum):
    """The root-cause classes a finding can be attributed to."""

    STALE_PREFIX_CACHE = "stale prefix cache"
    LOST_WEIGHTS = "lost weights"
    LOST_BUFFERS = "lost buffers"
    KV_SCALES = "kv scales"
    KV_CACHE = "kv cache"
    """Keys and values, as they are kept or read; not the scales of a quantised cache, nor stale blocks."""
    DECODE_PATH = "graph or decode path"
    ADAPTER = "adapter"
    DRAFT_MODEL = "draft model"
    ENCODER_CACHE = "encoder cache"
    KV_CONNECTOR = "kv connector"
    TEXT = "text of tokens"
    GRAMMAR = "grammar state"
    STOPS = "stop conditions"
    STEERING = "penalties and biases"
    SCHEDULER = "scheduler or protocol"
    MEMORY = "memory"
    SPEED = "speed"
    INTERMITTENT = "intermittent"
    """No class: the damage comes and goes by itself, so what seems to heal it accuses nobody."""
    UNKNOWN = "unknown"


class Strength(StrEnum):
    """How much a finding weighs."""

    PROOF = "proof"
    """Cannot happen on an engine that came back the same."""
    HINT = "hint"
    """Worth reading; does not decide the verdict alone."""


CheckerName: TypeAlias = Literal[
    "protocol",
    "divergence",
    "repetition",
    "termination",
    "conservation",
    "kinds",
    "adapters",
    "cache",
    "drafts",
    "state",
    "weights",
    "memory",
    "speed",
]
"""What a finding may be called by; `verdict.json` is stable in these."""


class Finding(_Frozen):
    """One observation that differs from the baseline, with its evidence."""

    checker: CheckerName
    message: str = Field(description="one sentence a person can read without the evidence")
    strength: Strength
    prompt: str | None = None
    pass_number: int | None = None
    cycle: int | None = None
    evidence: Mapping[str, JsonValue] = {}


class TokenChoice(_Frozen):
    """One candidate of a token position."""

    token_id: int
    logprob: float


class Side(_Frozen):
    """One of the two answers a witness sets side by side."""

    pass_number: int
    condition: str = Field(description="for example 'warm, from the cache, cycle 1'")
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    cached_tokens: int | None
    likeliest: tuple[TokenChoice, ...] = Field(description="top tokens at the divergence, likeliest first")


class Witness(_Frozen):
    """The clearest single example: baseline and after, where they part, how sure the baseline was."""

    prompt: str
    prompt_text: str
    baseline: Side
    after: Side
    first_difference: int = Field(description="index of the first token that differs, from 0")
    baseline_gap: float | None = Field(
        description="baseline's top-1 minus top-2 log-probability at that token, nat"
    )


class ControlOutcome(_Frozen):
    """What one control probe showed about the damaged prompts."""

    control: str
    asked: int = Field(description="prompts that were damaged and asked again")
    healed: int = Field(description="of these, equal to their baseline again")
    note: str = ""


class Bound(_Frozen):
    """What a clean verdict does not exclude."""

    affected_prompts_below: float = Field(description="upper confidence limit of the affected-prompt rate")
    confidence: float
    comparisons: int = Field(description="prompts compared, the unit of the limit")
    affected_requests_below: float | None = Field(
        default=None,
        description="the same limit of the affected-request rate, where damage comes and goes; null in "
        "verdicts of older versions",
    )
    requests: int | None = Field(default=None, description="answers compared, the unit of that limit")
    statement: str
    smallest_single_shift: float | None = Field(
        default=None,
        description="nat; a single answer this far off would have been noticed; null: none differed at all",
    )
    smallest_common_shift: float | None = Field(
        default=None,
        description="nat; added to the typical deviation of all answers of a pass, it would have shown",
    )


class NoiseFloor(_Frozen):
    """What the null transition showed: how much answers differ when nothing happened."""

    compared: int
    different: int = Field(
        description="answers that were not the same bit for bit, log-probabilities included"
    )
    reworded: int = Field(default=0, description="answers whose tokens or ending differed")
    exact: bool
    largest_logprob_shift: float | None = None


class Lack(StrEnum):
    """What keeps a cell from a verdict, by what is to be done about it."""

    RELEASE = "release"
    """The release does not have what the script needs."""
    RECORDING = "recording"
    """The recording stops early, or answers, or the state of the engine, are missing from it."""
    SCRIPT = "script"
    """The script asks for nothing that could be judged, or left steps out."""
    BASELINE = "baseline"
    """The engine was not sound before it slept, or did not agree with itself."""
    DAMAGED_LATER = "damaged later"
    """What the next cell on the same server saw, this cell's probes did not."""
    TIME = "time"
    """The machine was too busy, or stopped, for what time decides."""
    LONE_ANSWER = "lone answer"
    """One answer is off, and nothing joins it."""
    NOISE = "noise"
    """Answers differ by themselves too much, or too little is known of how much."""
    CACHE = "cache"
    """What was cached after waking was never read."""
    OTHERS = "others"
    """Requests of others may be what differs."""
    CRASH = "crash"
    """A part of the judgement raised."""


class Grounds(_Frozen):
    """``reason`` taken apart, for those who show it as a list."""

    what: str = Field(description="what was found, in one sentence")
    because: tuple[str, ...] = Field(
        default=(), description="what speaks for the cause, one observation each"
    )
    further: tuple[str, ...] = Field(default=(), description="what else there is to say")
    lacks: tuple[Lack, ...] = Field(
        default=(), description="of an inconclusive cell: what kept it from a verdict, the weightiest first"
    )


class Crash(_Frozen):
    """A part of the judgement that raised: what it would have said is not known."""

    part: str = Field(description="for example 'the checker memory'")
    error: str = Field(description="the exception in one line")
    traceback: str


class CellResult(_Frozen):
    """The judgement of one cell.  ``verdict`` is None exactly when ``error`` says what was in the way."""

    cell: str
    scenario: str
    arm: str
    verdict: Verdict | None
    cause: Cause | None = None
    other_causes: tuple[Cause, ...] = Field(
        default=(),
        description="causes that are proven besides; left out where there is one at the most",
        exclude_if=lambda causes: not causes,
    )
    reason: str = Field(description="the verdict in one sentence")
    grounds: Grounds | None = Field(
        default=None,
        description="the reason taken apart; left out in verdicts of older versions",
        exclude_if=lambda grounds: grounds is None,
    )
    findings: tuple[Finding, ...] = ()
    witness: Witness | None = None
    controls: tuple[ControlOutcome, ...] = ()
    ruled_out: tuple[str, ...] = ()
    noise: NoiseFloor | None = None
    bound: Bound | None = None
    vllm_version: str | None = None
    runtime: str | None = None
    emulated: tuple[str, ...] = ()
    fault: str | None = None
    error: str | None = None
    skipped: tuple[str, ...] = Field(
        default=(),
        description="steps of the script that were left out",
    )
    speed: str = Field(
        default="",
        description="how speed was judged: what times were not, and how busy others kept the machine; "
        "left out where there is nothing to tell",
        exclude_if=lambda speed: not speed,
    )
    milliseconds: TimeSpent = Field(default=TimeSpent(), description="where the cell's time went")
    crashes: tuple[Crash, ...] = Field(
        default=(),
        description="parts of the judgement that raised; left out where none did",
        exclude_if=lambda crashes: not crashes,
    )


class FalseAlarms(_Frozen):
    """How often chance alone calls a run corrupt or degraded whose engines all came back the same."""

    of_the_run: float = Field(
        description="upper limit of the probability, for all tests of all cells together; what is claimed "
        "without any chance, a difference where nothing differed before for one, has no part in it"
    )
    cells: int = Field(description="cells it is split over, those that never began included")
    of_a_cell: float = Field(description="the part of one cell")
    of_a_family: Mapping[str, float] = Field(
        description="what each family of tests spends of that; the tests of a family share it"
    )
    statement: str


class RunResult(_Frozen):
    """The judgement of a run: ``verdict.json``."""

    format: int = 1
    run: str
    verdict: Verdict | None = Field(
        description="the worst of the cells; null where some have none and no other is worse than clean"
    )
    exit_code: int
    cells: tuple[CellResult, ...]
    false_alarms: FalseAlarms | None = Field(
        default=None, description="the error rate every cell was judged with"
    )
    unsealed: tuple[str, ...] = Field(
        default=(),
        description="cells whose histories carry no digests, since an older version recorded them: whether "
        "they were changed since is not known; left out where there is none",
        exclude_if=lambda cells: not cells,
    )
    milliseconds: TimeSpent = Field(
        default=TimeSpent(),
        description="where the run's time went: that of all cells, and what was spent outside them",
    )
