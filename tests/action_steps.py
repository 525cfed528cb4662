"""Runs the shell steps of ``action.yml`` as a runner does, for tests."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

ACTION: Mapping[str, Any] = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """How a step ended."""

    code: int
    output: str
    outputs: Mapping[str, str]
    """What it wrote to ``$GITHUB_OUTPUT``."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A folder for the job, one for what it installs, and variables that a runner has."""

    work: Path
    temp: Path
    environ: Mapping[str, str]

    def step(self, name: str, **inputs: str) -> Stepped:
        """Run the step ``name`` with these inputs, all others at their defaults."""
        step = next(each for each in ACTION["runs"]["steps"] if each["name"] == name)
        outputs = self.temp / "outputs"
        outputs.write_text("")
        given = {key: spec.get("default", "") for key, spec in ACTION["inputs"].items()} | inputs
        told = {
            variable: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], text)
            for variable, text in step.get("env", {}).items()
        }
        done = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=self.work,
            env={**self.environ, **told, "RUNNER_TEMP": str(self.temp), "GITHUB_OUTPUT": str(outputs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines = [line.partition("=") for line in outputs.read_text().splitlines()]
        return Stepped(
            code=done.returncode, output=done.stdout, outputs={key: value for key, _, value in lines}
        )


def bare_environment() -> dict[str, str]:
    """What a runner has that tells nothing about this project or its tests."""
    left_out = ("PYTHON", "SLEEPWAKE_", "GITHUB_")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
