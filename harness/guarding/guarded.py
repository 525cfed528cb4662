"""An engine that is guarded: its baseline, and one check after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.check.noise.budget import budget_of_check
from harness.check.result import CellResult, Verdict, Witness
from harness.errors import EngineFailedError
from harness.guarding import run_directory
from harness.guarding.asking import Holder
from harness.guarding.baseline import OF_A_REFERENCE, OF_ITSELF, OF_NEW_WEIGHTS, History, take_baseline
from harness.guarding.checking import check
from harness.guarding.depths import Depth, depths_of
from harness.guarding.messages import Begin, Engine, Example, Facts, NoticedCall, Told
from harness.guarding.passes import fresh_salt
from harness.guarding.steps import beginning, record_calls
from harness.history.events import CellFailed
from harness.history.layout import HISTORY_FILE


class Guarded:
    """One engine.  Making it takes the baseline and measures the noise.

    Raises:
        UsageError: what is asked for does not fit.
        StorageError: the run directory cannot be written.
        EngineFailedError: the engine raised instead of answering.
    """

    def __init__(self, order: Begin, holder: Holder) -> None:
        self._facts = order.facts
        self._checksums = order.checksums and order.facts.tells_checksums
        self._depths = depths_of(order, holder)
        self._run = run_directory.begin(order.out, order.facts)
        self._checks = 0
        self._salt = fresh_salt()
        self._new_weights = False
        """Whether the next check meets weights that no baseline is known of."""
        self._take_baselines(self._facts, salt=self._salt, checksums=self._checksums)

    @property
    def directory(self) -> str:
        """The run directory."""
        return str(self._run.directory)

    def check(self, calls: Sequence[NoticedCall]) -> Told:
        """Ask again, and judge what comes back.

        Args:
            calls: What was noticed since the last time.

        Raises:
            EngineFailedError: the engine raised instead of answering.
        """
        before, salt, compared = self._depths.generated, self._salt, not self._new_weights
        if not compared:
            self._take_up_new_weights(calls)
        depth = self._depths.next if compared else self._depths.full
        self._checks += 1
        folder = self._run.begin_check(self._checks)
        history = self._history_in(folder, depth)
        if compared:
            since = history.events[-1].t
            record_calls(history.recorder, calls, since=since, first=history.next_step)
        result = self._judged(depth, history, salt=salt, compared=compared)
        self._depths.note(depth, found=result.verdict is not Verdict.CLEAN)
        if result.verdict is Verdict.CLEAN:
            self._run.note_sound(folder.name)
        return Told(
            verdict=_verdict(result),
            cause=result.cause.value if result.cause else None,
            reason=result.reason,
            witness=_example(result.witness),
            tokens=self._depths.generated - before,
            full=depth is self._depths.full,
            directory=folder,
        )

    def expect_new_weights(self, reference: Facts | None) -> None:
        """Hold further checks against what a reference answers now; without one, against the next answers.

        Raises:
            EngineFailedError: the reference raised instead of answering.
        """
        self._new_weights = reference is None
        if reference is not None:
            self._take_baselines(
                reference,
                salt=fresh_salt(),
                of="reference",
                why=OF_A_REFERENCE,
                checksums=self._checksums and reference.tells_checksums,
                only_next=True,
            )

    def close(self) -> None:
        """Nothing more is asked."""
        self._run.finish(interrupted=False)

    def _take_up_new_weights(self, calls: Sequence[NoticedCall]) -> None:
        """Ask under another salt: what old weights left in the prefix cache is no part of the baseline.

        Nor are checksums: weights may come at every step of a loop, and reading all of them is not cheap.
        """
        salt = fresh_salt()
        self._take_baselines(self._facts, salt=salt, after=calls, why=OF_NEW_WEIGHTS)
        self._salt, self._new_weights = salt, False

    def _take_baselines(
        self,
        facts: Facts,
        *,
        salt: str,
        after: Sequence[NoticedCall] | None = None,
        of: Engine = "guarded",
        why: str = OF_ITSELF,
        checksums: bool = False,
        only_next: bool = False,
    ) -> None:
        """Take that of every depth of check, or only what the next check needs; checksums are read once."""
        known: Mapping[str, str] | None = None
        for depth in self._depths.all:
            if only_next and depth is self._depths.full and not self._depths.is_full_due:
                depth.baseline = None
                continue
            depth.baseline = take_baseline(
                depth.asker,
                facts,
                self._run.next_baseline(),
                run=self._run.directory.name,
                salt=salt,
                after=after,
                of=of,
                why=why,
                checksums=known or checksums,
            )
            known = depth.baseline.checksums

    def _history_in(self, folder: Path, depth: Depth) -> History:
        """A history that begins with the baseline.

        Raises:
            AssertionError: none is known.
        """
        if depth.baseline is None:
            raise AssertionError("a check is held against a baseline")
        begin = beginning(
            self._facts,
            run=self._run.directory.name,
            cell=folder.name,
            t=0.0,
            max_tokens=depth.asker.max_tokens,
            concurrency=len(depth.asker.canaries),
            why=f"compared with {depth.baseline.why}",
        )
        return depth.baseline.branch(folder / HISTORY_FILE, begin=begin)

    def _judged(self, depth: Depth, history: History, *, salt: str, compared: bool) -> CellResult:
        try:
            checked = check(
                depth.asker,
                self._facts,
                history,
                salt=salt,
                passes=depth.passes,
                budget=budget_of_check(self._checks),
                compared=compared,
            )
        except EngineFailedError as error:
            t = history.recorder.now()
            failed = CellFailed(t=t, error=type(error).__name__, cause=error.cause, remedy=error.remedy)
            history.recorder.record(failed)
            raise
        finally:
            history.recorder.close()
        if compared:
            self._salt = checked.salt
        return checked.result


def _verdict(result: CellResult) -> str:
    """The verdict of a recording that came to its end: then there is one."""
    return (result.verdict or Verdict.INCONCLUSIVE).value


def _example(witness: Witness | None) -> Example | None:
    if witness is None:
        return None
    return Example(
        prompt=witness.prompt,
        before=witness.baseline.text,
        after=witness.after.text,
        first_difference=witness.first_difference,
        baseline_gap=witness.baseline_gap,
    )
