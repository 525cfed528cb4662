"""An engine behind an OpenAI endpoint: the guard's own process asks it, this one only says which it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Never

from sleepwake._guard_child import Child


class GuardedEndpoint:
    """Stands where a guard has an engine of this process; as :class:`sleepwake._guarded_llm.GuardedLLM`."""

    def __init__(self, base_url: str, child: Child) -> None:
        self._base_url, self._child = base_url, child

    @property
    def is_asleep(self) -> bool:
        """Whether the engine rests, as its server says."""
        return bool(self._order({"order": "is_asleep"})["is_asleep"])

    def facts(self) -> dict[str, Any]:
        """What the engine is, as its server says."""
        told: dict[str, Any] = self._order({"order": "meet", "endpoint": self._base_url})["facts"]
        return told

    def answer(self, question: Mapping[str, Any]) -> Never:
        """Answer nothing: nobody asks here what the server answers.

        Raises:
            AssertionError: always.
        """
        raise AssertionError(f"asked here, not over HTTP: {question['ask']}")

    def _order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        return self._child.carry_out(order, self.answer)
