"""sleepwake: is the model that wakes up still the model that fell asleep?

.. code-block:: python

    import sleepwake

    judged = sleepwake.run("prefix-cache-level1", endpoint="http://127.0.0.1:8000")
    if judged.result.verdict is not sleepwake.Verdict.CLEAN:
        print(judged.result.cells[0].reason)

    sleepwake.check(judged.directory)  # judges the recording again, without a server

An engine in this process is guarded by :func:`sleepwake.guard`:

.. code-block:: python

    guard = sleepwake.guard(llm)
    llm.sleep(level=1)
    llm.wake_up()
    guard.check().raise_for_verdict()

Importing it is cheap: what a name needs is imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sleepwake import _own

if TYPE_CHECKING:
    from harness import __version__
    from harness.api import check, run
    from harness.check.result import Bound, Cause, CellResult, Finding, RunResult, Strength, Verdict, Witness
    from harness.errors import InfrastructureError, SleepwakeError, UsageError
    from harness.runs.judging import JudgedRun
    from sleepwake._asserting import assert_clean
    from sleepwake._async_guard import AsyncGuard, async_guard
    from sleepwake._guard import Guard, GuardError, GuardVerdict, GuardWitness, NotCleanError, guard

__all__ = [
    "AsyncGuard",
    "Bound",
    "Cause",
    "CellResult",
    "Finding",
    "Guard",
    "GuardError",
    "GuardVerdict",
    "GuardWitness",
    "InfrastructureError",
    "JudgedRun",
    "NotCleanError",
    "RunResult",
    "SleepwakeError",
    "Strength",
    "UsageError",
    "Verdict",
    "Witness",
    "__version__",
    "assert_clean",
    "async_guard",
    "check",
    "guard",
    "run",
]

_RESULTS = ("Bound", "Cause", "CellResult", "Finding", "RunResult", "Strength", "Verdict", "Witness")
_GUARD = ("Guard", "GuardError", "GuardVerdict", "GuardWitness", "NotCleanError", "guard")
_HOMES = {
    "__version__": "harness",
    **dict.fromkeys(("check", "run"), "harness.api"),
    **dict.fromkeys(_RESULTS, "harness.check.result"),
    **dict.fromkeys(("InfrastructureError", "SleepwakeError", "UsageError"), "harness.errors"),
    "JudgedRun": "harness.runs.judging",
    **dict.fromkeys(_GUARD, "sleepwake._guard"),
    **dict.fromkeys(("AsyncGuard", "async_guard"), "sleepwake._async_guard"),
    "assert_clean": "sleepwake._asserting",
}


def __getattr__(name: str) -> object:
    """Import what a public name needs, the first time that it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sleepwake' has no attribute {name!r}")
    home = _HOMES[name]
    if home.startswith("harness"):
        _own.use_own_harness()  # what guards needs none: it works in the process of whoever has another
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether they have been used or not."""
    return __all__
