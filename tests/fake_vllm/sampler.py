"""From logits to a token: what a request asks of the sampler (vllm/v1/sample)."""

from __future__ import annotations

import numpy as np

from tests.fake_vllm import grammar, vocabulary
from tests.fake_vllm.model import Array
from tests.fake_vllm.sequence import Sequence

_NEVER = np.float32(-np.inf)


def choose(sequence: Sequence, logits: Array, *, steers: bool = True, follows: bool = True) -> int:
    """The next token.

    Args:
        sequence: Whose it will be.
        logits: What the model says, untouched.
        steers: Whether penalties, biases and allowed tokens are heeded.
        follows: Whether structured outputs are.
    """
    sampling = sequence.sampling
    if sampling.forced:
        return sampling.forced[len(sequence.generated)]
    logits = logits.copy()
    if steers:
        _steer(sequence, logits)
    if follows and sampling.structure is not None:
        _keep_to(sequence, sampling.structure, logits)
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    scaled = _cut_off(logits / np.float32(sampling.temperature), sequence)
    return int(np.argmax(scaled + sequence.random.gumbel(size=len(logits))))


def _steer(sequence: Sequence, logits: Array) -> None:
    sampling, generated = sequence.sampling, sequence.generated
    if sampling.allowed is not None:
        logits[np.setdiff1d(np.arange(len(logits)), sampling.allowed)] = _NEVER
    for word in sampling.bad_words:
        *before, last = word
        if generated[len(generated) - len(before) :] == before:
            logits[last] = _NEVER
    if len(generated) < sampling.min_tokens:
        logits[[vocabulary.END_OF_SEQUENCE, *sampling.stop_token_ids]] = _NEVER
    for token, bias in sampling.bias.items():
        logits[token] += np.float32(bias)
    seen = [*set(sequence.tokens)]
    factor = np.float32(sampling.repetition_penalty)
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
    for token in set(generated):
        penalty = sampling.frequency_penalty * generated.count(token) + sampling.presence_penalty
        logits[token] -= np.float32(penalty)


def _keep_to(sequence: Sequence, structure: str, logits: Array) -> None:
    text = vocabulary.decode(sequence.generated)
    pieces = vocabulary.PIECES[len(vocabulary.SPECIAL_TOKENS) :]
    allowed = [grammar.may_begin(structure, text + piece) for piece in pieces]
    ends = [token == vocabulary.END_OF_SEQUENCE for token in range(len(vocabulary.SPECIAL_TOKENS))]
    logits[~np.array([*(end and grammar.is_whole(structure, text) for end in ends), *allowed])] = _NEVER


def _cut_off(logits: Array, sequence: Sequence) -> Array:
    """Only the likeliest are left: by number, by their probability, and by that of the best."""
    sampling = sequence.sampling
    if sampling.top_k > 0:
        logits = np.where(logits < np.sort(logits)[-sampling.top_k], _NEVER, logits)
    likelihood = np.exp(logits - logits.max())
    logits = np.where(likelihood < sampling.min_p, _NEVER, logits)
    order = np.argsort(-logits, kind="stable")
    before = np.cumsum(likelihood[order]) - likelihood[order]
    logits[order[before >= sampling.top_p * likelihood.sum()]] = _NEVER
    return logits
