"""Whether answers differ that must differ: an adapter that is silently off answers as the base model does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.check.answer_pair import Reply
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import counted
from harness.history.passes import Method
from harness.history.recording import Pass


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find probes whose answers all have the tokens of a baseline they must differ from."""
    found: dict[tuple[str, str], Finding] = {}
    for each in evidence.recording.passes:
        for name in each.start.differs_from:
            alike = tuple(_alike(evidence, each, name))
            if alike and all(alike):
                found.setdefault((each.start.step, name), _finding(each, name, len(alike)))
    return tuple(found.values())


def _alike(evidence: Evidence, each: Pass, name: str) -> Iterator[bool]:
    """For each answer that the named baseline has a counterpart of, whether the two have the same tokens."""
    if each.start.method is not Method.GENERATED:
        return
    tokens = _tokens_of(evidence, name)
    for prompt, answer in each.answers.items():
        if answer.failure is None and prompt in tokens:
            yield answer.token_ids == tokens[prompt]


def _tokens_of(evidence: Evidence, name: str) -> Mapping[str, tuple[int, ...]]:
    def is_named(reply: Reply) -> bool:
        return reply.start.reference == name and reply.start.method is Method.GENERATED

    tokens: dict[str, tuple[int, ...]] = {}
    for reply in evidence.baseline_replies:
        if is_named(reply) and reply.answer.failure is None:
            tokens.setdefault(reply.answer.prompt, reply.answer.token_ids)
    return tokens


def _finding(each: Pass, name: str, compared: int) -> Finding:
    asked = f"the adapter {each.start.adapter}" if each.start.adapter else "the base model"
    return Finding(
        checker="adapters",
        message=f"{each.start.probe}: {asked} gives {counted(compared, 'answer')}, all equal to "
        f"those of {name}, but some had to differ",
        strength=Strength.PROOF,
        pass_number=each.start.number,
        cycle=each.start.cycle,
        evidence={"adapter": each.start.adapter, "equals": name, "answers": compared},
    )
