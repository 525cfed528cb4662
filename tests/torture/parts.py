"""The parts of the torture, in the order in which they are run."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import write_scenario
from tests.torture import (
    beside_load,
    broken_servers,
    files,
    interruptions,
    kills,
    run_directories,
    surroundings,
    texts,
)
from tests.torture.part import Budget, Outcome, Part

MINUTE, HOUR = 60.0, 3600.0
SLOW = 20
"""The fake's milliseconds for a step, so that requests of others meet a sleep."""


def _broken_servers(budget: Budget) -> Outcome:
    """Kinds of broken servers, drawn; none twice."""
    certificate = broken_servers.make_certificate(budget.folder)
    kinds = random.Random(budget.seed).sample(  # noqa: S311 - no secret
        broken_servers.KINDS, k=min(budget.trials, len(broken_servers.KINDS))
    )
    rows: list[broken_servers.Row] = []
    began = time.monotonic()
    for number, kind in enumerate(kinds):
        if time.monotonic() - began > budget.seconds:
            break
        inside = budget.folder / str(number)
        inside.mkdir()
        rows.append(broken_servers.tried(kind, inside, certificate))
    bad = tuple(str(row) for row in rows if not row.is_right)
    peak = max((row.peak_mib for row in rows), default=0.0)
    return Outcome(
        tried=len(rows), bad=bad, told=f"of {len(broken_servers.KINDS)} kinds; at most {peak:.0f} MiB"
    )


def _interruptions(budget: Budget) -> Outcome:
    """Runs on a server that is not theirs."""
    with Served() as served:
        found = interruptions.interrupted(
            served.start(), budget.folder, times=budget.trials, seed=budget.seed
        )
        return Outcome(tried=budget.trials, bad=tuple(found))


def _beside_load(budget: Budget) -> Outcome:
    """One run on a server that others use."""
    write_scenario(budget.folder)
    slow = Misbehaviour({Behaviour.SLOW: SLOW})
    with Served() as served:
        return Outcome(tried=1, bad=tuple(beside_load.wrong(served.start(slow), budget.folder)))


PARTS: Sequence[Part] = (
    Part(
        name="files",
        about="a damaged scenario, corpus or picture file is accepted, or refused with `file:line:column`",
        run=files.torture,
        trials=(2_000, 100_000),
        seconds=(2 * MINUTE, 3 * HOUR),
    ),
    Part(
        name="run directories",
        about="what reads a damaged run judges nothing that was altered, and says in words what is wrong",
        run=run_directories.torture,
        trials=(1_000, 50_000),
        seconds=(2 * MINUTE, HOUR),
    ),
    Part(
        name="kills",
        about="histories stay readable, no cell that did not end is clean, the next start finishes the run",
        run=kills.torture,
        trials=(10, 1_000),
        seconds=(5 * MINUTE, 4 * HOUR),
    ),
    Part(
        name="texts",
        about="scripts, commands and CI jobs that are written call programs with a hostile text as it is",
        run=texts.torture,
        trials=(165, 165),
        seconds=(5 * MINUTE, HOUR),
    ),
    Part(
        name="surroundings",
        about="without disk, memory, streams, network or rights a run says so in words, and leaves nothing",
        run=surroundings.torture,
        trials=(12, 100),
        seconds=(5 * MINUTE, HOUR),
    ),
    Part(
        name="interruptions",
        about="a server of somebody else's is awake and answers after a run on it was interrupted",
        run=_interruptions,
        trials=(6, 100),
        seconds=(5 * MINUTE, HOUR),
    ),
    Part(
        name="beside load",
        about="a server in use is refused; where that is allowed, what others may have caused is no finding",
        run=_beside_load,
        trials=(1, 1),
        seconds=(5 * MINUTE, HOUR),
    ),
    Part(
        name="broken servers",
        about="the exit code fits, within the deadline and 300 MiB, and the server is awake afterwards",
        run=_broken_servers,
        trials=(6, 100),
        seconds=(5 * MINUTE, 2 * HOUR),
    ),
)
