"""The whole lifecycle against the fake server: what is asked of whom, and what becomes of refusals."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.history.passes import Control, Role
from harness.history.recording import Recording
from tests.drive.conftest import Driver

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

TWO_ADAPTERS = """\
  - probe: base
  - null_transition: {}
  - load_adapter: {name: y, adapter: second}
  - probe: {name: second, adapter: y, baseline: true, differs_from: [base]}
  - null_transition: {like: second}
  - load_adapter: {name: x, adapter: first, same_path: true}
  - probe: {name: first, adapter: x, baseline: true, differs_from: [base, second]}
"""

OTHER_WEIGHTS = """\
  - probe: own
  - null_transition: {}
  - reload_weights: {weights: other}
  - reset_prefix_cache: {}
  - probe: {name: other, baseline: true, differs_from: [own]}
  - null_transition: {like: other}
  - reload_weights: {weights: own}
  - reset_prefix_cache: {}
  - probe: own-again
  - reload_weights: {weights: other}
"""


def unconfirmed(recording: Recording) -> list[str]:
    """Everything that contradicted a step."""
    return [words for end in recording.step_ends.values() for words in end.unconfirmed]


async def test_adapters_keep_their_answers_across_sleep(driver: Driver) -> None:
    """Base model and adapters are asked apart, each held against its own baseline and its own noise."""
    recording = await driver.run_script(
        TWO_ADAPTERS
        + """\
  - sleep: {level: 1}
  - wake_up: {}
  - probe: still-base
  - probe: {name: still-second, adapter: y, same_as: second, differs_from: [base]}
"""
    )
    assert unconfirmed(recording) == []
    assert {"x", "y"} <= set(recording.observations[-1].served or ())
    asked = [(each.start.adapter, each.start.reference) for each in recording.passes_of(Role.AFTER)]
    assert asked == [(None, "base")] * 2 + [("y", "second")] * 2
    null = {(each.start.adapter, each.start.reference) for each in recording.passes_of(Role.NULL)}
    assert null == {(None, "base"), ("y", "second")}
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CLEAN, None), result.reason


@pytest.mark.parametrize(
    "replaced",
    [
        "  - load_adapter: {name: x, adapter: second, in_place: true, same_path: true}\n",
        "  - unload_adapter: {name: x}\n  - load_adapter: {name: x, adapter: second, same_path: true}\n",
    ],
    ids=["in place", "unload and load"],
)
async def test_an_adapter_replaced_at_its_path_serves_old_blocks(driver: Driver, replaced: str) -> None:
    """The prefix cache knows an adapter by name and path: blocks of the old one are read for the new one."""
    recording = await driver.run_script(
        TWO_ADAPTERS + replaced + "  - probe: {name: x-is-second, adapter: x, same_as: second}\n"
    )
    assert unconfirmed(recording) == []
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE), result.reason
    outcome = {each.control: (each.asked, each.healed) for each in result.controls}
    assert outcome["fresh_salt"][0] == outcome["fresh_salt"][1] > 0
    assert outcome["base_model"][0] == outcome["base_model"][1] > 0


async def test_an_adapter_from_a_path_of_its_own_is_clean(driver: Driver) -> None:
    """Loaded from another path, the new adapter reads nothing of the old one."""
    result = judge(
        await driver.run_script(
            TWO_ADAPTERS
            + "  - load_adapter: {name: x, adapter: second, in_place: true}\n"
            + "  - probe: {name: x-is-second, adapter: x, same_as: second}\n"
        )
    )
    assert (result.verdict, result.cause) == (Verdict.CLEAN, None), result.reason


@pytest.mark.parametrize(
    ("reset", "verdict"), [("", Verdict.CORRUPT), ("  - reset_prefix_cache: {}\n", Verdict.CLEAN)]
)
async def test_other_weights_need_a_reset(driver: Driver, reset: str, verdict: Verdict) -> None:
    """Blocks computed by the old weights outlive an update; resetting the prefix cache is what helps."""
    recording = await driver.run_script(OTHER_WEIGHTS + reset + "  - probe: {name: p, same_as: other}\n")
    assert unconfirmed(recording) == []
    result = judge(recording)
    cause = Cause.STALE_PREFIX_CACHE if verdict is Verdict.CORRUPT else None
    assert (result.verdict, result.cause) == (verdict, cause), result.reason


async def test_controls_load_the_weights_that_ought_to_be_loaded(driver: Driver) -> None:
    """Where other weights are loaded, reloading as a control loads those again."""
    lost = "  - sleep: {level: 2}\n  - wake_up: {}\n"
    recording = await driver.run_script(OTHER_WEIGHTS + lost + "  - probe: {name: p, same_as: other}\n")
    reloads = [call for call in recording.calls if call.path == "/collective_rpc"]
    assert [call.parameters["kwargs"] for call in reloads[-2:]] == [reloads[0].parameters["kwargs"]] * 2
    assert Control.RELOAD_WEIGHTS in {each.start.control for each in recording.passes_of(Role.CONTROL)}


async def test_own_weights_are_reloaded_without_a_path_until_one_was_named(driver: Driver) -> None:
    """Without a path vLLM takes the last one it loaded from: after another, the model's own is named."""
    recording = await driver.run_script(
        "  - probe: own\n  - null_transition: {}\n  - reload_weights: {}\n  - probe: again\n"
        "  - reload_weights: {weights: missing, must_fail: true}\n  - reload_weights: {}\n"
        "  - probe: once-more\n"
    )
    named = ["kwargs" in call.parameters for call in recording.calls if call.path == "/collective_rpc"]
    assert named == [False, True, True]
    assert unconfirmed(recording) == []
    assert judge(recording).verdict is Verdict.CLEAN


async def test_success_contradicts_where_a_refusal_is_due(driver: Driver) -> None:
    """An engine that takes what it must refuse is not in the state it claims."""
    recording = await driver.run_script(
        "  - probe: base\n  - null_transition: {}\n  - reload_weights: {must_fail: true}\n  - probe: after\n"
    )
    assert unconfirmed(recording) == ["POST /collective_rpc succeeded, but should have been refused"]
    assert judge(recording).verdict is Verdict.DEGRADED


async def test_pausing_and_releasing_are_confirmed(driver: Driver) -> None:
    """Every state the engine goes through is the one it was brought into."""
    recording = await driver.run_script(
        """\
  - probe: base
  - null_transition: {}
  - release_kv_cache_memory: {must_fail: true}
  - pause: {mode: keep, clear_cache: false}
  - resume: {}
  - probe: resumed
  - pause: {}
  - release_kv_cache_memory: {}
  - wake_up: {tags: [kv_cache]}
  - probe: woken
  - sleep: {level: 1}
  - wake_up: {tags: [kv_cache]}
  - wake_up: {tags: [weights, scheduling]}
  - reset_prefix_cache: {running_requests: true, external: true}
  - reset_mm_cache: {}
  - reset_encoder_cache: {}
  - probe: reset
"""
    )
    assert unconfirmed(recording) == []
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CLEAN, None), result.reason


async def test_what_was_computed_without_weights_outlives_a_late_reload(driver: Driver) -> None:
    """The weights come back, and the blocks computed before stay in the cache (vllm#54235)."""
    recording = await driver.run_script(
        """\
  - probe: baseline
  - null_transition: {}
  - sleep: {level: 2}
  - wake_up: {}
  - probe: {name: without-weights, baseline: true, evidence: [warm]}
  - reload_weights: {}
  - probe: after-reload
"""
    )
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE), result.reason


async def test_a_wake_up_that_wakes_nothing_is_seen_at_once(driver: Driver) -> None:
    """The model of the engine says what must be awake, and nobody waits for answers that cannot come."""
    recording = await driver.run_script(
        """\
  - probe: baseline
  - null_transition: {}
  - sleep: {level: 1}
  - wake_up: {tags: [weights]}
  - wake_up: {tags: [weights, kv_cache]}
  - probe: after-wake
"""
    )
    said = "POST /wake_up answered 200 and woke nothing: /is_sleeping says true, expected false"
    assert unconfirmed(recording) == [said]
    assert list(recording.passes_of(Role.AFTER)) == []
    assert (recording.finished, recording.skipped) == (True, ("6",))
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SCHEDULER)
    assert result.reason == (
        f"wake up tags weights+kv_cache: {said}; 1 step left out: "
        "the engine rests although the script has woken it, so no answer would come"
    )


async def test_noise_is_known_whatever_adapters_were_loaded_since(driver: Driver) -> None:
    """A null transition speaks for the baseline it is like, also after another adapter was loaded."""
    recording = await driver.run_script(
        """\
  - probe: base
  - load_adapter: {name: x, adapter: first}
  - probe: {name: first, adapter: x, baseline: true, differs_from: [base]}
  - load_adapter: {name: y, adapter: second}
  - probe: {name: second, adapter: y, baseline: true, differs_from: [base, first]}
  - null_transition: {like: first}
  - sleep: {level: 1}
  - wake_up: {}
  - probe: {name: still-first, adapter: x, same_as: first}
"""
    )
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CLEAN, None), result.reason


async def test_a_client_that_leaves_changes_nothing(driver: Driver) -> None:
    """``null, cancel_requests, null``: what follows is noise, and says so in the history."""
    recording = await driver.run_script(
        """\
  - probe: baseline
  - null_transition: {}
  - start_requests: {name: r}
  - cancel_requests: {name: r}
  - null_transition: {}
  - probe: again
"""
    )
    assert [step.action for step in recording.steps if step.changes_engine] == []
    assert list(recording.passes_of(Role.AFTER)) == []
    result = judge(recording)
    assert (result.findings, result.verdict) == ((), Verdict.INCONCLUSIVE)
