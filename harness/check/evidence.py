"""A recording laid out for judgement: every answer beside its baseline, and held against the noise.

Like is compared with like: an answer meets the answer to the same prompt of its own baseline, by the
same method at the same concurrency, whose ``cached_tokens`` is nearest to its own.  So an answer
computed cold meets one computed cold, and one served from the prefix cache meets the baseline's
re-hit, or the null transition's.

Where the noise was measured, damage is what it does not explain (:mod:`harness.check.noise.calibration`).
Where it was not, nothing can be said about a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.check.answer_pair import AnswerPair, Reply
from harness.check.noise import self_agreement
from harness.check.noise.budget import OF_ONE_CELL, ErrorBudget
from harness.check.noise.calibration import Calibration
from harness.check.noise.limits import RESOLUTION, noise_floor
from harness.check.noise.null_answers import NullAnswers
from harness.check.noise.self_agreement import Disagreement
from harness.check.result import NoiseFloor, Strength
from harness.check.timing.lost_times import LostTimes
from harness.check.told_configuration import computes_in_float32, quantises_kv_cache, quantises_weights
from harness.history.observations import StepStarted
from harness.history.passes import Control, Method, PassStarted, Prompt, Role
from harness.history.recording import Pass, Recording


@dataclass(frozen=True)
class Evidence:
    """What a recording holds for and against the engine.  Everything is derived on first use."""

    recording: Recording
    budget: ErrorBudget = OF_ONE_CELL

    @cached_property
    def lost_times(self) -> LostTimes:
        """What was timed while the harness itself was stopped."""
        return LostTimes(self.recording)

    @cached_property
    def transitions(self) -> tuple[StepStarted, ...]:
        """The steps that may have changed the engine, in order."""
        return tuple(step for step in self.recording.steps if step.changes_engine)

    @cached_property
    def first_transition(self) -> float:
        """When the first transition began; infinite if there was none."""
        return min((step.t for step in self.transitions), default=float("inf"))

    def first_transition_since(self, reference: str | None) -> float:
        """When the first transition began that may have changed what a baseline asked; infinite if none did.

        An adapter that comes or goes changes the answers of that adapter alone.
        """
        taken = next(
            (
                each.start
                for each in self.recording.passes_of(Role.BASELINE)
                if each.start.reference == reference
            ),
            None,
        )
        since, adapter = (taken.t, taken.adapter) if taken else (0.0, None)
        changing = (step for step in self.transitions if step.only_adapter in {None, adapter})
        return min((step.t for step in changing if step.t > since), default=float("inf"))

    @property
    def first_reference(self) -> str | None:
        """The name of the first baseline; None in histories that know only one."""
        return next((each.start.reference for each in self.recording.passes_of(Role.BASELINE)), None)

    @cached_property
    def baseline(self) -> Mapping[str, tuple[Reply, ...]]:
        """The baseline's usable replies to each prompt, in the order of their passes."""
        return _by_prompt(self.baseline_replies)

    @cached_property
    def baseline_replies(self) -> tuple[Reply, ...]:
        """Every baseline reply, failed ones included."""
        return tuple(self._replies(Role.BASELINE))

    @cached_property
    def null_replies(self) -> tuple[Reply, ...]:
        """Replies after a null transition, as long as nothing else had happened since their baseline."""
        return tuple(reply for reply in self._replies(Role.NULL) if self._undisturbed(reply))

    @cached_property
    def after_replies(self) -> tuple[Reply, ...]:
        """Every reply that is judged: those after a transition, later null transitions included."""
        late_null = (reply for reply in self._replies(Role.NULL) if not self._undisturbed(reply))
        return (*self._replies(Role.AFTER), *late_null)

    @cached_property
    def null(self) -> tuple[AnswerPair, ...]:
        """What the noise is measured on: null transitions, and baseline passes that repeat each other."""
        return (*self._compare(self.null_replies), *self._repeats())

    @cached_property
    def floor(self) -> NoiseFloor | None:
        """How much answers differ when nothing happened; None where that was not measured."""
        return noise_floor(self.null)

    @cached_property
    def after(self) -> tuple[AnswerPair, ...]:
        """What is judged."""
        return tuple(self._compare(self.after_replies))

    @cached_property
    def calibration(self) -> Calibration | None:
        """The judged answers held against the noise; None where it was not measured."""
        if not self.null:
            return None
        return Calibration(
            judged=[pair.reply for pair in self.after],
            null_answers=self.null_answers,
            budget=self.budget,
            in_float32=computes_in_float32(self.recording),
        )

    @cached_property
    def null_answers(self) -> NullAnswers:
        """What was answered before anything happened, for judged answers to be held against."""
        return NullAnswers(
            prompts=self.recording.prompts, baseline=self.baseline_replies, null=self.null_replies
        )

    @cached_property
    def disagreements(self) -> tuple[Disagreement, ...]:
        """Conditions under which the engine answered differently before anything was done to it."""
        return self_agreement.disagreements(
            self.null_answers,
            (*self.baseline_replies, *self.null_replies),
            coarse=computes_in_float32(self.recording) is False or quantises_weights(self.recording),
            quantised_kv_cache=quantises_kv_cache(self.recording),
            budget=self.budget,
        )

    @cached_property
    def damaged(self) -> tuple[AnswerPair, ...]:
        """The judged answers that bear damage: what the noise does not explain."""
        accused = {_place(reply) for reply in self.calibration.damaged} if self.calibration else set()
        return tuple(
            pair
            for pair in self.after
            # The same tokens cannot end in two ways, whatever the noise is.
            if _place(pair.reply) in accused or (pair.same_tokens and not pair.same_ending)
        )

    @property
    def suspects(self) -> tuple[AnswerPair, ...]:
        """The judged answers to tell about; all of them where the noise was not measured."""
        return self.after if self.calibration is None else self.damaged

    @property
    def strength(self) -> Strength:
        """What a difference weighs by itself: where there is noise, or it was not measured, it is a hint.

        Where there is none, no chance is reckoned with: that a difference proves damage is a plain claim.
        One odd answer does not carry it, two do.
        """
        quiet = self.calibration is not None and self.calibration.quiet
        return Strength.PROOF if quiet and self.lone_answer is None else Strength.HINT

    @cached_property
    def lone_answer(self) -> AnswerPair | None:
        """The only answer that bears damage, if no other one does, none to a control question either."""
        if self.calibration is None or not self.calibration.quiet or len(self.damaged) != 1:
            return None
        asked = [pair.reply for pair in self._compare(self._replies(Role.CONTROL)) if _leaves_be(pair.reply)]
        return self.damaged[0] if self.calibration.healed(asked) == len(asked) else None

    @property
    def shows_in_single_answers(self) -> bool:
        """Whether a damaged answer can be told from a sound one by itself."""
        return self.calibration is None or self.calibration.quiet or bool(self.calibration.gross)

    @property
    def resolution(self) -> float:
        """The largest shift that rounding alone explains, nat."""
        return self.calibration.resolution if self.calibration else RESOLUTION

    def healed(self, pairs: Sequence[AnswerPair]) -> int:
        """How many of a control's answers are the baseline's again."""
        if self.calibration is None:
            return sum(pair.identical for pair in pairs)
        return self.calibration.healed([pair.reply for pair in pairs])

    @cached_property
    def failed(self) -> tuple[Reply, ...]:
        """Judged requests without a usable answer."""
        return tuple(reply for reply in self.after_replies if reply.answer.failure is not None)

    @cached_property
    def unmatched(self) -> tuple[Reply, ...]:
        """Judged replies the baseline has no counterpart for."""
        return tuple(
            reply
            for reply in self.after_replies
            if reply.answer.failure is None and self.reference_for(reply) is None
        )

    @cached_property
    def missing(self) -> tuple[tuple[PassStarted, Prompt], ...]:
        """Requests a pass must have sent and that have no answer in the recording."""
        return tuple(
            (each.start, self.recording.prompts[prompt])
            for each in self.recording.passes
            for prompt in each.start.asked
            if prompt not in each.answers
        )

    def _undisturbed(self, reply: Reply) -> bool:
        return reply.start.t < self._first_transitions[reply.start.reference]

    @cached_property
    def _first_transitions(self) -> Mapping[str | None, float]:
        """For every reference, when the first transition after its baseline was taken began."""
        return {
            reference: self.first_transition_since(reference)
            for reference in {each.start.reference for each in self.recording.passes}
        }

    def control(self, control: Control) -> tuple[AnswerPair, ...]:
        """The answers to one control question, beside their baseline."""
        return tuple(self._compare(self.control_replies(control)))

    def control_replies(self, control: Control) -> tuple[Reply, ...]:
        """Every reply to one control question, failed ones included."""
        return tuple(reply for reply in self._replies(Role.CONTROL) if reply.start.control is control)

    def reference_for(self, reply: Reply) -> Reply | None:
        """The baseline reply that ``reply`` must be compared with.

        For one that is judged that is a null transition's, where only that had as much of the prompt cached.
        """
        known = self.baseline.get(reply.answer.prompt, ())
        if known and reply.start.role is not Role.NULL:
            known = (*known, *self._null_by_prompt.get(reply.answer.prompt, ()))
        candidates = [
            candidate
            for candidate in known
            if candidate.start.reference == reply.start.reference
            and candidate.start.concurrency == reply.start.concurrency
            and candidate.start.method is reply.start.method
        ]
        return min(
            candidates,
            key=lambda candidate: (
                abs(candidate.cached - reply.cached),
                candidate.shares_salt is not reply.shares_salt,
                candidate.start.number,
            ),
            default=None,
        )

    @cached_property
    def _null_by_prompt(self) -> Mapping[str, tuple[Reply, ...]]:
        return _by_prompt(self.null_replies)

    def _compare(self, replies: Iterable[Reply]) -> Iterator[AnswerPair]:
        for reply in replies:
            reference = self.reference_for(reply) if reply.answer.failure is None else None
            if reference is not None:
                prompt = self.recording.prompts[reply.answer.prompt]
                yield AnswerPair(prompt=prompt, reference=reference, reply=reply)

    def _repeats(self) -> Iterator[AnswerPair]:
        """Baseline replies that had the same conditions as an earlier one: they should be equal to it."""
        for prompt_id, replies in self.baseline.items():
            first: dict[tuple[str | None, Method, int, int, bool], Reply] = {}
            for reply in replies:
                start = reply.start
                conditions = (
                    start.reference,
                    start.method,
                    start.concurrency,
                    reply.cached,
                    reply.shares_salt,
                )
                reference = first.setdefault(conditions, reply)
                if reference is not reply:
                    yield AnswerPair(
                        prompt=self.recording.prompts[prompt_id], reference=reference, reply=reply
                    )

    def _replies(self, role: Role) -> Iterator[Reply]:
        for each in self.recording.passes_of(role):
            yield from replies_in_order(each, self.recording.prompts)


def replies_in_order(each: Pass, prompts: Mapping[str, Prompt]) -> Iterator[Reply]:
    """The replies of a pass in the order of the prompts, whatever order they arrived in."""
    for prompt in prompts:
        answer = each.answers.get(prompt)
        if answer is not None:
            yield Reply(start=each.start, answer=answer)


def _by_prompt(replies: Iterable[Reply]) -> Mapping[str, tuple[Reply, ...]]:
    """The usable ones of ``replies``, by prompt."""
    of: dict[str, list[Reply]] = {}
    for reply in replies:
        if reply.answer.failure is None:
            of.setdefault(reply.answer.prompt, []).append(reply)
    return {prompt: tuple(answers) for prompt, answers in of.items()}


def _leaves_be(reply: Reply) -> bool:
    """Whether a control question changed nothing in the engine: what it shows was there before."""
    return reply.start.control not in {
        Control.RESET_PREFIX_CACHE,
        Control.RESET_ENCODER_CACHE,
        Control.RELOAD_WEIGHTS,
    }


def _place(reply: Reply) -> tuple[int, str]:
    return reply.start.number, reply.answer.prompt
