"""Which cells a runtime can run as asked for, and what to do about the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.drive.needs import LORA_FLAGS, needs_of, overlaps
from harness.engine_plugin.faults import FAULTS, Fault
from harness.errors import UsageError
from harness.models.model import may_read_pictures, tensor_parallel_sizes
from harness.runs.options import RunOptions
from harness.scenario.cells import Cell
from harness.servers.base import Runtime
from harness.servers.flags import PARALLEL_SIZES, flag_name, flag_value


@dataclass(frozen=True)
class Obstacle:
    """Why a cell cannot be run as asked for, and what to do."""

    reason: str
    remedy: str


_NO_GPU = Obstacle(
    "needs a GPU, but the engine here runs on a CPU",
    "run it where vLLM has a GPU (see `sleepwake doctor`), or against a server with --endpoint",
)
_NO_PICTURES = Obstacle(
    "needs a model that reads pictures: name one with --model",
    "name another model, or a server with --endpoint",
)
_NOT_OURS = Obstacle(
    "makes calls that overlap or are given up, after which a server that is not ours may not be as it was",
    "let sleepwake start the server: leave out --endpoint",
)
_NO_FAULT = Obstacle(
    "needs a planted fault: name one with --fault",
    "plant one, or let `sleepwake selftest` plant one after the other",
)


def obstacle(cell: Cell, runtime: Runtime, options: RunOptions) -> Obstacle | None:
    """What keeps ``runtime`` from running ``cell`` as asked for; None where nothing is known against it."""
    match cell.scenario.requires:
        case "gpu" if runtime.engine == "cpu":
            return _NO_GPU
        case "pictures" if runtime.name != "attached" and not may_read_pictures(options.model):
            return _NO_PICTURES
        case "fault" if options.fault is None:
            return _NO_FAULT
    if runtime.name == "attached" and overlaps(cell.scenario.script):
        return _NOT_OURS
    if runtime.name != "attached" and (misfit := _heads_to_spread(cell, options)):
        return misfit
    return next(_nothing_to_break(cell, options), None)


def _heads_to_spread(cell: Cell, options: RunOptions) -> Obstacle | None:
    """VLLM refuses, after half a minute and in a page, what the model's attention heads do not allow."""
    size = flag_value((*options.vllm_args, *cell.arm.args), *PARALLEL_SIZES["tensor"])
    sizes = tensor_parallel_sizes(options.model)
    if size is None or not size.isdecimal() or sizes is None or int(size) in sizes:
        return None
    return Obstacle(
        f"spreads the model over {size} ranks, which its attention heads do not allow",
        f"--tensor-parallel-size can be {', '.join(map(str, sizes))} with this model",
    )


def _nothing_to_break(cell: Cell, options: RunOptions) -> Iterator[Obstacle]:
    """A fault that cannot do anything would be called clean, as if it had been missed."""
    planted = [FAULTS[name] for name in (options.fault or "").split(",") if name in FAULTS]
    adapters = needs_of(cell.scenario.script).adapters
    of_adapters = [word for flag in LORA_FLAGS for word in flag] if adapters else []
    given = {flag_name(word) for word in (*options.vllm_args, *cell.arm.args, *of_adapters)}
    for fault in planted:
        if fault.adapters and not adapters:
            yield Obstacle(
                f"loads no adapter that {fault.name} could break",
                f"name a scenario that does: `sleepwake run lora-across-sleep --fault {fault.name}`",
            )
        elif missing := [flag for flag in _flags(fault) if flag_name(flag) not in given]:
            yield Obstacle(
                f"has no {' or '.join(missing)}, without which {fault.name} has nothing to break",
                f"add it with --vllm-arg, or let `sleepwake selftest --fault {fault.name}` do so",
            )


def refuse_faults(cells: Sequence[Cell], options: RunOptions) -> None:
    """Return if a planted fault has something to break in any of ``cells``, on whatever runtime.

    Raises:
        UsageError: it has not.
    """
    obstacles = {cell.id: next(_nothing_to_break(cell, options), None) for cell in cells}
    found = [each for each in obstacles.values() if each is not None]
    if found and len(found) == len(obstacles):
        raise _none_can_run({name: each for name, each in obstacles.items() if each})


def _none_can_run(obstacles: Mapping[str, Obstacle]) -> UsageError:
    left_out = "; ".join(f"{name} {found.reason}" for name, found in obstacles.items())
    remedies = dict.fromkeys(found.remedy for found in obstacles.values())
    return UsageError(f"no cell can run: {left_out}", remedy="; ".join(remedies))


def _flags(fault: Fault) -> list[str]:
    return [word for word in fault.needs if word.startswith("--")]


def fit(cells: Sequence[Cell], runtime: Runtime, options: RunOptions) -> tuple[list[Cell], str | None]:
    """Return the cells that ``runtime`` can run as asked for, and one line about those left out.

    Raises:
        UsageError: none can be run.
    """
    obstacles = {cell.id: found for cell in cells if (found := obstacle(cell, runtime, options))}
    left_out = "; ".join(f"{name} {found.reason}" for name, found in obstacles.items())
    if cells and len(obstacles) == len(cells):
        raise _none_can_run(obstacles)
    kept = [cell for cell in cells if cell.id not in obstacles]
    return kept, f"left out: {left_out}" if left_out else None
