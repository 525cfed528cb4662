"""Which passes a probe consists of."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.result import Verdict
from harness.drive.conditions import Condition, plan, repeated
from harness.history.passes import CacheCondition, Method, Role
from harness.scenario.schema import Scenario
from harness.scenario.steps.asking import ProbeOptions
from tests.drive.conftest import Driver

WARM, REHIT, COLD = CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD
EVERYTHING = (
    "evidence: [sampled, forced, scored, warm, rehit, cold, unseen]\nconcurrency: [4, 1]\nrequires: gpu"
)


def scenario(**more: object) -> Scenario:
    """The smallest scenario there is."""
    tree = {
        "name": "n",
        "why": "w",
        "arms": {"a": {}},
        "prompts": {"corpus": "c"},
        "script": [{"probe": "b"}],
    }
    return Scenario.model_validate({**tree, **more})


@pytest.mark.parametrize(
    ("role", "expected", "unseen"),
    [
        (Role.BASELINE, [WARM, REHIT, COLD], True),
        (Role.NULL, [WARM, COLD], False),
        (Role.AFTER, [WARM, COLD], False),
    ],
)
def test_by_default_later_probes_ask_less(role: Role, expected: list[CacheCondition], unseen: bool) -> None:  # noqa: FBT001
    """A re-hit and the unseen prompts are of the baseline; the others are asked each time."""
    asked = plan(scenario(), ProbeOptions(name="p"), role=role)

    assert [each.cache for each in asked.passes] == expected
    assert asked.unseen is unseen
    assert {each.concurrency for each in asked.passes} == {16}


def test_a_probe_that_names_a_rehit_asks_it_anywhere() -> None:
    """What was cached after a transition is read again; where nothing is kept there is nothing to read."""
    again = ProbeOptions(name="p", evidence=("rehit",))

    assert [each.cache for each in plan(scenario(), again, role=Role.AFTER).passes] == [REHIT]
    assert plan(scenario(), again, role=Role.AFTER, caches=False).passes == ()
    assert len(plan(scenario(), again, role=Role.BASELINE, caches=False).passes) == 1


def test_what_reads_the_cache_is_asked_before_what_scores() -> None:
    """Scoring writes the prefix cache; a missing block would be hidden by it."""
    asked = plan(
        scenario(), ProbeOptions(name="p", evidence=("scored", "sampled", "cold", "warm")), role=Role.AFTER
    )

    assert [(each.method, each.cache) for each in asked.passes] == [
        (Method.GENERATED, COLD),
        (Method.GENERATED, WARM),
        (Method.SCORED, COLD),
        (Method.SAMPLED, COLD),
    ]


def test_a_probe_overrules_its_scenario() -> None:
    """What a probe names holds for it alone, the re-hit included."""
    asked = plan(
        scenario(evidence=["cold"], concurrency=[8, 2]),
        ProbeOptions(name="p", evidence=("rehit",), concurrency=3),
        role=Role.AFTER,
    )

    assert asked.passes == (Condition(cache=REHIT, concurrency=3),)
    assert asked.concurrency == 3


def test_every_prompt_is_decoded_at_each_concurrency() -> None:
    """So are forced answers; scored and sampled ones are asked for at the first one only."""
    asked = plan(
        scenario(evidence=["cold", "scored", "forced"], concurrency=[8, 2], requires="gpu"),
        ProbeOptions(name="p"),
        role=Role.AFTER,
    )

    assert [(each.method.value, each.concurrency) for each in asked.passes] == [
        ("generated", 8),
        ("forced", 8),
        ("generated", 2),
        ("forced", 2),
        ("scored", 8),
    ]


def test_a_null_transition_repeats_all_but_the_rehit() -> None:
    """Warm is a re-hit by then."""
    baseline = [Condition(cache=cache, concurrency=4) for cache in (WARM, REHIT, COLD)]

    assert [each.cache for each in repeated(baseline)] == [WARM, COLD]


def test_a_null_transition_computes_anew_what_its_baseline_computed() -> None:
    """Its warm pass reads the cache; after a sleep the prompts are computed, and meet computed answers."""
    baseline = [Condition(cache=WARM, concurrency=4)]

    assert [each.cache for each in repeated(baseline)] == [WARM, COLD]
    assert [each.cache for each in repeated(baseline, caches=False)] == [WARM]


def test_a_null_transition_asks_what_it_names() -> None:
    """Once at each concurrency of its baseline, whatever else that asked."""
    baseline = [Condition(cache=WARM, concurrency=4), Condition(cache=WARM, concurrency=1)]

    asked = [(each.cache, each.concurrency) for each in repeated(baseline, ("warm", "cold"))]
    assert asked == [(WARM, 4), (COLD, 4), (WARM, 1), (COLD, 1)]


@pytest.mark.anyio
@pytest.mark.cell
async def test_a_cell_with_all_evidence_is_clean(driver: Driver) -> None:
    """The server scores the baseline's own tokens, decodes along them, and samples the same ones again."""
    recording = await driver.run(more=EVERYTHING)

    methods = [(each.start.method.value, each.start.concurrency) for each in recording.passes_of(Role.AFTER)]
    decoded = [("generated", 4)] * 2 + [("forced", 4)] + [("generated", 1)] * 2 + [("forced", 1)]
    assert methods == [*decoded, ("scored", 4), ("sampled", 4)] * 2
    warm = next(recording.passes_of(Role.BASELINE))
    scored = [each for each in recording.passes if each.start.method.tokens_are_given]
    assert all(
        answer.token_ids == warm.answers[prompt].token_ids
        for each in scored
        for prompt, answer in each.answers.items()
    )
    assert judge(recording).verdict is Verdict.CLEAN


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "seen_by"),
    [("lose-weights", {"warm", "cold", "scored", "forced"}), ("keep-prefix-cache", {"warm"})],
)
@pytest.mark.cell
async def test_given_tokens_see_lost_weights_and_not_a_stale_prefix_cache(
    driver: Driver, fault: str, seen_by: set[str]
) -> None:
    """Nothing cached is read for them, so what they find is not in the cache."""
    evidence = "evidence: [warm, rehit, cold, scored, forced]\nrequires: gpu"
    recording = await driver.run(more=evidence, fault=fault)

    divergence = [finding for finding in judge(recording).findings if finding.checker == "divergence"]
    manners = {finding.message.split(": ")[0].rpartition(", ")[2] for finding in divergence}
    assert manners == seen_by


def test_where_nothing_is_cached_one_pass_stands_for_warm_rehit_and_cold() -> None:
    """They would ask the same; what is asked by another method, or at another concurrency, is asked still."""
    several = scenario(evidence=["warm", "rehit", "cold", "scored", "unseen"], concurrency=[8, 2])
    asked = plan(several, ProbeOptions(name="p"), role=Role.BASELINE, caches=False)
    assert [(each.method, each.cache, each.concurrency) for each in asked.passes] == [
        (Method.GENERATED, WARM, 8),
        (Method.GENERATED, WARM, 2),
        (Method.SCORED, COLD, 8),
    ]
    assert asked.unseen
    again = repeated(asked.passes, ("warm", "cold"), caches=False)
    assert [(each.cache, each.concurrency) for each in again] == [(WARM, 8), (WARM, 2)]
