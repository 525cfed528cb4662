"""The other process of :mod:`sleepwake._guard_child`."""

from __future__ import annotations

from sleepwake._own import use_own_harness

if __name__ == "__main__":
    use_own_harness()
    from harness.guarding.process import serve

    serve()
