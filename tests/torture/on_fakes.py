"""``sleepwake`` with a fake for each engine it starts: ``python -m tests.torture.on_fakes run ...``.

It is a process of its own, which can be killed like any other.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from harness import workflow
from harness.cli import main
from harness.runs.options import RunOptions
from harness.servers.process.runtime import ProcessRuntime
from harness.servers.select import Choice

FAKE_ENGINE = (sys.executable, "-m", "tests.fake_vllm")
REPOSITORY = Path(__file__).parents[2]


def choose(options: RunOptions) -> Choice:
    """Fakes, whatever the machine has."""
    runtime = ProcessRuntime(engine_command=FAKE_ENGINE, engine="cpu", keep=options.keep_servers)
    return Choice(runtime=runtime, reason="these are fakes")


if __name__ == "__main__":
    undrawn = patch("vl_convert.vegalite_to_svg", lambda _: '<svg viewBox="0 0 1 1"></svg>')
    with patch.object(workflow, "choose", choose), undrawn:
        main()
