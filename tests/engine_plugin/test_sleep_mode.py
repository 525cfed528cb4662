"""The sleep mode's contract, on a real engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine_plugin.engine import PROMPTS, Answer, Engine, running_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

KV_CACHE = 1024  # MiB: VLLM_CPU_KVCACHE_SPACE=1
WEIGHTS = 513  # MiB: 134.5 million parameters in float32
SLACK = 40  # MiB: what measurements of a running process vary


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A healthy engine, warmed up."""
    with running_engine(tmp_path_factory.mktemp("engine") / "server.log") as engine:
        engine.answers()
        yield engine


@pytest.fixture(scope="module")
def baseline(engine: Engine) -> list[Answer]:
    """What the engine answered before it slept for the first time."""
    return engine.answers()


@pytest.fixture(scope="module")
def checksums(engine: Engine, baseline: list[Answer]) -> dict[str, str]:
    """The weights before the engine slept for the first time."""
    assert baseline
    return engine.checksums()


class TestLevel0:
    """Pausing only."""

    def test_leaves_memory_alone(self, engine: Engine, baseline: list[Answer]) -> None:
        """Nothing is given back, and what is cached stays cached."""
        awake = engine.resident()
        engine.sleep(0)
        asleep = engine.resident()
        engine.wake_up()

        assert abs(awake - asleep) < SLACK
        assert engine.ask(PROMPTS[0]) == (baseline[0], 96)


class TestLevel1:
    """Weights return by themselves."""

    def test_answers_return_exactly(
        self, engine: Engine, baseline: list[Answer], checksums: dict[str, str]
    ) -> None:
        """Tokens, logprobs and weights are the same; the prefix cache starts empty."""
        engine.cycle(1)

        assert engine.ask(PROMPTS[0], cache_salt="cold")[1] == 0
        assert engine.ask(PROMPTS[0])[1] == 0
        assert engine.answers() == baseline
        assert engine.checksums() == checksums

    def test_memory_is_given_back(self, engine: Engine, baseline: list[Answer]) -> None:
        """KV cache and weights leave memory, and take the same again after waking up, cycle after cycle."""
        assert baseline
        for _ in range(3):
            awake = engine.resident()
            engine.sleep(1)
            asleep = engine.resident()
            engine.wake_up()

            assert abs(awake - asleep - KV_CACHE - WEIGHTS) < SLACK
            assert abs(engine.resident() - awake) < SLACK

    @pytest.mark.parametrize("tags", [("weights", "kv_cache"), ("kv_cache", "weights")])
    def test_tags_in_either_order(
        self, engine: Engine, baseline: list[Answer], tags: tuple[str, str]
    ) -> None:
        """Each tag takes its own memory back; the engine is awake after the last."""
        engine.sleep(1)
        asleep = engine.resident()
        engine.wake_up(tags[0])
        expected = WEIGHTS if tags[0] == "weights" else KV_CACHE

        assert abs(engine.resident() - asleep - expected) < SLACK
        assert engine.get("/is_sleeping") == {"is_sleeping": True}
        engine.wake_up(tags[1])
        assert engine.get("/is_sleeping") == {"is_sleeping": False}
        assert engine.answers() == baseline

    @pytest.mark.parametrize("second", [1, 2])
    def test_second_sleep_loses_nothing(self, engine: Engine, baseline: list[Answer], second: int) -> None:
        """Putting a sleeping engine to sleep again, at either level, keeps what the first sleep saved."""
        engine.sleep(1)
        engine.sleep(second)
        engine.wake_up()

        assert engine.answers() == baseline


class TestLevel2:
    """Weights have to be loaded again."""

    def test_answers_are_garbage_without_reload(self, engine: Engine, baseline: list[Answer]) -> None:
        """The weights are really gone, and the documented reload with a reset brings them back."""
        engine.sleep(2)
        engine.wake_up()
        lost = engine.answers()
        engine.reload_weights()
        engine.post("/reset_prefix_cache")

        assert all(answer != before for answer, before in zip(lost, baseline, strict=True))
        assert engine.answers() == baseline

    def test_answers_return_exactly(
        self, engine: Engine, baseline: list[Answer], checksums: dict[str, str]
    ) -> None:
        """After the documented recovery tokens, logprobs and weights are the same: buffers survived."""
        engine.cycle(2)

        assert engine.answers() == baseline
        assert engine.checksums() == checksums

    def test_memory_is_given_back(self, engine: Engine, baseline: list[Answer]) -> None:
        """Level 2 gives back as much as level 1."""
        assert baseline
        awake = engine.resident()
        engine.sleep(2)
        asleep = engine.resident()
        engine.wake_up("weights")
        engine.reload_weights()
        engine.wake_up("kv_cache")

        assert abs(awake - asleep - KV_CACHE - WEIGHTS) < SLACK
        assert abs(engine.resident() - awake) < SLACK


class TestEndpoints:
    """What vLLM has on top of the worker works unchanged."""

    def test_release_kv_cache_memory(self, engine: Engine, baseline: list[Answer]) -> None:
        """A paused engine gives back its KV cache alone and answers the same afterwards."""
        awake = engine.resident()
        engine.post("/pause?mode=abort")
        engine.post("/release_kv_cache_memory")
        released = engine.resident()
        engine.wake_up()
        engine.post("/resume")

        assert abs(awake - released - KV_CACHE) < SLACK
        assert engine.answers() == baseline

    @pytest.mark.parametrize(("level", "state"), [(1, "weights_offloaded"), (2, "discard_all")])
    def test_sleep_state_metric(self, engine: Engine, baseline: list[Answer], level: int, state: str) -> None:
        """The metric tells the level while asleep, and that the engine is awake afterwards."""
        engine.sleep(level)
        asleep = engine.metric(f'sleep_state="{state}"')
        engine.wake_up()
        engine.reload_weights()

        assert asleep == 1
        assert engine.metric('sleep_state="awake"') == 1
        assert engine.answers() == baseline

    def test_every_weight_has_a_checksum_of_its_own(self, checksums: dict[str, str]) -> None:
        """No parameter has been packed away: none is empty, and no two are the same."""
        assert len(set(checksums.values())) == len(checksums) == 182
