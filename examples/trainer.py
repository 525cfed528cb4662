"""The other half of a training loop: a model that learns, and that a guard can ask as it asks an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""Projections of a Llama that vLLM keeps in one tensor, in this order."""


@dataclass
class Sampling:
    """What a guard asks of an answer; it is always greedy."""

    temperature: float = 0.0
    max_tokens: int = 16
    logprobs: int = 0
    seed: int | None = None


class Trainer:
    """A Hugging Face model in float32, and REINFORCE on one layer of it, at some rate of learning."""

    def __init__(self, model: str, *, layer: int = -1, rate: float = 1e-2) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model.requires_grad_(requires_grad=False)
        learning = self.model.model.layers[layer]
        learning.requires_grad_(requires_grad=True)
        self.optimizer = torch.optim.SGD(learning.parameters(), lr=rate)
        self._known: dict[tuple[tuple[int, ...], int, int], SimpleNamespace] = {}

    def learn(self, rollouts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
        """Make answers likelier that repeat themselves less than the others do; return the mean reward."""
        rewards = [len(set(answer)) / len(answer) for _, answer in rollouts]
        mean = sum(rewards) / len(rewards)
        self.optimizer.zero_grad()
        for (prompt, answer), reward in zip(rollouts, rewards, strict=True):
            tokens = torch.tensor([[*prompt, *answer]])
            logits = self.model(tokens).logits[0, len(prompt) - 1 : -1]
            chosen = logits.log_softmax(-1)[range(len(answer)), list(answer)]
            (-(reward - mean) * chosen.mean() / len(rollouts)).backward()
        self.optimizer.step()
        self._known = {}
        return mean

    def save(self, folder: Path) -> None:
        """Write the weights where the engine can take them from."""
        self.model.save_pretrained(folder)

    # What follows is what a guard needs to ask: the same methods as those of a ``vllm.LLM``.

    @property
    def llm_engine(self) -> SimpleNamespace:
        """Tells that it computes in float32."""
        told = SimpleNamespace(model_config=SimpleNamespace(dtype="float32"))
        return SimpleNamespace(vllm_config=told)

    def compute_weight_checksums(self) -> list[dict[str, str]]:
        """Of its weights, under the names and in the shapes that vLLM has for them on one rank."""
        parts: dict[str, list[torch.Tensor]] = {}
        for name, weight in self.model.named_parameters():
            whole = name
            for one, fused in FUSED.items():
                whole = whole.replace(f".{one}.", f".{fused}.")
            parts.setdefault(whole, []).append(weight.detach())
        return [{f"dp0:pp0:pcp0:tp0:{name}": _digest(torch.cat(each)) for name, each in parts.items()}]

    def get_tokenizer(self) -> Any:
        """The model's."""
        return self.tokenizer

    def get_default_sampling_params(self) -> Sampling:
        """Greedy."""
        return Sampling()

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Mapping[str, Any]], sampling: Sampling, *, use_tqdm: bool = False
    ) -> list[SimpleNamespace]:
        """Answer each prompt by itself, with the likeliest candidates of every token."""
        del use_tqdm
        return [self._known_answer(tuple(prompt["prompt_token_ids"]), sampling) for prompt in prompts]

    def _known_answer(self, prompt: tuple[int, ...], sampling: Sampling) -> SimpleNamespace:
        """Computed once: the same weights answer the same."""
        asked = (prompt, sampling.max_tokens, sampling.logprobs)
        if asked not in self._known:
            self._known[asked] = self._answer(prompt, sampling)
        return self._known[asked]

    def _answer(self, prompt: Sequence[int], sampling: Sampling) -> SimpleNamespace:
        tokens: list[int] = []
        likeliest: list[dict[int, SimpleNamespace]] = []
        given, past = torch.tensor([list(prompt)]), None
        ended = False
        while len(tokens) < sampling.max_tokens and not ended:
            out = self.model(given, past_key_values=past, use_cache=True)
            past = out.past_key_values
            values, ids = out.logits[0, -1].log_softmax(-1).topk(max(1, sampling.logprobs))
            candidates = zip(ids.tolist(), values.tolist(), strict=True)
            likeliest.append({token: SimpleNamespace(logprob=value) for token, value in candidates})
            tokens.append(int(ids[0]))
            given = ids[None, :1]
            ended = tokens[-1] == self.tokenizer.eos_token_id
        done = SimpleNamespace(
            token_ids=tokens,
            text=self.tokenizer.decode(tokens, skip_special_tokens=True),
            finish_reason="stop" if ended else "length",
            stop_reason=None,
            logprobs=likeliest,
        )
        return SimpleNamespace(outputs=[done], prompt_token_ids=list(prompt), num_cached_tokens=None)


def _digest(weight: torch.Tensor) -> str:
    return hashlib.sha256(weight.contiguous().view(-1).view(torch.uint8).numpy()).hexdigest()
