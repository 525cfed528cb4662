"""Kinds of requests: what their own oracles prove, and what an answer that is only another one does."""

from __future__ import annotations

import pytest

from harness.check.checkers import CHECKERS, kinds
from harness.check.result import Cause, Finding, Strength, Verdict
from harness.history.event_base import CallFailure
from harness.history.kinds import KindAnswer, KindAnswered, KindChoice
from harness.history.passes import Role
from harness.kinds import KINDS, Setting
from tests.check.stories import Story, clean_story

GOOD, OTHER, BAD = '{"place": "sea"}', '{"place": "city"}', '{"place": "moon"}'
IDS = {GOOD: (1, 2, 3), OTHER: (1, 2, 4), BAD: (1, 2, 5)}


def test_every_kind_accuses_a_cause_that_a_checker_is_for() -> None:
    """One of another cause would be asked, and never judged."""
    judged = {checker.cause.value for checker in CHECKERS if checker.name.startswith("kinds: ")}
    assert {kind.cause for kind in KINDS.values()} == judged


def answer(text: str, *, failure: str | None = None) -> KindAnswer:
    """What came back for a JSON schema; where it ``failure``s, nothing did."""
    (question,) = KINDS["json-schema"].ask(Setting())
    told = KindAnswer(path=question.path, body=question.body)
    if failure is not None:
        gone = CallFailure.model_validate({"kind": failure, "message": "nothing came"})
        return told.model_copy(update={"failure": gone})
    choice = KindChoice(text=text, token_ids=IDS[text], finish_reason="stop")
    return told.model_copy(update={"choices": (choice,), "completion_tokens": 3})


def asked(story: Story, role: Role, came: KindAnswer, *, again: bool = False) -> None:
    """Tell of one round."""
    story.tell(
        KindAnswered(
            t=story.now(),
            asks="json-schema",
            step="9",
            probe=role.value,
            role=role,
            reference="baseline",
            again=again,
            answers=(came,),
        )
    )


def story_of(
    before: KindAnswer, *after: KindAnswer, null: KindAnswer | None = None, measured: bool = True
) -> Story:
    """A healthy engine that is asked for JSON; what follows the first answer after waking was asked again."""
    story = Story(prompts=4)
    story.asks = {"reference": "baseline"}
    story.baseline()
    asked(story, Role.BASELINE, before)
    story.null()
    if measured:
        asked(story, Role.NULL, null or before)
    story.cycle(1)
    for number, each in enumerate(after):
        asked(story, Role.AFTER, each, again=number > 0)
    return story


def found(story: Story) -> list[Finding]:
    """What the checker for grammars finds."""
    return list(kinds.check(story.evidence(), cause=Cause.GRAMMAR))


def test_the_same_right_answer_is_no_finding() -> None:
    """Neither for its own checker nor for the others."""
    story = story_of(answer(GOOD), answer(GOOD))
    assert [finding for cause in Cause for finding in kinds.check(story.evidence(), cause=cause)] == []
    result = story.judged()
    assert result.verdict is Verdict.CLEAN
    assert "1 kind of requests answered rightly" in result.reason


def test_an_answer_that_its_oracle_refuses_is_a_proof_and_names_the_cause() -> None:
    """Although every probe was answered as before, and whether or not it was asked again."""
    result = story_of(answer(GOOD), answer(BAD)).judged()
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.GRAMMAR)
    assert "json-schema" in result.reason
    assert "not valid by the schema" in result.reason


@pytest.mark.parametrize(("again", "strength"), [(GOOD, Strength.HINT), (BAD, Strength.PROOF)])
def test_an_engine_that_mixed_up_other_requests_before_has_to_be_wrong_alone(
    again: str, strength: Strength
) -> None:
    """With a draft model vLLM 0.32.0 does so; whom it befalls is chance."""
    story = Story(prompts=4)
    story.asks = {"reference": "baseline"}
    story.baseline()
    asked(story, Role.BASELINE, answer(GOOD))
    story.null()
    (question,) = KINDS["stop-ids"].ask(Setting(token_ids=(7, 8, 9)))
    wrong = KindChoice(text="a", token_ids=(7, 8, 9), finish_reason=None)
    told = KindAnswer(path=question.path, body=question.body, choices=(wrong,), completion_tokens=3)
    story.tell(
        KindAnswered(
            t=story.now(),
            asks="stop-ids",
            step="1",
            probe="null",
            role=Role.NULL,
            reference="baseline",
            answers=(told,),
        )
    )
    story.cycle(1)
    asked(story, Role.AFTER, answer(BAD))
    asked(story, Role.AFTER, answer(again), again=True)
    proofs = {finding.strength for finding in found(story) if "not valid" in finding.message}
    assert proofs == {strength}


def test_what_the_baseline_got_wrong_as_well_is_only_a_hint() -> None:
    """Nothing can be lost that was not there; that the kind could not be judged is told."""
    findings = found(story_of(answer(BAD), answer(BAD)))
    assert {finding.strength for finding in findings} == {Strength.HINT}
    assert any("cannot be judged" in finding.message for finding in findings)
    story = story_of(answer(BAD), answer(BAD))
    assert "0 kinds of requests answered rightly (1 could not be judged)" in story.judged().reason


def test_another_right_answer_is_a_proof_only_if_it_comes_again() -> None:
    """One odd answer accuses nobody."""
    once = found(story_of(answer(GOOD), answer(OTHER), answer(GOOD)))
    assert [finding.strength for finding in once] == [Strength.HINT]
    twice = found(story_of(answer(GOOD), answer(OTHER), answer(OTHER)))
    assert [finding.strength for finding in twice] == [Strength.PROOF]
    assert "from token 2 on" in twice[0].message


def test_another_right_answer_proves_nothing_where_noise_may_be_the_reason() -> None:
    """It differed before anything was done, or nobody looked whether it does."""
    noisy = found(story_of(answer(GOOD), answer(OTHER), answer(OTHER), null=answer(OTHER)))
    assert [finding.strength for finding in noisy] == [Strength.HINT]
    unknown = found(story_of(answer(GOOD), answer(OTHER), answer(OTHER), measured=False))
    assert [finding.strength for finding in unknown] == [Strength.HINT]


@pytest.mark.parametrize(
    ("failure", "strength"),
    [("timeout", Strength.HINT), ("hang", Strength.PROOF), ("http", Strength.PROOF)],
)
def test_no_answer_is_a_proof_unless_the_engine_may_only_be_slow(failure: str, strength: Strength) -> None:
    """An engine that was seen to stand still, or that refuses what it did before, is not slow."""
    findings = found(story_of(answer(GOOD), answer(GOOD, failure=failure)))
    assert [finding.strength for finding in findings] == [strength]


def test_nothing_is_said_of_a_history_without_kinds() -> None:
    """As those of older versions are."""
    assert found(clean_story()) == []


def draws(tokens: int, *, off: float = 0.0) -> KindAnswer:
    """Sixteen sampled tokens, of which so many are others; likelihoods are ``off`` by so many nat."""
    (question,) = KINDS["several"].ask(Setting())
    candidates = ((1, -0.9 + off), (2, -1.2), (3, -1.6 - off), (4, -2.5), (5, -3.0))
    came = tuple(
        KindChoice(token_ids=(1 if number < tokens else 2 + number % 2,), ranks=(1,), candidates=candidates)
        for number in range(16)
    )
    finished = tuple(each.model_copy(update={"finish_reason": "length"}) for each in came)
    return KindAnswer(path=question.path, body=question.body, choices=finished, completion_tokens=16)


@pytest.mark.parametrize(
    ("others", "off", "again", "strengths"),
    [
        (0, 0.03, 0, []),
        (1, 0.03, 1, [Strength.HINT]),
        (9, 0.03, 9, [Strength.PROOF]),
        (9, 0.03, 0, [Strength.HINT]),
        (9, 0.9, 9, [Strength.HINT]),
    ],
)
def test_tokens_drawn_otherwise_prove_damage_in_a_noisy_engine(
    others: int, off: float, again: int, strengths: list[Strength]
) -> None:
    """If more differ than likelihoods explain, and do again; where these moved far nothing is proven."""
    story = Story(prompts=4)
    story.asks = {"reference": "baseline"}
    story.baseline()
    rounds = [
        (Role.BASELINE, draws(0)),
        (Role.NULL, draws(1, off=0.02)),
        (Role.AFTER, draws(others, off=off)),
    ]
    for role, came in [*rounds, (Role.AFTER, draws(again, off=off))]:
        if role is Role.NULL:
            story.null()
        elif role is Role.AFTER and came is rounds[2][1]:
            story.cycle(1)
        event = KindAnswered(
            t=story.now(),
            asks="several",
            step="9",
            probe=role.value,
            role=role,
            reference="baseline",
            again=role is Role.AFTER and came is not rounds[2][1],
            answers=(came,),
        )
        story.tell(event)
    found = list(kinds.check(story.evidence(), cause=Cause.SCHEDULER))
    assert [finding.strength for finding in found] == strengths
