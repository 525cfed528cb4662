"""Finds the harness that belongs to this package, whatever else is called ``harness`` on the path.

Many projects have a folder of that name.  Every way in goes through :func:`use_own_harness`, so that such a
folder in the current directory or on ``PYTHONPATH`` does not take the harness's place.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def use_own_harness() -> None:
    """From here on ``import harness`` means sleepwake's own.

    Another working copy of sleepwake that is nearer on the path goes first.

    Raises:
        ImportError: another package called ``harness`` is in use in this process.
    """
    loaded = sys.modules.get("harness")
    if loaded is not None:
        place = getattr(loaded, "__file__", None)
        if place is None or not _is_ours(Path(place).parent):
            raise ImportError(
                f"another package called `harness` is in use in this process ({place}): "
                "start sleepwake in a process of its own, with `python -m sleepwake`"
            )
        return
    found = importlib.util.find_spec("harness")
    if found is not None and found.origin is not None and _is_ours(Path(found.origin).parent):
        return
    _load(_own_folder())


def _own_folder() -> Path:
    here = Path(__file__).resolve().parent
    beside = here.parent / "harness"  # as a wheel installs them
    return beside if beside.is_dir() else here.parents[1]


def _is_ours(folder: Path) -> bool:
    is_working_copy = (folder / "public" / "sleepwake" / "_own.py").is_file()
    return is_working_copy or folder.resolve() == _own_folder()


def _load(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "harness", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not whole: install sleepwake again")
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness"] = module
    spec.loader.exec_module(module)
