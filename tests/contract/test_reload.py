"""Loading weights into the running engine, from a path and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from tests.contract.conftest import CALL_DEADLINE_S, Subject
from tests.contract.test_generation import assert_same

pytestmark = pytest.mark.anyio


async def reload(subject: Subject, path: Path | None) -> CallResult:
    """Load weights, from the last path where none is given."""
    return await lifecycle.reload_weights(
        subject.connection.http, path=None if path is None else str(path), deadline_s=CALL_DEADLINE_S
    )


@pytest.fixture
async def own_again(subject: Subject) -> AsyncIterator[Subject]:
    """The subject, which gets its own weights back afterwards."""
    yield subject
    assert (await reload(subject, subject.running.own_weights)).ok


async def test_other_weights_answer_otherwise(own_again: Subject) -> None:
    """A variant answers otherwise, and the model's own weights answer as before."""
    subject = own_again
    before = await subject.generate(cache_salt="before")
    assert (await reload(subject, subject.running.other_weights)).ok
    other = await subject.generate(cache_salt="other")
    assert other.token_ids != before.token_ids
    assert (await reload(subject, None)).ok
    assert_same(await subject.generate(cache_salt="last path"), other)
    assert (await reload(subject, subject.running.own_weights)).ok
    assert_same(await subject.generate(cache_salt="own"), before)


async def test_the_cache_outlives_other_weights(own_again: Subject) -> None:
    """VLLM leaves it to the caller to reset the prefix cache after an update."""
    subject = own_again
    await subject.generate()
    assert (await reload(subject, subject.running.other_weights)).ok
    assert (await subject.generate()).cached_tokens


async def test_a_path_without_weights_is_refused(own_again: Subject, tmp_path: Path) -> None:
    """The engine says that it failed, and remembers the path: without one it fails again."""
    subject = own_again
    assert (await reload(subject, tmp_path / "nothing")).status == 500
    assert (await reload(subject, None)).status == 500
