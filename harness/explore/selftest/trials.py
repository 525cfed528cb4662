"""Tries one planted fault after the other in a running engine, so that one boot serves them all.

The script's part before the first thing that is done to the engine is carried out once; every trial
begins with it and goes on with the rest under its own fault.  So each trial is a complete history, judged
like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from harness.drive.cell import LooksAt, cell_started, ended_in_order, run_on_server
from harness.drive.job import CellJob
from harness.drive.recorder import Recorder, Watcher
from harness.drive.script import PlacedStep, run_step, unrolled
from harness.drive.session import Session
from harness.engine_plugin import faults
from harness.errors import ServerError
from harness.history.layout import HISTORY_FILE
from harness.scenario.steps.asking import NullTransition, Probe, ProbeOptions
from harness.scenario.steps.loading import LoadAdapter
from harness.servers.base import Runtime
from harness.vllm_api import lifecycle

SWITCHBOARD = f"{Path(faults.__file__).with_name('switchboard.py')}:install"
"""The fault that plants and heals all others while the engine runs."""

_LEAVES_THE_ENGINE_WHOLE = Probe | NullTransition | LoadAdapter
"""Steps that come before whatever a fault could damage."""

_FILL_AGAIN = PlacedStep(path="0", cycle=0, step=Probe(probe=ProbeOptions(name="healed", evidence=("warm",))))
"""Fills the prefix cache that healing emptied; its answers show that the engine is healthy again."""


async def run_trials(
    shared: CellJob,
    runtime: Runtime,
    trials: Sequence[CellJob],
    *,
    with_controls: bool = True,
    knows_noise: LooksAt = lambda _: True,
    watcher_of: Callable[[CellJob], Watcher],
) -> None:
    """Boot one engine and carry out every trial in it.

    It is started as ``shared``, whose fault has to be the :data:`SWITCHBOARD`, and into whose directory goes
    the history that all trials have in common.  They are of the same script; ``fault`` names what is planted
    for one, None nothing.

    What the machine does wrong ends the history it happened in with a ``cell_failed`` event; trials
    that were not begun have no history.

    Raises:
        StorageError: a history cannot be written; what was written stays readable.
    """
    steps = list(unrolled(shared.cell.scenario.script))
    in_common = list(takewhile(lambda placed: isinstance(placed.step, _LEAVES_THE_ENGINE_WHOLE), steps))
    recorder = Recorder(shared.directory / HISTORY_FILE, watcher=watcher_of(shared))

    async def all_trials(session: Session) -> None:
        session.knows_noise = lambda: knows_noise(shared.directory)
        for placed in in_common:
            await run_step(session, placed)
        session.controls_asked = not with_controls
        healed = False
        for trial in trials:
            own = ([_FILL_AGAIN] if healed else []) + steps[len(in_common) :]
            await _try(session, trial, own, watcher=watcher_of(trial))
            await session.require_alive()
            healed = trial.fault is not None
            if healed:
                await _heal(session)

    async with ended_in_order(recorder):
        recorder.record(cell_started(shared, recorder))
        await run_on_server(shared, runtime, recorder, all_trials)


async def _try(session: Session, trial: CellJob, steps: Sequence[PlacedStep], *, watcher: Watcher) -> None:
    begin = cell_started(trial, session.recorder)
    recorder = session.recorder.branch(trial.directory / HISTORY_FILE, begin=begin, watcher=watcher)
    watcher(begin)
    branch = session.branch(recorder)
    async with ended_in_order(recorder):
        if trial.fault is not None:
            await _required(branch, "plant_fault", {"name": trial.fault})
        for placed in steps:
            await run_step(branch, placed)


async def _heal(session: Session) -> None:
    await _required(session, "heal")
    await _required(session, "reload_weights")
    deadline = session.scenario.deadlines.transition
    await lifecycle.reset_prefix_cache(session.connection.http, deadline_s=deadline)


async def _required(session: Session, method: str, kwargs: dict[str, str] | None = None) -> None:
    result = session.call_recorded(
        await lifecycle.collective_rpc(
            session.connection.http, method, kwargs=kwargs, deadline_s=session.scenario.deadlines.transition
        )
    )
    if result.error is not None:
        raise ServerError(
            f"{method} failed: {result.error.message}",
            log_tail=session.server.log_tail(),
            remedy="read the server's log",
        )
