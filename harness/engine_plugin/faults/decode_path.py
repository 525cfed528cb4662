"""Cause class: graph or decode path.  Weights and KV cache are right, the computation with them is not."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from harness.engine_plugin.faults.hooks import Worker, on_logits, on_worker_start
from harness.engine_plugin.faults.registry import fault

if TYPE_CHECKING:
    from torch import Tensor

CAUSE = "graph or decode path"
LONG_PROMPT = 124  # tokens: the shipped corpus has prompts on both sides
LATE = 40  # tokens of an answer


@fault("scale-logits", cause=CAUSE)
def scale_logits() -> None:
    """Logits are 2% too small after waking up: no greedy token changes, every probability does."""
    on_logits(lambda logits, _batch: logits * 0.98)


@fault("swap-rows", cause=CAUSE)
def swap_rows() -> None:
    """Every fifth step after waking up, the first two requests of a batch get each other's token."""
    steps = count()

    def swap(logits: Tensor, _batch: Any) -> Tensor:
        if len(logits) > 1 and next(steps) % 5 == 4:  # noqa: PLR2004  (the fifth)
            logits[[0, 1]] = logits[[1, 0]]
        return logits

    on_logits(swap)


@fault("nan-row", cause=CAUSE)
def nan_row() -> None:
    """Every fiftieth step after waking up, one request's logits are NaN."""
    steps = count()

    def spoil(logits: Tensor, _batch: Any) -> Tensor:
        if next(steps) % 50 == 49:  # noqa: PLR2004  (the fiftieth)
            logits[0] = float("nan")
        return logits

    on_logits(spoil)


@fault("damage-late-tokens", cause=CAUSE)
def damage_late_tokens() -> None:
    """After waking up, an answer takes the second-best token at its 40th and from there on."""

    def damage(logits: Tensor, batch: Any) -> Tensor:
        answered = batch.num_tokens_no_spec[: batch.num_reqs] - batch.num_prompt_tokens[: batch.num_reqs]
        return _take_second_best(logits, [row for row, tokens in enumerate(answered) if tokens >= LATE - 1])

    on_logits(damage)


@fault("damage-long-prompts", cause=CAUSE)
def damage_long_prompts() -> None:
    """After waking up, requests with long prompts take the second-best token first."""

    def damage(logits: Tensor, batch: Any) -> Tensor:
        prompts, tokens = (
            batch.num_prompt_tokens[: batch.num_reqs],
            batch.num_tokens_no_spec[: batch.num_reqs],
        )
        rows = [row for row, prompt in enumerate(prompts) if prompt >= LONG_PROMPT and tokens[row] == prompt]
        return _take_second_best(logits, rows)

    on_logits(damage)


@fault("lose-end-of-sequence", cause=CAUSE)
def lose_end_of_sequence() -> None:
    """After waking up no answer can end: each runs to its token limit."""
    _add_to_end_of_sequence(float("-inf"))


@fault("eager-end-of-sequence", cause=CAUSE)
def eager_end_of_sequence() -> None:
    """After waking up answers end too early: the end-of-sequence token's logit is 8 too large."""
    _add_to_end_of_sequence(8.0)


def _take_second_best(logits: Tensor, rows: list[int]) -> Tensor:
    for row in rows:
        best, second = logits[row].topk(2).indices
        logits[row, [best, second]] = logits[row, [second, best]]
    return logits


def _add_to_end_of_sequence(value: float) -> None:
    end: list[int] = []

    def remember(worker: Worker) -> None:
        ids = worker.model_config.hf_config.eos_token_id
        end.extend(ids if isinstance(ids, list) else [ids])

    def add(logits: Tensor, _batch: Any) -> Tensor:
        logits[:, end] += value
        return logits

    on_worker_start(remember)
    on_logits(add)
