"""Run directories of every verdict, written and judged as real runs are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue

from harness.history.events import CellStarted, Event, ServerReady
from harness.history.layout import CELLS_FOLDER, HISTORY_FILE, RUN_FILE, SERVER_LOG
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Control, Method, TokenTexts
from harness.history.store import HistoryWriter
from harness.report.writer import write_report
from harness.runs.judging import judge_directory
from tests.check.stories import Story, clean_story, garbage, loop

_METHODS = (Method.SCORED, Method.SAMPLED)
_LOG = "\n".join(f"INFO 11-22 10:00:{second:02} [api_server.py] GET /health 200 OK" for second in range(60))


def clean() -> Story:
    """An engine that came back the same, asked by every method."""
    return Story(prompts=16, methods=_METHODS).baseline().null().cycle(1).cycle(2)


def corrupt() -> Story:
    """An engine that serves blank blocks to prompts it has seen before."""
    story = Story(prompts=6, methods=_METHODS)
    damaged = {name: loop(2) if number % 2 else garbage(1) for number, name in enumerate(story.names[:4])}
    story.baseline().null()
    for cycle in (1, 2):
        story.sleep(keeps_cache=True).wake().probe(cycle, warm=damaged)
    for control in (Control.FRESH_SALT, Control.UNSEEN_PROMPTS, Control.RESET_PREFIX_CACHE):
        story.control(control, asked=None if control is Control.UNSEEN_PROMPTS else list(damaged))
    return story


def degraded() -> Story:
    """An engine that says it sleeps and keeps its memory."""
    return Story().baseline().null().sleep(freed=0).wake().probe()


def inconclusive() -> Story:
    """An engine that answers otherwise every time, also when nothing had happened."""
    story = Story(prompts=4).baseline()
    changes = {name: garbage(1) for name in story.names}
    return story.null(changes).sleep().wake().probe(warm=changes, cold=changes)


def error() -> Story:
    """An engine that is gone before anything could be compared."""
    return Story().baseline().fail()


def interrupted() -> Story:
    """A run that its user stopped."""
    return Story().baseline().interrupt()


STORIES: Mapping[str, Callable[[], Story]] = {
    "clean": clean,
    "corrupt": corrupt,
    "degraded": degraded,
    "inconclusive": inconclusive,
    "error": error,
    "interrupted": interrupted,
}


def write_run(directory: Path, stories: Mapping[str, Story]) -> Path:
    """Write a run of one cell an arm into ``directory``, judge it, and return its ``report.html``."""
    cells = {f"sleep-level1.{arm}": (arm, story) for arm, story in stories.items()}
    directory.mkdir(parents=True)
    stopped = any(
        (failure := story.recording().failure) and failure.interrupted for story in stories.values()
    )
    description = {
        "run": directory.name,
        "cells": {name: {"arm": arm} for name, (arm, _) in cells.items()},
        "interrupted": stopped,
        "command": ["sleepwake", "run", "scenarios/sleep_level1.yaml"],
        "machine": {"cores": 2, "system": "Linux", "memory_bytes": 25769803776},
    }
    (directory / RUN_FILE).write_text(json.dumps(description), encoding="utf-8")
    for name, (arm, story) in cells.items():
        folder = directory / CELLS_FOLDER / name
        with HistoryWriter(folder / HISTORY_FILE) as history:
            if story.recording().failure is None:
                story.finish()
            for event in story.events:
                history.write(_named(event, cell=name, arm=arm))
                if isinstance(event, StepStarted):
                    history.write(StepFinished(t=event.t, step=event.step, seconds=1.0))
            history.write(TokenTexts(t=story.now(), texts={token: f" w{token}" for token in range(1000)}))
        (folder / SERVER_LOG).write_text(_LOG, encoding="utf-8")
    written = write_report(directory, judge_directory(directory).report)
    assert written.html is not None
    return written.html


def _named(event: Event, *, cell: str, arm: str) -> Event:
    match event:
        case CellStarted():
            why = "Sleep throws the KV cache away; an engine that keeps its hashes serves blank blocks."
            return event.model_copy(
                update={"cell": cell, "scenario": "sleep-level1", "arm": arm, "why": why, "script": _SCRIPT}
            )
        case ServerReady():
            command = "VLLM_SERVER_DEV_MODE=1 vllm serve SmolLM2-135M-Instruct --enable-sleep-mode"
            return event.model_copy(update={"command": command, "emulated": ("CPU sleep mode",)})
        case StepStarted(action="sleep" | "wake_up"):
            return event.model_copy(update={"cycle": 1})
        case _:
            return event


_SCRIPT: tuple[Mapping[str, JsonValue], ...] = (
    {"probe": {"name": "baseline"}},
    {"null_transition": {}},
    {"repeat": 2, "steps": [{"sleep": {"level": 1}}, {"wake_up": {}}, {"probe": {"name": "after-wake"}}]},
)


def forty_cells() -> dict[str, Story]:
    """A run as large as the shipped scenarios make it, most of it clean."""
    made: Iterable[Callable[[], Story]] = (
        *[corrupt] * 6,
        *[degraded] * 3,
        *[inconclusive] * 3,
        *[lambda: clean_story(prompts=16, cycles=3)] * 28,
    )
    return {f"arm-{number}": make() for number, make in enumerate(made, start=1)}
