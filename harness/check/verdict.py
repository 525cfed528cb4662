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

from collections.abc import Mapping, Sequence

from harness.check.answer_pair import AnswerPair
from harness.check.checkers import (
    cache,
    changed_answers,
    conservation,
    drafts,
    memory_use,
    protocol,
    speed,
    state,
    unchanged_answers,
)
from harness.check.diagnosis import cause, inconclusive, witness_choice
from harness.check.evidence import Evidence
from harness.check.noise import limits
from harness.check.result import Cause, CellResult, Finding, RunResult, Strength, Verdict
from harness.check.wording import counted, describe
from harness.errors import ExitCode
from harness.history.recording import Recording
from harness.history.time_spent import TimeSpent

OF_ANSWERS = (
    protocol.check,
    changed_answers.beyond_noise,
    changed_answers.divergence,
    changed_answers.repetition,
    changed_answers.termination,
    unchanged_answers.check,
)
"""A proof from one of these means that answers changed."""

OF_THE_ENGINE = (cache.check, drafts.check, state.check, memory_use.check, speed.check)
"""A proof from one of these means that the engine did not come back the same although answers hold."""

CAUSE_OF: Mapping[str, Cause] = {
    "cache": Cause.STALE_PREFIX_CACHE,
    "drafts": Cause.DRAFT_MODEL,
    "state": Cause.SCHEDULER,
    "memory": Cause.MEMORY,
    "speed": Cause.SPEED,
}
"""What a checker of the engine's state is about, where no answer changed."""

NO_TIME = TimeSpent()
WORST_FIRST = (Verdict.CORRUPT, Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CLEAN)


def judge(recording: Recording) -> CellResult:
    """Judge one cell.

    Corruption that was proven stays proven even if the machine got in the way later;
    otherwise a failed cell has no verdict.
    """
    evidence = Evidence(recording)
    of_answers = [finding for check in OF_ANSWERS for finding in check(evidence)]
    of_requests = conservation.check(evidence)
    of_the_engine = [finding for check in OF_THE_ENGINE for finding in check(evidence)]
    unjudged = _unjudged(evidence, (*of_answers, *of_requests, *of_the_engine))
    if proofs := _proofs(of_answers):
        return _corrupt(unjudged, evidence, proofs)
    if recording.failure is not None:
        return unjudged.model_copy(
            update={"error": recording.failure.error, "reason": recording.failure.cause}
        )
    if proofs := _proofs(of_requests):
        return _lost_requests(unjudged, evidence, proofs)
    if proofs := _proofs(of_the_engine):
        return _degraded(unjudged, evidence, proofs)
    if reasons := inconclusive.find(evidence):
        return unjudged.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": "; ".join(reasons)})
    return _clean(unjudged, evidence)


def _proofs(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.strength is Strength.PROOF]


def _unjudged(evidence: Evidence, findings: tuple[Finding, ...]) -> CellResult:
    recording = evidence.recording
    return CellResult(
        cell=recording.cell.cell,
        scenario=recording.cell.scenario,
        arm=recording.cell.arm,
        verdict=None,
        reason="",
        findings=findings,
        noise=evidence.floor,
        vllm_version=recording.server.vllm_version if recording.server else None,
        runtime=recording.server.runtime if recording.server else None,
        emulated=recording.server.emulated if recording.server else (),
        fault=recording.cell.fault,
        skipped=recording.skipped,
        milliseconds=recording.time_spent,
    )


def _corrupt(unjudged: CellResult, evidence: Evidence, proofs: Sequence[Finding]) -> CellResult:
    attribution = cause.attribute(evidence)
    affected = {each.prompt.id for each in evidence.damaged} | {
        proof.prompt for proof in proofs if proof.prompt
    }
    asked = {reply.answer.prompt for reply in evidence.after_replies}
    after = ", ".join(dict.fromkeys(describe(step) for step in evidence.transitions))
    sentences = [
        f"{len(affected)} of {counted(len(asked), 'prompt')} no longer answered as before ({after})"
        if affected
        else proofs[0].message,
        f"{attribution.cause.value}: {attribution.because}" if attribution.because else "",
        _interruption(evidence),
    ]
    return unjudged.model_copy(
        update={
            "verdict": Verdict.CORRUPT,
            "cause": attribution.cause,
            "reason": "; ".join(filter(None, sentences)),
            "witness": witness_choice.choose(evidence, damaged=evidence.damaged, proofs=proofs),
            "controls": attribution.controls,
            "ruled_out": attribution.ruled_out,
        }
    )


def _interruption(evidence: Evidence) -> str:
    failure = evidence.recording.failure
    return f"the run then broke off: {failure.error}" if failure else ""


def _lost_requests(unjudged: CellResult, evidence: Evidence, proofs: Sequence[Finding]) -> CellResult:
    """Every probe was answered as before: it is what carries requests that broke, not what computes them."""
    return unjudged.model_copy(
        update={
            "verdict": Verdict.CORRUPT,
            "cause": Cause.SCHEDULER,
            "reason": "; ".join((*_summary(proofs), *inconclusive.find(evidence))),
            "witness": witness_choice.choose(evidence, damaged=(), proofs=proofs),
        }
    )


def _degraded(unjudged: CellResult, evidence: Evidence, proofs: Sequence[Finding]) -> CellResult:
    return unjudged.model_copy(
        update={
            "verdict": Verdict.DEGRADED,
            "cause": CAUSE_OF[proofs[0].checker],
            "reason": "; ".join((*_summary(proofs), *inconclusive.find(evidence))),
            "witness": witness_choice.choose(evidence, damaged=(), proofs=proofs),
        }
    )


def _summary(proofs: Sequence[Finding]) -> list[str]:
    """The first finding of each checker, with how many more there are."""
    of: dict[str, list[Finding]] = {}
    for proof in proofs:
        of.setdefault(proof.checker, []).append(proof)
    return [
        found[0].message + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
        for found in of.values()
    ]


def _clean(unjudged: CellResult, evidence: Evidence) -> CellResult:
    after, calibration = evidence.after, evidence.calibration
    same = all(pair.identical for pair in after)
    limit = limits.rule_out(
        prompts=len({pair.prompt.id for pair in after}),
        passes=len({pair.reply.start.number for pair in after}),
        alone=calibration.gross_limit if calibration and not same else None,
        together=calibration.smallest_shift if calibration and not same else None,
    )
    return unjudged.model_copy(
        update={
            "verdict": Verdict.CLEAN,
            "reason": f"all {counted(len(after), 'answer')} {_how_equal(after)}; {limit.statement}",
            "bound": limit,
        }
    )


def _how_equal(after: Sequence[AnswerPair]) -> str:
    if all(pair.identical for pair in after):
        return "equal the baseline"
    if all(pair.same_tokens for pair in after):
        return "have the baseline's tokens, their log-probabilities differ no more than noise explains"
    return "differ from the baseline no more than noise explains"


def judge_run(results: Sequence[CellResult], *, run: str, outside_cells: TimeSpent = NO_TIME) -> RunResult:
    """Gather the judgements of the cells of ``run``: its verdict is the worst of theirs.

    ``outside_cells`` is what the run's time was spent on besides its cells.
    """
    verdicts = {result.verdict for result in results}
    return RunResult(
        run=run,
        verdict=next((verdict for verdict in WORST_FIRST if verdict in verdicts), None),
        exit_code=_exit_code(results),
        cells=tuple(results),
        milliseconds=sum((result.milliseconds for result in results), start=outside_cells),
    )


def _exit_code(results: Sequence[CellResult]) -> ExitCode:
    verdicts = {result.verdict for result in results}
    if verdicts & {Verdict.CORRUPT, Verdict.DEGRADED}:
        return ExitCode.CORRUPT_OR_DEGRADED
    if any(result.error is not None for result in results):
        return ExitCode.INFRASTRUCTURE
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
    if result.verdict is not Verdict.CORRUPT or result.cause in {None, Cause.UNKNOWN}:
        return False
    calibration = Evidence(recording).calibration
    return calibration is not None and calibration.quiet
