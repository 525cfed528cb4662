"""What is said between the process that holds the engine and the one that judges it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Engine: TypeAlias = Literal["guarded", "reference"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Facts(_Message):
    """What an engine is, as its own objects say."""

    engine: str
    vllm_version: str | None
    configuration: Mapping[str, Mapping[str, JsonValue]]
    end_of_sequence_id: int | None
    vocabulary_size: int | None
    takes_salt: bool
    keeps_kv_elsewhere: bool
    serves_others: bool
    """Whether others may ask it during a check: who holds it does not wait for that."""
    tells_checksums: bool = False
    """Whether it can be asked for the checksums of its weights."""

    def told(self, part: str, name: str) -> JsonValue:
        """One value of the configuration; None where it is not told."""
        return self.configuration.get(part, {}).get(name)

    @property
    def caches_prompts(self) -> bool:
        """Whether the engine may keep what it computed of a prompt."""
        return self.told("cache_config", "enable_prefix_caching") is not False

    @property
    def in_float32(self) -> bool:
        """Whether it says that it computes in float32."""
        return str(self.told("model_config", "dtype")).removeprefix("torch.") == "float32"


class Begin(_Message):
    """The order to take a baseline."""

    facts: Facts
    prompts: tuple[str | tuple[int, ...], ...] | None
    max_tokens: int = Field(ge=1)
    budget_tokens: int = Field(ge=1)
    full_every: int = Field(default=1, ge=1, description="every so many checks one is full")
    checksums: bool = True
    out: Path


class NoticedCall(_Message):
    """A call of one of the engine's methods by the one who holds it."""

    name: str
    method: str = Field(description="for example 'LLM.sleep'")
    parameters: Mapping[str, JsonValue]
    ago: float = Field(ge=0, description="how many seconds before the order it began")
    seconds: float
    failure: str | None
    result: bool | None


class Answered(_Message):
    """The answer to one prompt."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None
    stop_reason: str | int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    chosen: tuple[float, ...]
    top: tuple[tuple[tuple[int, float], ...], ...]


class Generated(_Message):
    """The answers to one question, and how long all of them took."""

    seconds: float
    answers: tuple[Answered, ...]


class Checksums(_Message):
    """The checksum of every parameter of an engine; None where it did not tell after all."""

    checksums: Mapping[str, str] | None


class Tokenized(_Message):
    """Texts as the engine's own tokenizer makes token ids of them."""

    tokens: tuple[tuple[int, ...], ...]


class Example(_Message):
    """The clearest changed answer."""

    prompt: str
    before: str
    after: str
    first_difference: int
    baseline_gap: float | None


class Told(_Message):
    """What came of a check."""

    verdict: str
    cause: str | None
    reason: str
    witness: Example | None
    tokens: int
    full: bool = Field(description="whether all canaries were asked")
    directory: Path
