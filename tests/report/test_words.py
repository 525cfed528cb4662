"""The sentences every format shares."""

from __future__ import annotations

import pytest

from harness.check import judge_run
from harness.check.noise.budget import ErrorBudget, told
from harness.check.result import Cause, CellResult, Finding, Strength
from harness.history.passes import Role
from harness.report.model import assemble
from harness.report.page import report_html
from harness.report.plain import plain_lines
from harness.report.summary import summary_md
from harness.report.words import (
    comparison_sentence,
    false_alarms,
    finding_line,
    grouped,
    headline,
    lead,
    most_telling,
    noise_sentence,
    run_outcome,
    transition_words,
)
from tests.report import examples


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ((), "No cell was run."),
        (
            (examples.clean_cell(),),
            (
                "The cell is clean: the model that woke up is the model that fell asleep "
                "(affected prompts < 52.7% at 95%)."
            ),
        ),
        ((examples.corrupt_cell(),), "The cell is corrupt (stale prefix cache)."),
        (
            (examples.corrupt_cell().model_copy(update={"cause": Cause.UNKNOWN}),),
            "The cell is corrupt (cause unknown).",
        ),
        ((examples.failed_cell(),), "The cell has no verdict (infrastructure problems)."),
        (
            (examples.clean_cell(), examples.corrupt_cell(), examples.corrupt_cell(arm="other")),
            "2 of 3 cells are corrupt (stale prefix cache); 1 is clean.",
        ),
        (
            (examples.inconclusive_cell(), examples.clean_cell()),
            "1 of 2 cells is inconclusive; 1 is clean.",
        ),
    ],
)
def test_headline_tells_the_worst_first(cells: tuple[CellResult, ...], sentence: str) -> None:
    """The headline counts outcomes, worst first, and never rounds up to clean."""
    assert headline(assemble(examples.result_of(*cells), {})) == sentence


def test_lead_is_the_worst_reason_or_what_could_still_hide() -> None:
    """A broken run is led by its worst cell; a clean one by the weakest of its bounds."""
    assert lead(examples.mixed_report()).startswith("prefix-cache-level1 / prefix-cache-on: 2 of 4 prompts")
    assert lead(examples.clean_report()).startswith("What could still be hidden: fewer than 52.7% of prompts")
    assert lead(assemble(examples.result_of(), {})) == ""


def test_the_headline_tells_the_strictest_bound_of_each_kind() -> None:
    """A cell that asks four prompts, for another reason, does not hide what forty have shown."""
    four = examples.clean_cell("first-look", arm="default")
    assert four.bound
    forty = four.bound.model_copy(update={"affected_prompts_below": 0.072, "statement": "prompts < 7.2%"})
    noisy = forty.model_copy(update={"smallest_single_shift": 1.0, "statement": "none off by 1 nat"})
    cells = (
        four,
        examples.clean_cell(arm="on").model_copy(update={"bound": forty}),
        examples.clean_cell(arm="bf16").model_copy(update={"bound": noisy}),
    )
    assert lead(assemble(examples.result_of(*cells), {})) == (
        "What could still be hidden: prompts < 7.2%, in prefix-cache-level1 / on; "
        "none off by 1 nat, in prefix-cache-level1 / bf16."
    )


def test_the_example_of_a_clean_run_is_the_cell_that_compared_most() -> None:
    """A broken cell goes before; among clean ones, what forty prompts have shown is shown."""
    four = examples.clean_cell("first-look", arm="default")
    assert four.bound
    forty = examples.clean_cell(arm="on").model_copy(
        update={"bound": four.bound.model_copy(update={"affected_prompts_below": 0.072})}
    )
    clean = assemble(examples.result_of(four, forty), {}).cells
    assert most_telling(clean).result.arm == "on"
    broken = assemble(examples.result_of(examples.corrupt_cell(), forty), {}).cells
    assert most_telling(broken).outcome == "corrupt"


def test_every_format_tells_the_error_rate() -> None:
    """What chance may do to a verdict stands beside it."""
    rate = told(ErrorBudget(cells=15))
    result = examples.result_of(examples.clean_cell()).model_copy(update={"false_alarms": rate})
    report = assemble(result, {})
    assert false_alarms(report) == rate.statement
    for shown in ("\n".join(plain_lines(report)), report_html(report), summary_md(report)):
        assert "a probability of at most 1%" in shown
    assert false_alarms(examples.clean_report()) == ""


def test_comparison_names_prompts_transitions_and_conditions() -> None:
    """What was compared with what is read off the recording, held-out prompts not counted."""
    assert comparison_sentence(examples.recording()) == (
        "4 prompts answered before and after sleep (level 1), wake_up, over 2 cycles; "
        "token for token, warm with warm, cold with cold."
    )


def test_comparison_of_a_cell_that_never_started() -> None:
    """Without an answer there is nothing that was compared, and the sentence says so."""
    assert comparison_sentence(examples.failed_recording()).startswith("Nothing was compared")


def test_comparison_of_a_cell_cut_off_before_the_first_judged_answer() -> None:
    """A recording that ends after the baseline does not pretend to a comparison."""
    whole = examples.recording()
    baseline_only = type(whole)(
        cell=whole.cell, prompts=whole.prompts, passes=tuple(whole.passes_of(Role.BASELINE))
    )
    assert "ends before any answer could be compared" in comparison_sentence(baseline_only)


def test_transitions_are_those_of_one_cycle() -> None:
    """Probes and null transitions are no transitions, and cycles are not repeated."""
    assert transition_words(examples.recording("prefix-cache-level2")) == "sleep (level 2), wake_up"


def test_finding_says_where_only_when_its_message_does_not() -> None:
    """Prompt and cycle are added to a message that leaves them out."""
    finding = Finding(
        checker="divergence", message="another token", strength=Strength.HINT, prompt="india", cycle=2
    )
    assert finding_line(finding) == "divergence (hint): another token [prompt india, cycle 2]"
    said = finding.model_copy(update={"message": "india, cycle 2: another token"})
    assert finding_line(said) == "divergence (hint): india, cycle 2: another token"


def test_noise_that_was_not_measured_is_not_zero() -> None:
    """A missing noise floor is called missing."""
    assert noise_sentence(None) == "not measured"


def test_findings_are_grouped_by_checker_proofs_first() -> None:
    """Whoever reads the first group reads what proves the most; nothing is lost."""
    hint, proof = examples.corrupt_cell().findings
    groups = grouped([hint, proof, hint])
    assert [(group.strength, group.checker) for group in groups] == [
        (Strength.PROOF, "divergence"),
        (Strength.HINT, "repetition"),
    ]
    assert [len(group.findings) for group in groups] == [1, 2]


def test_a_run_is_never_called_clean_where_a_cell_has_no_verdict() -> None:
    """Two cells that did not boot come first, and whose fault it was is said; the clean one comes last."""
    clean, failed = examples.clean_cell(), examples.failed_cell()
    refused = failed.model_copy(update={"error": "FlagsRefusedError"})
    report = assemble(judge_run([clean, refused, refused], run="r"), {})
    assert run_outcome(report) == "error"
    assert headline(report) == "2 of 3 cells have no verdict (flags that vLLM refuses); 1 is clean."
