"""Models of noise that healthy engines may have, and kinds of damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tests.benchmarks.imagined_engine import (
    CONTEXTS,
    END,
    HIDDEN,
    PROMPTS,
    SCHEDULE,
    SD,
    VOCABULARY,
    Damage,
    Floats,
    Ints,
    Noise,
    Requests,
    Token,
)

ODD = 1 / 1000
"""How many requests are answered otherwise by an engine that is odd now and then."""


def _scaled(size: Callable[[Requests, np.random.Generator], Floats]) -> Noise:
    """Independent at every token of every request, with a size for each request."""

    def noise(requests: Requests, random: np.random.Generator) -> Callable[[], Floats]:
        sizes = SD * size(requests, random)[:, np.newaxis]
        return lambda: sizes * random.normal(size=(len(sizes), HIDDEN))

    return noise


def _independent(requests: Requests, _random: np.random.Generator) -> Floats:
    return np.ones(len(requests.passes))


def _noisier_after_waking(requests: Requests, _random: np.random.Generator) -> Floats:
    return np.where(requests.after, 1.5, 1.0)


def _one_noisy_prompt(requests: Requests, random: np.random.Generator) -> Floats:
    return np.where(requests.prompts == random.integers(PROMPTS), 4.0, 1.0)


def _noisy_passes(requests: Requests, random: np.random.Generator) -> Floats:
    return np.where(random.random(len(SCHEDULE)) < 1 / 10, 3.0, 1.0)[requests.passes]


def _in_order(requests: Requests, _random: np.random.Generator) -> Floats:
    """Twice as noisy at the end of the history as at its beginning, and half again at the end of a pass."""
    return (1 + requests.passes / (len(SCHEDULE) - 1)) * (1 + requests.prompts / (2 * (PROMPTS - 1)))


def _heavy_tails(requests: Requests, random: np.random.Generator) -> Callable[[], Floats]:
    shape = (len(requests.passes), HIDDEN)
    return lambda: 0.6 * SD * random.standard_t(2.5, size=shape)


def _whole_passes(requests: Requests, random: np.random.Generator) -> Callable[[], Floats]:
    """Every pass moves all its answers by one vector of its own, larger in some than in others."""
    sizes = SD * np.exp(random.normal(0, 0.5, size=(len(SCHEDULE), 1)))
    moved = (sizes * random.normal(size=(len(SCHEDULE), HIDDEN)))[requests.passes]
    return lambda: moved + 0.5 * SD * random.normal(size=moved.shape)


def _batches(requests: Requests, random: np.random.Generator) -> Callable[[], Floats]:
    """The requests of a pass fall into three batches; all in a batch have the same noise at a token."""
    batch = 3 * requests.passes + random.integers(3, size=len(requests.passes))
    return lambda: SD * random.normal(size=(3 * len(SCHEDULE), HIDDEN))[batch]


def _fine(requests: Requests, random: np.random.Generator) -> Callable[[], Floats]:
    shape = (len(requests.passes), HIDDEN)
    return lambda: 1e-7 * random.normal(size=shape)


def _odd_now_and_then(requests: Requests, random: np.random.Generator) -> Callable[[], Floats]:
    odd = (random.random(len(requests.passes)) < ODD)[:, np.newaxis]
    return lambda: np.where(odd, 0.3, 1e-7) * random.normal(size=(len(odd), HIDDEN))


ROUNDED: Mapping[str, Noise] = {
    "independent": _scaled(_independent),
    "heavy tails": _heavy_tails,
    "whole passes move": _whole_passes,
    "one pass in ten noisier": _scaled(_noisy_passes),
    "shared by a batch": _batches,
    "half as large again after waking": _scaled(_noisier_after_waking),
    "one noisy prompt": _scaled(_one_noisy_prompt),
    "grows with time and place": _scaled(_in_order),
}
"""Of engines that compute in bfloat16."""

FINE: Mapping[str, Noise] = {
    "float32, none": _fine,
    f"float32, one answer in {round(1 / ODD):,} odd": _odd_now_and_then,
}
"""Of engines that compute in float32, where a difference counts without any chance being reckoned with."""


def _other_weights(token: Token, _requests: Requests, _random: np.random.Generator) -> Floats:
    shuffled: Floats = token.logits[:, np.random.default_rng(5).permutation(VOCABULARY)]
    return shuffled


def _rescaled(token: Token, _requests: Requests, _random: np.random.Generator) -> Floats:
    return 0.95 * token.logits


def _wrong_matrix(token: Token, _requests: Requests, _random: np.random.Generator) -> Floats:
    return token.logits + 0.25 * np.random.default_rng(6).normal(size=VOCABULARY)


def _late(token: Token, _requests: Requests, random: np.random.Generator) -> Floats:
    wrong = 2.0 * random.normal(size=token.logits.shape)
    return token.logits + wrong if token.position >= 16 else token.logits


def _loops(token: Token, _requests: Requests, _random: np.random.Generator) -> Floats:
    rows = np.flatnonzero(token.previous >= 0)
    token.logits[rows, token.previous[rows]] += 4.0
    return token.logits


def _never_ends(token: Token, _requests: Requests, _random: np.random.Generator) -> Floats:
    token.logits[:, END] -= 100.0
    return token.logits


def _ends_early(token: Token, _requests: Requests, _random: np.random.Generator) -> Floats:
    token.logits[:, END] += 3.0
    return token.logits


def _elsewhere(contexts: Ints, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Ints:
    """Answers of the chosen requests begin from another context: they read what is not theirs."""
    return np.where(chosen, (contexts + 1234) % CONTEXTS, contexts)


DAMAGE: Mapping[str, Damage] = {
    "lost weights": Damage(changes=_other_weights),
    "logits scaled by 0.95": Damage(changes=_rescaled),
    "a slightly wrong matrix": Damage(changes=_wrong_matrix),
    "the last third of every answer": Damage(changes=_late),
    "answers that loop": Damage(changes=_loops),
    "answers that never end": Damage(changes=_never_ends),
    "answers that end early": Damage(changes=_ends_early),
    "stale cache, half of the prompts": Damage(
        begins=lambda contexts, requests, _: _elsewhere(contexts, requests.warm & (requests.prompts % 2 == 0))
    ),
    "one prompt of ten": Damage(
        begins=lambda contexts, requests, _: _elsewhere(contexts, requests.prompts == 3)
    ),
    "one request in twenty": Damage(
        begins=lambda contexts, _, random: _elsewhere(contexts, random.random(len(contexts)) < 1 / 20)
    ),
}
"""What may be wrong with every answer, with some, or with few."""
