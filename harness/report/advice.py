"""What to do next, in one line for every verdict, in the words of those who run the server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from harness.check.result import Cause, Lack
from harness.errors import FlagsRefusedError
from harness.history.passes import Control
from harness.report.model import IN_ITS_USERS_PROCESS, CellReport, Report, is_known, worst_first

_RESTART = "restart the server instead of waking it"
_HOLD = "Do not roll this out with sleep"
_FLOAT32 = "float32"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One sentence, and the command that goes with it; empty where there is none."""

    sentence: str
    command: str = ""


def advice(report: Report) -> Advice:
    """What to do about the run: what its worst cell asks for."""
    cells = worst_first(report.cells)
    if not cells:
        sentence = "See which cells there are, and ask for some of them."
        return Advice(sentence=sentence, command="sleepwake run --list")
    worst = cells[0]
    match worst.outcome:
        case "corrupt" | "degraded":
            return _broken(worst, report)
        case "inconclusive":
            return _inconclusive(worst)
        case "interrupted":
            return _carry_on(report, "Nothing is known to be wrong: carry on where it was stopped.")
        case "error":
            return _stopped(worst, report)
    return _clean(report)


def _clean(report: Report) -> Advice:
    if emulated := [name for name in report.emulated if is_known(name)]:
        what = " and ".join(emulated)
        again = f"Run it once more where you serve: here, {what} stood in for the real one."
        return Advice(sentence=f"Nothing to mend. {again}")
    if _is_driven_by_others(report):
        return Advice(sentence="Nothing to mend.")
    return Advice(
        sentence="Nothing to mend. Pin this run, and hold every later one against it.",
        command=f"sleepwake pin {shlex.quote(report.result.run)}",
    )


def _broken(cell: CellReport, report: Report) -> Advice:
    if cell.result.fault:
        return Advice(
            sentence=f"Nothing to mend: {cell.result.fault} was planted on purpose, and was noticed. "
            "Run it again without --fault to judge the engine itself.",
        )
    sentence = _of_degraded(cell) if cell.outcome == "degraded" else _of_corrupt(cell)
    run, name = shlex.quote(report.result.run), shlex.quote(cell.result.cell)
    return Advice(
        sentence=f"{sentence} Then report it to vLLM.", command=f"sleepwake bug-report {run} --cell {name}"
    )


_HEALING: Mapping[Cause, tuple[Control, str]] = {
    Cause.STALE_PREFIX_CACHE: (Control.RESET_PREFIX_CACHE, "call /reset_prefix_cache"),
    Cause.LOST_WEIGHTS: (Control.RELOAD_WEIGHTS, "load the weights again"),
    Cause.ENCODER_CACHE: (Control.RESET_ENCODER_CACHE, "call /reset_mm_cache and /reset_encoder_cache"),
}
"""What an operator can do after a wake-up, and the control that showed whether it helps."""

_INSTEAD: Mapping[Cause, str] = {
    Cause.STALE_PREFIX_CACHE: "serve with --no-enable-prefix-caching",
    Cause.KV_SCALES: "serve with a KV cache that is not quantised",
    Cause.DECODE_PATH: "try --enforce-eager",
    Cause.ADAPTER: "load the adapters again after every wake-up",
    Cause.DRAFT_MODEL: "serve without speculative decoding",
    Cause.KV_CONNECTOR: "serve without the KV connector",
    Cause.SCHEDULER: "let all requests end before the engine sleeps, and send none until it is awake",
}
"""What an operator can do without."""

_BESIDE_ANSWERS: Mapping[Cause, str] = {
    Cause.MEMORY: "do not count on the memory that sleep should free: a second model may not fit.",
    Cause.SPEED: "raise the time-outs of whoever waits for a wake-up, or stay on the release before.",
    Cause.STALE_PREFIX_CACHE: (
        "serve with --no-enable-prefix-caching, or call /reset_prefix_cache after every wake-up, "
        "before they no longer do."
    ),
    Cause.SCHEDULER: "do not let a scheduler act on what this engine says of its own state.",
}


def _of_corrupt(cell: CellReport) -> str:
    cause = cell.result.cause or Cause.UNKNOWN
    instead = _INSTEAD.get(cause, _RESTART)
    healing, call = _HEALING.get(cause, (None, ""))
    if healing is not None and _heals(cell, healing):
        return f"{_HOLD} until it is mended; meanwhile {call} after every wake-up, or {instead}."
    return f"{_HOLD} until it is mended; meanwhile {instead}."


def _of_degraded(cell: CellReport) -> str:
    cause = cell.result.cause or Cause.UNKNOWN
    return f"Answers hold; {_BESIDE_ANSWERS.get(cause, 'read what was found before you roll this out.')}"


def _heals(cell: CellReport, control: Control) -> bool:
    return any(each.control == control and each.asked == each.healed > 0 for each in cell.result.controls)


_SETTLING: Mapping[Lack, tuple[str, str]] = {
    Lack.RELEASE: ("Test a newer vLLM (--vllm VERSION): this release lacks what the scenario needs.", ""),
    Lack.RECORDING: ("Run the cell again: part of its recording is missing.", ""),
    Lack.DAMAGED_LATER: ("Run the cell again on a server of its own.", "--isolate"),
    Lack.TIME: ("Run the cell again while nothing else runs on the machine.", ""),
    Lack.LONE_ANSWER: ("Run the cell again: one odd answer is too little to accuse anything.", "--thorough"),
    Lack.NOISE: (
        "Run the cell again in float32, where a healthy engine always answers the same, or ask more prompts.",
        "--vllm-arg=--dtype=float32",
    ),
    Lack.CACHE: (
        "Run the cell again with prompts that are longer than a block and fit into the KV cache.",
        "",
    ),
    Lack.OTHERS: ("Run the cell again while nobody else uses the server.", ""),
    Lack.SCRIPT: ("Mend the scenario as said above, then run the cell again.", ""),
    Lack.BASELINE: (
        "Look at the engine before it sleeps: it is wrong or unsteady already. Then run the cell again.",
        "",
    ),
    Lack.CRASH: ("Report the traceback in verdict.json to sleepwake: the judgement itself crashed.", ""),
}
"""What settles it, and the option that does so."""

_MORE_PROMPTS = (
    "Run the cell again with more prompts, or start the server in float32, where a healthy engine always "
    "answers the same."
)

_WITHOUT_A_COMMAND = frozenset({Lack.RELEASE, Lack.CRASH})


def _inconclusive(cell: CellReport) -> Advice:
    lacks = cell.result.grounds.lacks if cell.result.grounds else ()
    if not lacks:
        return Advice(sentence="Read what is missing, and run the cell again.", command=cell.reproduce)
    sentence, option = _SETTLING[lacks[0]]
    if lacks[0] in _WITHOUT_A_COMMAND:
        return Advice(sentence=sentence)
    flags = cell.recording.cell.arm_args if cell.recording else ()
    if lacks[0] is Lack.NOISE and any(_FLOAT32 in flag for flag in flags):
        sentence, option = "Run the cell again with one request at a time (concurrency: 1).", ""
    elif lacks[0] is Lack.NOISE and cell.result.runtime == "attached":  # it has the flags it was started with
        sentence, option = _MORE_PROMPTS, ""
    runs_again = cell.reproduce.startswith("sleepwake run")
    return Advice(sentence=sentence, command=f"{cell.reproduce} {option if runs_again else ''}".strip())


def _stopped(cell: CellReport, report: Report) -> Advice:
    remedy = cell.recording.failure.remedy if cell.recording and cell.recording.failure else ""
    remedy = remedy.rstrip(".")
    if cell.result.error == FlagsRefusedError.__name__:
        change = f"Change the flags: {remedy or 'vLLM does not know them'}."
        return Advice(sentence=change, command=cell.reproduce)
    mend = f"The machine got in the way: {remedy}" if remedy else "Mend what stopped the machine"
    return _carry_on(report, f"{mend}. Then carry on.")


def _carry_on(report: Report, sentence: str) -> Advice:
    if _is_driven_by_others(report):
        return Advice(sentence=sentence)
    return Advice(
        sentence=f"{sentence} Cells with a verdict are kept.",
        command=f"sleepwake run --resume {shlex.quote(report.result.run)}",
    )


def _is_driven_by_others(report: Report) -> bool:
    """Whether no command of ours can run the engine again."""
    in_process = any(each.result.runtime == IN_ITS_USERS_PROCESS for each in report.cells)
    return in_process or report.run.watched is not None
