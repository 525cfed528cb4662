"""From a recording to the judgement of its cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.check import (
    bound,
    cache,
    cause,
    divergence,
    memory,
    obstacles,
    protocol,
    repetition,
    state,
    termination,
    witness,
)
from harness.check.comparison import Comparison
from harness.check.evidence import Evidence
from harness.check.result import Cause, CellResult, Finding, Strength, Verdict
from harness.check.wording import counted
from harness.history.recording import Recording

Checker = Callable[[Evidence], tuple[Finding, ...]]

OF_ANSWERS: tuple[Checker, ...] = (protocol.check, divergence.check, repetition.check, termination.check)
"""A proof from one of these means that answers changed."""

OF_THE_ENGINE: tuple[Checker, ...] = (cache.check, state.check, memory.check)
"""A proof from one of these means that the engine did not come back the same although answers hold."""

CAUSE_OF: Mapping[str, Cause] = {
    "cache": Cause.STALE_PREFIX_CACHE,
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
    of_answers = [finding for check in OF_ANSWERS for finding in check(evidence)]
    of_the_engine = [finding for check in OF_THE_ENGINE for finding in check(evidence)]
    unjudged = _unjudged(evidence, (*of_answers, *of_the_engine))
    if proofs := _proofs(of_answers):
        return _corrupt(unjudged, evidence, proofs)
    if recording.failure is not None:
        return unjudged.model_copy(
            update={"error": recording.failure.error, "reason": recording.failure.cause}
        )
    if proofs := _proofs(of_the_engine):
        return _degraded(unjudged, evidence, proofs)
    if reasons := obstacles.find(evidence):
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
    )


def _corrupt(unjudged: CellResult, evidence: Evidence, proofs: Sequence[Finding]) -> CellResult:
    damaged = _damaged(evidence)
    attribution = cause.attribute(evidence, damaged)
    affected = {finding.prompt for finding in proofs}
    asked = {reply.answer.prompt for reply in evidence.after_replies}
    after = ", ".join(dict.fromkeys(state.describe(step) for step in evidence.transitions))
    sentences = [
        f"{len(affected)} of {counted(len(asked), 'prompt')} no longer answered as before ({after})",
        f"{attribution.cause.value}: {attribution.because}" if attribution.because else "",
        _interruption(evidence),
    ]
    return unjudged.model_copy(
        update={
            "verdict": Verdict.CORRUPT,
            "cause": attribution.cause,
            "reason": "; ".join(filter(None, sentences)),
            "witness": witness.choose(evidence, damaged=damaged, proofs=proofs),
            "controls": attribution.controls,
            "ruled_out": attribution.ruled_out,
        }
    )


def _damaged(evidence: Evidence) -> tuple[Comparison, ...]:
    """Judged answers that are not the baseline's; none where noise forbids to say so."""
    return tuple(each for each in evidence.after if not each.identical) if evidence.exact else ()


def _interruption(evidence: Evidence) -> str:
    failure = evidence.recording.failure
    return f"the run then broke off: {failure.error}" if failure else ""


def _degraded(unjudged: CellResult, evidence: Evidence, proofs: Sequence[Finding]) -> CellResult:
    return unjudged.model_copy(
        update={
            "verdict": Verdict.DEGRADED,
            "cause": CAUSE_OF[proofs[0].checker],
            "reason": "; ".join((*_summary(proofs), *obstacles.find(evidence))),
            "witness": witness.choose(evidence, damaged=(), proofs=proofs),
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
    prompts = {comparison.prompt.id for comparison in evidence.after}
    passes = {comparison.reply.start.number for comparison in evidence.after}
    limit = bound.rule_out(prompts=len(prompts), passes=len(passes))
    return unjudged.model_copy(
        update={
            "verdict": Verdict.CLEAN,
            "reason": f"all {counted(len(evidence.after), 'answer')} equal the baseline; {limit.statement}",
            "bound": limit,
        }
    )
