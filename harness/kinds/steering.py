"""What pushes the sampler towards tokens or away from them: penalties, biases, words and ids.

Every question is put so that the effect is certain where it is heeded, and hardly possible where it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from harness.history.kinds import KindAnswer
from harness.kinds.kind import Kind, Question, Setting, choices, greedy, only

CAUSE = "penalties and biases"

_TWO, _FEW, _LETTERS = 2, 4, 3
_FAVOURED = 5.0
_LONGER = 12
"""Tokens, among which the plain answer repeats some."""
_LEAST = 4
"""Tokens before which an answer must not end."""
_CERTAIN = 100
"""The largest bias there is: no other token is taken."""


def _ask_with_penalty(_: Setting) -> Sequence[Question]:
    # A hundred times less likely once it stood somewhere, prompt included: nothing comes twice.
    return (Question(body=greedy(repetition_penalty=100.0, max_tokens=_LONGER)),)


def _nothing_twice(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        token, times = Counter(choice.token_ids).most_common(1)[0] if choice.token_ids else (0, 0)
        if times > 1:
            yield f"token {token} came {times} times although a repetition is penalised by the factor 100"


def _ask_with_frequency(setting: Setting) -> Sequence[Question]:
    two: list[JsonValue] = [*setting.own_ids[:_TWO]]
    body = greedy(allowed_token_ids=two, frequency_penalty=2.0, presence_penalty=2.0, max_tokens=_LONGER)
    return (Question(body=body),) if len(two) == _TWO else ()


def _both_come(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        if len(set(choice.token_ids)) < _TWO:
            yield (
                f"one of two allowed tokens came {len(choice.token_ids)} times in a row although each "
                "time is penalised"
            )


def _ask_with_bias(setting: Setting) -> Sequence[Question]:
    ids = setting.own_ids
    return (Question(body=greedy(logit_bias={str(ids[-1]): _CERTAIN})),) if ids else ()


def _only_the_favoured(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        favoured = only(answer, "logit_bias")
        for choice in answer.choices:
            if {*map(str, choice.token_ids)} != {str(favoured)}:
                yield f"other tokens than {favoured} came although its bias is {_CERTAIN}"


def _ask_without_words(setting: Setting) -> Sequence[Question]:
    found = next((pair for pair in setting.words if len(pair[1]) >= _LETTERS), None)
    if found is None:
        return ()
    token, word = found
    # Favoured, so that it would come, and named by its id: the letters may also come in other tokens.
    return (Question(body=greedy(bad_words=[word], logit_bias={str(token): _FAVOURED})),)


def _word_absent(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        token, word = only(answer, "logit_bias"), only(answer, "bad_words")
        for choice in answer.choices:
            if str(token) in map(str, choice.token_ids):
                yield f"token {token} came, which is the bad word {word!r}: {choice.text!r}"


def _ask_with_few_ids(setting: Setting) -> Sequence[Question]:
    # The last ones, so that the plain answer does not keep to them by itself.
    few: list[JsonValue] = [*setting.own_ids[-_FEW:]]
    return (Question(body=greedy(allowed_token_ids=few)),) if len(few) == _FEW else ()


def _only_the_allowed(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        allowed = answer.body["allowed_token_ids"]
        for choice in answer.choices:
            others = set(choice.token_ids) - set(allowed)  # type: ignore[arg-type]  # a list of ids
            if others:
                yield f"token {min(others)} came, which is none of the allowed {allowed}"


def _ask_with_a_least(setting: Setting) -> Sequence[Question]:
    # All that keeps the answer from ending at once is that it must not.
    bias: dict[str, JsonValue] = {str(end): _CERTAIN for end in setting.end_of_sequence}
    return (Question(body=greedy(min_tokens=_LEAST, logit_bias=bias)),) if bias else ()


def _not_too_early(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        if len(choice.token_ids) < _LEAST:
            yield f"ended after {len(choice.token_ids)} tokens although at least {_LEAST} were asked for"
        elif choice.finish_reason != "stop":
            yield f"did not end although the end's bias is {_CERTAIN}"


PENALTIES = Kind(
    name="repetition-penalty",
    summary="a repetition penalty so large that no token may come twice",
    cause=CAUSE,
    ask=_ask_with_penalty,
    oracle=_nothing_twice,
)
FREQUENCY = Kind(
    name="frequency-penalty",
    summary="two allowed tokens, each penalised whenever it comes: both must",
    cause=CAUSE,
    ask=_ask_with_frequency,
    oracle=_both_come,
)
BIAS = Kind(
    name="logit-bias",
    summary="a bias that leaves one token",
    cause=CAUSE,
    ask=_ask_with_bias,
    oracle=_only_the_favoured,
)
BAD_WORDS = Kind(
    name="bad-words",
    summary="a word of the plain answer forbidden: it must be absent",
    cause=CAUSE,
    ask=_ask_without_words,
    oracle=_word_absent,
)
ALLOWED_IDS = Kind(
    name="allowed-ids",
    summary="four allowed tokens: no other may come",
    cause=CAUSE,
    ask=_ask_with_few_ids,
    oracle=_only_the_allowed,
)
LEAST_TOKENS = Kind(
    name="min-tokens",
    summary="an end that is certain as soon as it is allowed: not before",
    cause=CAUSE,
    ask=_ask_with_a_least,
    oracle=_not_too_early,
)
