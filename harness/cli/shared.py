"""What commands share: options that mean the same in each, and plain output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from harness.cli.help import ENGINE, RESULT, WHAT
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
OutOption = Annotated[Path, variable(OUT_VARIABLE), Parameter(group=RESULT)]


class _OwnConsole(Console):
    """A console that says nothing more once nobody reads it; rich's own ends with 1, which is a verdict."""

    def on_broken_pipe(self) -> None:
        """Whoever read the output has stopped, as ``head`` does: the command goes on to its own end."""
        self.quiet = True
        _say_the_rest_to_nobody()


def new_console() -> Console:
    """What a command prints to."""
    return _OwnConsole(highlight=False)


def print_lines(lines: Iterable[str]) -> None:
    """Write each line as it is, without wrapping or colour."""
    for line in lines:
        try:
            sys.stdout.write(f"{line}\n")
        except BrokenPipeError:
            _say_the_rest_to_nobody()


def write_out() -> None:
    """Write what still waits to be written, before Python does and complains where nobody reads it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _say_the_rest_to_nobody()


def _say_the_rest_to_nobody() -> None:
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, sys.stdout.fileno())
    os.close(nobody)
