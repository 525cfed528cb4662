"""Each fault hurts a real engine after a real sleep, in the way it says and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.engine_plugin.faults import FAULTS, switchboard
from harness.engine_plugin.faults.decode_path import LATE
from tests.engine_plugin.engine import PROMPTS, Answer, Engine, running_engine
from tests.engine_plugin.faults.observing import Observation, observe, observe_cycle

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

Shows = Callable[[Observation, Observation], bool]


def answers(seen: Observation) -> list[Answer]:
    """All greedy answers."""
    return [seen.alone, *seen.together]


def tokens(seen: Observation) -> list[tuple[int, ...]]:
    """All greedy answers without their logprobs."""
    return [answer.tokens for answer in answers(seen)]


def changed_weights(before: Observation, after: Observation) -> int:
    """How many parameters have another checksum."""
    return sum(before.checksums[name] != checksum for name, checksum in after.checksums.items())


def endings(seen: Observation) -> list[str]:
    """How the greedy answers ended."""
    return [answer.finish_reason for answer in answers(seen)]


def late_tokens_only(before: Observation, after: Observation) -> bool:
    """Equal up to the 39th token, then not."""
    pairs = [
        (old, new)
        for old, new in zip(tokens(before), tokens(after), strict=True)
        if min(len(old), len(new)) >= LATE
    ]
    return bool(pairs) and all(
        old[: LATE - 1] == new[: LATE - 1] and old[LATE - 1] != new[LATE - 1] for old, new in pairs
    )


def some_prompts_only(before: Observation, after: Observation) -> bool:
    """Some answers differ from their first token on, the others are equal to the last bit."""
    first = [old.tokens[0] != new.tokens[0] for old, new in zip(before.together, after.together, strict=True)]
    equal = [old == new for old, new in zip(before.together, after.together, strict=True)]
    return any(first) and any(equal) and all(a != b for a, b in zip(first, equal, strict=True))


IN_A_WORKER: dict[str, Shows] = {
    "lose-weights": lambda a, b: changed_weights(a, b) > 100 and tokens(a) != tokens(b),
    "detune-one-weight": lambda a, b: changed_weights(a, b) == 1 and answers(a) != answers(b),
    "lose-buffers": lambda a, b: changed_weights(a, b) == 0 and tokens(a) != tokens(b),
    "scale-logits": lambda a, b: tokens(a) == tokens(b) and answers(a) != answers(b),
    "swap-rows": lambda a, b: a.alone == b.alone and a.together != b.together,
    "damage-late-tokens": late_tokens_only,
    "damage-long-prompts": some_prompts_only,
    "lose-end-of-sequence": lambda a, b: "stop" in endings(a) and "stop" not in endings(b),
    "eager-end-of-sequence": lambda a, b: sum(map(len, tokens(b))) < sum(map(len, tokens(a))),
    "keep-memory": lambda a, b: answers(a) == answers(b) and (b.asleep or 0) > a.awake - 1024 - 100,
    "leak-memory": lambda a, b: answers(a) == answers(b) and b.awake > a.awake + 40,
    "slow-steps": lambda a, b: answers(a) == answers(b) and b.seconds > a.seconds + 3,
    "slow-prefill": lambda a, b: answers(a) == answers(b) and b.seconds > a.seconds + 0.1,
    "slow-wake-ups": lambda a, b: answers(a) == answers(b),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engines of this module write."""
    return tmp_path_factory.mktemp("engine") / "server.log"


def switched(function: Callable[[], None]) -> dict[str, str]:
    """The environment of an engine whose faults can be planted while it runs."""
    return {"SLEEPWAKE_FAULT": f"{switchboard.__file__}:{function.__name__}"}


@pytest.fixture(scope="module")
def engine(log: Path) -> Iterator[Engine]:
    """A healthy engine that faults can be planted in."""
    with running_engine(log, env=switched(switchboard.install)) as engine:
        engine.answers()
        yield engine


@pytest.fixture(scope="module")
def baseline(engine: Engine) -> Observation:
    """What the engine shows before any fault."""
    return observe(engine)


@pytest.fixture
def plant(engine: Engine) -> Iterator[Callable[[str], None]]:
    """Return a function that plants a fault; afterwards the engine is healthy again."""
    yield lambda name: engine.post("/collective_rpc", {"method": "plant_fault", "kwargs": {"name": name}})
    engine.post("/collective_rpc", {"method": "heal"})
    engine.reload_weights()
    engine.post("/reset_prefix_cache")


class TestInAWorker:
    """Faults of the process that computes."""

    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize("name", IN_A_WORKER)
    def test_shows_after_a_sleep_only(
        self,
        engine: Engine,
        baseline: Observation,
        plant: Callable[[str], None],
        name: str,
        level: int,
    ) -> None:
        """A planted engine answers as before, over a level-0 sleep too, until it has really slept."""
        plant(name)
        engine.cycle(0)

        before = observe(engine)
        after = observe_cycle(engine, level)

        assert answers(before) == answers(baseline)
        assert IN_A_WORKER[name](before, after)

    def test_third_cycle(self, engine: Engine, baseline: Observation, plant: Callable[[str], None]) -> None:
        """Two cycles are healthy, the third is not."""
        plant("detune-from-third-cycle")

        cycles = [observe_cycle(engine, level) for level in (1, 2, 1)]

        assert [answers(seen) == answers(baseline) for seen in cycles] == [True, True, False]

    def test_nan_row(self, engine: Engine, baseline: Observation, plant: Callable[[str], None]) -> None:
        """Within a hundred steps an answer is another one or refused, and the engine lives on."""
        plant("nan-row")
        engine.cycle(1)

        statuses = [engine.try_to_ask(prompt) for prompt in PROMPTS[:3]]

        assert any(status != 200 or answer not in baseline.together for status, answer in statuses)
        assert engine.http.get("/health").status_code == 200

    def test_reload_heals_lost_weights(
        self, engine: Engine, baseline: Observation, plant: Callable[[str], None]
    ) -> None:
        """A control's reload after level 1 heals, and so does the second reload after level 2."""
        plant("lose-weights")
        for level in (1, 2):
            engine.cycle(level)
            engine.reload_weights()
            engine.post("/reset_prefix_cache")

            assert engine.checksums() == baseline.checksums
            assert engine.answers_at_once() == baseline.together


class TestPrefixCache:
    """Faults of the prefix cache: block hashes in the engine core, content in the worker."""

    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize(
        ("content", "right"),
        [
            ("keep-prefix-cache", "none"),
            ("keep-kv-cache", "all"),
            ("lose-kv-of-one-layer", "none"),
            ("lose-kv-of-some-blocks", "some"),
        ],
    )
    def test_hurts_what_is_cached(
        self, engine: Engine, plant: Callable[[str], None], level: int, content: str, right: str
    ) -> None:
        """Hits after the sleep are wrong unless the content survived; cold and reset answers are right."""
        engine.post("/reset_prefix_cache")
        before = engine.answers_at_once()
        plant(content)

        engine.cycle(level)
        warm = [engine.ask(prompt) for prompt in PROMPTS]
        cold = engine.answers_at_once(cache_salt=f"{content}{level}")
        engine.post("/reset_prefix_cache")

        same = [answer == old for (answer, _), old in zip(warm, before, strict=True)]
        assert {"none": not any(same), "some": not all(same), "all": all(same)}[right]
        assert all(cached >= 96 for _, cached in warm)
        assert cold == before
        assert engine.answers_at_once() == before

    @pytest.mark.parametrize(
        ("name", "right", "cached"),
        [("damage-blocks-cached-after-wake", False, 96), ("dead-prefix-cache", True, 0)],
    )
    def test_hurts_what_is_cached_after_waking(
        self, engine: Engine, plant: Callable[[str], None], name: str, *, right: bool, cached: int
    ) -> None:
        """What is computed after the sleep is right; reading it again is not, or does not happen."""
        engine.post("/reset_prefix_cache")
        before = [engine.ask(prompt)[0] for prompt in PROMPTS]
        plant(name)

        engine.cycle(1)
        computed = [engine.ask(prompt)[0] for prompt in PROMPTS]
        again = [engine.ask(prompt) for prompt in PROMPTS]

        assert computed == before
        assert ([answer for answer, _ in again] == before) is right
        assert all(min(hit, 96) == cached for _, hit in again)

    def test_a_pause_still_clears_the_cache(self, engine: Engine, plant: Callable[[str], None]) -> None:
        """Only sleeping is broken: releasing the KV cache alone resets the prefix cache."""
        plant("keep-prefix-cache")
        before, cached = engine.ask(PROMPTS[0])
        engine.post("/pause?mode=abort")
        engine.post("/release_kv_cache_memory")
        engine.wake_up()
        engine.post("/resume")

        assert cached
        assert engine.ask(PROMPTS[0]) == (before, 0)


class TestScheduler:
    """Faults of the process that schedules."""

    def test_moved_seed_and_dropped_request(self, log: Path) -> None:
        """Healthy before; afterwards seeded answers move, greedy ones do not, and one of eight never ends."""
        with running_engine(log, env={"SLEEPWAKE_FAULT": "move-seed,drop-request"}) as engine:
            before = observe(engine)
            engine.cycle(0)
            still = [observe(engine) for _ in range(2)]
            engine.cycle(1)

            seeded = engine.ask(PROMPTS[1], temperature=1, seed=7, tokens=16)[0]
            greedy = [engine.ask(prompt)[0] for prompt in PROMPTS]
            status, _ = engine.try_to_ask(PROMPTS[0], seconds=15)

            assert [(seen.seeded, answers(seen)) for seen in still] == [(before.seeded, answers(before))] * 2
            assert seeded != before.seeded
            assert greedy == before.together
            assert status is None
            assert engine.http.get("/health").status_code == 200
            assert engine.ask(PROMPTS[0])[0] == before.alone


class TestCorpus:
    """The faults as a whole."""

    def test_every_fault_is_tested(self) -> None:
        """A new fault needs a line in this module, in ``test_parts_on_engine`` or in ``test_pictures``."""
        tested = IN_A_WORKER.keys() | {"detune-from-third-cycle", "nan-row", "move-seed", "drop-request"}
        tested |= {"keep-prefix-cache", "keep-kv-cache", "lose-kv-of-one-layer", "lose-kv-of-some-blocks"}
        tested |= {"damage-blocks-cached-after-wake", "dead-prefix-cache"}

        assert {name for name, fault in FAULTS.items() if not (fault.needs or fault.pictures)} == tested
