"""The laws of the top-k table."""

from __future__ import annotations

import json
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.vllm_api.completion import GeneratedCompletion
from harness.vllm_api.logprobs import NO_TOKEN, LogprobTable

LOGPROBS = st.floats(min_value=-9999, max_value=0, width=32)
POSITIONS = st.lists(st.dictionaries(st.integers(0, 200_000), LOGPROBS, min_size=1, max_size=8), max_size=6)
WIDTHS = st.integers(1, 10)


def table(positions: list[dict[int, float]], k: int) -> LogprobTable:
    """The table of these candidates, the first of each taken as chosen."""
    return LogprobTable.of([next(iter(position.values())) for position in positions], positions, k)


@given(positions=POSITIONS, k=WIDTHS)
def test_rows_descend_and_equal_ones_ascend_by_id(positions: list[dict[int, float]], k: int) -> None:
    """Within a row log-probabilities never rise, and ids rise where they are equal."""
    built = table(positions, k)
    for ids, logprobs in zip(built.top_ids, built.top_logprobs, strict=True):
        pairs = [(-logprob, token) for logprob, token in zip(logprobs, ids, strict=True) if token != NO_TOKEN]
        assert pairs == sorted(pairs)


@given(positions=POSITIONS, k=WIDTHS)
def test_nothing_better_is_left_out(positions: list[dict[int, float]], k: int) -> None:
    """Each row holds the k best candidates, all where there are fewer, and padding after them."""
    built = table(positions, k)
    assert built.top_ids.shape == built.top_logprobs.shape == (len(positions), k)
    for position, ids, logprobs in zip(positions, built.top_ids, built.top_logprobs, strict=True):
        kept = [int(token) for token in ids if token != NO_TOKEN]
        assert len(kept) == min(k, len(position))
        assert all(position[token] == logprobs[row] for row, token in enumerate(kept))
        left_out = [logprob for token, logprob in position.items() if token not in kept]
        assert all(logprob <= min(position[token] for token in kept) for logprob in left_out)
        assert (ids[len(kept) :] == NO_TOKEN).all()
        assert np.isneginf(logprobs[len(kept) :]).all()


@given(positions=POSITIONS, k=WIDTHS, order=st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(
    positions: list[dict[int, float]], k: int, order: Random
) -> None:
    """A server may list candidates in any order."""
    shuffled = []
    for position in positions:
        items = list(position.items())
        order.shuffle(items)
        shuffled.append(dict(items))
    one, other = table(positions, k), LogprobTable.of([0.0] * len(shuffled), shuffled, k)
    np.testing.assert_array_equal(one.top_ids, other.top_ids)
    np.testing.assert_array_equal(one.top_logprobs, other.top_logprobs)


@given(positions=POSITIONS)
def test_what_a_server_spells_is_what_is_read(positions: list[dict[int, float]]) -> None:
    """Ids and log-probabilities survive the way through ``token_id:N`` and JSON exactly."""
    chosen = [next(iter(position)) for position in positions]
    spelt = {
        "tokens": [f"token_id:{token}" for token in chosen],
        "token_logprobs": [position[token] for token, position in zip(chosen, positions, strict=True)],
        "top_logprobs": [
            {f"token_id:{token}": logprob for token, logprob in position.items()} for position in positions
        ],
    }
    body = {"choices": [{"text": "", "logprobs": spelt}], "usage": {"prompt_tokens": 1}}
    read = GeneratedCompletion.model_validate_json(json.dumps(body)).choices[0].logprobs
    assert read.tokens == tuple(chosen)
    assert list(read.top_logprobs) == positions
