"""``sleepwake init``: from three questions, or options, to files that can be run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from harness import __version__
from harness.cli.shared import print_lines
from harness.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from harness.init.wanted import Ci

_Flag = Annotated[bool, Parameter(negative=())]

_QUESTIONS = (
    "What do you have? The URL of a running server, an image, or LLM if your own program holds the engine: ",
    "Which model? A Hugging Face id or a folder; nothing for the server's own or the default one: ",
    "Where does your CI run? github, gitlab, jenkins, or nothing: ",
)


def init(
    *,
    endpoint: str | None = None,
    image: str | None = None,
    llm: _Flag = False,
    model: str | None = None,
    level: Literal[1, 2] = 1,
    ci: Literal["github", "gitlab", "jenkins", "none"] = "none",
    preset: tuple[str, ...] = (),
    list_presets: _Flag = False,
    prompts: Path | None = None,
    folder: Path = Path(),
) -> int:
    """Write a scenario, a CI job and a pytest setting for what you have.

    In a terminal and without options it asks three questions. Nothing is ever overwritten.

    Args:
        endpoint: URL of a server that is already running.
        image: A container image with vLLM.
        llm: A program of yours holds the engine, as a vllm.LLM.
        model: A Hugging Face id or a model folder.
        level: How deep it sleeps. At level 2 the weights are loaded again after waking.
        ci: Where your CI runs.
        preset: The flags of a real deployment, as an arm. Can be given several times.
        list_presets: Print the presets with where they come from, and stop.
        prompts: A JSONL file of prompts or chats that are asked instead of those that ship.
        folder: The project in which the files are written.
    """
    from harness.init.presets import all_presets
    from harness.init.wanted import Wanted
    from harness.init.writing import write

    if list_presets:
        print_lines(f"{each.name}: {each.of} ({each.source})" for each in all_presets())
        return ExitCode.CLEAN
    has: dict[str, str | bool] = {"endpoint": endpoint or "", "image": image or "", "llm": llm}
    if not any(has.values()):
        answers, model, ci = _ask(model, ci)
        has |= answers
    wanted = Wanted.of(
        endpoint=str(has["endpoint"]) or None,
        image=str(has["image"]) or None,
        llm=bool(has["llm"]),
        model=model,
        level=level,
        ci=ci,
        presets=preset,
        prompts=prompts,
    )
    written = write(wanted, folder=folder, version=__version__)
    print_lines(f"wrote {name}" for name in written.files)
    if written.to_add:
        print_lines([f"add to {written.to_add.rstrip()}"])
    print_lines(["", "now run:", f"  {written.next_command}"])
    return ExitCode.CLEAN


def _ask(model: str | None, ci: Ci) -> tuple[dict[str, str | bool], str | None, Ci]:
    """Ask what was not given.

    Raises:
        UsageError: there is nobody to ask, or an answer cannot be understood.
    """
    from harness.init.wanted import told_as

    if not sys.stdin.isatty():
        raise UsageError(
            "init: nobody is here to be asked", remedy="give one of --endpoint URL, --image REF, --llm"
        )
    has = told_as(_answer(_QUESTIONS[0]))
    model = model or _answer(_QUESTIONS[1]) or None
    if ci == "none":
        answer = _answer(_QUESTIONS[2]).lower() or "none"
        if answer not in {"github", "gitlab", "jenkins", "none"}:
            raise UsageError(f"init: no CI is called {answer!r}", remedy="answer github, gitlab or jenkins")
        ci = answer  # type: ignore[assignment]  # one of them
    return has, model, ci


def _answer(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:
        raise UsageError("init: there was no answer", remedy="answer, or give options") from None
