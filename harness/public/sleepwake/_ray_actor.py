"""An engine that an actor of Ray holds: what a guard asks is asked inside the actor, in its own process.

Only plain data goes to and fro.  Ray is not imported here: who has an actor has it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from sleepwake._guarded_llm import GuardedLLM


def is_actor(llm: object) -> bool:
    """Whether it is the handle of an actor."""
    return type(llm).__name__ == "ActorHandle" and type(llm).__module__.partition(".")[0] == "ray"


class GuardedActor:
    """What the guard says to an ``LLM`` in an actor, and what comes back; as :class:`GuardedLLM`.

    Args:
        actor: Its handle.
        lora_request: The adapter that is asked.
        held_as: The actor's attribute that is the ``LLM``; None: the actor is one itself.
    """

    def __init__(self, actor: object, lora_request: object = None, *, held_as: str | None = None) -> None:
        self._actor: Any = actor
        self._how = (held_as, lora_request)

    @property
    def is_asleep(self) -> bool:
        """Whether the engine rests: it would let every request wait for ever."""
        return bool(self._inside({"ask": "is_asleep"}))

    def facts(self) -> dict[str, Any]:
        """What the engine is."""
        told: dict[str, Any] = self._inside({"ask": "facts"})
        return told

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what the guard's own process asks.

        Raises:
            BaseException: whatever the engine raises, or Ray where the actor is gone.
        """
        told: dict[str, Any] = self._inside(question)
        return told

    def _inside(self, question: Mapping[str, Any]) -> Any:
        asked = self._actor.__ray_call__.remote(answer_inside, *self._how, dict(question))
        return sys.modules["ray"].get(asked)


def answer_inside(holder: object, held_as: str | None, lora_request: object, question: dict[str, Any]) -> Any:
    """Answer in the actor's process, where ``holder`` is the actor itself.

    Raises:
        TypeError: what it holds is no ``vllm.LLM``.
    """
    llm = attrgetter(held_as)(holder) if held_as else holder
    if not hasattr(llm, "get_default_sampling_params") or not hasattr(llm, "llm_engine"):
        raise TypeError(f"{type(llm).__name__} is no vllm.LLM: `held_as` names the attribute that is one")
    guarded = GuardedLLM(llm, lora_request)
    if question["ask"] == "is_asleep":
        return guarded.is_asleep
    return guarded.facts() if question["ask"] == "facts" else guarded.answer(question)
