"""Texts that would be more than texts, in what is run: scripts, commands and CI jobs that sleepwake writes.

What is written is run for real by a shell, with stand-ins for the programs that it calls, which note the
words they are called with.  These must be the texts, letter by letter, and what the texts would have a shell
do must not have happened.  How reports show such texts is held by tests/report/test_hostile.py.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from harness.check.result import CellResult
from harness.errors import UsageError
from harness.history.run_description import AskedOptions, DescribedCell, DescribedScenario, RunDescription
from harness.init.ci_job import ci_job
from harness.init.wanted import Wanted
from harness.report.bug_report.reproduction import Invocation, Reproduction
from harness.report.bug_report.scripts import repro_sh
from harness.report.model import reproduce_command
from tests.report.examples import hostile_report
from tests.torture.part import Budget, Outcome

CANARY = "harm"
"""A file that appears if a shell took a text for a command."""

TEXTS = (
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"'; touch {CANARY}; '",
    f'"; touch {CANARY}; "',
    f"a\ntouch {CANARY}\n",
    f"a\r\ntouch {CANARY}",
    f"a; touch {CANARY} #",
    f"a|touch {CANARY}",
    f"a&touch {CANARY}&",
    f"a;touch${{IFS}}{CANARY}",
    f"}}; touch {CANARY}; {{",
    f"\\'; touch {CANARY}; \\'",
    f"'''; touch {CANARY}; '''",
    f"EOF\ntouch {CANARY}",
    "${{ github.token }}",
    "a: b # c",
    "- a",
    "--help",
    "-x",
    "$HOME",
    "~",
    "*",
    "!!",
    "\\",
    "\\n",
    "%0A::error::x",
    "a b\tc",
    "\u202eabc",
    "गंगा",
    "'",
    '"',
    "@MODEL@",
    "{model}",
)

STAND_IN = f"""\
#!{sys.executable}
import json, os, sys
with open(os.environ["NOTED"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:], os.environ.get("GIVEN")]) + "\\n")
"""
"""Notes its words, and one variable of its environment."""

PYTHON = """\
#!/bin/sh
# The server is healthy once it has been called; repro.py finds that all is well.
[ "$1" != -c ] || [ -s "$NOTED" ]
"""

Place = Callable[[str, Path], Iterator[str]]
"""Puts a text somewhere in a folder, has it run, and yields what was wrong."""


def torture(budget: Budget) -> Outcome:
    """Each text in each place, in an order that is drawn."""
    trials = [(place, text) for place in PLACES for text in TEXTS]
    random.Random(budget.seed).shuffle(trials)  # noqa: S311 - no secret
    bad: list[str] = []
    began, tried = time.monotonic(), 0
    for place, text in trials[: budget.trials]:
        if time.monotonic() - began > budget.seconds:
            break
        folder = budget.folder / str(tried)
        folder.mkdir()
        tried += 1
        bad += (f"{place.__name__}: {text!r}: {each}" for each in wrong(place, text, folder))
    return Outcome(tried=tried, bad=tuple(bad), told=f"{len(TEXTS)} texts in {len(PLACES)} places")


def wrong(place: Place, text: str, folder: Path) -> Iterator[str]:
    """What was wrong with one text in one place."""
    for name in ("sleepwake", "serve"):
        _write_program(folder / name, STAND_IN)
    yield from place(text, folder)
    if (folder / CANARY).exists():
        yield "a shell did what the text says"


def script_of_a_bug_report(text: str, folder: Path) -> Iterator[str]:
    """``repro.sh``: the model, a flag's value, a variable and the prompt are the text."""
    _write_program(folder / "python", PYTHON)
    server = Invocation(model=text, env={"GIVEN": text}, args=("--served-model-name", text))
    (folder / "repro.sh").write_text(repro_sh(replace(_REPRODUCTION, prompt_text=text, server=server)))
    outside = {"SERVE": str(folder / "serve"), "PYTHON": str(folder / "python"), "PORT": "1"}
    noted, said = _run(["bash", "repro.sh"], folder, outside)
    words = ["serve", text, "--host", "127.0.0.1", "--port", "1", "--served-model-name", text, text]
    yield from _unless(noted == [words], f"{noted} ({said})")


def command_of_a_report(text: str, folder: Path) -> Iterator[str]:
    """The line that runs a cell again: scenario, arm, model and a flag of vLLM are the text."""
    cell = _CELL.model_copy(update={"cell": f"a.{text}", "arm": text})
    scenario = DescribedScenario.model_validate({**_SCENARIO, "arms": {text: {}}})
    described = DescribedCell(scenario=scenario, scenario_file=text, arm=text)
    run = _RUN.model_copy(
        update={
            "cells": {cell.cell: described},
            "extra_args": (text,),
            "options": AskedOptions(model=text),
            "runtime": None,
        }
    )
    noted, said = _run(["bash", "-c", reproduce_command(cell, run)], folder)
    wanted = {text, f"--vllm-arg={text}"}
    (words,) = noted or [[]]
    yield from _unless(wanted <= set(words) and words.count(text) == 3, f"{noted} ({said})")


def job_on_github(text: str, folder: Path) -> Iterator[str]:
    """What ``init`` writes for GitHub, which fills in ``${{ }}`` before any shell reads it."""
    yield from _job("github", text, folder, script=_step_of_github)


def job_on_gitlab(text: str, folder: Path) -> Iterator[str]:
    """The same for GitLab."""
    yield from _job("gitlab", text, folder, script=_step_of_gitlab)


def job_on_jenkins(text: str, folder: Path) -> Iterator[str]:
    """The same for Jenkins, whose ``'''`` takes a backslash for its own."""
    yield from _job("jenkins", text, folder, script=_step_of_jenkins)


PLACES: Sequence[Place] = (
    script_of_a_bug_report,
    command_of_a_report,
    job_on_github,
    job_on_gitlab,
    job_on_jenkins,
)


def _job(ci: str, text: str, folder: Path, *, script: Callable[[str], str]) -> Iterator[str]:
    """The job's own command, with the text as its model; a text that is refused in words is right, too."""
    try:
        asked = Wanted.of(
            endpoint=None,
            image="vllm/vllm-openai:v0.11.0",
            llm=False,
            model=text,
            level=1,
            ci=ci,  # type: ignore[arg-type]  # one of its names
            presets=(),
            prompts=None,
        )
    except UsageError:
        return
    written = ci_job(asked, scenarios=Path("tests/sleep"), version="1")
    assert written is not None
    step = script(written[1])
    if "${{" in step:
        yield "the hub would fill in an expression"
    noted, said = _run(["bash", "-c", step], folder)
    yield from _unless(len(noted) == 1 and text in noted[0], f"{noted} ({said})")


def _step_of_github(job: str) -> str:
    steps = YAML(typ="safe").load(job)["jobs"]["sleepwake"]["steps"]
    return next(str(step["run"]) for step in steps if step.get("name") == "Sleep, wake up, compare")


def _step_of_gitlab(job: str) -> str:
    return str(YAML(typ="safe").load(job)["sleepwake"]["script"][-1])


def _step_of_jenkins(job: str) -> str:
    _, _, after = job.partition("script: '''")
    return after.partition("'''")[0].encode().decode("unicode_escape").encode("latin-1").decode()


def _run(
    command: Sequence[str], folder: Path, outside: dict[str, str] | None = None
) -> tuple[list[list[str]], str]:
    """Run it in the folder; the words that the stand-ins noted, and what was said."""
    noted = folder / "noted"
    environment = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "NOTED": str(noted),
        "HOME": str(folder),
        **(outside or {}),
    }
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    lines = noted.read_text().splitlines() if noted.exists() else []
    return [[word for word in json.loads(line) if word is not None] for line in lines], (
        ended.stdout + ended.stderr
    ).strip()


def _write_program(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o755)


def _unless(holds: bool, told: str) -> Iterator[str]:  # noqa: FBT001 - reads as a condition
    if not holds:
        yield told


_REPRODUCTION = Reproduction(
    prompt="p0",
    prompt_text="",
    prompt_token_ids=(1, 2, 3),
    picture=None,
    max_tokens=1,
    temperature=0.0,
    seed=0,
    cycles=(),
    logprob_tolerance=None,
    answer_deadline_s=60.0,
    transition_deadline_s=60.0,
    boot_deadline_s=60.0,
    server=Invocation(model="", env={}, args=()),
)
_REPORT = hostile_report("a")
_RUN: RunDescription = _REPORT.run
_CELL: CellResult = _REPORT.cells[0].result
_SCENARIO = {"name": "a"}
