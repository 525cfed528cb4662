"""``python -m tests.fake_vllm``: the fake as a process, with vLLM's command line."""

from __future__ import annotations

import sys
from dataclasses import replace

import uvicorn

from tests.fake_vllm.behaviours import Behaviour
from tests.fake_vllm.options import Options
from tests.fake_vllm.serving import config


def main() -> None:
    """Serve until a signal comes."""
    options = replace(Options.parse(sys.argv[1:]), has_ballast=True)
    if Behaviour.DIE_AT_BOOT in options.misbehaviour:
        sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")
    uvicorn.Server(config(options)).run()


if __name__ == "__main__":
    main()
