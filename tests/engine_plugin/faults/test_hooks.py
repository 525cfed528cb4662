"""The seams faults take hold of: they act after a real sleep only, and leave everything else as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import Wrapper, after_wake, after_weights_return, counted_wakes, wrap


class Counter:
    """Something to wrap."""

    def add(self, number: int, *, times: int = 1) -> int:
        """Return a product."""
        return number * times


def negated(original: Wrapper, *arguments: object, **options: object) -> int:
    """Turn a result around."""
    return -int(original(*arguments, **options))


class TestWrap:
    """Replacing a method by one around it."""

    def test_a_class(self) -> None:
        """All instances are changed, and arguments reach the original."""

        class Own(Counter):
            pass

        wrap(Own, "add", negated)

        assert Own().add(2, times=3) == -6
        assert Counter().add(2, times=3) == 6

    def test_an_instance(self) -> None:
        """Only the one instance is changed."""
        counter = Counter()

        wrap(counter, "add", negated)

        assert counter.add(2, times=3) == -6
        assert Counter().add(2, times=3) == 6

    def test_twice(self) -> None:
        """Faults can be combined: the later one is around the earlier."""
        counter = Counter()

        wrap(counter, "add", negated)
        wrap(counter, "add", negated)

        assert counter.add(2) == 2


class Worker:
    """A worker as the hooks know it: it writes down what it is told, as the executor tells it."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def sleep(self, level: int = 1) -> None:
        """Fall asleep."""
        self.told.append(level)

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Wake up."""
        self.told.append(tags)

    def reload_weights(self) -> None:
        """Load weights."""
        self.told.append("reload")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Worker]:
    """Return a function that starts a worker in which everything hooked so far takes hold."""

    class WorkerWrapper:
        def __init__(self) -> None:
            self.worker = Worker()

        def initialize_from_config(self) -> None:
            pass

    monkeypatch.setattr(compat, "worker_wrapper", lambda: WorkerWrapper)

    def start_worker() -> Worker:
        wrapper = WorkerWrapper()
        wrapper.initialize_from_config()
        return wrapper.worker

    return start_worker


class TestAfterWake:
    """Acting at a wake-up."""

    def test_acts_when_the_tag_is_woken(self, start: Callable[[], Worker]) -> None:
        """With its own tag or with none, which means all, and once the engine has really woken up."""
        acted: list[list[object]] = []
        after_wake("weights", lambda worker: acted.append(list(worker.told)))
        worker = start()

        worker.sleep(level=1)
        worker.wake_up(tags=["kv_cache"])
        worker.wake_up(tags=["weights"])
        worker.sleep(level=2)
        worker.wake_up()

        assert acted == [[1, ["kv_cache"], ["weights"]], [1, ["kv_cache"], ["weights"], 2, None]]

    def test_level_0_is_no_sleep(self, start: Callable[[], Worker]) -> None:
        """Versions that tell the worker of a level-0 sleep, which gives nothing back, stay healthy."""
        acted: list[Worker] = []
        after_wake("weights", acted.append)
        worker = start()

        worker.wake_up()
        worker.sleep(level=0)
        worker.wake_up()

        assert acted == []


class TestAfterWeightsReturn:
    """Acting when weights are complete again."""

    @pytest.mark.parametrize(
        ("steps", "times"),
        [
            (["reload"], 0),  # awake: a control's reload
            (["sleep 1", "wake"], 1),
            (["sleep 1", "kv_cache", "weights"], 1),
            (["sleep 1", "kv_cache"], 0),
            (["sleep 1", "wake", "reload"], 1),  # the control heals
            (["sleep 2", "wake"], 0),  # nothing has returned yet
            (["sleep 2", "weights", "reload", "kv_cache"], 1),
            (["sleep 2", "weights", "reload", "kv_cache", "reload"], 1),
            (["sleep 1", "wake", "sleep 2", "weights", "reload", "kv_cache"], 2),
            (["sleep 0", "wake", "reload"], 0),
        ],
    )
    def test_times(self, start: Callable[[], Worker], steps: list[str], times: int) -> None:
        """Once at the wake-up from level 1, and once at the first reload after level 2."""
        acted: list[Worker] = []
        after_weights_return(acted.append)
        worker = start()
        told: dict[str, Callable[[], None]] = {
            "reload": worker.reload_weights,
            "wake": worker.wake_up,
            "weights": lambda: worker.wake_up(tags=["weights"]),
            "kv_cache": lambda: worker.wake_up(tags=["kv_cache"]),
            "sleep 0": lambda: worker.sleep(level=0),
            "sleep 1": lambda: worker.sleep(level=1),
            "sleep 2": lambda: worker.sleep(level=2),
        }

        for step in steps:
            told[step]()

        assert [worker] * times == acted
        assert len(steps) == len(worker.told)


class TestCountedWakes:
    """Counting cycles."""

    def test_counts_a_staged_wake_once(self) -> None:
        """Weights are woken once a cycle, whatever the order of the tags."""
        worker = Worker()
        wakes = counted_wakes(worker)

        for level in (0, 1, 2):
            worker.sleep(level=level)
            worker.wake_up(tags=["kv_cache"])
            worker.wake_up(tags=["weights"])

        assert wakes() == 2
