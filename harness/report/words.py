"""The sentences every format shares: verdict, bound, what was compared, what was emulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from harness.check.result import Bound, Cause, ControlOutcome, Finding, NoiseFloor, Strength
from harness.check.wording import describe, manner, overlaps, set_options
from harness.errors import FlagsRefusedError
from harness.history.observations import StepStarted
from harness.history.passes import Control, Method, Role
from harness.history.recording import Recording
from harness.report.model import SEVERITY, CellReport, Report, worst_first
from harness.report.text import count, one_line, pairs, percent, seconds

SYMBOLS = {
    "clean": "✓",
    "corrupt": "✗",
    "degraded": "▼",
    "inconclusive": "?",
    "error": "!",
    "interrupted": "■",
}


def run_outcome(report: Report) -> str:
    """The verdict of the run in one word.

    Where no cell has one, or only clean cells have: ``error``, or ``interrupted`` if nothing else happened.
    """
    if report.result.verdict:
        return report.result.verdict.value
    stopped = {cell.outcome for cell in report.cells} - {"clean"}
    return "interrupted" if stopped == {"interrupted"} else "error"


def headline(report: Report) -> str:
    """Say in one or two sentences what the run found."""
    total = len(report.cells)
    tally = Counter(cell.outcome for cell in report.cells)
    if not total:
        return "No cell was run."
    if tally["clean"] == total:
        everywhere = "The cell is" if total == 1 else f"All {total} cells are"
        same = "the model that woke up is the model that fell asleep"
        bounds = [cell.result.bound for cell in report.cells if cell.result.bound]
        if not bounds:
            return f"{everywhere} clean: {same}."
        strongest = min(bounds, key=lambda bound: bound.affected_prompts_below)
        return f"{everywhere} clean: {same} ({short_bound(strongest)})."
    worst, *others = [
        _tally(report, outcome, number=tally[outcome]) for outcome in SEVERITY if tally[outcome]
    ]
    if total == 1:
        return f"The cell {worst.removeprefix('1 ')}."
    first = worst.replace(" ", f" of {total} cells ", 1)
    return f"{first}; {_join(others)}." if others else f"{first}."


def _tally(report: Report, outcome: str, *, number: int) -> str:
    if outcome == "interrupted":
        begun = all(cell.recording for cell in report.cells if cell.outcome == outcome)
        was = "was" if number == 1 else "were"
        return f"{number} {was} interrupted by you" + ("" if begun else ", or not begun by then")
    if outcome == "error":
        problems = dict.fromkeys(_problem(cell) for cell in report.cells if cell.outcome == outcome)
        return f"{number} {'has' if number == 1 else 'have'} no verdict ({', '.join(problems)})"
    causes = dict.fromkeys(cause_of(cell) for cell in report.cells if cell.outcome == outcome)
    named = ", ".join(filter(None, causes))
    return f"{number} {'is' if number == 1 else 'are'} {outcome}" + (f" ({named})" if named else "")


def _problem(cell: CellReport) -> str:
    refused = cell.result.error == FlagsRefusedError.__name__
    return "flags that vLLM refuses" if refused else "infrastructure problems"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def lead(report: Report) -> str:
    """What to read after the headline: what the worst cell showed, or what a clean run could still hide.

    The cell that compared most says it: one that asks four prompts, to look at something else, hides more,
    but the run as a whole does not.  Where some engines answer with noise and others without there are two.
    """
    broken = [cell for cell in report.cells if cell.outcome != "clean"]
    if broken:
        worst = worst_first(broken)[0]
        if worst.outcome == "interrupted":
            return ""
        what = what_was_found(worst)
        return what if len(report.cells) == 1 else f"{worst.title}: {what}"
    hidden = "; ".join(_strongest_bounds(report))
    return f"What could still be hidden: {hidden}." if hidden else ""


def most_telling(order: Sequence[CellReport]) -> CellReport:
    """Of cells that begin with the worst, the one to show: that one, or of clean ones what hides least."""
    bounds = [cell for cell in order if cell.result.bound]
    if order[0].outcome != "clean" or not bounds:
        return order[0]
    return min(
        bounds, key=lambda cell: cell.result.bound.affected_prompts_below if cell.result.bound else 1.0
    )


def what_was_found(cell: CellReport) -> str:
    """What was found, without why; in verdicts of older versions the whole reason."""
    return cell.result.grounds.what if cell.result.grounds else cell.result.reason


def _strongest_bounds(report: Report) -> Iterator[str]:
    """The statement of the strictest bound of each kind, without noise and with it, and whose it is."""
    for noisy in (False, True):
        kind = [
            (bound.affected_prompts_below, bound.statement, cell.title)
            for cell in report.cells
            if (bound := cell.result.bound) and (bound.smallest_single_shift is not None) is noisy
        ]
        if kind:
            _, statement, title = min(kind)
            yield statement if len(report.cells) == 1 else f"{statement}, in {one_line(title)}"


def false_alarms(report: Report) -> str:
    """How often chance alone makes such a verdict; empty where it is not known."""
    return report.result.false_alarms.statement if report.result.false_alarms else ""


def run_facts(report: Report) -> list[str]:
    """What was run, as short facts: versions, runtimes, when and for how long."""
    versions = dict.fromkeys(cell.result.vllm_version for cell in report.cells if cell.result.vllm_version)
    runtimes = dict.fromkeys(cell.result.runtime for cell in report.cells if cell.result.runtime)
    starts = [cell.recording.cell.started_at for cell in report.cells if cell.recording]
    facts = [f"vLLM {version}" for version in versions] + [f"runtime {runtime}" for runtime in runtimes]
    facts.append(
        f"{count(len(report.cells), 'cell')} in {seconds(sum(cell.seconds for cell in report.cells))}"
    )
    if unsealed := len(report.result.unsealed):
        facts.append(f"{count(unsealed, 'history')} without digests: a change since is not noticed")
    if starts:
        facts.append(f"started {min(starts).replace('T', ' ')}")
    return facts


def cause_of(cell: CellReport) -> str:
    """The cause in a word or two; empty where there is none."""
    causes = (cell.result.cause, *cell.result.other_causes)
    return " and ".join(filter(None, map(cause_words, causes)))


def outcome_of(cell: CellReport) -> str:
    """The verdict in one word, with its cause where it has one: ``corrupt (stale prefix cache)``."""
    cause = cause_of(cell)
    return f"{cell.outcome} ({cause})" if cause else cell.outcome


def cause_words(cause: Cause | None) -> str:
    """The same of a cause, so that it can stand alone behind a verdict."""
    if cause is None:
        return ""
    return "cause unknown" if cause is Cause.UNKNOWN else cause.value


def short_bound(bound: Bound | None) -> str:
    """What a clean verdict does not exclude, as short as a table wants it."""
    if bound is None:
        return ""
    return f"affected prompts < {percent(bound.affected_prompts_below)} at {bound.confidence:.0%}"


def tile(cell: CellReport) -> str:
    """What a cell's field in the matrix says under its verdict."""
    instead = {"error": "no verdict", "interrupted": "by you", "inconclusive": "cannot tell"}.get(
        cell.outcome, ""
    )
    return cause_of(cell) or short_bound(cell.result.bound) or instead


def noise_sentence(noise: NoiseFloor | None) -> str:
    """What the null transition showed."""
    if noise is None:
        return "not measured"
    if noise.exact:
        compared = count(noise.compared, "answer")
        return f"exactly zero: {compared} were the same, bit for bit, when nothing had happened"
    reworded = f"{noise.reworded or 'none'} of {count(noise.compared, 'answer')}"
    sentence = f"{reworded} had different tokens or a different ending when nothing had happened"
    if noise.largest_logprob_shift is not None:
        sentence += f"; log-probabilities shifted by up to {noise.largest_logprob_shift:.3g} nat"
    return sentence


_CONTROLS = {
    Control.ASKED_AGAIN: "same prompt, asked again as it was",
    Control.FRESH_SALT: "same prompts, nothing from the prefix cache",
    Control.UNSEEN_PROMPTS: "held-out prompts, asked only in the baseline",
    Control.BASE_MODEL: "same prompts, asked of the base model",
    Control.RESET_PREFIX_CACHE: "same prompts after /reset_prefix_cache",
    Control.RESET_ENCODER_CACHE: "same pictures after /reset_mm_cache and /reset_encoder_cache",
    Control.RELOAD_WEIGHTS: "same prompts after the weights were loaded again",
}


def control_words(outcome: ControlOutcome) -> str:
    """What a control asked, in words."""
    asked = next((words for control, words in _CONTROLS.items() if control == outcome.control), None)
    return asked or one_line(outcome.control)


def control_result(outcome: ControlOutcome) -> str:
    """What a control showed."""
    note = f" ({one_line(outcome.note)})" if outcome.note else ""
    return f"{outcome.healed} of {outcome.asked} as in the baseline{note}"


def finding_line(finding: Finding) -> str:
    """One finding on one line, with where it was seen unless its message says so itself."""
    seen = (
        f"prompt {finding.prompt}" if finding.prompt and finding.prompt not in finding.message else "",
        f"cycle {finding.cycle}" if finding.cycle and f"cycle {finding.cycle}" not in finding.message else "",
    )
    place = one_line(", ".join(filter(None, seen)))
    hint = " (hint)" if finding.strength is Strength.HINT else ""
    return f"{finding.checker}{hint}: {one_line(finding.message)}" + (f" [{place}]" if place else "")


@dataclass(frozen=True)
class FindingGroup:
    """The findings of one checker and strength, in the order they were found."""

    checker: str
    strength: Strength
    findings: tuple[Finding, ...]


def grouped(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Group findings by checker, proofs before hints."""
    groups: dict[tuple[Strength, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.strength, finding.checker), []).append(finding)
    ordered = sorted(groups.items(), key=lambda group: group[0][0] is not Strength.PROOF)
    return [FindingGroup(checker, strength, tuple(found)) for (strength, checker), found in ordered]


def comparison_sentence(recording: Recording) -> str:
    """Say what was compared with what in this cell."""
    prompts = len([prompt for prompt in recording.prompts.values() if not prompt.held_out])
    if not prompts:
        return "Nothing was compared: the server never answered a prompt."
    after = list(recording.passes_of(Role.AFTER))
    transitions = transition_words(recording)
    manners = dict.fromkeys(manner(each.start) for each in after)
    cycles = len({each.start.cycle for each in after})
    asked = f"{count(prompts, 'prompt')} answered before and after {transitions or 'no transition'}"
    if not after:
        return f"{asked}; the recording ends before any answer could be compared."
    return (
        f"{asked}, over {count(cycles, 'cycle')}; token for token, "
        f"{', '.join(f'{name} with {name}' for name in manners)}."
    )


_METHODS = {
    Method.SCORED: "Scored: the baseline's own tokens, given a log-probability each in one prefill, "
    "which reads no prefix cache.",
    Method.FORCED: "Forced: the baseline's own tokens, decoded one by one, even where others were likelier.",
    Method.SAMPLED: "Sampled: at temperature 1 with a fixed seed.",
}


def method_sentences(recording: Recording) -> list[str]:
    """Say how answers came about that were not generated as the scenario's sampling says."""
    used = {each.start.method for each in recording.passes}
    return [sentence for method, sentence in _METHODS.items() if method in used]


def transition_words(recording: Recording) -> str:
    """The transitions of one cycle in their order, for example ``sleep (level 1), wake_up``."""
    cycles = sorted({step.cycle for step in recording.steps if step.cycle > 0})
    first = cycles[0] if cycles else 0
    words = [
        describe(step) if overlaps(step) else _with_options(step.action, set_options(step.options))
        for step in recording.steps
        if step.cycle == first and step.changes_engine
    ]
    return ", ".join(dict.fromkeys(words))


def step_words(step: StepStarted) -> str:
    """A step with its name and what is set of its options: ``probe after-wake``, ``sleep (level 1)``."""
    if overlaps(step):
        return describe(step)
    options = set_options(step.options)
    name = options.pop("name", "")
    return _with_options(f"{step.action} {name}".rstrip(), options)


def _with_options(action: str, options: Mapping[str, JsonValue]) -> str:
    return f"{action} ({pairs(options)})" if options else action
