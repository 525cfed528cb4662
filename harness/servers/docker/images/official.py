"""The images that the vLLM project publishes."""

from __future__ import annotations

import re

from harness.errors import UsageError

_RELEASE = re.compile(r"v?(\d+(?:\.\d+)+(?:\.?(?:rc|post)\d+)?)", re.ASCII)


def official_gpu_image(vllm_version: str) -> str:
    """Return the reference of vLLM's own image of a release, which needs a GPU.

    Raises:
        UsageError: ``vllm_version`` is not the number of a release.
    """
    release = _RELEASE.fullmatch(vllm_version)
    if release is None:
        raise UsageError(
            f"{vllm_version!r} is not the number of a vLLM release",
            remedy="give one like 0.10.1, or name an image with --image",
        )
    return f"vllm/vllm-openai:v{release[1]}"
