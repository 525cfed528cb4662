"""A CPU image as the Docker runtime takes it: built from its recipe when a server first needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import docker
from docker.models.images import Image

from harness.servers.docker.engine import speaking
from harness.servers.docker.images.build import VLLM_LABEL, ensure_image, plan_build
from harness.servers.docker.images.options import BuildOptions


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """The CPU image of one vLLM release; ``options`` as :func:`ensure_image` takes them."""

    vllm_version: str
    options: BuildOptions | None = None

    @property
    def reference(self) -> str:
        """Its name, known before it is there, if there is a recipe for this release."""
        return plan_build(self.vllm_version, self.options or BuildOptions.from_environment()).reference

    def provide(self, client: docker.DockerClient, *, on_progress: Callable[[str], None]) -> Image:
        """Return it, built where it is missing or out of date.  Blocks for minutes then."""
        built = ensure_image(self.vllm_version, options=self.options, progress=on_progress)
        with speaking(f"looking for the image {built.reference}"):
            return client.images.get(built.reference)


def built_versions(client: docker.DockerClient) -> frozenset[str]:
    """The vLLM releases whose CPU image the engine has, up to date or not."""
    with speaking("listing its images"):
        images = client.images.list(filters={"label": VLLM_LABEL})
    return frozenset(str(image.labels[VLLM_LABEL]) for image in images)
