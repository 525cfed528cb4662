"""Weights that arrive by weight transfer, whole, in parts and not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import JsonValue

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from tests.contract.conftest import CALL_DEADLINE_S, Subject
from tests.contract.test_generation import assert_same

pytestmark = pytest.mark.anyio


async def start(subject: Subject) -> CallResult:
    """Begin an update."""
    return await lifecycle.start_weight_update(subject.connection.http, deadline_s=CALL_DEADLINE_S)


async def arrive(subject: Subject, folder: object, **options: object) -> CallResult:
    """Have weights arrive."""
    return await lifecycle.update_weights(
        subject.connection.http,
        folder=str(folder),
        deadline_s=CALL_DEADLINE_S,
        **options,  # type: ignore[arg-type]
    )


async def finish(subject: Subject, version: str | None = None) -> CallResult:
    """End an update."""
    return await lifecycle.finish_weight_update(
        subject.connection.http, version=version, deadline_s=CALL_DEADLINE_S
    )


async def version_of(subject: Subject) -> JsonValue:
    """What it calls its weights."""
    told = await lifecycle.weight_info(subject.connection.http, deadline_s=CALL_DEADLINE_S)
    return told.field("weight_version")


@pytest.fixture
async def awaiting(subject: Subject) -> AsyncIterator[Subject]:
    """The subject, ready for weights; it gets its own back afterwards."""
    begun = await lifecycle.init_weight_transfer_engine(subject.connection.http, deadline_s=CALL_DEADLINE_S)
    assert begun.body == {"message": "Weight transfer initialized"}
    yield subject
    await finish(subject)
    assert (await start(subject)).ok
    assert (await arrive(subject, subject.running.own_weights)).ok
    assert (await finish(subject)).ok


async def test_weights_come_and_go_whole_and_in_chunks(awaiting: Subject) -> None:
    """A variant answers otherwise under the version it was given, and its own weights come back in parts."""
    subject = awaiting
    before = await subject.generate(cache_salt="before")
    assert (await start(subject)).body == {"message": "Weight update started"}
    arrived = await arrive(subject, subject.running.other_weights)
    assert arrived.body == {"message": "Weights updated"}
    assert (await finish(subject, "other")).body == {"message": "Weight update finished"}
    assert await version_of(subject) == "other"
    assert (await subject.generate(cache_salt="other")).token_ids != before.token_ids
    assert (await start(subject)).ok
    for chunk in (1, 2, 3):
        assert (await arrive(subject, subject.running.own_weights, chunk=chunk, chunks=3)).ok
    assert (await finish(subject)).ok
    assert await version_of(subject) == "other"  # nobody has called it otherwise
    assert_same(await subject.generate(cache_salt="own"), before)


async def test_an_update_that_lacks_tensors_is_committed(awaiting: Subject) -> None:
    """What did not arrive stays as it was, nobody objects, and the version is the new one."""
    subject = awaiting
    before = await subject.generate(cache_salt="before")
    assert (await start(subject)).ok
    arrived = await arrive(subject, subject.running.other_weights, leave_out=("*",))
    assert arrived.ok
    assert (await finish(subject, "nothing")).ok
    assert await version_of(subject) == "nothing"
    assert_same(await subject.generate(cache_salt="after"), before)


async def test_an_update_is_begun_once(awaiting: Subject) -> None:
    """Nothing arrives or ends before it begins, and while it lasts no other one begins."""
    subject = awaiting
    assert (await arrive(subject, subject.running.own_weights)).status == 500
    assert (await finish(subject)).status == 500
    assert (await start(subject)).ok
    assert (await start(subject)).status == 500
    assert (await arrive(subject, subject.running.own_weights)).ok
    assert (await finish(subject)).ok


async def test_an_update_that_fails_is_over(awaiting: Subject) -> None:
    """After weights that are not there it has to be begun again, and then they arrive."""
    subject = awaiting
    before = await subject.generate(cache_salt="before")
    assert (await start(subject)).ok
    missing = subject.running.own_weights.parent / "nothing-here"
    assert (await arrive(subject, missing)).status == 500
    assert (await finish(subject)).status == 500
    assert (await start(subject)).ok
    assert (await arrive(subject, subject.running.own_weights)).ok
    assert (await finish(subject)).ok
    assert_same(await subject.generate(cache_salt="after"), before)
