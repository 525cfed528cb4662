"""Histories whose steps and calls do not yet say what they were are read as if they did."""

from __future__ import annotations

import json

import pytest

from harness.history.events import EVENT
from harness.history.observations import Call, StepStarted


def step(action: str, **options: object) -> StepStarted:
    """A step as an old history has it on its line."""
    told = {"kind": "step_started", "t": 1, "step": "2", "action": action, "options": options, "cycle": 0}
    event = EVENT.validate_json(json.dumps(told))
    assert isinstance(event, StepStarted)
    return event


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        ("probe", False),
        ("null_transition", False),
        ("start_requests", False),
        ("finish_requests", False),
        ("cancel_requests", False),
        ("sleep", True),
        ("reset_prefix_cache", True),
    ],
)
def test_what_changed_the_engine_is_known_by_its_name(action: str, *, changes: bool) -> None:
    """Questions and requests beside the script left it as it was, cancelled ones too."""
    assert step(action).changes_engine is changes


@pytest.mark.parametrize(
    ("action", "options", "asleep"),
    [
        ("sleep", {"level": 1}, True),
        ("sleep", {}, True),
        ("sleep", {"level": 0}, None),
        ("wake_up", {"tags": []}, False),
        ("wake_up", {"tags": ["weights"]}, None),
        ("probe", {"name": "p"}, None),
    ],
)
def test_who_had_to_sleep_is_known_by_the_options(
    action: str, options: dict[str, object], *, asleep: bool | None
) -> None:
    """Without a model of the engine only whole sleeps and wake-ups say what must be."""
    assert step(action, **options).asleep_after is asleep


def test_an_adapter_changed_its_own_answers_alone() -> None:
    """What is loaded under one name is not asked under another."""
    assert step("load_adapter", name="x").only_adapter == "x"
    assert step("reload_weights").only_adapter is None


def test_what_settles_memory_is_known_by_its_name() -> None:
    """A request or an adapter takes some for good, the lifecycle itself does not."""
    assert [step(action).takes_memory for action in ("wake_up", "load_adapter", "probe")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("path", "sends_json"), [("/sleep", False), ("/collective_rpc", True)])
def test_how_a_call_was_sent_is_known_by_its_path(path: str, *, sends_json: bool) -> None:
    """Query and body were not told apart."""
    told = {
        "kind": "call",
        "t": 1,
        "step": "2",
        "method": "POST",
        "path": path,
        "parameters": {},
        "status": 200,
        "body": None,
        "seconds": 0.1,
    }
    event = EVENT.validate_json(json.dumps(told))
    assert isinstance(event, Call)
    assert event.sends_json is sends_json


def test_what_a_history_says_itself_stands() -> None:
    """A step that this version has never heard of is what its history says it was."""
    told = step("defragment").model_dump() | {"changes_engine": False, "takes_memory": False}
    assert StepStarted.model_validate(told).changes_engine is False
