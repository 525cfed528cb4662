"""A slice of the kills; the long way is ``make torture``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.torture.kills import CLOSED, WAYS, disturbed
from tests.torture.project import Project

pytestmark = pytest.mark.cell


def test_a_killed_run_is_finished_by_the_next_start(tmp_path: Path) -> None:
    """Before anything began, and in the middle: the same verdicts, and no server is left."""
    project, cut = Project(tmp_path), Counter[str]()
    for moment in (0.3, 3.0):
        assert list(disturbed(project, WAYS[0], moment, cut)) == []
    assert cut.total() == 2


def test_a_run_whose_terminal_closes_ends_in_order(tmp_path: Path) -> None:
    """As somebody's laptop does: what was begun is finished by the next start."""
    assert list(disturbed(Project(tmp_path), CLOSED, 3.0, Counter())) == []
