"""The seams faults take hold of leave everything else as it was."""

from harness.engine_plugin.faults.hooks import Wrapper, wrap


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
