"""What a script needs besides the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.drive.needs import (
    Needs,
    features_of,
    features_of_arm,
    forcing_flags,
    lora_flags,
    needs_async,
    needs_of,
    require_variants,
)
from harness.errors import UsageError
from harness.models.model import model_in_folder, model_on_hub
from harness.scenario.schema import Arm, Scenario
from harness.scenario.script import Step
from harness.vllm_api.versions import Feature
from tests.drive.conftest import Driver


def scenario(*steps: dict[str, object], **more: object) -> Scenario:
    """A scenario with these steps between two probes."""
    tree = {
        "name": "n",
        "why": "w",
        "arms": {"a": {}},
        "prompts": {"corpus": "c"},
        "script": [{"probe": "b"}, *steps, {"probe": "after"}],
    }
    return Scenario.model_validate({**tree, **more})


def script(*steps: dict[str, object]) -> tuple[Step, ...]:
    """A script of these steps between two probes."""
    return scenario(*steps).script


@pytest.mark.parametrize(
    ("step", "features"),
    [
        ({"sleep": {"level": 1}}, set()),
        ({"sleep": {"level": 0, "mode": "keep"}}, {Feature.LEVEL_ZERO, Feature.SLEEP_MODE}),
        ({"wake_up": {"tags": ["kv_cache", "weights"]}}, set()),
        ({"wake_up": {"tags": ["scheduling"]}}, {Feature.LEVEL_ZERO}),
        ({"pause": {}}, {Feature.PAUSE}),
        ({"pause": {"mode": "keep"}}, {Feature.PAUSE, Feature.PAUSE_MODE}),
        ({"resume": {}}, {Feature.PAUSE}),
        ({"release_kv_cache_memory": {}}, {Feature.RELEASE_KV_CACHE_MEMORY}),
        ({"reload_weights": {}}, {Feature.COLLECTIVE_RPC}),
        ({"reload_weights": {"weights": "other"}}, {Feature.COLLECTIVE_RPC, Feature.RELOAD_FROM_PATH}),
        ({"update_weights": {"weights": "own", "must_fail": True}}, {Feature.WEIGHT_TRANSFER}),
        ({"load_adapter": {"name": "x", "adapter": "first"}}, set()),
        (
            {"load_adapter": {"name": "x", "adapter": "first", "in_place": True}},
            {Feature.LOAD_ADAPTER_IN_PLACE},
        ),
        ({"reset_prefix_cache": {}}, set()),
        ({"reset_prefix_cache": {"running_requests": True}}, {Feature.RESET_RUNNING_REQUESTS}),
        ({"reset_prefix_cache": {"external": True}}, {Feature.RESET_EXTERNAL}),
        ({"reset_mm_cache": {}}, {Feature.RESET_MM_CACHE}),
        ({"abort_requests": {}}, {Feature.ABORT_REQUESTS}),
        ({"reset_encoder_cache": {}}, {Feature.RESET_ENCODER_CACHE}),
        ({"repeat": 2, "steps": [{"pause": {}}]}, {Feature.PAUSE}),
    ],
    ids=lambda value: ", ".join(sorted(value)) or "nothing" if isinstance(value, set) else str(value),
)
def test_steps_say_what_a_release_must_have(step: dict[str, object], features: set[Feature]) -> None:
    """What not every release has is known before the script begins."""
    assert features_of(scenario(step)) == features


@pytest.mark.parametrize(
    ("step", "needs"),
    [
        ({"reload_weights": {}}, Needs(adapters=False, other_weights=False)),
        ({"reload_weights": {"weights": "other"}}, Needs(adapters=False, other_weights=True)),
        ({"start_weight_update": {}}, Needs(adapters=False, other_weights=False, transfer=True)),
        (
            {"update_weights": {"weights": "other", "must_fail": True}},
            Needs(adapters=False, other_weights=True),
        ),
        (
            {"repeat": 1, "steps": [{"load_adapter": {"name": "x", "adapter": "first"}}]},
            Needs(adapters=True, other_weights=False),
        ),
    ],
    ids=str,
)
def test_only_what_is_loaded_is_made(step: dict[str, object], needs: Needs) -> None:
    """Variants of a model are made for scripts that load them, repetitions included."""
    assert needs_of(script(step)) == needs


def test_flags_for_adapters_leave_what_was_chosen() -> None:
    """A flag that an arm sets is not given twice."""
    assert lora_flags(()) == ("--enable-lora", "--max-lora-rank", "8", "--max-loras", "2")
    assert lora_flags(("--max-loras=4", "--no-enable-lora")) == ("--max-lora-rank", "8")


def test_forced_decoding_takes_flags_and_a_release_that_has_it() -> None:
    """One probe that asks for it is enough; a flag that an arm sets is not given twice."""
    plain = scenario()
    forced = scenario({"probe": {"name": "p", "evidence": ["forced"]}}, requires="gpu")
    assert features_of(forced) - features_of(plain) == {Feature.FORCED_DECODE}
    assert forcing_flags(forced, ()) == ("--enable-scale-out", "--enable-trace-replay")
    assert forcing_flags(forced, ("--enable-scale-out",)) == ("--enable-trace-replay",)
    assert forcing_flags(plain, ()) == ()


def test_an_arm_may_ask_for_what_only_some_releases_have() -> None:
    """Batch invariance is asked for in the environment, which a release that lacks it does not look at."""
    asking = Arm(env={"VLLM_BATCH_INVARIANT": "1", "OTHER": "1"})
    assert features_of_arm(asking) == {Feature.BATCH_INVARIANCE}
    assert features_of_arm(Arm(env={"VLLM_BATCH_INVARIANT": "0"})) == set()


def test_a_model_without_a_folder_is_refused_in_words(driver: Driver, toy_model_folder: Path) -> None:
    """Adapters are made from a folder; a Hugging Face id has none on this machine."""
    plain = driver.cell()
    needing = driver.cell_of("  - probe: b\n  - load_adapter: {name: x, adapter: first}\n  - probe: c\n")
    hub = model_on_hub("Qwen/Qwen3-0.6B", dtype="auto")
    require_variants([plain], hub)
    require_variants([needing], model_in_folder(toy_model_folder, dtype="auto"))
    with pytest.raises(UsageError, match=r"'Qwen/Qwen3-0\.6B' is not one") as refused:
        require_variants([plain, needing], hub)
    assert "--model" in refused.value.remedy


@pytest.mark.parametrize(
    ("step", "needs"),
    [({"sleep": {"level": 0}}, False), ({"pause": {}}, True), ({"abort_requests": {}}, True)],
)
def test_some_steps_are_no_method_of_an_llm(step: dict[str, object], *, needs: bool) -> None:
    """Then an engine in process has to be an asynchronous one."""
    assert needs_async(scenario(step)) is needs
