"""Tells somebody of an alarm, and of its end."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from pydantic import JsonValue

from harness.check.result import CellResult
from harness.history.run_description import now
from harness.watch.noticing import Happening
from harness.watch.status import outcome_of

DEADLINE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where it is told.

    Attributes:
        url: May hold a secret, and is told nobody.
        endpoint: The server that is watched.
        run: The run that is recorded.
    """

    url: str
    endpoint: str
    run: str

    async def send(self, result: CellResult, happened: Happening) -> str | None:
        """Send one judgement; return why that failed, without the address, None if it did not."""
        try:
            async with httpx.AsyncClient(timeout=DEADLINE_S, follow_redirects=False) as client:
                answer = await client.post(self.url, json=self.message(result, happened))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        return None if answer.is_success else f"answered {answer.status_code}"

    def message(self, result: CellResult, happened: Happening) -> dict[str, JsonValue]:
        """What is sent."""
        return {
            "endpoint": self.endpoint,
            "run": self.run,
            "cell": result.cell,
            "happened": happened.words,
            "verdict": outcome_of(result),
            "cause": result.cause.value if result.cause else None,
            "reason": result.reason,
            "at": now(),
        }


def is_news(outcome: str, before: str | None) -> bool:
    """Whether a judgement is worth telling: one that is not sound, and the first that is again."""
    return outcome != "clean" or before not in {None, "clean"}
