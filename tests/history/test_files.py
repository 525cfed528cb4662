"""Files that are replaced whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StorageError
from harness.history.files import replace_file, replace_json


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """The new text stands there, readable by others, and no draft does."""
    path = tmp_path / "a.json"
    path.write_text("old", encoding="utf-8")
    assert replace_file(path, "new") == path
    assert path.read_text(encoding="utf-8") == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(tmp_path: Path) -> None:
    """A folder stands in its place: an error with the caller's remedy, and no draft is left behind."""
    path = tmp_path / "a.json"
    path.mkdir()
    with pytest.raises(StorageError, match=r"a\.json: cannot be written") as refused:
        replace_file(path, "new", remedy="make room")
    assert refused.value.remedy == "make room"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Whoever writes makes the folder; this only replaces a file in it."""
    with pytest.raises(StorageError, match="nowhere"):
        replace_json(tmp_path / "nowhere" / "a.json", {})


def test_json_is_written_for_people_too(tmp_path: Path) -> None:
    """Indented, with letters as they are and a line end."""
    text = replace_json(tmp_path / "a.json", {"why": "größer"}).read_text(encoding="utf-8")
    assert text == '{\n  "why": "größer"\n}\n'
