"""What commands share: options that mean the same in each, and plain output."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from harness.cli.help import ENGINE, RESULT, THEIRS, WHAT
from harness.cli.option_sources import OUT_VARIABLE, variable, variable_of_words

RunArgument = Annotated[str | None, Parameter(name="RUN")]
RuntimeOption = Annotated[
    Literal["auto", "docker", "process", "attached", "inprocess"],
    variable("SLEEPWAKE_RUNTIME"),
    Parameter(group=ENGINE),
]
ArmsOption = Annotated[tuple[str, ...], Parameter(name="--arm", group=WHAT)]
ModelOption = Annotated[str | None, variable("SLEEPWAKE_MODEL"), Parameter(group=ENGINE)]
VllmArgsOption = Annotated[
    tuple[str, ...],
    variable_of_words("SLEEPWAKE_VLLM_ARGS", option="--vllm-arg"),
    Parameter(group=ENGINE),
]
ApiKeyOption = Annotated[str | None, variable("SLEEPWAKE_API_KEY"), Parameter(group=THEIRS)]
HeadersOption = Annotated[
    tuple[str, ...], variable_of_words("SLEEPWAKE_HEADERS", option="--header"), Parameter(group=THEIRS)
]
CaFileOption = Annotated[Path | None, variable("SLEEPWAKE_CA_FILE"), Parameter(group=THEIRS)]
ClientFileOption = Annotated[Path | None, Parameter(group=THEIRS)]
ProxyOption = Annotated[bool, Parameter(negative=(), group=THEIRS)]
OutOption = Annotated[Path, variable(OUT_VARIABLE), Parameter(group=RESULT)]


def new_console() -> Console:
    """What a command prints to."""
    return Console(highlight=False)


def print_lines(lines: Iterable[str]) -> None:
    """Write each line as it is, without wrapping or colour."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
