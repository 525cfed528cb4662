"""What will be done to a server, counted from the scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from harness.drive.script import unrolled
from harness.errors import UsageError
from harness.scenario.cells import Cell
from harness.scenario.script import Step
from harness.scenario.steps.asking import NullTransition
from harness.scenario.steps.lifecycle import Pause, ReleaseKvCacheMemory, Sleep
from harness.scenario.steps.loading import LoadAdapter, ReloadWeights
from harness.scenario.steps.updating import StartWeightUpdate

_SLEEP = "puts it to sleep"
_DEEDS: Mapping[type, str] = {
    Sleep: _SLEEP,
    Pause: "pauses it",
    ReleaseKvCacheMemory: "releases its KV cache",
    ReloadWeights: "loads weights",
    StartWeightUpdate: "updates its weights",
    LoadAdapter: "loads an adapter",
}


def announcement(cells: Iterable[Cell], endpoint: str, *, seconds: float | None = None) -> str:
    """Say in one line what the scripts of ``cells`` do to the server at ``endpoint``, and for how long."""
    counts = _counted(cells)
    deeds = [f"{deed} {_times(counts[deed])}" for deed in _DEEDS.values() if counts[deed]]
    said = ", ".join((*(deeds or ["only asks it"]), *([] if seconds is None else [_about(seconds)])))
    return f"{endpoint}: {said}; afterwards it is given back as it was found"


def require_few_sleeps(cells: Iterable[Cell], most: int | None) -> None:
    """Return when the scripts of ``cells`` put the server to sleep no more than ``most`` times.

    Raises:
        UsageError: they would do it more often.
    """
    planned = _counted(cells)[_SLEEP]
    if most is not None and planned > most:
        raise UsageError(
            f"the server would be put to sleep {_times(planned)}, and --max-sleeps allows {most}",
            remedy="choose fewer cells with -k or --arm, or allow more",
        )


def _counted(cells: Iterable[Cell]) -> Counter[str]:
    steps = (placed.step for cell in cells for placed in unrolled(cell.scenario.script))
    return Counter(deed for step in steps for deed in _deeds(step))


def _deeds(step: Step) -> Iterator[str]:
    if isinstance(step, NullTransition) and step.null_transition.by == "sleep_level_0":
        yield _SLEEP
    if (deed := _DEEDS.get(type(step))) is not None:
        yield deed


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"about {minutes} minute{'s' if minutes > 1 else ''}" if minutes else "less than a minute"
