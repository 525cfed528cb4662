"""Which control questions are asked, of what heals and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from harness.drive.asking_again import A_HANDFUL
from harness.drive.conditions import Condition
from harness.drive.controls import ask_controls
from harness.drive.probing import run_passes
from harness.drive.session import Reference, Suspect, Target
from harness.history.event_base import CallFailure
from harness.history.observations import WeightChecksums
from harness.history.passes import CacheCondition, Control, PassStarted, Prompt, Role, TokenTexts
from harness.vllm_api.generation import Generation, GenerationRequest
from tests.drive.scripted_engine import PROMPTS, Stage, answer, stage

pytestmark = pytest.mark.anyio

WARM = Condition(cache=CacheCondition.WARM, concurrency=2)

Answering = Callable[[GenerationRequest], Generation]


def right(request: GenerationRequest) -> Generation:
    """As in the baseline."""
    return answer(*request.prompt_token_ids)


def wrong(_: GenerationRequest) -> Generation:
    """Otherwise."""
    return answer(5, 5, 5)


async def asked(
    on: Stage, *, after: Answering, controls: Answering, adapter: str | None = None
) -> list[Control | None]:
    """Take a baseline, probe an engine that answers so, and see which controls follow."""
    base = Reference(name="base", adapter=None, weights="own", transitions=0)
    target = base if adapter is None else Reference(name="x", adapter="x", weights="own", transitions=0)
    on.session.references = {"base": base, target.name: target}
    for each in on.session.references.values():
        await run_passes(
            on.session, probe="b", role=Role.BASELINE, conditions=[WARM], target=Target(each.adapter, each)
        )
    on.engine.answer = after
    suspects = await run_passes(
        on.session, probe="a", role=Role.AFTER, conditions=[WARM], target=Target(adapter, target)
    )
    on.engine.answer = controls
    await ask_controls(on.session, suspects, target=Target(adapter, target), concurrency=2)
    passes = [event for event in on.events if isinstance(event, PassStarted)]
    return [each.control for each in passes if each.role is Role.CONTROL]


@pytest.fixture
async def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A session whose scenario asks unseen prompts."""
    async with stage(tmp_path, monkeypatch, evidence=["warm", "unseen"]) as staged:
        yield staged


async def test_nothing_is_asked_where_every_answer_is_the_baselines(on: Stage) -> None:
    """Controls are for answers that differ."""
    assert await asked(on, after=right, controls=right) == []
    assert not on.session.controls_asked


async def test_what_a_fresh_salt_heals_is_not_loaded_again(on: Stage) -> None:
    """Gentle questions come first, and right answers computed anew mean right weights."""
    controls = await asked(on, after=wrong, controls=right)
    assert controls == [
        *(Control.ASKED_AGAIN, Control.FRESH_SALT, Control.UNSEEN_PROMPTS),
        *(Control.ASKED_AGAIN, Control.RESET_PREFIX_CACHE),
    ]
    assert on.engine.calls == ["/reset_prefix_cache"]


async def test_what_nothing_heals_is_loaded_again_at_last(on: Stage) -> None:
    """A reload would heal what the others must see, so it is the last."""
    controls = await asked(on, after=wrong, controls=wrong)
    assert controls[-1] is Control.RELOAD_WEIGHTS
    assert on.engine.calls == ["/reset_prefix_cache", "/collective_rpc"]
    assert sum(isinstance(event, WeightChecksums) for event in on.events) == 2


async def test_an_adapter_is_set_beside_the_base_model(on: Stage) -> None:
    """Where that still answers as it did, the adapter alone is damaged."""
    controls = await asked(on, after=wrong, controls=right, adapter="x")
    assert Control.BASE_MODEL in controls
    models = [each.model for each in on.engine.requests]
    assert models.count("model") > len(PROMPTS)


async def test_only_the_damaged_prompts_are_asked_again(on: Stage) -> None:
    """The others have nothing to tell."""

    def one_wrong(request: GenerationRequest) -> Generation:
        return wrong(request) if request.prompt_token_ids == PROMPTS[1].token_ids else right(request)

    await asked(on, after=one_wrong, controls=right)
    started = next(
        event for event in on.events if isinstance(event, PassStarted) and event.control is Control.FRESH_SALT
    )
    assert started.asked == ("p2",)


async def test_one_odd_answer_is_asked_for_again_as_it_was(on: Stage) -> None:
    """Before anything else, and, as it is right now, in the company it had; the first answer stays."""

    def one_wrong(request: GenerationRequest) -> Generation:
        return wrong(request) if request.prompt_token_ids == PROMPTS[1].token_ids else right(request)

    controls = await asked(on, after=one_wrong, controls=right)
    starts = [event for event in on.events if isinstance(event, PassStarted)]
    again = [start for start in starts if start.control is Control.ASKED_AGAIN]
    assert controls[:2] == [Control.ASKED_AGAIN] * 2
    assert [start.asked for start in again] == [("p2",), ("p1", "p2", "p3"), ("p2",)]
    assert {(start.cache, start.concurrency) for start in again} == {(WARM.cache, WARM.concurrency)}


async def test_before_each_control_that_may_heal_damage_is_asked_for_again(on: Stage) -> None:
    """What nothing heals is asked for before the salt, the reset and the reload."""
    assert await asked(on, after=wrong, controls=wrong) == [
        *(Control.ASKED_AGAIN, Control.FRESH_SALT, Control.UNSEEN_PROMPTS),
        *(Control.ASKED_AGAIN, Control.RESET_PREFIX_CACHE),
        *(Control.ASKED_AGAIN, Control.RELOAD_WEIGHTS),
    ]


async def test_no_more_than_a_handful_is_asked_again(on: Stage) -> None:
    """The clearest damage stands for the rest."""
    many = tuple(Prompt(id=f"m{n}", text=f"many {n}", token_ids=(n, 7, 8)) for n in range(20, 30))
    on.session.prompts = many
    await asked(on, after=wrong, controls=wrong)
    starts = [event for event in on.events if isinstance(event, PassStarted)]
    assert {len(start.asked) for start in starts if start.control is Control.ASKED_AGAIN} == {A_HANDFUL}


async def test_what_is_right_before_the_reload_needs_none(on: Stage) -> None:
    """A reset that made everything right leaves nothing that loading the weights could heal."""

    def until_the_reset(request: GenerationRequest) -> Generation:
        return right(request) if "/reset_prefix_cache" in on.engine.calls else wrong(request)

    controls = await asked(on, after=wrong, controls=until_the_reset)
    assert controls[-2:] == [Control.RESET_PREFIX_CACHE, Control.ASKED_AGAIN]


async def test_controls_are_asked_once_in_a_cell(on: Stage) -> None:
    """Those of a second probe would meet an engine that the first ones have healed."""
    first = await asked(on, after=wrong, controls=wrong)
    assert await asked(on, after=wrong, controls=wrong) == first


async def test_an_engine_that_was_late_is_asked_again_and_nothing_else(on: Stage) -> None:
    """Every control would wait for its deadline: one request once more, and one that was not late."""
    await asked(on, after=right, controls=right)
    reference = on.session.references["base"]
    before = reference.answers[WARM]["p1"]
    lost = before.model_copy(
        update={"failure": CallFailure(kind="timeout", message="no answer within 60 s"), "token_ids": ()}
    )
    asked_before = len(on.engine.requests)
    suspects = [Suspect(before=before, after=lost, condition=WARM)]
    await ask_controls(on.session, suspects, target=Target(None, reference), concurrency=2)
    assert len(on.engine.requests) == asked_before + 2
    controls = [each.control for each in on.events if isinstance(each, PassStarted) and each.control]
    assert controls == [Control.SAME_AGAIN, Control.CANARY]
    assert on.session.controls_asked


async def test_a_release_without_salts_is_reset_instead(on: Stage) -> None:
    """Only an empty cache makes sure that nothing is read from it."""
    on.session.vllm_version = "0.8.0"
    controls = await asked(on, after=wrong, controls=wrong)
    assert Control.FRESH_SALT not in controls
    assert on.engine.calls.count("/reset_prefix_cache") >= 2


async def test_a_refused_reset_asks_nothing_about_it(on: Stage) -> None:
    """An answer would be taken for one of an empty cache."""
    on.engine.refuse("/reset_prefix_cache")
    assert Control.RESET_PREFIX_CACHE not in await asked(on, after=wrong, controls=right)


async def test_where_answers_part_is_asked_in_words(on: Stage) -> None:
    """The tokens around the first difference, each once."""
    await asked(on, after=wrong, controls=right)
    assert sum(isinstance(event, TokenTexts) for event in on.events) == 1
