"""Adapters, a quantised KV cache, a draft model and a connector sleep well, until they are hurt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.engine_plugin.faults import switchboard
from harness.models.model import provide_model
from tests.engine_plugin.engine import MODEL, Answer, Engine, running_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

ADAPTER = "adapter"


@contextmanager
def engine_with(tmp_path: Path, *args: str) -> Iterator[Engine]:
    """A healthy engine with vLLM's flags ``args`` that faults can be planted in."""
    fault = {"SLEEPWAKE_FAULT": f"{switchboard.__file__}:install"}
    with running_engine(tmp_path / "server.log", *args, env=fault) as engine:
        engine.answers_at_once()
        yield engine


def plant(engine: Engine, name: str) -> None:
    """Plant a fault from now on."""
    engine.post("/collective_rpc", {"method": "plant_fault", "kwargs": {"name": name}})


def write_adapter(folder: Path) -> None:
    """A LoRA adapter of random weights for the model's attention, in the PEFT format."""
    model = provide_model(dtype="float32").folder
    assert model is not None
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    hidden, key_value = config["hidden_size"], config["num_key_value_heads"] * config["head_dim"]
    random = torch.Generator().manual_seed(0)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, out in (("q_proj", hidden), ("v_proj", key_value)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(8, hidden, generator=random) * 0.05
            weights[f"{prefix}.lora_B.weight"] = torch.randn(out, 8, generator=random) * 0.05
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    peft = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(peft | {"bias": "none"}), encoding="utf-8")


def test_adapters(tmp_path: Path) -> None:
    """Adapter and base return exactly from both levels; lose-adapters leaves the base's answers only."""
    write_adapter(tmp_path / ADAPTER)
    modules = f"{ADAPTER}={tmp_path / ADAPTER}"
    with engine_with(tmp_path, "--enable-lora", "--max-lora-rank", "8", "--lora-modules", modules) as engine:

        def both() -> dict[str, list[Answer]]:
            return {model: engine.answers_at_once(model=model) for model in (MODEL, ADAPTER)}

        before = both()
        assert all(base != adapted for base, adapted in zip(*before.values(), strict=True))
        for level in (1, 2, 1):
            engine.cycle(level)
            assert both() == before

        plant(engine, "lose-adapters")
        engine.cycle(1)

        assert both() == {MODEL: before[MODEL], ADAPTER: before[MODEL]}


def test_kv_scales(tmp_path: Path) -> None:
    """A quantised cache returns exactly; with shrunken scales cold answers change and weights do not."""
    with engine_with(tmp_path, "--kv-cache-dtype", "fp8") as engine:
        before, checksums = engine.answers_at_once(), engine.checksums()
        engine.cycle(1)
        assert engine.answers_at_once() == before

        plant(engine, "shrink-kv-scales")
        engine.cycle(1)

        assert engine.answers_at_once(cache_salt="cold") != before
        assert engine.checksums() == checksums


def test_draft_model(tmp_path: Path) -> None:
    """Drafts are accepted as before after a sleep; without draft weights none is, and answers are right."""
    model = provide_model(dtype="float32").location
    speculation = {"method": "draft_model", "model": model, "num_speculative_tokens": 2}
    with engine_with(tmp_path, "--speculative-config", json.dumps(speculation)) as engine:

        def acceptance() -> tuple[list[Answer], float]:
            names = ("spec_decode_num_accepted_tokens_total", "spec_decode_num_draft_tokens_total")
            accepted, drafted = (engine.metric(name) for name in names)
            answers = engine.answers_at_once()
            return answers, (engine.metric(names[0]) - accepted) / (engine.metric(names[1]) - drafted)

        before, healthy = acceptance()
        engine.cycle(1)
        assert acceptance() == (before, healthy)

        plant(engine, "lose-draft-weights")
        engine.cycle(1)
        after, hurt = acceptance()

        assert after == before
        assert healthy > 0.5
        assert hurt < 0.1


def test_connector(tmp_path: Path) -> None:
    """Blocks from the connector are right after a sleep; blocks that were never loaded are not."""
    connector = {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(tmp_path / "blocks")},
    }
    with engine_with(tmp_path, "--kv-transfer-config", json.dumps(connector)) as engine:
        before = engine.answers()
        engine.cycle(1)
        assert engine.answers() == before

        plant(engine, "lose-connector-loads")
        engine.cycle(1)

        assert all(answer != old for answer, old in zip(engine.answers(), before, strict=True))
