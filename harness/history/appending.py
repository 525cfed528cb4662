"""What is added to the history of a cell after it has ended: how its server answered the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.history.events import ServerLeftDamaged
from harness.history.passes import Role
from harness.history.recording import Pass, Recording
from harness.history.store import HistoryWriter


def as_asked_after(cell: Recording, later: Recording) -> Iterator[Pass]:
    """The passes of ``later`` as if ``cell`` had sent them once its script had come to its end.

    ``later`` has had no transition yet, asked what ``cell`` asked first, and the same server.  Prompts
    that are held out are left out: how much answers to them differ is never measured.
    """
    number = max((each.number for each in cell.passes), default=0)
    answered = (answer.t for each in cell.passes for answer in each.answers.values())
    ended = max((*answered, *(step.t for step in cell.steps)), default=0.0)
    reference = next((each.start.reference for each in cell.passes_of(Role.BASELINE)), None)
    for each in later.passes:
        if all(later.prompts[prompt].held_out for prompt in each.start.asked):
            continue
        number += 1
        moved = {
            "t": ended + each.start.t,
            "number": number,
            "step": "",
            "role": Role.AFTER,
            "cycle": 0,
            "reference": reference,
        }
        yield Pass(
            start=each.start.model_copy(update=moved),
            answers={
                prompt: answer.model_copy(update={"t": ended + answer.t, "pass_number": number})
                for prompt, answer in each.answers.items()
            },
        )


def tell_of_damage(path: Path, cell: Recording, later: Recording, *, because: str) -> ServerLeftDamaged:
    """Add to the history of ``cell`` what its server answered the cell ``later``, and that it is damage.

    Raises:
        StorageError: it could not be stored.
    """
    passes = list(as_asked_after(cell, later))
    moments = [answer.t for each in passes for answer in each.answers.values()]
    told = ServerLeftDamaged(t=max(moments, default=0.0), next_cell=later.cell.cell, because=because)
    with HistoryWriter(path, goes_on=True) as writer:
        for each in passes:
            writer.write(each.start)
            for answer in each.answers.values():
                writer.write(answer)
        writer.write(told)
    return told
