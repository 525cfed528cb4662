"""What a pass sends: salts, how much at a time, and which of the answers are suspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from harness.drive.conditions import Condition
from harness.drive.probing import SUSPICIOUS_SHIFT, role_and_target, run_pass, run_probe, suspects_among
from harness.drive.session import Reference, Target
from harness.history.passes import Answer, CacheCondition, Method, PassStarted, Role
from harness.scenario.steps.asking import ProbeOptions
from harness.vllm_api.calls import CallError
from harness.vllm_api.generation import Generation, GenerationRequest
from tests.check.stories import answer_to
from tests.check.stories import prompt as told_prompt
from tests.drive.scripted_engine import PROMPTS, Stage, answer, stage

pytestmark = pytest.mark.anyio

WARM, COLD = (Condition(cache=cache, concurrency=2) for cache in (CacheCondition.WARM, CacheCondition.COLD))


@pytest.fixture
async def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A session that has asked nothing yet."""
    async with stage(tmp_path, monkeypatch, concurrency=2) as staged:
        yield staged


def base() -> Target:
    """A baseline without answers."""
    return Target(None, Reference(name="b", adapter=None, weights="own", transitions=0))


async def ask(on: Stage, condition: Condition) -> list[str | None]:
    """Run one pass; return the salt of each of its requests."""
    before = len(on.engine.requests)
    await run_pass(on.session, PROMPTS, probe="b", role=Role.NULL, condition=condition, target=base())
    return [each.cache_salt for each in on.engine.requests[before:]]


async def test_warm_passes_share_a_salt_and_cold_ones_have_their_own(on: Stage) -> None:
    """A cold pass finds nothing cached, a warm one all that warm ones left."""
    salts = [await ask(on, condition) for condition in (WARM, COLD, WARM, COLD)]
    assert all(len(set(each)) == 1 for each in salts)
    assert salts[0] == salts[2]
    assert len({each[0] for each in salts}) == 3


async def test_two_sessions_never_share_a_salt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that follow each other on one server read nothing of each other's cache."""
    async with stage(tmp_path / "a", monkeypatch) as one, stage(tmp_path / "b", monkeypatch) as other:
        assert one.session.salt != other.session.salt


@pytest.mark.parametrize("concurrency", [1, 2, 3])
async def test_no_more_requests_are_on_their_way_than_asked_for(
    on: Stage, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """And as many as may be are."""
    under_way: Counter[str] = Counter()

    async def generate(_: object, request: GenerationRequest) -> Generation:
        under_way["now"] += 1
        under_way["most"] = max(under_way["most"], under_way["now"])
        await anyio.sleep(request.prompt_token_ids[0])
        under_way["now"] -= 1
        return answer(1)

    monkeypatch.setattr("harness.drive.probing.generate", generate)
    await ask(on, Condition(cache=CacheCondition.WARM, concurrency=concurrency))
    assert under_way["most"] == concurrency


async def test_what_fails_is_an_answer_with_its_failure(on: Stage) -> None:
    """A prompt without an answer is recorded like any other."""
    on.engine.answer = lambda _: Generation(seconds=1, error=CallError(kind="http", message="no", status=500))
    await ask(on, WARM)
    answers = [event for event in on.events if isinstance(event, Answer)]
    assert [each.failure and each.failure.status for each in answers] == [500] * 3


async def test_a_probe_is_a_baseline_then_noise_then_evidence(on: Stage) -> None:
    """What it is evidence of follows from what was done to the engine since its baseline."""
    roles = []
    for name, transitions in (("first", 0), ("again", 0), ("changed", 1)):
        on.session.transitions = transitions
        roles.append(role_and_target(on.session, ProbeOptions(name=name))[0])
    assert roles == [Role.BASELINE, Role.NULL, Role.AFTER]
    asked_anew = ProbeOptions(name="new", baseline=True)
    assert role_and_target(on.session, asked_anew)[0] is Role.BASELINE


async def test_a_changed_answer_is_a_suspect(on: Stage) -> None:
    """Held against the baseline of the same condition."""
    options = ProbeOptions(name="b", evidence=("warm",))
    role, target = role_and_target(on.session, options)
    assert await run_probe(on.session, options, role=role, target=target) == []
    on.session.transitions += 1
    on.engine.answer = lambda request: answer(*request.prompt_token_ids[:-1], 99)
    role, target = role_and_target(on.session, options)
    suspects = await run_probe(on.session, options, role=role, target=target)
    assert sorted(each.after.prompt for each in suspects) == ["p1", "p2", "p3"]
    numbers = [event.number for event in on.events if isinstance(event, PassStarted)]
    assert numbers == [1, 2]


@pytest.mark.parametrize(
    ("shift", "suspected"), [(0.0, 0), (0.9 * SUSPICIOUS_SHIFT, 0), (1.1 * SUSPICIOUS_SHIFT, 1)]
)
def test_a_shift_of_probabilities_alone_is_a_suspect(shift: float, suspected: int) -> None:
    """Tokens may stay while the engine became another; rounding is none."""
    before = answer_to(told_prompt(0), max_tokens=8)
    assert before.logprobs is not None
    moved = before.logprobs.pack(
        chosen=before.logprobs.chosen - shift,
        top_ids=before.logprobs.top_ids,
        top_values=before.logprobs.top_values,
    )
    reference = base().reference
    reference.answers[WARM] = {before.prompt: before}
    after = before.model_copy(update={"logprobs": moved})
    assert len(list(suspects_among([after], reference, WARM))) == suspected


def test_sampled_answers_are_never_suspects() -> None:
    """The controls are asked without sampling."""
    before = answer_to(told_prompt(0), max_tokens=8)
    reference = base().reference
    reference.answers[WARM] = {before.prompt: before}
    sampled = Condition(method=Method.SAMPLED, cache=CacheCondition.COLD, concurrency=1)
    changed = before.model_copy(update={"token_ids": (1, 2)})
    assert list(suspects_among([changed], reference, sampled)) == []
