"""The other half of a training loop: a model that learns, and that a guard can ask as it asks an engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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


class Answering:
    """A Hugging Face model of a Llama in float32, with the methods of a ``vllm.LLM`` that a guard calls."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._known: dict[tuple[tuple[int, ...], int, int], SimpleNamespace] = {}
        """What the weights that the model has answer."""

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
        """Answer all prompts at once, with the likeliest candidates of every token."""
        del use_tqdm
        asked = [tuple(prompt["prompt_token_ids"]) for prompt in prompts]
        limits = (sampling.max_tokens, max(1, sampling.logprobs))
        unknown = [each for each in dict.fromkeys(asked) if (each, *limits) not in self._known]
        for prompt, answer in zip(unknown, self._answers(unknown, *limits), strict=True):
            self._known[(prompt, *limits)] = answer  # the same weights answer the same
        return [self._known[(each, *limits)] for each in asked]

    def _answers(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, likeliest: int
    ) -> Iterator[SimpleNamespace]:
        """Compute greedy answers; shorter prompts begin with room that nobody attends to."""
        if not prompts:
            return
        longest = max(map(len, prompts))
        given = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        attended = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        places = (attended.cumsum(-1) - 1).clamp(min=0)
        candidates, past = [], None
        for _ in range(max_tokens):
            out = self.model(
                given,
                attention_mask=attended,
                position_ids=places,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            values, ids = out.logits[:, -1].log_softmax(-1).topk(likeliest)
            candidates.append((ids.tolist(), values.tolist()))
            past, given, places = out.past_key_values, ids[:, :1], places[:, -1:] + 1
            attended = torch.cat([attended, torch.ones_like(given)], dim=-1)
        for row, prompt in enumerate(prompts):
            yield self._told(prompt, [(ids[row], values[row]) for ids, values in candidates])

    def _told(
        self, prompt: Sequence[int], positions: Sequence[tuple[Sequence[int], Sequence[float]]]
    ) -> SimpleNamespace:
        """One answer as vLLM tells it, up to the token that ends it."""
        tokens = [ids[0] for ids, _ in positions]
        end = self.tokenizer.eos_token_id
        length = tokens.index(end) + 1 if end in tokens else len(tokens)
        done = SimpleNamespace(
            token_ids=tokens[:length],
            text=self.tokenizer.decode(tokens[:length], skip_special_tokens=True),
            finish_reason="stop" if end in tokens else "length",
            stop_reason=None,
            logprobs=[
                {token: SimpleNamespace(logprob=value) for token, value in zip(*position, strict=True)}
                for position in positions[:length]
            ],
        )
        return SimpleNamespace(outputs=[done], prompt_token_ids=list(prompt), num_cached_tokens=None)


class Trainer(Answering):
    """REINFORCE on one layer of a model, or on all of them, at some rate of learning."""

    def __init__(self, model: str, *, layer: int | None = -1, rate: float = 1e-2) -> None:
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        super().__init__(loaded, AutoTokenizer.from_pretrained(model))
        self.model.requires_grad_(requires_grad=False)
        learning = self.model if layer is None else self.model.model.layers[layer]
        learning.requires_grad_(requires_grad=True)
        self.optimizer = torch.optim.SGD(learning.parameters(), lr=rate)

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


def _digest(weight: torch.Tensor) -> str:
    return hashlib.sha256(weight.contiguous().view(-1).view(torch.uint8).numpy()).hexdigest()
