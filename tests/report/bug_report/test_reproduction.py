"""What it takes to see a damaged cell again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.check.result import Cause, Finding, Strength
from harness.history.events import ServerReady
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from harness.history.recording import Recording
from harness.history.run_description import Deadlines, DescribedCell, DescribedScenario, Sampling
from harness.report.bug_report.reproduction import Invocation, invocation, obstacle, reproduction
from harness.report.model import CellReport
from tests.report import examples

FLAGS = "--host 127.0.0.1 --port 4711 --enable-sleep-mode --block-size 32 --no-enable-prefix-caching"

IN_DOCKER = "docker run --rm --shm-size 4g --env A=1 --env HF_TOKEN image:v1"
DEFAULT = "SmolLM2-135M-Instruct"


def served_by(command: str, **changes: object) -> Recording:
    """A recording whose server was started by ``command``."""
    server = ServerReady(t=1, runtime="process", command=command, vllm_version="0.32.0", boot_seconds=1)
    return replace(examples.recording(stuck=("india",)), server=server.model_copy(update=changes))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            f"A=1 HF_HUB_OFFLINE=1 python -m api_server --model org/model --served-model-name m {FLAGS}",
            ("org/model", {"A": "1"}),
        ),
        (
            f"{IN_DOCKER} serve /models/SmolLM2-135M-Instruct --served-model-name {DEFAULT} {FLAGS}",
            ("HuggingFaceTB/SmolLM2-135M-Instruct", {"A": "1", "HF_TOKEN": ""}),
        ),
        (f"python -m api_server --model /mine/private --served-model-name private {FLAGS}", (None, {})),
    ],
)
def test_flags_and_variables_are_those_of_the_server(
    command: str, expected: tuple[str | None, dict[str, str]]
) -> None:
    """Model, environment and flags as they were, without address, served name and what one machine needs."""
    model, env = expected
    args = ("--enable-sleep-mode", "--block-size", "32", "--no-enable-prefix-caching")
    assert invocation(served_by(command)) == Invocation(model=model, env=env, args=args)


def test_an_attached_server_is_described_by_what_it_told() -> None:
    """Nobody knows how it was started; its own configuration stands in."""
    configuration = {
        "model_config": {"dtype": "torch.bfloat16", "max_model_len": 512, "enforce_eager": True},
        "cache_config": {"block_size": 16, "enable_prefix_caching": False},
    }
    told = invocation(served_by("", runtime="attached", configuration=configuration))
    assert told.model is None
    assert " ".join(told.args) == (
        "--enable-sleep-mode --dtype bfloat16 --max-model-len 512 --enforce-eager --block-size 16 "
        "--no-enable-prefix-caching"
    )


def test_transitions_are_those_up_to_the_damaged_answer() -> None:
    """Sleep and wake-up of the witness's cycle, with their parameters; later cycles are left out."""
    cell = CellReport(result=examples.corrupt_cell(), recording=examples.recording(stuck=("india", "rivers")))
    scenario = DescribedScenario(sampling=Sampling(seed=7), deadlines=Deadlines(answer=12.5))
    found = reproduction(cell, DescribedCell(scenario=scenario))
    assert found
    assert found.prompt == "rivers"
    assert found.prompt_token_ids == examples.PROMPTS[1].token_ids
    assert [[(call.path, call.query) for call in cycle] for cycle in found.cycles] == [
        [("/sleep", {"level": "1"}), ("/wake_up", {})]
    ]
    assert (found.seed, found.answer_deadline_s, found.logprob_tolerance) == (7, 12.5, None)


def test_where_only_probabilities_moved_these_decide() -> None:
    """Tokens that stayed the same say nothing: half of the shift that was seen is the limit."""
    recorded, result = examples.recording(), examples.corrupt_cell()
    assert result.witness
    name, (first, *_, last) = result.witness.prompt, recorded.passes
    before, after = first.answers[name], last.answers[name]
    shifted = after.model_copy(update={"token_ids": before.token_ids, "logprobs": moved(before, by=0.5)})
    damaged = replace(last, answers={**last.answers, name: shifted})
    sides = [
        side.model_copy(update={"token_ids": before.token_ids, "pass_number": each.number})
        for side, each in ((result.witness.baseline, first), (result.witness.after, damaged))
    ]
    witness = result.witness.model_copy(update={"baseline": sides[0], "after": sides[1]})
    cell = CellReport(
        result=result.model_copy(update={"witness": witness}),
        recording=replace(recorded, passes=(*recorded.passes[:-1], damaged)),
    )
    found = reproduction(cell, DescribedCell())
    assert found
    assert found.logprob_tolerance == pytest.approx(0.25)


def moved(answer: Answer, *, by: float) -> Logprobs:
    """The log-probabilities of an answer, every one lower."""
    logprobs = answer.logprobs
    assert logprobs
    return Logprobs.pack(
        chosen=logprobs.chosen - np.float32(by), top_ids=logprobs.top_ids, top_values=logprobs.top_values
    )


def test_without_a_witness_all_cycles_are_repeated() -> None:
    """A degraded cell may have no damaged answer: every transition is carried out."""
    result = examples.degraded_cell().model_copy(update={"witness": None, "cause": Cause.MEMORY})
    found = reproduction(CellReport(result=result, recording=examples.recording()), DescribedCell())
    assert found
    assert len(found.cycles) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"adapter": "x"}, "the answer is that of adapter x"),
        ({"reference": "other-weights"}, "given by weights other"),
    ],
)
def test_what_one_prompt_asked_twice_cannot_show_has_no_reproduction(
    changes: dict[str, str], why: str
) -> None:
    """A script that asked the base model, or compared with the wrong weights, would end with MATCH."""
    recorded, result = examples.recording(stuck=("india", "rivers")), examples.corrupt_cell()
    assert result.witness
    number = result.witness.after.pass_number
    passes = tuple(
        replace(each, start=each.start.model_copy(update=changes)) if each.number == number else each
        for each in recorded.passes
    )
    cell = CellReport(result=result, recording=replace(recorded, passes=passes))
    assert reproduction(cell, DescribedCell()) is None
    assert why in (obstacle(cell) or "")


def test_a_cell_that_never_answered_has_no_reproduction() -> None:
    """There is nothing to compare answers with."""
    cell = CellReport(result=examples.failed_cell(), recording=examples.failed_recording())
    assert reproduction(cell, DescribedCell()) is None
    assert obstacle(cell) == "no prompt was ever answered"


def test_a_script_with_one_prompt_is_not_written_for_requests_of_other_kinds() -> None:
    """It would end with MATCH on an engine that has lost its stop strings."""
    found = Finding(
        checker="kinds",
        message="stop-strings (after-wake): the stop string 'in' stands in the answer",
        strength=Strength.PROOF,
        evidence={"kind": "stop-strings"},
    )
    result = examples.corrupt_cell().model_copy(update={"findings": (found,), "witness": None})
    cell = CellReport(result=result, recording=examples.recording(stuck=()))
    assert "stop-strings" in (obstacle(cell) or "")
    assert reproduction(cell, DescribedCell()) is None


def test_calls_that_overlap_have_no_script_that_makes_one_after_the_other() -> None:
    """It would end with MATCH on an engine in which they race."""
    recorded = examples.recording(stuck=("india", "rivers"))
    steps = tuple(
        step.model_copy(update={"action": "concurrently"}) if step.action == "sleep" else step
        for step in recorded.steps
    )
    cell = CellReport(result=examples.corrupt_cell(), recording=replace(recorded, steps=steps))
    assert reproduction(cell, DescribedCell()) is None
    assert "calls that overlap" in (obstacle(cell) or "")
