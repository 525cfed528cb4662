"""A training loop around a ``vllm.LLM``, as verl and its like run it, guarded at every step.

    python examples/training_loop.py [--model FOLDER] [--steps 3] [--fault FAULT]

At every step the engine answers, sleeps at level 2 while the model is trained in this process, wakes its
weights, is handed those that were learnt, and takes its KV cache back.  The guard then asks the trainer's own
model the same questions as the engine: the engine must answer as the trainer does.  The loop ends at the
first step at which it does not.

``--fault`` plants a mistake at the second step: ``lose-a-tensor`` (one does not arrive) or
``forget-the-transfer``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# On a CPU: a sleep mode, and weights that arrive through files.  Set before vLLM is imported.
os.environ.setdefault("SLEEPWAKE_CPU_SLEEP", "1")
os.environ.setdefault("SLEEPWAKE_WEIGHT_TRANSFER", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

from trainer import Trainer
from vllm import LLM, SamplingParams

import sleepwake

PROMPTS = [
    "Write three sentences about rivers.",
    "Write three sentences about bread.",
    "Write three sentences about the moon.",
    "Write three sentences about bicycles.",
]
FAULT_AT = 2
LOST = "*.layers.0.self_attn.v_proj.weight"


def hand_over(llm: LLM, folder: Path, *, version: str, leave_out: list[str]) -> None:
    """Give the engine the weights in ``folder``."""
    llm.start_weight_update()
    llm.update_weights({"update_info": {"folder": str(folder), "leave_out": leave_out}})
    llm.finish_weight_update(version)


def one_step(llm: LLM, trainer: Trainer, folder: Path, *, number: int, fault: str | None) -> None:
    """Answer, learn, and hand over what was learnt."""
    sampling = SamplingParams(temperature=1.0, max_tokens=24, seed=number)
    answers = llm.generate(PROMPTS, sampling, use_tqdm=False)
    llm.sleep(level=2)
    reward = trainer.learn([(each.prompt_token_ids, each.outputs[0].token_ids) for each in answers])
    trainer.save(folder)
    llm.wake_up(tags=["weights"])
    if fault != "forget-the-transfer":
        leave_out = [LOST] if fault == "lose-a-tensor" else []
        hand_over(llm, folder, version=f"step-{number}", leave_out=leave_out)
    llm.wake_up(tags=["kv_cache"])
    print(f"step {number}: mean reward {reward:.3f}", flush=True)


def main(options: argparse.Namespace) -> int:
    """Train; return 1 if a step is noticed at which the engine was not what it had to be."""
    settings: dict[str, Any] = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
    llm = LLM(
        options.model,
        enable_sleep_mode=True,
        max_model_len=512,
        weight_transfer_config={"backend": "sleepwake"},
        **settings,
    )
    trainer = Trainer(options.model)
    with (
        tempfile.TemporaryDirectory() as folder,
        sleepwake.guard(llm, max_tokens=8, out=options.out) as guard,
    ):
        for number in range(1, options.steps + 1):
            fault = options.fault if number == FAULT_AT else None
            one_step(llm, trainer, Path(folder), number=number, fault=fault)
            began = time.monotonic()
            guard.expect_new_weights(reference=trainer)
            asked = time.monotonic() - began
            verdict = guard.check()
            print(f"  guard: {verdict.verdict}, {verdict.cause or 'nothing wrong'}", flush=True)
            print(f"    {verdict.reason}", flush=True)
            print(
                f"    {verdict.tokens} tokens in {verdict.seconds:.1f} s; the trainer: {asked:.1f} s",
                flush=True,
            )
            if verdict.verdict != sleepwake.Verdict.CLEAN:
                return 1
    return 0


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a folder or a name")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--fault", choices=("lose-a-tensor", "forget-the-transfer"))
    parser.add_argument("--out", default="reports", help="the folder for recordings")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parsed()))
