"""Images for the Docker runtime: vLLM's own for GPUs, and for CPUs ones built here from shipped recipes.

A recipe is three lists of pinned packages below ``recipes`` and the Dockerfile beside them.  Adding a vLLM
release is adding its list; there is no other table of versions.
"""

from __future__ import annotations

from harness.servers.docker.images.build import ensure_image
from harness.servers.docker.images.official import official_gpu_image
from harness.servers.docker.images.options import BuildOptions
from harness.servers.docker.images.recipe import supported_versions

__all__ = ["BuildOptions", "ensure_image", "official_gpu_image", "supported_versions"]
