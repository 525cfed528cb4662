"""Tells what happened to an engine as real history events, for tests to judge.

A story is told in the order of a script: ``baseline``, ``null``, ``sleep``, ``wake``, ``probe``
and, where answers differ, ``control``.  Answers are made up once for each prompt and come back
unchanged unless a *change* says otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from harness.check import judge
from harness.check.checkers import CHECKERS, About
from harness.check.evidence import Evidence
from harness.check.noise.calibration import Calibration
from harness.check.result import CellResult, Finding
from harness.history.event_base import CallFailure
from harness.history.events import CellFailed, CellFinished, CellStarted, Event, ServerReady
from harness.history.observations import Call, Observation, StepFinished, WeightChecksums
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import (
    Answer,
    CacheCondition,
    Control,
    Method,
    PassStarted,
    Prompt,
    PromptsPrepared,
    Role,
)
from harness.history.recording import Recording, gather
from tests.history.begun import step_started

NOTHING_GENERATED: Mapping[str, str | None] = {
    "text": "",
    "finish_reason": None,
    "prompt_tokens": None,
    "completion_tokens": None,
}
"""What an answer that only scores given tokens does not have."""

Change = Callable[[Answer], Answer]
"""What becomes of an answer on its way into the history."""

BLOCK = 16
END_OF_SEQUENCE = 2
VOCABULARY = 1000
TOP_K = 3
MIB = 1024 * 1024

WARM, REHIT, COLD = CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD


@dataclass
class Story:
    """A cell as it happens.  Every method appends events; ``recording`` gathers them."""

    prompts: int = 4
    held_out: int = 1
    prefix_caching: bool = True
    max_tokens: int = 24
    tells_cached_tokens: bool = True
    extra_args: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    """How else than generated every probe asks."""
    asks: dict[str, str | tuple[str, ...] | None] = field(default_factory=dict)
    """Whom the passes from now on ask, and what they are compared with; see :meth:`asking`."""
    events: list[Event] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._steps = count(1)
        self._clock = count(1)
        self._warm = False
        self._asked = [prompt(i) for i in range(self.prompts)]
        self._unseen = [prompt(self.prompts + i, held_out=True) for i in range(self.held_out)]
        self.tell(self._cell_started())
        self.tell(
            ServerReady(t=0, runtime="process", command="vllm serve", vllm_version="0.32.0", boot_seconds=1)
        )
        self.tell(
            PromptsPrepared(
                t=0,
                prompts=(*self._asked, *self._unseen),
                end_of_sequence_ids=(END_OF_SEQUENCE,),
                vocabulary_size=VOCABULARY,
                block_size=BLOCK,
            )
        )

    def tell(self, event: Event) -> Story:
        """Append ``event`` as it is."""
        self.events.append(event)
        return self

    def now(self) -> float:
        """The time of the next event."""
        return float(next(self._clock))

    def asking(
        self,
        adapter: str | None = None,
        *,
        reference: str,
        differs_from: tuple[str, ...] = (),
        warm: bool = False,
    ) -> Story:
        """From now on ask ``adapter``, or the base model, and compare with the baseline ``reference``.

        ``warm`` says whether the prefix cache holds what it is going to ask.
        """
        self.asks = {"adapter": adapter, "reference": reference, "differs_from": differs_from}
        self._warm = warm
        return self

    def load_adapter(self, name: str = "x") -> Story:
        """Load an adapter, as a step of the script."""
        step = self._begin("load_adapter", name=name)
        self.call(step, "/v1/load_lora_adapter", {"lora_name": name})
        return self

    @property
    def names(self) -> list[str]:
        """Ids of the prompts every probe asks."""
        return [each.id for each in self._asked]

    def baseline(
        self,
        changes: Mapping[str, Change] | None = None,
        *,
        cached: Mapping[str, Change] | None = None,
        caches: tuple[CacheCondition, ...] = (WARM, REHIT, COLD),
    ) -> Story:
        """Ask everything warm, again, and cold, before anything happens; ``cached`` changes re-hits."""
        self._begin("probe", name="baseline")
        for cache in caches:
            self.ask(Role.BASELINE, cache, changes=cached if cached and cache is REHIT else changes)
        for method in self.methods:
            self.ask(Role.BASELINE, COLD, method=method, changes=changes)
        return self

    def null(
        self,
        changes: Mapping[str, Change] | None = None,
        *,
        passes: int = 1,
        cached: Mapping[str, Change] | None = None,
    ) -> Story:
        """Do nothing, and ask again; ``cached`` is what becomes of the warm answers, read from the cache."""
        step = self._begin("null_transition", by="sleep_level_0", passes=passes)
        self.observe(step, "before")
        self.observe(step, "after")
        for _ in range(passes):
            for cache in (WARM, COLD):
                self.ask(Role.NULL, cache, changes=cached if cached and cache is WARM else changes)
            for method in self.methods:
                self.ask(Role.NULL, COLD, method=method, changes=changes)
        return self

    def sleep(
        self,
        level: int = 1,
        *,
        status: int = 200,
        asleep: bool | None = True,
        freed: int = 500 * MIB,
        keeps_cache: bool = False,
        unconfirmed: tuple[str, ...] = (),
    ) -> Story:
        """Put the engine to sleep."""
        step = self._begin("sleep", level=level)
        self.observe(step, "before")
        self.call(step, "/sleep", {"level": str(level)}, status=status)
        self.observe(step, "after", asleep=asleep, memory=2000 * MIB - freed)
        self.tell(StepFinished(t=self.now(), step=step, seconds=1, unconfirmed=unconfirmed))
        self._warm = self._warm and (keeps_cache or level == 0)
        return self

    def wake(self, *, asleep: bool | None = False, status: int = 200) -> Story:
        """Wake the engine up."""
        step = self._begin("wake_up")
        self.call(step, "/wake_up", {}, status=status)
        self.observe(step, "after", asleep=asleep)
        return self

    def reload(self) -> Story:
        """Load the weights again, as a step of the script."""
        step = self._begin("reload_weights")
        self.call(step, "/collective_rpc", {"method": "reload_weights"})
        return self

    def probe(
        self,
        cycle: int = 1,
        *,
        warm: Mapping[str, Change] | None = None,
        cold: Mapping[str, Change] | None = None,
        others: Mapping[Method, Mapping[str, Change]] | None = None,
        concurrency: int = 4,
    ) -> Story:
        """Ask again after the transition: warm, cold, and by the other methods."""
        self._begin("probe", cycle=cycle, name="after")
        self.ask(Role.AFTER, WARM, cycle=cycle, changes=warm, concurrency=concurrency)
        self.ask(Role.AFTER, COLD, cycle=cycle, changes=cold, concurrency=concurrency)
        for method in self.methods:
            self.ask(Role.AFTER, COLD, method=method, cycle=cycle, changes=(others or {}).get(method))
        return self

    def read_again(self, changes: Mapping[str, Change] | None = None) -> Story:
        """Ask for what was cached after the last transition."""
        self._begin("probe", name="read-again")
        return self.ask(Role.AFTER, REHIT, changes=changes)

    def configured(self, **parts: Mapping[str, JsonValue]) -> Story:
        """Let the server have told this of its configuration."""
        self.events = [
            event.model_copy(update={"configuration": parts}) if isinstance(event, ServerReady) else event
            for event in self.events
        ]
        return self

    def cycle(
        self,
        number: int = 1,
        *,
        warm: Mapping[str, Change] | None = None,
        cold: Mapping[str, Change] | None = None,
    ) -> Story:
        """Sleep at level 1, wake up, ask."""
        return self.sleep().wake().probe(number, warm=warm, cold=cold)

    def control(
        self,
        control: Control,
        changes: Mapping[str, Change] | None = None,
        *,
        asked: list[str] | None = None,
    ) -> Story:
        """Ask a control question about the prompts in ``asked``; all of them by default."""
        prompts = self._unseen if control is Control.UNSEEN_PROMPTS else self._asked
        if asked is not None:
            prompts = [each for each in prompts if each.id in asked]
        cache = WARM if control in {Control.RESET_PREFIX_CACHE, Control.ASKED_AGAIN} else COLD
        if control is Control.RESET_PREFIX_CACHE:
            self._warm = False
        return self.ask(Role.CONTROL, cache, changes=changes, control=control, prompts=prompts)

    def asked_again(self, changes: Mapping[str, Change]) -> Story:
        """Ask the prompts that ``changes`` names once more; their answers change like this."""
        return self.control(Control.ASKED_AGAIN, changes, asked=[*changes])

    def checksums(
        self, checksums: Mapping[str, str] | None, *, buffers: Mapping[str, str] | None = None
    ) -> Story:
        """Tell the checksums of weights, and of buffers where the engine tells them."""
        reference = self.asks.get("reference")
        told = WeightChecksums(t=self.now(), step=None, checksums=checksums, buffers=buffers)
        return self.tell(told.model_copy(update={"reference": reference}))

    def finish(self) -> Story:
        """Let the script run to its end."""
        return self.tell(CellFinished(t=self.now()))

    def fail(self, error: str = "ServerDiedError") -> Story:
        """Let the machine get in the way."""
        return self.tell(
            CellFailed(t=self.now(), error=error, cause="the server is gone", remedy="try again")
        )

    def interrupt(self) -> Story:
        """Let the user stop the run."""
        cause, error = "the run was interrupted", "InterruptedRunError"
        stopped = CellFailed(t=self.now(), error=error, cause=cause, remedy="", interrupted=True)
        return self.tell(stopped)

    def recording(self) -> Recording:
        """What has been recorded so far."""
        return gather(self.events)

    def evidence(self) -> Evidence:
        """What has been recorded so far, laid out for checkers."""
        return Evidence(self.recording())

    def findings(self, checker: str) -> list[Finding]:
        """What one checker of answers finds in what has been recorded so far."""
        evidence = self.evidence()
        checkers = [each for each in CHECKERS if each.about is About.ANSWERS]
        return [found for each in checkers for found in each.find(evidence) if found.checker == checker]

    def judged(self) -> CellResult:
        """The judgement of the whole story."""
        return judge(self.finish().recording())

    def ask(
        self,
        role: Role,
        cache: CacheCondition,
        *,
        method: Method = Method.GENERATED,
        cycle: int = 0,
        changes: Mapping[str, Change] | None = None,
        control: Control | None = None,
        prompts: list[Prompt] | None = None,
        concurrency: int = 4,
        answered: bool = True,
    ) -> Story:
        """Send prompts once and tell the answers, unless none was recorded."""
        number = next(self._numbers)
        if prompts is None:
            with_unseen = role is Role.BASELINE and cache is COLD and method is Method.GENERATED
            prompts = [*self._asked, *self._unseen] if with_unseen else self._asked
        self.tell(
            PassStarted(
                t=self.now(),
                number=number,
                step=self._step,
                probe=role.value,
                role=role,
                method=method,
                cache=cache,
                concurrency=concurrency,
                cycle=cycle,
                control=control,
                asked=tuple(each.id for each in prompts),
            ).model_copy(update=self.asks)
        )
        cached = self.prefix_caching and self._warm and cache is not COLD
        for each in prompts if answered else ():
            told = self._answer(each, number=number, cached=cached)
            if method.tokens_are_given:
                told = told.model_copy(update=NOTHING_GENERATED)
            change = (changes or {}).get(each.id)
            self.tell(change(told) if change else told)
        self._warm = self._warm or cache is not COLD
        return self

    def call(self, step: str, path: str, parameters: Mapping[str, str], *, status: int = 200) -> None:
        """Tell a lifecycle call."""
        self.tell(
            Call(
                t=self.now(),
                step=step,
                method="POST",
                path=path,
                parameters=parameters,
                sends_json=path.startswith(("/v1/", "/collective_rpc")),
                status=status,
                body=None,
                seconds=0.1,
                failure=None if status < 400 else CallFailure(kind="http", message="no", status=status),
            )
        )

    def observe(
        self, step: str, moment: str, *, asleep: bool | None = False, memory: int = 2000 * MIB
    ) -> None:
        """Tell an observation."""
        self.tell(
            Observation.model_validate(
                {
                    "t": self.now(),
                    "step": step,
                    "moment": moment,
                    "is_sleeping": asleep,
                    "sleep_state": None,
                    "resident_bytes": memory,
                    "device_bytes": None,
                }
            )
        )

    def _begin(self, action: str, *, cycle: int = 0, **options: str | int) -> str:
        self._step = str(next(self._steps))
        self.tell(step_started(t=self.now(), step=self._step, action=action, options=options, cycle=cycle))
        return self._step

    def _answer(self, asked: Prompt, *, number: int, cached: bool) -> Answer:
        told = answer_to(asked, max_tokens=self.max_tokens)
        from_cache = (len(asked.token_ids) - 1) // BLOCK * BLOCK if cached else 0
        return told.model_copy(
            update={
                "t": self.now(),
                "pass_number": number,
                "cached_tokens": from_cache if self.tells_cached_tokens else None,
            }
        )

    def _cell_started(self) -> CellStarted:
        flag = "--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching"
        return CellStarted(
            t=0,
            run="run-1",
            cell="scenario/arm",
            scenario="scenario",
            why="because",
            sources=("vllm#17103",),
            arm="arm",
            arm_args=(flag, *self.extra_args),
            arm_env={},
            script=(),
            max_tokens=self.max_tokens,
            temperature=0,
            concurrency=4,
            fault=None,
            started_at="2026-01-01T00:00:00+00:00",
        )


def clean_story(*, cycles: int = 2, prompts: int = 4, prefix_caching: bool = True) -> Story:
    """Tell of a healthy engine: every answer equals its baseline."""
    story = Story(prompts=prompts, prefix_caching=prefix_caching).baseline().null()
    for number in range(1, cycles + 1):
        story.cycle(number)
    return story


@functools.cache
def prompt(index: int, *, held_out: bool = False) -> Prompt:
    """Make the prompt ``p<index>``; no two share their first token."""
    ids = (10 + index, *range(100, 100 + 3 * BLOCK))
    return Prompt(id=f"p{index}", text=f"Tell me about thing {index}.", token_ids=ids, held_out=held_out)


@functools.cache
def answer_to(asked: Prompt, *, max_tokens: int) -> Answer:
    """Make up the answer a healthy engine gives: every third one ends by itself, the others at the limit."""
    index = int(asked.id.removeprefix("p"))
    random = np.random.default_rng(index)
    stops = index % 3 == 2
    length = max_tokens // 2 if stops else max_tokens
    tokens = random.permutation(np.arange(200, VOCABULARY))[:length]
    if stops:
        tokens[-1] = END_OF_SEQUENCE
    return Answer(
        t=0,
        pass_number=0,
        prompt=asked.id,
        token_ids=tuple(int(token) for token in tokens),
        text=" ".join(f"w{token}" for token in tokens),
        finish_reason="stop" if stops else "length",
        prompt_tokens=len(asked.token_ids),
        completion_tokens=length,
        system_fingerprint="vllm-0.32.0",
        logprobs=logprobs_for(tokens, random),
        seconds=1.0,
    )


def logprobs_for(tokens: npt.NDArray[np.int64], random: np.random.Generator) -> Logprobs:
    """Make up log-probabilities with ``tokens`` the likeliest, each by at least 0.5 nat."""
    top_ids = np.stack([tokens, (tokens + 1) % VOCABULARY, (tokens + 2) % VOCABULARY], axis=1)
    gaps = random.uniform(0.5, 3.0, size=(len(tokens), TOP_K))
    return Logprobs.pack(
        chosen=-0.1 * np.ones(len(tokens), dtype=np.float32),
        top_ids=top_ids.astype(np.int32),
        top_values=(-0.1 - np.cumsum(gaps, axis=1) + gaps[:, :1]).astype(np.float32),
    )


def with_tokens(answer: Answer, tokens: tuple[int, ...], *, finish_reason: str = "length") -> Answer:
    """Let ``answer`` consist of ``tokens``, its log-probabilities and counts to match."""
    kept = next(
        (i for i, (old, new) in enumerate(zip(answer.token_ids, tokens, strict=False)) if old != new),
        min(len(tokens), len(answer.token_ids)),
    )
    assert answer.logprobs is not None
    made_up = logprobs_for(np.array(tokens, dtype=np.int64), np.random.default_rng(99))
    mine = answer.logprobs
    logprobs = Logprobs.pack(
        chosen=np.concatenate([mine.chosen[:kept], made_up.chosen[kept:]]),
        top_ids=np.concatenate([mine.top_ids[:kept], made_up.top_ids[kept:]]),
        top_values=np.concatenate([mine.top_values[:kept], made_up.top_values[kept:]]),
    )
    return answer.model_copy(
        update={
            "token_ids": tokens,
            "text": " ".join(f"w{token}" for token in tokens),
            "completion_tokens": len(tokens),
            "finish_reason": finish_reason,
            "logprobs": logprobs,
        }
    )


def garbage(start: int = 0) -> Change:
    """Other tokens from position ``start`` on, as many as before, ending the same way."""

    def change(answer: Answer) -> Answer:
        tokens = tuple(
            token if i < start or token == END_OF_SEQUENCE else 3 + i
            for i, token in enumerate(answer.token_ids)
        )
        return with_tokens(answer, tokens, finish_reason=answer.finish_reason or "length")

    return change


def loop(start: int = 0, *, period: int = 1, limit: int = 24) -> Change:
    """The same ``period`` tokens over and over from position ``start`` to the limit."""

    def change(answer: Answer) -> Answer:
        tokens = (*answer.token_ids[:start], *(5 + i % period for i in range(limit - start)))
        return with_tokens(answer, tokens)

    return change


def stop_after(tokens: int) -> Change:
    """End of sequence after ``tokens`` tokens."""

    def change(answer: Answer) -> Answer:
        return with_tokens(answer, (*answer.token_ids[: tokens - 1], END_OF_SEQUENCE), finish_reason="stop")

    return change


def empty(answer: Answer) -> Answer:
    """End of sequence at once, and no text."""
    return stop_after(1)(answer).model_copy(update={"text": ""})


def shifted(by: float = 0.5, position: int = 3) -> Change:
    """The same tokens, but from ``position`` on they and their runners-up are less likely by ``by`` nat."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        amount = np.zeros(len(answer.token_ids), dtype=np.float32)
        amount[position:] = by
        return answer.model_copy(
            update={
                "logprobs": Logprobs.pack(
                    chosen=answer.logprobs.chosen - amount,
                    top_ids=answer.logprobs.top_ids,
                    top_values=answer.logprobs.top_values - amount[:, np.newaxis],
                )
            }
        )

    return change


def scaled(factor: float) -> Change:
    """The same tokens, every contrast between candidates ``factor`` times as large."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values
        logprobs = Logprobs.pack(
            chosen=answer.logprobs.chosen,
            top_ids=answer.logprobs.top_ids,
            top_values=(top[:, :1] + factor * (top - top[:, :1])).astype(np.float32),
        )
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def no_number(value: float, position: int = 3) -> Change:
    """The same tokens, one log-probability of which is NaN or infinite."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        chosen, top = answer.logprobs.chosen.copy(), answer.logprobs.top_values.copy()
        chosen[position] = top[position, 0] = value
        logprobs = Logprobs.pack(chosen=chosen, top_ids=answer.logprobs.top_ids, top_values=top)
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def nearly_tied(position: int, gap: float) -> Change:
    """The same tokens, the second likeliest at ``position`` only ``gap`` nat behind the likeliest."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values.copy()
        top[position, 1] = top[position, 0] - gap
        logprobs = Logprobs.pack(
            chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top
        )
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def flip(position: int) -> Change:
    """The second likeliest token instead of the likeliest at ``position``, other tokens from there on."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        second = int(answer.logprobs.top_ids[position, 1])
        told = with_tokens(answer, (*answer.token_ids[:position], second, *range(3, 3 + 23 - position)))
        assert told.logprobs is not None
        ids, top = told.logprobs.top_ids.copy(), told.logprobs.top_values.copy()
        ids[position] = answer.logprobs.top_ids[position]
        ids[position, :2] = ids[position, 1::-1]
        top[position] = answer.logprobs.top_values[position]
        chosen = told.logprobs.chosen.copy()
        chosen[position] = top[position, 0]
        logprobs = Logprobs.pack(chosen=chosen, top_ids=ids, top_values=top)
        return told.model_copy(update={"logprobs": logprobs})

    return change


def calibration_of(evidence: Evidence) -> Calibration:
    """The calibration of a recording whose noise was measured."""
    assert evidence.calibration is not None
    return evidence.calibration


def both(first: Change, second: Change) -> Change:
    """One change after another."""
    return lambda answer: second(first(answer))


def updated(**fields: object) -> Change:
    """Other values for single fields of an answer."""
    return lambda answer: answer.model_copy(update=fields)


def failing(kind: str = "hang", status: int | None = None) -> Change:
    """No answer at all."""

    def change(answer: Answer) -> Answer:
        return Answer.model_validate(
            {
                "t": answer.t,
                "pass_number": answer.pass_number,
                "prompt": answer.prompt,
                "seconds": 180.0,
                "failure": {"kind": kind, "message": "no answer came", "status": status},
            }
        )

    return change
