"""Where things are in a run directory."""

from pathlib import Path

from harness.history.layout import HISTORY_FILE, SERVER_LOG, earlier_histories, set_aside


def test_every_attempt_is_kept_in_order(tmp_path: Path) -> None:
    """Setting attempts aside numbers them; more than nine stay in order, and a log goes with its history."""
    for number in range(1, 12):
        (tmp_path / HISTORY_FILE).write_text(f"history {number}")
        (tmp_path / SERVER_LOG).write_text(f"log {number}")
        set_aside(tmp_path)
    kept = earlier_histories(tmp_path)
    assert [path.read_text() for path in kept] == [f"history {number}" for number in range(1, 12)]
    assert (tmp_path / "server.11.log").read_text() == "log 11"
    assert not (tmp_path / HISTORY_FILE).exists()


def test_a_log_without_a_history_overwrites_nothing(tmp_path: Path) -> None:
    """Where only one of the two was renamed before a crash, the next attempt gets a number of its own."""
    (tmp_path / "server.1.log").write_text("kept")
    (tmp_path / HISTORY_FILE).write_text("first")
    (tmp_path / SERVER_LOG).write_text("second")
    set_aside(tmp_path)
    assert (tmp_path / "server.1.log").read_text() == "kept"
    assert [path.name for path in earlier_histories(tmp_path)] == ["history.2.jsonl"]


def test_setting_nothing_aside_is_nothing(tmp_path: Path) -> None:
    """A cell that is run for the first time has nothing to keep, not even a folder."""
    set_aside(tmp_path / "missing")
    assert earlier_histories(tmp_path / "missing") == []
