"""From a recording to the judgement of its cell, and from those of its cells to that of a run.

A verdict may be certain before the script has come to its end.  Why looking early costs no error rate: the
only recordings that are decided early are *quiet* ones, where nothing differed before the transition beyond
the order of float32 additions.  There a difference is a proof by itself; no statistic is compared with a
threshold, so there is no alpha that a second look could spend.  A proof stays in the recording whatever is
recorded after it, and corrupt is the worst verdict: going on could not change it.  Where noise has to be told
from damage, nothing is decided early.

The driver leaves out further cycles of a repetition only, so that everything the script does has been
done once and every control question has been asked.  What a later cycle alone would show (memory that leaks,
steps that become slower) is not looked for in an engine whose answers are known to be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.check import others
from harness.check.answer_pair import AnswerPair
from harness.check.checkers import CHECKERS, About, Checker, kinds, speed
from harness.check.crashes import Attempts
from harness.check.diagnosis import cause, inconclusive, witness_choice
from harness.check.diagnosis.cause import Attribution
from harness.check.diagnosis.inconclusive import Obstacle
from harness.check.evidence import Evidence
from harness.check.noise import limits
from harness.check.noise.budget import OF_ONE_CELL, ErrorBudget, told
from harness.check.result import (
    Cause,
    CellResult,
    Finding,
    Grounds,
    Lack,
    RunResult,
    Strength,
    Verdict,
    Witness,
)
from harness.check.wording import counted, describe
from harness.errors import ExitCode, FlagsRefusedError
from harness.history.recording import Recording
from harness.history.time_parts import TimeSpent

NO_TIME = TimeSpent()
WORST_FIRST = (Verdict.CORRUPT, Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CLEAN)


def judge(recording: Recording, *, budget: ErrorBudget = OF_ONE_CELL) -> CellResult:
    """Judge one cell, whose run may spend ``budget`` on false alarms.

    Corruption that was proven stays proven even if the machine got in the way later;
    otherwise a failed cell has no verdict.
    """
    return _Judgement(Evidence(recording, budget=budget)).result()


class _Judgement:
    """The verdict on one cell: a fold over what the checkers find."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._attempts = Attempts()
        self._found = {checker: self._findings(checker) for checker in CHECKERS}
        self._floor = self._attempts.attempt("the measure of noise", lambda: evidence.floor, otherwise=None)

    def result(self) -> CellResult:
        """Give the verdict, with what crashed on the way to it."""
        return self._attempts.told_in(self._judged())

    def _judged(self) -> CellResult:
        failure = self._evidence.recording.failure
        if proofs := self._proofs(About.ANSWERS):
            return self._corrupt(proofs)
        if failure is not None:
            return self._with(verdict=None, error=failure.error, reason=failure.cause)
        if proofs := self._proofs(About.REQUESTS):
            return self._broken(Verdict.CORRUPT, proofs)
        proofs, crashed = self._proofs(About.ENGINE), self._crashed()
        if proofs and crashed <= {About.ENGINE}:
            return self._broken(Verdict.DEGRADED, proofs)
        # Who would have told of answers crashed: degraded says that they hold.
        obstacles = self._obstacles()
        reasons = (*_summary(proofs), *(each.sentence for each in obstacles))
        if not reasons and not self._attempts.crashes:
            clean = self._attempts.attempt("the bound of a clean verdict", self._clean, otherwise=None)
            if clean is not None:
                return clean
        lacks = tuple(dict.fromkeys(each.lack for each in obstacles))
        return self._with(
            verdict=Verdict.INCONCLUSIVE,
            reason="; ".join(reasons),
            grounds=Grounds(what=reasons[0], further=reasons[1:], lacks=lacks) if reasons else None,
        )

    def _corrupt(self, proofs: Sequence[Finding]) -> CellResult:
        evidence = self._evidence
        attribution = self._attempts.attempt(
            "the attribution of a cause",
            partial(cause.attribute, evidence),
            otherwise=Attribution(cause=Cause.UNKNOWN, because=()),
        )
        unknown: tuple[AnswerPair, ...] = ()
        damaged = self._attempts.attempt(
            "the search for damaged answers", lambda: evidence.damaged, otherwise=unknown
        )
        failure = evidence.recording.failure
        nothing_odd: tuple[str, ...] = ()
        before = self._attempts.attempt(
            "the baseline held against itself",
            lambda: tuple(each.sentence for each in evidence.disagreements),
            otherwise=nothing_odd,
        )
        headline = self._attempts.attempt(
            "the headline", partial(_headline, evidence, damaged, proofs), otherwise=proofs[0].message
        )
        further = (
            *(f"and {other.value}: {'; '.join(because)}" for other, because in attribution.others),
            *before,
            *([f"the run then stopped: {failure.error}"] if failure else ()),
        )
        sentences = (
            headline,
            f"{attribution.cause.value}: {'; '.join(attribution.because)}" if attribution.because else "",
            *further,
        )
        return self._with(
            verdict=Verdict.CORRUPT,
            cause=attribution.cause,
            other_causes=tuple(other for other, _ in attribution.others),
            reason="; ".join(filter(None, sentences)),
            grounds=Grounds(what=headline, because=attribution.because, further=further),
            witness=self._witness(damaged, proofs),
            controls=attribution.controls,
            ruled_out=attribution.ruled_out,
        )

    def _broken(self, verdict: Verdict, proofs: Sequence[Finding]) -> CellResult:
        """Every probe was answered as before: what is broken is not what computes answers."""
        sentences = (*_summary(proofs), *(each.sentence for each in self._obstacles()))
        return self._with(
            verdict=verdict,
            cause=next(checker.cause for checker, found in self._found.items() if proofs[0] in (found or ())),
            reason="; ".join(sentences),
            grounds=Grounds(what=sentences[0], further=sentences[1:]),
            witness=self._witness((), proofs),
        )

    def _clean(self) -> CellResult:
        after, calibration = self._evidence.after, self._evidence.calibration
        same = all(pair.identical for pair in after)
        limit = limits.rule_out(
            prompts=len({pair.prompt.id for pair in after}),
            requests=len(after),
            passes=len({pair.reply.start.number for pair in after}),
            alone=calibration.gross_limit if calibration and not same else None,
            together=calibration.smallest_shift if calibration and not same else None,
        )
        said = (
            f"all {counted(len(after), 'answer')} {_how_equal(after)}",
            kinds.told(self._evidence),
            limit.statement,
        )
        return self._with(
            verdict=Verdict.CLEAN,
            reason="; ".join(filter(None, said)),
            bound=limit,
        )

    def _findings(self, checker: Checker) -> tuple[Finding, ...] | None:
        """What a checker finds; None where it crashes."""

        def find() -> tuple[Finding, ...]:
            return others.without_ground(tuple(checker.find(self._evidence)), self._evidence.recording)

        return self._attempts.attempt(f"the checker {checker.name}", find, otherwise=None)

    def _proofs(self, about: About) -> list[Finding]:
        return [
            finding
            for checker, findings in self._found.items()
            if checker.about is about
            for finding in findings or ()
            if finding.strength is Strength.PROOF
        ]

    def _crashed(self) -> set[About]:
        """What checkers that crashed would have told about."""
        return {checker.about for checker, findings in self._found.items() if findings is None}

    def _obstacles(self) -> tuple[Obstacle, ...]:
        find = partial(inconclusive.find, self._evidence)
        lacking: tuple[Obstacle, ...] = self._attempts.attempt(
            "the search for what a verdict lacks", find, otherwise=()
        )
        disturbed = self._attempts.attempt("the look at requests of others", self._disturbed, otherwise=None)
        return (*lacking, Obstacle(Lack.OTHERS, disturbed)) if disturbed else lacking

    def _disturbed(self) -> str | None:
        return others.obstacle(self._evidence.recording, disturbed=self._rests_on_measures())

    def _rests_on_measures(self) -> bool:
        """Whether something was found that others may have caused, or answers differ as noise does."""
        found = (finding for findings in self._found.values() for finding in findings or ())
        if others.is_watched(self._evidence.recording):
            return any(map(others.is_common, found))
        calibration = self._evidence.calibration
        return any(map(others.disturbs, found)) or not (calibration is None or calibration.quiet)

    def _witness(self, damaged: Sequence[AnswerPair], proofs: Sequence[Finding]) -> Witness | None:
        choose = partial(witness_choice.choose, self._evidence, damaged=damaged, proofs=proofs)
        return self._attempts.attempt("the choice of a witness", choose, otherwise=None)

    def _with(self, **said: object) -> CellResult:
        """What is said of the cell, beside what is known of it anyway."""
        recording = self._evidence.recording
        unjudged = CellResult(
            cell=recording.cell.cell,
            scenario=recording.cell.scenario,
            arm=recording.cell.arm,
            verdict=None,
            reason="",
            findings=tuple(finding for findings in self._found.values() for finding in findings or ()),
            noise=self._floor,
            vllm_version=recording.server.vllm_version if recording.server else None,
            runtime=recording.server.runtime if recording.server else None,
            emulated=recording.server.emulated if recording.server else (),
            fault=recording.cell.fault,
            skipped=recording.skipped,
            speed=self._attempts.attempt(
                "the remark on speed", partial(speed.told, self._evidence), otherwise=""
            ),
            milliseconds=recording.time_spent,
        )
        return unjudged.model_copy(update=said)


def _headline(evidence: Evidence, damaged: Sequence[AnswerPair], proofs: Sequence[Finding]) -> str:
    """How many of the prompts are affected; what the first proof says where none is."""
    affected = {pair.prompt.id for pair in damaged} | {proof.prompt for proof in proofs if proof.prompt}
    if not affected:
        return proofs[0].message
    asked = {reply.answer.prompt for reply in evidence.after_replies}
    after = ", ".join(dict.fromkeys(describe(step) for step in evidence.transitions))
    return f"answers to {len(affected)} of {counted(len(asked), 'prompt')} changed ({after})"


def _summary(proofs: Sequence[Finding]) -> list[str]:
    """The first finding of each checker, with how many more there are."""
    of: dict[str, list[Finding]] = {}
    for proof in proofs:
        of.setdefault(proof.checker, []).append(proof)
    return [
        found[0].message + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
        for found in of.values()
    ]


def _how_equal(after: Sequence[AnswerPair]) -> str:
    if all(pair.identical for pair in after):
        return "equal the baseline"
    if all(pair.same_tokens for pair in after):
        return "have the baseline's tokens, and log-probabilities that differ no more than noise explains"
    return "differ from the baseline no more than noise explains"


def judge_run(
    results: Sequence[CellResult],
    *,
    run: str,
    budget: ErrorBudget = OF_ONE_CELL,
    outside_cells: TimeSpent = NO_TIME,
) -> RunResult:
    """Gather the judgements of the cells of ``run``: its verdict is the worst of theirs.

    ``budget`` is what each was judged with, and ``outside_cells`` what the run's time was spent on besides
    its cells.
    """
    verdicts = {result.verdict for result in results}
    worst = next((verdict for verdict in WORST_FIRST if verdict in verdicts), None)
    return RunResult(
        run=run,
        # Clean is said of all cells or not at all.
        verdict=None if worst is Verdict.CLEAN and None in verdicts else worst,
        exit_code=_exit_code(results),
        cells=tuple(results),
        false_alarms=told(budget),
        milliseconds=sum((result.milliseconds for result in results), start=outside_cells),
    )


def _exit_code(results: Sequence[CellResult]) -> ExitCode:
    verdicts = {result.verdict for result in results}
    if verdicts & {Verdict.CORRUPT, Verdict.DEGRADED}:
        return ExitCode.CORRUPT_OR_DEGRADED
    if errors := {result.error for result in results} - {None}:
        # The user's own mistake; with any other in between the machine has to be looked at first.
        return ExitCode.USAGE if errors == {FlagsRefusedError.__name__} else ExitCode.INFRASTRUCTURE
    # A run without any cell has shown nothing either.
    if verdicts == {Verdict.CLEAN}:
        return ExitCode.CLEAN
    return ExitCode.INCONCLUSIVE


def noise_is_known(recording: Recording) -> bool:
    """Whether ``recording`` holds as many null answers as their differences call for."""
    calibration = Evidence(recording).calibration
    return calibration is not None and calibration.knows_noise


def decided(recording: Recording) -> bool:
    """Whether ``recording``, as far as it goes, proves corruption and names its cause."""
    result = judge(recording)
    if result.verdict is not Verdict.CORRUPT or result.cause in {None, Cause.INTERMITTENT, Cause.UNKNOWN}:
        return False
    calibration = Evidence(recording).calibration
    return calibration is not None and calibration.quiet
