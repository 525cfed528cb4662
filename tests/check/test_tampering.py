"""A clean run on disk that is turned corrupt by hand is no longer clean when it is judged again."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.check.result import RunResult, Verdict
from harness.errors import ExitCode
from harness.history.layout import HISTORY_FILE, RUN_FILE, cell_folder
from harness.runs.judging import judge_directory
from tests.check.stories import VOCABULARY, Story
from tests.check.strategies import clean_stories
from tests.trying import tries

CELL = "scenario/arm"

Line = dict[str, Any]  # one event as JSON, whatever fields it has


@tries(30)
@given(clean_stories(), st.data())
def test_one_token_changed_by_hand_is_not_clean(story: Story, data: st.DataObject) -> None:
    """Whichever token of whichever judged answer it is, and whatever it becomes."""

    def tamper(answer: Line) -> None:
        tokens = answer["token_ids"]
        position = data.draw(st.integers(0, len(tokens) - 1))
        tokens[position] = data.draw(
            st.integers(0, VOCABULARY - 1).filter(lambda token: token != tokens[position])
        )

    assert_noticed(story, data, tamper)


@tries(30)
@given(clean_stories(), st.data())
def test_one_logprob_changed_by_hand_is_not_clean(story: Story, data: st.DataObject) -> None:
    """Be it a chosen token's or a candidate's, by more than rounding, or no number any more."""

    def tamper(answer: Line) -> None:
        packed = data.draw(st.sampled_from(["chosen_base64", "top_values_base64"]))
        values = np.frombuffer(b64decode(answer["logprobs"][packed]), dtype="<f4").copy()
        position = data.draw(st.integers(0, len(values) - 1))
        shift = st.floats(2.0**-6, 16, width=32)  # rounding stays far below
        values[position] = data.draw(
            st.one_of(
                shift.map(lambda by: values[position] - by),
                shift.map(lambda by: values[position] + by),
                st.sampled_from([np.nan, -np.inf, np.inf]),
            )
        )
        answer["logprobs"][packed] = b64encode(values.tobytes()).decode()

    assert_noticed(story, data, tamper)


@tries(30)
@given(clean_stories(), st.data())
def test_one_finish_reason_changed_by_hand_is_not_clean(story: Story, data: st.DataObject) -> None:
    """Whichever reason takes its place, one no server gives included."""

    def tamper(answer: Line) -> None:
        reasons = ["stop", "length", "abort", "error", "tool_calls", None]
        reasons.remove(answer["finish_reason"])
        answer["finish_reason"] = data.draw(st.sampled_from(reasons))

    assert_noticed(story, data, tamper)


def assert_noticed(story: Story, data: st.DataObject, tamper: Callable[[Line], None]) -> None:
    """Store a story, judge it, let ``tamper`` edit one judged answer in its file, and judge it again."""
    with stored(story) as run:
        before = judge_directory(run).result
        assert (before.verdict, before.exit_code) == (Verdict.CLEAN, ExitCode.CLEAN)
        history = cell_folder(run, CELL) / HISTORY_FILE
        lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
        tamper(data.draw(st.sampled_from(list(judged_answers(lines)))))
        history.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        assert_not_clean(judge_directory(run).result)


def assert_not_clean(result: RunResult) -> None:
    """The engine stands accused, or in doubt where one odd answer is all there is; so says the exit code."""
    assert (result.verdict, result.exit_code) in {
        (Verdict.CORRUPT, ExitCode.CORRUPT_OR_DEGRADED),
        (Verdict.INCONCLUSIVE, ExitCode.INCONCLUSIVE),
    }


@contextmanager
def stored(story: Story) -> Iterator[Path]:
    """The run directory of a story, as it was before digests: with them no edit is judged."""
    with TemporaryDirectory() as name:
        run = Path(name)
        cell_folder(run, CELL).mkdir(parents=True)
        lines = "".join(event.model_dump_json() + "\n" for event in story.events)
        (cell_folder(run, CELL) / HISTORY_FILE).write_text(lines, encoding="utf-8")
        cells = {CELL: {"arm": "arm", "scenario": {"name": "scenario"}}}
        (run / RUN_FILE).write_text(json.dumps({"run": "run-1", "cells": cells}), encoding="utf-8")
        yield run


def judged_answers(lines: list[Line]) -> Iterator[Line]:
    """The answers of every pass after a transition."""
    judged = {line["number"] for line in lines if line["kind"] == "pass_started" and line["role"] == "after"}
    for line in lines:
        if line["kind"] == "answer" and line["pass_number"] in judged:
            yield line
