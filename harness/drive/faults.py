"""Checks the name of a planted fault before anything starts."""

from __future__ import annotations

import ast
from pathlib import Path

from harness.engine_plugin.faults import FAULTS, Fault
from harness.errors import UsageError, did_you_mean


def require_fault(fault: str) -> str:
    """Return ``fault`` as servers understand it; a file of the user's own by its absolute path.

    Raises:
        UsageError: it is neither a known name nor ``FILE.py:function`` of an existing function.
    """
    path, colon, function = fault.rpartition(":")
    if not colon:
        for name in fault.split(","):
            known_fault(name)
        return fault
    file = Path(path)
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=path)
    except OSError as error:
        raise UsageError(
            f"--fault: {path}: {error.strerror}",
            remedy=f"give FILE.py:function, or one of {', '.join(sorted(FAULTS))}",
        ) from error
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}:{error.offset}" if isinstance(error, SyntaxError) else ""
        raise UsageError(f"--fault: {path}{line}: not Python: {error}", remedy="correct the file") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    found = next((node for node in functions if node.name == function), None)
    if found is None:
        names = [node.name for node in functions]
        raise UsageError(f"--fault: {path} has no function {function!r}", remedy=_suggest(function, names))
    arguments = found.args
    if len(arguments.posonlyargs) + len(arguments.args) > len(arguments.defaults) or any(
        default is None for default in arguments.kw_defaults
    ):
        raise UsageError(
            f"--fault: {path}:{found.lineno}:{found.col_offset + 1}: {function} takes arguments",
            remedy="a fault is called without arguments, once in every vLLM process",
        )
    return f"{file.resolve()}:{function}"


def fault_file(fault: str | None) -> Path | None:
    """The file a fault of the user's own is in; None for those that ship, and without one."""
    path, _, _ = (fault or "").rpartition(":")
    return Path(path) if path.endswith(".py") else None


def known_fault(name: str) -> Fault:
    """Return the fault of ours with this name.

    Raises:
        UsageError: there is none.
    """
    if name not in FAULTS:
        raise UsageError(f"--fault: unknown fault {name!r}", remedy=_suggest(name, list(FAULTS)))
    return FAULTS[name]


def _suggest(wrong: str, right: list[str]) -> str:
    return did_you_mean(wrong, right, otherwise=f"there are: {', '.join(sorted(right))}")
