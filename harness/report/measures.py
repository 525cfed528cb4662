"""What one cell took: seconds of its steps, bytes of its memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from harness.history.recording import Recording
from harness.report.text import mebibytes, seconds
from harness.report.words import step_words


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number about a cell; where it was taken several times, the median."""

    name: str
    value: float
    unit: Literal["s", "bytes", "nat"]

    @property
    def words(self) -> str:
        """The number as people read it."""
        match self.unit:
            case "s":
                return seconds(self.value)
            case "bytes":
                return mebibytes(round(self.value))
        return f"{self.value:.3g} nat"


def measures(recording: Recording) -> list[Measure]:
    """Boot, every kind of step in the order of the script, memory awake and asleep."""
    return [*_timings(recording), *_memory(recording)]


def _timings(recording: Recording) -> Iterator[Measure]:
    if recording.server and not recording.server.shared_with:
        yield Measure(name="boot", value=recording.server.boot_seconds, unit="s")
    of: dict[str, list[float]] = {}
    for step in recording.steps:
        end = recording.step_ends.get(step.step)
        if end:
            of.setdefault(step_words(step), []).append(end.seconds)
    for name, taken in of.items():
        yield Measure(name=name, value=median(taken), unit="s")


def _memory(recording: Recording) -> Iterator[Measure]:
    for state, asleep in (("awake", False), ("asleep", True)):
        seen = [each for each in recording.observations if each.is_sleeping is asleep]
        yield from _median(f"resident memory {state}", (each.resident_bytes for each in seen))
        yield from _median(f"GPU memory {state}", (each.device_bytes for each in seen))


def _median(name: str, sizes: Iterable[int | None]) -> Iterator[Measure]:
    measured = [size for size in sizes if size is not None]
    if measured:
        yield Measure(name=name, value=median(measured), unit="bytes")
