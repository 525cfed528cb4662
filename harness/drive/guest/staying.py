"""One cell on a server that is not ours: what it owes, and what others sent meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from harness.drive.guest.counting import counted_between
from harness.drive.guest.giving_back import give_back
from harness.drive.guest.owed import Ledger, Owed
from harness.drive.job import CellJob
from harness.drive.session import OBSERVATION_DEADLINE_S, Session
from harness.vllm_api.metrics import MetricsSnapshot, read_metrics


@asynccontextmanager
async def as_a_guest(session: Session, job: CellJob) -> AsyncIterator[None]:
    """Give the server back as it was found, however the block is left; does nothing on a server of ours.

    What could not be given back stays in the ledger.

    Raises:
        StorageError: it cannot be remembered what the server is owed, before it is touched.
    """
    if session.server.facts.runtime != "attached":
        yield
        return
    ledger = Ledger()
    before = await _counted(session)
    owed = Owed(
        endpoint=session.server.base_url,
        run_id=job.run_id,
        cell=job.cell.id,
        started=before.started if before else None,
    )

    def remember(now: Owed) -> None:
        nonlocal owed
        if now != owed:
            owed = now
            ledger.write(owed)

    own_weights = session.variants.own_weights or None
    session.foresee = lambda state: remember(owed.and_after(state, own_weights=own_weights))
    session.settle = lambda state: remember(owed.settled(state))
    try:
        yield
        after, own = await _counted(session), session.connection.asked.number
        session.recorder.record(counted_between(before, after, own=own, t=session.recorder.now()))
    finally:
        if owed.anything:
            with anyio.CancelScope(shield=True):
                if await give_back(session.connection.http, owed) is None:
                    ledger.forget(owed)


async def _counted(session: Session) -> MetricsSnapshot | None:
    reading = await read_metrics(session.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    return reading.snapshot
