"""A guarded training loop on a real engine: ``python -m tests.benchmarks.training OUT`` prints what it cost.

At every step a ``vllm.LLM`` in this process answers, sleeps at level 2 while a model learns beside it, wakes
its weights, is handed those that were learnt, and wakes its KV cache.  Then the guard holds it against the
trainer's own model.  Three mistakes are planted at steps that a seed chooses; the step after each is sound.

What everything costs is told in seconds of processor time, of this process and of all that it started: other
work on the machine does not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from harness.models.model import provide_model

ROOT = Path(__file__).parents[2]
PROMPTS = [
    "Write three sentences about rivers.",
    "Write three sentences about bread.",
    "Write three sentences about the moon.",
    "Write three sentences about bicycles.",
]
MISTAKES = ("lose-a-tensor", "forget-the-transfer", "keep-the-prefix-cache")
LOST = "*.layers.0.self_attn.v_proj.weight"
GUARDING = ("expect", "check")
"""The parts of a step that a guard adds."""
SETTLED = 20
"""From this step on memory must not grow."""

Rollouts: TypeAlias = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a step of it is."""

    steps: int = 200
    completions: int = 8
    tokens: int = 256
    """Of every completion."""
    layers: int | None = None
    """So many the small random model has that takes the place of SmolLM2; None: that itself is trained."""
    guard: dict[str, Any] = field(default_factory=dict)
    """The guard's settings; without any it is the default one."""
    reference: bool = True
    """Whether the trainer is asked as well; without it the weights that arrive are always the same ones."""
    seed: int = 0
    mistakes: bool = True

    @property
    def planted(self) -> dict[int, str]:
        """Which mistake is made at which step: never two in a row, none at the first."""
        if not self.mistakes:
            return {}
        chance = random.Random(self.seed)  # noqa: S311 - repeats itself
        while True:
            at = sorted(chance.sample(range(2, self.steps + 1), len(MISTAKES)))
            if all(later - earlier > 1 for earlier, later in itertools.pairwise(at)):
                return dict(zip(at, chance.sample(MISTAKES, len(MISTAKES)), strict=True))


@dataclass(kw_only=True)
class Step:
    """What one step was and cost."""

    number: int
    planted: str | None
    verdict: str = ""
    cause: str | None = None
    tokens: int = 0
    full: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    """Of processor time, by part."""
    mib: float = 0.0
    """Resident memory of this process and all that it started."""

    @property
    def noticed(self) -> bool:
        """Whether the verdict is that which the step deserves."""
        return self.verdict == ("corrupt" if self.planted else "clean")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a part."""
        before = processor_seconds()
        yield
        self.seconds[name] = processor_seconds() - before


def _tree() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def processor_seconds() -> float:
    """What this process and all that it started have used; those of its threads are among them."""
    return sum(sum(process.cpu_times()[:2]) for process in _tree())


def resident_mib() -> float:
    """Of the same processes."""
    return sum(process.memory_info().rss for process in _tree()) / 2**20


class Engine:
    """The engine of the loop, and the mistakes that can be made with it."""

    def __init__(self, model: str, *, tokens: int) -> None:
        from vllm import LLM

        self.llm = LLM(
            model,
            dtype="float32",
            enforce_eager=True,
            block_size=32,
            max_model_len=512,
            enable_sleep_mode=True,
            weight_transfer_config={"backend": "sleepwake"},
        )
        self._tokens = tokens

    def roll_out(self, completions: int, *, seed: int) -> Rollouts:
        """Answer, each of them at full length."""
        from vllm import SamplingParams

        prompts = [PROMPTS[number % len(PROMPTS)] for number in range(completions)]
        sampling = SamplingParams(temperature=1.0, max_tokens=self._tokens, ignore_eos=True, seed=seed)
        answers = self.llm.generate(prompts, sampling, use_tqdm=False)
        return [(each.prompt_token_ids or (), each.outputs[0].token_ids) for each in answers]

    def sleep(self, *, mistake: str | None) -> None:
        """Sleep at level 2."""
        pool: Any = self.llm.llm_engine.engine_core
        pool = pool.engine_core.scheduler.kv_cache_manager.block_pool
        if mistake == "keep-the-prefix-cache":
            pool.reset_prefix_cache = lambda: True
        self.llm.sleep(level=2)
        vars(pool).pop("reset_prefix_cache", None)

    def hand_over(self, folder: Path, *, version: str, mistake: str | None) -> None:
        """Give it the weights in ``folder``."""
        if mistake == "forget-the-transfer":
            return
        leave_out = [LOST] if mistake == "lose-a-tensor" else []
        self.llm.start_weight_update()
        self.llm.update_weights({"update_info": {"folder": str(folder), "leave_out": leave_out}})
        self.llm.finish_weight_update(version)


def write_small_model(model: str, folder: Path, *, layers: int) -> Path:
    """Write a model of the same kind that has five million random weights, and the same tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    configuration = AutoConfig.from_pretrained(model)
    configuration.update(
        {
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": layers,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "head_dim": 32,
            "initializer_range": 0.2,  # of the size that makes every layer matter
        }
    )
    make: Any = AutoModelForCausalLM.from_config  # has no types
    make(configuration, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Running:
    """The loop and those who take part in it."""

    loop: Loop
    engine: Engine
    trainer: Any
    guard: Any
    folder: Path

    def take(self, step: Step) -> None:
        """Answer, learn, hand over what was learnt, and check."""
        with step.part("generate"):
            rollouts = self.engine.roll_out(self.loop.completions, seed=step.number)
        with step.part("sleep"):
            self.engine.sleep(mistake=step.planted)
        with step.part("learn"):
            self.trainer.learn(rollouts)
        with step.part("save"):
            if self.loop.reference:
                self.trainer.save(self.folder)
        with step.part("wake"):
            self.engine.llm.wake_up(tags=["weights"])
            self.engine.hand_over(self.folder, version=f"step-{step.number}", mistake=step.planted)
            self.engine.llm.wake_up(tags=["kv_cache"])
        with step.part("expect"):
            if self.loop.reference:
                self.guard.expect_new_weights(reference=self.trainer)
        with step.part("check"):
            verdict = self.guard.check()
        step.verdict, step.cause, step.tokens = verdict.verdict, verdict.cause, verdict.tokens
        step.full = verdict.full
        step.mib = resident_mib()


def run(loop: Loop, out: Path, *, told: Callable[[Step], None]) -> list[Step]:
    """Run all steps; ``told`` hears of each at its end."""
    import sleepwake

    sys.path.append(str(ROOT / "examples"))
    from trainer import Trainer  # type: ignore[import-not-found]  # a program's own module, no package

    model = provide_model(dtype="float32").location
    if loop.layers is not None:
        model = str(write_small_model(model, out / "small", layers=loop.layers))
    engine = Engine(model, tokens=loop.tokens)
    trainer = Trainer(model, layer=None)
    steps: list[Step] = []
    with (
        tempfile.TemporaryDirectory(dir=out) as named,
        sleepwake.guard(engine.llm, out=out, **loop.guard) as guard,
    ):
        folder = Path(named)
        trainer.save(folder)
        running = Running(loop=loop, engine=engine, trainer=trainer, guard=guard, folder=folder)
        for number in range(1, loop.steps + 1):
            step = Step(number=number, planted=loop.planted.get(number))
            running.take(step)
            steps.append(step)
            told(step)
    return steps


def summary(steps: Sequence[Step]) -> dict[str, Any]:
    """What they show together."""
    sound = [step for step in steps if not step.planted]
    own = statistics.mean(_cost(step, guards=False) for step in sound)
    full, short = ([step for step in sound if step.full is full] for full in (True, False))
    guarding = {
        name: statistics.mean(_cost(step, guards=True) for step in those)
        for name, those in (("full", full), ("short", short))
        if those
    }
    return {
        "steps": len(steps),
        "false alarms": sum(not step.noticed for step in sound),
        "planted": {step.number: [step.planted, step.verdict, step.cause] for step in steps if step.planted},
        "noticed": sum(step.noticed for step in steps if step.planted),
        "seconds of a step without its guard": own,
        "seconds of its guard": guarding,
        "overhead": sum(_cost(step, guards=True) for step in sound)
        / sum(_cost(step, guards=False) for step in sound),
        "MiB": {step.number: step.mib for step in steps if step.number in {SETTLED, len(steps)}},
    }


def _cost(step: Step, *, guards: bool) -> float:
    return sum(cost for part, cost in step.seconds.items() if (part in GUARDING) is guards)


def environment() -> dict[str, str]:
    """What the engine needs on a CPU, and in this process."""
    return {
        "SLEEPWAKE_CPU_SLEEP": "1",
        "SLEEPWAKE_WEIGHT_TRANSFER": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def main(loop: Loop, out: Path) -> None:
    """Run the loop, and print what it shows."""
    os.environ.update(environment())
    out.mkdir(parents=True, exist_ok=True)
    with (out / "steps.jsonl").open("w") as file:

        def tell(step: Step) -> None:
            file.write(json.dumps(asdict(step)) + "\n")
            file.flush()

        steps = run(loop, out, told=tell)
    sys.stdout.write(json.dumps(summary(steps), indent=1) + "\n")


def parsed() -> tuple[Loop, Path]:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, help="train a small random model of so many layers")
    parser.add_argument("--guard", type=json.loads, default={}, help="settings of the guard, as JSON")
    parser.add_argument("--no-reference", dest="reference", action="store_false")
    parser.add_argument("--no-mistakes", dest="mistakes", action="store_false")
    parser.add_argument("--seed", type=int, default=0)
    options = vars(parser.parse_args())
    return Loop(**{name: value for name, value in options.items() if name != "out"}), options[
        "out"
    ].absolute()


if __name__ == "__main__":
    main(*parsed())
