"""One harness at most is at work in a run directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.runs.locking import alone_in, is_held


def test_whoever_holds_a_directory_is_seen_and_keeps_others_out(tmp_path: Path) -> None:
    """Until it lets go."""
    assert not is_held(tmp_path)
    with alone_in(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(UsageError, match="another sleepwake is working"), alone_in(tmp_path):
            pass
    assert not is_held(tmp_path)


def test_an_error_of_the_holder_is_its_own(tmp_path: Path) -> None:
    """Also one of the kind that says that a directory is held."""
    with pytest.raises(BlockingIOError), alone_in(tmp_path):
        raise BlockingIOError
    assert not is_held(tmp_path)
