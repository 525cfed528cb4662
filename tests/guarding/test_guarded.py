"""What a guard says of an engine that slept, by way of a scripted one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import JsonValue

from harness.check.result import Cause, Verdict
from harness.errors import UsageError
from harness.guarding import run_directory
from harness.guarding.guarded import Guarded
from harness.guarding.messages import Begin, Facts, NoticedCall, Told
from harness.runs.judging import judge_directory
from sleepwake._guarded_llm import GuardedLLM
from sleepwake._noticing import Noticing
from tests.public.scripted_llm import ScriptedLLM

pytestmark = pytest.mark.anyio


class Held:
    """A guarded engine, both sides in one process."""

    def __init__(self, llm: ScriptedLLM, out: Path, **settings: JsonValue) -> None:
        self.llm = llm
        self._noticing = Noticing(llm)
        engine = GuardedLLM(llm)
        facts = Facts.model_validate(engine.facts())
        asked = {"prompts": None, "max_tokens": 16, "budget_tokens": 512, **settings}
        self._holder = _Holder(engine)
        self.guarded = Guarded(Begin.model_validate({"facts": facts, "out": out, **asked}), self._holder)

    def expect(self, reference: ScriptedLLM | None) -> None:
        """New weights are on their way."""
        other = None if reference is None else GuardedLLM(reference)
        if other is not None:
            self._holder.engines["reference"] = other
        self.guarded.expect_new_weights(None if other is None else Facts.model_validate(other.facts()))

    def check(self) -> Told:
        """One check."""
        calls = [NoticedCall.model_validate(call) for call in self._noticing.take()]
        return self.guarded.check(calls)


class _Holder:
    def __init__(self, engine: GuardedLLM) -> None:
        self.engines = {"guarded": engine}

    def ask(self, question: Mapping[str, object]) -> dict[str, JsonValue]:
        """As the process that holds the engines."""
        return self.engines[str(question["of"])].answer(question)


async def test_a_sound_engine_is_clean_however_it_slept(tmp_path: Path) -> None:
    """Level 1, and level 2 with a reload, one after the other and after nothing that was noticed."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.sleep(level=1)
    held.llm.wake_up()
    assert held.check().verdict == Verdict.CLEAN
    held.llm.sleep(level=2)
    held.llm.wake_up(["weights"])
    held.llm.collective_rpc("reload_weights")
    held.llm.wake_up(["kv_cache"])
    assert held.check().verdict == Verdict.CLEAN
    told = held.check()
    assert (told.verdict, told.cause, told.witness) == (Verdict.CLEAN, None, None)
    assert "affected prompts <" in told.reason


async def test_lost_weights_are_named(tmp_path: Path) -> None:
    """Level 2 without a reload: what was noticed decides the cause, and the witness shows it."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.sleep(level=2)
    held.llm.wake_up()
    told = held.check()
    assert (told.verdict, told.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS)
    assert "answers to 8 of 8 prompts changed (sleep level 2, wake up)" in told.reason
    assert told.witness is not None
    assert told.witness.before != told.witness.after


async def test_weights_that_did_not_arrive_are_called_by_their_names(tmp_path: Path) -> None:
    """Nothing that was noticed tells of them; the checksums do, which a clean check does not ask for."""
    held = Held(ScriptedLLM(), tmp_path)
    assert held.check().verdict == Verdict.CLEAN
    assert held.llm.checksums_read == 1
    held.llm.weights = "incomplete"
    told = held.check()
    assert (told.verdict, told.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS)
    assert "the checksums of 1 parameter changed (dp0:tp0:first)" in told.reason
    assert held.llm.checksums_read == 2


async def test_weights_are_compared_with_those_of_a_reference(tmp_path: Path) -> None:
    """The checksums of an update that did not arrive whole are not those of the engine that has it."""
    held, reference = Held(ScriptedLLM(), tmp_path), ScriptedLLM(weights="new")
    held.expect(reference)
    held.llm.weights = "half of the new ones"
    held.llm.reset_prefix_cache()
    assert held.check().cause == Cause.LOST_WEIGHTS
    assert (held.llm.checksums_read, reference.checksums_read) == (2, 1)


async def test_parameters_of_other_names_are_not_compared(tmp_path: Path) -> None:
    """An engine that is built otherwise has other parameters, which says nothing about damage."""
    held, reference = Held(ScriptedLLM(), tmp_path), ScriptedLLM(weights="new")
    reference.checksums = lambda: {"another": "tensor"}  # type: ignore[method-assign]  # of this one
    held.expect(reference)
    assert held.check().cause == Cause.UNKNOWN


@pytest.mark.parametrize("wanted", [True, False])
async def test_checksums_are_no_condition(
    tmp_path: Path, *, wanted: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """An engine that cannot tell them is guarded all the same, and so is one that is not to be asked."""
    held = Held(ScriptedLLM(tells_checksums=False), tmp_path, checksums=wanted)
    assert [str(each.message)[:27] for each in recwarn] == ["no checksums of the weights"] * wanted
    held.llm.weights = "incomplete"
    assert (held.check().cause, held.llm.checksums_read) == (Cause.UNKNOWN, wanted)


async def test_a_stale_prefix_cache_is_named_each_time(tmp_path: Path) -> None:
    """The founding bug: what was cached before a sleep is asked for after it, and after the next as well."""
    held = Held(ScriptedLLM(keeps_prefix_cache=True), tmp_path)
    for _ in range(3):
        held.llm.sleep()
        held.llm.wake_up()
        told = held.check()
        assert (told.verdict, told.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)


async def test_an_engine_that_was_healed_is_clean_again(tmp_path: Path) -> None:
    """What the guard had cached while the weights were lost accuses nobody later."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.sleep(level=2)
    held.llm.wake_up()
    assert held.check().verdict == Verdict.CORRUPT
    held.llm.collective_rpc("reload_weights")
    assert held.check().verdict == Verdict.CLEAN
    held.llm.keeps_prefix_cache = True
    held.llm.sleep()
    held.llm.wake_up()
    assert held.check().verdict == Verdict.CORRUPT


async def test_damage_past_the_methods_is_seen_all_the_same(tmp_path: Path) -> None:
    """Trainers load weights through the engine's inside, where nothing is noticed."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.weights = "of somebody else"
    told = held.check()
    assert told.verdict == Verdict.CORRUPT
    assert "(unnoticed change)" in told.reason


async def test_a_single_odd_answer_is_asked_for_again(tmp_path: Path) -> None:
    """It comes once and never again: no verdict rests on it."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.sleep()
    held.llm.wake_up()
    held.llm.mistakes = 1
    told = held.check()
    assert told.verdict == Verdict.INCONCLUSIVE
    assert "a single answer of 16 is not the baseline's" in told.reason
    assert "it was right when it was asked again" in told.reason


async def test_an_engine_whose_answers_differ_by_themselves(tmp_path: Path) -> None:
    """It is asked more, and damage shows all the same; after many checks there are prompts enough."""
    held = Held(ScriptedLLM(jitter=0.05, dtype="torch.bfloat16"), tmp_path)
    held.guarded._checks = 900
    held.llm.sleep()
    held.llm.wake_up()
    assert held.check().verdict == Verdict.CLEAN
    held.llm.weights = "lost"
    assert held.check().verdict == Verdict.CORRUPT


async def test_new_weights_are_held_against_a_reference(tmp_path: Path) -> None:
    """Such as an engine that was built with them; weights that did not arrive are noticed."""
    held = Held(ScriptedLLM(), tmp_path)
    held.expect(ScriptedLLM(weights="new"))
    assert held.check().verdict == Verdict.CORRUPT
    held.llm.weights = "new"
    held.llm.reset_prefix_cache()
    assert [held.check().verdict, held.check().verdict] == [Verdict.CLEAN, Verdict.CLEAN]


async def test_what_outlives_the_old_weights_is_found(tmp_path: Path) -> None:
    """Blocks that they computed and that are still served, with a reference and without one."""
    for reference in (ScriptedLLM(weights="new"), None):
        held = Held(ScriptedLLM(), tmp_path)
        held.expect(reference)
        held.llm.weights = "new"
        told = held.check()
        assert (told.verdict, told.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)
        assert held.check().verdict == Verdict.CLEAN


async def test_without_a_reference_new_weights_are_not_called_clean(tmp_path: Path) -> None:
    """A new baseline is no comparison; what comes after it is compared with it."""
    held = Held(ScriptedLLM(), tmp_path)
    held.expect(None)
    held.llm.sleep(level=2)
    held.llm.wake_up()
    held.llm.weights = "new"
    told = held.check()
    assert (told.verdict, told.cause) == (Verdict.INCONCLUSIVE, None)
    assert "a new baseline was taken and not compared" in told.reason
    stored = judge_directory(Path(held.guarded.directory))
    assert stored.result.cells[0].reason == told.reason
    assert held.check().verdict == Verdict.CLEAN
    held.llm.weights = "own"
    assert held.check().verdict == Verdict.CORRUPT


@pytest.mark.cell
async def test_damage_is_found_at_its_step_of_a_long_loop(tmp_path: Path) -> None:
    """Two hundred steps with three faults: each is noticed at once, and no other step is accused."""
    held = Held(ScriptedLLM(), tmp_path)
    accused = {}
    for step in range(1, 201):
        held.llm.keeps_prefix_cache = step == 101
        held.llm.sleep()
        held.llm.wake_up()
        held.llm.weights = "lost" if step in {37, 160} else "own"
        told = held.check()
        if told.verdict != Verdict.CLEAN:
            accused[step] = told.verdict
    assert accused == dict.fromkeys((37, 101, 160), Verdict.CORRUPT)


async def test_nobody_elses_requests_read_what_is_cached(tmp_path: Path) -> None:
    """Every question carries a salt of the guard's own."""
    held = Held(ScriptedLLM(), tmp_path)
    held.check()
    salts = {prompt["cache_salt"] for batch in held.llm.asked for prompt in batch}
    assert all(salt.startswith("sleepwake-") for salt in salts)


async def test_every_batch_has_the_same_shape(tmp_path: Path) -> None:
    """A control about one answer is asked in the company of all others: batches round alike."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.mistakes = 1
    held.check()
    assert {len(batch) for batch in held.llm.asked} == {8}


async def test_the_tokens_that_a_check_takes_are_told(tmp_path: Path) -> None:
    """Two passes of eight prompts, or one where the budget allows no more."""
    assert Held(ScriptedLLM(), tmp_path).check().tokens == 2 * 8 * 16
    assert Held(ScriptedLLM(), tmp_path, budget_tokens=200).check().tokens == 8 * 16


async def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Before anything is asked, with what would fit."""
    with pytest.raises(UsageError, match="allow 128"):
        Held(ScriptedLLM(), tmp_path, budget_tokens=100)
    with pytest.raises(UsageError, match="the engine has room for 4096"):
        Held(ScriptedLLM(), tmp_path, prompts=[list(range(4090))])
    with pytest.raises(UsageError, match="no prompts"):
        Held(ScriptedLLM(), tmp_path, prompts=[])


async def test_own_prompts_may_be_texts_or_tokens(tmp_path: Path) -> None:
    """As a program has them."""
    held = Held(ScriptedLLM(), tmp_path, prompts=["some words", [1, 2, 3]])
    assert [len(prompt["prompt_token_ids"]) for prompt in held.llm.asked[0]] == [2, 3]


async def test_a_stored_check_is_judged_again_as_it_was(tmp_path: Path) -> None:
    """With the error rate of its place in the sequence; the run is as bad as its worst check."""
    held = Held(ScriptedLLM(), tmp_path)
    first = held.check()
    held.llm.weights = "lost"
    second = held.check()
    judged = judge_directory(Path(held.guarded.directory))
    assert [cell.reason for cell in judged.result.cells] == [first.reason, second.reason]
    assert judged.result.verdict is Verdict.CORRUPT
    assert [cell.one_of for cell in judged.description.cells.values()] == [2, 6]
    assert judged.result.false_alarms is not None
    assert judged.result.false_alarms.cells == 2


async def test_a_history_says_what_was_called(tmp_path: Path) -> None:
    """Calls of methods, under the path of the endpoint that does the same; none has a status."""
    held = Held(ScriptedLLM(), tmp_path)
    held.llm.sleep(level=1)
    held.llm.wake_up(tags=["weights", "kv_cache"])
    held.llm.reset_prefix_cache()
    told = held.check()
    recording = judge_directory(told.directory.parents[1]).recordings[told.directory.name]
    assert [(call.method, call.path, call.status, call.body) for call in recording.calls] == [
        ("ScriptedLLM.sleep", "/sleep", None, None),
        ("ScriptedLLM.wake_up", "/wake_up", None, True),
        ("ScriptedLLM.reset_prefix_cache", "/reset_prefix_cache", None, {"success": True}),
    ]
    assert recording.server is not None
    assert (recording.server.runtime, recording.cell.arm) == ("guarded", "ScriptedLLM")


async def test_of_many_clean_checks_the_last_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard may check for months; what was not clean stays."""
    monkeypatch.setattr(run_directory, "KEPT", 2)
    held = Held(ScriptedLLM(keeps_prefix_cache=True), tmp_path)
    held.llm.sleep()
    held.llm.wake_up()
    assert held.check().verdict == Verdict.CORRUPT
    held.llm.reset_prefix_cache()
    last = [held.check() for _ in range(5)][-1]
    kept = ["guard-check-000001", "guard-check-000005", "guard-check-000006"]
    assert sorted(path.name for path in last.directory.parent.iterdir()) == kept
    assert sorted(judge_directory(Path(held.guarded.directory)).recordings) == kept
