"""Lists and runs the scenarios of a pytest session, or serves, in a process of its own; the plugin orders it.

One line of JSON comes in, one goes out.  Standard input stays open as long as the session wants the answer:
when it ends, because pytest was interrupted or killed, the run ends in order.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.errors import SleepwakeError
from harness.extras import require
from harness.scenario.cells import load_cells

if TYPE_CHECKING:
    from harness.check.result import CellResult
    from harness.runs.options import RunOptions
    from harness.servers.base import Runtime, ServerSpec

_MOST_FINDINGS = 10

SERVER = "sleepwake_server"
"""The fixture that a server is for; its log is called so."""


def answer_one_order() -> None:
    """Read an order from standard input, carry it out, write the answer to standard output."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_session, daemon=True).start()
    try:
        if "serve" in order:
            _serve(order["serve"])
            return
        answer = (
            {"files": {file: _listed(file) for file in order["list"]}} if "list" in order else _run(**order)
        )
    except SleepwakeError as error:
        answer = {"refused": str(error)}
    _say(answer)


def _say(answer: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end_with_the_session() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


def _listed(file: str) -> dict[str, JsonValue]:
    try:
        cells = load_cells([Path(file)])
    except SleepwakeError as error:
        return {"refused": str(error)}
    return {
        "cells": [{"id": cell.id, "arm": cell.arm_name, "default": cell.scenario.default} for cell in cells]
    }


def _run(run: Sequence[str], cells: Sequence[str], options: Mapping[str, str]) -> Mapping[str, JsonValue]:
    require("run", for_what="running scenarios")
    # A plain call of pytest only lists, and should not wait for what runs and judges.
    from rich.console import Console

    from harness import workflow
    from harness.fitting import obstacle
    from harness.report import write_report
    from harness.report.progress import Progress
    from harness.runs.judging import judge_directory
    from harness.runs.options import RunOptions

    asked = RunOptions.model_validate({**options, "paths": run})
    wanted = [cell for cell in workflow.load(asked) if cell.id in set(cells)]
    choice = workflow.choose(asked)
    obstacles = {cell.id: obstacle(cell, choice.runtime, asked) for cell in wanted}
    outcomes: dict[str, JsonValue] = {
        name: {"skipped": f"{name} {found.reason}"} for name, found in obstacles.items() if found
    }
    fit = [cell for cell in wanted if not obstacles[cell.id]]
    if not fit:
        return {"outcomes": outcomes}
    with Progress(Console(stderr=True, highlight=False), cells=len(fit)) as progress:
        finished = workflow.run(asked, fit, choice, progress=progress)
    judged = judge_directory(finished.directory)
    written = write_report(finished.directory, judged.report)
    outcomes |= {name: {"skipped": f"{name}: {reason}"} for name, reason in finished.left_out.items()}
    found = {result.cell: _outcome(result) for result in judged.result.cells}
    outcomes |= found | {asked: found[there] for asked, there in finished.as_served.items() if there in found}
    return {"outcomes": outcomes, "report": str(written.html)}


def _serve(options: Mapping[str, object]) -> None:
    """Start a server, say where it is, and end it when the session ends.

    Raises:
        SleepwakeError: it cannot be started, or not be ended.
    """
    require("run", for_what="starting a server")
    import anyio

    from harness import workflow
    from harness.runs.options import RunOptions

    asked = RunOptions.model_validate(options)
    choice = workflow.choose(asked)
    with suppress(KeyboardInterrupt):  # as the session's end reaches us
        anyio.run(_until_interrupted, asked, choice.runtime)


async def _until_interrupted(asked: RunOptions, runtime: Runtime) -> None:
    import anyio

    from harness.drive.introduction import served_model
    from harness.vllm_api.connection import connect

    runtime.sweep()
    async with runtime.start(_wanted_server(asked, attached=runtime.name == "attached")) as server:
        async with connect(server.base_url, access=server.access) as connection:
            model = await served_model(connection)
        _say({"url": server.base_url, "model": model})
        await anyio.sleep_forever()


def _wanted_server(asked: RunOptions, *, attached: bool) -> ServerSpec:
    from harness.drive.faults import fault_file
    from harness.models.model import THE_SERVERS_OWN, provide_model
    from harness.scenario.schema import Deadlines
    from harness.servers.base import ServerSpec

    own = attached and asked.model is None
    model = THE_SERVERS_OWN if own else provide_model(asked.model, dtype="float32")
    return ServerSpec(
        run_id="pytest",
        cell=SERVER,
        model=model.location,
        served_model_name=model.served_name,
        args=asked.vllm_args,
        env={"SLEEPWAKE_FAULT": asked.fault} if asked.fault else {},
        files=tuple(filter(None, (model.folder, fault_file(asked.fault)))),
        log_path=asked.out / f"{SERVER}.log",
        boot_deadline_s=Deadlines().boot,
    )


def _outcome(result: CellResult) -> JsonValue:
    from harness.check.result import Verdict

    if result.verdict is Verdict.CLEAN:
        return {}
    lines = [f"{result.cell}: {result.verdict.value if result.verdict else 'error'}: {result.reason}"]
    if result.cause:
        lines.append(f"cause: {result.cause.value}")
    lines += [f"- {finding.message}" for finding in result.findings[:_MOST_FINDINGS]]
    return {"failure": "\n".join(lines)}
