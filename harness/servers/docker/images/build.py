"""Builds an image from its recipe, unless the engine has it already."""

from __future__ import annotations

import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

import docker
from docker.errors import APIError
from docker.models.images import Image

from harness.errors import ImageError, RuntimeUnavailableError
from harness.models.cache import cache_directory
from harness.servers.docker.engine import connected, local_image, speaking
from harness.servers.docker.images.context import (
    BuildContext,
    content_hash,
    given_files,
    recipe_files,
    write_tar,
)
from harness.servers.docker.images.options import BuildOptions
from harness.servers.docker.images.recipe import Recipe, find_recipe

REPOSITORY = "sleepwake/vllm-cpu"
IMAGE_LABEL = "sleepwake.image"
VLLM_LABEL = "sleepwake.vllm"
RECIPE_LABEL = "sleepwake.recipe"
SOURCES_LABEL = "sleepwake.sources"

_KIND = "vllm-cpu"
_ARCHITECTURES = ("x86_64", "amd64")
_LOG_TAIL_LINES = 15
_STEP = re.compile(r"Step \d+/\d+ : ")

# What a build says that fails for the machine's sake, and what helps.
_REMEDIES = (
    (r"no space left on device", "make room: `docker system df` shows what takes the space"),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "give your network's certificates with --ca"),
    (
        r"pull access denied|manifest unknown|Get \"https?://\S+/v2/",
        "name a base image that this machine has or reaches with --base (Debian 13, Python 3.11 or 3.12)",
    ),
    (
        r"No matching distribution|Max retries exceeded|Temporary failure resolving|NewConnectionError",
        "say where packages come from with --pip-conf, --proxy or --wheels",
    ),
    (r"needs Python", "give a base image with Python 3.11 or 3.12 with --base"),
)


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image that the engine of this machine has; ``built``: this call has made it.

    Its id, ``sha256:...``, names its content.
    """

    reference: str
    id: str
    vllm_version: str
    built: bool


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """A build, decided before the engine is asked for anything."""

    recipe: Recipe
    context: BuildContext
    args: Mapping[str, str]
    labels: Mapping[str, str]
    network: str

    @property
    def reference(self) -> str:
        """The name that the image gets."""
        return f"{REPOSITORY}:{self.recipe.vllm_version}"

    def is_met_by(self, image: Image, *, from_any_source: bool) -> bool:
        """Whether an image is what this plan leads to, or, from any source, the same recipe's."""
        compared = (RECIPE_LABEL,) if from_any_source else (RECIPE_LABEL, SOURCES_LABEL)
        return all(image.labels.get(label) == self.labels[label] for label in compared)

    def result(self, image: Image, *, built: bool) -> ImageRef:
        """Describe the image that this plan leads to."""
        return ImageRef(
            reference=self.reference, id=str(image.id), vllm_version=self.recipe.vllm_version, built=built
        )


def ensure_image(
    vllm_version: str,
    *,
    options: BuildOptions | None = None,
    progress: Callable[[str], None] = lambda _step: None,
    log_file: Path | None = None,
) -> ImageRef:
    """Return the CPU image of a vLLM release, built by this call where it is missing or out of date.

    A build takes minutes and several gigabytes; releases that share a torch share most of them.

    Args:
        vllm_version: The release, like ``0.10.0``.
        options: Where the build takes things from.  When None, a build takes them from where the
            environment says, and an image that was built of the same recipe from elsewhere will do.
        progress: Called with each step of the build, as Docker words it.
        log_file: Where the whole output of a build goes; below the cache directory when None.

    Raises:
        UsageError: There is no recipe for this release, or an option is wrong.
        RuntimeUnavailableError: No Docker Engine answers, or its machine is of another kind.
        ImageError: The build failed.
    """
    plan = plan_build(vllm_version, options or BuildOptions.from_environment())
    log_file = log_file or cache_directory() / "images" / f"{plan.recipe.vllm_version}.log"
    with connected() as client:
        image = local_image(client, plan.reference)
        if image is not None and plan.is_met_by(image, from_any_source=options is None):
            return plan.result(image, built=False)
        check_architecture(client)
        build(client, plan, progress=progress, log_file=log_file)
        remove_outdated(client, plan)
        with speaking(f"looking for the image {plan.reference}"):
            return plan.result(client.images.get(plan.reference), built=True)


def plan_build(vllm_version: str, options: BuildOptions) -> BuildPlan:
    """Decide what to build.

    Raises:
        UsageError: There is no recipe for this release, or an option is wrong.
    """
    options.check()
    recipe = find_recipe(vllm_version, recipes=options.recipes)
    own, given = recipe_files(recipe), given_files(recipe, options)
    args = {
        "BASE_IMAGE": options.base,
        "TORCH": recipe.torch_version,
        "VLLM_VERSION": recipe.vllm_version,
    }
    labels = {
        IMAGE_LABEL: _KIND,
        VLLM_LABEL: recipe.vllm_version,
        RECIPE_LABEL: content_hash(own),
        SOURCES_LABEL: content_hash({"base": options.base.encode(), **given}),
    }
    proxy = dict.fromkeys(("http_proxy", "https_proxy"), options.proxy) if options.proxy else {}
    return BuildPlan(
        recipe=recipe,
        context={**own, **given},
        args={**args, **proxy},
        labels=labels,
        network=options.network,
    )


def check_architecture(client: docker.DockerClient) -> None:
    """Return when the engine's machine is one that the recipes' packages are built for.

    Raises:
        RuntimeUnavailableError: It is another.
    """
    with speaking("asking for its architecture"):
        architecture = str(client.info().get("Architecture"))
    if architecture not in _ARCHITECTURES:
        raise RuntimeUnavailableError(
            f"the recipes are for x86-64, and the Docker Engine's machine is {architecture}",
            remedy="name an image of your own with --image, or use --runtime process",
        )


def build(
    client: docker.DockerClient, plan: BuildPlan, *, progress: Callable[[str], None], log_file: Path
) -> None:
    """Build what is planned; blocks for minutes.

    Raises:
        ImageError: It failed.
    """
    with opened_log(log_file) as log, packed(plan.context) as context:
        follow(answers(client, plan, context), plan, progress=progress, log=log)


def opened_log(path: Path) -> TextIO:
    """Open the file that a build's output goes to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ImageError(
            f"the log of the build cannot be written: {error}",
            remedy="set SLEEPWAKE_CACHE to a directory that can",
        ) from error


def packed(context: BuildContext) -> IO[bytes]:
    """Write the context to a file without a name."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        write_tar(context, file)
    except OSError as error:
        file.close()
        raise ImageError(
            f"the build context cannot be packed: {error}",
            remedy="set TMPDIR to a directory with room",
        ) from error
    file.seek(0)
    return file


def answers(
    client: docker.DockerClient, plan: BuildPlan, context: IO[bytes]
) -> Iterator[Mapping[str, object]]:
    """Yield what the engine says while it builds."""
    with speaking(f"building {plan.reference}"):
        yield from client.api.build(
            fileobj=context,
            custom_context=True,
            tag=plan.reference,
            buildargs=dict(plan.args),
            labels=dict(plan.labels),
            network_mode=plan.network,
            rm=True,
            forcerm=True,
            decode=True,
        )


def follow(
    said: Iterable[Mapping[str, object]], plan: BuildPlan, *, progress: Callable[[str], None], log: TextIO
) -> None:
    """Log what a build says and report its steps.

    Raises:
        ImageError: It says that it failed.
    """
    tail: deque[str] = deque(maxlen=_LOG_TAIL_LINES)
    for message in said:
        text = str(message.get("stream") or message.get("error") or message.get("status") or "")
        log.write(text if "stream" in message else f"{text}\n")
        tail.extend(line for line in text.splitlines() if line.strip())
        if _STEP.match(text):
            progress(text.strip())
        if "error" in message:
            raise ImageError(
                f"building the image of vLLM {plan.recipe.vllm_version} failed:\n" + "\n".join(tail),
                remedy=f"{remedy(tail)}; the whole log is {log.name}",
            )


def remedy(tail: Iterable[str]) -> str:
    """Return what helps against what the end of a build's log says."""
    text = "\n".join(tail)
    known = (advice for pattern, advice in _REMEDIES if re.search(pattern, text, re.IGNORECASE))
    return next(known, "read the output of the failing step")


def remove_outdated(client: docker.DockerClient, plan: BuildPlan) -> None:
    """Remove the nameless images of the same release that a new one has taken the name from."""
    labels = [f"{label}={plan.labels[label]}" for label in (IMAGE_LABEL, VLLM_LABEL)]
    with speaking("removing outdated images"):
        for image in client.images.list(filters={"dangling": True, "label": labels}):
            with suppress(APIError):  # a container still uses it, or another process was faster
                client.images.remove(str(image.id))
