"""Images built on a real Docker Engine: of a recipe that takes a second, and of a real vLLM."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from harness.errors import ImageError
from harness.servers.docker.engine import connected, local_image
from harness.servers.docker.images import BuildOptions, ensure_image, supported_versions
from harness.servers.docker.images.recipe import DOCKERFILE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

RELEASE = "0.0.1"
# Labelled from the start, so that what a failed build leaves is found as well.
DOCKERFILE_TEXT = f"""\
FROM scratch
LABEL sleepwake.vllm={RELEASE}
ARG TORCH
ARG VLLM_VERSION
COPY certificates/ pip/ wheels/ /given/
COPY torch-${{TORCH}}/vllm-${{VLLM_VERSION}}.txt plugin/ /
"""


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    """The engine of this machine; without one these tests fail."""
    with connected() as client:
        yield client


@pytest.fixture
def options(tmp_path: Path, client: docker.DockerClient) -> Iterator[BuildOptions]:
    """A folder with the recipe of an imaginary release; its image is gone afterwards."""
    recipes = tmp_path / "recipes"
    (recipes / "torch-0").mkdir(parents=True)
    (recipes / DOCKERFILE).write_text(DOCKERFILE_TEXT, encoding="utf-8")
    for name in ("torch", "common", f"vllm-{RELEASE}"):
        (recipes / "torch-0" / f"{name}.txt").touch()
    yield BuildOptions(recipes=recipes)
    label = f"sleepwake.vllm={RELEASE}"
    for image in client.images.list(filters={"label": label}):
        client.images.remove(str(image.id), force=True)


def test_built_once(options: BuildOptions, tmp_path: Path) -> None:
    """The first call builds and reports its steps; the second finds the image and does nothing."""
    steps: list[str] = []
    log_file = tmp_path / "logs" / "build.log"
    first = ensure_image(RELEASE, options=options, progress=steps.append, log_file=log_file)
    assert first.built
    assert steps[0].endswith(": FROM scratch")
    assert "Successfully tagged" in log_file.read_text("utf-8")
    second = ensure_image(RELEASE, options=options, log_file=tmp_path / "second.log")
    assert (second.id, second.built) == (first.id, False)
    assert not (tmp_path / "second.log").exists()


def test_a_changed_recipe_is_built_again(
    options: BuildOptions, tmp_path: Path, client: docker.DockerClient
) -> None:
    """The new image takes the name, and the outdated one does not stay behind."""
    first = ensure_image(RELEASE, options=options, log_file=tmp_path / "build.log")
    (options.recipes / "torch-0" / f"vllm-{RELEASE}.txt").write_text("# changed\n", encoding="utf-8")
    second = ensure_image(RELEASE, options=options, log_file=tmp_path / "build.log")
    assert second.built
    assert second.id != first.id
    assert local_image(client, first.id) is None


def test_an_image_from_elsewhere_will_do(
    options: BuildOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gives no sources takes the image as it was built; who gives others gets it built from them."""
    elsewhere = replace(options, base="elsewhere")
    first = ensure_image(RELEASE, options=elsewhere, log_file=tmp_path / "build.log")
    monkeypatch.setenv("SLEEPWAKE_IMAGE_RECIPES", str(options.recipes))
    assert ensure_image(RELEASE, log_file=tmp_path / "build.log") == replace(first, built=False)
    assert ensure_image(RELEASE, options=options, log_file=tmp_path / "build.log").built


def test_a_step_that_fails(options: BuildOptions, tmp_path: Path, client: docker.DockerClient) -> None:
    """The error has the end of the log, and no image takes the name."""
    with (options.recipes / DOCKERFILE).open("a", encoding="utf-8") as dockerfile:
        dockerfile.write('RUN ["/absent"]\n')
    with pytest.raises(ImageError, match="/absent") as caught:
        ensure_image(RELEASE, options=options, log_file=tmp_path / "build.log")
    assert "build.log" in caught.value.remedy
    assert local_image(client, f"sleepwake/vllm-cpu:{RELEASE}") is None


def test_a_base_that_nobody_has(options: BuildOptions, tmp_path: Path) -> None:
    """The remedy says how to name another one."""
    (options.recipes / DOCKERFILE).write_text("FROM localhost:1/absent\n", encoding="utf-8")
    with pytest.raises(ImageError, match="localhost:1") as caught:
        ensure_image(RELEASE, options=options, log_file=tmp_path / "build.log")
    assert "--base" in caught.value.remedy


def test_newest_release_and_the_plugin_in_it() -> None:
    """The image of the newest release has that vLLM, takes itself for a CPU build, and finds the plugin."""
    image = ensure_image(supported_versions()[-1])
    program = (
        "import vllm; from vllm.platforms import current_platform as p; "
        "print(vllm.__version__, p.is_cpu(), p.is_sleep_mode_available())"
    )
    in_image = ["docker", "run", "--rm", "--env", "SLEEPWAKE_CPU_SLEEP=1", "--entrypoint", "python3"]
    said = subprocess.run(
        [*in_image, image.reference, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    assert said.split("\n")[-2] == f"{image.vllm_version} True True"
