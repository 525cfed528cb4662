"""Records how busy the machine was while something was timed: nobody is blamed for what others took."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harness.drive.session import Session
from harness.history.events import MachineLoad


@asynccontextmanager
async def machine_seen(session: Session, *, pass_number: int | None = None) -> AsyncIterator[None]:
    """Record once what the machine did while the block ran; nothing where it cannot be seen.

    Args:
        session: The cell.
        pass_number: The pass that the block is; None for a lifecycle call.
    """
    server, recorder = session.server, session.recorder
    # The clock is read after each look, as a look reads the machine's own times last.
    before, began = await server.look_at_machine(), recorder.now()
    yield
    after, now = await server.look_at_machine(), recorder.now()
    if before is None or after is None:
        return
    throttled = None
    if before.throttled_seconds is not None and after.throttled_seconds is not None:
        throttled = after.throttled_seconds - before.throttled_seconds
    recorder.record(
        MachineLoad(
            t=now,
            step=session.step,
            pass_number=pass_number,
            seconds=now - began,
            cores=after.cores,
            busy_seconds=after.busy_seconds - before.busy_seconds,
            own_seconds=after.own_seconds - before.own_seconds,
            engine_seconds=after.engine_seconds - before.engine_seconds,
            throttled_seconds=throttled,
        )
    )
