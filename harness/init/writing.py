"""Writes what ``sleepwake init`` makes: all of it or, where a file is in the way, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.history.files import storing
from harness.init.ci_job import ci_job, command
from harness.init.pytest_setting import guard_test, setting, settings_in
from harness.init.scenario_file import CORPUS, corpus_text, scenario_text
from harness.init.wanted import Wanted

SCENARIOS = Path("tests/sleep")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written, and what is left to do."""

    files: tuple[Path, ...]
    to_add: str | None
    """Lines for a file of settings that is there already, after its name."""
    next_command: str


def files_for(wanted: Wanted, *, version: str) -> dict[Path, str]:
    """Every file for what a user has, but pytest's settings, by its path in the project."""
    files = {SCENARIOS / "after_wake.yaml": scenario_text(wanted)}
    if wanted.prompts:
        files[SCENARIOS / "corpora" / f"{CORPUS}.yaml"] = corpus_text(wanted.prompts)
    if wanted.llm:
        files[SCENARIOS / "test_guard.py"] = guard_test(wanted)
    if job := ci_job(wanted, scenarios=SCENARIOS, version=version):
        files[job[0]] = job[1]
    return files


def write(wanted: Wanted, *, folder: Path, version: str) -> Written:
    """Write everything below ``folder``.

    Raises:
        UsageError: a file is there already; nothing has been written.
        StorageError: a file cannot be written.
    """
    files = files_for(wanted, version=version)
    present = settings_in(folder)
    in_toml = present is not None and present.suffix == ".toml"
    lines = setting(wanted, scenarios=SCENARIOS, in_toml=in_toml)
    if present is None:
        files[Path("pytest.ini")] = f"[pytest]\n{lines}"
    _require_free(folder, files)
    for name, text in files.items():
        path = folder / name
        with storing(path, cannot="write it", remedy="make the folder writable"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    return Written(
        files=tuple(files),
        to_add=None if present is None else f"{present.relative_to(folder)}:\n{lines}",
        next_command=command(wanted, scenarios=SCENARIOS),
    )


def _require_free(folder: Path, files: Mapping[Path, str]) -> None:
    taken = [str(name) for name in files if (folder / name).exists() or (folder / name).is_symlink()]
    if taken:
        there = "is there already" if len(taken) == 1 else "are there already"
        raise UsageError(
            f"{', '.join(taken)} {there}; nothing was written", remedy="move it away, or give --folder"
        )
