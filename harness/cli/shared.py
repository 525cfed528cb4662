"""What commands share: options that mean the same in each, and plain output."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from harness.option_sources import OUT_VARIABLE, variable, variable_of_words

RunArgument = Annotated[str | None, Parameter(name="RUN")]
RuntimeOption = Annotated[Literal["auto", "docker", "process", "attached"], variable("SLEEPWAKE_RUNTIME")]
ArmsOption = Annotated[tuple[str, ...], Parameter(name="--arm")]
ModelOption = Annotated[str | None, variable("SLEEPWAKE_MODEL")]
VllmArgsOption = Annotated[tuple[str, ...], variable_of_words("SLEEPWAKE_VLLM_ARGS", option="--vllm-arg")]
OutOption = Annotated[Path, variable(OUT_VARIABLE)]


def print_lines(lines: Iterable[str]) -> None:
    """Write each line as it is, without wrapping or colour."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
