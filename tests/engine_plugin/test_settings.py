"""What the environment may ask of the plugin."""

import pytest

from harness.engine_plugin.settings import Discard, PluginError, Settings


class TestSettings:
    """Reading the environment."""

    def test_unset_asks_for_nothing(self) -> None:
        """Without variables there is no sleep mode and no fault, and discarded memory would be zero."""
        assert Settings(cpu_sleep=False, discard=Discard.ZERO, faults=()) == Settings.from_environment({})

    def test_empty_means_unset(self) -> None:
        """An empty variable, as a container's env file writes it, is an unset one."""
        empty = {"SLEEPWAKE_CPU_SLEEP": "", "SLEEPWAKE_DISCARD": "", "SLEEPWAKE_FAULT": ""}

        assert Settings.from_environment({}) == Settings.from_environment(empty)

    @pytest.mark.parametrize("holds", list(Discard))
    def test_reads_every_kind_of_discarded_memory(self, holds: Discard) -> None:
        """Each kind is known by its value."""
        assert holds is Settings.from_environment({"SLEEPWAKE_DISCARD": holds.value}).discard

    @pytest.mark.parametrize(
        ("variable", "value", "valid"),
        [("SLEEPWAKE_CPU_SLEEP", "yes", "0, 1"), ("SLEEPWAKE_DISCARD", "nan", "zero, poison, stale")],
    )
    def test_unknown_value_names_the_valid_ones(self, variable: str, value: str, valid: str) -> None:
        """A value that does not exist is an error that says what was set and what may be set."""
        with pytest.raises(PluginError, match=f"{variable}={value} does not exist: use one of {valid}"):
            Settings.from_environment({variable: value})

    def test_weights_may_come_from_files(self) -> None:
        """Asked for by a variable of its own, on every device."""
        assert Settings.from_environment({"SLEEPWAKE_WEIGHT_TRANSFER": "1"}).weight_transfer
        assert not Settings.from_environment({"SLEEPWAKE_CPU_SLEEP": "1"}).weight_transfer

    def test_splits_names_of_faults(self) -> None:
        """Several faults are named with commas between them."""
        assert Settings.from_environment({"SLEEPWAKE_FAULT": "a,b"}).faults == ("a", "b")

    def test_keeps_the_path_of_a_fault_whole(self) -> None:
        """A file's path may have commas in it."""
        assert Settings.from_environment({"SLEEPWAKE_FAULT": "/a,b/c.py:d"}).faults == ("/a,b/c.py:d",)
