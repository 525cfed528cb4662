"""The answer of ``/v1/completions``: what is read of it, and how token ids are taken out of it.

Shapes: vllm/entrypoints/openai/completion/protocol.py (0.32), vllm/entrypoints/openai/protocol.py
(0.10).  An answer that does not have them fails pydantic's validation.
"""

from __future__ import annotations

from typing import Annotated, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_ID_PREFIX = "token_id:"


def parse_token_id(name: object) -> int:
    """The id in ``token_id:N``, as ``return_tokens_as_token_ids`` spells tokens.

    Raises:
        ValueError: it is spelt in another way, for example because the server ignored that field.
    """
    digits = str(name).removeprefix(_ID_PREFIX)
    if digits == name or not digits.isdecimal():
        raise ValueError(f"token {name!r} is not spelt {_ID_PREFIX}N")
    return int(digits)


TokenId: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
NamedTokenId: TypeAlias = Annotated[TokenId, BeforeValidator(parse_token_id)]


class Body(BaseModel):
    """A part of an answer: what is not read of it is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class PromptDetails(Body):
    """Told only by servers started with ``--enable-prompt-tokens-details``."""

    cached_tokens: int | None = None


class Usage(Body):
    """The server's own counts."""

    prompt_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens whose KV blocks were read from the prefix cache, ``None`` where not told."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None


class TokenLogprobs(Body):
    """Log-probabilities of the generated tokens and of the candidates beside each."""

    tokens: tuple[NamedTokenId, ...]
    token_logprobs: tuple[float, ...]
    top_logprobs: tuple[dict[NamedTokenId, float], ...]

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        if not len(self.tokens) == len(self.token_logprobs) == len(self.top_logprobs):
            raise ValueError(
                f"{len(self.tokens)} tokens, {len(self.token_logprobs)} log-probabilities "
                f"and {len(self.top_logprobs)} lists of candidates"
            )
        return self


class GeneratedChoice(Body):
    """One completion that was asked for with ``logprobs``."""

    text: str
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: TokenLogprobs


class PromptLogprob(Body):
    """One candidate at a prompt position."""

    logprob: float


class ScoredChoice(Body):
    """One completion that was asked for with ``prompt_logprobs``: one entry a token, the first empty."""

    prompt_logprobs: tuple[dict[TokenId, PromptLogprob] | None, ...]

    def candidates(self, prompt_token_ids: tuple[int, ...]) -> list[dict[int, float]]:
        """Log-probabilities by token id for the second and later prompt tokens, those themselves included.

        Raises:
            ValueError: they belong to another prompt.
        """
        rows = [
            {token: entry.logprob for token, entry in (position or {}).items()}
            for position in self.prompt_logprobs
        ]
        if len(rows) != len(prompt_token_ids):
            raise ValueError(f"{len(rows)} prompt_logprobs for {len(prompt_token_ids)} prompt tokens")
        for position, (token, row) in enumerate(zip(prompt_token_ids[1:], rows[1:], strict=True), start=1):
            if token not in row:
                raise ValueError(f"prompt_logprobs omit prompt token {token} at position {position}")
        return rows[1:]


class _Completion(Body):
    usage: Usage
    system_fingerprint: str | None = None


class GeneratedCompletion(_Completion):
    """The whole answer to a generation."""

    choices: tuple[GeneratedChoice]


class ScoredCompletion(_Completion):
    """The whole answer to a scoring."""

    choices: tuple[ScoredChoice]


class StreamedChoice(Body):
    """What one part of a stream adds to a completion that was asked for with ``logprobs``."""

    text: str = ""
    finish_reason: str | None = None
    logprobs: TokenLogprobs | None = None


class StreamedPart(Body):
    """One part of a streamed completion; the last has the counts and adds nothing."""

    choices: tuple[StreamedChoice, ...] = ()
    usage: Usage | None = None
