"""The command scores a folder of recordings, prints the tables and writes them into a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.errors import HistoryError, UsageError
from harness.history.layout import HISTORY_FILE
from harness.history.store import HistoryWriter
from tests.benchmarks import power
from tests.benchmarks.contest import OTHERS
from tests.benchmarks.tables import Chapter, chapters
from tests.check.stories import Story, clean_story, garbage, scaled
from tests.marked_part import with_part

BEGIN, END = f"<!-- {power.PART}: begin -->", f"<!-- {power.PART}: end -->"
prose = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "<!--" not in text)


def write(directory: Path, engine: str, name: str, story: Story, *, fault: str | None = None) -> None:
    """Write one recording to where it belongs."""
    story.events[0] = story.events[0].model_copy(update={"fault": fault})
    with HistoryWriter(directory / engine / "cells" / name / HISTORY_FILE) as history:
        for event in story.finish().events:
            history.write(event)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two healthy engines and two faulty ones in one setting, one healthy one in another."""
    directory = tmp_path / "power"
    everywhere = {f"p{i}": scaled(0.98) for i in range(4)}
    write(directory, "float32-c1", "clean-1", clean_story())
    write(directory, "float32-c1", "clean-2", clean_story(prefix_caching=False))
    loud = Story().baseline().null().cycle(1, warm={"p0": garbage()}, cold={"p0": garbage()})
    write(directory, "float32-c1", "lose-weights", loud, fault="lose-weights")
    quiet = Story().baseline().null().cycle(1, warm=everywhere, cold=everywhere)
    write(directory, "float32-c1", "scale-logits", quiet, fault="scale-logits")
    write(directory, "bfloat16-c16", "clean-1", clean_story())
    return directory


def printed(told: list[Chapter], *, terminal: bool) -> str:
    """What the console shows."""
    out = io.StringIO()
    power.show(told, Console(file=out, force_terminal=terminal, width=160, color_system=None))
    return out.getvalue()


def test_every_engine_setting_has_its_tables(recorded: Path) -> None:
    """Under their precision, in the order of their names, with what all their recordings have in common."""
    first, second = chapters(power.score_all(recorded))
    [bfloat16], [float32] = first.settings, second.settings

    assert (first.title, second.title) == ("bfloat16, all settings", "float32, all settings")
    assert bfloat16.title == "bfloat16-c16 (4 at a time; --enable-prefix-caching)"
    assert float32.title == "float32-c1 (4 at a time)"
    ours, *rivals = float32.comparators.rows
    assert ours == ("sleepwake", "0/2 (0.0% to 84.2%)", "2/2 (15.8% to 100.0%)", "0", "32")
    assert [row[0] for row in rivals] == list(OTHERS)
    assert [row[0] for row in float32.faults.rows] == ["lose-weights", "scale-logits"]


def test_a_fault_is_told_with_its_cause_and_who_saw_it(recorded: Path) -> None:
    """What was planted, what we made of it, and which of the others noticed."""
    _, float32 = chapters(power.score_all(recorded))
    [_, scaled_logits] = float32.settings[0].faults.rows
    assert scaled_logits[:3] == ("scale-logits", "graph or decode path", "corrupt")
    assert scaled_logits[4] == "-"


def test_settings_of_one_precision_are_counted_together(recorded: Path) -> None:
    """Healthy engines recorded apart, with another flag, add to the same false-alarm rate."""
    write(recorded, "float32-c16-healthy", "clean-1", clean_story())
    _, float32 = chapters(power.score_all(recorded))

    assert [each.comparators.rows[0][1].split()[0] for each in (float32, *float32.settings)] == [
        "0/3",
        "0/2",
        "0/1",
    ]
    assert float32.comparators.rows[0][2].startswith("2/2")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_tables_are_printed(recorded: Path, *, terminal: bool) -> None:
    """Every comparator, every fault and who is ahead, on a terminal and off it."""
    text = printed(chapters(power.score_all(recorded)), terminal=terminal)

    for word in ("float32-c1", "scale-logits", "0/2 (0.0% to 84.2%)", "equals sleepwake in false alarms"):
        assert word in text
    assert ("| --- |" in text) is not terminal


def test_the_file_is_rewritten_by_the_command(recorded: Path, tmp_path: Path) -> None:
    """The marked part has the tables and the command that made them; writing twice changes nothing."""
    page = tmp_path / "comparison.md"
    page.write_text(f"# Before\n\n{BEGIN}\n{END}\n\n## After\n")
    power.score(recorded, into=page)
    once = page.read_text()
    power.score(recorded, into=page)

    assert page.read_text() == once
    assert once.startswith("# Before\n")
    assert once.endswith(f"{END}\n\n## After\n")
    assert f"`python -m tests.benchmarks.power score {recorded} --into {page}`" in once
    assert "### float32, all settings" in once


def test_a_folder_without_recordings_is_a_mistake(tmp_path: Path) -> None:
    """No table is made of nothing."""
    with pytest.raises(HistoryError, match="no recordings here"):
        power.score_all(tmp_path)


@pytest.mark.parametrize("text", ["", f"{END} {BEGIN}", f"{BEGIN} {END} {END}"])
def test_a_file_without_the_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    """Nothing is guessed about where the tables belong."""
    page = tmp_path / "comparison.md"
    page.write_text(text)
    with pytest.raises(UsageError, match="once each"):
        power.write_tables(page, [], command="command")
    assert page.read_text() == text


@given(before=prose, content=prose, after=prose, old=prose)
def test_replacing_touches_nothing_outside_the_markers(
    before: str, content: str, after: str, old: str
) -> None:
    """What stood between them is gone, what stands around them stays, and doing it again changes nothing."""
    once = with_part(f"{before}{BEGIN}{old}{END}{after}", power.PART, content)

    assert once.startswith(before + BEGIN)
    assert once.endswith(END + after)
    assert once[len(before + BEGIN) : -len(END + after)].strip() == content.strip()
    assert with_part(once, power.PART, content) == once
