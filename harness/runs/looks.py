"""What is decided about cells while they run, by judging what is recorded so far."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.check import judge
from harness.check.handover import judge_handover
from harness.check.result import Verdict
from harness.check.verdict import decided, noise_is_known
from harness.drive.sharing import SeenAgain
from harness.history.recording import load_recording


def is_decided(cell_directory: Path) -> bool:
    """Whether the verdict on what is recorded so far cannot change any more."""
    return decided(load_recording(cell_directory))


def knows_noise(cell_directory: Path) -> bool:
    """Whether what is recorded so far tells how much answers differ by themselves."""
    return noise_is_known(load_recording(cell_directory))


def would_be_clean(cell_directory: Path) -> bool:
    """Whether the cell would be clean if its script has come to its end, and were a run by itself.

    That is the stricter rule: a cell of many has less to spend on alarms.
    """
    recording = replace(load_recording(cell_directory), finished=True)
    return judge(recording).verdict is Verdict.CLEAN


def sees_again(fresh: Path, later: Path) -> SeenAgain:
    """What the first answers of a later cell say of a server that the first cell found fresh."""
    seen = judge_handover(load_recording(fresh), load_recording(later))
    return SeenAgain(whole=seen.whole, damaged=seen.damaged, because=seen.because)
