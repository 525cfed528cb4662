"""Faults to plant in a real engine: at least one for each root cause that a CPU engine can show.

Each takes effect through real transitions only: an engine that has not slept yet is healthy, so that the
baseline is true.  A fault is a function without arguments that is called once in every vLLM process at start;
``SLEEPWAKE_FAULT=/path/FILE.py:function`` plants one from outside in the same way.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

from harness.engine_plugin.faults import (  # noqa: F401  (each registers its faults)
    asked,
    buffers,
    decode_path,
    encoder_cache,
    kv_cache,
    parts,
    prefix_cache,
    resources,
    scheduler,
    weights,
)
from harness.engine_plugin.faults.registry import FAULTS, Fault
from harness.engine_plugin.settings import PluginError

__all__ = ["FAULTS", "Fault", "find", "plant"]

logger = logging.getLogger("vllm.sleepwake")


def plant(name: str) -> None:
    """Plant the fault called ``name``, or the function ``FILE.py:function``.

    Raises:
        PluginError: There is no such fault, file or function.
    """
    find(name)()
    logger.warning("Planted the fault %s: this engine is broken on purpose.", name)


def find(name: str) -> Callable[[], None]:
    """The function that plants ``name``.

    Raises:
        PluginError: There is no such fault, file or function.
    """
    if name in FAULTS:
        return FAULTS[name].plant
    path, separator, function = name.rpartition(":")
    if not separator:
        raise PluginError(
            f"SLEEPWAKE_FAULT={name} does not exist: use FILE.py:function or one of {', '.join(FAULTS)}"
        )
    return _function_in(Path(path), function)


def _function_in(path: Path, name: str) -> Callable[[], None]:
    if not path.is_file():
        raise PluginError(f"SLEEPWAKE_FAULT={path}:{name}: there is no file {path.absolute()}")
    specification = importlib.util.spec_from_file_location(f"sleepwake_fault_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise PluginError(f"SLEEPWAKE_FAULT={path}:{name}: {path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise PluginError(f"SLEEPWAKE_FAULT={path}:{name}: {path} has no function {name}")
    return function  # type: ignore[no-any-return]  # whatever the file defines
