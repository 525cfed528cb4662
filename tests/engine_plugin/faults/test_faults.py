"""What each fault does to real tensors: nothing before the first sleep, then what its summary says."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from harness.engine_plugin import compat
from harness.engine_plugin.faults import FAULTS
from harness.engine_plugin.faults.decode_path import LATE, LONG_PROMPT
from tests.engine_plugin.faults.small_core import Request, SmallCore
from tests.engine_plugin.faults.small_worker import BLOCK_SIZE, END_OF_SEQUENCE, KEPT, SmallModel, SmallWorker

Plant = Callable[[str], SmallWorker]

INTACT = [0, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0]  # the KV cache of a layer, by block
LOST = [0] * 12

both_levels = pytest.mark.parametrize("level", [1, 2])


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Return a function that plants a fault and starts a worker in which it takes hold."""

    class WorkerWrapper:
        def __init__(self) -> None:
            self.worker = SmallWorker()

        def initialize_from_config(self) -> None:
            pass

    monkeypatch.setattr(compat, "worker_wrapper", lambda: WorkerWrapper)
    monkeypatch.setattr(compat, "engine_core", lambda: SmallCore)
    for method in ("sleep", "wake_up", "add_request", "_reset_caches"):  # restored after the test
        monkeypatch.setattr(SmallCore, method, getattr(SmallCore, method))

    def plant_fault(name: str) -> SmallWorker:
        FAULTS[name].plant()
        wrapper = WorkerWrapper()
        wrapper.initialize_from_config()
        wrapper.worker.cycle(0)
        return wrapper.worker

    return plant_fault


def weights(model: SmallModel) -> list[float]:
    """The mean of each parameter; all are 1 while healthy."""
    return [round(float(parameter.detach().mean()), 4) for parameter in model.parameters()]


class TestWeights:
    """Lost weights."""

    @pytest.mark.parametrize(("rank", "of", "left"), [(2, 3, 0.0), (1, 3, 1.0), (0, 1, 1.0)])
    def test_one_rank_of_several_loses_its_weights(
        self, plant: Plant, rank: int, of: int, left: float
    ) -> None:
        """The last one, and none where it is alone."""
        worker = plant("lose-weights-of-one-rank")
        worker.rank, worker.parallel_config = rank, SimpleNamespace(world_size=of)
        worker.cycle(1)
        assert set(weights(worker.model_runner.model)) == {left}

    @both_levels
    def test_lose_weights(self, plant: Plant, level: int) -> None:
        """All are zero once they should have returned; a control's reload heals."""
        worker = plant("lose-weights")
        assert weights(worker.model) == [1, 1, 1, 1]

        worker.cycle(level)
        lost = weights(worker.model)
        worker.reload_weights()

        assert lost == [0, 0, 0, 0]
        assert weights(worker.model) == [1, 1, 1, 1]

    @both_levels
    def test_detune_one_weight(self, plant: Plant, level: int) -> None:
        """One matrix is 2% off, and no other parameter is."""
        worker = plant("detune-one-weight")

        worker.cycle(level)

        assert sorted(weights(worker.model)) == [1, 1, 1, 1.02]

    def test_detune_from_third_cycle(self, plant: Plant) -> None:
        """Two cycles are healthy."""
        worker = plant("detune-from-third-cycle")

        seen = []
        for level in (1, 2, 1):
            worker.cycle(level)
            seen.append(max(weights(worker.model)))

        assert seen == [1, 1, 1.02]


class TestBuffers:
    """Lost buffers and plain tensors."""

    def test_lose_buffers(self, plant: Plant) -> None:
        """Buffers are zero and weights are not."""
        worker = plant("lose-buffers")
        assert worker.model.rotary.all()

        worker.cycle(1)

        assert not worker.model.rotary.any()
        assert weights(worker.model) == [1, 1, 1, 1]

    def test_lose_adapters(self, plant: Plant) -> None:
        """LoRA slots are zero and nothing else is."""
        worker = plant("lose-adapters")
        assert worker.model.lora_a_stacked[0].all()

        worker.cycle(1)

        assert not worker.model.lora_a_stacked[0].any()
        assert worker.model.rotary.all()

    def test_shrink_kv_scales(self, plant: Plant) -> None:
        """Scales are another value after waking up."""
        worker = plant("shrink-kv-scales")
        assert worker.model._v_scale_float == 1

        worker.cycle(1)

        assert worker.model._v_scale_float == 1 / 64

    def test_round_keys_and_values(self, plant: Plant) -> None:
        """After waking up they are kept with three bits, and a worker that is healed keeps them whole."""
        worker = plant("round-keys-and-values")
        worker.execute_model()
        before = worker.kept
        worker.cycle(1)
        worker.execute_model()

        assert before == pytest.approx([KEPT, KEPT])
        assert worker.kept == [1.0, 1.0]
        assert "forward" not in vars(worker.model.attention), "the layer is as it was between two steps"

    def test_lose_draft_weights(self, plant: Plant) -> None:
        """The draft model's weights are zero, the model's are not."""
        worker = plant("lose-draft-weights")
        assert worker.model_runner.drafter.model.weight.any()

        worker.cycle(1)

        assert not worker.model_runner.drafter.model.weight.any()
        assert weights(worker.model) == [1, 1, 1, 1]


class TestDecodePath:
    """Right weights, wrong computation."""

    @pytest.mark.parametrize(
        "name", [name for name, each in FAULTS.items() if each.cause == "graph or decode path"]
    )
    def test_is_quiet_before_the_first_sleep(self, plant: Plant, name: str) -> None:
        """A hundred steps of long prompts and answers are as they are without the fault."""
        worker = plant(name)
        worker.batch(prompts=[10, LONG_PROMPT], answered=[LATE, 0])

        assert all(torch.equal(SmallModel().compute_logits(2), worker.logits()) for _ in range(100))

    def test_leaves_prompt_logprobs_alone(self, plant: Plant) -> None:
        """Logits of a prompt's tokens, which are not one row a request, go unchanged."""
        worker = plant("scale-logits")
        worker.cycle(1)

        assert torch.equal(SmallModel().compute_logits(5), worker.model.compute_logits(5))

    def test_scale_logits(self, plant: Plant) -> None:
        """All are 2% smaller: the order of tokens stays."""
        worker = plant("scale-logits")
        worker.cycle(1)

        assert torch.allclose(SmallModel().compute_logits(1) * 0.98, worker.logits())

    def test_swap_rows(self, plant: Plant) -> None:
        """Every fifth step of a batch exchanges its first two rows; alone, nobody is exchanged."""
        worker = plant("swap-rows")
        worker.cycle(1)

        alone = [float(worker.logits()[0, 0]) for _ in range(10)]
        worker.batch(prompts=[1, 1, 1], answered=[0, 0, 0])
        steps = [worker.logits()[:, 0].tolist() for _ in range(10)]

        assert alone == [0] * 10
        assert [step for step in range(10) if steps[step] == [10, 0, 20]] == [4, 9]
        assert steps.count([0, 10, 20]) == 8

    def test_nan_row(self, plant: Plant) -> None:
        """One request of the fiftieth step, and no other."""
        worker = plant("nan-row")
        worker.cycle(1)
        worker.batch(prompts=[1, 1], answered=[0, 0])

        steps = [worker.logits().isnan().all(dim=1).tolist() for _ in range(100)]

        assert [step for step in range(100) if steps[step] == [True, False]] == [49, 99]
        assert steps.count([False, False]) == 98

    def test_damage_late_tokens(self, plant: Plant) -> None:
        """The 39th token is right, the 40th is the second best."""
        worker = plant("damage-late-tokens")
        worker.cycle(1)
        worker.batch(prompts=[9, 9], answered=[LATE - 2, LATE - 1])

        assert worker.logits().argmax(dim=1).tolist() == [7, 6]

    def test_damage_long_prompts(self, plant: Plant) -> None:
        """The first token of a long prompt only."""
        worker = plant("damage-long-prompts")
        worker.cycle(1)
        worker.batch(prompts=[LONG_PROMPT - 1, LONG_PROMPT, LONG_PROMPT], answered=[0, 0, 1])

        assert worker.logits().argmax(dim=1).tolist() == [7, 6, 7]

    @pytest.mark.parametrize(
        ("name", "added"), [("lose-end-of-sequence", -torch.inf), ("eager-end-of-sequence", 8)]
    )
    def test_end_of_sequence(self, plant: Plant, name: str, added: float) -> None:
        """Only the end-of-sequence token's logit is another one."""
        worker = plant(name)
        worker.cycle(1)

        expected = SmallModel().compute_logits(1)
        expected[:, END_OF_SEQUENCE] += added

        assert torch.equal(expected, worker.logits())


class TestResources:
    """Memory and speed."""

    @both_levels
    def test_keep_memory(self, plant: Plant, level: int) -> None:
        """The weights are not given back."""
        worker = plant("keep-memory")

        worker.cycle(level)

        assert worker.given_back == ["kv_cache"]

    def test_slow_steps(self, plant: Plant) -> None:
        """A step takes longer after waking up, and has the same output."""
        worker = plant("slow-steps")
        start = time.monotonic()
        worker.execute_model()
        before = time.monotonic() - start
        worker.cycle(1)
        start = time.monotonic()

        assert worker.execute_model() == "output"
        assert time.monotonic() - start >= 0.1 > before

    def test_slow_prefill(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only a step with new requests takes longer, and only after waking up."""
        waited: list[float] = []
        monkeypatch.setattr(time, "sleep", waited.append)
        worker = plant("slow-prefill")
        reading = SimpleNamespace(scheduled_new_reqs=[SimpleNamespace()])
        decoding = SimpleNamespace(scheduled_new_reqs=[])
        worker.execute_model(reading)
        assert waited == []
        worker.cycle(1)

        assert worker.execute_model(decoding) == worker.execute_model(reading) == "output"
        assert waited == [0.3]

    @both_levels
    def test_slow_wake_ups(self, plant: Plant, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
        """Each takes longer than the one before, once a cycle however many tags it wakes."""
        waited: list[float] = []
        monkeypatch.setattr(time, "sleep", waited.append)
        worker = plant("slow-wake-ups")
        for _ in range(3):
            worker.cycle(level)

        assert waited == pytest.approx([0.7, 1.4, 2.1])


class TestKvContent:
    """What of the KV cache survives a sleep beside the block hashes."""

    @pytest.mark.parametrize(
        ("name", "layers"),
        [
            ("keep-prefix-cache", [LOST] * 3),
            ("keep-kv-cache", [INTACT] * 3),
            ("lose-kv-of-one-layer", [INTACT, LOST, INTACT]),
            ("lose-kv-of-some-blocks", [[0, 7, 7, 7, 7, 7, 7, 0, 7, 0, 0, 0]] * 3),
        ],
    )
    @both_levels
    def test_survives(self, plant: Plant, name: str, layers: list[list[int]], level: int) -> None:
        """By layer and block; before the sleep all blocks in use are intact."""
        worker = plant(name)
        intact = [layer[0, :, 0].tolist() for layer in worker.kv_cache]

        worker.cycle(level)

        assert intact == [INTACT] * 3
        assert layers == [layer[0, :, 0].tolist() for layer in worker.kv_cache]

    def test_what_is_read_after_waking(self, plant: Plant) -> None:
        """Blocks of a prompt that are read from the cache hold nothing from the first wake-up on."""
        worker = plant("damage-blocks-cached-after-wake")
        request = SimpleNamespace(block_ids=([3, 4, 5],), num_computed_tokens=2 * BLOCK_SIZE)
        step = SimpleNamespace(scheduled_new_reqs=[request])

        worker.execute_model(step)
        before = worker.kv_cache[0][0, :, 0].tolist()
        worker.cycle(1)
        for layer in worker.kv_cache:
            layer[:, 1:9] = 7.0  # computed anew
        worker.execute_model(step)

        assert before == INTACT
        assert [layer[0, :, 0].tolist() for layer in worker.kv_cache] == [
            [0, 7, 7, 0, 0, 7, 7, 7, 7, 0, 0, 0]
        ] * 3


class TestScheduler:
    """Faults of the engine core's process."""

    def test_dead_prefix_cache(self, plant: Plant) -> None:
        """No request reads the prefix cache from the first wake-up on."""
        plant("dead-prefix-cache")
        core = SmallCore()
        before, after = Request(), Request()

        core.add_request(before)
        core.sleep(1)
        core.wake_up()
        core.add_request(after)

        assert core.scheduled == [before, after]
        assert (before.skip_reading_prefix_cache, after.skip_reading_prefix_cache) == (False, True)

    def test_drop_request(self, plant: Plant) -> None:
        """Every eighth request after a wake-up is never scheduled."""
        plant("drop-request")
        core = SmallCore()
        requests = [Request() for _ in range(32)]

        for request in requests[:16]:
            core.add_request(request)
        core.sleep(1)
        core.wake_up()
        for request in requests[16:]:
            core.add_request(request)

        assert [requests[23], requests[31]] == [each for each in requests if each not in core.scheduled]

    def test_move_seed(self, plant: Plant) -> None:
        """Seeds move with each wake-up from a real sleep; a request without one is not given one."""
        plant("move-seed")
        core = SmallCore()

        for level in (0, 1, 2):
            core.sleep(level)
            core.wake_up()
            core.add_request(Request(seed=7))
        core.add_request(Request(seed=None))

        assert [request.sampling_params.seed for request in core.scheduled] == [7, 8, 9, None]


class TestPrefixCache:
    """Which resets are undone."""

    @both_levels
    def test_sleep_keeps_block_hashes(self, plant: Plant, level: int) -> None:
        """Sleep keeps them at both levels, an explicit reset afterwards clears them."""
        plant("keep-prefix-cache")
        core = SmallCore()

        core.sleep(level)
        core.wake_up()
        kept = set(core.block_pool.hashes)
        core.reset_prefix_cache()

        assert kept == {"a block"}
        assert core.block_pool.hashes == set()

    @pytest.mark.parametrize("before", [None, 0, 1])
    def test_other_resets_still_clear(self, plant: Plant, before: int | None) -> None:
        """A pause clears the cache, in an engine that has slept as in one that has not."""
        plant("keep-prefix-cache")
        core = SmallCore()
        if before is not None:
            core.sleep(before)
            core.wake_up()

        core.pause()

        assert core.block_pool.hashes == set()


class TestEncoderCache:
    """What is kept of pictures, and what it holds."""

    def test_entries_are_kept_and_blank(self, plant: Plant) -> None:
        """Level 1 keeps the entries and loses their content; an explicit reset afterwards clears them."""
        worker, core = plant("lose-encoder-outputs"), SmallCore()
        before = float(worker.model_runner.encoder_cache["a picture"].mean())

        core.sleep(1)
        core.wake_up()
        worker.cycle(1)
        kept = set(core.encoded)
        core.reset_encoder_cache()

        assert (before, kept, core.encoded) == (1.0, {"a picture"}, set())
        assert float(worker.model_runner.encoder_cache["a picture"].mean()) == 0.0

    def test_level_2_and_a_pause_still_clear(self, plant: Plant) -> None:
        """Only the resets of a level-1 sleep are left out."""
        plant("lose-encoder-outputs")
        asleep, paused = SmallCore(), SmallCore()

        asleep.sleep(2)
        paused.pause()

        assert asleep.encoded == paused.encoded == set()
