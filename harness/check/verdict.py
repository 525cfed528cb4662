"""From a recording to the judgement of its cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.check import (
    adapters,
    bound,
    cache,
    cause,
    conservation,
    drafts,
    leftovers,
    memory,
    obstacles,
    slowing,
    speed,
    state,
    witness,
)
from harness.check.case import Case
from harness.check.comparison import Comparison
from harness.check.evidence import Evidence
from harness.check.result import Cause, CellResult, Finding, Strength, Verdict
from harness.check.wording import counted
from harness.history.recording import Recording

OF_THE_ENGINE: tuple[Callable[[Evidence], tuple[Finding, ...]], ...] = (
    cache.check,
    drafts.check,
    state.check,
    memory.check,
    leftovers.check,
    speed.check,
    slowing.check,
)
"""A proof from one of these means that the engine did not come back the same although answers hold."""

CAUSE_OF: Mapping[str, Cause] = {
    "cache": Cause.STALE_PREFIX_CACHE,
    "drafts": Cause.DRAFT_MODEL,
    "state": Cause.SCHEDULER,
    "memory": Cause.MEMORY,
    "speed": Cause.SPEED,
}
"""What a checker of the engine's state is about, where no answer changed."""


def judge(recording: Recording) -> CellResult:
    """Judge one cell.

    Corruption that was proven stays proven even if the machine got in the way later;
    otherwise a failed cell has no verdict.
    """
    evidence = Evidence(recording)
    case = Case(evidence)
    of_answers = (*case.findings(), *adapters.check(evidence))
    of_requests = conservation.check(evidence)
    of_the_engine = [finding for check in OF_THE_ENGINE for finding in check(evidence)]
    unjudged = _unjudged(evidence, (*of_answers, *of_requests, *of_the_engine))
    if proofs := _proofs(of_answers):
        return _corrupt(unjudged, case, proofs)
    if recording.failure is not None:
        return unjudged.model_copy(
            update={"error": recording.failure.error, "reason": recording.failure.cause}
        )
    if proofs := _proofs(of_requests):
        return _lost_requests(unjudged, case, proofs)
    if proofs := _proofs(of_the_engine):
        return _degraded(unjudged, case, proofs)
    if reasons := obstacles.find(case):
        return unjudged.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": "; ".join(reasons)})
    return _clean(unjudged, case)


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


def _corrupt(unjudged: CellResult, case: Case, proofs: Sequence[Finding]) -> CellResult:
    evidence = case.evidence
    attribution = cause.attribute(case)
    affected = {each.prompt.id for each in case.damaged} | {proof.prompt for proof in proofs if proof.prompt}
    asked = {reply.answer.prompt for reply in evidence.after_replies}
    after = ", ".join(dict.fromkeys(state.describe(step) for step in evidence.transitions))
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
            "witness": witness.choose(evidence, damaged=case.damaged, proofs=proofs),
            "controls": attribution.controls,
            "ruled_out": attribution.ruled_out,
        }
    )


def _interruption(evidence: Evidence) -> str:
    failure = evidence.recording.failure
    return f"the run then broke off: {failure.error}" if failure else ""


def _lost_requests(unjudged: CellResult, case: Case, proofs: Sequence[Finding]) -> CellResult:
    """Every probe was answered as before: it is what carries requests that broke, not what computes them."""
    return unjudged.model_copy(
        update={
            "verdict": Verdict.CORRUPT,
            "cause": Cause.SCHEDULER,
            "reason": "; ".join((*_summary(proofs), *obstacles.find(case))),
            "witness": witness.choose(case.evidence, damaged=(), proofs=proofs),
        }
    )


def _degraded(unjudged: CellResult, case: Case, proofs: Sequence[Finding]) -> CellResult:
    return unjudged.model_copy(
        update={
            "verdict": Verdict.DEGRADED,
            "cause": CAUSE_OF[proofs[0].checker],
            "reason": "; ".join((*_summary(proofs), *obstacles.find(case))),
            "witness": witness.choose(case.evidence, damaged=(), proofs=proofs),
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


def _clean(unjudged: CellResult, case: Case) -> CellResult:
    after, calibration = case.evidence.after, case.calibration
    same = all(comparison.identical for comparison in after)
    limit = bound.rule_out(
        prompts=len({comparison.prompt.id for comparison in after}),
        passes=len({comparison.reply.start.number for comparison in after}),
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


def _how_equal(after: Sequence[Comparison]) -> str:
    if all(comparison.identical for comparison in after):
        return "equal the baseline"
    if all(comparison.same_tokens for comparison in after):
        return "have the baseline's tokens, their log-probabilities differ no more than noise explains"
    return "differ from the baseline no more than noise explains"
