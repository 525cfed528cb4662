"""What one cell took."""

from __future__ import annotations

from harness.report.measures import measures
from tests.report import examples


def test_every_step_memory_and_boot_are_measured() -> None:
    """Boot first, then the kinds of steps in the order of the script, then memory; medians in words."""
    found = {measure.name: measure.words for measure in measures(examples.recording())}
    names = list(found)
    assert names[0] == "boot"
    assert names.index("sleep (level 1)") < names.index("wake_up") < names.index("resident memory awake")
    assert found["resident memory awake"] == "2,150 MiB"
    assert "GPU memory awake" not in found


def test_a_cell_that_never_got_a_server_has_no_measures() -> None:
    """Nothing measured is nothing shown."""
    assert measures(examples.failed_recording()) == []
