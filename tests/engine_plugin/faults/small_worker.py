"""A worker with real tensors and no engine around it, for faults to take hold of."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

END_OF_SEQUENCE = 2
BLOCKS = 12
BLOCK_SIZE = 16
VOCABULARY = 8
KEPT = 1.03
"""What keys and values are in each step."""


class SmallAttention(nn.Module):
    """Tells what it was given to keep."""

    kv_cache = None

    def forward(self, _query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values that it keeps."""
        return key, value


class SmallModel(nn.Module):
    """Weights, an attention layer, a buffer, a LoRA slot, a KV scale; logits rise with the token id."""

    rotary: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.matrices = nn.ParameterList([torch.ones(4, 4) for _ in range(3)])
        self.norm = nn.Parameter(torch.ones(4))
        self.register_buffer("rotary", torch.ones(4), persistent=False)
        self.attention = SmallAttention()
        self.lora_a_stacked = (torch.ones(2, 4),)
        self._v_scale_float = 1.0

    def compute_logits(self, rows: int) -> Tensor:
        """Each row prefers the last token id; rows differ by a constant."""
        return torch.arange(VOCABULARY) + 10.0 * torch.arange(rows).unsqueeze(1)


class SmallWorker:
    """Tells the hooks what vLLM's workers tell them; sleep loses the KV cache, reload brings weights back."""

    def __init__(self) -> None:
        self.model_config = SimpleNamespace(hf_config=SimpleNamespace(eos_token_id=END_OF_SEQUENCE))
        self.parallel_config, self.rank = SimpleNamespace(world_size=1), 0
        self.cache_config = SimpleNamespace(num_gpu_blocks=BLOCKS, block_size=BLOCK_SIZE)
        self.kv_cache = [torch.zeros(2, BLOCKS, 3) for _ in range(3)]
        for layer in self.kv_cache:
            layer[:, 1:9] = 7.0  # blocks 1 to 8 are in use
        self.model_runner = SimpleNamespace(
            model=SmallModel(),
            kv_caches=self.kv_cache,
            drafter=SimpleNamespace(model=nn.Linear(2, 2)),
            input_batch=SimpleNamespace(),
            encoder_cache={"a picture": torch.ones(4)},
        )
        self.kept: list[float] = []
        """The means of the keys and of the values that were kept last."""
        self.given_back: list[str] = []
        self.batch(prompts=[100], answered=[0])

    @property
    def model(self) -> SmallModel:
        """Its model."""
        model: SmallModel = self.model_runner.model
        return model

    def batch(self, *, prompts: list[int], answered: list[int]) -> None:
        """Let the next batch have requests with so many tokens."""
        self.model_runner.input_batch = SimpleNamespace(
            num_reqs=len(prompts),
            num_prompt_tokens=np.array([*prompts, 0]),
            num_tokens_no_spec=np.array([*np.add(prompts, answered), 0]),
        )

    def sleep(self, level: int = 1) -> None:
        """Lose the KV cache, and at level 2 the weights."""
        if level:
            self.discard(("weights", "kv_cache"))
        if level == 2:
            self.fill_weights(0.0)

    def discard(self, tags: tuple[str, ...]) -> None:
        """Lose what needs no backup."""
        self.given_back += tags
        if "kv_cache" in tags:
            for layer in self.kv_cache:
                layer.zero_()

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Memory is there again."""

    def reload_weights(self) -> None:
        """Load the weights."""
        self.fill_weights(1.0)

    def fill_weights(self, value: float) -> None:
        """Overwrite all parameters."""
        for parameter in self.model.parameters():
            parameter.data.fill_(value)

    def execute_model(self, scheduled: SimpleNamespace | None = None) -> str:  # noqa: ARG002 - vLLM's signature
        """One step."""
        row = torch.full((4,), KEPT)
        self.kept = [float(each.mean()) for each in self.model.attention(row, row, row)]
        return "output"

    def cycle(self, level: int) -> None:
        """Sleep and recover as the documentation says."""
        self.sleep(level=level)
        self.wake_up(tags=["weights"])
        if level == 2:
            self.reload_weights()
        self.wake_up(tags=["kv_cache"])

    def logits(self) -> Tensor:
        """The logits of the batch."""
        logits: Tensor = self.model.compute_logits(int(self.model_runner.input_batch.num_reqs))
        return logits
