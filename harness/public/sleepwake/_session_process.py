"""The other process of :mod:`sleepwake._session`."""

from __future__ import annotations

from sleepwake._own import use_own_harness

if __name__ == "__main__":
    use_own_harness()
    from harness.pytest_session import answer_one_order

    answer_one_order()
