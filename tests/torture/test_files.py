"""A slice of the damaged files; the long way is ``make torture``."""

from __future__ import annotations

import random
from pathlib import Path

from tests.torture.files import Tally, Workplace, small_texts


def test_a_damaged_file_is_accepted_or_refused_with_its_place(tmp_path: Path) -> None:
    """Whatever becomes of a scenario, a corpus or a picture's name: never a traceback, never a hang."""
    chance, tally = random.Random(4), Tally()  # noqa: S311 - no secret
    workplace = Workplace(tmp_path, **small_texts())
    for _ in range(60):
        workplace.try_one(chance, tally)
    assert tally.bad == []
    assert 0 < tally.accepted < tally.tried
