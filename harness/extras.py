"""The packages that only some commands need, and what is said where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from harness.errors import UsageError
from harness.installation import installing, working_copy

Extra = Literal["docker", "fuzz", "ray", "report", "run", "watch"]

MODULES: Mapping[Extra, tuple[str, ...]] = MappingProxyType(
    {
        "run": ("openai", "gguf", "safetensors"),
        "docker": ("docker",),
        "report": ("jinja2", "altair", "vl_convert"),
        "fuzz": ("hypothesis",),
        "ray": ("ray",),
        "watch": ("starlette", "uvicorn"),
    }
)
"""What each extra is there for, as it is imported; pyproject.toml has it as it is installed."""


def lacks(extra: Extra) -> bool:
    """Whether a package of ``extra`` is not installed; imports none of them."""
    return any(find_spec(module) is None for module in MODULES[extra])


def how_to_get(extra: Extra) -> str:
    """Return the command that installs ``extra``, in the way in which sleepwake was installed."""
    root = working_copy()
    if root is None:
        return installing(f"sleepwake[{extra}]")
    return f"pip install -e '{'.' if root == Path.cwd() else root}[{extra}]'"


def require(extra: Extra, *, for_what: str) -> None:
    """Return when ``extra`` is installed; ``for_what`` names what cannot be done without it.

    Raises:
        UsageError: It is not; names the packages that are missing and the command that installs them.
    """
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        packages = "the package" if len(missing) == 1 else "the packages"
        raise UsageError(
            f"{for_what} needs {packages} {', '.join(missing)}, not installed here", remedy=how_to_get(extra)
        )
