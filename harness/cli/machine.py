"""The commands about this machine and about sleepwake itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

from harness.cli.shared import print_lines
from harness.errors import ExitCode
from harness.extras import require


def clean() -> int:
    """Remove servers that a dead harness left behind, and those that --keep-servers left running.

    Servers of others (--endpoint) that a dead harness left asleep, paused or with what it loaded are given
    back as they were found.
    """
    from harness.drive.guest.owed import Ledger
    from harness.servers.select import sweep_all

    done = sweep_all()
    if (ledger := Ledger()).entries():
        require("run", for_what="giving servers back")
        import anyio

        from harness.drive.guest.giving_back import give_back_leftovers

        done += anyio.run(give_back_leftovers, ledger)
    print_lines(done or ["nothing was left behind"])
    return ExitCode.CLEAN


def doctor() -> int:
    """Show what this machine can run, and what each missing piece would add."""
    from harness.servers.doctor import examine_machine

    print_lines(
        f"{'yes' if finding.available else 'no':<4} {finding.what}: {finding.detail}"
        for finding in examine_machine()
    )
    return ExitCode.CLEAN


def build_image(
    *,
    vllm: str,
    base: str | None = None,
    wheels: Path | None = None,
    ca: Path | None = None,
    pip_conf: Path | None = None,
    proxy: str | None = None,
) -> int:
    """Build the CPU image of a vLLM release, unless it is there and up to date.

    Args:
        vllm: The release, for example 0.10.0.
        base: The image to build on: Debian 13 or newer with Python 3.11 or 3.12.
        wheels: A folder of wheels that are preferred to the index's.
        ca: A file of certificates that the build trusts besides the public ones.
        pip_conf: A pip configuration file for the build.
        proxy: URL of an HTTP proxy for the build.
    """
    require("docker", for_what="building an image")
    from harness.servers.docker.images import BuildOptions, ensure_image

    default = BuildOptions.from_environment()
    options = replace(
        default,
        base=base or default.base,
        wheels=wheels or default.wheels,
        ca=ca or default.ca,
        pip_conf=pip_conf or default.pip_conf,
        proxy=proxy or default.proxy,
    )
    built = ensure_image(vllm, options=options, progress=lambda step: print_lines([step]))
    print_lines([f"{'built' if built.built else 'up to date'}: {built.reference} {built.id}"])
    return ExitCode.CLEAN


def schema(what: Literal["scenario", "verdict"] = "scenario", /) -> int:
    """Print a JSON Schema.

    Args:
        what: Of scenario files, or of verdict.json.
    """
    from harness.check.result import RunResult
    from harness.scenario.schema import Scenario

    model = Scenario if what == "scenario" else RunResult
    print_lines([json.dumps(model.model_json_schema(), indent=2)])
    return ExitCode.CLEAN
