"""The program of the ``inprocess`` runtime: holds the engine that is tested."""

from __future__ import annotations

from sleepwake._own import use_own_harness

if __name__ == "__main__":
    use_own_harness()
    from harness.engine_plugin.holder import main

    main()
