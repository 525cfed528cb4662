"""What a build is sent: the recipe, the engine plugin, and what closed networks add."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

import harness
from harness.servers.docker.images.options import BuildOptions
from harness.servers.docker.images.recipe import DOCKERFILE, Recipe

# The Dockerfile copies these, so they are there even when they are empty.
FOLDERS = ("certificates", "pip", "plugin", "wheels")

_PLUGIN_PROJECT = f"""\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "sleepwake-engine-plugin"
version = "{harness.__version__}"

[project.entry-points."vllm.platform_plugins"]
sleepwake_cpu = "harness.engine_plugin:platform"

[project.entry-points."vllm.general_plugins"]
sleepwake_engine = "harness.engine_plugin:load"

[tool.setuptools.packages.find]
include = ["harness*"]
"""

BuildContext = Mapping[str, Path | bytes]
"""Files by their name in the context: those of this machine, or their content."""


def recipe_files(recipe: Recipe) -> BuildContext:
    """Return what makes an image what it is: the recipe's own files, and the engine plugin."""
    lists = {name: recipe.recipes / name for name in (DOCKERFILE, *recipe.lists)}
    return {**lists, **plugin_files()}


def given_files(recipe: Recipe, options: BuildOptions) -> BuildContext:
    """Return what only says where a build takes things from: certificates, pip's configuration, wheels."""
    files = {"certificates/given.crt": options.ca, "pip/pip.conf": options.pip_conf}
    if options.wheels is not None:
        files |= {f"wheels/{path.name}": path for path in pinned_wheels(options.wheels, recipe)}
    return {name: path for name, path in files.items() if path is not None}


def plugin_files() -> BuildContext:
    """Return the engine plugin as a project that pip can install: all of the harness that an image holds."""
    package = Path(harness.__file__).parent
    sources = [package / "__init__.py", *package.glob("engine_plugin/**/*.py")]
    return {
        "plugin/pyproject.toml": _PLUGIN_PROJECT.encode(),
        **{f"plugin/harness/{path.relative_to(package).as_posix()}": path for path in sources},
    }


def pinned_wheels(folder: Path, recipe: Recipe) -> Iterator[Path]:
    """Yield the wheels that the recipe pins; a local build (``2.6.0+cpu``) counts as its release."""
    pins = recipe.pins()
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue  # pip would not take it either
        if (name, version.public) in pins:
            yield path


def content_hash(files: BuildContext) -> str:
    """Return a hash, hexadecimal, that changes with every name and every content."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        with opened(content) as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def write_tar(context: BuildContext, target: IO[bytes]) -> None:
    """Write the context as Docker takes it.  Nothing of this machine gets in: no owner, no time, no mode.

    The Docker library's own packer takes one folder, and writes down the owner and time of each file.
    """
    with tarfile.open(fileobj=target, mode="w") as tar:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in context.items():
            with opened(content) as file:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = file.seek(0, io.SEEK_END), 0o644
                file.seek(0)
                tar.addfile(entry, file)


def opened(content: Path | bytes) -> io.BufferedReader | io.BytesIO:
    """Open a context's file for reading."""
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
