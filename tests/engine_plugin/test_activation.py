"""Being installed must change no engine; being asked must change the right one only."""

import logging
import subprocess
import sys
from types import ModuleType

import pytest

import harness.engine_plugin
from harness.engine_plugin import compat
from harness.engine_plugin.settings import PluginError

SLEEPING = "harness.engine_plugin.cpu_platform.SleepingCpuPlatform"


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("CPU_SLEEP", "DISCARD", "FAULT", "WEIGHT_TRANSFER")
    for variable in ("VLLM_TARGET_DEVICE", *(f"SLEEPWAKE_{name}" for name in ours)):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def platforms() -> ModuleType:
    """How vLLM chooses a platform: to import that takes seconds, so only these tests do it."""
    import vllm.platforms

    return vllm.platforms


def modules_after(statement: str) -> set[str]:
    """Names of all top-level modules a fresh interpreter holds after ``statement``."""
    program = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


class TestUnasked:
    """Installed, and nothing else."""

    def test_loads_nothing(self) -> None:
        """Unasked, both entry points return at once: neither torch nor vllm is even imported."""
        modules = modules_after(
            "import harness.engine_plugin as plugin; assert plugin.platform() is None; plugin.load()"
        )

        assert not {"torch", "vllm"} & modules

    @pytest.mark.cell
    def test_vllm_keeps_its_own_platform(self, platforms: ModuleType) -> None:
        """Unasked, vLLM resolves to the platform that it brings."""
        assert platforms.resolve_current_platform_cls_qualname().startswith("vllm.platforms.")


class TestPlatform:
    """Which engines get the sleep mode."""

    @pytest.mark.cell
    def test_vllm_takes_the_sleeping_platform(
        self, platforms: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Asked, vLLM finds the entry point and resolves to the platform that can sleep."""
        monkeypatch.setenv("SLEEPWAKE_CPU_SLEEP", "1")

        assert platforms.resolve_current_platform_cls_qualname() == SLEEPING

    @pytest.mark.cell
    def test_leaves_an_engine_for_gpus_alone(
        self, platforms: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A vLLM that does not take itself for a CPU engine is not touched."""
        monkeypatch.setenv("SLEEPWAKE_CPU_SLEEP", "1")
        monkeypatch.setitem(platforms.builtin_platform_plugins, "cpu", lambda: None)

        assert harness.engine_plugin.platform() is None

    def test_leaves_other_systems_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Giving pages back is Linux's ``madvise``: elsewhere nothing is touched."""
        monkeypatch.setattr(sys, "platform", "darwin")

        assert not compat.is_cpu_engine()


class TestLoad:
    """What is said at the start of an engine."""

    @pytest.mark.cell
    def test_says_that_the_sleep_mode_is_absent(
        self, platforms: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Asked for on a platform that did not take it, the sleep mode is refused with a line in the log."""
        monkeypatch.setenv("SLEEPWAKE_CPU_SLEEP", "1")
        monkeypatch.setattr(platforms, "_current_platform", platforms.interface.UnspecifiedPlatform())
        monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)

        harness.engine_plugin.load()

        assert "SLEEPWAKE_CPU_SLEEP=1 has no effect" in caplog.text
        assert "UnspecifiedPlatform" in caplog.text

    @pytest.mark.parametrize(
        ("variable", "value", "valid"),
        [("SLEEPWAKE_DISCARD", "nan", "poison"), ("SLEEPWAKE_FAULT", "lose-wieghts", "lose-weights")],
    )
    def test_wrong_setting_stops_the_engine(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, valid: str
    ) -> None:
        """A setting that does not exist is an error at the engine's start, which names the valid ones."""
        monkeypatch.setenv(variable, value)

        with pytest.raises(PluginError, match=rf"{variable}={value} does not exist.*{valid}"):
            harness.engine_plugin.load()
