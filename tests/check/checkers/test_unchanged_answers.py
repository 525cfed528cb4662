"""Adapters and weights that must answer otherwise, and what each answer is compared with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.check.checkers import unchanged_answers
from harness.check.diagnosis.symptoms import Symptoms
from harness.check.result import Cause, Strength, Verdict
from harness.history.passes import Answer, Control
from tests.check.stories import END_OF_SEQUENCE, Change, Story, with_tokens


def shifted(answer: Answer, *, by: int) -> Answer:
    """Other words, and the same ending."""
    tokens = (token if token == END_OF_SEQUENCE else token + by for token in answer.token_ids)
    return with_tokens(answer, tuple(tokens), finish_reason=answer.finish_reason or "")


def reworded(answer: Answer) -> Answer:
    """What the adapter answers instead of the base model."""
    return shifted(answer, by=1)


def broken(answer: Answer) -> Answer:
    """What neither of them answers."""
    return shifted(answer, by=2)


ADAPTED: dict[str, Change] = {f"p{i}": reworded for i in range(5)}
BROKEN: dict[str, Change] = {f"p{i}": broken for i in range(5)}


def adapted_story(changes: dict[str, Change] | None = None) -> Story:
    """The base model, then an adapter with a baseline and a null transition of its own."""
    told = ADAPTED if changes is None else changes
    story = Story().asking(reference="base").baseline().null()
    story.load_adapter().asking("x", reference="first", differs_from=("base",))
    return story.baseline(told).null(told)


def test_an_adapter_that_has_its_own_answers_is_fine() -> None:
    """Its answers are held against its own baseline, and its noise against its own null transition."""
    story = adapted_story()
    story.sleep().wake().asking(reference="base").probe()
    story.asking("x", reference="first", differs_from=("base",)).probe(warm=ADAPTED, cold=ADAPTED)
    evidence = story.evidence()
    assert unchanged_answers.check(evidence) == ()
    assert {each.reply.start.reference for each in evidence.null} == {"base", "first"}
    assert all(
        each.reference.start.reference == each.reply.start.reference and each.identical
        for each in evidence.after
    )
    assert story.judged().verdict is Verdict.CLEAN


def test_an_adapter_without_effect_is_corrupt() -> None:
    """Where it answers in every word as the base model does, it is off, however healthy that looks."""
    story = adapted_story()
    story.sleep().wake().asking(reference="base").probe()
    story.asking("x", reference="first", differs_from=("base",)).probe(1)
    [finding] = unchanged_answers.check(story.evidence())
    assert (finding.checker, finding.strength) == ("adapters", Strength.PROOF)
    assert finding.message == (
        "after: the adapter x gives 4 answers, all equal to those of base, but some had to differ"
    )
    assert finding.evidence == {"adapter": "x", "equals": "base", "answers": 4}
    assert story.judged().verdict is Verdict.CORRUPT


def test_an_adapter_that_never_took_effect_is_named() -> None:
    """A baseline of its own that equals the base model's proves it, although nothing changed since."""
    story = adapted_story({})
    story.sleep().wake().asking(reference="base").probe()
    story.asking("x", reference="first").probe(1)
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.ADAPTER), result.reason
    assert result.reason.startswith("baseline: the adapter x gives")


def test_weights_that_were_not_loaded_are_named() -> None:
    """Other weights that answer like the model's own were not loaded."""
    story = Story().asking(reference="own").baseline().null().reload()
    story.asking(reference="other", differs_from=("own",)).baseline()
    story.sleep().wake().asking(reference="other").probe()
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS), result.reason


@given(changed=st.sets(st.sampled_from([f"p{i}" for i in range(4)])))
def test_one_answer_that_differs_is_enough(changed: set[str]) -> None:
    """Only if every single answer is the other baseline's is it an accusation."""
    story = adapted_story(dict.fromkeys(changed, reworded))
    assert bool(unchanged_answers.check(story.evidence())) is not bool(changed)


@given(damaged=st.sets(st.sampled_from([f"p{i}" for i in range(4)]), min_size=1))
def test_a_damaged_adapter_is_told_from_damaged_weights(damaged: set[str]) -> None:
    """Its computed answers are wrong and the base model's are not, whatever reloading heals."""
    wrong = {**ADAPTED, **{name: BROKEN[name] for name in damaged}}
    story = adapted_story()
    story.sleep().wake().asking("x", reference="first", differs_from=("base",))
    story.probe(warm=wrong, cold=wrong)
    asked = sorted(damaged)
    story.control(Control.FRESH_SALT, wrong, asked=asked)
    story.control(Control.UNSEEN_PROMPTS, ADAPTED)
    story.asking(reference="base").control(Control.BASE_MODEL, asked=asked)
    story.asking("x", reference="first").control(Control.RELOAD_WEIGHTS, ADAPTED, asked=asked)
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.ADAPTER), result.reason
    assert f"the base model answers as before: {len(damaged)} of {len(damaged)}" in result.reason


def test_a_damaged_base_model_clears_the_adapter() -> None:
    """Where the base model's answers are wrong as well, it is not the adapter."""
    story = adapted_story()
    story.sleep().wake().asking(reference="base").probe(warm=BROKEN, cold=BROKEN)
    story.asking("x", reference="first").probe(warm=BROKEN, cold=BROKEN)
    story.asking(reference="base").control(Control.BASE_MODEL, BROKEN)
    assert Symptoms(story.evidence()).damaged_adapters == ()
    assert story.judged().cause is not Cause.ADAPTER


def test_checksums_are_compared_with_those_of_the_same_weights() -> None:
    """Other weights have other checksums, which is no change of the model's own."""
    story = Story().asking(reference="own").baseline().checksums({"w": "1"}).null().reload()
    story.asking(reference="other", differs_from=("own",)).baseline(ADAPTED).checksums({"w": "2"})
    story.null(ADAPTED).sleep().wake().asking(reference="other").probe(warm=BROKEN, cold=BROKEN)
    story.checksums({"w": "2"})
    assert Symptoms(story.evidence()).changed_weights == ()
    story.checksums({"w": "3"})
    assert Symptoms(story.evidence()).changed_weights == ()
