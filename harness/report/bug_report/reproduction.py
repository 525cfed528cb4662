"""What it takes to see a damaged cell again: the prompt, the transitions, the server."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from harness.check.result import Strength, Witness
from harness.check.told_configuration import told
from harness.check.wording import overlaps
from harness.history.observations import Call
from harness.history.passes import Answer, Method, Role
from harness.history.recording import Pass, Recording
from harness.history.run_description import DescribedCell
from harness.report.model import CellReport

_SAMPLED_TEMPERATURE = 1.0
_PUBLIC_MODELS = {"SmolLM2-135M-Instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Where others find the model that the harness converts itself: the same tokenizer, finer weights."""

_LEFT_TO_THE_MACHINE = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_CPU_OMP_THREADS_BIND"}
_OWN_FLAGS = {"--host", "--port", "--served-model-name"}


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One recorded call, as it was sent."""

    method: str
    path: str
    query: Mapping[str, JsonValue]
    body: Mapping[str, JsonValue] | None
    status: int | None


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """How the server was started; ``model`` is None where only whoever started it knows."""

    model: str | None
    env: Mapping[str, str]
    args: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One prompt, asked before and after the transitions of each cycle.

    It is sent by its token ids or, where it has a picture (a ``data:`` URL), as that and its text.
    ``logprob_tolerance`` is set where tokens stayed the same and only a log-probability moved: half of
    the distance it moved, in nat.
    """

    prompt: str
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    picture: str | None
    max_tokens: int
    temperature: float
    seed: int
    cycles: tuple[tuple[Transition, ...], ...]
    logprob_tolerance: float | None
    answer_deadline_s: float
    transition_deadline_s: float
    boot_deadline_s: float
    server: Invocation


def obstacle(cell: CellReport) -> str | None:
    """Why asking one prompt before and after cannot show what was found; None where it can.

    A script that ended with MATCH on an engine that has the bug would be worse than none.
    """
    recording = cell.recording
    baseline = _first_baseline(recording) if recording else None
    if recording is None or baseline is None:
        return "no prompt was ever answered"
    if any(overlaps(step) or step.options.get("abandon") for step in recording.steps):
        return (
            "it takes calls that overlap or are given up, and the scripts make one after the other; "
            "`sleepwake run` with the scenario's file makes them as they were made"
        )
    if kinds := _only_in_kinds(cell):
        return (
            f"it shows in requests of other kinds alone ({kinds}), and plain prompts are answered as before"
        )
    seen = _pass_of(recording, cell.result.witness)
    if seen and seen.start.adapter:
        return f"the answer is that of adapter {seen.start.adapter}, whose files are not part of this report"
    if seen and seen.start.reference != baseline.start.reference:
        return "the answer must equal one given by weights other than those the server starts with"
    return None


def _only_in_kinds(cell: CellReport) -> str:
    """The kinds of requests that prove damage, where nothing else does; empty otherwise."""
    proofs = [each for each in cell.result.findings if each.strength is Strength.PROOF]
    if any(each.checker != "kinds" for each in proofs):
        return ""
    return ", ".join(dict.fromkeys(str(each.evidence["kind"]) for each in proofs))


def reproduction(cell: CellReport, described: DescribedCell) -> Reproduction | None:
    """Take a damaged cell's reproduction from its recording; None where there is an :func:`obstacle`."""
    recording, witness = cell.recording, cell.result.witness
    baseline = _first_baseline(recording) if recording else None
    if recording is None or baseline is None or obstacle(cell):
        return None
    scenario = described.scenario
    name = witness.prompt if witness else next(iter(baseline.answers), None)
    if name is None or name not in recording.prompts:
        return None
    seen = _pass_of(recording, witness)
    return Reproduction(
        prompt=name,
        prompt_text=recording.prompts[name].text,
        prompt_token_ids=recording.prompts[name].token_ids,
        picture=recording.prompts[name].picture,
        max_tokens=recording.cell.max_tokens,
        temperature=_SAMPLED_TEMPERATURE
        if seen and seen.start.method is Method.SAMPLED
        else recording.cell.temperature,
        seed=scenario.sampling.seed,
        cycles=tuple(_cycles(recording, until=seen.start.t if seen else float("inf"))),
        logprob_tolerance=_tolerance(recording, witness) if witness else None,
        answer_deadline_s=scenario.deadlines.answer,
        transition_deadline_s=scenario.deadlines.transition,
        boot_deadline_s=scenario.deadlines.boot,
        server=invocation(recording),
    )


def _first_baseline(recording: Recording) -> Pass | None:
    return next(iter(recording.passes_of(Role.BASELINE)), None)


def _pass_of(recording: Recording, witness: Witness | None) -> Pass | None:
    number = witness.after.pass_number if witness else None
    return next((each for each in recording.passes if each.number == number), None)


def _cycles(recording: Recording, *, until: float) -> Iterator[tuple[Transition, ...]]:
    """The calls of each cycle's transitions, up to the answer that was damaged."""
    of: dict[int, list[Transition]] = {}
    for call in recording.calls:
        step = recording.action_of_step.get(call.step or "")
        if step and call.t < until and step.changes_engine and call.method == "POST":
            of.setdefault(step.cycle, []).append(_transition(call))
    yield from (tuple(calls) for calls in of.values())


def _transition(call: Call) -> Transition:
    return Transition(
        method=call.method,
        path=call.path,
        query={} if call.sends_json else call.parameters,
        body=call.parameters if call.sends_json else None,
        status=call.status,
    )


def _tolerance(recording: Recording, witness: Witness) -> float | None:
    if witness.baseline.token_ids != witness.after.token_ids:
        return None
    before = _answer(recording, witness.baseline.pass_number, witness.prompt)
    after = _answer(recording, witness.after.pass_number, witness.prompt)
    if not (before and after and before.logprobs and after.logprobs):
        return None
    shifts = np.abs(before.logprobs.chosen - after.logprobs.chosen)
    return float(np.max(shifts, initial=0.0)) / 2 or None


def _answer(recording: Recording, number: int, prompt: str) -> Answer | None:
    return next((each.answers.get(prompt) for each in recording.passes if each.number == number), None)


def invocation(recording: Recording) -> Invocation:
    """How the cell's server was started, without what belongs to one machine.

    An attached server was started by somebody else: what it said of its configuration stands in.
    """
    command = shlex.split(recording.server.command, comments=True) if recording.server else []
    if "--served-model-name" not in command:
        return Invocation(model=None, env={}, args=tuple(_told_flags(recording)))
    place = command.index("--served-model-name")
    served, location = command[place + 1], command[place - 1]
    is_folder = location.startswith(("/", "~", "."))
    return Invocation(
        model=_PUBLIC_MODELS.get(served) if is_folder else location,
        env=dict(_variables(command[:place])),
        args=tuple(_without_own_flags(command[place:])),
    )


def _variables(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What stands before the program, or behind Docker's ``--env``."""
    of_docker = words[:1] == ["docker"]
    for before, word in zip(("", *words), words, strict=False):
        name, equals, value = word.partition("=")
        if of_docker and before != "--env":
            continue
        if not of_docker and not (equals and name.isidentifier()):
            return
        if name not in _LEFT_TO_THE_MACHINE:
            yield name, value


def _without_own_flags(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        if word not in _OWN_FLAGS and before not in _OWN_FLAGS:
            yield word
        before = word


def _told_flags(recording: Recording) -> Iterator[str]:
    yield "--enable-sleep-mode"
    if isinstance(dtype := told(recording, "model_config", "dtype"), str):
        yield from ("--dtype", dtype.removeprefix("torch."))
    if isinstance(length := told(recording, "model_config", "max_model_len"), int):
        yield from ("--max-model-len", str(length))
    if told(recording, "model_config", "enforce_eager") is True:
        yield "--enforce-eager"
    if isinstance(size := told(recording, "cache_config", "block_size"), int):
        yield from ("--block-size", str(size))
    if isinstance(caching := told(recording, "cache_config", "enable_prefix_caching"), bool):
        yield "--enable-prefix-caching" if caching else "--no-enable-prefix-caching"
