"""TRL's own GRPO trainer with its engine in the same process, guarded at every step.

    pip install -r examples/requirements-trl.txt
    python examples/trl_grpo.py [--model FOLDER] [--steps 2] [--fault FAULT]

TRL holds a ``vllm.LLM``, puts it to sleep at level 2 while it trains, and pushes the weights back before the
engine answers again: that is where the guard asks, and holds the engine against the model that TRL trains.
Training ends at the first step at which the engine does not answer as that model does.

``--fault`` plants a mistake at the second step: ``lose-a-tensor`` (one is not pushed) or ``forget-the-push``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

# On a CPU: a sleep mode.  An engine in this very process, as TRL has it.  Set before vLLM is imported.
os.environ.setdefault("SLEEPWAKE_CPU_SLEEP", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import torch
from datasets import Dataset
from trainer import Answering
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from trl.generation import vllm_generation

import sleepwake

PROMPTS = [
    "Write three sentences about rivers.",
    "Write three sentences about bread.",
    "Write three sentences about the moon.",
    "Write three sentences about bicycles.",
]
FAULT_AT = 2
LOST = "model.layers.0.self_attn.v_proj.weight"


def variety(completions: list[str], **_: Any) -> list[float]:
    """Reward answers that repeat themselves less."""
    return [len(set(words)) / max(1, len(words)) for words in map(str.split, completions)]


class GuardedPush:
    """Takes the place of TRL's ``sync_weights``: pushes the weights as that does, and checks."""

    def __init__(self, trainer: GRPOTrainer, tokenizer: Any, *, out: str, fault: str | None) -> None:
        self._generation = trainer.vllm_generation
        self._push, self._named = self._generation.sync_weights, self._generation._iter_named_params  # noqa: SLF001
        self._model, self._tokenizer, self._fault = trainer.model, tokenizer, fault
        self.pushes = 0
        self._wake(None)
        self.guard = sleepwake.guard(self._generation.llm, max_tokens=8, out=out)
        self._generation.sync_weights = self

    def __call__(self) -> None:
        """Push and check.

        Raises:
            sleepwake.NotCleanError: the engine does not answer as the model does.
        """
        self.pushes += 1
        self._wake(self._fault if self.pushes == FAULT_AT else None)
        self.guard.expect_new_weights(reference=Answering(self._model, self._tokenizer))
        verdict = self.guard.check()
        print(f"step {self.pushes}: {verdict.tokens} tokens in {verdict.seconds:.1f} s", flush=True)
        print(f"  guard: {verdict.verdict}, {verdict.cause or 'nothing wrong'}", flush=True)
        print(f"    {verdict.reason}", flush=True)
        verdict.raise_for_verdict()

    def _wake(self, fault: str | None) -> None:
        """Have everything awake, as it is when the engine answers."""
        if fault == "forget-the-push":
            self._generation.llm.wake_up(tags=["weights"])
        else:
            self._generation._iter_named_params = self._all_but_one if fault else self._named  # noqa: SLF001
            self._push()
        self._generation.llm.wake_up(tags=["kv_cache"])

    def _all_but_one(self) -> Iterator[tuple[str, torch.Tensor]]:
        return (each for each in self._named() if each[0] != LOST)


def main(options: argparse.Namespace) -> int:
    """Train; return 1 if a step is noticed at which the engine was not what it had to be."""
    # TRL leaves these to vLLM, which computes in the model's own type and compiles it first.
    vllm_generation.LLM = partial(vllm_generation.LLM, dtype="float32", enforce_eager=True, block_size=32)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
            processing_class=tokenizer,
            reward_funcs=variety,
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
            args=GRPOConfig(
                output_dir=folder,
                max_steps=options.steps,
                per_device_train_batch_size=4,
                num_generations=4,
                max_completion_length=24,
                learning_rate=1e-4,
                use_vllm=True,
                vllm_mode="colocate",
                vllm_enable_sleep_mode=True,
                vllm_max_model_length=512,
                gradient_checkpointing=False,  # the guard asks the model as it is
                use_cpu=True,
                bf16=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
        )
        push = GuardedPush(trainer, tokenizer, out=options.out, fault=options.fault)
        try:
            trainer.train()
        except sleepwake.NotCleanError:
            return 1
        finally:
            push.guard.close()
    return 0


def parsed() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a folder or a name")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--fault", choices=("lose-a-tensor", "forget-the-push"))
    parser.add_argument("--out", default="reports", help="the folder for recordings")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parsed()))
