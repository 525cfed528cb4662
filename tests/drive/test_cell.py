"""A whole cell against the fake server: what is recorded, and what becomes of everything that goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.drive.cell import run_cell
from harness.errors import StorageError
from harness.history.events import Event
from harness.history.layout import HISTORY_FILE
from harness.history.passes import Answer, CacheCondition, Control, Role
from harness.history.recording import Recording, load_recording
from harness.servers.base import Activity
from tests.drive.conftest import Driver
from tests.fake_vllm.in_process import InProcessServer

ONE_SLEEP = "- probe: baseline\n- null_transition: {by: idle}\n- sleep: {}\n- wake_up: {}\n- probe: after"

pytestmark = pytest.mark.anyio


def order(recording: Recording) -> list[tuple[str, str]]:
    """Role and cache condition of every pass, in order."""
    return [(each.start.role.value, each.start.cache.value) for each in recording.passes]


async def test_a_healthy_cell_is_recorded_whole(driver: Driver) -> None:
    """Every pass of the script is there, in order, with an answer to every prompt it sent."""
    recording = await driver.ran()
    assert recording.finished
    assert recording.failure is None
    assert recording.server
    assert isinstance(recording.server.environment, dict)
    assert recording.server.environment["os"] == "a toy"
    assert order(recording) == [
        ("baseline", "warm"),
        ("baseline", "rehit"),
        ("baseline", "cold"),
        ("baseline", "cold"),
        ("null", "warm"),
        ("null", "cold"),
        *[("after", "warm"), ("after", "cold")] * 2,
    ]
    assert all(set(each.answers) == set(each.start.asked) for each in recording.passes)
    assert {answer.failure for each in recording.passes for answer in each.answers.values()} == {None}


async def test_a_healthy_cell_is_clean_on_both_arms(driver: Driver) -> None:
    """Nothing planted, nothing found."""
    result = judge(await driver.ran())
    assert (result.verdict, result.cause) == (Verdict.CLEAN, None), result.reason


async def test_cold_passes_never_read_the_cache_and_rehits_always_do(driver: Driver) -> None:
    """The conditions are real: the server's own count of cached tokens says so."""
    recording = await driver.ran()
    for each in recording.passes:
        cached = {answer.cached_tokens for answer in each.answers.values()}
        if each.start.cache is CacheCondition.COLD:
            assert cached == {0}
        if each.start.cache is CacheCondition.REHIT:
            assert None not in cached
            assert 0 not in cached


async def test_transitions_are_confirmed_by_observations(driver: Driver) -> None:
    """Around every transition the engine is looked at from outside, and what is seen fits."""
    recording = await driver.ran()
    states = [
        (recording.action_of_step[seen.step].action, seen.moment, seen.is_sleeping, seen.sleep_state)
        for seen in recording.observations
        if seen.step is not None and recording.action_of_step[seen.step].cycle == 1
    ]
    assert states[:4] == [
        ("sleep", "before", False, "awake"),
        ("sleep", "after", True, "weights_offloaded"),
        ("wake_up", "before", True, "weights_offloaded"),
        ("wake_up", "after", False, "awake"),
    ]
    assert all(end.unconfirmed == () for end in recording.step_ends.values())


async def test_the_founding_bug_is_caught_and_named(driver: Driver) -> None:
    """Kept block hashes over discarded KV: corrupt, stale prefix cache, decided by the controls."""
    result = judge(await driver.ran(fault="keep-prefix-cache"))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE), result.reason
    assert result.witness is not None


@pytest.mark.cell
async def test_unseen_prompts_are_asked_only_where_the_baseline_has_asked_them(driver: Driver) -> None:
    """The other controls decide without them."""
    recording = await driver.run(fault="keep-prefix-cache", more="evidence: [warm, cold]")
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE), result.reason
    asked = {each.start.control for each in recording.passes_of(Role.CONTROL)}
    assert asked == {Control.ASKED_AGAIN, Control.FRESH_SALT, Control.RESET_PREFIX_CACHE}


@pytest.mark.cell
async def test_the_founding_bug_cannot_show_without_prefix_caching(driver: Driver) -> None:
    """The same fault on the other arm changes nothing."""
    assert judge(await driver.run("off", fault="keep-prefix-cache")).verdict is Verdict.CLEAN


@pytest.mark.parametrize("arm", ["on", pytest.param("off", marks=pytest.mark.cell)])
async def test_lost_weights_are_told_apart(driver: Driver, arm: str) -> None:
    """Weights that do not come back hurt both arms, and no fresh salt heals them."""
    result = judge(await driver.ran(arm, fault="lose-weights"))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS), result.reason


@pytest.mark.cell
async def test_controls_are_asked_once_and_in_order(driver: Driver) -> None:
    """Gentle questions first: a reload of the weights would heal what the others must see."""
    recording = await driver.ran(fault="lose-weights")
    asked = [each.start.control for each in recording.passes_of(Role.CONTROL)]
    assert asked == [
        *(Control.ASKED_AGAIN, Control.FRESH_SALT, Control.UNSEEN_PROMPTS),
        *(Control.ASKED_AGAIN, Control.RESET_PREFIX_CACHE),
        *(Control.ASKED_AGAIN, Control.RELOAD_WEIGHTS),
    ]


@pytest.mark.cell
async def test_weights_that_compute_rightly_are_not_loaded_again(driver: Driver) -> None:
    """Where a fresh salt heals every answer there is nothing left that a reload could heal."""
    recording = await driver.ran(fault="keep-prefix-cache")
    asked = [each.start.control for each in recording.passes_of(Role.CONTROL)]
    assert asked == [
        *(Control.ASKED_AGAIN, Control.FRESH_SALT, Control.UNSEEN_PROMPTS),
        *(Control.ASKED_AGAIN, Control.RESET_PREFIX_CACHE),
    ]
    assert judge(recording).cause is Cause.STALE_PREFIX_CACHE


@pytest.mark.cell
async def test_level_two_without_a_reload_is_corrupt(driver: Driver) -> None:
    """Level 2 discards the weights: an engine that answers without them answers garbage."""
    result = judge(await driver.run(level=2))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS), result.reason


async def test_a_server_that_is_never_ready_meets_its_deadline(driver: Driver) -> None:
    """Waiting for a boot ends; nothing waits for ever."""
    failure = (await driver.run(misbehave="never-ready")).failure
    assert failure is not None
    assert failure.error == "ServerBootError"
    assert "60 s" in failure.cause


@pytest.mark.parametrize(
    ("misbehave", "doing"), [("die-in-probe:6", "was running"), ("die-asleep", "the engine was asleep")]
)
async def test_a_server_that_dies_later_is_infrastructure(driver: Driver, misbehave: str, doing: str) -> None:
    """Death during a probe or asleep stops the cell, says when it happened, and is no verdict."""
    recording = await driver.run(misbehave=misbehave)
    assert recording.failure is not None
    assert recording.failure.error == "ServerDiedError"
    assert doing in recording.failure.cause
    assert judge(recording).verdict is None


@pytest.mark.cell
async def test_requests_that_never_return_leave_the_baseline_undecided(driver: Driver) -> None:
    """Without a baseline nothing can be said: inconclusive, not clean."""
    result = judge(await driver.run(misbehave="hang", script=ONE_SLEEP))
    assert result.verdict is Verdict.INCONCLUSIVE


@pytest.mark.cell
async def test_requests_that_hang_only_after_waking_are_the_engines_fault(driver: Driver) -> None:
    """An engine that stands still is known long before the deadline, and asked once for something else."""
    recording = await driver.run(misbehave="hang-after-wake", script=ONE_SLEEP)
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER), result.reason
    passes = list(recording.passes_of(Role.AFTER))
    answers = [answer for each in passes for answer in each.answers.values()]
    assert {answer.failure.kind for answer in answers if answer.failure} == {"hang"}
    assert len(answers) == 4 * len(passes)
    assert max(answer.seconds for answer in answers) < 15, "the deadline is 60 s"
    assert [each.start.control for each in recording.passes_of(Role.CONTROL)] == [Control.CANARY]


@pytest.mark.cell
async def test_a_request_that_is_lost_when_alone_is_the_engines_fault(driver: Driver) -> None:
    """Although every prompt of every pass is answered; it is given up as soon as the engine stands still."""
    recording = await driver.run(misbehave="lose-short-after-wake", script=ONE_SLEEP)
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER), result.reason
    assert "asked for one token alone: the engine stood still" in result.reason
    (missing,) = recording.first_tokens_missing
    assert missing.seconds < 15, "the deadline is 60 s"


@pytest.mark.cell
async def test_requests_that_are_only_slow_after_waking_accuse_nobody(driver: Driver) -> None:
    """An engine that goes on is told which deadline it takes, and is asked again, which is no retry."""
    recording = await driver.run(misbehave="slow-after-wake:5000", script=ONE_SLEEP)
    result = judge(recording)
    assert result.verdict is Verdict.INCONCLUSIVE, result.reason
    assert "it went on, with" in result.reason
    assert "raise the deadline" in result.reason
    assert all(wait.generated_tokens for wait in recording.waits)
    controls = [each.start.control for each in recording.passes_of(Role.CONTROL)]
    assert controls == [Control.SAME_AGAIN, Control.CANARY]


@pytest.mark.cell
async def test_an_engine_whose_processes_are_at_work_is_not_said_to_hang(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one whose processes somebody stopped: that it counts nothing is not proof."""

    async def at_work(_: InProcessServer) -> Activity:
        return Activity(cpu_seconds=0.0, wants_cpu=True)

    monkeypatch.setattr(InProcessServer, "look_at_activity", at_work)
    result = judge(await driver.run(misbehave="hang-after-wake", script=ONE_SLEEP))
    assert result.verdict is Verdict.INCONCLUSIVE, result.reason
    assert "its processes used 0 s of processor time" in result.reason


@pytest.mark.cell
async def test_an_engine_whose_processes_cannot_be_seen_hangs_if_it_counts_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole deadline without a step, and neither the same request nor another moves anything."""

    async def unseen(_: InProcessServer) -> None:
        return None

    monkeypatch.setattr(InProcessServer, "look_at_activity", unseen)
    result = judge(await driver.run(misbehave="hang-after-wake", script=ONE_SLEEP))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER), result.reason


@pytest.mark.cell
async def test_a_sleep_that_does_nothing_is_contradicted(driver: Driver) -> None:
    """The call answers 200; the observations do not confirm it, so the cell is not clean."""
    recording = await driver.run(misbehave="sleep-does-nothing", script=ONE_SLEEP)
    assert any(
        "/is_sleeping says false" in words
        for end in recording.step_ends.values()
        for words in end.unconfirmed
    )
    assert judge(recording).verdict not in {Verdict.CLEAN, None}


async def test_a_full_disk_stops_the_cell_and_keeps_what_was_written(driver: Driver) -> None:
    """A history that cannot be written ends the run as an error of the machine; its beginning is readable."""
    job = driver.job(driver.cell())

    def fail(event: Event) -> None:
        if isinstance(event, Answer):
            raise StorageError("history.jsonl: cannot be written: No space left on device")

    with pytest.raises(StorageError):
        await run_cell(job, driver.runtime, watcher=fail)
    recording = load_recording(job.directory)
    assert recording.passes
    assert not recording.finished


async def test_where_answers_part_is_recorded_in_words(driver: Driver) -> None:
    """The tokens around the first difference can be read, both the baseline's and the damaged answer's."""
    recording = await driver.ran(fault="keep-prefix-cache")
    witness = judge(recording).witness
    assert witness is not None
    parting = witness.first_difference
    for side in (witness.baseline, witness.after):
        assert set(side.token_ids[parting : parting + 1]) <= set(recording.token_texts)


async def test_secrets_on_the_command_line_stay_out_of_the_history(driver: Driver) -> None:
    """What an arm's flags hide from the log they hide from the history as well."""
    job = driver.job(driver.cell(script="- probe: {name: baseline, evidence: [warm]}"))
    await run_cell(
        replace(job, extra_args=("--hf-token=not-for-you",)), driver.runtime, watcher=lambda _: None
    )

    assert "not-for-you" not in (job.directory / HISTORY_FILE).read_text(encoding="utf-8")


@pytest.mark.cell
async def test_flags_may_name_the_model_and_a_folder_that_goes_with_the_cell(driver: Driver) -> None:
    """An arm cannot know where they are; what the server left in the folder is gone when it is."""
    cell = driver.cell()
    arm = cell.arm.model_copy(
        update={"args": ('--speculative-config={"model":"$MODEL"}', "--spill=$SCRATCH")}
    )
    spec = driver.job(replace(cell, arm=arm)).spec
    job = driver.job(cell)
    assert spec.args == (f'--speculative-config={{"model":"{job.model.location}"}}', f"--spill={job.scratch}")
    job.scratch.mkdir(parents=True)
    (job.scratch / "block").touch()
    await driver.run()
    assert not job.scratch.exists()


READ_AGAIN = """\
- probe: {name: baseline, evidence: [warm]}
- null_transition: {evidence: [warm, cold]}
- sleep: {}
- wake_up: {}
- probe: {name: after, evidence: [warm]}
- probe: {name: read-again, evidence: [rehit]}"""


@pytest.mark.parametrize(
    ("fault", "verdict", "cause"),
    [
        (None, Verdict.CLEAN, None),
        ("damage-blocks-cached-after-wake", Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE),
        ("dead-prefix-cache", Verdict.DEGRADED, Cause.SCHEDULER),
    ],
)
@pytest.mark.cell
async def test_what_is_cached_after_waking_is_read_again(
    driver: Driver, fault: str | None, verdict: Verdict, cause: Cause | None
) -> None:
    """Damage to it, and a prefix cache that stays dead, show in a re-hit after the transition alone."""
    result = judge(await driver.run(fault=fault, script=READ_AGAIN))
    assert (result.verdict, result.cause) == (verdict, cause), result.reason


@pytest.mark.cell
async def test_an_engine_that_is_wrong_from_the_start_is_never_clean(driver: Driver) -> None:
    """Every re-hit is wrong in the same way before and after the sleep: sleep is not blamed."""
    result = judge(await driver.run(misbehave="wrong-rehits"))
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None), result.reason
    assert "differently when read from the prefix cache than when computed" in result.reason
