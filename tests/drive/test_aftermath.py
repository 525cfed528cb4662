"""What scripts leave behind in an engine that does what it ought to."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from harness.drive.aftermath import asks_without_weights, leaves_it_whole
from harness.scenario.schema import Scenario
from harness.scenario.script import Step


def script(*steps: str) -> tuple[Step, ...]:
    """A script that ends with a probe, with these steps in it, each in YAML."""
    lines = ["- probe: a", *(f"- {step}" for step in steps), "- probe: z"]
    told = {
        "name": "example",
        "why": "because",
        "arms": {"only": {}},
        "prompts": {"corpus": "words"},
        "script": YAML(typ="safe").load("\n".join(lines)),
    }
    return Scenario.model_validate(told).script


@pytest.mark.parametrize(
    ("steps", "whole"),
    [
        (["sleep: {}", "wake_up: {}"], True),
        (["sleep: {level: 2}", "wake_up: {}", "reload_weights: {}"], True),
        (["pause: {}", "release_kv_cache_memory: {}", "wake_up: {}", "resume: {}"], True),
        (["start_requests: {name: r}", "sleep: {}", "wake_up: {}", "finish_requests: {name: r}"], True),
        (["reload_weights: {weights: other}", "reload_weights: {}"], False),
        (["reload_weights: {weights: missing, must_fail: true}"], False),
        (["load_adapter: {name: x, adapter: first}"], False),
        (["repeat: 2\n  steps: [{sleep: {}}, {wake_up: {}}]"], True),
        (["repeat: 2\n  steps: [{reload_weights: {weights: other}}]"], False),
    ],
)
def test_an_engine_is_whole_where_everything_is_taken_back(steps: list[str], *, whole: bool) -> None:
    """Its own weights may be loaded again; an adapter stays, and what it had to refuse may have hurt."""
    assert leaves_it_whole(script(*steps)) is whole


@pytest.mark.parametrize(
    ("steps", "asked"),
    [
        (["sleep: {level: 2}", "wake_up: {}"], True),
        (["sleep: {level: 2}", "wake_up: {}", "reload_weights: {}"], False),
        (["sleep: {level: 2}", "wake_up: {}", "null_transition: {}", "reload_weights: {}"], True),
        (["sleep: {level: 2}", "wake_up: {}", "reload_weights: {weights: missing, must_fail: true}"], True),
        (["sleep: {level: 1}", "wake_up: {}"], False),
    ],
)
def test_an_engine_without_weights_is_not_asked_for_nothing(steps: list[str], *, asked: bool) -> None:
    """Between a level-2 sleep and the weights that are loaded after it, every answer is wrong."""
    assert asks_without_weights(script(*steps)) is asked
