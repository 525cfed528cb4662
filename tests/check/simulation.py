"""A toy engine with noise, to see what the comparator makes of it.

The "model" is a table of logits: every context is a row, and the token taken leads to the next
one.  Noise is added to the logits, which are then rounded as coarsely as bf16 does, so that a
healthy engine disagrees with itself at near-ties, as real ones do.  Damage changes the logits of
the passes after a transition.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, CacheCondition, Control, PassStarted, Prompt, Role
from harness.history.recording import Pass, Recording
from tests.history.begun import step_started
from tests.history.strategies import cell_started

CONTEXTS = 8192
VOCABULARY = 64
END_OF_SEQUENCE = 0
TOP_K = 5
PROMPT_TOKENS = 64

Floats = npt.NDArray[np.float64]
Damage = Callable[[Floats, npt.NDArray[np.int64], int, np.random.Generator], Floats]
"""Takes the logits [prompts, vocabulary], the rows' prompts, the position, and randomness; returns logits."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What differs from pass to pass on a healthy engine."""

    sd: float = 0.05
    """Standard deviation of the noise of one logit, nat."""
    quantum: float = 0.0625
    """Logits are rounded to multiples of this; 0 for no rounding."""
    per_pass: float = 0.0
    """Standard deviation of the logarithm of a factor on the noise of a whole pass."""
    heavy: bool = False
    """Student's t with 3 degrees of freedom instead of a Gaussian."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is run."""

    prompts: int = 16
    tokens: int = 96
    null_passes: int = 4
    concurrency: int = 16
    cycles: int = 2
    noise: Noise = Noise()
    damage: Damage | None = None
    damaged_caches: tuple[CacheCondition, ...] = (CacheCondition.WARM, CacheCondition.COLD)
    from_cycle: int = 1
    noise_after: Noise | None = None


@dataclass
class Engine:
    """The toy model; ``random`` is the noise of all passes together."""

    random: np.random.Generator
    setup: Setup
    clock: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.logits = _model()
        self.starts = self.random.integers(0, CONTEXTS, size=self.setup.prompts)

    def recording(self) -> Recording:
        """Run baseline, null transitions and cycles."""
        setup = self.setup
        passes = [self.run(Role.BASELINE, cache) for cache in (_WARM, _REHIT, _COLD)]
        passes += [self.run(Role.NULL, cache) for _ in range(setup.null_passes) for cache in (_WARM, _COLD)]
        steps = []
        for cycle in range(1, setup.cycles + 1):
            steps.append(
                step_started(t=next(self.clock), step=f"{cycle}", action="sleep", options={}, cycle=cycle)
            )
            for cache in (_WARM, _COLD):
                damaged = cache in setup.damaged_caches and cycle >= setup.from_cycle
                passes.append(
                    self.run(Role.AFTER, cache, cycle=cycle, damage=setup.damage if damaged else None)
                )
        return Recording(
            cell=cell_started(max_tokens=setup.tokens, arm_args=["--no-enable-prefix-caching"]),
            prompts={f"p{i}": _prompt(i) for i in range(setup.prompts)},
            end_of_sequence_ids=(END_OF_SEQUENCE,),
            vocabulary_size=VOCABULARY,
            passes=tuple(passes),
            steps=tuple(steps),
            finished=True,
        )

    def run(
        self,
        role: Role,
        cache: CacheCondition,
        *,
        cycle: int = 0,
        damage: Damage | None = None,
        control: Control | None = None,
    ) -> Pass:
        """Send every prompt once."""
        start = PassStarted(
            t=next(self.clock),
            number=next(self.clock),
            step=str(cycle),
            probe=role.value,
            role=role,
            cache=cache,
            concurrency=self.setup.concurrency,
            cycle=cycle,
            control=control,
        )
        noise = self.setup.noise_after if role is Role.AFTER and self.setup.noise_after else self.setup.noise
        answers = self._generate(start, noise, damage)
        return Pass(start=start, answers={answer.prompt: answer for answer in answers})

    def _generate(self, start: PassStarted, noise: Noise, damage: Damage | None) -> list[Answer]:
        setup, random = self.setup, self.random
        contexts = self.starts.copy()
        rows = np.arange(setup.prompts)
        sd = noise.sd * float(np.exp(random.normal(0, noise.per_pass))) if noise.per_pass else noise.sd
        tokens = np.zeros((setup.prompts, setup.tokens), dtype=np.int64)
        ids = np.zeros((setup.prompts, setup.tokens, TOP_K), dtype=np.int32)
        values = np.zeros((setup.prompts, setup.tokens, TOP_K), dtype=np.float32)
        for position in range(setup.tokens):
            logits = self.logits[contexts]
            if damage is not None:
                logits = damage(logits.copy(), rows, position, random)
            draw = random.standard_t(3, logits.shape) if noise.heavy else random.normal(size=logits.shape)
            logits = logits + sd * draw
            if noise.quantum:
                logits = np.round(logits / noise.quantum) * noise.quantum
            likeliest = logits.max(axis=1, keepdims=True)
            logprobs = logits - np.log(np.exp(logits - likeliest).sum(axis=1))[:, None] - likeliest
            best = np.argsort(-logprobs, axis=1, kind="stable")[:, :TOP_K]
            tokens[:, position] = best[:, 0]
            ids[:, position] = best
            values[:, position] = logprobs[rows[:, None], best]
            contexts = (contexts * 31 + tokens[:, position] * 17 + 7) % CONTEXTS
        return [self._answer(start, row, tokens[row], ids[row], values[row]) for row in range(setup.prompts)]

    def _answer(
        self,
        start: PassStarted,
        row: int,
        tokens: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int32],
        values: npt.NDArray[np.float32],
    ) -> Answer:
        ends = np.flatnonzero(tokens == END_OF_SEQUENCE)
        length = int(ends[0]) + 1 if len(ends) else len(tokens)
        return Answer(
            t=start.t,
            pass_number=start.number,
            prompt=f"p{row}",
            token_ids=tuple(tokens[:length].tolist()),
            text="text",
            finish_reason="stop" if len(ends) else "length",
            prompt_tokens=PROMPT_TOKENS,
            completion_tokens=length,
            cached_tokens=0,
            seconds=1.0,
            logprobs=Logprobs.pack(
                chosen=np.ascontiguousarray(values[:length, 0]),
                top_ids=ids[:length],
                top_values=values[:length],
            ),
        )


@functools.cache
def _model() -> Floats:
    """A row of logits for each context: the same in all simulations; only noise and prompts differ."""
    model = np.random.default_rng(1)
    sharpness = model.gamma(2.0, 3.0, size=(CONTEXTS, 1))
    logits: Floats = model.normal(0, 1, size=(CONTEXTS, VOCABULARY)) * sharpness
    logits[:, END_OF_SEQUENCE] -= 0.5 * sharpness[:, 0]
    logits.flags.writeable = False
    return logits


def simulate(seed: int, setup: Setup = Setup()) -> Recording:
    """Run one simulated cell."""
    return Engine(random=np.random.default_rng(seed), setup=setup).recording()


def _prompt(index: int) -> Prompt:
    return Prompt(id=f"p{index}", text=f"prompt {index}", token_ids=(index, *range(100, 99 + PROMPT_TOKENS)))


_WARM, _REHIT, _COLD = CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD
