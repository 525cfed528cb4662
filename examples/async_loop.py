"""A loop that never stops answering: weights arrive in flight, and every arrival is guarded.

    python examples/async_loop.py [--model FOLDER] [--steps 2] [--fault FAULT]

Clients ask a ``vllm.AsyncLLM`` all the time.  At every step the model learns, in a thread beside, from what
has been answered so far.  Then the engine is paused with its requests kept where they are, is handed the new
weights, forgets what the old ones had cached, and goes on: requests that were under way end as a mixture of
old and new, which such loops accept.  What must hold is that whatever is asked from then on is answered by
the new weights alone: the guard holds it against the trainer's own model.

``--fault`` plants a mistake at the second step: ``forget-the-reset`` (the prefix cache keeps what the old
weights computed), ``lose-a-tensor`` (one does not arrive) or ``forget-the-transfer``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

# On a CPU: a sleep mode, and weights that arrive through files.  Set before vLLM is imported.
os.environ.setdefault("SLEEPWAKE_CPU_SLEEP", "1")
os.environ.setdefault("SLEEPWAKE_WEIGHT_TRANSFER", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

from trainer import Trainer
from vllm import AsyncEngineArgs, SamplingParams
from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest
from vllm.v1.engine.async_llm import AsyncLLM

import sleepwake

PROMPTS = [
    "Write three sentences about rivers.",
    "Write three sentences about bread.",
    "Write three sentences about the moon.",
]
FAULT_AT = 2
LOST = "*.layers.0.self_attn.v_proj.weight"
LEARNING = 15
"""Which layer learns: keys and values of all later ones are others then, so that old ones show in answers."""
FEWEST = 2
"""So many answers, at the least, are learnt from."""

Rollout: TypeAlias = tuple[Sequence[int], Sequence[int]]
Answers: TypeAlias = asyncio.Queue[Rollout]


async def ask_on_and_on(llm: AsyncLLM, prompt: str, answered: Answers) -> None:
    """Be one of the clients."""
    for number in itertools.count():
        sampling = SamplingParams(temperature=1.0, max_tokens=24, seed=number)
        async for output in llm.generate(prompt, sampling, f"{prompt} {number}"):
            last = output
        answered.put_nowait((last.prompt_token_ids or (), last.outputs[0].token_ids))


@asynccontextmanager
async def clients(llm: AsyncLLM) -> AsyncIterator[Answers]:
    """Have everything asked over and over; yield the answers that wait to be learnt from."""
    answered: Answers = asyncio.Queue()
    tasks = [asyncio.create_task(ask_on_and_on(llm, prompt, answered)) for prompt in PROMPTS]
    try:
        yield answered
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def hand_over(llm: AsyncLLM, folder: Path, *, version: str, fault: str | None) -> None:
    """Give the engine the weights in ``folder``, between two tokens of the requests that run."""
    await llm.pause_generation(mode="keep", clear_cache=False)  # by default it would forget here already
    if fault != "forget-the-transfer":
        told = {"folder": str(folder), "leave_out": [LOST] if fault == "lose-a-tensor" else []}
        await llm.start_weight_update()
        await llm.update_weights(WeightTransferUpdateRequest(update_info=told))
        await llm.finish_weight_update(version)
    if fault != "forget-the-reset":
        await llm.reset_prefix_cache(reset_running_requests=True)
    await llm.resume_generation()


async def one_step(
    llm: AsyncLLM,
    trainer: Trainer,
    answered: Answers,
    folder: Path,
    *,
    number: int,
    fault: str | None,
) -> None:
    """Learn from what was answered meanwhile, and hand over what was learnt."""
    rollouts = [await answered.get() for _ in range(max(FEWEST, answered.qsize()))]
    reward = await asyncio.to_thread(trainer.learn, rollouts)
    await asyncio.to_thread(trainer.save, folder)
    await hand_over(llm, folder, version=f"step-{number}", fault=fault)
    print(f"step {number}: mean reward {reward:.3f} of {len(rollouts)} answers", flush=True)


async def main(options: argparse.Namespace) -> int:
    """Train; return 1 if a step is noticed at which the engine was not what it had to be."""
    llm = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            options.model,
            dtype="float32",
            enforce_eager=True,
            block_size=32,
            max_model_len=512,
            enable_sleep_mode=True,
            weight_transfer_config={"backend": "sleepwake"},
        )
    )
    trainer = Trainer(options.model, layer=LEARNING, rate=1.0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with (
                await sleepwake.async_guard(llm, max_tokens=8, out=options.out) as guard,
                clients(llm) as answered,
            ):
                for number in range(1, options.steps + 1):
                    fault = options.fault if number == FAULT_AT else None
                    await one_step(llm, trainer, answered, Path(folder), number=number, fault=fault)
                    await guard.expect_new_weights(reference=trainer)
                    verdict = await guard.check()
                    print(f"  guard: {verdict.verdict}, {verdict.cause or 'nothing wrong'}", flush=True)
                    print(f"    {verdict.reason}", flush=True)
                    if verdict.verdict != sleepwake.Verdict.CLEAN:
                        return 1
    finally:
        llm.shutdown()
    return 0


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a folder or a name")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--fault", choices=("forget-the-reset", "lose-a-tensor", "forget-the-transfer"))
    parser.add_argument("--out", default="reports", help="the folder for recordings")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parsed())))
