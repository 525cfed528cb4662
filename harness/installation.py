"""How the harness came here, as a working copy or from a wheel, and where the scenarios that ship lie."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

_SHIPPED_IN_WHEEL = "shipped"
"""Where a wheel has the folder ``scenarios`` (``pyproject.toml``): inside the package."""


def package_folder() -> Path:
    """The folder of the package itself."""
    return Path(str(files("harness")))


def working_copy() -> Path | None:
    """The root of the working copy, with its Makefile; None where a wheel was installed."""
    root = package_folder().parent
    return root if (root / "Makefile").is_file() and (root / "scenarios").is_dir() else None


def installing(wanted: str) -> str:
    """The command that installs ``wanted``, such as ``sleepwake[run]``, where this environment was made.

    `uvx`, `uv tool`, `pipx run` and `pipx install` keep environments of their own, in which nobody calls pip.
    """
    parts = Path(sys.prefix).parts
    if any(part.startswith("archive-v") for part in parts):
        return f"uvx --from '{wanted}' sleepwake"
    if "uv" in parts and "tools" in parts:
        return f"uv tool install '{wanted}'"
    if "pipx" in parts:
        return (
            f"pipx install --force '{wanted}'"
            if "venvs" in parts
            else f"pipx run --spec '{wanted}' sleepwake"
        )
    return f"pip install '{wanted}'"


def shipped_scenarios() -> Path:
    """The folder of the scenarios that ship, and of their corpora; relative in the root of a working copy."""
    root = working_copy()
    if root is None:
        return package_folder() / _SHIPPED_IN_WHEEL
    return Path("scenarios") if root == Path.cwd() else root / "scenarios"


def shipped_names() -> dict[str, Path]:
    """Every scenario that ships, by the name that it is asked for without a path."""
    return {file.stem.replace("_", "-"): file for file in sorted(shipped_scenarios().glob("*.yaml"))}


def as_asked_for(scenario: Path) -> str:
    """How to name a scenario file on any machine: by its name where only this installation has it there."""
    shipped = shipped_scenarios()
    if shipped.is_absolute() and scenario.parent == shipped:
        return next(name for name, file in shipped_names().items() if file == scenario)
    return str(scenario)
