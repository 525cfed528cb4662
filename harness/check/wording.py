"""How passes and steps are named in sentences for people."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from harness.check.answer_pair import Reply
from harness.check.result import CheckerName, ControlOutcome, Finding, Strength
from harness.history.observations import StepStarted
from harness.history.passes import CacheCondition, Control, Method, PassStarted, Role

_SHOWN_WHEN_FALSE = frozenset({"clear_cache"})
"""Options of steps that are not false by default."""

_CONTROLS = {
    Control.FRESH_SALT: "a fresh cache salt heals",
    Control.RESET_PREFIX_CACHE: "resetting the prefix cache heals",
    Control.UNSEEN_PROMPTS: "unseen prompts are right:",
    Control.RESET_ENCODER_CACHE: "resetting the picture caches heals",
    Control.RELOAD_WEIGHTS: "loading the weights again heals",
}


def control_sentence(outcome: ControlOutcome) -> str:
    """What a control showed, as what speaks for a cause says it; empty where nothing says it so."""
    words = next((words for control, words in _CONTROLS.items() if control == outcome.control), "")
    return f"{words} {outcome.healed} of {outcome.asked}" if words else ""


def occasion(start: PassStarted) -> str:
    """When a pass ran, for example ``cycle 2, warm``."""
    when = {
        Role.BASELINE: "baseline",
        Role.NULL: "null transition",
        Role.AFTER: f"cycle {start.cycle}" if start.cycle else "after the transition",
        Role.CONTROL: f"control {start.control.value.replace('_', ' ')}" if start.control else "control",
    }[start.role]
    return f"{when}, {manner(start)}"


def finding_about(
    reply: Reply,
    detail: str,
    *,
    checker: CheckerName,
    strength: Strength,
    evidence: Mapping[str, JsonValue],
) -> Finding:
    """A finding about one answer: its sentence begins with the prompt and the occasion."""
    return Finding(
        checker=checker,
        message=f"{reply.answer.prompt}, {occasion(reply.start)}: {detail}",
        strength=strength,
        prompt=reply.answer.prompt,
        pass_number=reply.start.number,
        cycle=reply.start.cycle,
        evidence=evidence,
    )


def condition(reply: Reply) -> str:
    """Under which conditions an answer came to be, for example ``warm, from the cache, cycle 1``."""
    when, _, _ = occasion(reply.start).rpartition(", ")
    if reply.start.method is not Method.GENERATED:
        return f"{reply.start.method.value}, {when}"
    if reply.start.cache is CacheCondition.COLD and not reply.cached:
        return f"cold, {when}"
    if reply.answer.cached_tokens is None:
        return f"{reply.start.cache.value}, {when}"
    origin = f"{reply.cached} prompt tokens from the cache" if reply.cached else "computed"
    return f"{reply.start.cache.value}, {origin}, {when}"


def manner(start: PassStarted) -> str:
    """How a pass asked: ``warm``, ``rehit``, ``cold``, or by another method ``scored``, ``sampled``."""
    return start.cache.value if start.method is Method.GENERATED else start.method.value


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """``1 prompt``, ``2 prompts``; ``plural`` where it takes more than an s."""
    return f"{number} {singular}" if number == 1 else f"{number} {plural or singular + 's'}"


def describe(step: StepStarted) -> str:
    """A step in words, for example ``sleep level 1`` or ``load first adapter x``."""
    calls = step.options.get("calls")
    if overlaps(step) and isinstance(calls, list):
        return "concurrently " + " and ".join(_member(each) for each in calls if isinstance(each, dict))
    return _in_words(step.action, step.options)


def overlaps(step: StepStarted) -> bool:
    """Whether it is several calls that were in flight at once."""
    return step.action == "concurrently"


def _member(written: Mapping[str, JsonValue]) -> str:
    """One of several that overlap, as a script writes it."""
    ((action, options),) = written.items()
    return _in_words(action, options if isinstance(options, dict) else {})


def _in_words(action: str, options: Mapping[str, JsonValue]) -> str:
    *verb, noun = action.split("_")
    told = set_options(options)
    must_fail = told.pop("must_fail", False)
    words = [
        *verb,
        *([str(told.pop(noun))] if noun in told else []),
        noun,
        *([str(told.pop("name"))] if "name" in told else []),
        *(_option(name, value) for name, value in told.items()),
        *(["(must fail)"] if must_fail else []),
    ]
    return " ".join(words)


def set_options(options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The options of a step that say something."""
    return {
        name: value
        for name, value in options.items()
        if value not in (None, [], ()) and (value is not False or name in _SHOWN_WHEN_FALSE)
    }


def _option(name: str, value: JsonValue) -> str:
    words = name.replace("_", " ")
    if isinstance(value, dict):
        return f"{words} {' '.join(_option(*each) for each in value.items() if each[1] is not None)}"
    if isinstance(value, bool):
        return words if value else f"{words} false"
    return f"{words} {'+'.join(map(str, value)) if isinstance(value, list) else value}"
