"""Faults of what single requests ask: quiet before the first sleep, and then only about that."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine_plugin import compat
from harness.engine_plugin.faults import plant
from tests.engine_plugin.faults.small_core import SmallCore


class Status(enum.Enum):
    """Of a request."""

    WAITING = 1
    WAITING_FOR_GRAMMAR = 2


class FrontEnd:
    """Sleeps and wakes as vLLM's ``AsyncLLM`` does."""

    def sleep(self, level: int = 1) -> None:
        """Fall asleep."""

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Wake up."""


class Detokenizer:
    """Makes text, and knows stop strings."""

    def __init__(self) -> None:
        self.stop = ["in"]

    def get_next_output_text(self) -> str:
        """Some text."""
        return "a city In"


class Parts:
    """Classes of this test alone, and what is done with them."""

    def __init__(self) -> None:
        self.core = type("Core", (SmallCore,), {})
        self.front_end = type("FrontEndOfThis", (FrontEnd,), {})
        self.detokenizer = type("DetokenizerOfThis", (Detokenizer,), {})

    def cycle(self, core: Any, front_end: Any, *, level: int) -> None:
        """Sleep and wake up."""
        for each in (core, front_end):
            each.sleep(level)
        for each in (core, front_end):
            each.wake_up()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """A small core and a small front end instead of vLLM's."""
    made = Parts()
    monkeypatch.setattr(compat, "engine_core", lambda: made.core)
    monkeypatch.setattr(compat, "front_end", lambda: made.front_end)
    monkeypatch.setattr(compat, "detokenizer", lambda: made.detokenizer)
    return made


def request_of_everything() -> Any:
    """A request that asks for all that can be forgotten."""
    asked = SimpleNamespace(
        stop_token_ids=[13],
        repetition_penalty=100.0,
        frequency_penalty=2.0,
        presence_penalty=1.0,
        logit_bias={1: 100.0},
        allowed_token_ids=[1, 2],
        _bad_words_token_ids=[[4]],
        min_tokens=4,
    )
    return SimpleNamespace(
        sampling_params=asked,
        structured_output_request=SimpleNamespace(grammar="root"),
        status=Status.WAITING_FOR_GRAMMAR,
    )


@pytest.mark.parametrize(
    ("name", "forgotten"),
    [
        ("lose-grammar-state", {"structured_output_request", "status"}),
        ("ignore-stops", {"stop_token_ids"}),
        (
            "forget-penalties",
            {
                *("repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias"),
                *("allowed_token_ids", "_bad_words_token_ids", "min_tokens"),
            },
        ),
    ],
)
def test_only_what_is_meant_is_forgotten_and_only_after_a_sleep(
    parts: Parts, name: str, forgotten: set[str]
) -> None:
    """A request before the first real sleep keeps all; one after it loses its part, and nothing else."""
    plant(name)
    core, front_end = parts.core(), parts.front_end()
    before, after = request_of_everything(), request_of_everything()
    parts.cycle(core, front_end, level=0)
    core.add_request(before)
    parts.cycle(core, front_end, level=1)
    core.add_request(after)
    assert facts(before) == facts(request_of_everything())
    assert {key for key, value in facts(after).items() if value != facts(before)[key]} == forgotten


def facts(request: Any) -> dict[str, object]:
    """All that a request asks for."""
    own = {key: value for key, value in vars(request).items() if key != "sampling_params"}
    return {**own, **vars(request.sampling_params)}


def test_stop_strings_are_forgotten_where_text_is_made(parts: Parts) -> None:
    """The front end knows them, the engine does not."""
    plant("ignore-stops")
    core, front_end = parts.core(), parts.front_end()
    parts.cycle(core, front_end, level=0)
    assert parts.detokenizer().stop == ["in"]
    parts.cycle(core, front_end, level=2)
    assert parts.detokenizer().stop == []


def test_garbled_text_is_that_of_other_tokens(parts: Parts) -> None:
    """Its letters change, after a sleep only."""
    plant("garble-text")
    core, front_end = parts.core(), parts.front_end()
    parts.cycle(core, front_end, level=0)
    assert parts.detokenizer().get_next_output_text() == "a city In"
    parts.cycle(core, front_end, level=1)
    assert parts.detokenizer().get_next_output_text() == "A CITY iN"
