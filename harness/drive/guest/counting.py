"""How many requests a server that others may use has counted, between two looks at it."""

from __future__ import annotations

from harness.history.events import RequestsCounted
from harness.vllm_api.metrics import MetricsSnapshot


def counted_between(
    before: MetricsSnapshot | None, after: MetricsSnapshot | None, *, own: int, t: float, under_way: int = 0
) -> RequestsCounted:
    """What came to an end between two looks; nothing is told of what one of them could not see.

    Args:
        before: The first look; None where the server did not tell.
        after: The second one.
        own: Requests that we sent between the two.
        t: When it is recorded.
        under_way: Requests of others that had not ended by then.
    """

    def more(name: str) -> int | None:
        if before is None or after is None:
            return None
        first, second = getattr(before, name), getattr(after, name)
        return None if first is None or second is None else second - first

    return RequestsCounted(
        t=t, ended=more("requests_ended"), aborted=more("requests_aborted"), own=own, under_way=under_way
    )
