"""Finds the release at which a scenario's verdict changes, one run a release, and remembers every trial."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import ValidationError

from harness.check.result import RunResult, Verdict
from harness.errors import (
    ExitCode,
    HistoryError,
    InterruptedRunError,
    SleepwakeError,
    StorageError,
    UsageError,
)
from harness.explore.bisect.search import Bisection, Outcome, Trial
from harness.history.files import replace_file, storing
from harness.redaction import without_secret_flags
from harness.report.progress import Progress
from harness.report.words import cause_words
from harness.runs.judging import judge_directory
from harness.runs.options import RunOptions
from harness.workflow import load, run_asked


def begin(
    options: RunOptions, *, good: str, bad: str, versions: Sequence[str], resume_from: Path
) -> Bisection:
    """Lay a search out over the releases between ``good`` and ``bad``, both included.

    A search of the same scenario over the same releases that was stopped is taken up where it was.

    Raises:
        UsageError: the ends are no releases, are equal, or leave nothing to search.
    """
    older_is_good = release_key(good) < release_key(bad)
    low, high = (good, bad) if older_is_good else (bad, good)
    inside = [each for each in versions if release_key(low) < release_key(each) < release_key(high)]
    if release_key(low) == release_key(high):
        raise UsageError("--good and --bad are the same release", remedy="give two different releases")
    search = Bisection(
        scenario=", ".join(dict.fromkeys(cell.id for cell in load(options))),
        versions=(low, *sorted(set(inside), key=release_key), high),
        older="good" if older_is_good else "bad",
    )
    stored = _read(resume_from)
    if stored and stored.model_copy(update={"trials": ()}) == search:
        # What could not be tried may work now: the machine was in the way, not the release.
        return stored.model_copy(
            update={"trials": tuple(trial for trial in stored.trials if trial.outcome != "skip")}
        )
    return search


def carry_on(
    search: Bisection,
    options: RunOptions,
    *,
    remember_in: Path,
    progress: Callable[[int], Progress],
    tell: Callable[[str], None],
) -> Bisection:
    """Try releases until the search is over; every trial is on disk before the next one begins.

    Raises:
        InterruptedRunError: the user stopped a trial; the same command takes the search up again.
    """
    while (version := search.next_version()) is not None:
        tell(f"trying vLLM {version}")
        trial = _try(version, options.model_copy(update={"vllm": version}), progress)
        tell(f"vLLM {version} is {trial.outcome}: {trial.reason}")
        search = search.seen(trial)
        _write(remember_in, search)
    return search


def command(options: RunOptions, version: str) -> str:
    """Return the shell command that tries ``version`` again, as the search did."""
    words = ["sleepwake", "run", *map(str, options.paths)]
    words += [word for arm in options.arms for word in ("--arm", arm)]
    words += ["--runtime", "docker", "--vllm", version]
    words += ["--model", options.model] if options.model else []
    words += [f"--vllm-arg={flag}" for flag in without_secret_flags(options.vllm_args)]
    return shlex.join(words)


def release_key(version: str) -> Version:
    """Sorts releases by age.

    Raises:
        UsageError: ``version`` is not a release.
    """
    try:
        release = Version(version)
    except InvalidVersion:
        release = None
    if release is None or release.is_prerelease or release.local:
        raise UsageError(f"{version!r} is not a release of vLLM", remedy="write it like 0.10.1")
    return release


def outcome_of(result: RunResult) -> tuple[Outcome, str]:
    """What a judged run says about its release, and why."""
    worst = next((cell for cell in result.cells if cell.verdict is result.verdict), result.cells[0])
    match result.verdict:
        case Verdict.CLEAN:
            return "good", "clean"
        case Verdict.CORRUPT | Verdict.DEGRADED:
            return "bad", ", ".join(filter(None, (result.verdict.value, cause_words(worst.cause))))
        case _:
            return "skip", worst.reason


def _try(version: str, options: RunOptions, progress: Callable[[int], Progress]) -> Trial:
    try:
        finished = run_asked(options, progress=progress)
    except SleepwakeError as error:
        if error.exit_code is ExitCode.INTERRUPTED or isinstance(error, StorageError):
            raise
        return Trial(version=version, outcome="skip", reason=error.cause, run="")
    if not finished.whole:
        raise InterruptedRunError(
            "the search was interrupted", remedy="the same command continues where it stopped"
        )
    outcome, reason = outcome_of(judge_directory(finished.directory).result)
    return Trial(version=version, outcome=outcome, reason=reason, run=str(finished.directory))


def _read(path: Path) -> Bisection | None:
    try:
        return Bisection.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise HistoryError(
            "is not a search that can be continued", path=path, remedy="remove the file to start over"
        ) from error


def _write(path: Path, search: Bisection) -> None:
    with storing(path.parent, cannot="be created", remedy="name another place with --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, search.model_dump_json(indent=2) + "\n")
